"""Fine-tuning on pairs and groups, with losses on the joint score and its parts."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.weights import to_be_trained
from dupmae_toolkit.training.calibration import PRIOR_TEXTS, SHIFT_TEXTS, calibrate_head
from dupmae_toolkit.training.data.bm25 import WordFrequencies
from dupmae_toolkit.training.data.frequencies import FILE, TermFrequencies
from dupmae_toolkit.training.data.group_sources import Opened
from dupmae_toolkit.training.data.groups import document_of
from dupmae_toolkit.training.data.neighbours import near_batches
from dupmae_toolkit.training.data.pair_collator import PairCollator
from dupmae_toolkit.training.data.streams import Batches, check_sources, pairs
from dupmae_toolkit.training.finetune_checks import (
    check_ordinary_pairs,
    trains_joint,
    warnings,
)
from dupmae_toolkit.training.fitted_score import ENCODED_TEXTS, FittedScore, saved_words
from dupmae_toolkit.training.joined_vectors import JOINED_TEXTS
from dupmae_toolkit.training.pair_model import PairModel
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.running.evaluation import Evaluation, HeldOut, untouched
from dupmae_toolkit.training.running.history import Listen
from dupmae_toolkit.training.running.processes import heard_once, only_main
from dupmae_toolkit.training.running.resuming import agreed_checkpoint, continuing
from dupmae_toolkit.training.running.retrieval import Measure
from dupmae_toolkit.training.running.trainer import check_lengths, check_output_folder, run
from dupmae_toolkit.training.sources import DataSource
from dupmae_toolkit.training.teachers import Teachers
from dupmae_toolkit.training.weighing import LargestWeight

#: Keys of a source that name fields; earlier trainings had none of them.
_FIELDS = ("id", "title", "text")


class Sample:
    """Texts of the training data that are needed before the first step.

    They are drawn with a separate seed, and only on demand: a resumed training reads what it needs
    from its checkpoint instead.
    """

    def __init__(
        self, recipe: FinetuneRecipe, make: Callable[[DataSource, random.Random], Iterator[Any]]
    ) -> None:
        self._recipe = recipe
        self._make = make
        self._drawn: list[str] = []
        data = [
            {
                key: value
                for key, value in asdict(source).items()
                if key != "teacher_scales" and (value or key not in _FIELDS)
            }
            for source in recipe.data
        ]
        #: Everything that determines the drawn texts, as JSON.
        self.about = json.dumps([data, recipe.seed, recipe.document_length, PRIOR_TEXTS])

    def texts(self, count: int) -> list[str]:
        """The first ``count`` texts."""
        if len(self._drawn) < count:
            r = self._recipe
            draw = Batches(r.data, 1, r.seed + 1_000_003, self._make, lambda batch: batch[0])
            self._drawn = [document_of(item) for item in itertools.islice(draw, count)]
        return self._drawn[:count]

    def frequencies(self, encoder: DupMAEEncoder, checkpoint: Path | None) -> TermFrequencies:
        """Those in the checkpoint, or else counted in PRIOR_TEXTS texts."""
        if checkpoint is not None:
            with continuing(checkpoint / FILE):
                found = TermFrequencies.load(checkpoint, self.about)
            if found is not None:
                return found
        texts = self.texts(PRIOR_TEXTS)
        return TermFrequencies.of(encoder, texts, self._recipe.document_length)

    def words(self, checkpoint: Path | None) -> WordFrequencies:
        """Those in the checkpoint, or else counted in the different ones of PRIOR_TEXTS texts."""
        if checkpoint is not None:
            with continuing(checkpoint):
                found = saved_words(checkpoint, self.about)
            if found is not None:
                return found
        return WordFrequencies.of(dict.fromkeys(self.texts(PRIOR_TEXTS)))

    def to_encode(self) -> list[str]:
        """Different texts, at most ENCODED_TEXTS, for the frequencies in lexical vectors."""
        return list(dict.fromkeys(self.texts(min(ENCODED_TEXTS, PRIOR_TEXTS))))


def weigh_as_trained(
    encoder: DupMAEEncoder, recipe: FinetuneRecipe, scale: float, fitted: FittedScore | None = None
) -> None:
    """Store the trained scale as the config's ``dense_weight``, unless the recipe sets that.

    Then a search uses the joint score that was trained. Otherwise it would add cosines of at most 1
    to lexical scores that were trained together with cosines times 20. If that score is the fitted
    one, its weights are stored.
    """
    if not trains_joint(recipe):
        return
    if fitted is not None:
        fitted.state_in(encoder, recipe)
    elif encoder.config.lexical_weight and "dense_weight" not in recipe.encoder:
        weight = scale * encoder.config.lexical_weight
        encoder.config = encoder.config.but(dense_weight=weight)


def freeze_layers(lm: Any, count: int) -> None:
    """Freeze the first ``count`` layers and the embeddings below them.

    The backward pass ends above them. An embedding matrix that is shared with the vocabulary head
    still gets the head's gradient. Raises InputError unless there are more than ``count`` layers.
    """
    if not count:
        return
    lists = [m for m in lm.base_model.modules() if isinstance(m, nn.ModuleList)]
    layers = max(lists, key=len, default=nn.ModuleList())
    if count >= len(layers):
        raise InputError(f"frozen_layers is {count}; the backbone has {len(layers)} layers")
    for layer in list(layers)[:count]:
        layer.requires_grad_(False)
    layers[count - 1].register_forward_hook(_detach)


def _detach(module: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (output[0].detach(), *output[1:])
    return output.detach()


def set_dropout(lm: Any, rate: float) -> None:
    """Set all dropout to this rate in the modules, not in the config; below 0 changes nothing."""
    if rate < 0:
        return
    for module in lm.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        elif hasattr(module, "attention_dropout") and isinstance(module.attention_dropout, float):
            module.attention_dropout = rate


def finetune(
    recipe: FinetuneRecipe,
    *,
    resume: bool = False,
    listen: Listen = lambda entry: None,
    measure: Measure | None = None,
    dry_run: bool = False,
) -> Path:
    """Fine-tune as the recipe says; returns the folder of the trained checkpoint.

    measure: computes the measures of rankings of ``eval_collection``. A ``dry_run`` only reports
    the expected time and memory to ``listen``.
    """
    check_output_folder(recipe, resume=resume)
    listen = heard_once(listen)
    opened = Opened()
    held_out_data = []
    if recipe.eval_data:
        held_out_data = [replace(recipe.data[0], path=recipe.eval_data, weight=1.0)]
    check_sources([*recipe.data, *held_out_data], need_pairs=True, opened=opened)
    make = partial(pairs, opened=opened)
    with to_be_trained():
        encoder = DupMAEEncoder.from_pretrained(
            recipe.model, fresh_head=recipe.fresh_head, precision=recipe.precision, **recipe.encoder
        )
    check_lengths(encoder.lm, recipe, "query_length", "document_length")
    check_ordinary_pairs(recipe.data, encoder, opened)
    freeze_layers(encoder.lm, recipe.frozen_layers)
    set_dropout(encoder.lm, recipe.dropout)
    checkpoint = agreed_checkpoint(Path(recipe.output)) if resume else None
    sample = Sample(recipe, make)
    sources, teachers, frequencies = recipe.used_teachers, None, None
    if any(source.kind == "bm25" for source in sources):
        frequencies = sample.frequencies(encoder, checkpoint)
    if sources:
        vectors = "teacher_vector" in recipe.used_losses
        scores = "teacher" in recipe.loss_kinds
        teachers = Teachers(sources, encoder, frequencies, vectors=vectors, scores=scores)
        teachers.to(encoder.device)
    joined = teachers.joined if teachers else None
    fitted = None
    if recipe.score_weights:
        fitted = FittedScore(recipe, encoder.vocabulary_size, sample.words(checkpoint))
        fitted.to(encoder.device)
    for warning in warnings(recipe, opened):
        listen({"step": 0, "warning": warning})
    module = PairModel(encoder, recipe, teachers, fitted)
    weigh_as_trained(encoder, recipe, module.dense_scale, fitted)
    largest_weight = LargestWeight(encoder, recipe, make, document_of, listen)
    if not dry_run:
        only_main(largest_weight.draw)
    words = fitted.words if fitted else None
    collator = PairCollator(encoder, recipe, words, teachers.own_tokens if teachers else None)
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
        if fitted is not None:
            fitted.load(folder)
        if joined is not None:
            joined.load(folder)

    def save(folder: Path) -> None:
        weigh_as_trained(encoder, recipe, module.dense_scale, fitted)
        encoder.save_pretrained(folder)

    def keep(folder: Path) -> None:
        if frequencies is not None:
            frequencies.save(folder, sample.about)
        if fitted is not None:
            fitted.save(folder, sample.about)
        if joined is not None:
            joined.save(folder)

    def join() -> None:
        assert teachers is not None
        texts = list(dict.fromkeys(sample.texts(JOINED_TEXTS)))
        kept = teachers.fit_joined(encoder, texts, recipe.document_length)
        listen({"step": 0, "joined_kept": kept})

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
        if fitted is not None:  # the other processes get the factors with the weights
            with untouched(module):
                only_main(lambda: fitted.count(encoder, sample.to_encode()))
        if joined is not None:
            with untouched(module):
                only_main(join)

    watch = Evaluation(
        recipe,
        module,
        encoder,
        listen,
        held_out=HeldOut(held_out_data, recipe, make, collator) if held_out_data else None,
        measure=measure,
        fitted=fitted,
    )
    return run(
        recipe,
        module,
        batches,
        save,
        load,
        keep=keep,
        resume=resume,
        listen=listen,
        prepare=prepare,
        settle=largest_weight.measure,
        callbacks=[watch],
        dry_run=dry_run,
    )
