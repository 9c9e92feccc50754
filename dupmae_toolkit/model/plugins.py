"""Encoders of other packages, by the entry points of the group ``dupmae.encoders``.

A name such as ``acme:large`` calls what an installed package registered as ``acme`` with ``large``.
Nothing is imported because a manifest or a folder names it: only what was installed can be called,
by the name under which it was registered.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dupmae_toolkit.errors import InputError, type_of

GROUP = "dupmae.encoders"
_WANTED = ("info", "vocabulary", "encode_documents", "encode_queries")


def plugin(name: str) -> tuple[EntryPoint, str] | None:
    """The entry point that a name begins with, and the rest of the name; None if there is none."""
    first, sign, rest = name.partition(":")
    if not sign:
        return None
    found = entry_points(group=GROUP, name=first)
    return (next(iter(found)), rest) if found else None


def load_plugin(point: EntryPoint, rest: str, settings: dict[str, Any]) -> Any:
    """The encoder that a package makes; InputError if it cannot, or makes something else.

    settings: ``device``, ``precision`` and changed fields, without those that are None.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    try:
        encoder = point.load()(rest, **given)
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{point.name}:{rest}: {point.value} made no encoder ({type(error).__name__}: {text})"
        ) from error
    lacking = [name for name in _WANTED if not hasattr(encoder, name)]
    if lacking:
        raise InputError(
            f"{point.name}:{rest}: {point.value} made {type_of(encoder)} without "
            f"{', '.join(lacking)}; an encoder has {', '.join(_WANTED)}"
        )
    return encoder
