"""Random documents with metadata, random filters and pages, and what brute force says of them.

``python -m tests.filter_cases 10000`` compares so many cases; the tests compare fewer.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit import Document, HybridIndex, Query
from dupmae_toolkit.collection.passages import Passages
from dupmae_toolkit.search import passages, selection
from tests.brute import BruteForce, BruteForcePassages
from tests.support import HashingEncoder

ENCODER = HashingEncoder(size=256, dim=16)
WORDS = [f"word{number}" for number in range(60)]
DEPTS = ["sales", "legal", "it", "Üben", "sal", ""]
TAGS = ["a", "b", "c", 1, 2.5, True]
ISO = ["2020-01-05", "2020-01-05T12:00:00", "2020-01-05T12:00:00+02:00", "2021-03-01"]
TIMES = [
    date(2020, 1, 5),
    datetime(2020, 1, 5, 12),
    datetime(2020, 1, 5, 12, tzinfo=timezone(timedelta(hours=2))),
    datetime(2020, 1, 5, tzinfo=UTC),
    date(2021, 3, 1),
]
NUMBERS = [0, 1, -1, 2, 2.5, -0.0, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, 1e19]
#: For each field, the values that documents have; every filter's literals are of these kinds.
FIELDS: dict[str, list[Any]] = {
    "year": [2000, 2001, 2002, 2010, 2020.5, 2020],
    "dept": DEPTS,
    "tags": [[], ["a"], ["b", "a"], ["c", 1], [2.5, None], [True, {"x": 1}]],
    "when": TIMES,
    "draft": [True, False],
    "mixed up": [*NUMBERS, "1", "", True, ["1"], [], {"a": 1}, TIMES[0], 2**70],
}
#: Documents that are never deleted, so that every kind of value is always there.
ANCHORS = max(map(len, FIELDS.values()))

Unknown = None  #: The third truth value.


def documents_of(count: int, seed: int, long: bool = False) -> list[Document]:
    """long: some texts have many sentences, and ids look like those of passages."""
    dice = random.Random(seed)
    names = [f"d{number}" for number in range(count)]
    if long:
        ends = ["", "", " b", "#00001", "#", "#00000#00002", "é"]
        names = [f"d{number // len(ends)}{ends[number % len(ends)]}" for number in range(count)]
        names = list(dict.fromkeys(names))
        names += [f"e{number}" for number in range(count - len(names))]
    dice.shuffle(names)
    documents = []
    for number, name in enumerate(names):
        text = " ".join(dice.choices(WORDS, k=dice.randint(3, 12)))
        if long and dice.random() < 0.4:
            more = dice.choices(
                [*WORDS, *(f"{word}." for word in WORDS[:20])], k=dice.choice([30, 90])
            )
            text = " ".join([text, *more])
        if number % 9 == 0:
            text = "the very same words" + " and the very same words" * 9 * (long and number % 2)
        metadata = {}
        for field, values in FIELDS.items():
            if number < ANCHORS:
                metadata[field] = values[number % len(values)]
            elif dice.random() < 0.7:
                metadata[field] = dice.choice([*values, None])
        documents.append(Document(name, f"Title {number % 5}", text, metadata))
    return documents


# Filters as trees of tuples: text for the tool, truth for the oracle.


def random_filter(dice: random.Random, depth: int = 3) -> tuple[Any, ...]:
    kind = dice.random()
    if depth and kind < 0.25:
        parts = [random_filter(dice, depth - 1) for _ in range(dice.randint(2, 3))]
        return dice.choice(["and", "or"]), *parts
    if depth and kind < 0.4:
        return "not", random_filter(dice, depth - 1)
    field = dice.choice(list(FIELDS))
    if dice.random() < 0.12:
        return "missing", field
    if field == "draft":
        return dice.choice([("true", field), ("in", field, (dice.choice([True, False]),))])
    if field == "tags":
        return "contains", field, dice.choice(TAGS)
    pool: list[Any] = {
        "year": [1999, 2001, 2010, 2020, 2020.5, 2020.25, 1e300, -(10**400)],
        "dept": [*DEPTS, "s", "le", "zz"],
        "when": ISO,
        "mixed up": [*NUMBERS, "1", "", True, *ISO[:1], 0.5, -(2**63), 2**64],
    }[field]
    value = dice.choice(pool)
    if isinstance(value, str) and field != "when" and dice.random() < 0.4:
        return dice.choice(["contains", "startswith", "endswith"]), field, value
    if isinstance(value, bool) or dice.random() < 0.5:
        return "in", field, tuple(dice.choices(pool, k=dice.randint(1, 3)))
    return dice.choice(["<", "<=", ">", ">="]), field, value


def text_of(tree: tuple[Any, ...], dice: random.Random) -> str:
    operator, *rest = tree
    if operator in ("and", "or"):
        return "(" + f" {operator} ".join(text_of(part, dice) for part in rest) + ")"
    if operator == "not":
        return f"(not {text_of(rest[0], dice)})"
    field, *values = rest
    plain = field.isidentifier() and dice.random() < 0.8
    name = field if plain else f"field({field!r})"
    if operator == "missing":
        return dice.choice([f"missing({name})", f"{name} is None"])
    if operator == "true":
        return name
    if operator == "in":
        if len(values[0]) == 1 and dice.random() < 0.8:
            (value,) = values[0]
            return dice.choice([f"{name} == {value!r}", f"{value!r} == {name}"])
        return f"{name} in {values[0]!r}"
    if operator == "contains":
        return dice.choice([f"{values[0]!r} in {name}", f"contains({name}, {values[0]!r})"])
    if operator in ("startswith", "endswith"):
        return f"{operator}({name}, {values[0]!r})"
    turned = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}[operator]
    return dice.choice([f"{name} {operator} {values[0]!r}", f"{values[0]!r} {turned} {name}"])


def truth(tree: tuple[Any, ...], metadata: dict[str, Any]) -> bool | None:
    """What a filter says of a document: true, false or unknown."""
    operator, *rest = tree
    if operator in ("and", "or"):
        found = [truth(part, metadata) for part in rest]
        decisive = operator == "or"
        if decisive in found:
            return decisive
        return Unknown if Unknown in found else not decisive
    if operator == "not":
        found_one = truth(rest[0], metadata)
        return Unknown if found_one is Unknown else not found_one
    value = metadata.get(rest[0])
    if operator == "missing":
        return value is None
    if operator == "true":
        return value if isinstance(value, bool) else Unknown
    if operator == "contains":
        if isinstance(value, list):
            return any(comparable(item, rest[1]) and same(item, rest[1]) for item in value)
        both = isinstance(value, str) and isinstance(rest[1], str)
        return rest[1] in value if both else Unknown
    if operator in ("startswith", "endswith"):
        return getattr(value, operator)(rest[1]) if isinstance(value, str) else Unknown
    if operator == "in":
        fitting = [each for each in rest[1] if comparable(value, each)]
        return any(same(value, each) for each in fitting) if fitting else Unknown
    if not comparable(value, rest[1]):
        return Unknown
    left, right = ordered(value), ordered(rest[1], isinstance(value, date))
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[
        operator
    ]


def comparable(value: Any, literal: Any) -> bool:
    if isinstance(value, date):
        return isinstance(literal, str) and bool(literal[:4].isdigit() and "-" in literal)
    if isinstance(value, bool) or isinstance(literal, bool):
        return isinstance(value, bool) and isinstance(literal, bool)
    if isinstance(value, int | float) and isinstance(literal, int | float):
        return not isinstance(value, int) or -(2**63) <= value < 2**63
    return isinstance(value, str) and isinstance(literal, str)


def same(value: Any, literal: Any) -> bool:
    return bool(ordered(value) == ordered(literal, isinstance(value, date)))


def ordered(value: Any, as_time: bool = False) -> Any:
    """A value that Python's own comparison orders as filters do."""
    if as_time:
        value = datetime.fromisoformat(value)
    if isinstance(value, date):
        moment = value if isinstance(value, datetime) else datetime(*value.timetuple()[:3])
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return value


