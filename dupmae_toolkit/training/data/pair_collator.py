"""Pairs and groups to the tensors of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.tokens import pad, tokenize
from dupmae_toolkit.training.data.groups import Draw, Drawn, Pair
from dupmae_toolkit.training.recipe import FinetuneRecipe


class PairCollator:
    """B pairs or groups to tensors; each query has G documents, its positive first.

    query_ids, query_mask: int64 [B, L]. document_ids, document_mask: int64 [B·G, L], the documents
    of a query one after another. G is 1 + the most negatives that a group of the batch has; where a
    group has fewer its last document is repeated, and masked as below.

    target: int64 [B], the positive's place among the documents. same: bool [B, B·G], true where a
    document is no negative of a query as far as the batch tells: it is the positive's text again,
    another text that is known to answer the query, the positive of an equal query, or a repetition.
    own: int64 [B, G], the places of the query's own documents. repeated: bool [B, B·G], true for
    the repetitions. scores: float32 [B, G], a teacher's, where the recipe's losses ask for them.

    Every tensor has B or B·G rows, and places count over the whole batch, so it can be cut into
    equal parts for several processes.
    """

    def __init__(self, encoder: DupMAEEncoder, recipe: FinetuneRecipe) -> None:
        self.tokenizer = encoder.tokenizer
        self.pad_id = encoder.pad_id
        self.prefixes = encoder.config.query_prefix, encoder.config.prefix
        self.lengths = recipe.query_length, recipe.document_length
        self.negatives = recipe.negatives, recipe.negative_depth
        self.scored = recipe.needs_scores

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
        count = len(examples)
        result["own"] = torch.arange(count * size).view(count, size)
        result["target"] = result["own"][:, 0].clone()
        present = torch.tensor([len(example.documents) for example in examples])
        absent = torch.arange(size) >= present[:, None]
        result["repeated"] = absent.flatten().repeat(count, 1)
        result["same"] = _same(examples, documents) | result["repeated"]
        result["same"].scatter_(1, result["target"][:, None], False)
        if self.scored:
            result["scores"] = torch.tensor([_scores(example, size) for example in examples])
        return result


def _same(examples: list[Drawn], documents: list[list[str]]) -> Tensor:
    """[B, B·G]: the text answers the query, or belongs to an equal query as its positive."""
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
