"""The errors that a user may meet.

Every message is one line that names the file (and the line in it, where there is one), says what is
wrong, and says what to do. The command line prints it and nothing else.
"""

from __future__ import annotations


class DupMAEError(Exception):
    """Something could not be done. The command line exits with ``exit_code``, 1: failed."""

    exit_code = 1


class InputError(DupMAEError, ValueError):
    """What the user gave is refused: bad usage or bad input. Exit code 2."""

    exit_code = 2

    @classmethod
    def at(cls, path: object, line: int | None, message: str) -> InputError:
        """An error at a place in a file, or in what stands for one: ``path:line: message``."""
        place = f"{path}:{line}" if line is not None else str(path)
        return cls(f"{place}: {message}")


class BusyError(InputError):
    """Another process holds the folder that is to be written."""


class EncoderMismatchError(InputError):
    """An index or encoded corpus is opened with another encoder than the one that made it."""
