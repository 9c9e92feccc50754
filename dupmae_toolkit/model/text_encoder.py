"""What every encoder of ours does with texts and says of itself, whatever computes its vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import sha256_lines
from dupmae_toolkit.model import inference
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.heads import activate
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import EncoderInfo, Representations


class EncoderOutput(NamedTuple):
    """dense: [B, d], normalised if the config says so. lexical: float32 [B, |V|] or None.

    cls: [B, H], the raw first hidden state. hidden: [B, L, H].
    """

    dense: Tensor
    lexical: Tensor | None
    cls: Tensor
    hidden: Tensor


def output_of(
    config: DupMAEConfig,
    hidden: Tensor,
    project: Callable[[Tensor], Tensor] | None,
    bag_of_words: Callable[[], Tensor],
) -> EncoderOutput:
    """Both vectors of a batch from its hidden states [B, L, H].

    project: [B, H] to [B, d], if the encoder has a projection. bag_of_words: gives the pooled
    vocabulary logits, float32 [B, |V|]; asked only where there is a lexical head.
    """
    cls = hidden[:, 0]
    dense = (cls if project is None else project(cls)).float()
    if config.normalize:
        dense = torch.nn.functional.normalize(dense, dim=-1)
    lexical = None
    if config.lexical_head != "none":
        lexical = activate(bag_of_words(), config.activation)
    return EncoderOutput(dense, lexical, cls, hidden)


class TextEncoder:
    """Texts to vectors, and an EncoderInfo. Subclasses are called with a batch of tokens.

    They have ``weights_sha256`` too, and say by ``autocast`` and ``arithmetic`` what they compute
    in.
    """

    config: DupMAEConfig
    name: str
    tokenizer: Any

    def encode_documents(
        self, texts: list[str], ids: list[str] | None = None, progress: Progress = silent
    ) -> Representations:
        """Vectors of texts as ``Document.contents`` gives them; ids default to "0", "1", …

        A text is cut at ``config.max_length`` tokens; ``truncated`` says how many were. One
        without any ordinary token has no terms, and the dense vector of an empty text.
        """
        c = self.config
        return self._encode(texts, ids, c.prefix, c.max_length, c.top_k, progress)

    def encode_queries(
        self, texts: list[str], ids: list[str] | None = None, progress: Progress = silent
    ) -> Representations:
        """Vectors of queries, cut and pruned as the checkpoint says for queries."""
        c = self.config
        return self._encode(texts, ids, c.query_prefix, c.query_max_length, c.query_top_k, progress)

    def _encode(
        self,
        texts: Sequence[str],
        ids: list[str] | None,
        prefix: str,
        max_length: int,
        top_k: int,
        progress: Progress,
    ) -> Representations:
        listed = isinstance(texts, Iterable) and not isinstance(texts, str)
        if not listed or not all(isinstance(text, str) for text in texts):
            raise InputError("texts to encode come as a list of strings, one for each text")
        if ids is None:
            ids = [str(i) for i in range(len(texts))]
        if len(ids) != len(texts):
            raise InputError(f"{len(texts)} texts to encode have {len(ids)} ids")
        network: Any = self
        return inference.encode(
            network,
            [prefix + text for text in texts] if prefix else texts,
            ids,
            max_length=max_length,
            top_k=top_k,
            progress=progress,
        )

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0

    @property
    def vocabulary(self) -> list[str]:
        """A token for each row of the vocabulary matrix, in order; rows without one are named."""
        return self._vocabulary

    # Apart, because pyright takes no cached_property for the property of the protocol Encoder.
    @cached_property
    def _vocabulary(self) -> list[str]:
        return tokens_of_rows(self.tokenizer.get_vocab(), self.vocabulary_size)

    @property
    def vocabulary_size(self) -> int:
        raise NotImplementedError

    @property
    def dense_dim(self) -> int:
        """Width of the dense vectors."""
        raise NotImplementedError

    @property
    def weights_sha256(self) -> str:
        """See ``hash_weights``."""
        raise NotImplementedError

    @cached_property
    def _vocabulary_sha256(self) -> str:
        return sha256_lines(self.vocabulary)

    @property
    def info(self) -> EncoderInfo:
        """What is written into manifests; always of the weights as they are now."""
        c = self.config
        return EncoderInfo(
            name=self.name,
            weights_sha256=self.weights_sha256,
            vocabulary_sha256=self._vocabulary_sha256,
            vocabulary_size=self.vocabulary_size,
            dense_dim=self.dense_dim,
            max_length=c.max_length,
            query_max_length=c.query_max_length,
            top_k=c.top_k,
            query_top_k=c.query_top_k,
            lexical_head=c.lexical_head,
            activation=c.activation,
            normalize=c.normalize,
            dense_weight=c.dense_weight,
            lexical_weight=c.lexical_weight,
            prefix=c.prefix,
            query_prefix=c.query_prefix,
        )


def tokens_of_rows(vocabulary: Mapping[str, int], size: int) -> list[str]:
    """The token of each row of a matrix of ``size`` rows; one without a token gets a name."""
    by_id = {i: t for t, i in vocabulary.items() if i < size}
    taken = set(by_id.values())
    tokens = []
    for i in range(size):
        token = by_id.get(i, f"[row{i}]")
        while i not in by_id and token in taken:
            token = f"[{token}]"
        tokens.append(token)
    return tokens


def ordinary_tokens(tokenizer: Any, rows: int) -> Tensor:
    """bool [rows], true for the tokens that take part in the lexical pool: all but special ones."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    table = torch.ones(rows, dtype=torch.bool)
    table[sorted(special)] = False
    return table
