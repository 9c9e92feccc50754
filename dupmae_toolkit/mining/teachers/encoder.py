"""A DupMAE encoder as a teacher: its joint, dense or lexical score, computed on the texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.mining.examples import Example
from dupmae_toolkit.records import Encoder

PARTS = ("joint", "dense", "lexical")


class EncoderTeacher:
    """Scores by an encoder, without an index and so without rounded impacts.

    part: ``joint`` is dense_weight · dense + lexical_weight · lexical with the weights that the
    checkpoint carries; ``dense`` and ``lexical`` are inner products of the two kinds of vectors.
    """

    def __init__(self, encoder: Encoder, part: str = "joint") -> None:
        if part not in PARTS:
            raise InputError(f"part {part!r}: choose one of {', '.join(PARTS)}")
        if part != "dense" and encoder.info.lexical_head == "none":
            raise InputError(f"{encoder.info.name}: gives no lexical vector; use the part dense")
        self.encoder, self.part = encoder, part
        self._info = encoder.info.to_dict()

    def describe(self) -> dict[str, Any]:
        described = {"kind": "encoder", "part": self.part, "encoder": self._info}
        precision = getattr(self.encoder, "precision", None)
        return described | ({"precision": precision} if precision else {})

    def score(self, examples: Sequence[Example]) -> np.ndarray:
        """float64 [passages]; see ``Teacher``."""
        contents = [passage.contents for example in examples for passage in example.passages]
        texts = list(dict.fromkeys(contents))  # a document may be in several examples
        row = {text: number for number, text in enumerate(texts)}
        rows = np.array([row[text] for text in contents], dtype=np.int64)
        asked = np.repeat(np.arange(len(examples)), [len(e.passages) for e in examples])
        queries = self.encoder.encode_queries([example.query for example in examples])
        documents = self.encoder.encode_documents(texts)
        scores = np.zeros(len(rows))
        info = self.encoder.info
        if self.part != "lexical":
            weight = info.dense_weight if self.part == "joint" else 1.0
            left, right = queries.dense[asked], documents.dense[rows]
            scores += weight * np.einsum("nd,nd->n", left.astype(np.float64), right)
        if self.part != "dense":
            weight = info.lexical_weight if self.part == "joint" else 1.0
            wide = queries.lexical[asked].astype(np.float64)
            products = wide.multiply(documents.lexical[rows])
            scores += weight * np.asarray(products.sum(axis=1)).ravel()
        return scores
