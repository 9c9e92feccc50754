"""The losses of a batch of groups, against the same computed from the two vectors of each text."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForMaskedLM

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training.data.groups import Draw, Group, Pair, ScoredText
from dupmae_toolkit.training.data.pair_collator import PairCollator
from dupmae_toolkit.training.pair_model import PairModel
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.sources import DataSource, TeacherSource
from dupmae_toolkit.training.teachers import Teachers, Teaching
from tests.tiny import save_tiny, tiny_encoder

WORDS = [f"w{i}" for i in range(50)]
EVERY = (
    *("joint", "lexical", "dense", "aggretriever", "self_lexical", "self_dense"),
    *(f"{kind}_{part}" for kind in ("kl", "margin") for part in ("joint", "lexical", "dense")),
)


def recipe_of(**changes):
    settings = {
        "model": "none",
        "output": "none",
        "data": [DataSource("none.jsonl", "groups")],
        "steps": 4,
        "query_length": 8,
        "document_length": 12,
        "negatives": 2,
        "losses": dict.fromkeys(EVERY, 1.0),
        "dense_scale": 3.0,
        "precision": "fp32",
    }
    return FinetuneRecipe(**{**settings, **changes})


def encoder_of(**changes):
    encoder = tiny_encoder()
    encoder.config = encoder.config.but(**{"normalize": True, "top_k": 0, **changes})
    return encoder


def draw(query, positive, negatives, seed=0):
    scored = [ScoredText(text, float(len(text) % 7)) for text in negatives]
    return Draw(lambda: Group(query, [ScoredText(positive, 5.0)], scored, "a.jsonl:1"), seed)


BATCH = [
    draw("w1 w2", "w3 w4", ["w5 w6", "w7"]),
    draw("w8", "w9 w10", ["w11"]),  # one negative fewer
    draw("w12 w13", "w14", ["w3 w4", "w15 w16 w17"]),  # another's positive is its negative
    draw("w1 w2", "w18 w19", ["w20", "w21 w22"]),  # the first query again
]


def test_groups_are_collated_side_by_side_and_what_is_no_negative_is_marked():
    encoder = encoder_of()
    batch = PairCollator(encoder, recipe_of())(BATCH)
    documents = [text for item in BATCH for text in item.drawn(2).documents]
    documents.insert(5, "w11")  # repeated to fill up
    tokens = encoder.tokenizer(documents, padding=True, return_tensors="pt")
    assert torch.equal(batch["document_ids"], tokens["input_ids"])
    assert batch["target"].tolist() == [0, 3, 6, 9]
    assert batch["own"].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert batch["repeated"].nonzero().tolist() == [[i, 5] for i in range(4)]
    place = documents.index("w3 w4", 6)
    expected = torch.zeros(4, 12, dtype=torch.bool)
    expected[:, 5] = True
    expected[0, [9, place]] = True  # the positive of the same query; its own positive's text
    expected[3, 0] = True
    assert torch.equal(batch["same"], expected)
    assert batch["scores"][1].tolist() == [5.0, 3.0, 0.0]
    assert batch["scores"].shape == (4, 3)
    alone = PairCollator(encoder, recipe_of())([draw("w1", "w2", [])] * 2)
    assert alone["own"].tolist() == [[0], [1]]


def test_a_document_without_a_score_is_refused_where_scores_are_needed():
    unscored = Draw(lambda: Group("q", [ScoredText("p")], [], "a.jsonl:9"), 0)
    with pytest.raises(InputError, match=r"a\.jsonl:9: a document without a teacher's score"):
        PairCollator(encoder_of(), recipe_of())([unscored])
    with pytest.raises(InputError, match="a pair: a document without"):
        PairCollator(encoder_of(), recipe_of())([Pair("q", "d")])
    recipe = recipe_of(losses={"joint": 1.0})
    assert "scores" not in PairCollator(encoder_of(), recipe)([unscored, Pair("q", "d")])


def divergence(student, teacher):
    """KL(softmax(teacher) || softmax(student)) of two lists of numbers."""
    p, log_q = torch.softmax(teacher, 0), torch.log_softmax(student, 0)
    return (p * (p.log() - log_q)).sum()


def plain_losses(encoder, batch, in_batch, scale, sizes=(), normalize=True):
    """Every loss once more, query by query and with lists instead of masks."""
    with torch.no_grad():
        query = encoder(batch["query_ids"], batch["query_mask"])
        document = encoder(batch["document_ids"], batch["document_mask"])
    scores = {"lexical": [query.lexical @ document.lexical.T], "dense": []}
    for size in (16, *sizes):
        q, d = query.dense[:, :size], document.dense[:, :size]
        if normalize:
            q, d = functional.normalize(q, dim=1), functional.normalize(d, dim=1)
        scores["dense"].append(scale * q @ d.T)
    joint = scores["lexical"][0] + scores["dense"][0]
    scores["joint"] = [joint]
    repeated = batch["repeated"][0]
    expected = {}
    for part, of_part in scores.items():
        cross, kl, own_kl, margins = 0, 0, 0, []
        for table in of_part:
            squares = 0
            for i, row in enumerate(table):
                own = [j for j in batch["own"][i].tolist() if not repeated[j]]
                everyone = range(len(row)) if in_batch else own
                usable = [j for j in everyone if not batch["same"][i, j]]
                cross -= torch.log_softmax(row[usable], 0)[usable.index(own[0])] / len(table)
                taught = batch["scores"][i][: len(own)]
                kl += divergence(row[own], taught) / len(table)
                seen = [j for j in everyone if not repeated[j]]
                own_kl += divergence(row[seen], joint[i][seen]) / len(table)
                errors = [
                    ((row[own[0]] - row[j]) - (taught[0] - taught[k])) ** 2
                    for k, j in enumerate(own)
                    if k
                ]
                squares += sum(errors) / len(errors) / len(table)
            margins.append(squares)
        expected |= {part: cross, f"kl_{part}": kl, f"margin_{part}": sum(margins)}
        expected[f"self_{part}"] = own_kl
    parts = expected["lexical"] + expected["dense"]
    expected["aggretriever"] = expected["joint"] + 0.5 * parts
    return expected


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize(
    ("sizes", "normalize"), [([], True), ([4, 9], True), ([5], False)], ids=str
)
def test_every_loss_of_a_batch_is_what_its_formula_says(in_batch, sizes, normalize):
    encoder = encoder_of(normalize=normalize)
    recipe = recipe_of(in_batch=in_batch, dense_sizes=sizes, flops_query=0.1, l1_document=0.2)
    batch = PairCollator(encoder, recipe)(BATCH)
    loss, parts = PairModel(encoder, recipe)(batch, 2, 4)
    expected = plain_losses(encoder, batch, in_batch, 3.0, sizes, normalize)
    for name in EVERY:
        assert parts[name] == pytest.approx(float(expected[name]), rel=2e-3, abs=1e-4), name
    extra = 0.1 * parts["flops_query"] + 0.2 * parts["l1_document"]
    total = sum(parts[name] for name in EVERY) + extra  # the ramp ends at step 2
    assert loss.item() == pytest.approx(total, rel=1e-4)
    lexical = encoder(batch["document_ids"], batch["document_mask"]).lexical
    lexical = lexical[~batch["repeated"][0]]
    assert parts["l1_document"] == pytest.approx(lexical.sum(1).mean().item(), rel=1e-4)


def test_the_documents_that_fill_up_short_groups_count_nowhere(tmp_path):
    """A batch with repetitions gives the parts of the texts that are really there."""
    encoder = encoder_of()
    save_tiny(tmp_path / "teacher", seed=3)
    teacher = TeacherSource("dense", str(tmp_path / "teacher"), scale=4.0)
    recipe = recipe_of(
        losses={"joint": 1.0, "teacher_joint": 1.0, "teacher_vector": 1.0},
        teachers=[teacher],
        flops_document=0.5,
        l1_document=0.25,
    )
    long = draw("w30", "w31 w32", [f"w{i} w{i + 1}" for i in range(33, 39)])
    short = [draw(f"w{i}", f"w{i + 1}", []) for i in (40, 43, 46)]
    items = [long, *short]  # the short ones have one document of seven
    recipe.negatives = 6
    batch = PairCollator(encoder, recipe)(items)
    assert batch["repeated"][0].sum() == 18
    model = PairModel(encoder, recipe, Teachers(recipe.teachers, encoder))
    _, parts = model(batch, 4, 4)

    queries = [item.read().query for item in items]
    texts = [text for item in items for text in item.drawn(6).documents]
    assert len(texts) == 10
    q, d = (plain_vectors(encoder, of) for of in (queries, texts))
    weights = d.lexical
    assert parts["flops_document"] == pytest.approx(weights.mean(0).square().sum().item(), rel=1e-4)
    assert parts["l1_document"] == pytest.approx(weights.sum(1).mean().item(), rel=1e-4)
    assert parts["active_document"] == pytest.approx((weights > 0).sum(1).float().mean().item())
    lm = AutoModelForMaskedLM.from_pretrained(tmp_path / "teacher").eval()
    tq, td = (
        torch.cat([mean_state(lm, encoder.tokenizer, text) for text in of])
        for of in (queries, texts)
    )
    near = functional.cosine_similarity(q.dense, tq).mean()
    near += functional.cosine_similarity(d.dense, td).mean()
    assert parts["teacher_vector"] == pytest.approx(1 - near.item() / 2, rel=1e-3)
    joint = q.lexical @ d.lexical.T + 3.0 * q.dense @ d.dense.T
    places = torch.tensor([0, 7, 8, 9])
    assert parts["joint"] == pytest.approx(functional.cross_entropy(joint, places).item(), rel=1e-3)
    logits = 4.0 * tq @ td.T
    expected = sum(divergence(joint[i], logits[i]) for i in range(4)) / 4
    assert parts["teacher_joint"] == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("bf16", [False, True])
def test_teachers_read_in_the_precision_of_the_training(bf16):
    encoder = encoder_of()
    recipe = recipe_of(
        losses={"teacher_joint": 1.0}, teachers=[TeacherSource("bm25"), TeacherSource("bm25")]
    )
    batch = PairCollator(encoder, recipe)([draw(f"w{i}", f"w{i} w{i + 1}", []) for i in (2, 5)])
    seen = []

    class Watched(Teachers):
        def forward(self, query, document, own=None, scales=None):
            seen.append(torch.is_autocast_enabled("cpu"))
            return Teaching(torch.zeros(len(query.ids), len(document.ids)), None, None)

    model = PairModel(encoder, recipe)
    model.teachers = Watched([], encoder)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss, _ = model(batch, 1, 4)
    assert seen == [bf16]
    assert loss.dtype == torch.float32


def plain_vectors(encoder, texts):
    """Both vectors of each text, one after the other."""
    with torch.no_grad():
        found = [
            encoder(tokens["input_ids"], tokens["attention_mask"])
            for tokens in (encoder.tokenizer([text], return_tensors="pt") for text in texts)
        ]
    return SimpleNamespace(
        dense=torch.cat([one.dense for one in found]),
        lexical=torch.cat([one.lexical for one in found]),
    )


def mean_state(lm, tokenizer, text):
    """[1, H], the mean of a text's hidden states, of length one."""
    with torch.no_grad():
        hidden = lm.bert(**tokenizer([text], return_tensors="pt"))[0]
    return functional.normalize(hidden.mean(1), dim=1)


