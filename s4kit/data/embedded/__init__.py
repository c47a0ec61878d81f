"""The data sets that need no download: the kit paints them, pure functions of a seed and a number."""
