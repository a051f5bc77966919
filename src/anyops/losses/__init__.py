"""Losses of detection and classification, and their gradients."""
