"""A data set of one's own: a corpus, topics and judgements, each in any format that is read."""

from __future__ import annotations

from pathlib import Path

from dupmae_toolkit.collection.beir import (
    BeirDataset,
    check_split,
    drops_self_matches,
    keep_judged,
    open_beir_group,
)
from dupmae_toolkit.collection.corpora import Corpus
from dupmae_toolkit.collection.fields import ANY_COLUMNS, Columns
from dupmae_toolkit.collection.irds import IrdsCorpus
from dupmae_toolkit.collection.locate import NotBeirError
from dupmae_toolkit.collection.opening import open_corpus, read_qrels, read_queries, read_real_qrels
from dupmae_toolkit.collection.qrels import Qrels, RealQrels
from dupmae_toolkit.collection.spooled import STANDARD_INPUT
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Query


class OwnDataset:
    """A corpus with one set of judged topics, which is called ``split``; see ``BeirDataset``.

    Each of the three is named as for ``open_corpus``, ``read_queries`` and ``read_qrels``; of a
    BEIR folder or zip, the judgements of that split are read. columns: those of the corpus.
    """

    def __init__(
        self,
        corpus: str | Path,
        queries: str | Path,
        qrels: str | Path,
        split: str = "test",
        *,
        skip_invalid: bool = False,
        columns: Columns = ANY_COLUMNS,
    ) -> None:
        self.corpus: Corpus = open_corpus(corpus, skip_invalid=skip_invalid, columns=columns)
        self.name, self.source = self.corpus.name, str(corpus)
        self.topics_source, self.qrels_source = str(queries), str(qrels)
        self._queries, self._qrels, self._split = queries, qrels, split

    def splits(self) -> list[str]:
        return [self._split]

    def qrels(self, split: str) -> Qrels:
        check_split(split, self)
        return read_qrels(self._qrels, self._qrels_split)

    def real_qrels(self, split: str) -> RealQrels:
        """Like ``qrels``, but grades may be fractions."""
        check_split(split, self)
        return read_real_qrels(self._qrels, self._qrels_split)

    def queries(self, split: str) -> list[Query]:
        return keep_judged(
            self.all_queries(split), self.real_qrels(split), str(self._queries), split
        )

    def all_queries(self, split: str) -> list[Query]:
        """The topics, also those without judgements, in their order."""
        check_split(split, self)
        same = str(self._queries) == str(self._qrels)
        return read_queries(self._queries, self._qrels_split if same else None)

    @property
    def _qrels_split(self) -> str | None:
        """The split, where judgements are those of a BEIR folder or zip."""
        holds_several = Path(self._qrels).is_dir() or Path(self._qrels).suffix.lower() == ".zip"
        return self._split if holds_several else None

    def check_corpus(self) -> None:
        """Raise InputError if the first document is none: before hours of other work.

        Not for data sets of ir_datasets, of which this could begin a download.
        """
        if not isinstance(self.corpus, IrdsCorpus):
            next(iter(self.corpus))

    @property
    def drops_self_matches(self) -> bool:
        return drops_self_matches(self.name)


def check_both(queries: str | None, qrels: str | None) -> None:
    """Raise InputError if only topics or only judgements are named."""
    if bool(queries) != bool(qrels):
        given, lacking = ("qrels", "queries") if qrels else ("queries", "qrels")
        raise InputError(
            f"{given} without {lacking}; a corpus of your own takes --queries (queries=…) "
            "and --qrels (qrels=…)"
        )


def open_datasets(
    source: str | Path,
    queries: str | None = None,
    qrels: str | None = None,
    split: str = "test",
    *,
    skip_invalid: bool = False,
    columns: Columns = ANY_COLUMNS,
) -> list[BeirDataset]:
    """The BEIR data sets that ``source`` names; with topics and judgements, the corpus of one.

    split: what the topics of one's own are called; columns: those of its corpus. Raises InputError
    if there is no such data set.
    """
    check_both(queries, qrels)
    if queries and qrels:
        if STANDARD_INPUT in map(str, (source, queries, qrels)):
            raise InputError("an experiment reads its files several times; name files, not -")
        return [
            OwnDataset(source, queries, qrels, split, skip_invalid=skip_invalid, columns=columns)
        ]
    if columns != ANY_COLUMNS:
        raise InputError(
            "names of fields go with --queries (queries=…) and --qrels (qrels=…), for a corpus of "
            "your own"
        )
    try:
        return open_beir_group(source, skip_invalid=skip_invalid)
    except NotBeirError as error:
        remedy = "for a corpus of your own, name --queries (queries=…) and --qrels (qrels=…), too"
        raise InputError.at(error.path, None, error.fault, remedy) from error
