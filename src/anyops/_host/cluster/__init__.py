"""k-means on the host, in NumPy: float64 centre updates for any library, and passes over arrays in host memory."""
