"""BEIR data sets: a corpus, topics, and judgements by split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from dupmae_toolkit.collection.corpora import Corpus, RowCorpus, file_safe
from dupmae_toolkit.collection.fields import QUERY_NAMES
from dupmae_toolkit.collection.formats import How
from dupmae_toolkit.collection.irds import members_of
from dupmae_toolkit.collection.locate import IRDS_PREFIX, BeirPlace, find_beir
from dupmae_toolkit.collection.qrels import (
    Qrels,
    RealQrels,
    read_qrels_file,
    read_real_qrels_file,
    why_unjudged,
)
from dupmae_toolkit.collection.queries import topics_of
from dupmae_toolkit.errors import InputError, counted
from dupmae_toolkit.records import Query

#: In these data sets each topic is also a document with the same id, and must not answer itself.
SELF_MATCHING = ("arguana", "quora")


class BeirDataset(Protocol):
    """The interface of a data set of any format, as experiments use it."""

    name: str
    source: str
    corpus: Corpus

    def splits(self) -> list[str]:
        """The splits that have judgements, in alphabetical order."""
        ...

    def qrels(self, split: str) -> Qrels:
        """From topic to document to grade. Raises InputError if there is no such split."""
        ...

    def queries(self, split: str) -> list[Query]:
        """The topics judged in a split, in the order of the queries file."""
        ...

    @property
    def drops_self_matches(self) -> bool:
        """Whether to remove from each ranking the document that has the topic's own id."""
        ...


class FolderDataset:
    """A BEIR data set in a folder or zip."""

    def __init__(self, place: BeirPlace, *, skip_invalid: bool = False) -> None:
        self._place = place
        self.name = place.name
        self.source = place.source
        self.corpus: Corpus = RowCorpus(
            How().file(place.corpus), place.name, skip_invalid=skip_invalid
        )

    def splits(self) -> list[str]:
        return sorted(self._place.qrels)

    def qrels(self, split: str) -> Qrels:
        check_split(split, self)
        return read_qrels_file(self._place.qrels[split])

    def real_qrels(self, split: str) -> RealQrels:
        """Like ``qrels``, but grades may be fractions."""
        check_split(split, self)
        return read_real_qrels_file(self._place.qrels[split])

    def queries(self, split: str) -> list[Query]:
        qrels = self.real_qrels(split)
        if self._place.queries is None:
            raise InputError.at(self.source, None, "no queries.jsonl in it")
        rows = How("queries", names=QUERY_NAMES).file(self._place.queries)
        return keep_judged(topics_of(rows).queries, qrels, self.source, split)

    @property
    def drops_self_matches(self) -> bool:
        return drops_self_matches(self.name)


class IrdsDataset:
    """A judged data set of ir_datasets, such as ``beir/scifact`` or ``beir/scifact/test``."""

    def __init__(self, name: str, *, skip_invalid: bool = False) -> None:
        from dupmae_toolkit.collection.irds import IrdsCorpus, judged_parts

        self._parts = judged_parts(name)
        self.name = file_safe(name)
        self.source = f"irds:{name}"
        self.corpus: Corpus = IrdsCorpus(name, skip_invalid=skip_invalid)

    def splits(self) -> list[str]:
        return sorted(self._parts)

    def qrels(self, split: str) -> Qrels:
        from dupmae_toolkit.collection.irds import irds_qrels

        check_split(split, self)
        return Qrels(irds_qrels(self._parts[split]))

    def queries(self, split: str) -> list[Query]:
        return keep_judged(self.all_queries(split), self.qrels(split), self.source, split)

    def all_queries(self, split: str) -> list[Query]:
        """The topics of a split, also those without judgements, in their order."""
        from dupmae_toolkit.collection.irds import irds_queries

        check_split(split, self)
        return irds_queries(self._parts[split])

    @property
    def drops_self_matches(self) -> bool:
        return drops_self_matches(self.name)


