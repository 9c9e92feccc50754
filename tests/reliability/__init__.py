"""Kills, damaged files, full disks and soaks: ``python -m tests.reliability --help``."""
