"""Public data sets, read from the files with which they were published."""
