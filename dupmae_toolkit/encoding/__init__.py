"""Texts to representations, streamed to Parquet parts."""
