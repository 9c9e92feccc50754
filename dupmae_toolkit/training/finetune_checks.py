"""What is looked at in a fine-tuning's data and recipe before its first step."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.inference import tokenize
from dupmae_toolkit.training.data.group_sources import Opened
from dupmae_toolkit.training.data.groups import Draw, document_of
from dupmae_toolkit.training.data.streams import pairs_once
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.sources import Source

ENOUGH = 64  # pairs or groups of a source that are looked at


def check_ordinary(sources: list[Source], encoder: DupMAEEncoder, opened: Opened) -> None:
    """Raise InputError for a source whose first queries or documents hold special tokens alone.

    They would all be one text to the model.
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
                    f"{source.path}: the {what} of its first {len(texts)} pairs hold special "
                    "tokens alone; there is nothing to learn"
                )


def warnings(recipe: FinetuneRecipe, opened: Opened) -> Iterator[str]:
    """What a recipe asks for and will not get, a sentence each."""
    used = {id(teacher) for teacher in recipe.used_teachers}
    for number, teacher in enumerate(recipe.teachers, start=1):
        if id(teacher) not in used:
            name = " ".join(filter(None, (teacher.kind, teacher.model)))
            yield (
                f"teacher {number} ({name}) is read by no loss and not asked; give a loss "
                "'teacher_…' a weight, or remove it"
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
