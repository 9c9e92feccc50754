"""Cross-encoders as teachers: scores against transformers' own, pair by pair."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from tokenizers import processors
from transformers import (
    BertForSequenceClassification,
    DistilBertForSequenceClassification,
    RobertaForSequenceClassification,
)

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.mining.examples import Example, Passage, read_examples, write_examples
from dupmae_toolkit.mining.teachers import cross_encoder
from dupmae_toolkit.mining.teachers.cross_encoder import CrossEncoder
from tests.cli_support import run
from tests.tiny import save_tiny, tiny_config, tiny_tokenizer

KINDS = {
    "bert": BertForSequenceClassification,
    "distilbert": DistilBertForSequenceClassification,
    "roberta": RobertaForSequenceClassification,
}


def pair_tokenizer(family="bert"):
    tokenizer = tiny_tokenizer()
    if family == "bert":
        names = ["input_ids", "token_type_ids", "attention_mask"]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def save_classifier(folder, family="bert", labels=1, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = tiny_config(family, num_labels=labels, **changes)
        model = KINDS[family](config).eval()
    model.save_pretrained(folder)
    pair_tokenizer(family).save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    return folder, save_classifier(folder)


def pairs(count=40, seed=0):
    """Pairs of many lengths, some longer than the model's 40 positions, some empty."""
    dice = np.random.default_rng(seed)

    def words(n):
        return " ".join(f"w{k}p{k % 9}" if k % 3 else f"w{k}" for k in dice.integers(0, 50, n))

    sizes = dice.integers(0, 12, count), dice.integers(0, 30, count)
    return [(words(a) or "w1", words(b)) for a, b in zip(*sizes, strict=True)]


def plain(model, given, max_length):
    """One pair at a time, as transformers' users would."""
    tokenizer, logits = pair_tokenizer(model.config.model_type), []
    for query, text in given:
        # In lists, because an empty text by itself counts as none.
        inputs = tokenizer(
            [query], [text], truncation="longest_first", max_length=max_length, return_tensors="pt"
        )
        assert ("token_type_ids" in inputs) == (model.config.model_type == "bert")
        with torch.no_grad():
            logits.append(model(**inputs).logits[0].double().numpy())
    return np.stack(logits)


@pytest.mark.parametrize(("family", "room"), [("bert", 40), ("distilbert", 40), ("roberta", 39)])
def test_scores_are_those_of_the_model_itself(tmp_path, family, room):
    model = save_classifier(tmp_path / "model", family)
    teacher = CrossEncoder(tmp_path / "model", device="cpu", precision="fp32")
    assert teacher.max_length == room
    given = pairs()
    scores = teacher.score_pairs(given)
    np.testing.assert_allclose(scores, plain(model, given, room)[:, 0], atol=1e-5)
    lengths = [len(i) for i in pair_tokenizer()(*map(list, zip(*given, strict=True))).input_ids]
    assert teacher.cut == sum(length > room for length in lengths) > 0


@pytest.mark.parametrize("labels", [2, 3])
def test_several_labels_give_the_log_odds_of_one(tmp_path, labels):
    names = dict(enumerate(["no", "yes", "perhaps"][:labels]))
    model = save_classifier(tmp_path / "model", labels=labels, id2label=names)
    given = pairs(12)
    shares = torch.softmax(torch.tensor(plain(model, given, 40)), 1).numpy()
    expected = np.log(shares[:, 1] / (1 - shares[:, 1]))
    for label in ("yes", "1"):
        teacher = CrossEncoder(tmp_path / "model", label=label, device="cpu", precision="fp32")
        np.testing.assert_allclose(teacher.score_pairs(given), expected, atol=1e-4)
        assert f"label 1 of {labels}" in teacher.describe()["score"]
    with pytest.raises(InputError, match=r"0 \(no\), 1 \(yes\).*--label"):
        CrossEncoder(tmp_path / "model")
    with pytest.raises(InputError, match="no label 'maybe'"):
        CrossEncoder(tmp_path / "model", label="maybe")


def test_batches_change_nothing_but_rounding(bert, monkeypatch):
    given = pairs(30)
    teacher = CrossEncoder(bert[0], device="cpu", precision="fp32")
    whole = teacher.score_pairs(given)
    assert whole.tolist() == teacher.score_pairs(given).tolist()
    monkeypatch.setattr(cross_encoder, "TOKENS_ON_CPU", 50)
    np.testing.assert_allclose(teacher.score_pairs(given), whole, atol=1e-5)
    assert teacher.score_pairs([]).shape == (0,)
    example = Example("q", "w1", [Passage("a", "w2", "w3")], [Passage("b", "", "w4 w5")])
    expected = teacher.score_pairs([("w1", "w2 w3"), ("w1", "w4 w5")])
    assert teacher.score([example]).tolist() == expected.tolist()


