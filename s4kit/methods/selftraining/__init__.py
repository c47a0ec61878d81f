"""Self-training: label, train again on the labels, repeat."""
