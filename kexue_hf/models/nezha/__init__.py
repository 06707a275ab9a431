"""NEZHA: a BERT with functional relative positions (https://huggingface.co/papers/1909.00204); also WoNEZHA."""
