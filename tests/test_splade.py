"""Masked LMs that nobody trained a dense vector of give lexical vectors alone."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from dupmae_cli.console import plain_warnings
from dupmae_toolkit import DupMAEEncoder, HybridIndex, load_encoder
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.weights import NewWeightsWarning
from tests.cli_support import run
from tests.sentence_support import TEXTS, list_modules, save_splade, write
from tests.tiny import save_tiny, tiny_lm, tiny_tokenizer


def expected(lm, text: str, logarithms: int = 1, length: int = 20) -> torch.Tensor:
    """max over all tokens, special ones too, of log(1 + ReLU(logit)), taken a text at a time."""
    ids = tiny_tokenizer()(text, truncation=True, max_length=length)["input_ids"]
    with torch.no_grad():
        weights = torch.relu(lm(input_ids=torch.tensor([ids])).logits[0])
    for _ in range(logarithms):
        weights = torch.log(1 + weights)
    return weights.max(0).values


@pytest.mark.parametrize(("activation", "logarithms"), [("relu", 1), ("log1p_relu", 2)])
def test_a_sparse_encoders_folder_gives_its_formula(tmp_path: Path, activation, logarithms):
    lm = save_splade(tmp_path, activation_function=activation)
    encoder = load_encoder(tmp_path, precision="fp32")
    for found in (encoder.encode_documents(TEXTS), encoder.encode_queries(TEXTS)):
        wanted = torch.stack([expected(lm, text, logarithms) for text in TEXTS])
        np.testing.assert_allclose(found.lexical.toarray(), wanted, atol=2e-6)
        assert found.dense.shape == (len(TEXTS), 0)
        assert found.truncated == 1
    assert encoder.info.sides == ("lexical",)
    assert "lexical" in encoder.remarks[0]


@pytest.mark.parametrize("family", ["bert", "distilbert", "xlm-roberta"])
def test_a_masked_lm_that_says_nothing_is_taken_as_splade(tmp_path: Path, family: str):
    lm = tiny_lm(family)
    lm.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path, precision="fp32")
    found = encoder.encode_documents(TEXTS)
    wanted = torch.stack([expected(lm, text, length=encoder.room) for text in TEXTS])
    np.testing.assert_allclose(found.lexical.toarray(), wanted, atol=2e-6)
    assert encoder.info.dense_dim == 0
    assert "--dense cls" in encoder.remarks[0]
    again = pickle.loads(pickle.dumps(encoder))  # as other processes get it
    assert again.info == encoder.info


def test_told_to_it_takes_the_cls_as_before(tmp_path: Path):
    tiny_lm().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    told = load_encoder(tmp_path, precision="fp32", pooling="cls")
    whole = DupMAEEncoder.from_pretrained(tmp_path, precision="fp32")
    assert told.info == whole.info
    np.testing.assert_allclose(
        told.encode_queries(TEXTS).dense, whole.encode_queries(TEXTS).dense, atol=2e-6
    )
    assert not told.remarks


def test_a_checkpoint_of_this_toolkit_keeps_both_unless_told(tmp_path: Path):
    save_tiny(tmp_path)
    both, one = load_encoder(tmp_path), load_encoder(tmp_path, pooling="none")
    assert both.info.sides == ("dense", "lexical")
    assert one.info.sides == ("lexical",)
    wanted = both.encode_queries(TEXTS).lexical.toarray()
    np.testing.assert_array_equal(one.encode_queries(TEXTS).lexical.toarray(), wanted)
    with pytest.raises(InputError, match="cls or none"):
        load_encoder(tmp_path, pooling="mean")
    with pytest.raises(InputError, match="no vector is left"):
        load_encoder(tmp_path, pooling="none", lexical_head="none")


@pytest.mark.parametrize("pooling", [{"pooling_strategy": "sum"}, {"activation_function": "gelu"}])
def test_another_pooling_of_a_sparse_encoder_is_refused(tmp_path: Path, pooling):
    save_splade(tmp_path, **pooling)
    with pytest.raises(InputError, match="SpladePooling"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    "kinds",
    [
        ("Router",),
        ("MLMTransformer",),
        ("MLMTransformer", "Pooling"),
        ("MLMTransformer", "SpladePooling", "Normalize"),
        ("SparseStaticEmbedding",),
        ("Transformer", "Pooling", "SparseAutoEncoder"),
    ],
)
def test_sides_that_differ_and_other_modules_are_refused(tmp_path: Path, kinds):
    save_splade(tmp_path)
    list_modules(tmp_path, *kinds)
    write(tmp_path / "1_Pooling" / "config.json", {})
    with pytest.raises(InputError) as caught:
        load_encoder(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_index_of_it_is_lexical_alone_and_says_so(tmp_path: Path, capsys):
    folder, place, corpus = tmp_path / "model", tmp_path / "index", tmp_path / "c.jsonl"
    tiny_lm().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    corpus.write_text('{"id":"a","text":"w1 w2"}\n{"id":"b","text":"w3 w4"}\n')
    words = ("index", corpus, "--index", place, "--model", folder, "--no-bm25")
    code, _, err = run(capsys, *words, "--faiss", "HNSW8")
    assert code == 2
    assert "no dense vectors" in err
    code, _, err = run(capsys, *words)
    assert code == 0
    assert "lexical vectors alone" in err
    with HybridIndex.open(place) as index:
        hits = index.search("w3", exact=True)
        assert [hit.dense for hit in hits] == [None, None]
        assert [hit.id for hit in hits] == [hit.id for hit in index.search("w3", mode="lexical")]
        index.warm()
        index.add([{"id": "c", "text": "w3"}])
        index.compact()
        assert len(index.search("w3")) == 3
        with pytest.raises(InputError, match="no dense vectors"):
            index.search("w3", mode="dense")
    assert run(capsys, "verify", "--index", place)[0] == 0
    code, out, _ = run(capsys, "info", "--index", place, "--json")
    assert json.loads(out)["parts"] == ["lexical"]
    code, out, _ = run(capsys, "info", "--index", place)
    assert "no dense vectors" in out
    code, _, err = run(capsys, *words, "--dense", "cls", "--overwrite")
    assert code == 0
    with HybridIndex.open(place) as index:  # the manifest remembers what was told
        assert index.search("w3")[0].dense is not None


def test_a_head_without_weights_is_never_used_in_silence(tmp_path: Path):
    save_tiny(tmp_path).base_model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no masked-LM head"):
        load_encoder(tmp_path)
    with pytest.warns(NewWeightsWarning, match="masked-LM head is new"):
        DupMAEEncoder.from_pretrained(tmp_path, fresh_head=True)
    whole = tmp_path / "whole"
    save_tiny(whole)
    with pytest.warns(NewWeightsWarning, match="projection"):
        load_encoder(whole, dense_dim=4)


def test_a_warning_of_the_library_is_one_line_on_the_command_line(capsys):
    before = warnings.showwarning
    with plain_warnings(), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning(NewWeightsWarning("its head is new"), NewWeightsWarning, "x.py", 3)
    assert capsys.readouterr().err == "warning: its head is new\n"
    assert warnings.showwarning is before
