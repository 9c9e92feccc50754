"""Training recipes: YAML files whose keys are the fields of these classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.presets import PreTrainingConfig
from dupmae_toolkit.training.loss_table import LOSSES
from dupmae_toolkit.training.recipe_checks import (
    at_least,
    fraction,
    one_of,
    refuse_unknown,
    three_weights,
)
from dupmae_toolkit.training.sources import PAIR_KINDS, DataSource, TeacherSource

PACKINGS = ("passage", "sentences", "corpus")
PRECISIONS = ("auto", "fp32", "bf16")
REGULARISERS = ("flops_query", "flops_document", "l1_query", "l1_document")


@dataclass(slots=True)
class Recipe:
    """What both kinds of training share.

    model: a folder, a hub id, or ``builtin``. output: the checkpoint's folder.
    fresh_head: give a model without a masked-LM head a new one.
    encoder: fields of DupMAEConfig to set in the checkpoint.
    batch_size: texts or pairs in a step, over all processes together. The number of processes does
        not change the training.
    accumulation: pieces that a batch is split into. They run one after another, so a step needs the
        memory of one piece; in pre-training the gradient is that of the whole batch. Only for
        pre-training: fine-tuning would lose the in-batch negatives, so it has ``chunk_size``.
    warmup: share of the steps over which the learning rate rises; then it falls linearly to 0.
    save_every, log_every: in steps; the last two checkpoints are kept.
    eval_every: steps between evaluations, which also run before the first step and after the last;
        0 for none. Evaluation does not change the training.
    eval_data: the path of held-out data; losses are computed on the same ``eval_batches`` batches
        each time. In fine-tuning, it is read like the first source, with its ``teacher_scales``.
    eval_collection: a small BEIR data set; all its documents are encoded and searched by brute
        force. eval_split: the split whose judgements are used.
    precision: auto (bf16 where the hardware has it), fp32 or bf16.
    """

    model: str
    output: str
    data: list[DataSource]
    steps: int
    batch_size: int = 32
    accumulation: int = 1
    learning_rate: float = 1e-4
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 1
    fresh_head: bool = False
    encoder: dict[str, Any] = field(default_factory=dict)
    save_every: int = 100
    log_every: int = 10
    precision: str = "auto"
    eval_every: int = 0
    eval_data: str = ""
    eval_batches: int = 8
    eval_collection: str = ""
    eval_split: str = "dev"

    def __post_init__(self) -> None:
        at_least(self, 1, "batch_size", "accumulation", "save_every", "log_every", "eval_batches")
        at_least(self, 0 if getattr(self, "epochs", 0) else 1, "steps")
        at_least(self, 0, "eval_every")
        if self.batch_size % self.accumulation:
            raise InputError(
                f"batch_size {self.batch_size} cannot be cut into {self.accumulation} equal pieces "
                "(accumulation)"
            )
        at_least(self, 0, "learning_rate", "weight_decay", "max_grad_norm", "seed")
        if self.seed >= 1 << 32:
            raise InputError(f"seed is {self.seed}; give a smaller number")
        fraction(self, "warmup")
        one_of(self, "precision", PRECISIONS)
        if not any(source.weight for source in self.data):
            raise InputError("data has no source with a positive weight")
        try:
            DupMAEConfig().but(**self.encoder)
        except InputError as error:
            raise InputError(f"encoder: {error}") from error


@dataclass(slots=True)
class PretrainRecipe(Recipe):
    """Pre-training: losses on the encoder, the CLS decoder and the bag of words.

    preset: ``official``, ``paper``, ``retromae``, ``bow`` or ``mlm``. settings: fields of
        PreTrainingConfig that override it.
    max_length: tokens of a text.
    packing: ``passage``: each text is an example, cut at max_length; ``sentences``: the sentences
        of a text, packed greedily into as many examples as they fill; ``corpus``: the same over the
        ends of texts, for corpora with a sentence in each row.
    epochs: passes over the data, instead of ``steps``. The examples of all sources are counted
        before the first step; the number of steps is epochs × examples / batch_size, rounded up.
    eval_share: the share of the texts that is held out of training for evaluation, unless
        ``eval_data`` is given.
    head_steps: steps before the training in which only the head learns, on the bag of words, with
        ``head_learning_rate``. The gradients of an untrained head would damage a good backbone.
    mean_layer: if above 0, add a layer that moves the mean of all tokens into [CLS], with this
        gain. For a start from a model with mean pooling; see model/mean_layer.py.
    """

    preset: str = "official"
    settings: dict[str, Any] = field(default_factory=dict)
    max_length: int = 128
    packing: str = "passage"
    epochs: float = 0.0
    eval_share: float = 0.0
    head_steps: int = 0
    head_learning_rate: float = 2e-3
    mean_layer: float = 0.0

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        at_least(self, 3, "max_length")
        at_least(self, 0, "head_steps", "head_learning_rate", "mean_layer", "epochs")
        one_of(self, "packing", PACKINGS)
        fraction(self, "eval_share")
        for source in self.data:
            if source.teacher_scales:
                raise InputError(f"{source.path}: teacher_scales is for fine-tuning; leave it out")
        if self.eval_share == 1:
            raise InputError("eval_share is 1; nothing would be left to train on")
        if self.epochs and self.steps:
            raise InputError(f"steps is {self.steps} and epochs {self.epochs:g}; give one of them")
        self.pretraining()

    def pretraining(self) -> PreTrainingConfig:
        """The preset with this recipe's settings."""
        try:
            return PreTrainingConfig.preset(self.preset, **self.settings)
        except InputError as error:
            raise InputError(f"settings: {error}") from error
        except TypeError as error:
            raise InputError(f"settings: {self.settings} do not fit ({error})") from error


