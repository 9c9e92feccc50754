"""Damage to an index: found, told, repaired."""
