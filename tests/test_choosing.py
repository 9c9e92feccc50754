"""Choosing by a rule: what the rule says, which topics are refused, and what is recorded."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.collection.trec import write_run
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation import choosing
from dupmae_toolkit.evaluation.bootstrap import interval_of_means
from dupmae_toolkit.evaluation.candidates import Candidate, parse_candidate
from dupmae_toolkit.evaluation.choosing import choose, decide, open_set
from dupmae_toolkit.evaluation.development import (
    MemoryDataset,
    beir_topics,
    is_test,
    pair_topics,
    sampled,
)
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.evaluation.rules import Guard, Rule, SetRule, load_rule
from dupmae_toolkit.records import Ranking, Run
from dupmae_toolkit.search.fusion import Fusion
from tests.cli_support import run
from tests.index_support import documents_of
from tests.support import HashingEncoder

DOCUMENTS = documents_of(40, seed=6)


def question(number: int) -> str:
    """Two words of one document, and four of another."""
    one, other = DOCUMENTS[number].text.split(), DOCUMENTS[number - 3].text.split()
    return " ".join([*one[1:3], *other[:4]])


def data_set(folder: Path, **splits: list[int]) -> Path:
    """A BEIR folder; each split judges the documents of these numbers, by queries of their own."""
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": d.id, "title": d.title, "text": d.text} for d in DOCUMENTS]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    every = sorted({number for numbers in splits.values() for number in numbers})
    texts = {n: f"{question(n)} only{n}" for n in every}
    lines = [json.dumps({"_id": f"q{n}", "text": text}) + "\n" for n, text in texts.items()]
    (folder / "queries.jsonl").write_text("".join(lines))
    for split, numbers in splits.items():
        judged = [f"q{n}\t{DOCUMENTS[n].id}\t1\n" for n in numbers]
        judged = ["query-id\tcorpus-id\tscore\n", *judged]
        (folder / "qrels" / f"{split}.tsv").write_text("".join(judged))
    return folder


# --- the rule


def rule_of(*guards: Guard, tie: float = 0.0, modes=("hybrid",)) -> Rule:
    sets = (SetRule("one", path="a", split="dev"), SetRule("two", path="b", split="dev"))
    return Rule(sets, modes=modes, guards=guards, tie=tie)


def decided(rule: Rule, *values: tuple[list[float], list[float]]) -> choosing.Choice:
    """Candidates c0, c1 … with a value for each topic of the two sets."""
    measured = [{"hybrid": {"one": np.array(one), "two": np.array(two)}} for one, two in values]
    candidates = [Candidate(f"c{n}", "model") for n in range(len(values))]
    return decide(rule, candidates, measured, [""] * len(values), {})


def test_the_best_mean_of_the_sets_means_is_chosen():
    # Over all topics together c0 would win.
    choice = decided(rule_of(), ([0.9, 0.9, 0.9, 0.9], [0.1]), ([0.6, 0.6, 0.6, 0.6], [0.5]))
    assert (choice.chosen, choice.tied) == ("c1", ["c1"])
    assert choice.candidates[0].figures["hybrid"]["mean"].mean == pytest.approx(0.5)
    assert choice.candidates[1].differences["one"].mean == pytest.approx(-0.3)
    assert choice.candidates[1].differences["mean"].mean == pytest.approx(0.05)


def test_of_equals_the_first_is_chosen():
    values = ([0.5, 0.5], [0.5, 0.5]), ([0.5, 0.5], [0.5, 0.504]), ([0.5, 0.5], [0.52, 0.5])
    assert decided(rule_of(tie=0.006), *values).chosen == "c0"
    choice = decided(rule_of(tie=0.0041), *values)
    assert (choice.chosen, choice.tied) == ("c1", ["c1", "c2"])
    assert decided(rule_of(tie=0.001), *values).chosen == "c2"
    assert decided(rule_of(), values[0], values[0]).chosen == "c0"


def test_guards_are_kept_by_those_that_are_chosen():
    values = ([0.5, 0.5], [0.5, 0.5]), ([0.4, 0.4], [0.9, 0.9]), ([0.5, 0.5], [0.6, 0.6])
    first = Guard("one", "first", "hybrid")
    choice = decided(rule_of(first), *values)
    assert choice.chosen == "c2"
    assert [each.passed for each in choice.candidates] == [True, False, True]
    (guard,) = choice.candidates[1].guards
    assert (guard.figure, guard.bound) == (pytest.approx(0.4), pytest.approx(0.5))
    slack = Guard("one", "first", "hybrid", slack=0.1000001)
    assert decided(rule_of(slack), *values).chosen == "c1"
    assert decided(rule_of(Guard("mean", 0.6, "hybrid")), *values).chosen == "c1"
    # A candidate that a guard keeps out is no tie either.
    assert decided(rule_of(first, tie=0.5), *values).tied == ["c0", "c2"]


def test_where_no_candidate_passes_none_is_chosen():
    choice = decided(rule_of(Guard("two", 0.95, "hybrid")), ([0.5], [0.9]), ([0.5], [0.8]))
    assert (choice.chosen, choice.tied) == (None, [])
    assert choice.to_dict()["chosen"] is None


def test_intervals_are_paired_by_topic():
    dice = np.random.default_rng(1)
    base = dice.random(400)
    values = (base, base[:200]), (base + 0.01, base[:200] + 0.01)
    choice = decided(rule_of(), *values)
    difference = choice.candidates[1].differences["mean"]
    assert (difference.low, difference.high) == (pytest.approx(0.01), pytest.approx(0.01))
    figures = choice.candidates[1].figures["hybrid"]["mean"]
    assert figures == interval_of_means([base + 0.01, base[:200] + 0.01])


# --- topics that are refused


@pytest.mark.parametrize("split", ["test", "Test", "TEST", "test2", "trec-test", "2019_tests"])
def test_names_of_tests(split):
    assert is_test(split)


@pytest.mark.parametrize("split", ["train", "dev", "validation", "latest", "contest", "devtrain"])
def test_names_of_other_splits(split):
    assert not is_test(split)


def test_a_split_for_testing_is_refused(tmp_path):
    folder = data_set(tmp_path / "set", train=[1, 2], test=[3, 4])
    assert [q.id for q in beir_topics(folder, "set", "train").queries()] == ["q1", "q2"]
    for only in (False, True):  # saying so does not help: there is another split
        with pytest.raises(InputError, match="split 'test' is a test; choose on train"):
            beir_topics(folder, "set", "test", only_split=only)


def test_a_set_with_a_test_split_alone_must_be_declared(tmp_path):
    folder = data_set(tmp_path / "set", test=[3, 4])
    with pytest.raises(InputError, match="has no split but 'test'"):
        beir_topics(folder, "set", "test")
    assert len(beir_topics(folder, "set", "test", only_split=True).queries()) == 2


def test_topics_that_a_test_has_too_are_left_out(tmp_path):
    folder = data_set(tmp_path / "set", train=[1, 2, 3], test=[3, 4], test2=[1])
    found = beir_topics(folder, "set", "train")
    assert [query.id for query in found.queries()] == list(found.qrels()) == ["q2"]
    assert found.left_out == sampled(found, 1, 1).left_out == 2
    folder = data_set(tmp_path / "other", train=[3], test=[3, 4])
    with pytest.raises(InputError, match="all 1 topics of split 'train' are topics of a test"):
        beir_topics(folder, "set", "train")


def test_the_same_text_under_another_id_is_the_same_topic(tmp_path):
    folder = data_set(tmp_path / "set", train=[1], test=[4])
    lines = (folder / "queries.jsonl").read_text().splitlines()
    text = json.loads(lines[0])["text"].upper().replace(" ", "  ")
    (folder / "queries.jsonl").write_text(lines[0] + "\n" + json.dumps({"_id": "q4", "text": text}))
    with pytest.raises(InputError, match="are topics of a test"):
        beir_topics(folder, "set", "train")


@pytest.mark.parametrize("name", ["beir/scifact/test", "beir/x/test", "TEST"])
def test_a_data_set_that_is_a_test_by_its_id_is_refused(name, tmp_path):
    with pytest.raises(InputError):
        beir_topics(tmp_path / name, "set", "test", only_split=True)


# --- pairs and samples


def write_pairs(path: Path, *pairs: tuple[str, str]) -> Path:
    path.write_text("".join(json.dumps({"title": a, "text": b}) + "\n" for a, b in pairs))
    return path


def test_pairs_are_topics_with_all_their_answers(tmp_path):
    pairs = [("a", "x"), ("b", "y"), (" a ", "z"), ("b", "x "), ("", "w"), ("c", ""), ("d", "y")]
    found = pair_topics(write_pairs(tmp_path / "p.jsonl", *pairs), "pairs")
    assert [(d.id, d.title, d.text) for d in found.corpus] == [
        ("d1", "", "x"),
        ("d2", "", "y"),
        ("d3", "", "z"),
    ]
    assert found.queries() == [Query("q1", "a"), Query("q2", "b"), Query("q7", "d")]
    assert found.qrels() == {
        "q1": {"d1": 1, "d3": 1},
        "q2": {"d2": 1, "d1": 1},
        "q7": {"d2": 1},
    }
    with pytest.raises(InputError, match="no line in it has both"):
        pair_topics(write_pairs(tmp_path / "e.jsonl", ("a", ""), ("", "b")), "pairs")
    (tmp_path / "bad.jsonl").write_text('{"title": "a", "text": "b"}\nnot json\n')
    with pytest.raises(InputError, match=r"bad\.jsonl:2"):
        pair_topics(tmp_path / "bad.jsonl", "pairs")


def test_a_sample_keeps_all_documents_and_the_judgements_of_its_topics():
    queries = [Query(f"q{n}", f"text {n}") for n in range(30)]
    whole = MemoryDataset("m", "m", DOCUMENTS, queries, {q.id: {"d1": 1} for q in queries})
    few = sampled(whole, 7, 3)
    assert len(few.queries()) == 7
    assert set(few.qrels()) == {query.id for query in few.queries()}
    assert few.corpus.count() == len(DOCUMENTS)
    assert sampled(whole, 7, 3).digest() == few.digest()
    assert sampled(whole, 7, 4).digest() != few.digest()


# --- files of rules

GOOD = """
modes: [hybrid, dense]
sets:
  one: {path: one, split: dev}
  two: {kind: pairs, path: two.jsonl, sample: 5, seed: 2}
