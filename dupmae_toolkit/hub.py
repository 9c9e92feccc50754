"""Messages for what cannot be fetched from the Hugging Face hub."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

#: Names of exceptions that mean that the hub cannot be reached; its libraries wrap each other's.
_OFFLINE = {
    "ConnectError",
    "ConnectionError",
    "ConnectTimeout",
    "LocalEntryNotFoundError",
    "OfflineModeIsEnabled",
    "ProxyError",
}


def why_not(error: BaseException) -> str:
    """The reason of a failure, in a few words on one line."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        if type(cause).__name__ in _OFFLINE:
            return "the hub cannot be reached"
        cause = cause.__cause__ or cause.__context__
    if any(name in str(error) for name in _OFFLINE):
        return "the hub cannot be reached"
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Hide the lines that the hub's library logs at each attempt."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
