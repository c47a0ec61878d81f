"""A run's health, from its own files."""
