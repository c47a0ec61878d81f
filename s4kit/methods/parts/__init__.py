"""What several methods are made of, one idea a file."""
