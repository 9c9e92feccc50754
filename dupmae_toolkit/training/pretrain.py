"""Pre-training on plain text: the masked tokens, the CLS decoder, the bag of words."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model import backbones
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.mean_layer import add_mean_layer
from dupmae_toolkit.model.presets import PreTrainingConfig
from dupmae_toolkit.model.pretraining import IGNORED, DupMAEForPreTraining
from dupmae_toolkit.model.pretraining_losses import bag_of_words_loss
from dupmae_toolkit.model.tokens import tokenize
from dupmae_toolkit.model.weights import to_be_trained
from dupmae_toolkit.training.data.collator import PreTrainingCollator
from dupmae_toolkit.training.data.packing import Packer
from dupmae_toolkit.training.data.streams import Batches, check_sources, shuffled, training_texts
from dupmae_toolkit.training.recipe import PretrainRecipe
from dupmae_toolkit.training.running.evaluation import Evaluation, HeldOut
from dupmae_toolkit.training.running.history import Listen
from dupmae_toolkit.training.running.processes import heard_once, only_main
from dupmae_toolkit.training.running.retrieval import Measure
from dupmae_toolkit.training.running.trainer import check_lengths, check_output_folder, run
from dupmae_toolkit.training.sources import DataSource
from dupmae_toolkit.training.weighing import LargestWeight


class Examples:
    """The examples that a recipe makes of its texts: strings, or blocks of token ids, int32 [L]."""

    def __init__(self, tokenizer: Any, recipe: PretrainRecipe) -> None:
        self.packer = None
        if recipe.packing != "passage":
            across = recipe.packing == "corpus"
            self.packer = Packer(tokenizer, recipe.max_length, across=across)
        self.share = 0.0 if recipe.eval_data else recipe.eval_share

    def once(self, source: DataSource, *, held_out: bool = False) -> Iterator[Any]:
        """One pass over a source's training or held-out examples, in the source's order."""
        found = training_texts(source, self.share, held_out=held_out)
        return found if self.packer is None else self.packer(found)

    def __call__(self, source: DataSource, rng: random.Random) -> Iterator[Any]:
        """An endless, shuffled stream of training examples."""
        return shuffled(lambda: self.once(source), rng, source.path)

    def texts(self, source: DataSource, rng: random.Random) -> Iterator[str]:
        """An endless, shuffled stream of training texts, none of them packed."""
        opened = partial(training_texts, source, self.share)
        return shuffled(opened, rng, source.path)

    def held_out(self, source: DataSource, rng: random.Random) -> Iterator[Any]:
        """An endless, shuffled stream of examples to evaluate on."""
        opened = partial(self.once, source, held_out=self.share > 0)
        return shuffled(opened, rng, f"{source.path}, held-out share {self.share:g}")


class TextCollator:
    """Makes a batch for DupMAEForPreTraining of texts, or of blocks of token ids."""

    def __init__(self, encoder: DupMAEEncoder, config: PreTrainingConfig, recipe: PretrainRecipe):
        self.tokenizer = encoder.tokenizer
        self.max_length = recipe.max_length
        self.collate = PreTrainingCollator(encoder.tokenizer, config, seed=recipe.seed)

    def ids(self, batch: list[Any]) -> list[Any]:
        """The token ids of each example."""
        if isinstance(batch[0], str):
            return tokenize(self.tokenizer, batch, self.max_length).ids
        return batch

    def __call__(self, batch: list[Any]) -> dict[str, Tensor]:
        return self.collate([{"input_ids": row} for row in self.ids(batch)])


class StepModel(nn.Module):
    """DupMAEForPreTraining as the trainer expects it: returns the loss and its parts to log."""

    many_processes = True

    def __init__(self, model: DupMAEForPreTraining) -> None:
        super().__init__()
        self.model = model

    def counts(self, batch: dict[str, Tensor]) -> dict[str, int]:
        return self.model.counts(batch)

    def forward(
        self,
        batch: dict[str, Tensor],
        step: int,
        steps: int,
        scales: dict[str, float] | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        output = self.model(**batch, progress=step / max(1, steps - 1), scales=scales)
        parts = {"mlm": output.mlm, "decoder": output.decoder, "bow": output.bow}
        logs = {name: part.item() for name, part in parts.items() if part is not None}
        if output.bow_logits is not None:
            logs["active"] = (output.bow_logits.detach() > 0).sum(1).float().mean().item()
        return output.loss, logs


def warm_head(
    encoder: DupMAEEncoder,
    batches: Iterator[dict[str, Any]],
    recipe: PretrainRecipe,
    listen: Listen,
) -> None:
    """Train a fresh vocabulary head on the bag of words, with the backbone frozen.

    Weights that the head shares with the backbone are frozen too. The learning rate falls linearly
    to 0, times a linear rise over the first tenth of the steps.
    """
    own = {id(p) for p in encoder.lm.base_model.parameters()}
    head = [p for p in encoder.lm.parameters() if id(p) not in own]
    optimizer = torch.optim.AdamW(head, lr=recipe.head_learning_rate, weight_decay=0.0)
    weight = backbones.vocabulary_projection(encoder.lm)[0]
    frozen = weight.requires_grad and id(weight) in own
    weight.requires_grad_(not frozen and weight.requires_grad)
    encoder.eval()
    for step in range(recipe.head_steps):
        rise = min(1.0, (step + 1) / max(1, recipe.head_steps // 10))
        for group in optimizer.param_groups:
            group["lr"] = recipe.head_learning_rate * rise * (1 - step / recipe.head_steps)
        batch = {key: value.to(encoder.device) for key, value in next(batches).items()}
        # The unmasked text: the head learns to name the terms that it is shown.
        ids = torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])
        mask = batch["attention_mask"]
        with encoder.autocast():
            with torch.no_grad():
                hidden = backbones.hidden_states(encoder.lm, ids, mask)
            logits = encoder.bag_of_words(hidden, mask.bool() & encoder.ordinary[ids])
            loss = bag_of_words_loss(logits, batch["bow_ids"], batch["bow_weights"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % recipe.log_every == 0:
            listen({"step": step + 1, "head_bow": loss.item()})
    weight.requires_grad_(True)


def check_ordinary_texts(
    examples: Examples, sources: list[DataSource], collator: TextCollator, enough: int = 256
) -> None:
    """Raise InputError for a source whose first texts contain only special tokens."""
    ordinary = collator.collate.words.ordinary
    for source in sources:
        first = list(itertools.islice(examples.once(source), enough))
        if first and not any(ordinary[row].any() for row in collator.ids(first)):
            raise InputError(
                f"{source.path}: its first {len(first)} texts contain only special tokens; "
                "there is nothing to learn"
            )


def count_steps(examples: Examples, recipe: PretrainRecipe) -> int:
    """The number of steps for the recipe's epochs; reads every source once, to its end."""
    count = sum(1 for source in recipe.data for _ in examples.once(source))
    return max(1, math.ceil(recipe.epochs * count / recipe.batch_size))


