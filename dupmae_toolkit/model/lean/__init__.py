"""BERT encoders computed without transformers: the same numbers, faster."""
