"""The controls that every method is compared with."""
