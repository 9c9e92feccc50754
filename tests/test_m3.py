"""Folders like BGE-M3's: both vectors as in FlagEmbedding, computed here a text at a time."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dupmae_toolkit import HybridIndex, load_encoder
from dupmae_toolkit.errors import InputError
from tests.sentence_support import TEXTS, list_modules, save_sentence
from tests.tiny import tiny_lm, tiny_tokenizer

SPECIAL = {0, 1, 2, 3}  # padding, unknown, [CLS], [SEP]


def save_m3(folder: Path, kind: str, dtype: torch.dtype = torch.float32):
    """Write a folder; returns its text model and the layer of token weights, as float32."""
    model = tiny_lm("xlm-roberta", 3).base_model
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    torch.manual_seed(1)
    layer = torch.nn.Linear(16, 1).to(dtype)
    if kind == "pt":
        torch.save(layer.state_dict(), folder / "sparse_linear.pt")
        torch.save(torch.nn.Linear(16, 16).state_dict(), folder / "colbert_linear.pt")
    else:
        save_file(layer.state_dict(), folder / "sparse_linear.safetensors")
    return model, layer.float()


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("pt", torch.float32),
        ("pt", torch.float16),
        ("pt", torch.bfloat16),
        ("safetensors", torch.float16),
    ],
)
def test_both_vectors_are_those_of_the_formulas(tmp_path: Path, kind: str, dtype: torch.dtype):
    model, layer = save_m3(tmp_path, kind, dtype)
    encoder = load_encoder(tmp_path, precision="fp32")
    texts = [*TEXTS, "w1 w1 zebra w2 w1"]  # repeated and unknown words
    found = encoder.encode_documents(texts)
    for text, dense, lexical in zip(texts, found.dense, found.lexical.toarray(), strict=True):
        ids = tiny_tokenizer()(text, truncation=True, max_length=encoder.room)["input_ids"]
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([ids]))[0][0]
            weights = torch.relu(layer(hidden))[:, 0].tolist()
        np.testing.assert_allclose(dense, hidden[0] / hidden[0].norm(), atol=2e-6)
        wanted = np.zeros(64)
        for token, weight in zip(ids, weights, strict=True):
            if token not in SPECIAL:
                wanted[token] = max(wanted[token], weight)
        np.testing.assert_allclose(lexical, wanted, atol=2e-6)
    assert found.lexical.nnz
    assert ("colbert" in encoder.remarks[0]) == (kind == "pt")
    assert encoder.info.lexical_head == "tokens"


def test_an_index_of_it_finds_it_again(tmp_path: Path):
    save_m3(tmp_path / "m", "pt")
    list_modules(tmp_path / "m", "Transformer", "Pooling", "Normalize")
    (tmp_path / "m" / "1_Pooling").mkdir()
    (tmp_path / "m" / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    encoder = load_encoder(tmp_path / "m")
    documents = [{"id": "a", "text": "w1 w2"}, {"id": "b", "text": "w3 w4"}]
    HybridIndex.build(tmp_path / "i", documents, encoder).close()
    with HybridIndex.open(tmp_path / "i") as index:
        hit = index.search("w3 w4")[0]
        assert hit.score == pytest.approx(hit.dense + hit.lexical + hit.bm25, abs=1e-5)
    pair = load_encoder(f"{tmp_path}/m+{tmp_path}/m", precision="fp32").encode_queries(TEXTS)
    whole = load_encoder(tmp_path / "m", precision="fp32").encode_queries(TEXTS)
    np.testing.assert_array_equal(pair.dense, whole.dense)
    np.testing.assert_array_equal(pair.lexical.toarray(), whole.lexical.toarray())


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


def test_no_pickle_is_run(tmp_path: Path):
    save_m3(tmp_path, "pt")
    path = tmp_path / "sparse_linear.pt"
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    for evil in (pickle.dumps(Evil()), b"", b"\x80\x04garbage", pickle.dumps("x" * 100_000)):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, evil if name.endswith("data.pkl") else data)
        with pytest.raises(InputError, match=r"linear\.safetensors") as caught:
            load_encoder(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", pickle.dumps({"weight": 1})])
def test_a_layer_that_cannot_be_read_is_one_line(tmp_path: Path, data: bytes):
    save_m3(tmp_path, "pt")
    (tmp_path / "sparse_linear.pt").write_bytes(data)
    with pytest.raises(InputError, match=r"linear\.safetensors"):
        load_encoder(tmp_path)


def test_a_layer_of_another_width_is_refused(tmp_path: Path):
    save_m3(tmp_path, "pt")
    torch.save(torch.nn.Linear(15, 1).state_dict(), tmp_path / "sparse_linear.pt")
    with pytest.raises(InputError, match="for 16 numbers"):
        load_encoder(tmp_path)
    save_file({"weight": torch.zeros(1, 16)}, tmp_path / "sparse_linear.safetensors")
    with pytest.raises(InputError, match="bias"):
        load_encoder(tmp_path)


def test_another_pooling_beside_the_layer_is_refused(tmp_path: Path):
    save_sentence(tmp_path, "mean")
    save_file(torch.nn.Linear(16, 1).state_dict(), tmp_path / "sparse_linear.safetensors")
    with pytest.raises(InputError, match="BGE-M3"):
        load_encoder(tmp_path)
