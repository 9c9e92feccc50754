"""Queries without the network: what each token gives comes from a table beside the checkpoint.

A query's lexical vector has one term for each different token of its text, with the token's weight
in the table. A repeated token counts once: the network takes the maximum over a text's tokens, so
it does not add repetitions up either. There are no expansion terms. A dense vector there is only if
the table was fitted to texts (``lookup_dense``); without it, dense scores cannot be searched for.
Nothing here imports torch or transformers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import atomic_file, sha256_lines
from dupmae_toolkit.model.checkpoints import named_folder
from dupmae_toolkit.model.lean.tokenizer import PlainTokenizer, read_tokenizer
from dupmae_toolkit.model.lookup_dense import DenseTable
from dupmae_toolkit.model.tokens import tokenize, tokens_of_rows
from dupmae_toolkit.records import EncoderInfo, Representations

#: A checkpoint's file for the table.
LOOKUP_FILE = "lookup.safetensors"
_WEIGHTS = "weights"
_INFO = "encoder"
_DENSE = ("dense_vectors", "dense_scales", "dense_bias")


class LookupEncoder:
    """Encodes queries by a table of term weights. It is an Encoder that encodes no documents.

    info: that of the encoder that the table was derived from.
    """

    def __init__(
        self,
        info: EncoderInfo,
        weights: np.ndarray,
        tokenizer: PlainTokenizer,
        dense: DenseTable | None = None,
        *,
        left_out: bool = False,
    ) -> None:
        """weights: float32 [|V|], non-negative; 0 for special tokens except [UNK]. left_out:
        whether the table has dense vectors that were not asked for."""
        self.info = info
        self._weights = weights
        self._tokenizer = tokenizer
        self._dense = dense
        self.left_out = left_out

    @property
    def has_dense(self) -> bool:
        """Whether queries have dense vectors."""
        return self._dense is not None

    def lexical_alone(self) -> LookupEncoder:
        """The same table without dense vectors."""
        left_out = self.left_out or self.has_dense
        return LookupEncoder(self.info, self._weights, self._tokenizer, left_out=left_out)

    @cached_property
    def vocabulary(self) -> list[str]:
        """The token of each column; see ``tokens_of_rows``."""
        return tokens_of_rows(self._tokenizer.get_vocab(), self.info.vocabulary_size)

    def fitted_to(self, info: EncoderInfo, query_max_length: int | None = None) -> LookupEncoder:
        """The same table, with the lengths and top-k of an index's encoder.

        query_max_length: where queries are cut instead, in tokens, special ones included.
        """
        length = info.query_max_length if query_max_length is None else query_max_length
        settings = replace(
            self.info,
            max_length=info.max_length,
            query_max_length=length,
            top_k=info.top_k,
            query_top_k=info.query_top_k,
        )
        return LookupEncoder(settings, self._weights, self._tokenizer, self._dense)

    def describe(self) -> dict[str, Any]:
        """How queries are encoded, for the metadata of runs."""
        digest = hashlib.sha256(self._weights.astype("<f4").tobytes())
        if self._dense is not None:
            table = self._dense
            for part in (table.vectors, table.scales.astype("<f4"), table.bias.astype("<f4")):
                digest.update(part.tobytes())
        return {
            "kind": "lookup",
            "table_sha256": digest.hexdigest(),
            "repeated_tokens": "count once",
            "dense": self.has_dense,
        }

    def encode_queries(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        """Term weights of queries, and dense vectors, float32 [n, d]; zeros without such a table.

        Queries are cut, and pruned to ``query_top_k`` terms, as the network's are; of equal weights
        at the cut, the lower term ids are kept.
        """
        from scipy.sparse import csr_matrix

        info = self.info
        prefixed = [info.query_prefix + text for text in texts] if info.query_prefix else texts
        tokens = tokenize(self._tokenizer, prefixed, info.query_max_length)
        columns: list[int] = []
        bounds = [0]
        for row in tokens.ids:
            columns += self._terms(row)
            bounds.append(len(columns))
        if self._dense is None:
            dense = np.zeros((len(texts), info.dense_dim), np.float32)
        else:
            dense = self._dense.encode([self._ordinary(row) for row in tokens.ids])
        indices = np.array(columns, np.int32)
        shape = len(texts), info.vocabulary_size
        lexical = csr_matrix(
            (self._weights[indices], indices, np.array(bounds, np.int32)), shape=shape
        )
        # Checking for either would take longer than making the matrix.
        lexical.has_sorted_indices = lexical.has_canonical_format = True
        return Representations(
            [str(i) for i in range(len(texts))] if ids is None else list(ids),
            dense,
            lexical,
            tokens.truncated,
            texts=list(texts),
            max_length=info.query_max_length,
        )

    def encode_documents(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        raise InputError("a lookup table encodes queries only; documents need the encoder itself")

    def _terms(self, tokens: list[int]) -> list[int]:
        """The different tokens that have a weight, ascending, at most ``query_top_k``."""
        weights = self._listed
        terms = sorted({token for token in tokens if weights[token] > 0})
        most = self.info.query_top_k
        if most and len(terms) > most:
            terms = sorted(sorted(terms, key=lambda term: -weights[term])[:most])
        return terms

    def _ordinary(self, tokens: list[int]) -> list[int]:
        """The different tokens without the special ones around them; see ``inner``."""
        return different(inner(tokens))

    @cached_property
    def _listed(self) -> list[float]:
        """The weights as a list, whose single items are read faster than an array's."""
        return self._weights.tolist()


