"""Read an encoded corpus: a manifest and Parquet parts, written by this toolkit or another engine.

What another engine must write: ``manifest.json`` with ``format_version`` 1 and ``encoder`` (the
fields of EncoderInfo), and parts with the columns ``id``, ``title``, ``text`` (strings, no nulls),
``dense`` (lists of d floats, empty where ``dense_dim`` is 0), ``terms`` (lists of vocabulary ids,
in any order, without duplicates) and ``weights`` (a float of at least 0 for each term). Integers
and floats may have any width.

It may write a column ``metadata`` in the parts: the documents' other fields, as strings of JSON
objects or as structs, with nulls for none. It may also write: ``kind`` (``documents``, or
``queries``), ``source``, ``truncated``, ``parts`` (a list of {file, count, sha256} in corpus order;
by default, the files ``part-*.parquet`` sorted by name), ``count``, ``complete`` (false while it is
being written), ``precision`` (of the products: ``fp32`` or ``bf16``), and the tokens as
``vocabulary.json``.

``passages`` (``size`` and ``overlap``, in tokens) says that each row is a passage. Its id is then
the document's, ``#``, and the passage's number from 0 in five digits or more; its metadata have
``$passage``, with the ``$`` doubled in JSON as in any key: a list of three integers, the passage's
beginning and end in the text and the length of the text, all in code points.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_toolkit.collection.passages import Passages
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import read_json, sha256_lines, wrong_contents
from dupmae_toolkit.records import EncoderInfo, Representations

if TYPE_CHECKING:
    from dupmae_toolkit.encoding.parquet import Part

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
VOCABULARY = "vocabulary.json"
KINDS = ("documents", "queries")

_PLAIN_NAME = re.compile(r"[^/\\\x00]+\.parquet")


class EncodedCorpus:
    """Texts with their dense and lexical vectors, in a folder that is read part by part.

    ``newly_encoded`` is the number of texts encoded by the call that returned this object; the
    others were already encoded.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], newly_encoded: int = 0) -> None:
        self.folder = folder
        self.manifest = manifest
        self.info = encoder_info(folder / MANIFEST, manifest)
        self.newly_encoded = newly_encoded

    @classmethod
    def open(cls, folder: str | Path) -> EncodedCorpus:
        """Open a complete folder. Raises InputError, with the file at fault, for anything else."""
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError.at(
                folder, None, "no such folder; `dupmae encode` makes encoded corpora"
            )
        manifest = read_manifest(folder)
        if not manifest.get("complete", True):
            raise InputError.at(
                folder,
                None,
                "the encoding was not finished; run the same `dupmae encode` again and "
                "it continues where it stopped",
            )
        manifest = _normalised(folder, manifest)
        return cls(folder, manifest)

    @staticmethod
    def is_one(folder: str | Path) -> bool:
        """Whether a path looks like an encoded corpus, even an incomplete or damaged one."""
        path = Path(folder) / MANIFEST
        if not path.is_file():
            return False
        try:
            manifest = read_json(path)
        except InputError:
            return False
        return isinstance(manifest, dict) and "encoder" in manifest and "segments" not in manifest

    @property
    def kind(self) -> str:
        """``documents`` or ``queries``."""
        return self.manifest["kind"]

    @property
    def passages(self) -> Passages | None:
        """How the documents were cut into passages, if each row is one; None if they were not."""
        try:
            return Passages.from_dict(self.manifest.get("passages"))
        except ValueError as error:
            raise InputError.at(self.folder / MANIFEST, None, str(error)) from error

    @property
    def precision(self) -> str:
        """The precision of the products that gave the vectors; ``unknown`` if it is not stated."""
        stated = self.manifest.get("precision")
        return stated if stated in ("bf16", "fp32") else "unknown"

    @property
    def reading(self) -> dict[str, Any]:
        """Which fields were id, title and text; empty if it is not stated."""
        stated = self.manifest.get("reading")
        return stated if isinstance(stated, dict) else {}

    def __len__(self) -> int:
        return self.manifest["count"]

    def files(self) -> list[Path]:
        """The parts' files in order."""
        return [self.folder / entry["file"] for entry in self.manifest["parts"]]

    def parts(self) -> Iterator[Part]:
        """The parts in order. Checks the checksum, the count and every value of each.

        One part is in memory at a time. Raises InputError; the message names the file and the row.
        """
        from dupmae_toolkit.collection.duplicates import IdRegister
        from dupmae_toolkit.encoding.parquet import read_parts

        register = IdRegister()
        for entry in self.manifest["parts"]:
            path = self.folder / entry["file"]
            check_sum(path, entry)
            count = 0
            for part in read_parts(path, self.info.dense_dim, self.info.vocabulary_size):
                for row in register.suspects(part.ids):
                    self._refuse_duplicate(path, count + row, part.ids[row])
                count += len(part)
                yield part
            if count != entry["count"]:
                raise InputError.at(
                    path,
                    None,
                    f"{count} rows where {self.folder / MANIFEST} counts {entry['count']}; "
                    "encode again into a new folder",
                )

    def _refuse_duplicate(self, path: Path, row: int, name: str) -> None:
        from dupmae_toolkit.encoding.parquet import read_ids

        for earlier in self.files():
            ids = read_ids(earlier)
            ids = ids[:row] if earlier == path else ids
            if name in ids:
                raise InputError.at(
                    path,
                    None,
                    f"row {row} (from 0): the id {name!r} is in row {ids.index(name)} "
                    f"of {earlier.name} already; ids must be unique",
                )
            if earlier == path:
                return  # not a duplicate: two ids share a hash

    def representations(self) -> Representations:
        """All representations at once, in memory; meant for queries."""
        import numpy as np
        from scipy.sparse import csr_matrix, vstack

        parts = list(self.parts())
        dense = [part.dense for part in parts] or [np.zeros((0, self.info.dense_dim), np.float32)]
        lexical = [part.lexical for part in parts]
        empty = csr_matrix((0, self.info.vocabulary_size), dtype=np.float32)
        return Representations(
            [name for part in parts for name in part.ids],
            np.concatenate(dense),
            csr_matrix(vstack(lexical)) if lexical else empty,
            self.manifest.get("truncated") or 0,
            texts=[text for part in parts for text in part.texts],
            max_length=self._limit(),
            precision=None if self.precision == "unknown" else self.precision,
        )

    def _limit(self) -> int | None:
        """Where the texts were cut, in tokens; None if nobody counted those that were."""
        if self.manifest.get("truncated") is None:
            return None
        return self.info.query_max_length if self.kind == "queries" else self.info.max_length

    def vocabulary(self) -> list[str] | None:
        """The encoder's tokens in the order of their ids; None if the folder lacks them."""
        path = self.folder / VOCABULARY
        if not path.exists():
            return None
        tokens = read_json(path)
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise InputError.at(path, None, "not a list of tokens; delete it or encode again")
        if sha256_lines(tokens) != self.info.vocabulary_sha256:
            raise InputError.at(
                path,
                None,
                f"not the vocabulary that {self.folder / MANIFEST} names; delete it or "
                "encode again",
            )
        return tokens


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest as written; InputError if it is missing, broken or of a later format."""
    path = folder / MANIFEST
    if not path.exists():
        raise InputError.at(
            folder, None, f"no {MANIFEST} there; `dupmae encode` makes encoded corpora"
        )
    manifest = read_json(path)
    if not isinstance(manifest, dict) or "encoder" not in manifest:
        raise InputError.at(
            path, None, "not the manifest of an encoded corpus: it names no encoder"
        )
    version = manifest.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise InputError.at(
            path, None, f"format_version is {version!r}; it must be {FORMAT_VERSION}"
        )
    if version > FORMAT_VERSION:
        raise InputError.at(
            path,
            None,
            f"written in format {version}, but this version reads up to {FORMAT_VERSION}; "
            "update dupmae-toolkit",
        )
    return manifest


def check_sum(path: Path, entry: dict[str, Any]) -> None:
    """Raise InputError for a part whose checksum is not the manifest's."""
    if not path.is_file():
        raise InputError.at(path, None, "no such file; the encoded corpus is incomplete")
    stated = entry.get("sha256")
    message = "" if stated is None else wrong_contents(path, stated)
    if message:
        raise InputError.at(
            path, None, f"{message}; delete it and run the same `dupmae encode` again"
        )


