"""Cards of runs and `dupmae reproduce`: what was done can be repeated, and nothing else can."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from dupmae_cli import reproduce as command
from dupmae_toolkit import HybridIndex, __version__, machine
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.card_reading import read_card
from dupmae_toolkit.evaluation.cards import fingerprint
from dupmae_toolkit.evaluation.reproducing import differing
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.records import Ranking, Run
from tests.cli_support import run
from tests.support import HashingEncoder
from tests.test_beir import make_zip, toy


@pytest.fixture
def fused(tmp_path, monkeypatch, capsys):
    """The card of a run that was fused from two, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        rows = [f"q{n} Q0 {name}{d} {d} {9 - d} t" for n in range(3) for d in range(1, 4)]
        (tmp_path / f"{name}.trec").write_text("\n".join(rows) + "\n")
    words = ("fuse", "a.trec", "b.trec", "--output", "out/f.trec", "--method", "linear")
    assert run(capsys, *words, "--weights", "0.25,0.75", "--quiet")[0] == 0
    return tmp_path / "out" / "f.trec.card.json"


def edited(path: Path, **changes: object) -> None:
    """The card with other values; None takes one away."""
    told = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in told.items() if value is not None}))


def state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What a card says.


def test_a_card_tells_how_its_run_came_about(fused):
    told = json.loads(fused.read_text())
    assert told["command"] == [
        *("dupmae", "fuse", "a.trec", "b.trec", "--output", "out/f.trec", "--method", "linear"),
        *("--weights", "0.25,0.75"),
    ]
    assert told["outputs"] == [{"path": "f.trec", "sha256": sha256_file(Path("out/f.trec"))}]
    assert [(e["option"], e["path"], e["sha256"]) for e in told["inputs"]] == [
        ("RUN 1", "a.trec", sha256_file(Path("a.trec"))),
        ("RUN 2", "b.trec", sha256_file(Path("b.trec"))),
    ]
    assert told["fusion"]["weights"] == [0.25, 0.75]
    assert (told["topics"], told["hits"]) == (3, 18)
    assert told["versions"]["dupmae-toolkit"] == __version__
    assert told["versions"]["numpy"] == np.__version__
    assert told["machine"] == machine.describe()
    assert told["seconds"] >= 0
    assert told["started"].endswith("Z")


def test_a_card_names_neither_machine_nor_user_nor_folder(fused):
    import getpass
    import platform

    text = json.dumps({k: v for k, v in json.loads(fused.read_text()).items() if k != "command"})
    assert set(json.loads(fused.read_text())["machine"]) == {
        *("system", "processor", "cores", "memory_gib"),
    }
    assert f'"{platform.node()}"' not in text
    assert f'"{getpass.getuser()}"' not in text
    assert str(fused.parent.parent) not in text


def test_what_differs_between_repetitions_is_in_the_card_only(fused, capsys):
    before = state(fused.parent)
    run(capsys, "fuse", "a.trec", "b.trec", "-o", "out/f.trec", "--method", "linear",
        "--weights", "0.25,0.75")  # fmt: skip
    after = state(fused.parent)
    assert {path for path in before if before[path] != after[path]} == {str(fused)}


@pytest.mark.parametrize("words", [("--output", "-"), ("--output", "o.csv", "--format", "csv")])
def test_only_a_trec_run_in_a_file_gets_a_card(fused, capsys, words):
    assert run(capsys, "fuse", "a.trec", "b.trec", *words)[0] == 0
    assert sorted(path.name for path in Path().rglob("*.card.json")) == ["f.trec.card.json"]


def test_fingerprints_change_with_what_counts(tmp_path):
    beir, model, plain, index = (tmp_path / n for n in ("beir", "model", "plain", "index"))
    for path in (beir / "corpus.jsonl", beir / "qrels" / "test.tsv", beir / "runs" / "a.trec",
                 model / "config.json", model / "model.safetensors", model / "optimizer.pt",
                 model / "spiece.model", model / "sparse_linear.pt",
                 model / "2_Dense" / "model.safetensors",
                 plain / "x.txt", index / "manifest.json", index / "segments" / "1"):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("before")
    (index / "manifest.json").write_text('{"segments": []}')
    changes = {
        beir / "qrels" / "test.tsv": True,
        beir / "runs" / "a.trec": False,
        model / "model.safetensors": True,
        model / "optimizer.pt": False,
        model / "spiece.model": True,
        model / "sparse_linear.pt": True,
        model / "2_Dense" / "model.safetensors": True,
        plain / "x.txt": True,
        index / "manifest.json": True,
        index / "segments" / "1": False,
    }
    for path, counts in changes.items():
        folder = str(next(each for each in (beir, model, plain, index) if each in path.parents))
        before = fingerprint(folder)
        path.write_text('{"segments": [1]}' if path.name == "manifest.json" else "after")
        assert (fingerprint(folder) != before) == counts, path
    for name in ("-", "irds:nothing", str(tmp_path / "missing"), "a\0b", "hf:x"):
        assert fingerprint(name) is None


