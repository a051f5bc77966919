"""k-means between two passes over the samples: NumPy on the host, in float64, for arrays of any library."""