def pretrain(
    recipe: PretrainRecipe,
    *,
    resume: bool = False,
    listen: Listen = lambda entry: None,
    measure: Measure | None = None,
    dry_run: bool = False,
) -> Path:
    """Pre-train as the recipe says; returns the folder of the trained checkpoint.

    The checkpoint includes the decoder, so pre-training can continue from it. measure: computes the
    measures of rankings of ``eval_collection``. A ``dry_run`` only reports the expected time and
    memory to ``listen``.
    """
    check_output_folder(recipe, resume=resume)
    listen = heard_once(listen)
    check_sources([*recipe.data, *([DataSource(recipe.eval_data)] if recipe.eval_data else [])])
    config = recipe.pretraining()
    torch.manual_seed(recipe.seed)  # a new decoder is drawn at random
    with to_be_trained():
        model = DupMAEForPreTraining.from_pretrained(
            recipe.model,
            config,
            fresh_head=recipe.fresh_head,
            precision=recipe.precision,
            **recipe.encoder,
        )
    encoder = model.encoder
    if recipe.mean_layer:
        add_mean_layer(encoder.lm, recipe.mean_layer)
    check_lengths(encoder.lm, recipe, "max_length")
    collator = TextCollator(encoder, config, recipe)
    examples = Examples(encoder.tokenizer, recipe)
    check_ordinary_texts(examples, recipe.data, collator)
    if recipe.epochs:
        recipe.steps = count_steps(examples, recipe)
        recipe.epochs = 0.0
    batches = Batches(recipe.data, recipe.batch_size, recipe.seed, examples, collator)
    largest_weight = LargestWeight(encoder, recipe, examples.texts, str, listen)
    if not dry_run:
        only_main(largest_weight.draw)

    def load(folder: Path) -> None:
        saved = DupMAEForPreTraining.from_pretrained(folder, config, device="cpu")
        model.load_state_dict(saved.state_dict())

    def prepare() -> None:
        if recipe.head_steps and config.bow_weight:
            # A separate seed, so that the training does not begin with the same texts.
            seed = recipe.seed + 1_000_003
            stream = Batches(recipe.data, recipe.batch_size, seed, examples, collator)
            torch.manual_seed(recipe.seed)
            warm_head(encoder, iter(stream), recipe, listen)

    module = StepModel(model)
    held_out = None
    if recipe.eval_data or recipe.eval_share:
        sources = [DataSource(recipe.eval_data)] if recipe.eval_data else recipe.data
        held_out = HeldOut(sources, recipe, examples.held_out, collator)
    watch = Evaluation(recipe, module, encoder, listen, held_out=held_out, measure=measure)
    return run(
        recipe,
        module,
        batches,
        model.save_pretrained,
        load,
        resume=resume,
        listen=listen,
        prepare=prepare,
        settle=largest_weight.measure,
        callbacks=[watch],
        dry_run=dry_run,
    )
