"""Encoding texts to both vectors, against sentence-transformers and the machine's matrix product.

The peer loads the built-in encoder's weights twice, as its library requires: as a SparseEncoder
(the masked LM and SPLADE's pooling) and as a SentenceTransformer ([CLS], normalised), each with its
own pass. Lengths, top-k and pooled tokens are those of our encoder, so the vectors must be equal.
Documents are the docstrings of the running Python.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import (
    NoPeerError,
    Row,
    Sizes,
    against,
    each_in_turn,
    in_turns,
    peer_import,
    percentiles,
)

PEER = "sentence-transformers"
#: Tolerance for rounding in each precision, relative to a row's largest number.
CLOSE = {"fp32": 1e-3, "bf16": 5e-2}
_QUESTION = "how do I turn text into a date"


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """Documents, their matrix products, single queries, and a fresh process's first query."""
    from dupmae_toolkit import DupMAEEncoder
    from dupmae_toolkit.demo.docstrings import read_docstrings
    from dupmae_toolkit.demo.questions import load_questions

    documents = read_docstrings()
    questions = [q.text for q in load_questions({d.id for d in documents}).queries]
    step = max(1, len(documents) // sizes.documents)
    texts = [document.contents for document in documents[::step][: sizes.documents]]
    queries = (questions * -(-sizes.queries // len(questions)))[: sizes.queries]
    encoder = DupMAEEncoder.from_pretrained("builtin")
    work = f"encoding {len(texts):,} documents to both vectors, {encoder.arithmetic}"
    rows = against(work, PEER, lambda: _documents(encoder, texts, work, "fp32"))
    if encoder.arithmetic == "bf16":
        rows += against(work, f"{PEER}, bf16", lambda: _documents(encoder, texts, work, "bf16"))
    rows += against(work, "matrix product", lambda: _arithmetic(encoder, texts, work))
    work = f"encoding one query, warm, median of {len(queries):,}"
    rows += against(work, PEER, lambda: _queries(encoder, queries, work))
    work = "first query of a fresh process, from its start"
    rows += against(work, PEER, lambda: first_query(work))
    return rows


class Peer:
    """Both of sentence-transformers' encoders with our weights. Raises NoPeerError."""

    def __init__(self, encoder: Any, dtype: str = "fp32") -> None:
        with peer_import(PEER):
            from sentence_transformers import SentenceTransformer, SparseEncoder
            from sentence_transformers.base.modules import Transformer
            from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
            from sentence_transformers.sparse_encoder.modules import SpladePooling
        from torch import nn

        from dupmae_toolkit.model.checkpoints import BUILTIN

        ordinary = encoder.ordinary

        class WithoutSpecialTokens(nn.Module):
            """Excludes [CLS] and [SEP] from pooling, as in the encoder's training."""

            def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
                mask = features["attention_mask"] * ordinary[features["input_ids"]]
                return features | {"attention_mask": mask}

        kwargs = {"dtype": "bfloat16" if dtype == "bf16" else "float32"}
        lm = Transformer(str(BUILTIN), transformer_task="fill-mask", model_kwargs=kwargs)
        body = Transformer(str(BUILTIN), model_kwargs=kwargs)
        self.config = encoder.config
        pooling = Pooling(encoder.dense_dim, pooling_mode="cls")
        self._sparse = SparseEncoder(
            modules=[lm, WithoutSpecialTokens(), SpladePooling("max")], device="cpu"
        )
        normal = [Normalize()] if self.config.normalize else []
        self._dense = SentenceTransformer(modules=[body, pooling, *normal], device="cpu")

    def documents(self, texts: list[str]) -> tuple[np.ndarray, Any]:
        """Dense float32 [n, d], lexical CSR [n, |V|]."""
        return self._both(texts, self.config.max_length, self.config.top_k)

    def queries(self, texts: list[str]) -> tuple[np.ndarray, Any]:
        """The same for queries."""
        return self._both(texts, self.config.query_max_length, self.config.query_top_k)

    def _both(self, texts: list[str], length: int, top_k: int) -> tuple[np.ndarray, Any]:
        from scipy.sparse import csr_matrix

        self._sparse.max_seq_length = self._dense.max_seq_length = length
        lexical = self._sparse.encode(
            texts, max_active_dims=top_k or None, show_progress_bar=False
        ).coalesce()
        dense = self._dense.encode(texts, show_progress_bar=False, convert_to_tensor=True)
        entries = lexical.values().float().cpu().numpy(), lexical.indices().cpu().numpy()
        return dense.float().cpu().numpy(), csr_matrix(entries, shape=tuple(lexical.shape))


def _documents(encoder: Any, texts: list[str], work: str, dtype: str) -> Row:
    peer = Peer(encoder, dtype)
    few = texts[:8]
    encoder.encode_documents(few)
    peer.documents(few)
    (mine, theirs), (ours_s, theirs_s) = in_turns(
        2, lambda: encoder.encode_documents(texts), lambda: peer.documents(texts)
    )
    loose = "bf16" if "bf16" in (dtype, encoder.arithmetic) else "fp32"
    same = agreement(mine.dense, mine.lexical, *theirs, CLOSE[loose])
    details = {"ours_texts_s": len(texts) / ours_s, "peer_texts_s": len(texts) / theirs_s}
    name = PEER + (", bf16" if dtype == "bf16" else "")
    return Row(work, name, ours_s, theirs_s, same, details=details)


def agreement(dense: np.ndarray, lexical: Any, other: np.ndarray, terms: Any, close: float) -> str:
    """For how many texts both vectors are equal within ``close``, relative to the largest number.

    A term at the cut of the top-k may be missing on one side if others have the same weight.
    """
    equal = 0
    for row in range(len(dense)):
        mine, theirs = lexical[row].toarray()[0], terms[row].toarray()[0]
        room = close * max(mine.max(initial=0), theirs.max(initial=0), 1e-9)
        differs = np.abs(mine - theirs) > room
        least = min((v[v > 0].min(initial=np.inf) for v in (mine, theirs)), default=np.inf)
        edge = np.maximum(mine, theirs) <= least + room
        fits = not (differs & ~edge).any()
        room = close * np.abs(dense[row]).max(initial=1e-9)
        equal += bool(fits and (np.abs(dense[row] - other[row]) <= room).all())
    return f"both vectors the same for {equal} of {len(dense)} within {close:g}"


def flop(config: Any, vocabulary: int, lengths: Sequence[int], special: int = 2) -> float:
    """The floating-point operations for both vectors of texts, counted from BERT's layers.

    lengths: in tokens, including ``special`` ones, for which there are no products with the
    vocabulary. A product of [a, b] and [b, c] counts 2·a·b·c; only matrix products are counted.
    """
    h, i, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    total = 0
    for length in lengths:
        layer = 2 * length * (4 * h * h + 2 * h * i) + 4 * length * length * h
        words = max(0, length - special)
        total += layers * layer + 2 * words * (h * h + h * vocabulary)
    return float(total)


def product_rate(dtype: str, size: int = 2048, rounds: int = 10) -> float:
    """The best FLOP/s of a square matrix product on all threads that torch may use."""
    import torch

    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    best = math.inf
    a, b = torch.randn(size, size).to(kind), torch.randn(size, size).to(kind)
    for _ in range(rounds):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _arithmetic(encoder: Any, texts: list[str], work: str) -> Row:
    from dupmae_toolkit.model.tokens import tokenize

    kind = encoder.arithmetic
    lengths = [
        len(ids) for ids in tokenize(encoder.tokenizer, texts, encoder.config.max_length).ids
    ]
    operations = flop(encoder.lm.config, encoder.vocabulary_size, lengths)
    before = product_rate(kind)
    _, (seconds,) = in_turns(2, lambda: encoder.encode_documents(texts))
    rate = max(before, product_rate(kind))
    share = operations / seconds / rate
    same = f"{share:.0%} of {rate / 1e9:,.0f} GFLOP/s; {operations / 1e9:,.0f} GFLOP"
    details = {"flop": operations, "product_flop_s": rate, "share": share, "tokens": sum(lengths)}
    name = f"the machine's {kind} matrix product"
    return Row(work, name, seconds, operations / rate, same, details=details)


def _queries(encoder: Any, queries: list[str], work: str) -> Row:
    peer = Peer(encoder)
    (mine, theirs), seconds = each_in_turn(
        len(queries),
        lambda n: encoder.encode_queries([queries[n]]),
        lambda n: peer.queries([queries[n]]),
    )
    from scipy.sparse import vstack

    same = agreement(
        np.concatenate([found.dense for found in mine]),
        vstack([found.lexical for found in mine], format="csr"),
        np.concatenate([found[0] for found in theirs]),
        vstack([found[1] for found in theirs], format="csr"),
        CLOSE[encoder.arithmetic],
    )
    ours_ms, theirs_ms = (np.median(seconds, axis=1) * 1000).tolist()
    details = {"ours": percentiles(seconds[0]), "peer": percentiles(seconds[1])}
    return Row(work, PEER, ours_ms, theirs_ms, same, "ms", details)


#: What a fresh process runs. It prints when it has the vectors, and a number of the dense one.
_OURS = """
from dupmae_toolkit import load_encoder
found = load_encoder("builtin").encode_queries([QUESTION])
print("done", found.dense[0, 0], flush=True)
"""
_THEIRS = """
from benchmarks.encoding import Peer
from dupmae_toolkit import DupMAEEncoder
from types import SimpleNamespace
import torch
from dupmae_toolkit.model.config import DupMAEConfig
import json
from dupmae_toolkit.model.checkpoints import BUILTIN
held = json.loads((BUILTIN / "config.json").read_text())
ordinary = torch.ones(held["vocab_size"], dtype=torch.bool)
ordinary[[0, 101, 102, 103]] = False
plain = SimpleNamespace(
    ordinary=ordinary,
    config=DupMAEConfig.from_dict(held["dupmae"]),
    dense_dim=held["hidden_size"],
)
found = Peer(plain).queries([QUESTION])
print("done", found[0][0, 0], flush=True)
"""


def first_query(work: str, rounds: int = 3) -> Row:
    """Seconds from the start of a process to its first vectors: the least of ``rounds``."""
    with peer_import(PEER):
        import sentence_transformers  # noqa: F401
    (mine, theirs), (ours_s, theirs_s) = in_turns(
        rounds, lambda: _answer(_OURS), lambda: _answer(_THEIRS)
    )
    fits = abs(mine - theirs) < 1e-2
    same = "the same vector" if fits else f"OTHER vectors: {mine} and {theirs}"
    return Row(work, PEER, ours_s, theirs_s, same)


def _answer(script: str) -> float:
    command = [sys.executable, "-c", script.replace("QUESTION", repr(_QUESTION))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("done "):
                return float(line.split()[1])
    raise NoPeerError(f"a fresh process ended with {process.returncode} before it answered")
