"""Logistic regression between two passes over the data: NumPy on the host, in float64, for arrays of any library."""
