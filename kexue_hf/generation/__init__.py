"""Logits processors for `generate`, and reranking of n-best lists."""
