"""What trained models are for: pipelines of transformers, and the functions they are made of.

These files travel to the Hub with a saved pipeline: they import their siblings, torch, numpy and transformers only.
"""