def test_a_batch_that_does_not_fit_is_halved(bert, monkeypatch):
    given = pairs(9)
    teacher = CrossEncoder(bert[0], device="cpu", precision="fp32")
    expected = teacher.score_pairs(given)
    assert teacher._takes_types  # looked up by now, in the signature of the true forward
    forward = teacher.model.forward

    def small(input_ids, **others):
        if len(input_ids) > 2:
            raise torch.cuda.OutOfMemoryError
        return forward(input_ids=input_ids, **others)

    monkeypatch.setattr(teacher.model, "forward", small)
    np.testing.assert_allclose(teacher.score_pairs(given), expected, atol=1e-5)


def test_very_long_texts_cost_no_more_than_their_beginning(bert):
    teacher = CrossEncoder(bert[0], device="cpu", precision="fp32")
    long = "w1 w2p3 " * 100_000
    expected = plain(bert[1], [("w5", "w1 w2p3 " * 40)], 40)[0, 0]
    assert teacher.score_pairs([("w5", long)])[0] == pytest.approx(expected, abs=1e-5)
    assert teacher.cut == 1


def test_max_length_and_precision_are_the_callers(bert):
    given = pairs(8)
    teacher = CrossEncoder(bert[0], max_length=12, device="cpu", precision="fp32")
    np.testing.assert_allclose(
        teacher.score_pairs(given), plain(bert[1], given, 12)[:, 0], atol=1e-5
    )
    half = CrossEncoder(bert[0], max_length=12, device="cpu", precision="bf16")
    np.testing.assert_allclose(half.score_pairs(given), teacher.score_pairs(given), atol=0.1)
    assert (half.describe()["precision"], half.describe()["max_length"]) == ("bf16", 12)
    for wrong in (3, 41):
        with pytest.raises(InputError, match="give 5 to 40 tokens"):
            CrossEncoder(bert[0], max_length=wrong)
    with pytest.raises(InputError, match="auto, fp32, bf16"):
        CrossEncoder(bert[0], precision="fp16")
    with pytest.raises(InputError, match="cannot be used"):
        CrossEncoder(bert[0], device="nonsense")


def test_weights_that_are_damaged_give_no_scores(tmp_path):
    model = save_classifier(tmp_path / "model")
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    model.save_pretrained(tmp_path / "model")
    teacher = CrossEncoder(tmp_path / "model", device="cpu")
    with pytest.raises(DupMAEError, match="not finite"):
        teacher.score_pairs([("w1", "w2")])