# Cases.


@dataclass(frozen=True)
class Case:
    tree: tuple[Any, ...] | None
    filter: str | None
    among: tuple[str, ...] | None
    mode: str
    text: str
    k: int
    offset: int | None
    aggregate: str | None = None


class Searched:
    """An index, opened in one way, and brute force over its documents."""

    def __init__(self, name: str, index: HybridIndex, documents: list[Document]) -> None:
        self.name, self.index, self.documents = name, index, documents
        kind = BruteForce if index.manifest.passages is None else BruteForcePassages
        self.brute = kind(documents, ENCODER, index.manifest)
        self._ranked: dict[tuple[str, str, str | None], list[tuple[str, float]]] = {}
        self._metadata = {document.id: document.metadata for document in documents}

    def expected(self, case: Case) -> list[tuple[str, float]]:
        key = case.text, case.mode, case.aggregate
        if key not in self._ranked:
            how = {"aggregate": case.aggregate} if case.aggregate else {}
            self._ranked[key] = self.brute.ranked(case.text, case.mode, len(self.documents), **how)
        found = self._ranked[key]
        if case.tree is not None:
            found = [each for each in found if truth(case.tree, self._metadata[each[0]])]
        if case.among is not None:
            found = [each for each in found if each[0] in case.among]
        start = case.offset or 0
        return found[start : start + case.k]

    def found(self, case: Case) -> list[tuple[str, float]]:
        run = self.index.search_batch(
            [Query("q", case.text)],
            case.k,
            case.mode,
            exact=case.offset is None,
            filter=case.filter,
            among=case.among,
            offset=case.offset,
            aggregate=case.aggregate,
        )
        assert run.metadata["certificate"]["certified"] == 1, (self.name, case)
        ranking = run["q"]
        assert ranking.offset == (case.offset or 0)
        return list(zip(ranking.ids, ranking.scores.tolist(), strict=True))

    def cases(self, dice: random.Random) -> Iterator[Case]:
        names = [document.id for document in self.documents]
        texts = [" ".join(random.Random(n).choices(WORDS, k=4)) for n in range(8)]
        texts += ["the same words", "unheard-of"]
        while True:
            tree = random_filter(dice) if dice.random() < 0.9 else None
            among = None
            if dice.random() < 0.2:
                among = (*dice.sample(names, dice.randint(0, len(names) // 2)), "nowhere")
            for _ in range(3):
                yield Case(
                    tree,
                    None if tree is None else text_of(tree, dice),
                    among,
                    dice.choice(["hybrid", "dense", "lexical", "bm25"]),
                    dice.choice(texts),
                    dice.choice([1, 2, 5, 20, 1000]),
                    dice.choice([None, 0, 1, 3, 10, 200]),
                    dice.choice(["max", "sum3"]) if self.index.manifest.passages else None,
                )


#: How an index is built and opened: FAISS spec, postings in memory, documents of a segment, and
#: whether small selections are copied; and, for passages, how texts are cut.
KINDS: dict[str, tuple[Any, ...]] = {
    "Flat, memory": ("Flat", 10**9, 10**6, True),
    "Flat, memory, masked": ("Flat", 10**9, 10**6, False),
    "Flat, Lucene, masked": ("Flat", 0, 90, False),
    "HNSW8, memory, masked": ("HNSW8", 10**9, 90, False),
    "HNSW8, Lucene": ("HNSW8", 0, 10**6, True),
    "HNSW8, Lucene, masked": ("HNSW8", 0, 90, False),
    "IVF4,Flat, memory, masked": ("IVF4,Flat", 10**9, 10**6, False),
    "Flat, memory, passages": ("Flat", 10**9, 10**6, True, Passages(12, 4)),
    "Flat, Lucene, masked, passages": ("Flat", 0, 300, False, Passages(12, 4)),
    "HNSW8, memory, masked, passages": ("HNSW8", 10**9, 300, False, Passages(12, 0)),
    "HNSW8, Lucene, passages": ("HNSW8", 0, 10**6, True, Passages(12, 11)),
}


def searched(folder: Path, seed: int, kind: str) -> Searched:
    """An index that was built, added to, and deleted from."""
    spec, postings, size, _, *cut = KINDS[kind]
    documents = documents_of(260, seed, bool(cut))
    path = folder / f"{seed}-{spec}-{size}{'-'.join(map(str, cut))}"
    cutting = {"passages": cut[0].size, "overlap": cut[0].overlap} if cut else {}
    first, later = documents[:200], documents[200:]
    gone = {d.id for d in random.Random(seed).sample(documents[ANCHORS:], 40)}
    if not path.exists():
        HybridIndex.build(path, first, ENCODER, faiss=spec, segment_size=size, **cutting).close()
        with HybridIndex.open(path, ENCODER) as index:
            index.add(later[:30])
            index.add(documents[ANCHORS : ANCHORS + 5], replace=True)
            index.add(later[30:])
            index.delete(gone)
    index = HybridIndex.open(path, ENCODER, max_postings=postings)
    return Searched(kind, index, [d for d in documents if d.id not in gone])


def compare(each: Searched, count: int, seed: int) -> int:
    """How many of ``count`` random cases found anything; AssertionError for one that differs."""
    few, first, dice, some = selection.FEW, passages._FIRST, random.Random(seed), 0
    if not KINDS[each.name][3]:
        selection.FEW = 0
        # So few passages at first that the answers seldom stand: bounds and ties must tell.
        passages._FIRST = dict.fromkeys(first, (1, 1))
    try:
        for case, _ in zip(each.cases(dice), range(count), strict=False):
            expected, found = each.expected(case), each.found(case)
            assert found == expected, (each.name, seed, case, found[:5], expected[:5])
            some += bool(expected)
    finally:
        selection.FEW, passages._FIRST = few, first
    return some


def main(count: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="dupmae-filters-"))
    start, rounds = time.perf_counter(), 4
    try:
        each_count = -(-count // (len(KINDS) * rounds))
        some = 0
        for seed in range(rounds):
            for kind in KINDS:
                one = searched(folder, seed, kind)
                some += compare(one, each_count, seed * 1000 + len(kind))
                one.index.close()
                print(kind, seed, f"{time.perf_counter() - start:.0f} s", flush=True)
        total = each_count * len(KINDS) * rounds
        print(f"{total:,} cases equal brute force; {some:,} of them found something")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
