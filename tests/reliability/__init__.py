"""Kills, damage, full disks and soaks, counted: ``python -m tests.reliability --help``."""
