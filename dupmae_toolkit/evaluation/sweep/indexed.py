"""An experiment with the indexes of a study, and what is known of its texts."""

from __future__ import annotations

import copy
from typing import Any

from dupmae_toolkit.evaluation.digests import digest
from dupmae_toolkit.evaluation.experiment import Experiment
from dupmae_toolkit.evaluation.sweep.study import StudyIndex


def with_index(experiment: Experiment, entry: StudyIndex) -> Experiment:
    """The same experiment with another index; it shares what is encoded.

    The folders of index and passages are named by what they are made with.
    """
    from dupmae_toolkit.index.build import BuildOptions

    BuildOptions(entry.faiss).check(experiment.encoder.info.dense_dim)
    cut = entry.cut
    another = copy.copy(experiment)
    another.__dict__.pop("index", None)
    if cut != experiment.passages:
        another.__dict__.pop("documents", None)
        another.documents_folder = f"documents-{cut.size}-{cut.overlap}" if cut else "documents"
    settings = [entry.faiss, entry.bm25, cut.to_dict() if cut else None]
    another.index_folder = f"index-{digest(settings)[:8]}"
    another.faiss, another.words = entry.faiss, entry.bm25
    another.passages, another.aggregate = cut, entry.aggregate or None
    return another


def facts_of(experiment: Experiment) -> dict[str, Any]:
    """What was seen when the texts were encoded."""
    from dupmae_toolkit.encoding.passages import documents_in

    corpus = experiment.dataset.corpus
    return {
        "documents": documents_in(experiment.documents),
        "topics": len(experiment.topics),
        "skipped": corpus.skipped,
        "left_out": corpus.left_out(),
        "self_matches": "removed" if experiment.drops_self else "kept",
        "judged_not_in_corpus": "",
        "truncated": experiment.truncated(),
        "precision": experiment.precision(),
    }