guards: [{set: two, least: 0.0, mode: dense}]
tie: 1e-3
least_topics: 3
"""


def test_a_rule_is_read_with_its_hash(tmp_path):
    path = tmp_path / "rule.yaml"
    path.write_text(GOOD)
    rule = load_rule(path)
    assert rule.sets[1] == SetRule("two", "pairs", "two.jsonl", sample=5, seed=2)
    assert rule.guards == (Guard("two", 0.0, "dense"),)
    assert (rule.tie, rule.least_topics, rule.measure) == (0.001, 3, "nDCG@10")
    assert rule.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    assert load_rule(path) == rule
    path.write_text(GOOD + "# another\n")
    assert load_rule(path).sha256 != rule.sha256


def test_the_rule_that_ships_is_one():
    rule = load_rule(Path(__file__).parent.parent / "rules" / "builtin.yaml")
    assert rule.least_topics >= 1000
    assert sum(each.sample for each in rule.sets) >= 1000
    assert {guard.set for guard in rule.guards} >= {"demonstration"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (GOOD, "[]", "a rule is a mapping"),
        (GOOD, "", "a rule is a mapping"),
        ("tie: 1e-3", "ties: 1", "unknown key 'ties'; did you mean 'tie'"),
        ("tie: 1e-3", "tie: -1", "tie is -1"),
        ("tie: 1e-3", "tie: .nan", "tie is nan"),
        ("tie: 1e-3", "tie: [1]", "a value of type float"),
        ("tie: 1e-3", "sha256: abc", "unknown key 'sha256'"),
        ("least_topics: 3", "least_topics: 0", "at least 1"),
        ("modes: [hybrid, dense]", "modes: hybrid", "modes is a list"),
        ("modes: [hybrid, dense]", "modes: []", "modes: name at least one"),
        ("modes: [hybrid, dense]", "modes: [dense, dense]", "each once"),
        ("modes: [hybrid, dense]", "modes: [hybrid, sparse]", "unknown mode 'sparse'"),
        ("modes: [hybrid, dense]", "modes: [hybrid]", "unknown mode of a guard 'dense'"),
        ("modes: [hybrid, dense]", "measure: nonsense", "'nonsense' is not known"),
        ("set: two", "set: three", "unknown set of a guard 'three'"),
        ("least: 0.0", "least: second", "least is 'second'"),
        ("least: 0.0", "least: -0.1", "least is -0.1"),
        ("least: 0.0", "slack: -0.1", "slack is -0.1"),
        ("path: one, split: dev", "path: one", "set one: kind beir needs a split"),
        ("path: one, split: dev", "split: dev", "needs a path"),
        ("path: one, split: dev", "path: one, split: dev, kind: csv", "kind is 'csv'"),
        ("kind: pairs, path: two.jsonl", "kind: demonstration, path: x", "has no path"),
        ("sample: 5", "split: dev", "has no split"),
        ("sample: 5", "development: true", "development is for kind beir"),
        ("sample: 5", "sample: -5", "sample is -5"),
        ("  one:", "  mean:", "a name is a text of letters"),
        ("  one:", "  ../one:", "a name is a text of letters"),
        ("  one:", "  2020:", "a name is a text of letters"),
        ("sample: 5", "skip_invalid: true", "skip_invalid is for kind beir"),
        ("sample: 5, seed: 2", "seed: 7", "seed is for sample"),
        ("  one: {path: one, split: dev}", "  one: x.zip", "set one is not a mapping"),
        ("guards: [", "guards: [2, ", "guard 1 is not a mapping"),
        ("guards: [{set: two, ", "guards: [{", "the key 'set' is missing"),
    ],
)
def test_rules_that_make_no_sense_are_refused_in_one_line(tmp_path, old, new, said):
    assert old in GOOD
    path = tmp_path / "rule.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load_rule(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    with pytest.raises(InputError, match="name a rule"):
        load_rule(tmp_path / "none.yaml")


# --- candidates


@pytest.mark.parametrize(
    ("text", "candidate"),
    [
        ("builtin", Candidate("builtin", "builtin")),
        ("builtin@70,1.5,1", Candidate("builtin@70,1.5,1", "builtin", (70.0, 1.5, 1.0))),
        ("a/b@1,0,2^0.5", Candidate("a/b@1,0,2^0.5", "a/b", (1.0, 0.0, 2.0), idf_power=0.5)),
        ("builtin^0", Candidate("builtin^0", "builtin", idf_power=0.0)),
        ("builtin@plain", Candidate("builtin@plain", "builtin", plain=True)),
    ],
)
def test_candidates_as_they_are_typed(text, candidate):
    assert parse_candidate(text, ["one"]) == candidate


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("builtin@70,1", "2 given for 3"),
        ("builtin@0,0,0", "more than 0"),
        ("builtin@1,-1,1", "at least 0"),
        ("builtin@1,,1", "not numbers"),
        ("builtin^x", "idf power 'x'"),
        ("builtin^-1", "idf power '-1'"),
        ("builtin^nan", "idf power 'nan'"),
        ("builtin@plain^1", "no frequencies"),
    ],
)
def test_candidates_that_make_no_sense(text, said):
    with pytest.raises(InputError, match="candidate") as caught:
        parse_candidate(text, ["one"])
    assert said in str(caught.value)


def test_a_folder_of_that_name_is_a_model_and_one_with_runs_is_runs(tmp_path):
    odd = tmp_path / "model@1,1,1"
    odd.mkdir()
    assert parse_candidate(str(odd), ["one"]) == Candidate(str(odd), str(odd))
    (odd / "one.trec").write_text("")
    assert parse_candidate(str(odd), ["one"]).runs == odd
    with pytest.raises(InputError, match=r"two\.trec: no such run"):
        parse_candidate(str(odd), ["one", "two"])


# --- from end to end


RULE = """
modes: [hybrid, lexical]
sets:
  one: {path: one, split: dev}
  two: {kind: pairs, path: two.jsonl}
