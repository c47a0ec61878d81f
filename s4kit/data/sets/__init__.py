"""Public data sets, one a file: where its images and labels lie, its classes, how it is got."""
