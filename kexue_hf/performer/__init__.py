"""Performer: linear attention for any transformers model."""