guards: [{set: one, least: first, slack: 0.9}]
least_topics: 9
"""


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Data, a rule, and an encoder that counts the documents it encodes."""
    data_set(tmp_path / "data" / "one", dev=[1, 3, 5, 7, 9], test=[32, 34])
    pairs = [(question(n), DOCUMENTS[n].text) for n in range(3, 23)]
    write_pairs(tmp_path / "data" / "two.jsonl", *pairs)
    (tmp_path / "rule.yaml").write_text(RULE)
    encoder = HashingEncoder(largest_weight=4.0)
    encoded: list[str] = []
    plain = encoder.encode_documents

    def counted(texts, ids=None):
        encoded.extend(texts)
        return plain(texts, ids)

    monkeypatch.setattr(encoder, "encode_documents", counted)
    monkeypatch.setattr("dupmae_toolkit.model.loading.load_encoder", lambda *_, **__: encoder)
    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", lambda *_, **__: encoder)
    return tmp_path, encoder, encoded


def chosen(folder: Path, encoder, *candidates: str, output: str = "out") -> choosing.Choice:
    rule = load_rule(folder / "rule.yaml")
    return choose(
        rule,
        [parse_candidate(text, ["one", "two"]) for text in candidates],
        folder / output,
        data=folder / "data",
        load=lambda name: encoder,
    )


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
def test_figures_are_those_of_a_search(world, monkeypatch):
    folder, encoder, encoded = world
    measured = []

    def watched(qrels, run, measures):
        measured.extend(qrels)
        return evaluate(qrels, run, measures)

    monkeypatch.setattr(choosing, "evaluate", watched)
    candidates = ["m", "m@0,0,1", "m@1,3,0^0.5", "m@plain"]
    choice = chosen(folder, encoder, *candidates)
    assert not {"q32", "q34"} & set(measured)  # those of the test
    settings = [{}, {"weights": (0, 0, 1)}, {"weights": (1, 3, 0), "power": 0.5}, {"plain": True}]
    for rule in load_rule(folder / "rule.yaml").sets:
        dataset = open_set(rule, folder / "data")
        place = folder / "ours" / rule.name
        with HybridIndex.build(place, list(dataset.corpus), encoder) as index:
            for candidate, setting in zip(choice.candidates, settings, strict=True):
                fusion = Fusion("sum", setting.get("weights"))
                options = {
                    "plain": setting.get("plain", False),
                    "idf_power": setting.get("power"),
                    "exact": True,
                }
                for mode in ("hybrid", "lexical"):
                    fused = fusion if mode == "hybrid" else "sum"
                    run = index.search_batch(dataset.queries(), 100, mode, fused, **options)
                    expected = evaluate(dataset.qrels(), run, ["nDCG@10"]).means["nDCG@10"]
                    assert candidate.figures[mode][rule.name].mean == pytest.approx(expected)
    figures = {c.name: c.figures["hybrid"]["mean"].mean for c in choice.candidates}
    assert len(set(figures.values())) > 2
    assert choice.chosen == max(figures, key=figures.get)
    record = json.loads((folder / "out" / "choice.json").read_text())
    assert record == json.loads(json.dumps(choice.to_dict()))
    assert record["rule"]["sha256"] == hashlib.sha256(RULE.encode()).hexdigest()
    assert record["candidates"][0]["weights_sha256"] == encoder.info.weights_sha256
    assert record["sets"]["one"]["topics"] == 5
    # Again: nothing is encoded twice.
    del encoded[:]
    assert chosen(folder, encoder, *candidates).to_dict() == choice.to_dict()
    assert not encoded


