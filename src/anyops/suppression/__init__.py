"""Non-maximum suppression: one module per variant, over one notion of overlap."""
