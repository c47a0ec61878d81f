"""What a person would want to see of a data set before training on it."""
