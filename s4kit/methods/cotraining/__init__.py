"""Methods in which two networks teach each other."""
