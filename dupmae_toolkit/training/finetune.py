"""Fine-tuning on pairs and groups with the joint score and its parts."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.training.calibration import PRIOR_TEXTS, SHIFT_TEXTS, calibrate_head
from dupmae_toolkit.training.data.frequencies import FILE, TermFrequencies
from dupmae_toolkit.training.data.group_sources import Opened
from dupmae_toolkit.training.data.groups import document_of
from dupmae_toolkit.training.data.neighbours import near_batches
from dupmae_toolkit.training.data.pair_collator import PairCollator
from dupmae_toolkit.training.data.streams import Batches, check_sources, pairs
from dupmae_toolkit.training.finetune_checks import check_ordinary, warnings
from dupmae_toolkit.training.freezing import freeze_layers, set_dropout
from dupmae_toolkit.training.pair_model import PairModel
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.running.evaluation import Evaluation, HeldOut
from dupmae_toolkit.training.running.history import Listen
from dupmae_toolkit.training.running.processes import heard_once
from dupmae_toolkit.training.running.resuming import agreed_checkpoint, continuing
from dupmae_toolkit.training.running.retrieval import Measure
from dupmae_toolkit.training.running.trainer import check_lengths, check_output, run
from dupmae_toolkit.training.sources import Source
from dupmae_toolkit.training.teachers import Teachers


class Sample:
    """Texts of a fine-tuning's data that are looked at before the first step.

    Others than the first batches, whatever those are. They are drawn when they are asked for: a
    training that is resumed finds in its checkpoint what it needs of them.
    """

    def __init__(
        self, recipe: FinetuneRecipe, make: Callable[[Source, random.Random], Iterator[Any]]
    ) -> None:
        self._recipe = recipe
        self._make = make
        self._drawn: list[str] = []
        data = [asdict(source) for source in recipe.data]
        #: What the texts follow from, as JSON.
        self.about = json.dumps([data, recipe.seed, recipe.document_length, PRIOR_TEXTS])

    def texts(self, count: int) -> list[str]:
        """The first so many of them."""
        if len(self._drawn) < count:
            r = self._recipe
            draw = Batches(r.data, 1, r.seed + 1_000_003, self._make, lambda batch: batch[0])
            self._drawn = [document_of(item) for item in itertools.islice(draw, count)]
        return self._drawn[:count]

    def frequencies(self, encoder: DupMAEEncoder, checkpoint: Path | None) -> TermFrequencies:
        """Those that the checkpoint keeps, or else those of PRIOR_TEXTS texts."""
        if checkpoint is not None:
            with continuing(checkpoint / FILE):
                found = TermFrequencies.load(checkpoint, self.about)
            if found is not None:
                return found
        texts = self.texts(PRIOR_TEXTS)
        return TermFrequencies.of(encoder, texts, self._recipe.document_length)


def weigh_as_trained(encoder: DupMAEEncoder, recipe: FinetuneRecipe, scale: float) -> None:
    """Give the checkpoint the joint score that is trained, unless the recipe names its weights.

    Else a search would add cosines of at most 1 to lexical scores that grew beside 20 times that.
    """
    trained = any(name == "aggretriever" or name.endswith("joint") for name in recipe.used_losses)
    if trained and encoder.config.lexical_weight and "dense_weight" not in recipe.encoder:
        weight = scale * encoder.config.lexical_weight
        encoder.config = encoder.config.but(dense_weight=weight)


def finetune(
    recipe: FinetuneRecipe,
    *,
    resume: bool = False,
    listen: Listen = lambda entry: None,
    measure: Measure | None = None,
    dry_run: bool = False,
) -> Path:
    """Fine-tune as the recipe says; returns the folder of the trained checkpoint.

    measure: what rankings of ``eval_collection`` are worth.
    A ``dry_run`` only tells ``listen`` what the training would take.
    """
    check_output(recipe, resume=resume)
    listen = heard_once(listen)
    opened = Opened()
    held_out_data = []
    if recipe.eval_data:
        held_out_data = [replace(recipe.data[0], path=recipe.eval_data, weight=1.0)]
    check_sources([*recipe.data, *held_out_data], need_pairs=True, opened=opened)
    make = partial(pairs, opened=opened)
    encoder = DupMAEEncoder.from_pretrained(
        recipe.model, fresh_head=recipe.fresh_head, precision=recipe.precision, **recipe.encoder
    )
    check_lengths(encoder.lm, recipe, "query_length", "document_length")
    check_ordinary(recipe.data, encoder, opened)
    freeze_layers(encoder.lm, recipe.frozen_layers)
    set_dropout(encoder.lm, recipe.dropout)
    checkpoint = agreed_checkpoint(Path(recipe.output)) if resume else None
    sample = Sample(recipe, make)
    sources, teachers, frequencies = recipe.used_teachers, None, None
    if any(source.kind == "bm25" for source in sources):
        frequencies = sample.frequencies(encoder, checkpoint)
    if sources:
        teachers = Teachers(sources, encoder, frequencies)
        teachers.to(encoder.device)
    for warning in warnings(recipe, opened):
        listen({"step": 0, "warning": warning})
    module = PairModel(encoder, recipe, teachers)
    weigh_as_trained(encoder, recipe, module.dense_scale)
    collator = PairCollator(encoder, recipe)
    batches = Batches(
        recipe.data,
        recipe.batch_size,
        recipe.seed,
        make,
        collator,
        pool=recipe.near_batches,
        deal=lambda items, size, rng: near_batches(list(map(document_of, items)), size, rng),
    )

    def load(folder: Path) -> None:
        saved = DupMAEEncoder.from_pretrained(folder, device="cpu")
        encoder.load_state_dict(saved.state_dict())

    def keep(folder: Path) -> None:
        if frequencies is not None:
            frequencies.save(folder, sample.about)

    def prepare() -> None:
        if recipe.active_terms or recipe.unigram_prior:
            shift = calibrate_head(
                encoder,
                sample.texts(PRIOR_TEXTS if recipe.unigram_prior else SHIFT_TEXTS),
                prior=recipe.unigram_prior,
                active_terms=recipe.active_terms,
                max_length=recipe.document_length,
            )
            listen({"step": 0, "bias_shift": shift})

    watch = Evaluation(
        recipe,
        module,
        encoder,
        listen,
        held_out=HeldOut(held_out_data, recipe, make, collator) if held_out_data else None,
        measure=measure,
    )
    return run(
        recipe,
        module,
        batches,
        encoder.save_pretrained,
        load,
        keep=keep,
        resume=resume,
        listen=listen,
        prepare=prepare,
        callbacks=[watch],
        dry_run=dry_run,
    )
