"""BERT-like encoders computed without transformers: the same numbers, sooner."""
