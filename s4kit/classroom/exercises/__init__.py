"""One file per assignment: its exercises as a list, `EXERCISES`."""
