"""Folders of sentence-transformers give the vectors that their modules.json says.

What is expected is computed a text at a time, without padding, from the definitions.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dupmae_toolkit import HybridIndex, load_encoder
from dupmae_toolkit.errors import EncoderMismatchError, InputError
from tests.cli_support import run
from tests.sentence_support import TEXTS, list_modules, save_sentence, write
from tests.tiny import tiny_tokenizer

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def states(model, text: str, length: int = 20) -> torch.Tensor:
    """The hidden states of one text, [L, H]."""
    ids = tiny_tokenizer()(text, truncation=True, max_length=length)["input_ids"]
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]))[0][0]


def expected_pooling(hidden: torch.Tensor, mode: str) -> torch.Tensor:
    count = len(hidden)
    position = torch.arange(1, count + 1).float()
    return {
        "cls": hidden[0],
        "max": hidden.max(0).values,
        "mean": hidden.sum(0) / count,
        "mean_sqrt_len_tokens": hidden.sum(0) / count**0.5,
        "weightedmean": (position @ hidden) / position.sum(),
        "lasttoken": hidden[-1],
    }[mode]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "mpnet"])
def test_each_pooling_is_that_of_its_definition(tmp_path: Path, mode: str, family: str):
    model, _ = save_sentence(tmp_path, mode, family=family)
    encoder = load_encoder(tmp_path, precision="fp32")
    found = encoder.encode_documents(TEXTS)
    wanted = [expected_pooling(states(model, text), mode) for text in TEXTS]
    np.testing.assert_allclose(found.dense, torch.stack(wanted), atol=2e-6)
    assert encoder.info.pooling == mode
    assert encoder.info.sides == ("dense",)
    assert found.lexical.nnz == 0
    assert found.truncated == 1


def test_poolings_are_joined_then_projected_then_normalized(tmp_path: Path):
    layers = ((12, True, "Tanh"), (8, False, "Identity"))
    model, weights = save_sentence(tmp_path, "mean", "cls", dense=layers, normalize=True)
    found = load_encoder(tmp_path, precision="fp32").encode_queries(TEXTS).dense
    for text, row in zip(TEXTS, found, strict=True):
        hidden = states(model, text)
        # Older folders join in a fixed order, whatever order they name.
        both = torch.cat([expected_pooling(hidden, mode) for mode in ("cls", "mean")])
        first = torch.tanh(weights[0]["linear.weight"] @ both + weights[0]["linear.bias"])
        wanted = weights[1]["linear.weight"] @ first
        np.testing.assert_allclose(row, wanted / wanted.norm(), atol=2e-6)


def test_newer_folders_name_poolings_in_their_own_order(tmp_path: Path):
    model, _ = save_sentence(tmp_path, "cls")
    write(tmp_path / "1_Pooling" / "config.json", {"pooling_mode": ["lasttoken", "cls"]})
    (found,) = load_encoder(tmp_path, precision="fp32").encode_queries(["w1 w2"]).dense
    hidden = states(model, "w1 w2")
    np.testing.assert_allclose(found, torch.cat([hidden[-1], hidden[0]]), atol=2e-6)


def test_prompts_belong_to_queries_and_documents_as_its_files_say(tmp_path: Path):
    prompts = {"query": "w40 w41 ", "passage": "w42 ", "other": "w43 "}
    overall = {"prompts": prompts, "similarity_fn_name": "dot"}
    model, _ = save_sentence(tmp_path, "mean", overall=overall)
    encoder = load_encoder(tmp_path, precision="fp32")
    for vectors, prompt in (
        (encoder.encode_queries(["w1"]), "w40 w41 "),
        (encoder.encode_documents(["w1"]), "w42 "),
    ):
        wanted = states(model, f"{prompt}w1").mean(0)
        np.testing.assert_allclose(vectors.dense[0], wanted, atol=2e-6)
    assert (encoder.info.prefix, encoder.info.query_prefix) == ("w42 ", "w40 w41 ")


def test_the_default_prompt_is_for_what_has_none_of_its_own(tmp_path: Path):
    overall = {"prompts": {"query": "", "any": "w43 "}, "default_prompt_name": "any"}
    save_sentence(tmp_path, "mean", overall=overall)
    info = load_encoder(tmp_path).info
    assert (info.prefix, info.query_prefix) == ("w43 ", "")


@pytest.mark.parametrize(
    ("overall", "normalized", "said"),
    [
        ({"similarity_fn_name": "dot"}, False, 1),
        ({"similarity_fn_name": "cosine"}, True, 1),
        ({"similarity_fn_name": None}, True, 2),
        ({"prompts": {}}, True, 2),
    ],
)
def test_the_similarity_decides_whether_vectors_have_length_one(
    tmp_path: Path, overall, normalized, said
):
    save_sentence(tmp_path, "mean", overall=overall)
    encoder = load_encoder(tmp_path, precision="fp32")
    lengths = np.linalg.norm(encoder.encode_documents(TEXTS).dense, axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) == normalized == encoder.info.normalize
    assert len(encoder.remarks) == said  # a similarity that was assumed is said


def test_texts_are_lower_cased_where_its_files_say_so(tmp_path: Path):
    save_sentence(tmp_path, "mean")
    plain = load_encoder(tmp_path, precision="fp32")
    write(tmp_path / "sentence_bert_config.json", {"max_seq_length": 20, "do_lower_case": True})
    lower = load_encoder(tmp_path, precision="fp32")
    wanted = plain.encode_queries(["w1 w2"]).dense
    np.testing.assert_array_equal(lower.encode_queries(["W1 w2"]).dense, wanted)
    assert not np.allclose(plain.encode_queries(["W1 w2"]).dense, wanted)
    assert lower.info.differences(plain.info) == ["weights_sha256"]


@pytest.mark.parametrize(("stated", "kept"), [(None, 40), (12, 12), (4000, 40)])
def test_lengths_are_those_of_its_files_as_far_as_there_are_positions(tmp_path: Path, stated, kept):
    save_sentence(tmp_path, "mean", max_length=stated)
    assert load_encoder(tmp_path).info.max_length == kept
    assert load_encoder(tmp_path, max_length=7).info.max_length == 7


def test_a_length_in_the_tokenizer_alone_counts(tmp_path: Path):
    save_sentence(tmp_path, "mean", max_length=None)
    path = tmp_path / "tokenizer_config.json"
    write(path, json.loads(path.read_text()) | {"model_max_length": 9})
    assert load_encoder(tmp_path).info.query_max_length == 9


def test_a_text_model_in_a_folder_of_its_own_is_found(tmp_path: Path):
    model, _ = save_sentence(tmp_path, "mean")
    inner = tmp_path / "0_Transformer"
    inner.mkdir()
    for path in tmp_path.iterdir():
        moved = path.is_file() and not path.name.startswith(("modules", "config_sent"))
        if moved:
            path.rename(inner / path.name)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    write(tmp_path / "modules.json", modules)
    encoder = load_encoder(tmp_path, precision="fp32")
    wanted = states(model, "w1 w2").mean(0)
    np.testing.assert_allclose(encoder.encode_queries(["w1 w2"]).dense[0], wanted, atol=2e-6)
    assert encoder.name == str(tmp_path)


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "kind", ["LayerNorm", "CNN", "LSTM", "WeightedLayerPooling", "Router", "Asym", "Anything"]
)
def test_a_module_that_is_not_known_is_refused(tmp_path: Path, kind: str):
    save_sentence(tmp_path, "mean")
    list_modules(tmp_path, "Transformer", "Pooling", kind)
    assert kind in refused(tmp_path)


@pytest.mark.parametrize("first", ["Router", "BoW", "WordEmbeddings", "CLIPModel", "Pooling"])
def test_a_folder_that_begins_with_no_text_model_is_refused(tmp_path: Path, first: str):
    save_sentence(tmp_path, "mean")
    list_modules(tmp_path, first, "Pooling")
    assert first in refused(tmp_path)


def test_code_of_its_own_is_not_imported(tmp_path: Path, monkeypatch):
    save_sentence(tmp_path, "mean")
    (tmp_path / "custom.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[0]["type"] = "custom.Transformer"
    write(tmp_path / "modules.json", modules)
    assert "code of its own" in refused(tmp_path)
    write(tmp_path / "modules.json", [modules[0] | {"type": "sentence_transformers_x.Pooling"}])
    assert "code of its own" in refused(tmp_path)


@pytest.mark.parametrize("place", ["../other", "/tmp", "a/../../b", "a\\b", "a\0b"])
def test_modules_stay_within_the_folder(tmp_path: Path, place: str):
    save_sentence(tmp_path, "mean")
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[1]["path"] = place
    write(tmp_path / "modules.json", modules)
    assert "within" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("modules.json", {}),
        ("modules.json", []),
        ("modules.json", [3]),
        ("modules.json", [{"idx": "x", "type": "sentence_transformers.models.Pooling"}]),
        ("modules.json", [{"idx": 0, "type": None, "path": ""}]),
        ("1_Pooling/config.json", []),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}),
        ("1_Pooling/config.json", {"pooling_mode": []}),
        ("1_Pooling/config.json", {"pooling_mode": 3}),
        ("1_Pooling/config.json", {"pooling_mode": [["cls"]]}),
        ("2_Dense/config.json", {"in_features": 16}),
        ("2_Dense/config.json", {"in_features": 16, "out_features": -1}),
        ("2_Dense/config.json", {"in_features": 15, "out_features": 8}),
        ("2_Dense/config.json", {"in_features": 16, "out_features": 9}),
        ("2_Dense/config.json", {"in_features": 16, "out_features": 8, "bias": False}),
        ("2_Dense/config.json", {"in_features": 16, "out_features": 8, "use_residual": True}),
        (
            "2_Dense/config.json",
            {"in_features": 16, "out_features": 8, "activation_function": "os.system"},
        ),
        (
            "2_Dense/config.json",
            {"in_features": 16, "out_features": 8, "module_input_name": "token_embeddings"},
        ),
        ("sentence_bert_config.json", {"max_seq_length": "long"}),
        ("sentence_bert_config.json", {"max_seq_length": 0}),
        ("sentence_bert_config.json", {"transformer_task": "text-generation"}),
        ("config_sentence_transformers.json", {"similarity_fn_name": "euclidean"}),
        ("config_sentence_transformers.json", {"similarity_fn_name": "manhattan"}),
        ("config_sentence_transformers.json", {"similarity_fn_name": []}),
        ("config_sentence_transformers.json", {"prompts": {"query": 3}}),
        ("config_sentence_transformers.json", {"prompts": ["w1 "]}),
        ("config_sentence_transformers.json", {"default_prompt_name": "gone"}),
        ("config_sentence_transformers.json", {"default_prompt_name": []}),
    ],
)
def test_what_its_files_must_not_say_is_one_line(tmp_path: Path, name: str, values):
    save_sentence(tmp_path, "mean", dense=((8, True, "Tanh"),))
    load_encoder(tmp_path)  # as it was, it can be read
    write(tmp_path / name, values)
    refused(tmp_path)


def test_pickled_and_missing_weights_are_refused(tmp_path: Path):
    save_sentence(tmp_path, "mean", dense=((8, True, "Tanh"),))
    weights = tmp_path / "2_Dense" / "model.safetensors"
    weights.rename(tmp_path / "2_Dense" / "pytorch_model.bin")
    assert "pickled" in refused(tmp_path)
    (tmp_path / "2_Dense" / "pytorch_model.bin").unlink()
    assert "no such file" in refused(tmp_path)
    weights.write_bytes(b"\0" * 40)
    assert "cannot be read" in refused(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert "pickled" in refused(tmp_path)


def test_weights_that_are_missing_are_never_drawn(tmp_path: Path):
    from safetensors.torch import save_file

    save_sentence(tmp_path, "mean")
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    gone = next(name for name in weights if "attention" in name)
    save_file({k: v for k, v in weights.items() if k != gone}, path, metadata={"format": "pt"})
    assert gone.split("layer.")[-1] in refused(tmp_path)


def test_prompts_that_are_left_out_of_the_pooling_are_refused(tmp_path: Path):
    save_sentence(tmp_path, "mean", overall={"prompts": {"query": "w1 "}})
    write(
        tmp_path / "1_Pooling" / "config.json",
        {"pooling_mode_mean_tokens": True, "include_prompt": False},
    )
    assert "include_prompt" in refused(tmp_path)
    load_encoder(tmp_path, query_prefix="")  # nothing is left out


def test_an_index_of_it_has_the_parts_that_it_gives(tmp_path: Path, capsys):
    folder = tmp_path / "model"
    overall = {"prompts": {"query": "w40 "}, "similarity_fn_name": "cosine"}
    save_sentence(folder, "mean", overall=overall)
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"id":"a","text":"w1 w2"}\n{"id":"b","text":"w3 zebra"}\n')
    place = tmp_path / "index"
    code, _, err = run(capsys, "index", corpus, "--index", place, "--model", folder)
    assert code == 0
    assert "mean pooling" in err
    encoder = load_encoder(folder)
    with HybridIndex.open(place) as index:  # by its name: with its prompts and its pooling
        hits = index.search("zebra", 2)
        assert hits[0].id == "b"
        dense = (
            encoder.encode_queries(["zebra"]).dense
            @ encoder.encode_documents(["w1 w2", "w3 zebra"]).dense.T
        )
        found = {hit.id: hit for hit in hits}
        np.testing.assert_allclose([found[i].dense for i in "ab"], dense[0], atol=0.02)
        assert found["b"].lexical is None
        assert found["b"].score == pytest.approx(found["b"].dense + found["b"].bm25, abs=1e-5)
    code, _, err = run(capsys, "search", "--index", place, "zebra", "--mode", "lexical")
    assert code == 2
    assert "no lexical vectors" in err
    code, out, _ = run(capsys, "info", "--index", place, "--json")
    values = json.loads(out)
    assert values["parts"] == ["dense", "bm25"]
    assert values["encoder"]["pooling"] == "mean"
    save_sentence(folder, "cls", overall=overall)
    with pytest.raises(EncoderMismatchError, match="pooling"), HybridIndex.open(place) as index:
        index.search("zebra")
