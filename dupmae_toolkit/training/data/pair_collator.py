"""Collates pairs and groups into the tensors of a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.tokens import pad, tokenize
from dupmae_toolkit.training.data.bm25 import WordFrequencies
from dupmae_toolkit.training.data.groups import Draw, Drawn, Pair
from dupmae_toolkit.training.data.own_tokens import OwnTokens
from dupmae_toolkit.training.recipe import FinetuneRecipe


class PairCollator:
    """Collates B pairs or groups; each query has G documents, its positive first.

    query_ids, query_mask: int64 [B, L]. document_ids, document_mask: int64 [B·G, L], the documents
    of a query one after another. G is 1 + the largest number of negatives drawn from a group of the
    batch. A group with fewer repeats its last document; the repetitions are masked as below.

    target: int64 [B], the positive's position among the documents. same: bool [B, B·G], true where
    a document is not a negative of a query: it is the positive's text again, another known answer
    to the query, the positive of an equal query, or a repetition. own: int64 [B, G], the positions
    of the query's own documents. repeated: bool [B, B·G], true for the repetitions. scores: float32
    [B, G], from the data, if a loss of the recipe needs them. bm25: float32 [B, B·G], of the whole
    texts, if the recipe trains the fitted score. teacher0_query_ids and so on: the same texts in
    the tokens of a teacher that reads them by its own tokenizer. teacher_scales: float32 [B, T],
    the same in each row: the scales of the teachers that are used; only if a source of the recipe
    sets some.

    Every tensor has B or B·G rows, and positions count over the whole batch, so a batch can be
    split into equal parts for several processes.
    """

    def __init__(
        self,
        encoder: DupMAEEncoder,
        recipe: FinetuneRecipe,
        words: WordFrequencies | None = None,
        own_tokens: Mapping[int, OwnTokens] | None = None,
    ) -> None:
        """words: those of the training texts, for BM25; None for a score without it.

        own_tokens: those of ``Teachers``.
        """
        self.words = words
        self.own_tokens = own_tokens or {}
        self.tokenizer = encoder.tokenizer
        self.pad_id = encoder.pad_id
        self.prefixes = encoder.config.query_prefix, encoder.config.prefix
        self.lengths = recipe.query_length, recipe.document_length
        self.negatives = recipe.negatives, recipe.negative_depth
        self.scored = recipe.needs_scores
        sets_scales = any(source.teacher_scales for source in recipe.data)
        self.scales = recipe.used_scales if sets_scales else None

    def __call__(self, batch: list[Pair | Draw]) -> dict[str, Tensor]:
        examples = [
            item.drawn(*self.negatives) if isinstance(item, Draw) else _of_pair(item)
            for item in batch
        ]
        size = max(len(example.documents) for example in examples)
        documents = [
            [*e.documents, *[e.documents[-1]] * (size - len(e.documents))] for e in examples
        ]
        result: dict[str, Tensor] = {}
        texts = {
            "query": [example.query for example in examples],
            "document": [text for group in documents for text in group],
        }
        for i, (name, of_kind) in enumerate(texts.items()):
            prefixed = [self.prefixes[i] + text for text in of_kind]
            ids = tokenize(self.tokenizer, prefixed, self.lengths[i]).ids
            result[f"{name}_ids"], result[f"{name}_mask"] = pad(ids, self.pad_id)
        for number, tokens in self.own_tokens.items():
            sides = tokens.sides(list(texts.values()), self.lengths)
            for name, side in zip(texts, sides, strict=True):
                result[f"teacher{number}_{name}_ids"] = side.ids
                result[f"teacher{number}_{name}_mask"] = side.mask
        count = len(examples)
        result["own"] = torch.arange(count * size).view(count, size)
        result["target"] = result["own"][:, 0].clone()
        present = torch.tensor([len(example.documents) for example in examples])
        absent = torch.arange(size) >= present[:, None]
        result["repeated"] = absent.flatten().repeat(count, 1)
        result["same"] = _same(examples, documents) | result["repeated"]
        result["same"].scatter_(1, result["target"][:, None], False)
        if self.scales is not None:
            result["teacher_scales"] = torch.tensor([self.scales(batch[0].scales)] * count)
        if self.scored:
            result["scores"] = torch.tensor([_scores(example, size) for example in examples])
        if self.words is not None:
            bm25 = self.words.scores(texts["query"], texts["document"])
            result["bm25"] = torch.from_numpy(bm25.astype(np.float32))
        return result


def _same(examples: list[Drawn], documents: list[list[str]]) -> Tensor:
    """bool [B, B·G]: the text answers the query, or is the positive of an equal query."""
    by_text: dict[str, list[int]] = {}
    positives: dict[str, list[int]] = {}
    size = len(documents[0])
    for i, group in enumerate(documents):
        positives.setdefault(examples[i].query, []).append(i * size)
        for j, text in enumerate(group):
            by_text.setdefault(text, []).append(i * size + j)
    same = torch.zeros(len(examples), len(examples) * size, dtype=torch.bool)
    for i, example in enumerate(examples):
        places = list(positives[example.query])
        for text in {example.documents[0], *example.answers}:
            places += by_text.get(text, ())
        same[i, places] = True
    return same


def _of_pair(pair: Pair) -> Drawn:
    return Drawn(pair.query, [pair.document], [math.nan], frozenset([pair.document]))


def _scores(example: Drawn, size: int) -> list[float]:
    if any(math.isnan(score) for score in example.scores):
        raise InputError(
            f"{example.place or 'a pair'}: a document without a teacher's score, which the losses "
            "need; write them with dupmae teach"
        )
    return [*example.scores, *[0.0] * (size - len(example.scores))]
