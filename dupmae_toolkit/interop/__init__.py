"""Other tools: Pyserini."""
