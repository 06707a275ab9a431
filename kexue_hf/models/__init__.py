"""The models, one folder each; the folder's name is the `model_type`."""
