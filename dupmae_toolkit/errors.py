"""The errors that a user may meet.

Every message is one line that names the file (and the line in it, where there is one), says what is
wrong, and says what to do. The command line prints it and nothing else.
"""

from __future__ import annotations

#: Messages quote what they complain of, and that may be a text of any length.
LONGEST_MESSAGE = 1000


class DupMAEError(Exception):
    """Something could not be done. The command line exits with ``exit_code``, 1: failed.

    Whatever is quoted in the message, it stays one line of at most ``LONGEST_MESSAGE`` characters,
    without any that would steer a terminal.
    """

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        super().__init__(_line(str(message)))


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


def _line(text: str) -> str:
    if len(text) > LONGEST_MESSAGE:
        head, tail = LONGEST_MESSAGE * 2 // 3, LONGEST_MESSAGE // 4
        text = f"{text[:head]} … {text[-tail:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
