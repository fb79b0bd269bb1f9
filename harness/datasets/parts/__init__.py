"""What data sets are made of. Nothing in this folder is listed as a data set."""
