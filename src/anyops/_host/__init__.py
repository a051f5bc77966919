"""NumPy versions of kernels for arrays in host memory: sequential, in place, with few calls."""