def open_beir(source: str | Path, *, skip_invalid: bool = False) -> BeirDataset:
    """The one BEIR data set in a folder, in a zip, or with an ir_datasets id.

    Raises InputError if there is none, or if there are several.
    """
    return only_one(open_beir_group(source, skip_invalid=skip_invalid), source)


def only_one(datasets: Sequence[BeirDataset], source: str | Path) -> BeirDataset:
    """The data set that ``source`` names; InputError if there are several."""
    if len(datasets) > 1:
        names = ", ".join(dataset.name for dataset in datasets)
        raise InputError.at(source, None, f"several data sets in it ({names}); name one")
    return datasets[0]


def open_beir_group(source: str | Path, *, skip_invalid: bool = False) -> list[BeirDataset]:
    """All BEIR data sets in a folder or zip, or with an id: usually one; CQADupStack has twelve."""
    found = find_beir(source)
    if isinstance(found, str):
        names = members_of(found) or [found]
        return [IrdsDataset(name, skip_invalid=skip_invalid) for name in names]
    return [FolderDataset(place, skip_invalid=skip_invalid) for place in found]


def real_qrels(dataset: BeirDataset, split: str) -> RealQrels:
    """The judgements of a split; in files, grades may be fractions."""
    read = getattr(dataset, "real_qrels", dataset.qrels)
    return cast(RealQrels, read(split))


def all_topics(dataset: BeirDataset, split: str) -> list[Query]:
    """The topics of a split, also those without judgements, if these are known.

    ir_datasets has topics for each split, and a data set of one's own has one split. BEIR's files
    have one list for all splits, of which only the judged ones are known to belong to a split.
    """
    judged = dataset.queries(split)  # which checks them, too
    every = getattr(dataset, "all_queries", None)
    return judged if every is None else cast(list[Query], every(split))


def drops_self_matches(name: str) -> bool:
    """Whether the data set's name contains a word of ``SELF_MATCHING``."""
    return any(word in SELF_MATCHING for word in re.split(r"[^a-z]+", name.lower()))


def calls_to_drop_self(source: str | Path) -> bool:
    """Whether the topics or judgements that ``source`` names belong to one of ``SELF_MATCHING``.

    A BEIR folder or zip and an ir_datasets id are recognised by the data set's name, a file in
    BEIR's layout (``queries.jsonl``, ``qrels/test.tsv``) by the name of its folder. Other files are
    taken not to belong to one.
    """
    text = str(source)
    path = Path(text.removeprefix(IRDS_PREFIX))
    if text.startswith(IRDS_PREFIX) or not path.exists():
        is_file = path.is_absolute() or path.suffix != ""  # one that was there once
        return drops_self_matches(path.name if is_file else str(path))
    if path.is_dir() or path.suffix.lower() == ".zip":
        try:
            return all(dataset.drops_self_matches for dataset in open_beir_group(text))
        except InputError:
            return False
    parent = path.absolute().parent
    if path.name.startswith("queries.jsonl"):
        return drops_self_matches(parent.name)
    return parent.name == "qrels" and drops_self_matches(parent.parent.name)


def check_split(split: str, dataset: BeirDataset) -> None:
    """Raise InputError if the data set has no such split; the message lists the splits it has."""
    splits = dataset.splits()
    if split not in splits:
        available = ", ".join(splits) if splits else "none"
        raise InputError.at(
            dataset.source, None, f"no split {split!r} in it; available: {available}"
        )


def keep_judged(
    queries: list[Query], qrels: Mapping[str, Mapping[str, float]], source: str, split: str
) -> list[Query]:
    """The judged topics. Raises InputError if ``queries`` lacks a topic that ``qrels`` judges."""
    judged = [query for query in queries if query.id in qrels]
    if len(judged) < len(qrels):
        known = {query.id for query in queries}
        missing = [topic for topic in qrels if topic not in known]
        raise InputError.at(
            source,
            None,
            f"{counted(len(missing), 'topic')} of split {split!r} "
            f"{'has' if len(missing) == 1 else 'have'} judgements but no text, "
            f"{missing[0]!r} first; {why_unjudged(qrels, known)}",
        )
    return judged
