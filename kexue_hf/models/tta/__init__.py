"""T-TA: every token predicted in one pass."""
