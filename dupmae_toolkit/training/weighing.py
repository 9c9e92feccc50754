"""The encoder's largest weight, which a training measures when it ends."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.largest_weight import SAMPLE, measured_largest_weight
from dupmae_toolkit.training.data.streams import Batches
from dupmae_toolkit.training.recipe import Recipe
from dupmae_toolkit.training.running.history import Listen
from dupmae_toolkit.training.sources import DataSource


class LargestWeight:
    """Measures the largest weight of an encoder on documents of its training data.

    make: an endless stream of a source's examples, as for Batches. document: an example's document.
    What the model stated before the training does not hold for its checkpoints, so it is forgotten
    at once. Nothing is measured if the recipe sets ``encoder.largest_weight``, or there is no
    lexical head.
    """

    def __init__(
        self,
        encoder: DupMAEEncoder,
        recipe: Recipe,
        make: Callable[[DataSource, random.Random], Iterator[Any]],
        document: Callable[[Any], str],
        listen: Listen,
    ) -> None:
        self._encoder = encoder
        self._steps, self._listen = recipe.steps, listen
        self._texts: list[str] = []
        self._wanted = "largest_weight" not in recipe.encoder
        if self._wanted:
            encoder.config = encoder.config.but(largest_weight=0.0)
        self._wanted &= encoder.config.lexical_head != "none"
        # With a seed of its own, so that the training does not begin with the same texts.
        self._stream = Batches(
            recipe.data, 1, recipe.seed + 2_000_003, make, lambda batch: document(batch[0])
        )

    def draw(self) -> None:
        """Draw the texts, before the training: what it needs at its end may be gone by then.

        A fault in the data ends the drawing; the training reports it if it gets there.
        """
        found: dict[str, None] = {}  # where there are few examples, they come again and again
        if self._wanted:
            with contextlib.suppress(InputError):
                for text in itertools.islice(self._stream, SAMPLE):
                    found[text] = None
        self._texts = list(found)

    def measure(self) -> None:
        """Set the config's ``largest_weight``; if that fails, a training is not lost with it."""
        if not self._texts:
            return
        try:
            weight = measured_largest_weight(self._encoder, self._texts)
        except DupMAEError as error:
            why = f"the largest weight is not known: {error}"
            self._listen({"step": self._steps, "warning": why})
            return
        self._encoder.config = self._encoder.config.but(largest_weight=weight)
