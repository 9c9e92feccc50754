"""Segments (FAISS, Lucene impacts, forward store, documents) and the manifest that lists them.

``layout.py`` names every file and folder on disk; ``health/`` finds damage and repairs it.
"""
