"""Play xiangqi against a model."""
