"""k-means: the building blocks of a pass, and the fit."""
