"""What commands that take a question check before they open an index."""

from __future__ import annotations

from dupmae_cli.options import Mode


def one_question() -> str:
    """The one question on standard input."""
    import sys

    from dupmae_toolkit.errors import InputError

    lines = [line for line in sys.stdin.read().split("\n") if line.strip()]
    if len(lines) > 1:
        raise InputError(
            f"{len(lines):,} lines on standard input; for several queries, `dupmae search` takes "
            "--queries -"
        )
    return lines[0] if lines else ""


def check_fuses(mode: str, fuses: bool) -> None:
    """Refuse options of fusion in a mode that searches only one index."""
    from dupmae_toolkit.errors import InputError

    if fuses and mode != Mode.HYBRID:
        raise InputError(
            f"mode {mode} fuses nothing; leave out --fusion, --norm, --weights, --depth"
        )
