"""Ours beside a peer on the same work in one go: `make bench`, `python -m benchmarks --help`."""
