"""YAML as recipes use it: small, each key once, and nothing that grows when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError

#: Recipes have hundreds of bytes and tens of values.
MAX_BYTES = 1 << 20
MAX_VALUES = 100_000


def load_yaml(text: str, source: str, *, lines: bool = False) -> Any:
    """The value of a YAML text; ``source`` is what messages call it, with lines if it has some.

    Tags that would make Python objects are unknown, a key may stand once in a mapping, and what
    anchors and aliases repeat may not have more than ``MAX_VALUES`` values in all. Raises
    InputError.
    """
    import yaml

    if len(text) > MAX_BYTES:
        raise InputError(f"{source}: {len(text):,} characters are no recipe")
    try:
        loader = _loader_class()(text)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
        _check_size(value)
    except yaml.YAMLError as error:
        line = _line(error) if lines else None
        raise InputError.at(source, line, f"not YAML ({_reason(error)})") from error
    except (ValueError, TypeError, RecursionError, AttributeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{source}: {error}") from error
        raise InputError(f"{source}: not YAML ({_reason(error)})") from error
    return value


def read_yaml(path: Path) -> Any:
    """``load_yaml`` of a file."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a recipe") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not YAML (not UTF-8: {error.reason})") from error
    return load_yaml(text, str(path), lines=True)


def _loader_class() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """SafeLoader, which refuses a key that stands twice instead of keeping the last value."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                if not isinstance(key, yaml.ScalarNode):
                    continue
                fault = "stands twice" if key.value in seen else ""
                if key.tag.endswith(":merge"):  # merges of merges grow while they are read
                    fault = "merges mappings, which is not read: write the keys out"
                if fault:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value[:80]!r} {fault}", key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader


def _check_size(value: Any) -> None:
    """Count values as often as they are repeated: a few lines of aliases can stand for billions."""
    left, found = [value], 0
    while left:
        one = left.pop()
        found += 1
        if found > MAX_VALUES:
            raise InputError(f"more than {MAX_VALUES:,} values, by aliases perhaps: no recipe")
        if isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)


def _line(error: BaseException) -> int | None:
    mark = getattr(error, "problem_mark", None)
    return None if mark is None else mark.line + 1


def _reason(error: BaseException) -> str:
    text = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return " ".join(str(text).split())[:200]
