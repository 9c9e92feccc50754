"""From `mine` through `finetune` and `teach` to distillation: each reads what the other wrote."""

from __future__ import annotations

import json
from functools import partial

import pytest

from dupmae_toolkit import DupMAEEncoder
from dupmae_toolkit.training.data.group_files import parse_group
from tests.cli_support import run
from tests.families import save_checkpoint, sentences

TOPICS = 8


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A model; a BEIR folder whose first documents answer the queries; a run that lists others."""
    folder = tmp_path_factory.mktemp("home")
    save_checkpoint(folder / "model")
    texts = sentences(40, words=8)
    corpus = [
        {"_id": f"d{i}", "title": "River" if i % 3 else "", "text": t} for i, t in enumerate(texts)
    ]
    queries = [{"_id": f"q{i}", "text": texts[i][:25]} for i in range(TOPICS)]
    (folder / "set" / "qrels").mkdir(parents=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "set" / f"{name}.jsonl").write_text(lines)
    judged = "".join(f"q{i}\td{i}\t1\n" for i in range(TOPICS))
    (folder / "set" / "qrels" / "train.tsv").write_text(judged)
    # The first topic's positive is not listed, so it has no score; the last lists nothing else.
    run = [f"q{i} Q0 d{i} 1 9.5 t\n" for i in range(1, TOPICS)]
    run += [f"q{i} Q0 d{10 + 3 * i + n} 2 {8 - n} t\n" for i in range(TOPICS - 1) for n in range(3)]
    (folder / "run.trec").write_text("".join(run))
    (folder / "recipe.yaml").write_text(
        f"""
model: {folder / "model"}
output: "{{data}}/out"
steps: 2
batch_size: 4
query_length: 16
document_length: 32
negatives: 2
losses: {{joint: 1}}
log_every: 1
precision: fp32
data: [{{path: "{{data}}/mined.jsonl.gz", kind: groups}}]
"""
    )
    return folder


@pytest.fixture
def dupmae(capsys):
    return partial(run, capsys)


def test_what_is_mined_is_trained_on_and_what_is_taught_is_distilled(dupmae, home, tmp_path):
    mined, taught = tmp_path / "mined.jsonl.gz", tmp_path / "taught.jsonl"
    mining = ["mine", home / "set", "--run", home / "run.trec", "-n", 3, "--keep-bare"]
    assert dupmae(*mining, "--output", mined)[0] == 0
    train = ["finetune", home / "recipe.yaml", "--data", tmp_path]
    assert dupmae(*train)[0] == 0
    # A search's list has no score for every positive; a teacher's scores have.
    distil = ["--set", "losses={kl_joint: 1, margin_lexical: 1}", "--set", "in_batch=false"]
    distil += ["--set", f"output={tmp_path / 'second'}", "--set", f"model={tmp_path / 'out/final'}"]
    code, _, err = dupmae(*train, *distil)
    assert code == 2
    assert "mined.jsonl.gz:1: a document without a teacher's score" in err
    assert "dupmae teach" in err
    teaching = ["teach", mined, "--encoder", home / "model", "--output", taught]
    assert dupmae(*teaching, "--keep-bare")[0] == 0
    distil += ["--set", f"data.1.path={taught}", "--resume"]
    assert dupmae(*train, *distil)[0] == 0
    encoder = DupMAEEncoder.from_pretrained(tmp_path / "second" / "final", precision="fp32")
    assert encoder.encode_queries(["river"]).dense.shape == (1, encoder.dense_dim)


def test_every_text_and_score_that_was_taught_is_read(dupmae, home, tmp_path):
    mined, taught = tmp_path / "mined.jsonl", tmp_path / "taught.jsonl"
    assert dupmae("mine", home / "set", "--run", home / "run.trec", "--output", mined)[0] == 0
    # In bf16 a text's vectors depend a little on what it is encoded with.
    teach = ("teach", mined, "--encoder", home / "model", "--precision", "fp32")
    assert dupmae(*teach, "--output", taught)[0] == 0
    encoder = DupMAEEncoder.from_pretrained(home / "model", precision="fp32")
    texts = {}
    for line in (home / "set" / "corpus.jsonl").read_text().splitlines():
        row = json.loads(line)
        texts[row["_id"]] = f"{row['title']} {row['text']}".strip()
    lines = taught.read_text().splitlines()
    assert len(lines) == TOPICS - 1
    for number, line in enumerate(lines, start=1):
        group = parse_group(line, taught, number)
        topic = int(json.loads(line)["query_id"].removeprefix("q"))
        assert [p.text for p in group.positives] == [texts[f"d{topic}"]]
        expected = [texts[f"d{10 + 3 * topic + n}"] for n in range(3)]
        assert [p.text for p in group.negatives] == expected
        query = encoder.encode_queries([group.query])
        passages = [*group.positives, *group.negatives]
        documents = encoder.encode_documents([p.text for p in passages])
        joint = (query.dense @ documents.dense.T)[0] + (
            query.lexical @ documents.lexical.T
        ).toarray()[0]
        assert [p.score for p in passages] == pytest.approx(joint.tolist(), rel=1e-3, abs=1e-3)
