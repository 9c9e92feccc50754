"""A page of HTML about a folder of runs: tables, plots, significance, examples of topics."""