def encoder_info(path: Path, manifest: dict[str, Any]) -> EncoderInfo:
    """The encoder that a manifest describes; InputError if the description is incomplete."""
    values = manifest["encoder"]
    try:
        info = EncoderInfo.from_dict(values)
    except (TypeError, AttributeError) as error:
        reason = str(error).replace("EncoderInfo.__init__()", "it is")
        raise InputError.at(
            path, None, f"the encoder's description is not valid: {reason}"
        ) from error
    if info.vocabulary_size < 1:
        raise InputError.at(
            path,
            None,
            f"the encoder's vocabulary_size is {info.vocabulary_size}; it must be at least 1",
        )
    if not info.sides:
        raise InputError.at(
            path,
            None,
            "the encoder's dense_dim is 0 and its lexical_head none; it must give one of the two "
            "vectors",
        )
    return info


def _normalised(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Fill in the keys that another engine may omit: kind, source, truncated, parts, counts."""
    path = folder / MANIFEST
    result = {"kind": "documents", "source": "", "truncated": None} | manifest
    result["source"] = str(result["source"]).encode("utf-8", "replace").decode()
    if result["truncated"] is not None and not _is_count(result["truncated"]):
        raise InputError.at(
            path, None, f"truncated is {result['truncated']!r}; it must count texts"
        )
    if result["kind"] not in KINDS:
        raise InputError.at(path, None, f"kind is {result['kind']!r}; it must be one of {KINDS}")
    entries = manifest.get("parts")
    if entries is None:
        entries = [found.name for found in sorted(folder.glob("part-*.parquet"))]
    if not isinstance(entries, list):
        raise InputError.at(path, None, "parts is not a list of {file, count}")
    result["parts"] = [_entry(folder, entry) for entry in entries]
    names = [entry["file"] for entry in result["parts"]]
    if len(set(names)) < len(names):
        raise InputError.at(path, None, "parts names a file twice")
    total = sum(entry["count"] for entry in result["parts"])
    if result.setdefault("count", total) != total:
        raise InputError.at(path, None, f"count is {result['count']}, but its parts hold {total}")
    if not total:
        raise InputError.at(folder, None, "no rows in it; encode again into a new folder")
    return result


def _entry(folder: Path, entry: Any) -> dict[str, Any]:
    from dupmae_toolkit.encoding.parquet import count_rows

    name = entry.get("file") if isinstance(entry, dict) else entry
    # A name such as ../elsewhere would point outside the folder.
    if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
        raise InputError.at(folder / MANIFEST, None, f"{name!r} is not a plain file name of a part")
    values = dict(entry) if isinstance(entry, dict) else {"file": name}
    path = folder / name
    stated: Any = values.setdefault("count", None)
    # Callers plan by counts before they read a part. A row takes about a byte at least, so a count
    # up to the file's size is plausible; for a larger one, count the rows.
    if not _is_count(stated) or (path.is_file() and stated > path.stat().st_size):
        values["count"] = count_rows(path)
    return values


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
