"""``python -m dupmae_toolkit``: the command line, as `dupmae` runs it."""

from __future__ import annotations

if __name__ == "__main__":
    # Imported here alone: the library knows nothing of the command line.
    from dupmae_cli.main import main

    main(program="python -m dupmae_toolkit")
