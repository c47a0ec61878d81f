"""The walk: what the notebooks are written with, and `s4kit walk`, which runs them all. Uses everything to its left."""
