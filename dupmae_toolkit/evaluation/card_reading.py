"""Cards that are read: which card a file has, what it says, whether its files are still there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.cards import FOLDER_CARD, FORM, card_path
from dupmae_toolkit.files import atomic_file, json_object, read_json, sha256_file

#: The longest name that file systems take, in bytes.
_LONGEST = 255
#: No run of ours lies deeper than a folder or two below its card.
_LONGEST_PATH = 1000


@dataclass(frozen=True, slots=True)
class Card:
    """A card that was read and checked: its values have these types.

    command: without ``dupmae``. inputs: path and SHA-256 by option; None: not hashed. outputs:
    SHA-256 by the name of a file in ``path``'s folder. told: the whole card.
    """

    path: Path
    command: list[str]
    inputs: dict[str, tuple[str, str | None]]
    outputs: dict[str, str]
    figures: dict[str, dict[str, float]]
    told: dict[str, Any]

    def found(self) -> dict[str, str]:
        """The SHA-256 of each output that is a file beside the card now."""
        places = {name: self.path.parent / name for name in self.outputs}
        return {name: sha256_file(place) for name, place in places.items() if place.is_file()}

    def strangers(self) -> list[str]:
        """The outputs whose files are there, but are not those that the card was written for."""
        return [name for name, sha256 in self.found().items() if sha256 != self.outputs[name]]


def find_card(path: Path) -> Path:
    """The file of a card: ``path``, or the card of that run or folder. InputError without one.

    A run may also be named by the card of its folder, or, in a group of data sets, of the folder
    above.
    """
    if path.is_dir():
        path /= FOLDER_CARD
    elif card_path(path).is_file():
        return card_path(path)
    elif not _is_card_name(path):
        for folder in (path.parent, path.parent.absolute().parent):
            if _names(folder / FOLDER_CARD, path):
                return folder / FOLDER_CARD
        if path.is_file() and not is_card(path):
            raise InputError.at(path, None, f"no card beside it, as in {card_path(path).name}")
    if not path.is_file():
        raise InputError.at(
            path, None, "no such card; the card of a run is beside it, as in run.trec.card.json"
        )
    return path


def _is_card_name(path: Path) -> bool:
    return path.name == FOLDER_CARD or path.name.endswith(f".{FOLDER_CARD}")


def is_card(path: Path) -> bool:
    """Whether a file is a card, of whatever version."""
    return "card" in json_object(path)


def has_own_card(run: Path) -> bool:
    """Whether the card beside a run is there, and was written for the run as it is."""
    try:
        card = read_card(card_path(run)) if card_path(run).is_file() else None
    except InputError:
        return False
    return card is not None and card.outputs.get(run.name) == sha256_file(run)


def _names(card: Path, run: Path) -> bool:
    """Whether a card is there and has a run among its outputs."""
    try:
        outputs = read_card(card).outputs if card.is_file() else {}
    except InputError:
        return False
    wanted = run.absolute()
    return any((card.absolute().parent / name) == wanted for name in outputs)


def remove_card(run: Path) -> None:
    """Remove the card of an earlier run of this name, where another was written."""
    if card_path(run).is_file() and is_card(card_path(run)):
        card_path(run).unlink()


@contextlib.contextmanager
def without_card(folder: Path) -> Iterator[None]:
    """Take a folder's card away while its runs are written.

    If that fails before any of them has changed, the card is put back.
    """
    path = folder / FOLDER_CARD
    before = path.read_bytes() if path.is_file() and is_card(path) else None
    if before is not None:
        path.unlink()
    try:
        yield
    except BaseException:
        if before is not None:
            with atomic_file(path) as temporary:
                temporary.write_bytes(before)
            if not _holds(path):
                path.unlink()
        raise


def _holds(path: Path) -> bool:
    try:
        return not read_card(path).strangers()
    except InputError:
        return False


def read_card(path: Path) -> Card:
    """Read a card. Raises InputError if there is none, or if it has another format."""
    path = find_card(path)
    told = read_json(path)
    if not isinstance(told, dict) or told.get("card") != FORM:
        raise InputError.at(path, None, f"not a card of this toolkit (card: {FORM})")
    command = told.get("command")
    if (
        not isinstance(command, list)
        or len(command) < 2
        or command[0] != "dupmae"
        or not all(isinstance(word, str) and _is_word(word) for word in command)
    ):
        raise InputError.at(path, None, "its command is no command of dupmae")
    try:
        return Card(path, command[1:], _inputs(told), _outputs(told), _figures(told), told)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError.at(path, None, f"a damaged card ({type(error).__name__})") from error


def _is_word(text: str) -> bool:
    """Whether a process can be given this text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _inputs(told: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    found: dict[str, tuple[str, str | None]] = {}
    for entry in told["inputs"]:
        option, path, sha256 = entry["option"], entry["path"], entry["sha256"]
        if not (isinstance(option, str) and isinstance(path, str)):
            raise TypeError
        if not (sha256 is None or isinstance(sha256, str)):
            raise TypeError
        found[option] = path, sha256
    return found


def _outputs(told: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in told["outputs"]:
        name, sha256 = entry["path"], entry["sha256"]
        steps = name.split("/")
        if not isinstance(sha256, str) or not set(steps).isdisjoint(("", ".", "..")):
            raise ValueError  # an output lies beside its card or below it
        if "\\" in name or ":" in name or "\0" in name:
            raise ValueError
        if len(name) > _LONGEST_PATH or any(len(step.encode()) > _LONGEST for step in steps):
            raise ValueError
        found[name] = sha256
    if not found:
        raise ValueError
    return found


def _figures(told: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {
        str(label): {str(name): _number(value) for name, value in values.items()}
        for label, values in told["figures"].items()
    }


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)
