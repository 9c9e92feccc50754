"""Looks at a fine-tuning's recipe and data: what cannot be learned, what will have no effect."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.tokens import tokenize
from dupmae_toolkit.training.data.group_sources import Opened
from dupmae_toolkit.training.data.groups import Draw, document_of
from dupmae_toolkit.training.data.streams import pairs_once
from dupmae_toolkit.training.loss_table import JOINT, LOSSES
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.sources import DataSource

ENOUGH = 64  # pairs or groups of a source that are checked


def trains_joint(recipe: FinetuneRecipe) -> bool:
    """Whether a loss trains the joint score."""
    return any(LOSSES[name].part == JOINT for name in recipe.used_losses)


def check_ordinary_pairs(sources: list[DataSource], encoder: DupMAEEncoder, opened: Opened) -> None:
    """Raise InputError for a source whose first queries or documents are only special tokens.

    The model could not distinguish them.
    """
    ordinary = encoder.ordinary.cpu()
    room = encoder.config.max_length
    for source in sources:
        found = list(itertools.islice(pairs_once(source, opened), ENOUGH))
        queries = [item.read().query if isinstance(item, Draw) else item.query for item in found]
        documents = [document_of(item) for item in found]
        for what, texts in (("queries", queries), ("documents", documents)):
            ids = tokenize(encoder.tokenizer, texts, room).ids
            if not any(bool(ordinary[row].any()) for row in ids):
                raise InputError(
                    f"{source.path}: the {what} of its first {len(texts)} pairs contain only "
                    "special tokens; there is nothing to learn"
                )


def warnings(recipe: FinetuneRecipe, opened: Opened) -> Iterator[str]:
    """A sentence for each setting of the recipe without effect, or without that in a search."""
    used = {id(teacher) for teacher in recipe.used_teachers}
    for number, teacher in enumerate(recipe.teachers, start=1):
        if id(teacher) not in used:
            name = " ".join(filter(None, (teacher.kind, teacher.model)))
            if teacher.scale and "teacher" in recipe.loss_kinds:
                yield f"teacher {number} ({name}) is not run: teacher_scales is 0 for it everywhere"
                continue
            yield (
                f"teacher {number} ({name}) is used by no loss and not run; give a loss "
                "'teacher_…' a weight, or remove it"
            )
    if recipe.score_weights and not trains_joint(recipe):
        yield (
            "no loss trains the joint score, so score_weights only serve evaluation; give a loss "
            "'joint' or '…_joint' a weight, or remove them"
        )
    if recipe.idf_power != 1:
        yield (
            f"checkpoints do not state idf_power {recipe.idf_power:g}; search with "
            f"--idf-power {recipe.idf_power:g} (idf_power=)"
        )
    for source in recipe.data if recipe.negative_depth > recipe.negatives > 0 else []:
        if source.kind == "groups" and source.weight:
            draws = itertools.islice(opened(source).draws(random.Random(0)), ENOUGH)
            longest = max((len(draw.read().negatives) for draw in draws), default=0)
            if longest <= recipe.negatives:
                yield (
                    f"{source.path}: no query has more than {longest} negatives, so they are the "
                    f"same ones each time; dupmae mine writes more with -n {recipe.negative_depth}"
                )
