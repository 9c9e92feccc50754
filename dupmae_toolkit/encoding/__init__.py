"""Encode texts to representations, streamed to Parquet files."""
