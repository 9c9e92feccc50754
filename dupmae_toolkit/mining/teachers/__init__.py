"""Teachers: cross-encoders, encoders, runs and BM25, whose scores a student learns from."""
