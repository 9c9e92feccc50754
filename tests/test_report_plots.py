"""The plots of reports: well-formed SVG whose marks stand where the numbers say, in any colours."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import pytrec_eval

from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.evaluation.report import plots, svg
from dupmae_toolkit.evaluation.report.comparing import curve_of, drawings, drawn, measured
from dupmae_toolkit.records import Ranking, Run
from tests.cli_support import run

HOSTILE = '</title><script>alert("1")</script> & \x00\x1b[31m\u202e\ud800 \' é日 \u2028x'
NAMESPACE = "{http://www.w3.org/2000/svg}"


def parsed(drawing: svg.Drawing) -> ET.Element:
    return ET.fromstring(drawing.svg())


def shapes(root: ET.Element, tag: str) -> list[ET.Element]:
    return list(root.iter(NAMESPACE + tag))


def places(path: ET.Element) -> np.ndarray:
    return np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.attrib["d"]), float)


# Text.


def test_hostile_text_is_shown_and_does_nothing():
    rows = [plots.Spread(HOSTILE, 0.5, 0.4, 0.6), plots.Spread("b" * 500, 0.1, None, None)]
    root = parsed(plots.intervals("x", HOSTILE, HOSTILE, rows))
    assert {each.tag.removeprefix(NAMESPACE) for each in root.iter()} <= {
        *("svg", "title", "desc", "line", "path", "text", "circle"),
    }
    title = root.find(f"{NAMESPACE}title")
    assert title is not None
    assert title.text == (
        '</title><script>alert("1")</script> & \\x00\\x1b[31m\\u202e\\ud800 \' é日 \\u2028x'
    )
    cut = {
        whole: "".join(each.itertext()).removeprefix(whole)
        for each in shapes(root, "text")
        if (whole := each.findtext(f"{NAMESPACE}title"))
    }
    # A label that is cut has all of itself in a title.
    assert list(cut) == [title.text, "b" * 500]
    for whole, visible in cut.items():
        first, _, last = visible.partition("…")
        assert len(visible) <= 22
        assert len(first) > len(last) > 0
        assert whole.startswith(first)
        assert whole.endswith(last)


@pytest.mark.parametrize(
    ("text", "most", "short"),
    [("abc", 3, "abc"), ("abcdef", 5, "abc…f"), ("", 4, ""), ("a" * 99 + "z", 22, "a" * 14 + "…")],
)
def test_long_texts_keep_their_beginning_and_end(text, most, short):
    found = svg.shortened(text, most)
    assert len(found) <= most
    assert found.startswith(short)
    assert found[-1:] == text[-1:]


def test_scripts_that_need_joiners_keep_them():
    assert svg.shown("می\u200cخواهم") == "می\u200cخواهم"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.1, 0.1, [-0.1, -0.05, 0, 0.05, 0.1]),
        (3, 3, [3]),
        (0.61, 0.79, [0.65, 0.7, 0.75]),
        (-1e-9, 1e-9, [-1e-9, -5e-10, 0, 5e-10, 1e-9]),
        (0, 1e9, [0, 2e8, 4e8, 6e8, 8e8, 1e9]),
    ],
)
def test_ticks_are_round_and_within(low, high, expected):
    assert svg.ticks(low, high) == pytest.approx(expected, abs=1e-11)


# Places.


def test_intervals_stand_where_their_numbers_are():
    rows = [
        plots.Spread("a", 0.2, 0.1, 0.4),
        plots.Spread("b", 0.3, 0.25, 0.35),
        plots.Spread("c", 0.4, None, None),
    ]
    root = parsed(plots.intervals("p", "t", "nDCG", rows))
    lines = [places(path) for path in shapes(root, "path") if "l" in path.attrib["class"]]
    spans = [line for line in lines if line[0, 1] == line[1, 1]]
    assert len(spans) == 2  # the third has no interval
    ends = np.array([span[:, 0] for span in spans]).ravel()
    slope, start = np.polyfit([0.1, 0.4], ends[:2], 1)
    assert ends[2:] == pytest.approx(start + slope * np.array([0.25, 0.35]), abs=0.02)
    (circle,) = shapes(root, "circle")
    assert float(circle.attrib["cx"]) == pytest.approx(start + slope * 0.2, abs=0.02)
    described = root.findtext(f"{NAMESPACE}desc")
    assert (
        described == "nDCG. a: 0.2000 (0.1000 to 0.4000); b: 0.3000 (0.2500 to 0.3500); c: 0.4000."
    )


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [1.0], [-1.0, -0.5]])
def test_intervals_of_equal_or_one_sided_values_are_drawn(values):
    rows = [plots.Spread(str(n), v, v, v) for n, v in enumerate(values)]
    root = parsed(plots.intervals("p", "t", "d", rows, zero=True))
    numbers = re.findall(r'[xy12cd]+="(-?[\d.]+|nan|inf)"', ET.tostring(root, "unicode"))
    assert all(0 <= float(n) <= svg.WIDTH for n in numbers)


@pytest.mark.parametrize("count", [1, 7, 5000])
def test_bars_of_topics_have_the_sizes_of_their_differences(count):
    draw = np.random.default_rng(count)
    values = {f"q{n}": float(draw.integers(-4, 5)) / 8 for n in range(count)}
    root = parsed(plots.differences("p", "t", "nDCG", values))
    bars = {path.attrib["class"]: places(path) for path in shapes(root, "path")}
    heights = []
    for points in bars.values():
        for corner in points.reshape(-1, 4, 2):
            heights.append(corner[0, 1] - corner[1, 1])
    expected = sorted((v for v in values.values() if v), reverse=True)
    assert len(heights) == len(expected)
    if expected:
        largest = max(map(abs, expected))
        scaled = np.array(heights) / (190 / 2) * largest
        assert scaled == pytest.approx(np.array(expected), abs=1e-3)
    assert set(bars) == ({"f0"} if max(values.values()) > 0 else set()) | (
        {"f1"} if min(values.values()) < 0 else set()
    )
    better = sum(v > 0 for v in values.values())
    assert f"{better:,} better" in (root.findtext(f"{NAMESPACE}desc") or "")


def test_no_topics_at_all_are_drawn_too():
    assert "No topics" in (
        parsed(plots.differences("p", "t", "m", {})).findtext(f"{NAMESPACE}desc")
    )


def test_runs_beyond_the_colours_differ_by_their_dashes():
    lines = {f"r{n}": [n / 20] * 11 for n in range(svg.COLOURS * 2 + 1)}
    root = parsed(plots.curves("p", "t", lines))
    kinds = {
        (path.attrib["class"], path.attrib.get("stroke-dasharray", ""))
        for path in shapes(root, "path")
        if path.attrib["class"].startswith("l")
    }
    assert len(kinds) == len(lines)


def test_counts_are_as_long_as_they_are_many():
    root = parsed(plots.counts("p", "t", "topics", {"a": 10, "b": 5, "c": 0}))
    widths = [float(each.attrib["width"]) for each in shapes(root, "rect")]
    assert widths[1] == pytest.approx(widths[0] / 2, abs=0.02)
    assert widths[2] == 0
    assert (
        shapes(parsed(plots.counts("p", "t", "x", {"a": 0})), "rect")[0].attrib["width"] == "0.00"
    )


# Curves of runs.


@pytest.fixture
def two_runs():
    draw = np.random.default_rng(3)
    names = [f"d{n}" for n in range(30)]
    qrels = {f"q{t}": {d: int(draw.integers(0, 2)) for d in names[:20]} for t in range(9)}
    runs = {}
    for label in ("base", "other"):
        rankings = {
            topic: Ranking(draw.permutation(names)[:25].tolist(), np.arange(25.0, 0, -1))
            for topic in qrels
        }
        runs[label] = Run(rankings)
    scores = {label: evaluate(qrels, each, ["nDCG@10", "P@5"]) for label, each in runs.items()}
    curves = {label: curve_of(each, qrels) for label, each in runs.items()}
    return qrels, runs, measured(curves, scores)


def test_precision_by_recall_is_that_of_trec_eval(two_runs):
    qrels, runs, compared = two_runs
    drawing = next(each for each in drawings(compared) if each.name == "plot-curves")
    lines = [
        places(path)
        for path in shapes(parsed(drawing), "path")
        if path.attrib["class"].startswith("l") and len(places(path)) == 11
    ]
    names = [f"iprec_at_recall_{step / 10:.2f}" for step in range(11)]
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"iprec_at_recall"})
    for line, found in zip(lines, runs.values(), strict=True):
        ranked = {
            t: dict(zip(r.ids, r.scores.tolist(), strict=True)) for t, r in found.topics.items()
        }
        values = evaluator.evaluate(ranked)
        expected = [np.mean([values[t][name] for t in qrels]) for name in names]
        bottom, top = 14.0 + 260, 14.0
        assert (bottom - line[:, 1]) / (bottom - top) == pytest.approx(expected, abs=1e-4)


def test_one_file_holds_all_plots_and_its_own_colours(two_runs):
    _, _, compared = two_runs
    text = drawn(compared)
    root = ET.fromstring(text)
    assert len(root.findall(f"{NAMESPACE}svg")) == len(drawings(compared)) == 4
    used = set(re.findall(r"var\(--(\w+)\)", text))
    assert used <= set(re.findall(r"--(\w+):", text))
    assert re.findall(r"https?:[^\"]*", text) == ["http://www.w3.org/2000/svg"] * 5
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(set(ids)) == len(ids)
    for named in re.findall(r'aria-labelledby="([^"]+)"', text):
        assert set(named.split()) <= set(ids)


# Colours.


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_contrast_with_the_ground(theme):
    blocks = re.findall(r":root \{([^}]*)\}", svg.STYLE)
    colours = dict(re.findall(r"--(\w+): (#\w{6});", blocks[theme]))
    assert len(colours) == svg.COLOURS + 4
    for name in ("ink", "faint", "s2"):  # texts
        assert contrast(colours[name], colours["ground"]) >= 4.5
    for number in range(svg.COLOURS):  # graphics
        assert contrast(colours[f"s{number}"], colours["ground"]) >= 3


# On the command line.


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qrels").write_text("1 0 a 1\n2 0 b 2\n")
    (tmp_path / "x.trec").write_text("1 Q0 a 1 2 t\n1 Q0 b 2 1 t\n2 Q0 a 1 2 t\n")
    (tmp_path / "y.trec").write_text("1 Q0 b 1 2 t\n2 Q0 b 1 2 t\n")
    return tmp_path


def test_compare_writes_a_plot_beside_its_table(files, capsys):
    plain = run(capsys, "compare", "--qrels", "qrels", "x.trec", "y.trec")
    code, out, err = run(
        capsys, "compare", "--qrels", "qrels", "x.trec", "y.trec", "--plot", "p.svg"
    )
    assert (code, out) == (0, plain[1])
    assert "wrote p.svg" in err
    root = ET.fromstring((files / "p.svg").read_text("utf-8"))
    assert len(root.findall(f"{NAMESPACE}svg")) == 4
    first = (files / "p.svg").read_bytes()
    run(capsys, "compare", "--qrels", "qrels", "x.trec", "y.trec", "--plot", "p.svg", "--json")
    assert (files / "p.svg").read_bytes() == first


def test_the_same_run_twice_is_drawn_under_its_path(files, capsys):
    code, _, _ = run(capsys, "compare", "--qrels", "qrels", "x.trec", "x.trec", "--plot", "p.svg")
    assert code == 0
    assert "x.trec (2) minus x.trec" in (files / "p.svg").read_text("utf-8")


@pytest.mark.parametrize("name", ["x.trec", "folder.svg", "qrels/p.svg", "p.png"])
def test_a_plot_never_replaces_anything_else(files, capsys, name):
    (files / "folder.svg").mkdir()
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    code, out, err = run(capsys, "compare", "--qrels", "qrels", "x.trec", "y.trec", "--plot", name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert name in err
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before
