"""Performer: attention in linear time, for BERT and for any encoder."""
