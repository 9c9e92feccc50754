"""Building an index, from documents or from an encoded corpus.

The result does not depend on interruptions: a killed build leaves the index as it was, and the same
call continues after the last finished segment. Every build of the same input writes the same files,
except Lucene's, which contain random names and the time; FAISS graphs (HNSW, NSG), which several
threads build in no fixed order; and the checksums of these.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dupmae_toolkit.analysis import count_words
from dupmae_toolkit.collection.passages import Passages
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.passages import PassageSource, documents_in
from dupmae_toolkit.encoding.source import Plan, Source, as_source
from dupmae_toolkit.encoding.stream import PART_SIZE, encode_corpus
from dupmae_toolkit.errors import BusyError, EncoderMismatchError, InputError
from dupmae_toolkit.files import atomic_folder, cannot_write, make_folder, sha256_lines
from dupmae_toolkit.index.dense import keeps_vectors, make_faiss
from dupmae_toolkit.index.impacts import (
    ENCODER,
    FIRST_BUILD,
    MAX_IMPACT,
    QuantizationError,
    calibrate,
    check_max_impact,
)
from dupmae_toolkit.index.layout import BUILDING_FOLDER, ENCODED_FOLDER
from dupmae_toolkit.index.manifest import (
    FORMAT_VERSION,
    PASSAGES_VERSION,
    Manifest,
    SegmentEntry,
    checksum,
    checksums,
    mean_length,
)
from dupmae_toolkit.index.rows import regrouped
from dupmae_toolkit.index.scoring import Scoring
from dupmae_toolkit.index.segment import write_segment
from dupmae_toolkit.index.staging import Staging, check_target
from dupmae_toolkit.index.vocabulary import lucene_terms, write_vocabulary
from dupmae_toolkit.index.words import Bm25
from dupmae_toolkit.java_homes import JavaError
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder

SEGMENT_SIZE = 100_000


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The options that an index depends on besides the encoded corpus; see ``build_index``."""

    faiss_spec: str = "Flat"
    max_impact: int = MAX_IMPACT
    segment_size: int = SEGMENT_SIZE
    bm25: bool = True
    mean_length: float | None = None

    def check(self, dense_dim: int) -> None:
        """Raise InputError for options that no index of this dimension can be built with."""
        if self.segment_size < 1:
            raise InputError(f"segment size {self.segment_size}: it must be at least 1")
        check_max_impact(self.max_impact)
        length = self.mean_length
        if length is not None and not (self.bm25 and 0 < length < math.inf):
            raise InputError(
                f"mean length {length}: it must be a number of words above 0, for BM25"
            )
        if not dense_dim and not keeps_vectors(self.faiss_spec):
            raise InputError(
                f"FAISS spec {self.faiss_spec!r}: the encoder gives no dense vectors; leave it out"
            )
        make_faiss(self.faiss_spec, dense_dim)


