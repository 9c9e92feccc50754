"""Hard negatives out of lists: against a plain reading of the rules, and what it counts."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.mining.candidates import Candidates
from dupmae_toolkit.mining.negative_filters import MiningOptions
from dupmae_toolkit.mining.negatives import mine
from dupmae_toolkit.mining.report import MiningReport
from dupmae_toolkit.mining.topics import Topic, judged_topics
from dupmae_toolkit.records import Document, Query, Ranking

ODD = ["é", "日本", '"', "d\\0", "NA", "001", "1e5", "-"]


def collection(seed=0, topics=9, documents=60, depth=40):
    """Documents with repeated titles and texts, topics, and a list with scores for each."""
    dice = random.Random(seed)
    ids = ODD + [f"d{n}" for n in range(documents - len(ODD))]
    store = {
        name: Document(
            name, dice.choice(["", "A title", "a  TITLE", f"T{name}"]), f"Text {dice.randrange(40)}"
        )
        for name in ids
    }
    found, lists = [], {}
    for number in range(topics):
        answers = dice.sample(ids, 3)
        topic = Topic(Query(f"q{number}", f"text {number}"), tuple(answers[:2]), frozenset(answers))
        ranked = dice.sample(ids, depth)
        scores = sorted((round(dice.uniform(-3, 9), 2) for _ in ranked), reverse=True)
        positives = {name: round(dice.uniform(0, 9), 2) for name in answers[:2]}
        positives |= {n: s for n, s in zip(ranked, scores, strict=True) if n in positives}
        found.append(topic)
        lists[topic.query.id] = Candidates(Ranking(ranked, np.array(scores)), positives)
    return found, lists, store


def run(topics, lists, store, teacher=None, **options):
    report = MiningReport()

    def fetch(names):
        return {name: store[name] for name in names if name in store}

    def search(batch):
        return [lists[topic.query.id] for topic in batch]

    chosen = MiningOptions(**options)
    return list(mine(topics, search, fetch, chosen, report, teacher)), report


def plain(text):
    return " ".join(text.casefold().split())


def eligible(topic, listed, store, o, teacher=None):
    """The rules once more, candidate by candidate, without regard to cost."""
    best = max(listed.positives.values())
    limit = min(
        best - o.margin if o.margin is not None else np.inf,
        best - o.margin_ratio * abs(best) if o.margin_ratio is not None else np.inf,
    )
    texts = {plain(store[p].text) for p in topic.positives} | {plain(topic.query.text)}
    titles = {plain(store[p].title) for p in topic.positives} | {plain(topic.query.text)}
    taught = [teacher[p] for p in topic.positives if p in teacher] if teacher else []
    kept = []
    for rank, (name, score) in enumerate(
        zip(listed.ranking.ids, listed.ranking.scores, strict=True), 1
    ):
        document = store[name]
        bad = [
            not o.from_rank <= rank <= (o.to_rank or 10**9),
            name in topic.answers,
            score > limit,
            o.same_text and plain(document.text) in texts,
            o.same_title and plain(document.title) in titles - {""},
            bool(taught) and name in teacher and teacher[name] > max(taught) - o.teacher_margin,
        ]
        if not any(bad):
            kept.append((rank, name, float(score)))
    return kept


SETTINGS = [
    {},
    {"from_rank": 4, "to_rank": 20},
    {"margin": 1.5},
    {"margin_ratio": 0.3},
    {"margin": 0.2, "margin_ratio": 0.1, "same_title": True},
    {"same_text": False, "same_title": True},
    {"margin": -2.0},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_top_ones_are_those_that_the_rules_leave(settings):
    topics, lists, store = collection()
    options = MiningOptions(pick="top", negatives=6, **settings)
    examples, _ = run(topics, lists, store, pick="top", negatives=6, **settings)
    by_id = {example.query_id: example for example in examples}
    for topic in topics:
        expected, seen = [], set()
        for rank, name, score in eligible(topic, lists[topic.query.id], store, options):
            key = plain(store[name].text)
            if options.same_text and key in seen:
                continue
            seen.add(key)
            expected.append((rank, name, np.float32(score)))
        got = by_id[topic.query.id].negatives if topic.query.id in by_id else []
        assert [(p.rank, p.id, np.float32(p.score)) for p in got] == expected[:6]
        assert [(p.title, p.text) for p in got] == [
            (store[p.id].title, store[p.id].text) for p in got
        ]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_drawn_ones_pass_the_rules_and_every_candidate_is_accounted_for(settings):
    topics, lists, store = collection(1)
    options = MiningOptions(negatives=6, **settings)
    examples, report = run(topics, lists, store, negatives=6, **settings)
    for example in examples:
        topic = next(t for t in topics if t.query.id == example.query_id)
        allowed = {n for _, n, _ in eligible(topic, lists[example.query_id], store, options)}
        assert {p.id for p in example.negatives} <= allowed
        ranks = [p.rank for p in example.negatives]
        assert ranks == sorted(ranks)
    counted = sum(report.dropped.values()) + report.not_needed + report.negatives
    assert report.candidates == counted == sum(len(c.ranking) for c in lists.values())
    assert report.negatives == sum(len(e.negatives) for e in examples)


def test_the_drawing_is_even_and_depends_on_seed_and_query_alone():
    topics, lists, store = collection(2)
    first, _ = run(topics, lists, store, negatives=5)
    again, _ = run(topics, lists, store, negatives=5)
    alone, _ = run(topics[4:5], lists, store, negatives=5)
    other, _ = run(topics, lists, store, negatives=5, seed=2)
    assert [e.to_json() for e in first] == [e.to_json() for e in again]
    assert first[4].to_json() == alone[0].to_json()
    assert [e.to_json() for e in first] != [e.to_json() for e in other]
    drawn = Counter()
    for seed in range(600):
        examples, _ = run(topics[:1], lists, store, negatives=5, seed=seed, same_text=False)
        drawn.update(p.rank for p in examples[0].negatives)
    options = MiningOptions(negatives=5, same_text=False)
    allowed = eligible(topics[0], lists["q0"], store, options)
    expected = 600 * 5 / len(allowed)
    assert set(drawn) == {rank for rank, _, _ in allowed}
    spread = 5 * np.sqrt(expected)
    assert all(abs(count - expected) < spread for count in drawn.values())


def test_a_teacher_leaves_out_what_it_scores_near_the_positive():
    topics, lists, store = collection(3)
    dice = random.Random(5)
    scores = {
        t.query.id: {name: dice.uniform(0, 1) for name in store if dice.random() < 0.8}
        for t in topics
    }
    del scores["q1"]
    for name in topics[2].positives:
        scores["q2"].pop(name, None)
    options = {"pick": "top", "negatives": 40, "teacher_margin": 0.1, "same_text": False}
    examples, report = run(topics, lists, store, lambda topic: scores.get(topic, {}), **options)
    by_id = {example.query_id: example for example in examples}
    for topic in topics:
        expected = eligible(
            topic,
            lists[topic.query.id],
            store,
            MiningOptions(**options),
            scores.get(topic.query.id, {}),
        )
        got = by_id[topic.query.id].negatives if expected else []
        assert [p.id for p in got] == [name for _, name, _ in expected]
    assert report.dropped["teacher"] > 0
    assert report.unknown_to_teacher == 1


def topic_of(positives=("p",), query="query"):
    return Topic(Query("q", query), tuple(positives), frozenset(positives))


STORE = {
    "p": Document("p", "Right", "The answer."),
    "copy": Document("copy", "other", "the  ANSWER."),
    "echo": Document("echo", "", "Query"),
    "namesake": Document("namesake", "right", "Another text."),
    "asked": Document("asked", "QUERY", "Yet another text."),
    "q": Document("q", "self", "its own text"),
    "a": Document("a", "x", "One."),
    "b": Document("b", "y", "one."),
}


def lists_of(names, **positives):
    scores = np.arange(len(names), 0, -1, dtype=np.float32)
    return {"q": Candidates(Ranking(list(names), scores), positives)}


def test_each_filter_by_itself():
    everything = lists_of(STORE, p=8.0)
    examples, report = run([topic_of()], everything, STORE, same_title=True, drop_self=True)
    assert [p.id for p in examples[0].negatives] in (["a"], ["b"])
    assert report.dropped == {
        "positive": 1, "self": 1, "same_text": 2, "same_title": 2, "duplicate": 1
    }  # fmt: skip
    examples, _ = run([topic_of()], everything, STORE, same_text=False)
    assert [p.id for p in examples[0].negatives] == [n for n in STORE if n != "p"]


def test_a_positive_that_no_search_scored_leaves_margins_without_judgement():
    examples, report = run([topic_of()], lists_of(["a", "namesake"]), STORE)
    assert examples[0].positives[0].score is None
    assert '"score": null' in examples[0].to_json()
    assert report.positives_without_score == 0
    examples, report = run([topic_of()], lists_of(["a", "namesake"]), STORE, margin=0.0)
    assert (examples, report.positives_without_score, report.dropped["margin"]) == ([], 1, 2)


def test_topics_without_answers_or_candidates_are_counted():
    nowhere = Topic(Query("n", "x"), (), frozenset())
    lost = Topic(Query("l", "x"), ("gone",), frozenset(["gone"]))
    half = topic_of(("p", "gone"))
    lists = lists_of(["p"], p=1.0)
    examples, report = run([nowhere, lost, half], lists, STORE)
    assert examples == []
    values = report.to_dict()
    assert (values["queries"], values["without_positives"]) == (3, 2)
    assert (values["without_negatives"], values["positives_not_in_corpus"]) == (1, 2)
    assert values["ranks"] is None
    examples, _ = run([half], lists, STORE, keep_bare=True)
    assert [p.id for p in examples[0].positives] == ["p"]
    assert examples[0].negatives == []


def test_the_report_tells_ranks_and_margins():
    examples, report = run([topic_of()], lists_of(["a", "p", "namesake", "asked"]), STORE)
    values = report.to_dict()
    assert [p.rank for p in examples[0].negatives] == [1, 3, 4]
    assert values["positive_ranks"]["median"] == 2
    ranks, margins = [1, 3, 4], [-1.0, 1.0, 2.0]
    assert values["ranks"]["mean"] == pytest.approx(np.mean(ranks), rel=1e-5)
    assert values["ranks"]["p90"] == pytest.approx(np.quantile(ranks, 0.9))
    assert values["margins"]["median"] == np.median(margins)
    assert values["negatives_above_positive"] == 1
    json.dumps(values)


def test_a_candidate_without_a_document_is_refused():
    with pytest.raises(InputError, match=r"topic q lists document 'ghost'.*name the corpus"):
        run([topic_of()], lists_of(["ghost"], p=1.0), STORE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": 0}, "at least 1"),
        ({"from_rank": 0}, "ranks count from 1"),
        ({"from_rank": 5, "to_rank": 4}, "before the first"),
        ({"pick": "best"}, "random, top"),
        ({"margin": float("nan")}, "finite"),
        ({"margin_ratio": 1.5}, "between 0 and 1"),
        ({"teacher_margin": float("inf")}, "finite"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        MiningOptions(**options)


def test_lower_grades_are_neither_positives_nor_negatives():
    qrels = {"q": {"b": 1, "a": 1, "best": 2, "no": 0}, "other": {"x": 1}}
    queries = [Query("q", "x"), Query("unjudged", "y")]
    (topic,) = judged_topics(queries, qrels)
    assert topic.positives == ("best", "a", "b")
    (topic,) = judged_topics(queries, qrels, grade=2)
    assert (topic.positives, topic.answers) == (("best",), {"best", "a", "b"})
    with pytest.raises(InputError, match="not one of the 1 queries"):
        judged_topics([Query("z", "x")], qrels)
    with pytest.raises(InputError, match="at least 1"):
        judged_topics(queries, qrels, grade=0)


def test_a_document_of_a_title_alone_is_no_negative_where_titles_are_not_written():
    store = {name: Document(name, f"T{name}", name) for name in "ab"}
    store["c"] = Document("c", "Tc", " ")
    topic = Topic(Query("q", "Ta"), ("a",), frozenset("a"))
    lists = {"q": Candidates(Ranking(["a", "c", "b"], np.array([3.0, 2.0, 1.0])))}
    for texts_only, expected in ((True, ["b"]), (False, ["c", "b"])):
        ((example,), report) = run([topic], lists, store, texts_only=texts_only)
        assert [negative.id for negative in example.negatives] == expected
        assert report.to_dict()["dropped"]["blank"] == texts_only
