"""A line of a paper's table again, and what papers report."""
