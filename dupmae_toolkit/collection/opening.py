"""Open the corpus, topics or judgements that a user names, in any supported format."""

from __future__ import annotations

from pathlib import Path

from dupmae_toolkit.collection.beir import open_beir
from dupmae_toolkit.collection.corpora import Corpus, FileCorpus
from dupmae_toolkit.collection.irds import IrdsCorpus, irds_qrels, irds_queries
from dupmae_toolkit.collection.locate import IRDS_PREFIX, find_corpus, find_queries
from dupmae_toolkit.collection.qrels import Qrels, read_qrels_file
from dupmae_toolkit.collection.queries import read_query_file
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Query


def open_corpus(source: str | Path, *, skip_invalid: bool = False) -> Corpus:
    """The corpus that ``source`` names.

    - a folder or zip in BEIR's layout (``corpus.jsonl``, also ``.gz`` or ``.xz``);
    - a file of JSON lines, plain, ``.gz`` or ``.xz``: ``_id``, ``id`` or ``docid``; ``title``;
      ``text``, ``contents`` or ``body``;
    - a ``.tsv`` file: id TAB text;
    - a data set of ir_datasets: ``irds:NAME``, or NAME where no such file exists.

    ``skip_invalid`` skips lines that are not documents, and counts them in ``skipped``.
    Raises InputError if nothing has that name; errors in the contents are raised when iterating.
    """
    place = find_corpus(source)
    if isinstance(place, str):
        return IrdsCorpus(place, skip_invalid=skip_invalid)
    return FileCorpus(place.file, place.name, skip_invalid=skip_invalid)


def read_queries(source: str | Path, split: str | None = None) -> list[Query]:
    """The topics that ``source`` names, in their original order.

    ``source`` is a file of JSON lines (``_id``, ``id`` or ``qid``; ``text`` or ``query``), a TSV
    of id and text (either plain, ``.gz`` or ``.xz``), a BEIR folder or zip, or a data set of
    ir_datasets (``irds:NAME``). ``split`` keeps the topics that are judged in that split of a BEIR
    data set. Raises InputError as ``read_query_file`` does, and if nothing has that name.
    """
    if split is not None:
        return open_beir(source).queries(split)
    place = find_queries(source)
    return irds_queries(place) if isinstance(place, str) else read_query_file(place.file)


def read_qrels(source: str | Path, split: str | None = None) -> Qrels:
    """The judgements that ``source`` names.

    ``source`` is a file: BEIR's three columns (topic, document, grade; with or without a header)
    or TREC's four (topic, iteration, document, grade), plain, ``.gz`` or ``.xz``. With ``split``
    it is a BEIR folder or zip; ``irds:NAME`` is a data set of ir_datasets. Raises InputError as
    ``read_qrels_file`` does, and if nothing has that name.
    """
    if split is not None:
        return open_beir(source).qrels(split)
    if str(source).startswith(IRDS_PREFIX):
        return irds_qrels(str(source).removeprefix(IRDS_PREFIX))
    path = Path(source)
    if path.is_dir() or path.suffix.lower() == ".zip":
        what = "a folder" if path.is_dir() else "a zip"
        raise InputError.at(
            path, None, f"{what}; name a file of judgements, or a split of a BEIR data set"
        )
    return read_qrels_file(TextSource(path))