def test_what_is_no_cross_encoder_is_refused(bert, tmp_path):
    save_tiny(tmp_path / "lm")
    with pytest.raises(InputError, match="not a trained cross-encoder"):
        CrossEncoder(tmp_path / "lm")
    with pytest.raises(InputError, match="no such folder"):
        CrossEncoder(tmp_path / "missing" / "deep" / "er")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no config\.json"):
        CrossEncoder(tmp_path / "empty")
    broken = tmp_path / "broken"
    save_classifier(broken)
    (broken / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(InputError, match="cannot be loaded") as caught:
        CrossEncoder(broken)
    assert "\n" not in str(caught.value)


@pytest.fixture
def dupmae(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return partial(run, capsys, "teach")


@pytest.fixture
def mined(tmp_path):
    examples = [
        Example(
            f"q{n}", f"w{n}", [Passage(f"p{n}", "w3", f"w{n} w9")],
            [Passage(f"n{n}{m}", "", f"w{n + m} " * 20, 1.0, m) for m in range(1, 4)],
        )
        for n in range(5)
    ]  # fmt: skip
    write_examples(tmp_path / "mined.jsonl", examples, dict)
    return tmp_path / "mined.jsonl"


def test_the_command_teaches_with_a_cross_encoder(dupmae, bert, mined, tmp_path):
    words = [mined, "--cross-encoder", bert[0], "--device", "cpu", "--precision", "fp32"]
    code, out, err = dupmae(*words, "--output", "a.jsonl", "--max-length", 16)
    assert (code, out) == (0, "")
    assert "15 pairs were longer than 16 tokens" in err
    found = [example for _, example in read_examples(tmp_path / "a.jsonl")]
    given = [(e.query, p.contents) for e in found for p in e.passages]
    expected = plain(bert[1], given, 16)[:, 0]
    np.testing.assert_allclose([p.score for e in found for p in e.passages], expected, atol=1e-5)
    code, out, err = dupmae(*words, "--output", "b.jsonl", "--max-length", 16, "--json")
    assert code == 0
    assert json.loads(out)["teacher"]["model"] == str(bert[0])
    assert json.loads(out) == json.loads((tmp_path / "b.jsonl.json").read_text())
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_the_command_teaches_with_runs(dupmae, mined, tmp_path):
    (tmp_path / "r.trec").write_text("".join(f"q{n} Q0 p{n} 1 {n} t\n" for n in range(5)))
    words = [mined, "--run", tmp_path / "r.trec", "--run", tmp_path / "r.trec"]
    code, _, err = dupmae(*words, "--output", "a.jsonl", "--method", "rrf", "--weights", "1,3")
    assert code == 0
    assert "5 of 5 queries" in err
    (_, example), *_ = read_examples(tmp_path / "a.jsonl")
    assert example.positives[0].score == pytest.approx(4 / 61)
    assert [p.score for p in example.negatives] == [0, 0, 0]
    code, _, err = dupmae(*words, "--output", "b.jsonl", "--missing", "drop")
    assert code == 2
    assert "nothing is left of 5" in err
    code, _, err = dupmae(*words, "--output", "b.jsonl", "--missing", "drop", "--keep-bare")
    assert code == 0
    assert "15 texts unknown to the teacher" in err


def test_the_command_teaches_with_an_encoder(dupmae, mined, tmp_path):
    save_tiny(tmp_path / "lm")
    words = [mined, "--encoder", tmp_path / "lm", "--device", "cpu", "--precision", "fp32"]
    assert dupmae(*words, "--part", "dense", "--output", "a.jsonl")[0] == 0
    from dupmae_toolkit.model.encoder import DupMAEEncoder

    encoder = DupMAEEncoder.from_pretrained(tmp_path / "lm", device="cpu", precision="fp32")
    (_, example), *_ = read_examples(tmp_path / "a.jsonl")
    query = encoder.encode_queries([example.query]).dense[0]
    document = encoder.encode_documents([example.negatives[0].contents]).dense[0]
    assert example.negatives[0].score == pytest.approx(float(query @ document), rel=1e-4)


@pytest.mark.java
def test_the_command_teaches_with_bm25(dupmae, mined, tmp_path):
    documents = {p.id: p.contents for _, e in read_examples(mined) for p in e.passages}
    lines = [json.dumps({"id": name, "text": text}) + "\n" for name, text in documents.items()]
    (tmp_path / "corpus.jsonl").write_text("".join(lines))
    words = [mined, "--bm25", tmp_path / "corpus.jsonl", "--bm25-index", tmp_path / "kept"]
    code, _, _ = dupmae(*words, "--output", "a.jsonl")
    assert (code, (tmp_path / "kept" / "manifest.json").exists()) == (0, True)
    found = [example for _, example in read_examples(tmp_path / "a.jsonl")]
    assert all(e.positives[0].score > 0 for e in found)
    assert found[4].negatives[0].score == 0  # it has no word of its query


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "o.jsonl"], "name one teacher"),
        (["--output", "o.jsonl", "--run", "r", "--bm25", "c"], "--run and --bm25"),
        (["--output", "o.jsonl", "--run", "r", "--label", "x"], "--label goes with --cross-enc"),
        (["--output", "o.jsonl", "--encoder", "m", "--norm", "none"], "--norm goes with --run"),
        (["--output", "o.jsonl", "--run", "missing.trec"], "missing.trec: no such file"),
        (["--output", "o.jsonl", "--cross-encoder", "/missing/model"], "no such folder"),
        (["--output", "o.jsonl", "--bm25", "/missing.jsonl"], "no such file"),
        (["--output", "o.txt", "--run", "r"], "name such a file"),
        (["--output", "o.jsonl", "--run", "r", "--margin-ratio", 3], "between 0 and 1"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(dupmae, mined, words, message, tmp_path):
    before = sorted(path.name for path in tmp_path.iterdir())
    code, out, err = dupmae(mined, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_missing_examples_are_named_and_the_help_has_examples(dupmae):
    code, _, err = dupmae("nowhere.jsonl", "--run", "r", "--output", "o.jsonl")
    assert (code, "nowhere.jsonl: no such file" in err) == (2, True)
    assert "Examples:" in dupmae("--help")[1]
