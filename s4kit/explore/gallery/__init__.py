"""The gallery: all methods in one table that can be searched, each with its idea as a picture, and their family tree.

ideas = s4.gallery.ideas(lesson, runs)      # a picture of each method from a real step of it
s4.gallery.page(ideas)                      # the table; .save_html(path) writes it as a page of its own
s4.gallery.tree()                           # who extends whom
s4.gallery.measured("price")                # what a step costs; "family_cotraining": what the methods reach
"""

from .family_tree import Tree, tree
from .listing import Gallery, page
from .pictures import borrow, ideas, networks, steps
from .tables import measured

__all__ = ["Gallery", "Tree", "borrow", "ideas", "measured", "networks", "page", "steps", "tree"]
