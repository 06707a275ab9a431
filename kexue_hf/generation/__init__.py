"""Choosing what a model writes: rules for `generate`, and the order of candidates."""
