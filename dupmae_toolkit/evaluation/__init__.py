"""Measures equal to trec_eval's, Lucene's BM25 to compare with, and BEIR from end to end."""
