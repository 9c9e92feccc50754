"""DupMAEEncoder against plain transformers: both vectors, what is pooled, what is kept."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from dupmae_toolkit import DupMAEEncoder
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.model import tokens as tokens_module
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.inference_copy import OwnLayers
from dupmae_toolkit.model.lean.bert import LeanBert
from dupmae_toolkit.model.tokens import tokenize
from dupmae_toolkit.model.weights import NewWeightsWarning
from tests.families import FAMILIES, LONGEST, make_lm, make_tokenizer, save_checkpoint, sentences

TEXTS = [*sentences(6), "Day", "", *sentences(2, seed=5, words=70), "River war sun."]


def make_encoder(family="bert", *, precision="fp32", rows=0, **config):
    tokenizer = make_tokenizer(FAMILIES[family])
    settings = DupMAEConfig(**{"max_length": LONGEST, "top_k": 0, **config})
    return DupMAEEncoder(
        make_lm(family, tokenizer, rows=rows), tokenizer, settings, family, precision
    ).eval()


@pytest.fixture(scope="module")
def bert():
    return make_encoder()


@torch.no_grad()
def plain(encoder, text, max_length=LONGEST, activation="log1p_relu"):
    """Both vectors of one text from nothing but the masked LM, without padding."""
    batch = encoder.tokenizer(
        [text], truncation=True, max_length=max_length, return_tensors="pt", padding=False
    )
    ids, mask = batch["input_ids"], batch["attention_mask"]
    output = encoder.lm(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    hidden = encoder.lm.base_model(input_ids=ids, attention_mask=mask)[0][0]
    tokenizer = encoder.tokenizer
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    logits = [row for i, row in zip(ids[0].tolist(), output.logits[0], strict=True)]
    counting = [row for i, row in zip(ids[0].tolist(), logits, strict=True) if i not in special]
    if counting:
        lexical = torch.relu(torch.stack(counting).max(dim=0).values)
    else:
        lexical = torch.zeros(output.logits.shape[-1])
    if activation == "log1p_relu":
        lexical = torch.log1p(lexical)
    return hidden[0].numpy(), lexical.numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_both_vectors_are_what_transformers_computes_for_each_text_alone(family):
    encoder = make_encoder(family)
    result = encoder.encode_documents(TEXTS)
    assert result.dense.dtype == result.lexical.dtype == np.float32
    assert result.lexical.has_sorted_indices
    assert (result.lexical.data > 0).all()
    for i, text in enumerate(TEXTS):
        dense, lexical = plain(encoder, text)
        np.testing.assert_allclose(result.dense[i], dense, atol=2e-5)
        np.testing.assert_allclose(result.lexical[i].toarray()[0], lexical, atol=2e-5)
    assert result.lexical.nnz > 100


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_moves_a_vector_by_bf16s_rounding_whatever_it_is_batched_with(family):
    exact = make_encoder(family).encode_documents(TEXTS)
    encoder = make_encoder(family, precision="bf16")
    together = encoder.encode_documents(TEXTS)
    alone = [encoder.encode_documents([text]) for text in TEXTS]
    for i, single in enumerate(alone):
        for other in (single.dense[0], exact.dense[i]):
            distance = np.linalg.norm(together.dense[i] - other)
            assert distance < 0.04 * np.linalg.norm(other)
        for other in (single.lexical[0], exact.lexical[i]):
            distance = np.abs((together.lexical[i] - other).toarray())
            assert distance.max() < 0.15


def test_in_fp32_a_vector_hardly_depends_on_what_it_is_batched_with(bert):
    together = bert.encode_documents(TEXTS)
    for i, text in enumerate(TEXTS):
        alone = bert.encode_documents([text])
        np.testing.assert_allclose(together.dense[i], alone.dense[0], atol=1e-5)
        np.testing.assert_allclose(
            together.lexical[i].toarray(), alone.lexical.toarray(), atol=1e-5
        )


def test_the_same_texts_give_the_same_bits_each_time(bert):
    first, second = bert.encode_documents(TEXTS), bert.encode_documents(TEXTS)
    assert (first.dense == second.dense).all()
    assert (first.lexical != second.lexical).nnz == 0


def test_texts_come_back_in_the_order_given_over_many_batches(bert, monkeypatch):
    whole = bert.encode_documents(TEXTS)
    monkeypatch.setattr(tokens_module, "TOKENS_PER_BATCH", 40)
    monkeypatch.setattr(tokens_module, "TEXTS_PER_BATCH", 2)
    small = bert.encode_documents(TEXTS, ids=[f"d{i}" for i in range(len(TEXTS))])
    assert small.ids[3] == "d3"
    np.testing.assert_allclose(small.dense, whole.dense, atol=1e-5)
    np.testing.assert_allclose(small.lexical.toarray(), whole.lexical.toarray(), atol=1e-5)


def test_progress_counts_every_text(bert):
    from contextlib import contextmanager

    seen = []

    @contextmanager
    def watch(description, total):
        seen.append(total)
        yield seen.append

    bert.encode_documents(TEXTS, progress=watch)
    assert seen[0] == len(TEXTS) == sum(seen[1:])


def test_the_projection_head_multiplies_the_hidden_states_straight():
    encoder = make_encoder(lexical_head="projection", activation="relu")
    ids = torch.tensor([encoder.tokenizer(TEXTS[0])["input_ids"]])
    hidden = encoder.lm.bert(input_ids=ids)[0][0, 1:-1]
    output = encoder.lm.get_output_embeddings()
    expected = torch.relu((hidden @ output.weight.T + output.bias).amax(dim=0)).detach().numpy()
    found = encoder.encode_documents(TEXTS[:1]).lexical.toarray()[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_without_a_lexical_head_there_are_no_terms_but_the_shape_stands():
    encoder = make_encoder(lexical_head="none")
    result = encoder.encode_documents(TEXTS)
    assert result.lexical.shape == (len(TEXTS), encoder.vocabulary_size)
    assert result.lexical.nnz == 0
    assert np.abs(result.dense).sum() > 0


def test_relu_keeps_the_logits_themselves_and_normalize_gives_length_one(bert):
    encoder = make_encoder(activation="relu", normalize=True)
    result = encoder.encode_documents(TEXTS)
    dense, lexical = plain(encoder, TEXTS[0], activation="relu")
    np.testing.assert_allclose(result.lexical[0].toarray()[0], lexical, atol=1e-5)
    np.testing.assert_allclose(result.dense[0], dense / np.linalg.norm(dense), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(result.dense, axis=1), 1, rtol=1e-5)


def test_top_k_is_for_documents_and_query_top_k_for_queries():
    encoder = make_encoder(top_k=7, query_top_k=3)
    whole = make_encoder().encode_documents(TEXTS).lexical.toarray()
    documents = encoder.encode_documents(TEXTS).lexical
    queries = encoder.encode_queries(TEXTS).lexical
    for i, weights in enumerate(whole):
        best = sorted(np.flatnonzero(weights), key=lambda t: (-weights[t], t))
        assert sorted(best[:7]) == documents[i].indices.tolist()
        assert sorted(best[:3]) == queries[i].indices.tolist()


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_special_tokens_stay_out_of_the_pool_and_unknown_ones_in_it(family):
    encoder = make_encoder(family)
    tokenizer = encoder.tokenizer
    special = f"{tokenizer.mask_token}{tokenizer.sep_token}{tokenizer.pad_token}"
    nothing = encoder.encode_documents(["", special, f" {special} "])
    assert nothing.lexical[:2].nnz == 0
    assert np.isfinite(nothing.dense).all()
    unknown = encoder.encode_documents([tokenizer.unk_token]).lexical
    assert unknown.nnz > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_text_without_tokens_among_others_disturbs_none(precision):
    encoder = make_encoder(precision=precision)
    result = encoder.encode_documents(["", "river", "[MASK] [SEP]"])
    assert result.lexical.getnnz(axis=1).tolist()[::2] == [0, 0]
    np.testing.assert_allclose(
        result.dense[1], encoder.encode_documents(["river"]).dense[0], rtol=0.05, atol=0.05
    )


def test_no_texts_give_empty_representations(bert):
    result = bert.encode_documents([])
    assert len(result) == 0
    assert result.dense.shape == (0, 16)
    assert result.lexical.shape == (0, bert.vocabulary_size)
    assert result.truncated == 0


@pytest.mark.parametrize(
    "text",
    [
        "river " * 170_000,
        "x" * 100_000,
        " " * 300_000 + "river",
        "\n" * 100_000,
        "星" * 50_000,
        "\u0301" * 50_000,
        "river\u2003" * 30_000,
    ],
    ids=["words", "one word", "late word", "empty lines", "no spaces", "accents", "wide spaces"],
)
@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "unigram"])
def test_very_long_texts_are_cut_like_any_other(kind, text):
    tokenizer = make_tokenizer(kind)
    tokens = tokenize(tokenizer, [text, "river"], LONGEST)
    whole = tokenizer(text)["input_ids"]
    assert tokens.truncated == (len(whole) > LONGEST)
    last = [tokenizer.sep_token_id] if len(whole) > LONGEST else []
    assert tokens.ids[0] == whole[: LONGEST - len(last)] + last
    assert tokens.ids[1] == tokenizer("river")["input_ids"]


@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "unigram"])
def test_reading_only_the_beginning_never_changes_a_token(kind, monkeypatch):
    # So few characters a token that the beginning often ends where the limit does.
    monkeypatch.setattr(tokens_module, "CHARACTERS_PER_TOKEN", 3)
    tokenizer = make_tokenizer(kind)
    rng = np.random.default_rng(3)
    for _ in range(300):
        alphabet = list("abcriverstone.,- \n星é") + [" "] * int(rng.integers(0, 8))
        text = "".join(rng.choice(alphabet, size=rng.integers(1, 120)))
        limit = int(rng.integers(3, 20))
        whole = tokenizer(text)["input_ids"]
        expected = tokenizer(text, truncation=True, max_length=limit)["input_ids"]
        tokens = tokenize(tokenizer, [text], limit)
        assert tokens.ids == [expected], text
        assert tokens.truncated == (len(whole) > limit)


def test_truncated_texts_are_counted(bert):
    exactly = "river " * (LONGEST - 2)
    result = bert.encode_documents([exactly, exactly + "river", "river", "star " * 5000])
    assert result.truncated == 2
    short = make_encoder(max_length=5, query_max_length=4)
    assert short.encode_documents(["river star sun", "river star sun moon"]).truncated == 1
    assert short.encode_queries(["river star", "river star sun"]).truncated == 1
    dense, lexical = plain(short, "river star sun moon day", max_length=5)
    found = short.encode_documents(["river star sun moon day"])
    np.testing.assert_allclose(found.dense[0], dense, atol=1e-5)
    np.testing.assert_allclose(found.lexical.toarray()[0], lexical, atol=1e-5)


@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "unigram"])
def test_lone_surrogates_count_as_the_replacement_character(kind):
    tokenizer = make_tokenizer(kind)
    given = ["\ud800 river", "star\udfff", "\ud83d\ude00 day", "sun"]
    clean = ["\ufffd river", "star\ufffd", "\ufffd\ufffd day", "sun"]
    assert tokenize(tokenizer, given, 20).ids == tokenize(tokenizer, clean, 20).ids


def test_control_characters_and_emoji_are_texts_too(bert):
    result = bert.encode_documents(["\x00\x01\x7f", "🙂 river", "\u202eabc", "a\tb\r\nc"])
    assert np.isfinite(result.dense).all()
    assert result.lexical[1].nnz > 0


def test_prefixes_are_put_before_texts_as_they_stand(bert):
    encoder = make_encoder(prefix="new ", query_prefix="old: ", query_max_length=LONGEST)
    texts = ["river", ""]
    for given, plain_texts in (
        (encoder.encode_documents(texts), ["new river", "new "]),
        (encoder.encode_queries(texts), ["old: river", "old: "]),
    ):
        expected = bert.encode_documents(plain_texts)
        np.testing.assert_allclose(given.dense, expected.dense, atol=1e-5)
        np.testing.assert_allclose(given.lexical.toarray(), expected.lexical.toarray(), atol=1e-5)


def test_a_string_instead_of_a_list_and_odd_ids_are_refused(bert):
    with pytest.raises(InputError, match="list of strings"):
        bert.encode_queries("how do I parse a date")
    with pytest.raises(InputError, match="list of strings"):
        bert.encode_documents(["river", None])
    with pytest.raises(InputError, match="2 texts to encode have 1 ids"):
        bert.encode_documents(["river", "star"], ids=["1"])
    for other in (None, 5, [None], b"war"):
        with pytest.raises(InputError, match="list of strings"):
            bert.encode_documents(other)


def test_vectors_that_are_not_finite_are_an_error_naming_the_text():
    encoder = make_encoder()
    with torch.no_grad():
        encoder.lm.bert.encoder.layer[1].output.LayerNorm.weight[0] = float("nan")
    with pytest.raises(DupMAEError, match="vector of text 'd0' is not finite"):
        encoder.encode_documents(["river"], ids=["d0"])


def test_term_weights_that_are_not_finite_are_an_error_too():
    encoder = make_encoder()
    with torch.no_grad():
        encoder.lm.get_output_embeddings().bias[7] = float("nan")
    with pytest.raises(DupMAEError, match="vector of text 'd0' is not finite"):
        encoder.encode_documents(["river"], ids=["d0"])


def test_a_batch_for_which_the_device_has_no_room_is_divided(bert, monkeypatch):
    whole = bert.encode_documents(TEXTS)
    encoder, sizes = make_encoder(), []
    original = encoder.forward

    def small(input_ids, mask, **wanted):
        sizes.append(len(input_ids))
        if len(input_ids) > room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate\n2 GiB")
        return original(input_ids, mask, **wanted)

    monkeypatch.setattr(encoder, "forward", small)
    room = 3
    divided = encoder.encode_documents(TEXTS)
    assert max(sizes) > room
    np.testing.assert_allclose(divided.dense, whole.dense, atol=1e-5)
    np.testing.assert_allclose(divided.lexical.toarray(), whole.lexical.toarray(), atol=1e-5)
    room = 0
    with pytest.raises(DupMAEError, match="cpu: no memory left for a single text of 64 tokens"):
        encoder.encode_documents(TEXTS)


def test_encoding_needs_no_eval_and_has_no_dropout(bert):
    encoder = make_encoder()
    encoder.train()
    assert (encoder.encode_documents(TEXTS).dense == bert.encode_documents(TEXTS).dense).all()


def test_threads_may_share_an_encoder():
    encoder = make_encoder(query_max_length=7)
    documents, queries = encoder.encode_documents(TEXTS), encoder.encode_queries(TEXTS)
    faults = []

    def work(encode, expected):
        try:
            for _ in range(15):
                assert (encode(TEXTS).dense == expected.dense).all()
        except BaseException as error:
            faults.append(error)

    jobs = [(encoder.encode_documents, documents), (encoder.encode_queries, queries)] * 3
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def without_lean_layers(monkeypatch):
    monkeypatch.setattr(LeanBert, "of", classmethod(lambda cls, lm: None))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_copy_cast_for_inference_changes_no_bit(family, monkeypatch):
    encoder = make_encoder(family, precision="bf16", dense_dim=8)
    without_lean_layers(monkeypatch)  # which would take BERT's place
    fast = encoder.encode_documents(TEXTS)
    assert encoder._inference_copies[torch.bfloat16].layers.lm is not encoder.lm
    monkeypatch.setattr(encoder, "_layers", lambda: OwnLayers(encoder.lm))
    slow = encoder.encode_documents(TEXTS)
    assert (fast.dense == slow.dense).all()
    assert (fast.lexical != slow.lexical).nnz == 0


@pytest.mark.parametrize("lean", [False, True])
def test_the_copy_cast_for_inference_follows_the_weights(lean, monkeypatch):
    encoder = make_encoder(precision="bf16")
    if not lean:
        without_lean_layers(monkeypatch)
    encoder.encode_documents(TEXTS)
    copies = encoder._inference_copies.values()
    assert [isinstance(copy.layers, LeanBert) for copy in copies] == [lean]

    def changed():
        before = encoder.info.weights_sha256, encoder.encode_documents(TEXTS).dense
        yield
        assert encoder.info.weights_sha256 != before[0]
        now = encoder.encode_documents(TEXTS).dense
        assert (now != before[1]).any()
        encoder._inference_copies.clear()
        assert (encoder.encode_documents(TEXTS).dense == now).all()

    for change in (_step, _load_another, _replace_a_layer):
        watch = changed()
        next(watch)
        change(encoder)
        with pytest.raises(StopIteration):
            next(watch)


def _step(encoder):
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1)
    encoder.train()
    ids = torch.tensor([encoder.tokenizer("river star")["input_ids"]])
    output = encoder(ids, torch.ones_like(ids))
    (output.dense.sum() + output.lexical.sum()).backward()
    optimizer.step()


def _load_another(encoder):
    other = make_lm("bert", encoder.tokenizer, seed=9)
    encoder.lm.load_state_dict(other.state_dict())


def _replace_a_layer(encoder):
    encoder.lm.bert.encoder.layer[0] = make_lm(
        "bert", encoder.tokenizer, seed=4
    ).bert.encoder.layer[0]


@pytest.mark.parametrize("lean", [False, True])
def test_the_copy_is_no_part_of_the_module(lean, monkeypatch):
    encoder = make_encoder(precision="bf16")
    if not lean:
        without_lean_layers(monkeypatch)
    keys = list(encoder.state_dict())
    count = len(list(encoder.parameters()))
    encoder.encode_documents(TEXTS)
    assert list(encoder.state_dict()) == keys
    assert len(list(encoder.parameters())) == count
    encoder.train()
    ids = torch.tensor([encoder.tokenizer("river star")["input_ids"]])
    with encoder.autocast():
        encoder(ids, torch.ones_like(ids)).lexical.sum().backward()
    assert encoder.lm.get_input_embeddings().weight.grad is not None


def test_a_checkpoint_is_an_ordinary_transformers_folder(tmp_path, capfd):
    encoder = make_encoder(top_k=9, prefix="new ")
    encoder.save_pretrained(tmp_path / "saved")
    assert capfd.readouterr().err == ""
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    lm = AutoModelForMaskedLM.from_pretrained(tmp_path / "saved").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    batch = tokenizer(["river war star"], return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(lm(**batch).logits, encoder.lm(**batch).logits)
    loaded = DupMAEEncoder.from_pretrained(tmp_path / "saved", precision="fp32")
    assert loaded.config == encoder.config
    assert loaded.name == str((tmp_path / "saved").resolve())
    assert replace(loaded.info, name="bert") == encoder.info
    assert (loaded.encode_documents(TEXTS).dense == encoder.encode_documents(TEXTS).dense).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
def test_half_precision_is_half_the_size_and_gives_back_what_was_stored(tmp_path, family, tied):
    tokenizer = make_tokenizer(FAMILIES[family])
    lm = make_lm(family, tokenizer, tie_word_embeddings=tied)
    encoder = DupMAEEncoder(lm, tokenizer, DupMAEConfig(dense_dim=4), precision="fp32").eval()
    encoder.save_pretrained(tmp_path / "whole")
    encoder.save_pretrained(tmp_path / "half", half=True)
    size = {
        name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")
    }
    assert size["half"] < 0.65 * size["whole"]
    half = DupMAEEncoder.from_pretrained(tmp_path / "half", precision="fp32")
    for key, value in half.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, encoder.state_dict()[key].half().float()), key
    half.save_pretrained(tmp_path / "again", half=True)
    again = DupMAEEncoder.from_pretrained(tmp_path / "again")
    assert again.info.weights_sha256 == half.info.weights_sha256
    half.save_pretrained(tmp_path / "wide")
    assert DupMAEEncoder.from_pretrained(tmp_path / "wide").info.weights_sha256 == (
        half.info.weights_sha256
    )
    assert half.info.weights_sha256 != encoder.info.weights_sha256


def test_saving_over_a_checkpoint_replaces_it(tmp_path):
    make_encoder(dense_dim=4).save_pretrained(tmp_path / "saved")
    make_encoder().save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "dupmae.safetensors").exists()
    assert DupMAEEncoder.from_pretrained(tmp_path / "saved").dense_dim == 16


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be created"):
        make_encoder().save_pretrained(tmp_path / "file" / "saved")


def test_the_projection_of_cls_is_saved_loaded_and_counted_in_the_hash(tmp_path, monkeypatch):
    encoder = make_encoder(dense_dim=5)
    torch.nn.init.normal_(encoder.dense_projection.weight)
    found = encoder.encode_documents(TEXTS)
    dense, _ = plain(encoder, TEXTS[0])
    expected = encoder.dense_projection.weight.detach().numpy() @ dense
    np.testing.assert_allclose(found.dense[0], expected, rtol=1e-4, atol=1e-5)
    assert found.dense.shape == (len(TEXTS), encoder.info.dense_dim) == (len(TEXTS), 5)
    encoder.save_pretrained(tmp_path / "saved")
    loaded = DupMAEEncoder.from_pretrained(tmp_path / "saved", precision="fp32", max_length=64)
    assert loaded.info.weights_sha256 == encoder.info.weights_sha256
    assert (loaded.encode_documents(TEXTS).dense == found.dense).all()
    # A hub id is no path: its files lie in the hub's cache.
    from dupmae_toolkit.model import checkpoints as module

    monkeypatch.setattr(module, "checkpoint_folder", lambda name: tmp_path / "saved")
    from_hub = DupMAEEncoder.from_pretrained("somebody/something", precision="fp32")
    assert from_hub.info.weights_sha256 == encoder.info.weights_sha256
    assert from_hub.name == "somebody/something"


@pytest.mark.parametrize("damage", ["missing", "cut off", "other shape", "other name"])
def test_a_projection_that_cannot_be_read_is_refused_not_drawn_at_random(tmp_path, damage):
    from safetensors.torch import save_file

    make_encoder(dense_dim=5).save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "dupmae.safetensors"
    if damage == "missing":
        path.unlink()
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        name = "dense_projection.weight" if damage == "other shape" else "another"
        save_file({name: torch.zeros(6, 16)}, path)
    with pytest.raises(InputError, match="projection of \\[CLS\\] cannot be loaded") as refusal:
        DupMAEEncoder.from_pretrained(tmp_path / "saved")
    assert "\n" not in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_a_new_projection_is_the_same_each_time(tmp_path):
    folder = save_checkpoint(tmp_path / "bert")
    torch.manual_seed(3)
    with pytest.warns(NewWeightsWarning):
        first = DupMAEEncoder.from_pretrained(folder, dense_dim=4)
    drawn = torch.rand(1)
    with pytest.warns(NewWeightsWarning):
        second = DupMAEEncoder.from_pretrained(folder, dense_dim=4)
    assert first.info.weights_sha256 == second.info.weights_sha256
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


def test_settings_given_at_loading_override_the_checkpoints(tmp_path):
    make_encoder(top_k=9, max_length=30).save_pretrained(tmp_path / "saved")
    loaded = DupMAEEncoder.from_pretrained(tmp_path / "saved", top_k=5, max_length=None)
    assert (loaded.config.top_k, loaded.config.max_length) == (5, 30)
    assert not loaded.info.same_vectors_as(make_encoder(top_k=9, max_length=30).info)
    roomy = DupMAEEncoder.from_pretrained(tmp_path / "saved", max_length=1000)
    assert roomy.config.max_length == LONGEST


@pytest.mark.parametrize("family", FAMILIES)
def test_lengths_are_cut_to_the_positions_that_the_backbone_has(tmp_path, family):
    folder = save_checkpoint(tmp_path / family, family)
    encoder = DupMAEEncoder.from_pretrained(folder, max_length=10_000, query_max_length=10_000)
    assert encoder.config.max_length == encoder.config.query_max_length == LONGEST
    result = encoder.encode_queries(["river " * 1000])
    assert result.truncated == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"topk": 5}, "no setting 'topk'; did you mean 'top_k'"),
        ({"qwertyuiop": 5}, "no setting 'qwertyuiop'; choose from lexical_head, "),
        ({"top_k": -1}, "top_k -1"),
        ({"top_k": True}, "top_k True"),
        ({"top_k": "many"}, "top_k 'many'"),
        ({"max_length": 2}, "max_length 2: at least 3"),
        ({"max_length": 64.0}, "max_length 64.0"),
        ({"activation": "tanh"}, "activation 'tanh': choose one of"),
        ({"lexical_head": "splade"}, "lexical_head 'splade': choose"),
        ({"dense_weight": float("nan")}, "dense_weight nan"),
        ({"lexical_weight": -1}, "lexical_weight -1"),
        ({"lexical_weight": "1"}, "lexical_weight '1'"),
        ({"prefix": 5}, "prefix 5: give a string"),
        ({"normalize": "yes"}, "normalize 'yes': give true or false"),
        ({"precision": "fp8"}, "precision 'fp8': choose one of"),
        ({"device": "abacus"}, "device 'abacus' cannot be used: "),
    ],
)
def test_wrong_settings_are_refused_in_one_line(tmp_path, changes, message):
    folder = save_checkpoint(tmp_path / "bert")
    with pytest.raises(InputError) as refusal:
        DupMAEEncoder.from_pretrained(folder, **changes)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match="device 'cuda' cannot be used") as refusal:
        DupMAEEncoder.from_pretrained(save_checkpoint(tmp_path / "bert"), device="cuda")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", ['["a"]', '{"top_k": "all"}', "7", '{"activation": "tanh"}'])
def test_a_checkpoint_with_settings_that_make_no_sense_names_its_config(tmp_path, value):
    make_encoder().save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "config.json"
    import json

    config = json.loads(path.read_text())
    config["dupmae"] = json.loads(value)
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"saved/config\.json: "):
        DupMAEEncoder.from_pretrained(tmp_path / "saved")


def test_settings_of_later_versions_are_left_out():
    later = {**DupMAEConfig(top_k=3).to_dict(), "unheard_of": 1}
    assert DupMAEConfig.from_dict(later) == DupMAEConfig(top_k=3)
    assert DupMAEConfig.from_dict(None) == DupMAEConfig()


def test_builtin_is_refused_where_it_is_not_installed(tmp_path, monkeypatch):
    from dupmae_toolkit.model import checkpoints as module

    monkeypatch.setattr(module, "BUILTIN", tmp_path)
    with pytest.raises(InputError, match="'builtin' is not part of this installation"):
        DupMAEEncoder.from_pretrained("builtin")


def test_builtin_is_loaded_from_the_package(tmp_path, monkeypatch):
    from dupmae_toolkit.model import checkpoints as module

    monkeypatch.setattr(module, "BUILTIN", save_checkpoint(tmp_path / "bert"))
    assert DupMAEEncoder.from_pretrained("builtin").info.name == "builtin"


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_a_token_get_names_that_no_token_has(family):
    encoder = make_encoder(family, rows=400)
    tokenizer = encoder.tokenizer
    assert len(encoder.vocabulary) == encoder.vocabulary_size == encoder.info.vocabulary_size == 400
    assert len(set(encoder.vocabulary)) == 400
    for token, i in tokenizer.get_vocab().items():
        assert encoder.vocabulary[i] == token
    assert encoder.vocabulary[399] == "[row399]"
    assert encoder.encode_documents(TEXTS).lexical.shape[1] == 400


def test_a_token_called_like_a_nameless_row_keeps_its_name():
    encoder = make_encoder(rows=400)
    encoder.tokenizer.add_tokens(["[row399]", "[[row398]]", "[row398]"])
    assert encoder.vocabulary[399] == "[[row399]]"
    assert encoder.vocabulary[398] == "[[[row398]]]"
    assert len(set(encoder.vocabulary)) == 400


def test_added_special_tokens_stay_out_of_the_pool():
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[Q]"]})
    lm = make_lm("bert", tokenizer)
    encoder = DupMAEEncoder(lm, tokenizer, DupMAEConfig(), precision="fp32").eval()
    assert encoder.encode_documents(["[Q]", "[Q] [Q]"]).lexical.nnz == 0


def test_two_encoders_that_pool_otherwise_do_not_give_the_same_vectors():
    info = make_encoder().info
    assert info.same_vectors_as(replace(info, name="other", dense_weight=3.0))
    for changes in ({"lexical_head": "projection"}, {"activation": "relu"}, {"prefix": "x"}):
        assert not info.same_vectors_as(make_encoder(**changes).info)


def test_a_slow_tokenizer_is_refused():
    tokenizer = make_tokenizer()

    class Slow:
        is_fast = False

    with pytest.raises(InputError, match="no fast version"):
        DupMAEEncoder(make_lm("bert", tokenizer), Slow(), DupMAEConfig())


def test_an_encoder_loaded_in_inference_mode_works_outside_it(tmp_path):
    folder = save_checkpoint(tmp_path / "bert")
    with torch.inference_mode():
        encoder = DupMAEEncoder.from_pretrained(folder, precision="bf16")
        inside = encoder.encode_documents(TEXTS)
    outside = encoder.encode_documents(TEXTS)
    assert (inside.dense == outside.dense).all()
    assert encoder.info.weights_sha256
