"""A query of the lookup table beside the network's, one at a time, from its text to ten documents.

The documents are the docstrings of this Python, the queries the demonstration's questions. Hits are
numbers and scores; reading titles and texts takes both sides the same time.
"""

from __future__ import annotations

import shutil
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks.rows import Row, Sizes, each_in_turn, percentiles
from dupmae_toolkit import HybridIndex
from dupmae_toolkit.demo.docstrings import read_docstrings
from dupmae_toolkit.demo.questions import load_questions
from dupmae_toolkit.model.checkpoints import BUILTIN
from dupmae_toolkit.model.loading import load_encoder
from dupmae_toolkit.model.lookup_derivation import derive_lookup

K = 10


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """One row: medians over the questions, which both sides answer in turns."""
    model = shutil.copytree(BUILTIN, folder / "model")
    derive_lookup(model)
    documents = read_docstrings()
    questions = load_questions({document.id for document in documents}).queries
    texts = [query.text for query in islice(cycle(questions), sizes.queries)]
    path, documents = folder / "index", documents[: sizes.documents]
    HybridIndex.build(path, documents, load_encoder(model)).close()
    with (
        HybridIndex.open(path, str(model)) as network,
        HybridIndex.open(path, str(model), query_encoder="lookup") as lookup,
    ):
        both = [(index, index.request(K)) for index in (lookup, network)]
        for index, _ in both:
            index.warm()
        (mine, theirs), seconds = each_in_turn(
            len(texts),
            *(
                lambda number, index=index, request=request: index.answer(texts[number], request)
                for index, request in both
            ),
        )
    shared = [
        len(np.intersect1d(a.documents, b.documents)) / max(len(b.documents), 1)
        for a, b in zip(mine, theirs, strict=True)
    ]
    medians = np.median(seconds, axis=1) * 1000
    ours, peer = (percentiles(times) for times in seconds)
    same = (
        f"{np.mean(shared):.2f} of the network's top {K}; p95 {ours['p95_ms']:.3g} and "
        f"{peer['p95_ms']:.3g} ms"
    )
    work = f"one query by lookup, k = {K}, {len(documents):,} documents"
    details = {"ours": ours, "peer": peer}
    return [Row(work, "the network", float(medians[0]), float(medians[1]), same, "ms", details)]
