"""Views and their draws against recordings."""
