"""The host side of logistic regression, between passes over the data: float64 NumPy, for arrays of any library."""