def index_corpus(
    index: str | Path,
    corpus: Any,
    encoder: Encoder,
    options: BuildOptions | None = None,
    *,
    passages: Passages | None = None,
    part_size: int = PART_SIZE,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Manifest:
    """Encode ``corpus``, see ``as_source``, and build an index of it in the folder ``index``.

    passages: index the passages of the documents, cut in this way; None: the documents as they are.

    The same call resumes both steps where it was interrupted. Encoded documents are kept in
    ``index/.building`` until the index is complete. If a different build was interrupted there,
    ``overwrite`` starts over. Raises the errors of ``encode_corpus`` and ``build_index``.
    """
    index = Path(index)
    options = options or BuildOptions()
    options.check(encoder.info.dense_dim)
    check_target(index, overwrite)
    source = as_source(corpus)
    if passages is not None:
        source = PassageSource(source, passages, encoder)
    with building_in(index):
        folder = index / BUILDING_FOLDER / ENCODED_FOLDER

        def refuse(error: InputError) -> None:
            if not overwrite:
                raise InputError(
                    f"{index}: a different build was interrupted there ({error}); finish it, or "
                    "pass --overwrite (overwrite=True) to start over"
                ) from error

        encoded = encode_afresh(
            source, encoder, folder, part_size=part_size, progress=progress, ask=refuse
        )
        return build_held(index, encoded, encoder.vocabulary, options, overwrite, progress)


def build_index(
    index: str | Path,
    encoded: EncodedCorpus,
    *,
    vocabulary: list[str],
    faiss_spec: str = "Flat",
    max_impact: int = MAX_IMPACT,
    segment_size: int = SEGMENT_SIZE,
    bm25: bool = True,
    mean_length: float | None = None,
    progress: Progress = silent,
    overwrite: bool = False,
) -> Manifest:
    """Build an index in the folder ``index``; continue the same build if it was interrupted there.

    vocabulary: the encoder's tokens in the order of their ids.
    faiss_spec: a FAISS factory string, for the vectors of each segment.
    max_impact: the largest impact; 255 (a byte) rounds to within 0.2 % of the largest weight,
        except weights below half a step, which become 1. The largest weight is the encoder's, or,
        if it states none, that of the first segment's documents, with headroom.
    segment_size: the most documents in a segment; one segment at a time is in memory. If several
        are needed, they are of equal size, so that each is large enough to train a FAISS spec on.
    bm25: whether the words of the texts become impacts too, by BM25.
    mean_length: of a document, in words, for BM25; by default, that of these documents.
    overwrite: replace an index; it stays as it is until the new one is complete.

    Raises InputError for a folder that may not be built in, for unsuitable options, for bad input,
    and while another process builds there; JavaError and DupMAEError for failures.
    """
    index = Path(index)
    options = BuildOptions(faiss_spec, max_impact, segment_size, bm25, mean_length)
    options.check(encoded.info.dense_dim)
    check_inputs(encoded, vocabulary)
    check_target(index, overwrite)
    with building_in(index):
        return build_held(index, encoded, vocabulary, options, overwrite, progress)


@contextlib.contextmanager
def building_in(index: Path) -> Iterator[None]:
    """Lock the folder ``index``; it is created, and removed again if it stays empty."""
    make_folder(index)
    try:
        with exclusive(index), says_why(index):
            yield
    finally:
        with contextlib.suppress(OSError):
            index.rmdir()


def build_held(
    index: Path,
    encoded: EncodedCorpus,
    vocabulary: list[str],
    options: BuildOptions,
    overwrite: bool = False,
    progress: Progress = silent,
    tuned: Scoring | None = None,
) -> Manifest:
    """``build_index`` in a folder locked by ``building_in``, with arguments that were checked.

    tuned: a score whose weights were tuned, in place of the encoder's.
    """
    terms = lucene_terms(vocabulary)
    documents = documents_in(encoded)
    staging = Staging.begin(index, encoded, asdict(options), overwrite)
    if staging.is_over() and staging.live:
        staging.tidy(staging.live)
        return staging.live
    try:
        scale, bm25, entries, sums = _build_segments(staging, encoded, terms, options, progress)
    except InputError:
        staging.abandon()  # the same input would be refused again
        raise
    scoring = Scoring.of(encoded.info, bm25)
    manifest = Manifest(
        encoder=encoded.info,
        scale=scale,
        max_impact=options.max_impact,
        faiss_spec=options.faiss_spec,
        segment_size=options.segment_size,
        segments=entries,
        source=str(encoded.manifest["source"]),
        reading=encoded.reading,
        truncated=encoded.manifest["truncated"],
        scoring=scoring if tuned is None else scoring.tuned_as(tuned),
        scale_source=ENCODER if encoded.info.largest_weight else FIRST_BUILD,
        precision={encoded.precision: len(encoded)},
        vocabulary_file=staging.vocabulary_file(encoded.info.vocabulary_sha256),
        passages=encoded.passages,
        whole=documents if encoded.passages else 0,
        format_version=PASSAGES_VERSION if encoded.passages else FORMAT_VERSION,
    )
    path = index / manifest.vocabulary_file
    write_vocabulary(path, vocabulary)
    manifest.checksums = {manifest.vocabulary_file: checksum(path)} | sums
    manifest.save(index)
    staging.tidy(manifest)
    return manifest


def check_documents(encoded: EncodedCorpus) -> None:
    """Raise InputError for encoded queries."""
    if encoded.kind != "documents":
        raise InputError(f"{encoded.folder}: holds queries; an index is built from documents")


def check_inputs(encoded: EncodedCorpus, vocabulary: list[str]) -> None:
    """Raise InputError unless these are documents, encoded with this vocabulary."""
    check_documents(encoded)
    if (
        len(vocabulary) != encoded.info.vocabulary_size
        or sha256_lines(vocabulary) != encoded.info.vocabulary_sha256
    ):
        raise EncoderMismatchError(
            f"{encoded.folder}: encoded with {encoded.info.name!r}, whose vocabulary of "
            f"{encoded.info.vocabulary_size:,} entries is not the given one of "
            f"{len(vocabulary):,}; use the encoder that encoded it"
        )


def _build_segments(
    staging: Staging,
    encoded: EncodedCorpus,
    terms: list[str],
    options: BuildOptions,
    progress: Progress,
) -> tuple[float, Bm25 | None, list[SegmentEntry], dict[str, dict[str, Any]]]:
    """Build the segments that are not finished; return scale, BM25, all entries and checksums."""
    scale: float | None = None
    bm25 = None
    if options.bm25 and (options.mean_length or len(staging.names) > 1):
        bm25 = Bm25(options.mean_length or _mean_length(encoded, progress))
    entries: list[SegmentEntry] = []
    sums: dict[str, dict[str, Any]] = {}
    # Of equal size: a last segment of a few documents could be too small to train the spec on.
    parts = regrouped(encoded.parts(), -(-len(encoded) // len(staging.names)))
    for name, rows in zip(staging.names, parts, strict=True):
        record = staging.record(name)
        if record is None:
            if scale is None:
                largest_weight = encoded.info.largest_weight
                scale = calibrate(rows.lexical, options.max_impact, largest_weight)
            folder = staging.segments / name
            rows = rows.sorted()
            length = 0
            if options.bm25:
                length = int(rows.count_words().lengths.sum())
                bm25 = bm25 or Bm25(mean_length(length, len(rows)))
            errors = rows.quantize(scale, options.max_impact, bm25)
            with atomic_folder(folder) as temporary:
                write_segment(temporary, rows, terms, [options.faiss_spec], progress)
            record = {
                "scale": scale,
                "mean_length": bm25.mean_length if bm25 else None,
                "count": len(rows.ids),
                "error": asdict(errors.tokens),
                "words": len(rows.words.words) if rows.words else 0,
                "length": length,
                "word_error": asdict(errors.words),
                "checksums": checksums(staging.index, folder),
            }
            staging.finish(name, record)
        scale = float(record["scale"])
        if options.bm25:
            bm25 = Bm25(float(record["mean_length"]))
        error, word_error = map(
            QuantizationError.from_dict, (record["error"], record["word_error"])
        )
        entries.append(
            SegmentEntry(
                name,
                record["count"],
                error.weights,
                error,
                words=record["words"],
                length=record["length"],
                word_error=word_error,
            )
        )
        sums |= record["checksums"]
    assert scale is not None  # an encoded corpus has at least one row
    return scale, bm25, entries, sums


def _mean_length(encoded: EncodedCorpus, progress: Progress) -> float:
    """The mean length of all documents, in words: one more pass over the texts."""
    total = 0
    with progress("counting words", len(encoded)) as advance:
        for part in encoded.parts():
            for title, text in zip(part.titles, part.texts, strict=True):
                total += sum(count_words(f"{title} {text}").values())
            advance(len(part))
    return mean_length(total, len(encoded))


def encode_afresh(
    source: Source,
    encoder: Encoder,
    folder: Path,
    *,
    part_size: int,
    progress: Progress,
    plan: Plan | None = None,
    ask: Callable[[InputError], None] = lambda error: None,
) -> EncodedCorpus:
    """``encode_corpus`` into ``folder``; unfinished work there on other input is removed first.

    ask: called with the reason before anything is removed; may raise. A folder that another process
    writes in is not removed: BusyError.
    """

    def encode() -> EncodedCorpus:
        return encode_corpus(
            source, encoder, folder, part_size=part_size, plan=plan, progress=progress
        )

    existed = folder.exists()
    try:
        return encode()
    except InputError as error:
        at_folder = error.path is not None and Path(error.path).is_relative_to(folder)
        if isinstance(error, BusyError) or not existed or not at_folder:
            raise
        ask(error)
    shutil.rmtree(folder)
    return encode()


@contextlib.contextmanager
def says_why(index: Path) -> Iterator[None]:
    """Turn a system error into one line that says what failed and what to do."""
    try:
        yield
    except OSError as error:
        raise cannot_write(error.filename or index, error) from error
    except JavaError as error:
        if not error.disk_full:
            raise
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise cannot_write(index, full) from error
