"""Studies: grids of encoders, indexes, scores and collections, measured and compared."""