@pytest.mark.java
@pytest.mark.usefixtures("quick_disk")
def test_a_folder_keeps_to_one_rule(world):
    folder, encoder, encoded = world
    chosen(folder, encoder, "m")
    del encoded[:]
    (folder / "rule.yaml").write_text(RULE + "tie: 0.5\n")
    with pytest.raises(InputError, match="was made by another rule"):
        chosen(folder, encoder, "m", "m@1,1,1")
    assert not encoded
    (folder / "out" / "choice.json").write_text("[]")
    with pytest.raises(InputError, match="is not the record of a choice"):
        chosen(folder, encoder, "m")


def test_what_is_refused_leaves_nothing_behind(world):
    folder, encoder, encoded = world
    rule = folder / "rule.yaml"
    for old, new, said in (
        ("split: dev", "split: test", "is a test; choose on dev"),
        ("least_topics: 9", "least_topics: 26", "have 25 topics"),
        ("two.jsonl", "three.jsonl", "three.jsonl"),
        ("kind: pairs, path: two.jsonl", "kind: demonstration", "no demonstration here"),
    ):
        rule.write_text(RULE.replace(old, new))
        with pytest.raises(InputError) as caught:
            chosen(folder, encoder, "m")
        assert said in str(caught.value)
    rule.write_text(RULE)
    with pytest.raises(InputError, match="each once"):
        chosen(folder, encoder, "m", "m")
    assert not encoded
    assert not (folder / "out").exists()


