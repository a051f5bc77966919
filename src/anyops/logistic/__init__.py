"""Logistic regression: binary and multinomial, by Newton's method, L-BFGS and proximal Newton."""
