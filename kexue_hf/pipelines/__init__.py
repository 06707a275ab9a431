"""Pipelines of transformers for trained models, and the functions that they call.

These files travel to the Hub with a saved pipeline. They import only their siblings, torch, numpy and transformers.
"""
