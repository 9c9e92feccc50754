"""Readers of checkpoint folders."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.loading import load_encoder
from tests.fuzz.readers import Reader
from tests.tiny import SPECIAL, tiny_lm

TEXTS = ["a b c", "", "x " * 50]


@functools.cache
def _files() -> dict[str, bytes]:
    encoder = _plain_encoder()
    encoder.config = encoder.config.but(dense_dim=8)
    import torch

    torch.manual_seed(0)
    encoder.dense_projection = torch.nn.Linear(16, 8, bias=False)
    with tempfile.TemporaryDirectory() as folder:
        encoder.save_pretrained(Path(folder, "model"))
        return {path.name: path.read_bytes() for path in Path(folder, "model").iterdir()}


def _plain_encoder() -> DupMAEEncoder:
    """A BERT that can also be read without transformers."""
    from transformers import BertTokenizer

    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *map(chr, range(97, 123))))}
    tokenizer = BertTokenizer(vocab=vocabulary)
    lm = tiny_lm("bert", vocab_size=len(vocabulary))
    return DupMAEEncoder(lm, tokenizer, DupMAEConfig(), "tiny", "fp32")


def make(folder: Path) -> None:
    for name, data in _files().items():
        (folder / name).write_bytes(data)


def load(folder: Path) -> list[Any]:
    encoder = DupMAEEncoder.from_pretrained(folder, device="cpu", precision="fp32")
    vectors = encoder.encode_documents(TEXTS)
    other = load_encoder(folder, device="cpu", precision="fp32").encode_documents(TEXTS)
    assert np.array_equal(other.dense, vectors.dense)
    assert (other.lexical != vectors.lexical).nnz == 0
    assert np.isfinite(vectors.dense).all()
    assert vectors.dense.shape == (3, encoder.dense_dim)
    assert vectors.lexical.shape == (3, encoder.vocabulary_size) == (3, len(encoder.vocabulary))
    vectors.lexical.check_format(full_check=True)
    assert np.isfinite(vectors.lexical.data).all()
    assert (vectors.lexical.data > 0).all()
    return [vectors.dense.tobytes(), vectors.lexical.indices.tobytes(), encoder.info.to_dict()]


READERS = [
    Reader("model config", make, ["config.json"], load),
    Reader("model tokenizer", make, ["tokenizer.json", "tokenizer_config.json"], load),
    Reader("model weights", make, ["*.safetensors"], load),
]
