"""What the files of a data set turn out to be: looked at when a task is made, or each of them on demand."""