def inner(tokens: list[int]) -> list[int]:
    """The tokens of a text without [CLS] and [SEP], which BERT's tokenizers put around it."""
    return tokens[1:-1]


def different(tokens: list[int]) -> list[int]:
    """The different tokens, ascending."""
    return sorted(set(tokens))


def read_lookup(source: str | Path) -> LookupEncoder:
    """The lookup table of a checkpoint: ``builtin``, a folder or a hub id.

    Raises InputError if it has none, if the file is damaged, or if the tokenizer is not BERT's or
    not the one that the table was made with. Whether the table belongs to an index is seen by
    ``info``.
    """
    folder, name = named_folder(source)
    path = folder / LOOKUP_FILE
    derive = f"`dupmae derive-lookup {name}` makes it"
    if not path.is_file():
        raise InputError.at(folder, None, "has no lookup table", derive)
    again = derive.replace("makes it", "makes it again")
    try:
        tensors, metadata = _read(path)
        weights = tensors[_WEIGHTS]
        info = EncoderInfo.from_dict(json.loads(metadata[_INFO]))
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError.at(path, None, f"is no lookup table ({reason})", again) from error
    if weights.dtype.kind != "f" or weights.shape != (info.vocabulary_size,):
        raise InputError.at(
            path,
            None,
            f"holds weights of type {weights.dtype} and shape {weights.shape}, not a float for "
            f"each of {info.vocabulary_size:,} tokens",
            again,
        )
    weights = weights.astype(np.float32)
    if not np.isfinite(weights).all() or weights.min(initial=0.0) < 0:
        raise InputError.at(path, None, "holds weights that are negative or not finite", again)
    try:
        dense = _dense_table(tensors, info)
    except ValueError as error:
        raise InputError.at(path, None, str(error), again) from error
    encoder = LookupEncoder(replace(info, name=name), weights, berts_tokenizer(folder), dense)
    if sha256_lines(encoder.vocabulary) != info.vocabulary_sha256:
        raise InputError.at(path, None, "was made with another tokenizer than the folder's", again)
    return encoder


def _dense_table(tensors: Mapping[str, np.ndarray], info: EncoderInfo) -> DenseTable | None:
    """The dense part of a table, if it has one; ValueError if it does not fit or is not finite."""
    if not any(name in tensors for name in _DENSE):
        return None
    size, width = info.vocabulary_size, info.dense_dim
    wanted = {"vectors": ("i", (size, width)), "scales": ("f", (size,)), "bias": ("f", (width,))}
    for name, (kind, shape) in wanted.items():
        found = tensors.get(f"dense_{name}")
        if found is None or found.dtype.kind != kind or found.shape != shape:
            raise ValueError(f"holds no dense_{name} of the shape {list(shape)}")
        if kind == "f" and not np.isfinite(found).all():
            raise ValueError(f"holds dense_{name} that are not finite")
    vectors, scales, bias = (tensors[name] for name in _DENSE)
    return DenseTable(vectors, scales.astype(np.float32), bias.astype(np.float32))


def write_lookup(
    path: Path, info: EncoderInfo, weights: np.ndarray, dense: DenseTable | None = None
) -> None:
    """Write a table as safetensors: weights, float [|V|], in float16; ``info`` as metadata."""
    from safetensors.numpy import save

    described = {_INFO: json.dumps(info.to_dict())}
    tensors = {_WEIGHTS: weights.astype(np.float16)}
    if dense is not None:
        tensors |= dict(zip(_DENSE, (dense.vectors, dense.scales, dense.bias), strict=True))
    contents = save(tensors, metadata=described)
    with atomic_file(path) as temporary:
        temporary.write_bytes(contents)


def berts_tokenizer(folder: Path) -> PlainTokenizer:
    """The tokenizer of a folder, read without transformers; InputError if it is not BERT's."""
    tokenizer = read_tokenizer(folder)
    if tokenizer is None:
        raise InputError.at(
            folder,
            None,
            "lookup queries need a tokenizer of BERT's kind in tokenizer.json, and it has none",
            "encode queries with the network",
        )
    return tokenizer


def _read(path: Path) -> tuple[Mapping[str, np.ndarray], Mapping[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
