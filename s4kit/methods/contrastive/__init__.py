"""Methods that compare pixels with pixels in a space of features."""