@dataclass(slots=True)
class FinetuneRecipe(Recipe):
    """Fine-tuning on pairs, or on queries with positives and negatives.

    query_length, document_length: tokens.
    losses: name -> weight, of ``joint``, ``lexical``, ``dense`` (cross-entropy of the positive on
        that score), ``aggretriever`` (joint + 0.5 lexical + 0.5 dense), ``kl_`` and ``margin_``
        before one of the three (KL divergence and MarginMSE from the scores in the data),
        ``self_lexical``, ``self_dense`` (KL from the joint score, which gets no gradient),
        ``teacher_`` before one of the three (KL from the teachers' scores in the batch),
        ``teacher_vector`` (1 - cosine between the dense vector and the first dense teacher's),
        ``teacher_terms`` (relative squared error of the lexical vector against that of the first
        lexical teacher).
    lexical_share: the share of the batch whose lexical vectors are computed, if only
        ``teacher_terms`` needs them. The vocabulary head is about half of a small model's work.
    negatives: the maximum number of its own negatives that a query gets, drawn anew each time from
        the first ``negative_depth`` of its list (0: from all of them).
    in_batch: whether the documents of the other queries are negatives too.
    score_weights: of dense, lexical and bm25: the joint score is the fitted one of a search, with
        document frequencies in its lexical part; see fitted_score.py. Empty for the plain score.
    learn_weights: above 0, ``score_weights`` are only where the weights of dense and lexical start;
        their logarithms learn at this many times ``learning_rate``. The weight of bm25 is fixed.
    idf_power: of the frequency factors, (idf / mean idf) ^ ``idf_power``; 0 for no factors.
    dense_scale: factor of the dense score, in every softmax and in the plain joint score; 0 means
        20 if the encoder normalises (cosines) and 1 if not (inner products).
    dense_sizes: shorter sizes at which the first dimensions are also trained as dense vectors: the
        losses on the dense score are summed over these sizes and the full one.
    prune: train on the terms that the encoder keeps (``top_k``, ``query_top_k``), not on all.
    chunk_size: texts whose activations are in memory together; 0 for the whole batch. The gradient
        is the same, at the cost of a second forward pass.
    teachers: frozen models that score each query against each document of the batch.
    near_batches: how many batches are drawn at a time and regrouped so that each holds similar
        texts; 0 keeps the drawn order.
    frozen_layers: how many of the backbone's first layers are not trained, nor the embeddings.
    dropout: of the backbone in training; -1 keeps its config's.
    flops_query, flops_document: weights of the FLOPS regulariser at the end of its ramp.
    l1_query, l1_document: the same for the L1 regulariser.
    flops_ramp: share of the steps over which all four rise, quadratically.
    active_terms: before the first step, the head's bias is shifted so that a text has this many
        active terms on average; the bag-of-words softmax leaves that constant undetermined. 0 for
        no shift.
    unigram_prior: the share of each term's log document frequency that is subtracted from the bias
        before the first step; see calibration.py.
    """

    query_length: int = 48
    document_length: int = 128
    losses: dict[str, float] = field(default_factory=lambda: {"joint": 1.0})
    lexical_share: float = 1.0
    negatives: int = 0
    negative_depth: int = 0
    in_batch: bool = True
    score_weights: list[float] = field(default_factory=list)
    learn_weights: float = 0.0
    idf_power: float = 1.0
    dense_scale: float = 0.0
    dense_sizes: list[int] = field(default_factory=list)
    prune: bool = False
    chunk_size: int = 0
    teachers: list[TeacherSource] = field(default_factory=list)
    near_batches: int = 0
    frozen_layers: int = 0
    dropout: float = -1.0
    flops_query: float = 0.0
    flops_document: float = 0.0
    l1_query: float = 0.0
    l1_document: float = 0.0
    flops_ramp: float = 0.5
    active_terms: int = 0
    unigram_prior: float = 0.0

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        at_least(self, 3, "query_length", "document_length")
        at_least(self, 0, "dense_scale", "flops_query", "flops_document")
        at_least(self, 0, "active_terms", "unigram_prior", "near_batches", "frozen_layers")
        if self.dropout != -1 and not 0 <= self.dropout < 1:
            raise InputError(f"dropout is {self.dropout}; give a share below 1, or -1")
        at_least(self, 0, "l1_query", "l1_document", "negatives", "negative_depth", "chunk_size")
        if self.accumulation > 1:
            raise InputError(
                f"accumulation is {self.accumulation}: in fine-tuning each piece would see its own "
                "negatives only; set chunk_size instead"
            )
        fraction(self, "flops_ramp")
        self._check_score()
        sizes = self.dense_sizes
        valid = isinstance(sizes, list) and all(type(size) is int and size > 0 for size in sizes)
        if not valid or len(set(sizes)) < len(sizes):
            raise InputError(f"dense_sizes is {sizes}; give a list of different whole numbers")
        refuse_unknown(self.losses, LOSSES, "loss")
        for name, weight in self.losses.items():
            if not 0 <= weight < math.inf:
                raise InputError(f"losses: {name} is {weight}; give 0 or a positive number")
        if not any(self.losses.values()):
            raise InputError("losses: none has a positive weight, so nothing would be learned")
        used = [LOSSES[name] for name in self.used_losses]
        if any(loss.needs_teachers for loss in used) and not self.teachers:
            raise InputError("losses: a teacher's loss needs teachers; name one")
        heard = [name for name in self.used_losses if LOSSES[name].kind == "teacher"]
        self._check_scales(heard)
        for name, kind in (("teacher_vector", "dense"), ("teacher_terms", "lexical")):
            if name in self.used_losses and all(t.kind != kind for t in self.teachers):
                raise InputError(f"losses: {name} needs a teacher of kind {kind!r}")
        self._check_share()
        for source in self.data:
            one_of(source, "kind", PAIR_KINDS)
            if self.needs_scores and source.kind != "groups":
                raise InputError(
                    f"losses: {self.needs_scores[0]} needs a teacher's scores, and {source.path} "
                    f"has none (its kind is {source.kind!r})"
                )
        if not self.negatives and (self.needs_scores or not self.in_batch):
            what = self.needs_scores[0] if self.needs_scores else "in_batch: false"
            raise InputError(
                f"negatives is 0; {what} compares the documents of a query's own group"
            )

    def _check_scales(self, heard: list[str]) -> None:
        """heard: the losses on the teachers' scores."""
        silent = not any(teacher.scale for teacher in self.teachers)
        if heard and silent and not any(source.teacher_scales for source in self.data):
            raise InputError(f"losses: {heard[0]} needs a teacher with a scale above 0")
        for number, source in enumerate(self.data, start=1):
            scales, name = source.teacher_scales, f"data, number {number} ({source.path})"
            if scales and len(scales) != len(self.teachers):
                raise InputError(
                    f"{name}: teacher_scales has {len(scales)} numbers, and the recipe has "
                    f"{len(self.teachers)} teachers; give one for each"
                )
            if scales and not heard:
                raise InputError(
                    f"{name}: teacher_scales is for losses on the teachers' scores (teacher_joint "
                    "and so on), and the recipe has none; leave it out"
                )
            if heard and silent and not scales:
                raise InputError(
                    f"{name}: has no teacher_scales, and all teachers have scale 0; {heard[0]} "
                    "needs one above 0"
                )

    def _check_share(self) -> None:
        fraction(self, "lexical_share")
        if self.lexical_share == 1:
            return
        if not self.lexical_share:
            raise InputError("lexical_share is 0; give a share above 0, of at most 1")
        used = {name: LOSSES[name] for name in self.used_losses}
        reading = [n for n, loss in used.items() if loss.on_scores and "lexical" in loss.parts]
        reading += [key for key in (*REGULARISERS, "score_weights") if getattr(self, key)]
        if reading:
            raise InputError(
                f"lexical_share is {self.lexical_share:g}, but {reading[0]} needs the lexical "
                "vectors of the whole batch; only teacher_terms can do with a share"
            )
        if "teacher_terms" not in used:
            raise InputError(
                f"lexical_share is {self.lexical_share:g}, and only the loss teacher_terms has a "
                "use for it; leave it out"
            )

    def _check_score(self) -> None:
        at_least(self, 0, "learn_weights", "idf_power")
        self.score_weights = three_weights("score_weights", self.score_weights)
        for name, default in (("learn_weights", 0.0), ("idf_power", 1.0)):
            if not self.score_weights and getattr(self, name) != default:
                raise InputError(
                    f"{name} is {getattr(self, name):g}, which only the fitted score has; give "
                    "score_weights"
                )
        if self.learn_weights and not all(self.score_weights):
            raise InputError(
                f"score_weights is {self.score_weights}; a weight of 0 would stay there, so "
                "learn_weights needs three above 0"
            )

    @property
    def used_losses(self) -> dict[str, float]:
        """The losses with a positive weight; the others are not computed."""
        return {name: weight for name, weight in self.losses.items() if weight}

    @property
    def loss_kinds(self) -> set[str]:
        """The kinds of the losses with a positive weight, see ``Loss``."""
        return {LOSSES[name].kind for name in self.used_losses}

    @property
    def used_teachers(self) -> list[TeacherSource]:
        """The teachers that a loss uses, in their order; the others need not run.

        ``teacher_vector`` uses the dense teachers with a ``vector`` above 0, or, without any, the
        first dense teacher; ``teacher_terms`` uses the first lexical one. The losses on scores use
        all teachers whose scale is not 0 for some source.
        """
        return [self.teachers[n] for n in self._used_teachers()]

    def used_scales(self, given: Sequence[float] = ()) -> list[float]:
        """The scales of ``used_teachers`` for batches of a source with these ``teacher_scales``."""
        scales = given or [teacher.scale for teacher in self.teachers]
        return [scales[n] for n in self._used_teachers()]

    def _used_teachers(self) -> list[int]:
        """The positions of ``used_teachers`` among all."""
        kinds = self.loss_kinds
        dense = [n for n, t in enumerate(self.teachers) if t.kind == "dense"]
        joined = [n for n in dense if self.teachers[n].vector]
        used = set((joined or dense[:1]) if "vector" in kinds else [])
        if "terms" in kinds:
            used |= set([n for n, t in enumerate(self.teachers) if t.kind == "lexical"][:1])
        if "teacher" in kinds:
            for scales in self._all_scales():
                used |= {n for n, scale in enumerate(scales) if scale}
        return sorted(used)

    @property
    def largest_scales(self) -> tuple[float, ...]:
        """The largest scale of each teacher over all sources, for a batch that is heard by all."""
        return tuple(map(max, zip(*self._all_scales(), strict=True)))

    def _all_scales(self) -> list[list[float]]:
        """The teachers' scales for each source that batches come from, in evaluation too."""
        own = [teacher.scale for teacher in self.teachers]
        used = [source for source in self.data if source.weight]
        if self.eval_data:
            used.append(self.data[0])
        return [source.teacher_scales or own for source in used]

    @property
    def needs_scores(self) -> list[str]:
        """The losses that need scores in the data."""
        used = self.used_losses
        return [name for name, loss in LOSSES.items() if loss.needs_scores and name in used]
