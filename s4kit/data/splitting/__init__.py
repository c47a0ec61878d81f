"""Which images are labelled: drawn, from lists, by the names of published splits."""
