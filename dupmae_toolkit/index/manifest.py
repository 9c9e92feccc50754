"""The manifest, which describes the whole index; its vocabulary; checksums of its files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dupmae_toolkit.collection.passages import Passages
from dupmae_toolkit.errors import EncoderMismatchError, InputError
from dupmae_toolkit.files import read_json, sha256_file, sha256_lines, write_json
from dupmae_toolkit.index import stated
from dupmae_toolkit.index.impacts import (
    FIRST_BUILD,
    LARGEST_MAX_IMPACT,
    SCALE_SOURCES,
    QuantizationError,
)
from dupmae_toolkit.index.layout import (
    BUILDING_FOLDER,
    DELETIONS_PATH,
    MANIFEST_FILE,
    SEGMENT_NAME,
    SEGMENTS_FOLDER,
    VOCABULARY_FILE,
    VOCABULARY_NAME,
)
from dupmae_toolkit.index.mistaken import mistaken
from dupmae_toolkit.index.pruning import Pruning
from dupmae_toolkit.index.scoring import Scoring
from dupmae_toolkit.index.vocabulary import lucene_terms
from dupmae_toolkit.index.words import Bm25
from dupmae_toolkit.records import EncoderInfo

#: 2 added deletions: a reader of 1 would return deleted documents. 3 added words and frequencies.
FORMAT_VERSION = 3
#: Of indexes of passages alone: a reader of 3 would return passages as documents.
PASSAGES_VERSION = 4
REBUILD = "rebuild the index in its place (--overwrite, overwrite=True)"
#: The remedy for losing something that an index holds only once.
COPY = f"restore it from a copy, or {REBUILD}, from its texts or from the output of `dupmae encode`"


@dataclass(frozen=True, slots=True)
class Shape:
    """What every part of a segment must hold: documents, tokens, dense dimensions, words.

    passages: whether each of the documents is a passage.
    """

    documents: int
    terms: int
    dimensions: int
    words: int = 0
    passages: bool = False


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment: its folder's name in segments/, and what it holds.

    dead: how many of its ``count`` documents are deleted. deletions: the path of the file that
    lists their rows, "" while there are none. faiss_spec: "" if it is the index's. words: how many
    different words have columns. length: of all live documents together, in words.
    """

    name: str
    count: int
    weights: int  # stored lexical weights, of tokens
    error: QuantizationError = field(default_factory=QuantizationError)
    dead: int = 0
    deletions: str = ""
    faiss_spec: str = ""
    words: int = 0
    length: int = 0
    word_error: QuantizationError = field(default_factory=QuantizationError)

    @property
    def live(self) -> int:
        """The number of documents that can be found."""
        return self.count - self.dead

    @property
    def postings(self) -> int:
        """The number of stored impacts, of tokens and of words."""
        return self.weights + self.word_error.weights

    @property
    def path(self) -> str:
        """Its folder, relative to the index."""
        return f"{SEGMENTS_FOLDER}/{self.name}"


