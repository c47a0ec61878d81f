"""Data of yours: a folder, its table of classes, and what labelling tools export."""
