"""Training tools beyond transformers' Trainer: collators, callbacks, checkpoints, the frame of training scripts."""
