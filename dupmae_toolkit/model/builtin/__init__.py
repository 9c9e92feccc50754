"""The encoder that ships with the package."""
