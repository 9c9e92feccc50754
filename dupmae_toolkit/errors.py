"""The errors that a user may meet.

Every message is one line that names the file (and the line in it, where there is one), says what is
wrong, and says what to do. The command line prints it and nothing else.
"""

from __future__ import annotations

from typing import Self

#: A message may quote a text of any length; longer ones are cut in the middle.
LONGEST_MESSAGE = 1000


class DupMAEError(Exception):
    """Something could not be done. The command line exits with ``exit_code``; 1 means failed.

    The message is one line of about ``LONGEST_MESSAGE`` characters at most, without control
    characters, whatever it quotes.
    """

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        super().__init__(_line(str(message)))


class InputError(DupMAEError, ValueError):
    """What the user gave is refused: bad usage or bad input. Exit code 2.

    path, line: the file at fault, or what stands for one (``irds:beir/scifact``), and the line in
    it; None where there is none. fault: what is wrong, without the place and the remedy. remedy:
    what to do about it, where that was given apart. Only ``at`` sets them apart from each other.
    """

    exit_code = 2
    path: str | None = None
    line: int | None = None
    remedy: str = ""

    def __init__(self, message: object = "") -> None:
        super().__init__(message)
        self.fault = str(self)

    @classmethod
    def at(cls, path: object, line: int | None, fault: str, remedy: str = "") -> Self:
        """An error at a place: ``path:line: fault; remedy``, with what is not given left out."""
        place = f"{path}:{line}" if line is not None else str(path)
        error = cls(f"{place}: {fault}" + (f"; {remedy}" if remedy else ""))
        error.path, error.line = str(path), line
        error.fault, error.remedy = _line(fault), remedy
        return error


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
