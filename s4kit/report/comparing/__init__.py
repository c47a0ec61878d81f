"""Several methods and seeds under one protocol: which, where each is trained, its figures, the page."""