def gradients(model, batch):
    model.zero_grad()
    loss, _ = model(batch, 3, 4)
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_self_distillation_moves_the_part_and_not_the_joint_score():
    encoder = encoder_of()
    recipe = recipe_of(losses={"self_dense": 1.0})
    found = gradients(PairModel(encoder, recipe), PairCollator(encoder, recipe)(BATCH))
    bias = encoder.lm.get_output_embeddings().bias  # only the lexical score knows it
    name = next(name for name, weight in encoder.named_parameters() if weight is bias)
    assert f"encoder.{name}" not in found or not found[f"encoder.{name}"].any()
    assert any(gradient.any() for gradient in found.values())


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_chunks_change_no_gradient_of_any_loss(chunk_size):
    encoder = encoder_of()
    settings = {"flops_query": 0.1, "flops_document": 0.1, "dense_sizes": [4]}
    whole = recipe_of(**settings)
    batch = PairCollator(encoder, whole)(BATCH)
    expected = gradients(PairModel(encoder, whole), batch)
    found = gradients(PairModel(encoder, recipe_of(**settings, chunk_size=chunk_size)), batch)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)


def test_pruned_training_sees_the_terms_that_the_encoder_keeps():
    encoder = encoder_of(top_k=3, query_top_k=2)
    recipe = recipe_of(losses={"lexical": 1.0}, prune=True)
    batch = PairCollator(encoder, recipe)(BATCH)
    _, parts = PairModel(encoder, recipe)(batch, 0, 4)
    q = encoder.encode_queries(["w1 w2", "w8", "w12 w13", "w1 w2"]).lexical
    documents = encoder.tokenizer.batch_decode(batch["document_ids"], skip_special_tokens=True)
    d = encoder.encode_documents(documents).lexical
    scores = torch.from_numpy((q @ d.T).toarray()).masked_fill(batch["same"], float("-inf"))
    assert parts["lexical"] == pytest.approx(
        functional.cross_entropy(scores, batch["target"]).item(), rel=1e-3
    )
    assert parts["active_document"] <= 3
    assert parts["active_query"] <= 2


