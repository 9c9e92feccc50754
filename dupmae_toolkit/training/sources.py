"""A recipe's sources of training data, and its teachers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training.recipe_checks import at_least, one_of, typed

if TYPE_CHECKING:
    from dupmae_toolkit.collection.fields import Columns

#: What a fine-tuning source makes of its file: pairs out of single texts, or groups.
TEXT_KINDS = ("title", "sentence", "phrase")
GROUP_KINDS = ("groups", "pairs", "triples", "id-triples", "qrels", "beir")
PAIR_KINDS = (*TEXT_KINDS, *GROUP_KINDS)
TEACHER_KINDS = ("dense", "lexical", "bm25")
TEACHER_POOLINGS = ("mean", "cls")


@dataclass(slots=True)
class DataSource:
    """One source of training texts.

    path: JSON lines (``title``, ``text``), a BEIR folder or zip, or any other corpus.
    kind: of fine-tuning pairs: ``title`` (title against text), ``sentence`` (a sentence against the
        rest of its own text, title included), ``phrase`` (a few words in a row against the whole
        text), ``beir`` (the judgements of ``split``), ``qrels`` (a file of judgements, with
        ``queries`` and ``corpus``), ``groups`` (JSON lines with positives, negatives and optional
        scores), ``pairs`` and ``triples`` (TSV or JSON lines of
        query, positive, negative), ``id-triples`` (the same as ids, with ``queries`` and
        ``corpus``). Pre-training reads title and text, and ignores the kind.
    weight: how often batches come from it, relative to the other sources.
    queries, corpus: where the ids of ``qrels`` and ``id-triples`` are looked up.
    words: of pairs made out of single texts, only the first so many words of each text; 0: all.
    id, title, text: the names of the fields in the corpus; "": the usual ones, see
        ``collection.fields``.
    teacher_scales: the scales of the recipe's teachers, in their order, for batches of this source;
        empty: the scales that the teachers have.
    """

    path: str
    kind: str = "title"
    weight: float = 1.0
    split: str = "train"
    queries: str = ""
    corpus: str = ""
    words: int = 0
    id: str = ""
    title: str = ""
    text: str = ""
    teacher_scales: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        at_least(self, 0, "weight", "words")
        self.teacher_scales = _scales(self.path, self.teacher_scales)
        if self.words and self.kind not in TEXT_KINDS:
            raise InputError(
                f"{self.path}: words cuts the texts of kind {', '.join(TEXT_KINDS)}, not of kind "
                f"{self.kind!r}"
            )

    def columns(self) -> Columns:
        """The fields to read."""
        # Recipes are listed without numpy, which reading needs.
        from dupmae_toolkit.collection.fields import Columns

        return Columns(self.id or None, self.title or None, self.text or None)


def _scales(path: str, value: object) -> list[float]:
    """``value`` as a list of scales, not all 0; or as an empty one."""
    try:
        given = value if isinstance(value, list) else [value]
        scales: list[float] = [typed("teacher_scales", scale, "float") for scale in given]
    except InputError:
        scales = [math.nan]
    if not isinstance(value, list) or not all(0 <= scale < math.inf for scale in scales):
        raise InputError(
            f"{path}: teacher_scales is {value!r}; give a number of 0 or more for each teacher"
        )
    if scales and not any(scales):
        raise InputError(
            f"{path}: teacher_scales is {value!r}; one scale above 0 is needed, or the losses on "
            "the teachers' scores would make all documents equal"
        )
    return scales


@dataclass(slots=True)
class TeacherSource:
    """One teacher of a recipe.

    kind: ``dense`` (cosine of two vectors), ``lexical`` (a SPLADE-like masked LM: dot product of
        log(1 + ReLU) of the pooled vocabulary logits), ``bm25`` (on the student's tokens, with the
        document frequencies of the training texts; it needs no model).
    model: a folder, a hub id, or ``builtin``. pooling: of a dense teacher, ``mean`` or ``cls``.
    query_prefix, prefix: what a dense teacher reads before a query and before a document.
    scale: factor of its scores in the sum of all teachers' scores, unless a source sets another; 0:
        it is only imitated.
    vector: a dense teacher's share in the vector that the loss ``teacher_vector`` imitates, see
        ``joined_vectors``; if all are 0, the first dense teacher's own vector is imitated.
    """

    kind: str = "dense"
    model: str = ""
    pooling: str = "mean"
    scale: float = 20.0
    query_prefix: str = ""
    prefix: str = ""
    vector: float = 0.0

    def __post_init__(self) -> None:
        one_of(self, "kind", TEACHER_KINDS)
        one_of(self, "pooling", TEACHER_POOLINGS)
        at_least(self, 0, "scale", "vector")
        if bool(self.model) != (self.kind != "bm25"):
            raise InputError(
                f"a teacher of kind {self.kind!r} {'takes no' if self.model else 'needs a'} model"
            )
        if self.kind != "dense" and (self.query_prefix or self.prefix):
            raise InputError(f"a teacher of kind {self.kind!r} takes no prefixes")
        if self.kind != "dense" and self.vector:
            raise InputError(f"a teacher of kind {self.kind!r} has no dense vector to imitate")
