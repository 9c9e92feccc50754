"""What a study varies and how it measures; `study_file` reads it from YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from dupmae_toolkit.collection.fields import ANY_COLUMNS, Columns
from dupmae_toolkit.collection.own import check_both
from dupmae_toolkit.collection.passages import Passages, passages_of
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.development import is_test
from dupmae_toolkit.evaluation.experiment import BASELINE
from dupmae_toolkit.evaluation.measures import DEFAULT_MEASURES
from dupmae_toolkit.model.pair_names import labelled_folders
from dupmae_toolkit.search.answers import AGGREGATES, MODES, Request
from dupmae_toolkit.search.fusion import Fusion
from dupmae_toolkit.training.recipe_checks import at_least, one_of

#: What a file says where a study would choose.
NO_CHOICE = "a study measures and never chooses; `dupmae choose` does, on development topics"
#: The column of the means over collections.
MEAN = "mean"
KINDS = ("beir", "demonstration")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
#: Cases of Windows' devices, which no file can be named after.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)


def check_name(name: Any) -> None:
    """Refuse a name that cannot stand in the names of files, on any system."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or _DEVICES.fullmatch(name):
        raise InputError(
            f"the name {name!r}: use up to 40 letters, digits, - and _, the first no sign"
            + ("" if isinstance(name, str) else "; put it in quotes")
        )


@dataclass(frozen=True, slots=True)
class StudyEncoder:
    """model: as for ``load_encoder``. max_length: tokens to keep of each document; 0: the model's.

    dense: of a masked LM whose files name no dense vector, ``cls`` or ``none``; "": as they say.
    """

    name: str
    model: str
    max_length: int = 0
    dense: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.model:
            raise InputError("model is empty; name an encoder")
        at_least(self, 0, "max_length")
        one_of(self, "dense", ("", "cls", "none"))


@dataclass(frozen=True, slots=True)
class StudyIndex:
    """faiss: a factory string. bm25: whether the words of the texts are indexed.

    passages, overlap: tokens of the passages that documents are ranked by; 0: they are not
    cut. overlap: None: a quarter of passages. aggregate: of passages; "": ``max``.
    """

    name: str
    faiss: str = "Flat"
    bm25: bool = True
    passages: int = 0
    overlap: int | None = None
    aggregate: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        at_least(self, 0, "passages")
        one_of(self, "aggregate", ("", *AGGREGATES))
        if self.aggregate and not self.passages:
            raise InputError("aggregate goes with passages; name their size too")
        _ = self.cut

    @property
    def cut(self) -> Passages | None:
        return passages_of(self.passages or None, self.overlap)


@dataclass(frozen=True, slots=True)
class StudyScore:
    """A ranking of an index. fusion, norm, weights, rrf_k, exact: of mode hybrid.

    plain: the plain score, of modes hybrid and lexical. weights: of the parts; (): the encoder's.
    idf_power: None: the index's. encoders, indexes: those it is made with; (): all.
    """

    name: str
    mode: str = "hybrid"
    plain: bool = False
    fusion: str = "sum"
    norm: str = ""
    weights: tuple[float, ...] = ()
    rrf_k: float = 60.0
    idf_power: float | None = None
    exact: bool = False
    encoders: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.name.casefold() == BASELINE:
            raise InputError(f"{BASELINE} is the name of Lucene's own BM25 (lucene_bm25: true)")
        one_of(self, "mode", MODES)
        given = {"fusion": "sum", "norm": "", "weights": (), "rrf_k": 60.0, "exact": False}
        wrong = [key for key, usual in given.items() if getattr(self, key) != usual]
        if self.mode != "hybrid" and wrong:
            raise InputError(f"{wrong[0]} is for mode hybrid, not for {self.mode}")
        if self.mode not in ("hybrid", "lexical") and (self.plain or self.idf_power is not None):
            what = "plain" if self.plain else "idf_power"
            raise InputError(f"{what} is for modes hybrid and lexical, not for {self.mode}")
        if self.plain and self.idf_power:
            raise InputError("the plain score has no frequencies; leave out plain or idf_power")
        if self.rrf_k != 60.0 and self.fusion != "rrf":
            raise InputError("rrf_k is for fusion rrf")
        parts = tuple(MODES[1 : 1 + len(self.weights)])  # as many as have weights
        if self.mode == "hybrid":  # for its checks: what an index has is not known yet
            Request(10, "hybrid", self.how, exact=self.exact, parts=parts)
        if self.idf_power is not None:
            Request(10, "lexical", idf_power=self.idf_power)

    @property
    def how(self) -> Fusion:
        return Fusion(self.fusion, self.weights or None, self.norm or None, rrf_k=self.rrf_k)


@dataclass(frozen=True, slots=True)
class StudyCollection:
    """A set of topics. path: a BEIR folder or zip, or an id of ir_datasets, with a split.

    queries, qrels: the topics and judgements of a corpus in any format, which ``path`` then names;
    ``split`` is what they are called. id, title, text: the names of its fields. kind: ``beir``, or
    ``demonstration``, whose questions come with the package.
    """

    name: str
    path: str = ""
    split: str = ""
    kind: str = "beir"
    skip_invalid: bool = False
    queries: str = ""
    qrels: str = ""
    id: str = ""
    title: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.name == MEAN:
            raise InputError(f"{MEAN} is the name of the column of means")
        one_of(self, "kind", KINDS)
        if self.kind == "beir" and not self.path:
            raise InputError("the key 'path' is missing: a BEIR folder or zip, or an id")
        check_both(self.queries, self.qrels)
        if self.columns != ANY_COLUMNS and not self.queries:
            raise InputError("id, title and text are for a corpus with queries and qrels")
        given = self.path or self.queries or self.split or self.skip_invalid
        if self.kind != "beir" and given:
            raise InputError(f"kind {self.kind} has nothing but its kind")

    @property
    def columns(self) -> Columns:
        return Columns(self.id or None, self.title or None, self.text or None)

    @property
    def judged_split(self) -> str:
        return self.split or ("test" if self.kind == "beir" else "development")

    @property
    def tests(self) -> bool:
        """Whether its topics are a test."""
        return is_test(self.judged_split)


@dataclass(frozen=True, slots=True)
class Study:
    """See the modules of this folder. baseline: the label of a run; "": `grid.Grid` names it.

    lucene_bm25: whether Lucene's own BM25 is run, too. k: hits for each topic. path, sha256: of
    its file, the hash hexadecimal.
    """

    encoders: tuple[StudyEncoder, ...]
    collections: tuple[StudyCollection, ...]
    scores: tuple[StudyScore, ...]
    indexes: tuple[StudyIndex, ...] = (StudyIndex("flat"),)
    baseline: str = ""
    lucene_bm25: bool = False
    measures: tuple[str, ...] = DEFAULT_MEASURES
    k: int = 1000
    path: str = ""
    sha256: str = ""

    def reads(self) -> dict[str, str]:
        """The files and folders that a study reads, for a card: what they are, and their path."""
        found = {"STUDY": self.path}
        for one in self.collections:
            named = {"": one.path, " queries": one.queries, " qrels": one.qrels}
            found |= {f"collection {one.name}{what}": path for what, path in named.items() if path}
        for each in self.encoders:
            found |= labelled_folders(f"encoder {each.name}", each.model)
        return found
