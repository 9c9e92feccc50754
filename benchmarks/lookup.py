"""Queries of the lookup table beside the network's, one at a time, from text to ten documents.

The documents are the docstrings of this Python, the queries the demonstration's questions. Dense
vectors of the table are fitted to titles, sentences and phrases of these documents. Hits are
numbers and scores; reading titles and texts takes both sides the same time. Encoding alone is
measured too.
"""

from __future__ import annotations

import random
import shutil
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Row, Sizes, each_in_turn, percentiles
from dupmae_toolkit import HybridIndex
from dupmae_toolkit.demo.docstrings import read_docstrings
from dupmae_toolkit.demo.questions import load_questions
from dupmae_toolkit.model.checkpoints import BUILTIN
from dupmae_toolkit.model.loading import load_encoder
from dupmae_toolkit.model.lookup import read_lookup
from dupmae_toolkit.model.lookup_derivation import derive_lookup
from dupmae_toolkit.training.data.query_texts import of_document

K = 10


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """Medians over the questions, which all sides answer in turns."""
    model = shutil.copytree(BUILTIN, folder / "model")
    documents = read_docstrings()
    rng = random.Random(1)
    derive_lookup(model, [text for document in documents for text in of_document(document, rng)])
    questions = load_questions({document.id for document in documents}).queries
    texts = [query.text for query in islice(cycle(questions), sizes.queries)]
    path, documents = folder / "index", documents[: sizes.documents]
    HybridIndex.build(path, documents, load_encoder(model)).close()
    with (
        HybridIndex.open(path, str(model)) as network,
        HybridIndex.open(path, str(model), query_encoder="lookup") as lookup,
        HybridIndex.open(path, str(model), query_encoder="lookup-terms") as terms,
    ):
        indexes = {"lookup": lookup, "lookup-terms": terms, "network": network}
        requests = {name: index.request(K) for name, index in indexes.items()}
        for index in indexes.values():
            index.warm()
        answers, seconds = each_in_turn(
            len(texts),
            *(
                lambda number, index=index, request=requests[name]: index.answer(
                    texts[number], request
                )
                for name, index in indexes.items()
            ),
        )
        table = read_lookup(str(model))
        encoder = network.encoder
        _, encoding = each_in_turn(
            len(texts),
            lambda number: table.encode_queries([texts[number]]),
            lambda number: encoder.encode_queries([texts[number]]),
        )
    rows = [
        row(
            f"one query by {name}, k = {K}, {len(documents):,} documents",
            answer,
            answers[-1],
            *pair,
        )
        for name, answer, pair in zip(
            ("lookup", "lookup-terms"),
            answers,
            ((seconds[0], seconds[2]), (seconds[1], seconds[2])),
            strict=False,
        )
    ]
    return [*rows, row("encoding one query by lookup", None, None, *encoding)]


def row(work: str, found: Any, wanted: Any, ours: np.ndarray, peer: np.ndarray) -> Row:
    """Medians of both sides; what share of the network's answers is found."""
    mine, theirs = percentiles(ours), percentiles(peer)
    same = f"p95 {mine['p95_ms']:.3g} and {theirs['p95_ms']:.3g} ms"
    if found is not None:
        shared = [
            len(np.intersect1d(a.documents, b.documents)) / max(len(b.documents), 1)
            for a, b in zip(found, wanted, strict=True)
        ]
        same = f"{np.mean(shared):.2f} of the network's top {K}; {same}"
    medians = (float(np.median(each) * 1000) for each in (ours, peer))
    return Row(work, "the network", *medians, same, "ms", {"ours": mine, "peer": theirs})
