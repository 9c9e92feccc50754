"""The errors that a user may see.

Every message is one line. It names the file (and the line in it, if there is one), says what is
wrong, and says what to do. The command line prints only this line.
"""

from __future__ import annotations

from typing import Self

#: Characters. Longer messages are cut in the middle, since a message may quote text of any length.
LONGEST_MESSAGE = 1000


class DupMAEError(Exception):
    """Something failed. The command line exits with ``exit_code``: 1 for a failure.

    The message is one line of about ``LONGEST_MESSAGE`` characters at most, without control
    characters, whatever it quotes.
    """

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        super().__init__(_line(str(message)))


class InputError(DupMAEError, ValueError):
    """Bad usage or bad input. Exit code 2.

    path, line: the file at fault, or its equivalent (``irds:beir/scifact``), and the line in it;
    None if unknown. fault: what is wrong. remedy: what to do about it. Only ``at`` fills these
    separately; without it, ``fault`` is the whole message.
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
        """An error at a place: ``path:line: fault; remedy``, omitting what is not given."""
        place = f"{path}:{line}" if line is not None else str(path)
        error = cls(f"{place}: {fault}" + (f"; {remedy}" if remedy else ""))
        error.path, error.line = str(path), line
        error.fault, error.remedy = _line(fault), remedy
        return error


class BusyError(InputError):
    """Another process holds the lock on the folder to be written."""


class EncoderMismatchError(InputError):
    """An index or encoded corpus was made with a different encoder than the one in use."""


def counted(number: int, name: str) -> str:
    """A number of things in words: "1 document", "2,000 documents", "3 queries"."""
    if number != 1:
        name = f"{name[:-1]}ies" if name[-1] == "y" else f"{name}s"
    return f"{number:,} {name}"


def type_of(value: object) -> str:
    """The type of a value in words: "an int", "a list"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


class InputWarning(UserWarning):
    """Something in the input was left out, or may not be meant; the message is one line."""


def printable(text: str) -> str:
    """The text with escapes such as ``\\x1b`` in place of what is not printable.

    That could manipulate the terminal, or break the line.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _line(text: str) -> str:
    if len(text) > LONGEST_MESSAGE:
        head, tail = LONGEST_MESSAGE * 2 // 3, LONGEST_MESSAGE // 4
        text = f"{text[:head]} … {text[-tail:]}"
    return printable(text)
