"""What gives a text a score to learn from: cross-encoders, encoders, runs, BM25."""
