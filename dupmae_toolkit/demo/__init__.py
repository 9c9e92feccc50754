"""The demonstration: the running Python's documentation, and questions about it."""
