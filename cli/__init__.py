"""The command line `dupmae`: one file per command or group of related commands."""
