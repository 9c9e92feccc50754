"""Fine-tuning on pairs and groups with the joint score and its parts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path

from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.training.calibration import PRIOR_TEXTS, calibrate_head
from dupmae_toolkit.training.evaluation import Evaluation, HeldOut
from dupmae_toolkit.training.freezing import freeze_layers, set_dropout
from dupmae_toolkit.training.group_sources import Opened
from dupmae_toolkit.training.groups import document_of
from dupmae_toolkit.training.history import Listen
from dupmae_toolkit.training.neighbours import near_batches
from dupmae_toolkit.training.pair_collator import PairCollator
from dupmae_toolkit.training.pair_model import PairModel
from dupmae_toolkit.training.processes import heard_once
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.retrieval import Measure
from dupmae_toolkit.training.streams import Batches, check_sources, pairs
from dupmae_toolkit.training.teachers import Teachers
from dupmae_toolkit.training.trainer import check_lengths, check_output, run


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
    freeze_layers(encoder.lm, recipe.frozen_layers)
    set_dropout(encoder.lm, recipe.dropout)
    draw = Batches(recipe.data, 1, recipe.seed + 1_000_003, make, lambda batch: batch[0])
    sample: list[str] = []
    if recipe.active_terms or recipe.unigram_prior or recipe.teachers:
        sample = [document_of(item) for item in itertools.islice(draw, PRIOR_TEXTS)]
    teachers = None
    if recipe.teachers:
        teachers = Teachers(recipe.teachers, encoder, sample, recipe.document_length)
        teachers.to(encoder.device)
    module = PairModel(encoder, recipe, teachers)
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

    def prepare() -> None:
        if recipe.active_terms or recipe.unigram_prior:
            shift = calibrate_head(
                encoder,
                sample,
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
        resume=resume,
        listen=listen,
        prepare=prepare,
        callbacks=[watch],
        dry_run=dry_run,
    )