def test_the_fingerprint_of_vectors_covers_their_ids(tmp_path):
    np.save(tmp_path / "v.npy", np.eye(2))
    seen = [fingerprint(str(tmp_path / "v.npy"))["sha256"]]
    for text in ("a\nb\n", "b\na\n"):
        (tmp_path / "v.ids").write_text(text)
        seen.append(fingerprint(str(tmp_path / "v.npy"))["sha256"])
    assert len(set(seen)) == 3
    assert seen[0] == sha256_file(tmp_path / "v.npy")


@pytest.mark.parametrize("name", ["one+two", "one+builtin", "one", "builtin"])
def test_both_folders_of_a_pair_of_encoders_are_hashed(tmp_path, monkeypatch, name):
    import typer

    from dupmae_cli.main import app
    from dupmae_cli.recording import read_by

    monkeypatch.chdir(tmp_path)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text("{}")
    search = typer.main.get_command(app).commands["search"]
    expected = {
        "one+two": [("--model 1", "one"), ("--model 2", "two")],
        "one+builtin": [("--model 1", "one")],
        "one": [("--model", "one")],
        "builtin": [],
    }
    assert list(read_by(search, {"model": name})) == expected[name]


# Repeating.


@pytest.mark.parametrize("form", ["out/f.trec.card.json", "out/f.trec"])
def test_the_same_is_found_the_same(fused, capsys, form):
    before = state(fused.parent.parent)
    code, out, err = run(capsys, "reproduce", form, "--json")
    told = json.loads(out)
    assert (code, told["same"]) == (0, True)
    (outcome,) = told["outcomes"]
    assert outcome["before"] == outcome["now"] == sha256_file(Path("out/f.trec"))
    assert "repeating: dupmae fuse --output=" in err
    assert "--method=linear --weights=0.25,0.75 -- a.trec b.trec" in err
    assert state(fused.parent.parent) == before


def test_a_difference_is_shown_and_ends_with_1(fused, capsys):
    rows = Path("out/f.trec").read_text().splitlines()
    rows[1] = rows[1].replace(rows[1].split()[4], "0.1")
    Path("out/f.trec").write_text("\n".join(rows) + "\n")
    edited(fused, outputs=[{"path": "f.trec", "sha256": sha256_file(Path("out/f.trec"))}],
           versions={"numpy": "0.0.1", "python": sys.version.split()[0]})  # fmt: skip
    code, out, err = run(capsys, "reproduce", fused, "--output", "again")
    assert code == 1
    assert "differs" in out
    assert "1 topic differs" in out
    assert "topic q0 from rank 2" in out
    assert f"numpy: 0.0.1 before, {np.__version__} now" in err
    assert "1 of 1 differ from the card" in err
    assert Path("again/f.trec.card.json").is_file()


def test_the_place_of_what_is_repeated_is_new(fused, capsys):
    for name in ("out", "a.trec"):
        before = state(fused.parent.parent)
        code, out, err = run(capsys, "reproduce", fused, "--output", name)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "not empty; name a new folder" in err
        assert state(fused.parent.parent) == before


@pytest.mark.parametrize("change", ["changed", "missing"])
def test_changed_inputs_are_named(fused, capsys, change):
    if change == "missing":
        Path("b.trec").unlink()
    else:
        Path("b.trec").write_text("q0 Q0 x 1 1 t\n")
    code, out, err = run(capsys, "reproduce", fused)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("dupmae: b.trec: ")
    assert "(RUN 2)" in err


@pytest.mark.java
def test_a_search_is_repeated_without_its_encoder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    texts = {f"d{n}": f"word{n % 7} word{n % 3} sea" for n in range(30)}
    HybridIndex.build("ix", texts, HashingEncoder()).close()
    (tmp_path / "q.tsv").write_text("1\tword2 sea\n2\tword1\n")
    words = ("search", "-i", "ix", "--queries", "q.tsv", "-o", "r.trec", "--mode", "bm25", "-k", 5)
    assert run(capsys, *words, "--filter", "id != 'd3'")[0] == 0
    told = json.loads(Path("r.trec.card.json").read_text())
    assert [e["option"] for e in told["inputs"]] == ["--index", "--queries"]
    assert told["index"] == "ix"
    assert told["encoder"]["weights_sha256"] == HashingEncoder().info.weights_sha256
    assert run(capsys, "reproduce", "r.trec")[0] == 0
    with HybridIndex.open("ix", HashingEncoder()) as index:
        index.add([{"id": "new", "text": "sea"}])
    code, _, err = run(capsys, "reproduce", "r.trec")
    assert (code, "ix: has changed" in err) == (2, True)