@dataclass(slots=True)
class Manifest:
    """The manifest of an index. Paths in it are relative to the index and use forward slashes.

    Dividing by ``scale`` turns impacts back into weights: Σ query weight × impact / scale.
    ``scale_source``: ENCODER, if the encoder states its largest weight, or FIRST_BUILD.
    ``checksums`` gives SHA-256 and size of every other file of the index. ``generation`` counts the
    changes of the index since it was built. ``scoring`` is None for an index that an earlier
    version of the toolkit built: it has only the plain score until it is compacted.

    ``reading`` says which fields of the documents were id, title and text, see
    ``collection.fields.Reading``; like ``source``, of the build alone.

    ``truncated`` and ``precision`` count all documents that were ever added, deleted ones too:
    those that were cut (None: not known), and those encoded in each precision (``bf16``, ``fp32``
    or ``unknown``). A document counts once more in the precision in which a repair encoded it again
    with other results.

    ``passages`` says how documents were cut, if each row of a segment is a passage: every other
    count of documents, here and in ``segments``, is then one of passages. ``whole`` counts the
    documents that they are of; 0 without passages.

    ``pruning`` says which impacts of a document are kept, of those added later too; None: all.
    """

    encoder: EncoderInfo
    scale: float
    max_impact: int
    faiss_spec: str
    segment_size: int
    segments: list[SegmentEntry]
    source: str = ""
    truncated: int | None = None
    generation: int = 0
    vocabulary_file: str = VOCABULARY_FILE
    checksums: dict[str, dict[str, Any]] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    scoring: Scoring | None = None
    scale_source: str = FIRST_BUILD
    precision: dict[str, int] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)
    passages: Passages | None = None
    whole: int = 0
    pruning: Pruning | None = None

    @property
    def documents(self) -> int:
        """The number of documents that can be found, however many passages they have."""
        return self.live if self.passages is None else self.whole

    @property
    def count(self) -> int:
        """The number of documents, deleted ones included."""
        return sum(segment.count for segment in self.segments)

    @property
    def dead(self) -> int:
        """The number of documents that are deleted but still stored."""
        return sum(segment.dead for segment in self.segments)

    @property
    def live(self) -> int:
        """The number of documents that can be found."""
        return self.count - self.dead

    @property
    def error(self) -> QuantizationError:
        """The error of quantising all weights."""
        return sum((segment.error for segment in self.segments), QuantizationError())

    @property
    def word_error(self) -> QuantizationError:
        """The error of quantising BM25's parts."""
        return sum((segment.word_error for segment in self.segments), QuantizationError())

    @property
    def bm25(self) -> Bm25 | None:
        """The settings of BM25; None if the index has no words."""
        return self.scoring.bm25 if self.scoring else None

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a score that the index has: of the encoder's vectors, and of the words."""
        return self.encoder.sides if self.bm25 is None else (*self.encoder.sides, "bm25")

    @property
    def mean_length(self) -> float:
        """The mean length of the documents that can be found, in words; 1 where none has any."""
        return mean_length(sum(segment.length for segment in self.segments), self.live)

    @property
    def drift(self) -> float:
        """How far the mean length is from BM25's, as a share of that; 0 without BM25."""
        return self.mean_length / self.bm25.mean_length - 1 if self.bm25 and self.live else 0.0

    def count_precision(self, precision: str, documents: int) -> None:
        """Count documents that were encoded in this precision."""
        self.precision[precision] = self.precision.get(precision, 0) + documents

    def spec_of(self, entry: SegmentEntry) -> str:
        """The FAISS factory string of a segment."""
        return entry.faiss_spec or self.faiss_spec

    def shape(self, entry: SegmentEntry) -> Shape:
        """What every part of a segment must hold."""
        encoder = self.encoder
        passages = self.passages is not None
        return Shape(entry.count, encoder.vocabulary_size, encoder.dense_dim, entry.words, passages)

    def check_encoder(self, index: Path, encoder: EncoderInfo) -> None:
        """Raise EncoderMismatchError unless ``encoder`` gives the vectors that are in the index."""
        differ = self.encoder.differences(encoder)
        if differ:
            raise EncoderMismatchError.at(
                index,
                None,
                f"built with the encoder {self.encoder.name!r}, opened with "
                f"{encoder.name!r}: they differ in {', '.join(differ)}; "
                "use the encoder that built it, or build the index again",
            )

    def to_dict(self) -> dict[str, Any]:
        """The values to be written as JSON; ``sha256`` covers all the others."""
        values = {
            "format_version": self.format_version,
            "encoder": self.encoder.to_dict(),
            "vocabulary": {
                "file": self.vocabulary_file,
                "sha256": self.encoder.vocabulary_sha256,
                "size": self.encoder.vocabulary_size,
            },
            "impacts": {
                "scale": self.scale,
                "scale_source": self.scale_source,
                "max_impact": self.max_impact,
                "error": self.error.to_dict(),
            },
            "faiss": {"spec": self.faiss_spec, "metric": "inner_product"},
            "source": self.source,
            "truncated": self.truncated,
            "precision": self.precision,
            "count": self.count,
            "segment_size": self.segment_size,
            "segments": [asdict(segment) for segment in self.segments],
            "generation": self.generation,
            "checksums": self.checksums,
        }
        if self.passages is not None:
            values["passages"] = self.passages.to_dict() | {"documents": self.whole}
        if self.pruning is not None:
            values["pruning"] = self.pruning.to_dict()
        if self.reading:
            values["reading"] = self.reading
        if self.scoring is not None:
            values["scoring"] = self.scoring.to_dict() | {"error": self.word_error.to_dict()}
        return values | {"sha256": _own_digest(values)}

    def save(self, index: Path) -> None:
        """Write the manifest into the folder ``index``, in one step."""
        write_json(Path(index) / MANIFEST_FILE, self.to_dict())

    @classmethod
    def load(cls, index: str | Path) -> Manifest:
        """Read the manifest of an index. Raises InputError unless it is there and undamaged."""
        path = Path(index) / MANIFEST_FILE
        if not path.is_file():
            raise InputError.at(index, None, *_why_no_index(Path(index)))
        _refuse_others(Path(index))
        try:
            values = read_json(path)
        except InputError as error:
            if isinstance(error.__cause__, OSError):  # it may be undamaged
                raise
            raise InputError.at(path, None, error.fault, _way_out(path)) from error
        try:
            version = stated.integer(values, "format_version", 1)
            if version > PASSAGES_VERSION:
                raise InputError.at(
                    path,
                    None,
                    f"format version {version}",
                    f"this toolkit reads up to {PASSAGES_VERSION}: update dupmae-toolkit",
                )
            cls._check_digest(path, values)
            segments = _entries(values["segments"])
            passages = Passages.from_dict(values.get("passages"))
            stored = sum(segment.count for segment in segments)
            return cls(
                encoder=EncoderInfo.from_dict(values["encoder"]),
                scale=stated.positive(values["impacts"], "scale"),
                max_impact=stated.integer(values["impacts"], "max_impact", 1, LARGEST_MAX_IMPACT),
                faiss_spec=stated.text(values["faiss"], "spec"),
                segment_size=stated.integer(values, "segment_size", 1),
                segments=segments,
                source=stated.text({"source": ""} | values, "source"),
                reading=stated.mapping({"reading": {}} | values, "reading"),
                truncated=(
                    None if values.get("truncated") is None else stated.integer(values, "truncated")
                ),
                scoring=Scoring.from_dict(values["scoring"]) if "scoring" in values else None,
                scale_source=stated.one_of(
                    {"scale_source": FIRST_BUILD} | values["impacts"], "scale_source", SCALE_SOURCES
                ),
                precision=stated.precisions(values.get("precision"), stored),
                generation=stated.integer({"generation": 0} | values, "generation"),
                vocabulary_file=stated.name(values["vocabulary"], "file", VOCABULARY_NAME),
                checksums=stated.file_checksums(values["checksums"]),
                format_version=version,
                passages=passages,
                pruning=Pruning.from_dict(values.get("pruning")),
                whole=stated.integer(values["passages"], "documents") if passages else 0,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError.at(
                path,
                None,
                f"not the manifest of an index ({type(error).__name__}: {error})",
                _way_out(path),
            ) from error

    @staticmethod
    def _check_digest(path: Path, values: dict[str, Any]) -> None:
        rest = {key: value for key, value in values.items() if key != "sha256"}
        if values.get("sha256") != _own_digest(rest):
            why = "was changed or damaged since it was written (its checksum differs)"
            raise InputError.at(path, None, why, _way_out(path))

    def vocabulary(self, index: str | Path) -> list[str]:
        """The encoder's tokens in the order of their ids, read from the index itself."""
        path = Path(index) / self.vocabulary_file
        tokens = read_json(path)
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise InputError.at(path, None, "not a list of tokens", "run `dupmae verify --repair`")
        size = self.encoder.vocabulary_size
        if len(tokens) != size or sha256_lines(tokens) != self.encoder.vocabulary_sha256:
            raise InputError.at(
                path,
                None,
                "not the vocabulary that the manifest names",
                "run `dupmae verify --repair` on the index",
            )
        return tokens

    def terms(self, index: str | Path) -> list[str]:
        """Lucene's terms in the order of the vocabulary; cached for the last vocabulary used."""
        digest = self.encoder.vocabulary_sha256
        if digest not in _terms:
            terms = lucene_terms(self.vocabulary(index))
            _terms.clear()
            _terms[digest] = terms
        return _terms[digest]


#: The terms of the last vocabulary, by its digest: making them takes longer than a small change.
_terms: dict[str, list[str]] = {}


#: What entries of earlier formats lack.
_ENTRY_BEFORE = {
    "dead": 0,
    "deletions": "",
    "faiss_spec": "",
    "words": 0,
    "length": 0,
    "word_error": {},
}


def mean_length(words: int, documents: int) -> float:
    """The mean length of documents in words, as BM25 divides by it: 1 where there are no words."""
    return words / documents if words and documents else 1.0


def _entries(values: Any) -> list[SegmentEntry]:
    """The segments of a manifest, no two of the same name."""
    entries = []
    for given in values:
        entry = _ENTRY_BEFORE | given
        dead = stated.integer(entry, "dead", 0, stated.integer(entry, "count"))
        if dead or entry["deletions"] != "":
            stated.name(entry, "deletions", DELETIONS_PATH)
        entries.append(
            SegmentEntry(
                stated.name(entry, "name", SEGMENT_NAME),
                entry["count"],
                stated.integer(entry, "weights"),
                QuantizationError.from_dict(dict(stated.numbers(entry["error"]))),
                dead,
                entry["deletions"],
                stated.text(entry, "faiss_spec"),
                stated.integer(entry, "words"),
                stated.integer(entry, "length"),
                QuantizationError.from_dict(dict(stated.numbers(entry["word_error"]))),
            )
        )
    if not entries:
        raise ValueError("it lists no segments")
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError("two segments have the same name")
    return entries


def require_folder(index: Path) -> None:
    """Raise InputError unless ``index`` holds an index, damaged or not."""
    if not (index / MANIFEST_FILE).is_file() and not (index / SEGMENTS_FOLDER).is_dir():
        raise InputError.at(index, None, *_why_no_index(index))
    _refuse_others(index)


def _refuse_others(index: Path) -> None:
    """Raise InputError for a folder whose manifest says that it is something else."""
    if not (index / SEGMENTS_FOLDER).is_dir() and (found := mistaken(index)):
        raise InputError.at(index, None, f"not an index but {found[0]}", found[1])


def checksums(index: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and size of every file under ``folder``, by path relative to ``index``, sorted."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(index).as_posix(): checksum(path) for path in paths}


def checksum(path: Path) -> dict[str, Any]:
    """SHA-256 and size of one file."""
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size}


def _own_digest(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _way_out(manifest: Path) -> str:
    """What to do about a file that is not a manifest; only an index may be rebuilt."""
    is_index = (manifest.parent / SEGMENTS_FOLDER).is_dir()
    return COPY if is_index else "name an index; `dupmae index` builds one in a new folder"


def _why_no_index(index: Path) -> tuple[str, str]:
    """What is wrong with a folder that has no manifest, and what to do about it."""
    if not index.exists():
        return "no such index", "`dupmae index` builds one"
    found = mistaken(index)
    if not index.is_dir():
        return "is a file", found[1] if found else "name the folder of an index"
    if (index / BUILDING_FOLDER).is_dir():
        return "its build was interrupted", "run the same `dupmae index` again to finish it"
    if (index / SEGMENTS_FOLDER).is_dir():
        return f"its {MANIFEST_FILE} is missing, and no other file says what is in it", COPY
    if found:
        return f"not an index but {found[0]}", found[1]
    return f"not an index (it has no {MANIFEST_FILE})", "`dupmae index` builds one"
