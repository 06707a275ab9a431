"""T-TA: a language autoencoder that predicts every token in one pass."""