@pytest.mark.java
def test_a_card_of_beir_covers_runs_and_figures(tmp_path, monkeypatch, capsys):
    """The repetition is made in this process, with the encoder that the tests have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "dupmae_toolkit.model.loading.load_encoder", lambda *_, **__: HashingEncoder()
    )
    make_zip(tmp_path / "toy.zip", toy())
    assert run(capsys, "beir", "toy.zip", "-o", "runs", "--measures", "RR@10")[0] == 0
    told = json.loads(Path("runs/card.json").read_text())
    assert [each["path"] for each in told["outputs"]] == [
        f"toy.{mode}.trec" for mode in ("dense", "lexical", "bm25", "hybrid")
    ]
    assert told["figures"]["hybrid"] == json.loads(Path("runs/metrics.json").read_text())["hybrid"]
    assert (told["documents"], told["topics"]) == ({"toy": 40}, {"toy": 12})

    def repeat(words):
        with pytest.raises(SystemExit) as stopped:
            command_main([words[0], "-q", *words[1:]])
        assert stopped.value.code == 0

    from dupmae_cli.main import main as command_main

    monkeypatch.setattr(command, "_repeat", repeat)
    code, out, _ = run(capsys, "reproduce", "runs/toy.dense.trec")
    assert code == 0
    assert "hybrid RR@10" in out
    card = Path("runs/card.json")
    figures = told["figures"]
    figures["hybrid"]["RR@10"] += 1e-9
    edited(card, figures=figures)
    code, out, _ = run(capsys, "reproduce", "runs", "--json")
    assert code == 1
    assert [e["name"] for e in json.loads(out)["outcomes"] if not e["same"]] == ["hybrid RR@10"]


# Refusing.


@pytest.fixture
def never(monkeypatch):
    """No process may be started."""

    def started(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.run", started)


BASE = ["dupmae", "fuse", "a.trec", "b.trec", "--output", "out/f.trec"]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["rm", "-rf", "/"], "no command of dupmae"),
        (["dupmae"], "no command of dupmae"),
        (["dupmae", 5], "no command of dupmae"),
        (["dupmae", "fuse", "a\0b"], "no command of dupmae"),
        ("dupmae fuse a b", "no command of dupmae"),
        ({}, "no command of dupmae"),
        (["dupmae", "delete", "1", "--index", "ix"], "is none of search, rerank, fuse, beir"),
        (["dupmae", "fuse; rm x"], "is none of"),
        (["dupmae", "--debug", "fuse"], "is none of"),
        (["dupmae", "reproduce", "x"], "is none of"),
        (["dupmae", "demo"], "is none of"),
        ([*BASE, "--help"], "asks for help"),
        ([*BASE, "--unknown", "x"], "--unknown"),
        ([*BASE, "--method", "x"], "x"),
        (["dupmae", "fuse", "a.trec", "b.trec"], "output"),
        ([*BASE[:5], "-"], "names no --output"),
        (["dupmae", "fuse", "a.trec", "/etc/passwd", "-o", "x"], "is not among its inputs"),
        (["dupmae", "fuse", "a.trec", "b.trec", "a.trec", "-o", "x"], "is not among its inputs"),
        (["dupmae", "fuse", "a.trec", "$(touch x)", "-o", "x"], "is not among its inputs"),
    ],
)
def test_what_is_no_such_command_is_not_run(fused, capsys, never, words, fault):
    edited(fused, command=words)
    before = state(fused.parent.parent)
    code, out, err = run(capsys, "reproduce", fused)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert fault in err
    assert state(fused.parent.parent) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"card": 2},
        {"card": None},
        {"inputs": None},
        {"inputs": [{"option": "RUN 1", "path": "a.trec"}]},
        {"inputs": [{"option": 1, "path": "a.trec", "sha256": None}]},
        {"inputs": [{"option": "RUN 1", "path": "a.trec", "sha256": 5}]},
        {"inputs": []},
        {"outputs": []},
        {"outputs": [{"path": "../f.trec", "sha256": "0"}]},
        {"outputs": [{"path": "/etc/passwd", "sha256": "0"}]},
        {"outputs": [{"path": "x/../../y", "sha256": "0"}]},
        {"outputs": [{"path": "c:\\x", "sha256": "0"}]},
        {"outputs": [{"path": ".", "sha256": "0"}]},
        {"outputs": [{"path": "f.trec", "sha256": None}]},
        {"outputs": [{"path": "f.trec", "sha256": "0"}, {"path": "g", "sha256": "0"}]},
        {"figures": {"x": 5}},
        {"figures": {"x": {"y": "z"}}},
        {"figures": None},
    ],
)
def test_damaged_and_hostile_cards_are_refused(fused, capsys, never, changes):
    edited(fused, **changes)
    before = state(fused.parent.parent)
    code, out, err = run(capsys, "reproduce", fused)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert state(fused.parent.parent) == before


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '"x"', "\udcff"])
def test_what_is_no_card_at_all_is_refused(fused, capsys, never, text):
    fused.write_bytes(text.encode("utf-8", "surrogateescape"))
    code, _, err = run(capsys, "reproduce", fused)
    assert (code, err.count("\n")) == (2, 1)


def test_an_option_that_is_not_known_to_be_harmless_is_refused(fused, capsys, never, monkeypatch):
    """As a new option that writes would be, until somebody has looked at it."""
    from dupmae_cli import recording

    known = recording.REPEATABLE["fuse"]
    fewer = recording.Repeatable(known.reads, known.harmless - {"weights"})
    monkeypatch.setitem(recording.REPEATABLE, "fuse", fewer)
    code, _, err = run(capsys, "reproduce", fused)
    assert (code, "it sets --weights, which may write elsewhere" in err) == (2, True)


def test_every_listed_parameter_exists(capsys):
    import typer

    from dupmae_cli.main import app
    from dupmae_cli.recording import REPEATABLE

    commands = typer.main.get_command(app).commands
    for name, known in REPEATABLE.items():
        parameters = {parameter.name for parameter in commands[name].params}
        assert known.reads | known.harmless <= parameters


def test_values_cannot_become_options(fused, capsys, monkeypatch):
    """A value that begins with dashes stays the value of its own option."""
    shutil.copy("a.trec", "--output=b.trec")
    words = [*BASE[:3], "--output=evil", "--tag=--output=evil", "-o", "out/f.trec", "--",
             "--output=b.trec"]  # fmt: skip
    given = [("RUN 1", "a.trec"), ("RUN 2", "--output=b.trec")]
    inputs = [{"option": o, "path": p, "sha256": sha256_file(Path(p))} for o, p in given]
    edited(fused, command=words, inputs=inputs)
    asked: list[list[str]] = []
    monkeypatch.setattr(command, "_repeat", asked.append)
    run(capsys, "reproduce", fused, "-o", "new")
    (words,) = asked
    place = str(Path("new/f.trec").absolute())
    assert words == [
        *("fuse", f"--output={place}", "--tag=--output=evil", "--", "a.trec", "--output=b.trec"),
    ]
    assert not Path("evil").exists()


def test_a_process_takes_no_module_from_the_current_folder(fused, capsys):
    for name in ("json.py", "dupmae_toolkit.py", "typer.py", "sitecustomize.py"):
        Path(name).write_text("raise SystemExit('taken from here')\n")
    assert run(capsys, "reproduce", fused)[0] == 0


def test_a_command_that_fails_says_why_in_a_line(fused, capsys, monkeypatch):
    Path("b.trec").write_text("not a run\n")
    told = json.loads(fused.read_text())
    told["inputs"][1]["sha256"] = sha256_file(Path("b.trec"))
    edited(fused, inputs=told["inputs"])
    code, out, err = run(capsys, "reproduce", fused, "-q")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "the repeated command failed: b.trec:1: 3 columns" in err


def test_a_missing_card_says_where_cards_are(tmp_path):
    with pytest.raises(InputError, match="the card of a run is beside it"):
        read_card(tmp_path / "x.trec")
    with pytest.raises(InputError, match="no such card"):
        read_card(tmp_path)


# How runs differ.


SAME = {"1": ("abc", (3, 2, 1)), "2": ("a", (1,))}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (SAME, "the same rankings, written otherwise"),
        (SAME | {"1": ("acb", (3, 2, 1))}, "1 topic differs, scores by up to 1; topic 1 from rank"),
        (SAME | {"1": ("ab", (3, 2))}, "topic 1 from rank 3"),
        (SAME | {"1": ("abc", (3, 2, 0.5))}, "1 topic differs, scores by up to 0.5"),
        ({"1": SAME["1"]}, "topic 2 is in one of them only"),
        (
            {"1": ("xyz", (3, 2, 1)), "2": ("b", (1,))},
            "2 topics differ, scores by up to 0; topic 1",
        ),
    ],
)
def test_a_difference_of_runs_in_words(now, said):
    def made(lists):
        return Run({t: Ranking(list(ids), np.array(scores, float)) for t, (ids, scores) in lists})

    before = made(SAME.items())
    assert said in differing(before, made(now.items()))