def test_sizes_that_are_no_part_of_the_vector_are_refused():
    with pytest.raises(InputError, match="dense_sizes: 16 is not below the full 16; give less"):
        PairModel(encoder_of(), recipe_of(dense_sizes=[4, 16]))


def test_inner_products_are_not_scaled_unless_asked():
    assert PairModel(encoder_of(normalize=False), recipe_of(dense_scale=0.0)).dense_scale == 1
    assert PairModel(encoder_of(), recipe_of(dense_scale=0.0)).dense_scale == 20


def test_what_a_line_of_a_file_holds_arrives_in_the_batch(tmp_path):
    """What a line of a file holds arrives in the batch: text by text, score by score."""
    from dupmae_toolkit.training.data.streams import Batches, pairs

    rows = [
        {
            "query": f"w{i}",
            "pos": [f"w{i} w9"],
            "neg": [f"w{i + 1}"],
            "pos_scores": [i],
            "neg_scores": [-i],
        }
        for i in range(8)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    encoder, recipe = encoder_of(), recipe_of()
    collate = PairCollator(encoder, recipe)
    batch = next(iter(Batches([DataSource(str(path), "groups")], 8, 1, pairs, collate)))
    rows_of = encoder.tokenizer.batch_decode(batch["query_ids"], skip_special_tokens=True)
    for text, scores in zip(rows_of, batch["scores"].tolist(), strict=True):
        number = int(text.removeprefix("w"))
        assert scores == [number, -number]
