"""Losses for `Trainer(compute_loss_func=...)`."""
