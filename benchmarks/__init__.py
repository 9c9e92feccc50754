"""Compares ours with peers on the same work: `make bench`, `python -m benchmarks --help`."""
