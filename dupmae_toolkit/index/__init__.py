"""Segments: FAISS, Lucene impacts, forward store, documents; the manifest."""
