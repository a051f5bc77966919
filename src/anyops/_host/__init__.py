"""NumPy twins of kernels, for arrays in host memory: sequential, in place, in few calls."""