def test_a_thousand_topics_unless_the_rule_says_otherwise(world):
    folder, encoder, _ = world
    (folder / "rule.yaml").write_text(RULE.replace("least_topics: 9", ""))
    with pytest.raises(InputError, match="the rule wants at least 1,000"):
        chosen(folder, encoder, "m")


def write_runs(folder: Path, data: Path, place: int) -> Path:
    """Runs that have each topic's answer at a place of their own."""
    for rule in load_rule(data.parent / "rule.yaml").sets:
        dataset = open_set(rule, data)
        made = Run()
        for topic, judged in dataset.qrels().items():
            others = [d.id for d in dataset.corpus if d.id not in judged]
            ids = [*others[: place - 1], *judged]
            made.topics[topic] = Ranking(ids, np.arange(len(ids), 0, -1, np.float32))
        write_run(made, folder / f"{rule.name}.trec")
    return folder


def test_runs_are_candidates_too(world, capsys):
    folder, _, _ = world
    (folder / "rule.yaml").write_text(RULE.replace(", lexical]", "]"))
    good, bad = (write_runs(folder / f"at{n}", folder / "data", n) for n in (1, 3))
    command = ["choose", folder / "rule.yaml", bad, good, "--data", folder / "data"]
    code, out, err = run(capsys, *command, "--output", folder / "out", "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["chosen"] == str(good)
    values = [c["figures"]["hybrid"]["mean"]["mean"] for c in record["candidates"]]
    assert values == pytest.approx([1 / math.log2(4), 1.0])
    code, out, _ = run(capsys, *command, "--output", folder / "out")
    assert out.splitlines()[0].startswith("nDCG@10 on 25 development topics")
    assert f"chosen: {good}" in out
    # The first is the better one: the other falls below the guard, and is told so.
    (folder / "rule.yaml").write_text(RULE.replace(", lexical]", "]").replace("0.9", "0.1"))
    command[2:4] = [good, bad]
    code, out, _ = run(capsys, *command, "--output", folder / "other")
    assert (code, f"chosen: {good}" in out) == (0, True)
    assert f"{bad}: hybrid on one at least that of the first candidate − 0.1; it has 0.5000" in out


def test_runs_have_no_modes(world):
    folder, encoder, _ = world
    runs = write_runs(folder / "runs", folder / "data", 2)
    with pytest.raises(InputError, match="runs have no modes"):
        chosen(folder, encoder, str(runs))


def test_none_chosen_is_a_failure_that_is_recorded(world, capsys):
    folder, _, _ = world
    text = RULE.replace(", lexical]", "]").replace("least: first, slack: 0.9", "least: 0.9")
    (folder / "rule.yaml").write_text(text)
    runs = write_runs(folder / "runs", folder / "data", 2)
    command = ["choose", folder / "rule.yaml", runs, "--data", folder / "data"]
    code, out, err = run(capsys, *command, "--output", folder / "out")
    assert code == 1
    assert "no candidate passes all guards" in err
    assert "it has 0.6309" in out
    assert json.loads((folder / "out" / "choice.json").read_text())["chosen"] is None


def test_a_test_split_is_refused_by_the_command(world, capsys):
    folder, _, _ = world
    (folder / "rule.yaml").write_text(RULE.replace("split: dev", "split: test"))
    command = ["choose", folder / "rule.yaml", "builtin", "--data", folder / "data"]
    code, out, err = run(capsys, *command, "--output", folder / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is a test" in err
