"""The built-in encoder finds as much of the demonstration as demo_figures.json and the README say.

Encoding all docstrings takes minutes on a busy machine, so what is measured here is the judged ones
and every twentieth of the others, which have figures of their own in that file.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from dupmae_toolkit.demo import demonstration
from dupmae_toolkit.demo.demonstration import run_demo
from dupmae_toolkit.demo.questions import load_questions
from tests.demo_support import demo_documents

FIGURES = json.loads(Path(__file__).with_name("demo_figures.json").read_text("utf-8"))
README = Path(__file__).resolve().parents[1] / "README.md"
#: How modes are called on the screen.
NAMES = {"lucene-bm25": "Lucene's BM25"}


@pytest.mark.java
@pytest.mark.slow
def test_a_part_of_the_demonstration_gives_its_figures(tmp_path, monkeypatch):
    documents = demo_documents()
    qrels = load_questions({document.id for document in documents}).qrels
    judged = {name for grades in qrels.values() for name in grades}
    kept = [d for n, d in enumerate(documents) if d.id in judged or n % 20 == 0]
    monkeypatch.setattr(demonstration, "read_docstrings", lambda progress: kept)
    monkeypatch.setattr(demonstration, "_TIMED", 1)
    found = run_demo(tmp_path / "demo")
    # Other versions of Python have other docstrings.
    same = sys.version_info[:2] == tuple(map(int, FIGURES["python"].split(".")))
    tolerance = FIGURES["tolerance"] if same else FIGURES["tolerance_other_python"]
    assert found.modes.keys() == FIGURES["part"].keys()
    for mode, expected in FIGURES["part"].items():
        assert found.modes[mode].measures == pytest.approx(expected, abs=tolerance), mode
    if same:
        assert len(kept) == pytest.approx(FIGURES["documents"]["part"], rel=0.02)


def test_the_readme_shows_the_figures_of_all_documents():
    text = README.read_text("utf-8")
    _, _, rest = text.partition("\nmode           nDCG@10")
    table, _, _ = rest.partition("\n\n")
    for mode, expected in FIGURES["all"].items():
        name = NAMES.get(mode, mode)
        (row,) = re.findall(rf"^{name} +([\d.]+) +([\d.]+) +([\d.]+) +[\d.]+$", table, re.M)
        assert [float(value) for value in row] == pytest.approx(
            [expected[measure] for measure in ("nDCG@10", "R@100", "RR@10")], abs=0.0006
        ), mode
    assert f"{FIGURES['documents']['all']:,} of {FIGURES['documents']['all']:,} documents" in text
