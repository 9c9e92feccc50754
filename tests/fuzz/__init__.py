"""Every reader of files, given valid files that were damaged at random: `python -m tests.fuzz`."""
