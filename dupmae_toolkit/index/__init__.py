"""Segments: FAISS, Lucene impacts, forward store, documents; the manifest that lists them.

``layout.py`` names every file and folder on disk; ``health/`` says what happens to a damaged index.
"""
