"""Measures with trec_eval's values, Lucene's BM25 as a baseline, and BEIR end to end."""
