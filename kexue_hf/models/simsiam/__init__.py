"""SimSiam, BYOL and SimCSE for text."""
