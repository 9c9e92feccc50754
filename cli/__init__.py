"""The command line `dupmae`: a file for each group of commands."""
