"""What training needs beyond transformers' Trainer: collators and callbacks, one file each."""
