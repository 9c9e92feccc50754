"""Fusing ranked lists: norms, methods with their sources, and what a missing score counts as."""
