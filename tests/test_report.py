"""`dupmae report`: one page that needs nothing else, whatever the files of a folder hold."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.collection.opening import read_qrels
from dupmae_toolkit.evaluation.beir import BeirOptions, run_beir
from dupmae_toolkit.evaluation.measures import Scores
from dupmae_toolkit.evaluation.report.folder import labels_of, read_sections, runs_in
from dupmae_toolkit.evaluation.report.wins import wins_of
from tests.cli_support import run
from tests.support import HashingEncoder
from tests.test_beir import make_zip, toy

VOID = {"meta", "br"}
QUICK = ("--measures", "RR@10", "--topics", 1)
HOSTILE = "<script>x</script>\"'&amp;\u202e"


class Page(HTMLParser):
    """Checks that elements close in order, and keeps what a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def check_alone(text: str) -> Page:
    """A page that fetches nothing and runs nothing."""
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "a", "form", "base"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"href", "src"}
    addresses = re.findall(r"\w+://[^\s\"<]*", re.sub(r"<(pre|h4|td|th|li|p)\b.*?</\1>", "", text))
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}
    assert "url(" not in text.partition("</style>")[0]
    assert "@import" not in text.partition("</style>")[0]
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    return page


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What `dupmae beir` leaves of a toy data set."""
    folder = tmp_path_factory.mktemp("report")
    source = make_zip(folder / "toy.zip", toy())
    run_beir(source, HashingEncoder(), folder / "here", BeirOptions(bm25=True))
    return (folder / "here").rename(folder / "moved")  # no path that a record names leads there


@pytest.fixture
def beir(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "toy")
    return tmp_path / "toy"


# What beir leaves.


@pytest.mark.java
def test_what_beir_leaves_is_enough(beir, capsys):
    code, out, err = run(capsys, "report", beir)
    assert (code, out) == (0, "")
    assert f"wrote {beir / 'report.html'}: 5 runs, 12 topics" in err
    assert "Nothing is explained" not in err
    text = (beir / "report.html").read_text("utf-8")
    page = check_alone(text)
    metrics = json.loads((beir / "metrics.json").read_text())
    for mode in ("dense", "lexical", "bm25", "hybrid", "lucene-bm25"):
        for value in metrics[mode].values():
            assert f"{value:.4f}" in page.text
    assert page.tags.count("details") > 1  # the index is there: scores are explained
    queries = [json.loads(line) for line in toy()["toy/queries.jsonl"].splitlines()]
    assert any(each["text"] in page.text for each in queries)
    first = (beir / "report.html").read_bytes()
    run(capsys, "report", beir)
    assert (beir / "report.html").read_bytes() == first


@pytest.mark.java
def test_its_judgements_are_those_of_the_data_set(beir):
    about = json.loads((beir / "metrics.json").read_text())["about"]["qrels"]
    assert (about["split"], about["file"]) == ("test", "toy.qrels")
    expected = {}
    for line in toy()["toy/qrels/test.tsv"].splitlines()[1:]:
        topic, document, grade = line.split("\t")
        expected.setdefault(topic, {})[document] = int(grade)
    assert read_qrels(beir / "toy.qrels") == expected


@pytest.mark.java
def test_explanations_are_those_of_the_index(beir, capsys):
    run(capsys, "report", beir, "--topics", 1)
    text = (beir / "report.html").read_text("utf-8")
    found = re.findall(r"<summary>Why <bdi>(\d+)</bdi> has ([\d.]+), rank (\d+)</summary>", text)
    topic = re.findall(r"<h4><bdi>(\w+)</bdi>: ([\w ]+) <small>", text)
    assert found
    with HybridIndex.open(beir / "index", HashingEncoder()) as index:
        hits = {h.id: h for _, asked in topic for h in index.search(asked, 40)}
        assert {name for name, _, _ in found} <= set(hits)
        asked = topic[0][1]
        best = index.search(asked, 1)[0]
    assert (best.id, f"{best.score:.4f}", "1") in found


@pytest.mark.java
def test_an_index_that_has_changed_explains_nothing(beir, capsys):
    with HybridIndex.open(beir / "index", HashingEncoder()) as index:
        index.add([{"id": f"new{n}", "text": "word1 word2 word3"} for n in range(30)])
    code, _, err = run(capsys, "report", beir)
    assert code == 0
    assert "Nothing is explained" in err
    assert "<details>" not in (beir / "report.html").read_text("utf-8")


@pytest.mark.java
@pytest.mark.parametrize("what", ["index", "encoded", "metrics.json"])
def test_a_report_without_the_rest_says_what_is_missing(beir, capsys, what):
    place = beir / what
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    code, _, err = run(capsys, "report", beir, *QUICK)
    assert code == 0
    assert "Nothing is explained" in err
    check_alone((beir / "report.html").read_text("utf-8"))


@pytest.mark.java
@pytest.mark.parametrize(
    "about",
    [
        *({"mode": 7}, {"mode": "hybrid", "fusion": None}, {"mode": "hybrid", "fusion": []}),
        *({}, {"index": 5}, {"index": "\0"}, {"lexical": {"frequencies": 3}}, {"mode": "x" * 99}),
    ],
)
def test_broken_metadata_only_costs_the_explanations(beir, capsys, about):
    path = beir / "toy.hybrid.trec.json"
    told = json.loads(path.read_text())
    kept = {"sha256": told["sha256"]} if not about else told | about
    path.write_text(json.dumps(kept))
    code, _, _ = run(capsys, "report", beir, *QUICK)
    assert code == 0


@pytest.mark.java
@pytest.mark.parametrize("text", ["[]", "{", '{"about": 3}', '{"about": {"qrels": "x"}}'])
def test_broken_metrics_leave_the_only_file_of_judgements(beir, capsys, text):
    (beir / "metrics.json").write_text(text)
    assert run(capsys, "report", beir, *QUICK)[0] == 0


@pytest.mark.java
def test_judgements_that_have_changed_are_told(beir, capsys):
    with (beir / "toy.qrels").open("a") as file:
        file.write("q0 0 new 1\n")
    err = run(capsys, "report", beir, *QUICK)[2]
    assert "toy.qrels has changed since the runs were measured." in err


# Any folder.


def write(folder: Path, topics: int = 4, **runs: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"q{n} 0 good{n} 1\nq{n} 0 bad{n} 0\n" for n in range(topics)]
    (folder / "all.qrels").write_text("".join(lines))
    for name, orders in runs.items():
        rows = []
        for n, order in enumerate(orders):
            ids = (f"good{n}", f"bad{n}") if order == "+" else (f"bad{n}", f"good{n}")
            if order != "0":
                rows += [f"q{n} Q0 {d} {r} {3 - r} t" for r, d in enumerate(ids, 1)]
        (folder / f"{name}.trec").write_text("\n".join(rows) + "\n")
    return folder


def test_one_run_makes_a_page_without_comparisons(tmp_path, capsys):
    folder = write(tmp_path / "r", only="+-+-")
    code, _, err = run(capsys, "report", folder)
    assert code == 0
    assert "1 run, 4 topics" in err
    page = check_alone((folder / "report.html").read_text("utf-8"))
    assert "Compared with" not in page.text
    assert "ranks best and worst" in page.text
    assert page.text.count("✓ good") > 0


def test_the_baseline_is_the_one_that_was_named(tmp_path, capsys):
    folder = write(tmp_path / "r", b="+--+", a="++++", c="----")
    for words, baseline in (((), "a"), (("--baseline", "c"), "c")):
        code, out, _ = run(capsys, "report", folder, "--json", *words)
        assert code == 0
        (found,) = json.loads(out)["sets"]
        assert (found["baseline"], next(iter(found["runs"]))) == (baseline, baseline)
        assert found["runs"]["c"]["RR@10"] == 0.5
    assert f"Compared with {baseline}" in (folder / "report.html").read_text("utf-8")


def test_folders_of_runs_become_sections_with_a_mean(tmp_path, capsys):
    write(tmp_path / "r" / "one", x="++++")
    write(tmp_path / "r" / "two", topics=2, x="--", y="++")
    code, out, _ = run(capsys, "report", tmp_path / "r", "--json", "--measures", "RR@10")
    assert code == 0
    assert [each["name"] for each in json.loads(out)["sets"]] == ["one", "two"]
    page = check_alone((tmp_path / "r" / "report.html").read_text("utf-8"))
    rows = re.findall(r'<tr><th scope="row">mean</th>(.*?)</tr>', page_text(tmp_path / "r"))
    assert rows == ["<td>0.7500</td><td></td>"]  # y has no run in the first set
    assert page.tags.count("h2") == 2


def page_text(folder: Path) -> str:
    return (folder / "report.html").read_text("utf-8")


def test_a_page_of_somebody_else_is_left_alone(tmp_path, capsys):
    folder = write(tmp_path / "r", a="++++")
    (folder / "report.html").write_text("<p>my own")
    code, _, err = run(capsys, "report", folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "is no report; name another place with --output" in err
    assert (folder / "report.html").read_text() == "<p>my own"
    assert run(capsys, "report", folder, "--output", folder / "report.html")[0] == 0
    assert run(capsys, "report", folder)[0] == 0


def test_what_lacks_or_does_not_count_is_said(tmp_path, capsys):
    folder = write(tmp_path / "r", full="++++", short="+0")
    with (folder / "short.trec").open("a") as file:
        file.write("stray Q0 x 1 1 t\n")
    _, _, err = run(capsys, "report", folder)
    assert "short lacks 3 judged topics, counted as 0." in err
    assert "1 topic of short without judgements: ignored." in err
    assert "short lacks 3 judged topics" in page_text(folder)


def test_hostile_names_ids_and_records_are_only_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = HOSTILE.replace(" ", "")
    folder = tmp_path / "r"
    folder.mkdir()
    lines, qrels = [], []
    for topic in (f"t1{name}", f"t2{name}"):
        qrels += [f"{topic} 0 d1{name} 1", f"{topic} 0 d2{name} 0"]
        lines += [f"{topic} Q0 d{n}{name} {n} {9 - n} {name}" for n in (2, 1)]
    (folder / "j.qrels").write_text("\n".join(qrels) + "\n", "utf-8")
    for file in ("a&<b>", "hybrid", "dense", "lexical"):
        (folder / f"{file}.trec").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "metrics.json").write_text(
        json.dumps({"about": {"dataset": HOSTILE, "split": "../..", "encoder": HOSTILE,
                              "qrels": {"file": "../j.qrels"}, "documents": HOSTILE}})
    )  # fmt: skip
    (folder / "x.card.json").write_text(
        json.dumps({"command": [HOSTILE, 5], "versions": {HOSTILE: HOSTILE}, "seconds": 1,
                    "machine": [HOSTILE], "started": HOSTILE})
    )  # fmt: skip
    code, _, _ = run(capsys, "report", folder, "--title", HOSTILE)
    assert code == 0
    text = page_text(folder)
    check_alone(text)
    assert "<script" not in text
    assert "\u202e" not in text
    assert "&lt;script&gt;x&lt;/script&gt;&quot;&#x27;&amp;amp;\\u202e" in text


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("nothing",), "no such folder"),
        (("empty",), "no runs in it"),
        (("r", "--baseline", "z"), "no run 'z' in it; its runs are a, b"),
        (("r", "--split", "test"), "--split goes with --qrels"),
        (("r", "--measures", "nonsense"), "is not known"),
        (("r", "--qrels", "missing"), "missing"),
        (("r", "--output", "r/a.trec"), "ends in .html"),
        (("r", "--output", "-"), "standard output is not taken"),
        (("r", "--output", "r/a.trec/x.html"), "cannot be written"),
        (("unjudged",), "no file of judgements in it"),
        (("twice",), "2 files that end in .qrels"),
        (("broken",), "six"),
        (("other",), "a.trec: none of the run's"),
        (("several", "--qrels", "r/all.qrels"), "leave out --qrels"),
    ],
)
def test_what_makes_no_page_is_refused_in_a_line(tmp_path, monkeypatch, capsys, words, fault):
    monkeypatch.chdir(tmp_path)
    write(Path("r"), a="++++", b="----")
    Path("empty").mkdir()
    (write(Path("unjudged"), a="+") / "all.qrels").unlink()
    shutil.copy("r/all.qrels", write(Path("twice"), a="+") / "more.qrels")
    (write(Path("broken"), a="+") / "a.trec").write_text("1 2 3\n")
    (write(Path("other"), a="+") / "all.qrels").write_text("x 0 y 1\n")
    write(Path("several/one"), a="+")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    code, out, err = run(capsys, "report", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert fault in err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


# Names and winners.


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (["sci.dense.trec", "sci.hybrid.trec.gz"], ["dense", "hybrid"]),
        (["w0.5.trec", "w0.7.trec"], ["w0.5", "w0.7"]),
        (["a.run", "b.run.zst"], ["a", "b"]),
        (["a.trec", "a.run"], ["a.trec", "a.run"]),
        (["sci.dense.trec", "dense.trec"], ["sci.dense", "dense"]),
        (["only.bm25.trec"], ["bm25"]),
        (["plain", "x.y"], ["plain", "x.y"]),
    ],
)
def test_labels_of_runs(files, labels):
    assert labels_of([Path(name) for name in files]) == labels


def test_what_is_no_run_is_left_alone(tmp_path):
    for name in ("a.trec", "b.run.gz", ".c.trec", "d.trec.json", "e.txt"):
        (tmp_path / name).touch()
    (tmp_path / "f.trec").mkdir()
    assert [path.name for path in runs_in(tmp_path)] == ["a.trec", "b.run.gz"]


def test_winners_are_counted_as_by_hand():
    table = {
        #        dense lexical bm25 hybrid
        "both": (0.5, 0.5, 0.1, 0.6),
        "dense": (0.9, 0.5, 0.1, 0.2),
        "close": (0.3, 0.3 + 1e-15, 0.0, 0.3),
        "none": (0.0, 0.0, 0.0, 0.4),
        "bm25": (0.0, 0.1, 1.0, 1.0),
        "more": (0.9, 0.1, 0.1, 0.9),
    }
    labels = ("dense", "lexical", "bm25", "hybrid")
    scores = {
        label: Scores({}, {"m": {t: v[n] for t, v in table.items()}}, 6, 6, 0)
        for n, label in enumerate(labels)
    }
    found = wins_of(scores, "m")
    assert found is not None
    assert found.topics == {"dense": ["more", "dense"], "lexical": [], "bm25": ["bm25"]}
    assert (found.tied, found.none) == (["both", "close"], ["none"])
    assert (found.better, found.worse) == (["both", "none"], ["dense"])
    assert wins_of({name: scores[name] for name in ("dense", "hybrid")}, "m") is None
    without = wins_of({name: scores[name] for name in labels[:3]}, "m")
    assert without is not None
    assert (without.better, without.worse) == ([], [])


def test_topics_texts_come_from_the_file_that_a_run_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path / "r", a="++++")
    (tmp_path / "q.tsv").write_text("q0\tfirst text\nq9\tnot judged\n")
    from dupmae_toolkit.files import sha256_file

    told = {"sha256": sha256_file(folder / "a.trec"), "queries": "q.tsv", "split": None}
    (folder / "a.trec.json").write_text(json.dumps(told))
    (section,) = read_sections(folder)
    assert section.texts == {"q0": "first text"}


@pytest.mark.parametrize(
    "told",
    [
        *({"queries": "a\0b"}, {"queries": "x" * 9999}, {"queries": {}}, {"queries": None}),
        *({"queries": "q.tsv", "split": []}, {"queries": "q.tsv", "split": "test"}),
        *({"queries": "bad.tsv"}, {"queries": ".", "split": "x"}),
    ],
)
def test_a_record_of_topics_that_leads_nowhere_costs_only_the_texts(tmp_path, monkeypatch, told):
    from dupmae_toolkit.files import sha256_file

    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.tsv").write_text("q0\tfirst text\n")
    (tmp_path / "bad.tsv").write_text("q0\n\n")
    folder = write(tmp_path / "r", a="++++")
    told = {"sha256": sha256_file(folder / "a.trec")} | told
    (folder / "a.trec.json").write_text(json.dumps(told))
    (section,) = read_sections(folder)
    assert section.texts == {}
