"""Boxes: formats, areas, overlaps."""
