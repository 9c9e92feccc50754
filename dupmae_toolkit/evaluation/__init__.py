"""Measures, and whole experiments on BEIR data sets."""
