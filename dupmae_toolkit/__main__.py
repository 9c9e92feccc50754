"""``python -m dupmae_toolkit``: the command line, as `dupmae` runs it."""

from __future__ import annotations

if __name__ == "__main__":
    # Only this module imports the command line; the rest of the library does not know it.
    from dupmae_cli.main import main

    main(program="python -m dupmae_toolkit")
