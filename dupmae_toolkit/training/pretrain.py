"""Pre-training on plain text: the masked tokens, the CLS decoder, the bag of words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dupmae_toolkit.model import backbones
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.inference import tokenize
from dupmae_toolkit.model.losses import bag_of_words_loss
from dupmae_toolkit.model.mean_layer import add_mean_layer
from dupmae_toolkit.model.presets import PreTrainingConfig
from dupmae_toolkit.model.pretraining import IGNORED, DupMAEForPreTraining
from dupmae_toolkit.training.collator import PreTrainingCollator
from dupmae_toolkit.training.history import Listen
from dupmae_toolkit.training.recipe import PretrainRecipe
from dupmae_toolkit.training.streams import Batches, check_sources, texts
from dupmae_toolkit.training.trainer import check_lengths, check_output, run


class TextCollator:
    """Texts to a batch for DupMAEForPreTraining."""

    def __init__(self, encoder: DupMAEEncoder, config: PreTrainingConfig, recipe: PretrainRecipe):
        self.tokenizer = encoder.tokenizer
        self.max_length = recipe.max_length
        self.collate = PreTrainingCollator(encoder.tokenizer, config, seed=recipe.seed)

    def __call__(self, batch: list[str]) -> dict[str, Tensor]:
        ids = tokenize(self.tokenizer, batch, self.max_length).ids
        return self.collate([{"input_ids": row} for row in ids])


class StepModel(nn.Module):
    """DupMAEForPreTraining as the trainer wants it: a loss and its parts for the log."""

    def __init__(self, model: DupMAEForPreTraining) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, batch: dict[str, Tensor], step: int, steps: int
    ) -> tuple[Tensor, dict[str, float]]:
        output = self.model(**batch, progress=step / max(1, steps - 1))
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
    """Teach a fresh vocabulary head the bag of words while the backbone stands still.

    Only weights that the backbone does not share take part. The learning rate rises for a tenth of
    the steps and then falls linearly to 0.
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
        # The whole text, not the masked one: what is shown to the head is what it shall name.
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


def pretrain(
    recipe: PretrainRecipe, *, resume: bool = False, listen: Listen = lambda entry: None
) -> Path:
    """Pre-train as the recipe says; returns the folder of the trained checkpoint.

    The checkpoint carries the decoder, so that pre-training can go on from it.
    """
    check_output(recipe, resume=resume)
    check_sources(recipe.data)
    config = recipe.pretraining()
    torch.manual_seed(recipe.seed)  # a new decoder is drawn at random
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
    batches = Batches(recipe.data, recipe.batch_size, recipe.seed, texts, collator)

    def load(folder: Path) -> None:
        saved = DupMAEForPreTraining.from_pretrained(folder, config, device="cpu")
        model.load_state_dict(saved.state_dict())

    def prepare() -> None:
        if recipe.head_steps and config.bow_weight:
            # Other texts than the training's first, which it shall see with a head that it taught.
            seed = recipe.seed + 1_000_003
            stream = Batches(recipe.data, recipe.batch_size, seed, texts, collator)
            torch.manual_seed(recipe.seed)
            warm_head(encoder, iter(stream), recipe, listen)

    return run(
        recipe,
        StepModel(model),
        batches,
        model.save_pretrained,
        load,
        resume=resume,
        listen=listen,
        prepare=prepare,
    )
