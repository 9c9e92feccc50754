"""How far a stranger must read: the calls of a query. Which room imports which is for lint."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import dupmae_toolkit
from dupmae_toolkit import HybridIndex
from tests.index_support import documents_of
from tests.support import HashingEncoder

HOME = Path(dupmae_toolkit.__file__).resolve().parent


@pytest.fixture
def index(tmp_path):
    built = HybridIndex.build(tmp_path / "index", documents_of(60), HashingEncoder())
    yield built
    built.close()


@pytest.mark.java
@pytest.mark.parametrize(("plain", "most"), [(True, 80), (False, 110)])
def test_a_hybrid_query_makes_few_calls_9_deep(index, plain, most):
    for _ in range(3):  # what the first queries open or make is no part of it
        index.search("title 3 w17", plain=plain)
    calls: list[str] = []
    depth = deepest = 0

    def count(frame, event, _):
        nonlocal depth, deepest
        file = Path(frame.f_code.co_filename).resolve()
        if event in ("call", "return") and HOME in file.parents:
            depth += 1 if event == "call" else -1
            deepest = max(deepest, depth)
            if event == "call":
                calls.append(f"{file.relative_to(HOME)}:{frame.f_code.co_name}")

    sys.setprofile(count)
    try:
        hits = index.search("title 3 w17", k=10, plain=plain)
    finally:
        sys.setprofile(None)
    assert len(hits) == 10
    assert 40 < len(calls) <= most, calls
    assert 5 < deepest <= 9
