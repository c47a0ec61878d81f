"""Five methods as a student would write them: a plain PyTorch loop from the papers' equations, without the kit's own.

`views.py` makes one sample at a time with Pillow, `methods.py` has the losses, one function each, and `loop.py` trains
and scores. They share the images, the network and the settings with the kit and nothing else: what both sides get
wrong together they would have to get wrong twice. `s4kit bench parity` sets the trainings side by side.
"""
