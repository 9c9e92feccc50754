"""Fine-tuning on pairs with the joint score."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import Tensor, nn

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.inference import pad, tokenize
from dupmae_toolkit.training import losses
from dupmae_toolkit.training.calibration import PRIOR_TEXTS, calibrate_head
from dupmae_toolkit.training.freezing import freeze_layers, set_dropout
from dupmae_toolkit.training.history import Listen
from dupmae_toolkit.training.neighbours import near_batches
from dupmae_toolkit.training.recipe import LEXICAL_LOSSES, FinetuneRecipe
from dupmae_toolkit.training.streams import Batches, Pair, check_sources, pairs
from dupmae_toolkit.training.teachers import Side, Teachers
from dupmae_toolkit.training.trainer import check_lengths, check_output, run


class PairModel(nn.Module):
    """The encoder with its losses over a batch of pairs."""

    def __init__(
        self, encoder: DupMAEEncoder, recipe: FinetuneRecipe, teachers: Teachers | None = None
    ) -> None:
        super().__init__()
        lexical = [name for name in LEXICAL_LOSSES if name in recipe.losses]
        lexical += [name for name in ("active_terms", "unigram_prior") if getattr(recipe, name)]
        if lexical and encoder.config.lexical_head == "none":
            raise InputError(f"{lexical[0]} needs a lexical head, and there is none")
        self.encoder = encoder
        self.recipe = recipe
        self.teachers = teachers
        imitated = teachers.dense if teachers and "teacher_vector" in recipe.losses else None
        if imitated and imitated.width != encoder.dense_dim:
            raise InputError(
                f"the dense teacher's vectors have {imitated.width} dimensions and the model's "
                f"{encoder.dense_dim}; the loss 'teacher_vector' needs both alike"
            )

    def forward(
        self, batch: dict[str, Tensor], step: int, steps: int
    ) -> tuple[Tensor, dict[str, float]]:
        r = self.recipe
        query = self.encoder(batch["query_ids"], batch["query_mask"])
        document = self.encoder(batch["document_ids"], batch["document_mask"])
        with torch.autocast(query.dense.device.type, enabled=False):
            unit = nn.functional.normalize
            cosine = unit(query.dense, dim=-1) @ unit(document.dense, dim=-1).T
            scores = {"dense": r.dense_scale * cosine}
            if query.lexical is not None and document.lexical is not None:
                scores["lexical"] = query.lexical @ document.lexical.T
                scores["joint"] = scores["lexical"] + scores["dense"]
        parts: dict[str, Tensor] = {
            name: losses.contrastive(scores[name], batch["same"])
            for name in ("joint", "lexical", "dense")
            if name in r.losses
        }
        if self.teachers is not None:
            taught = self.teachers(
                Side(batch["query_ids"], batch["query_mask"]),
                Side(batch["document_ids"], batch["document_mask"]),
            )
            for name in ("joint", "lexical", "dense"):
                if f"teacher_{name}" in r.losses:
                    parts[f"teacher_{name}"] = losses.distill(scores[name], taught.logits)
            if "teacher_vector" in r.losses:
                near = nn.functional.cosine_similarity
                distances = [
                    1 - near(query.dense, taught.query).mean(),
                    1 - near(document.dense, taught.document).mean(),
                ]
                parts["teacher_vector"] = torch.stack(distances).mean()
        loss = torch.stack([r.losses[name] * value for name, value in parts.items()]).sum()
        logs = {name: value.item() for name, value in parts.items()}
        if query.lexical is not None and document.lexical is not None:
            rise = losses.ramp(step, round(r.flops_ramp * steps))
            fq, fd = losses.flops(query.lexical), losses.flops(document.lexical)
            loss = loss + rise * (r.flops_query * fq + r.flops_document * fd)
            logs |= {
                "flops_query": fq.item(),
                "flops_document": fd.item(),
                "active_query": (query.lexical > 0).sum(1).float().mean().item(),
                "active_document": (document.lexical > 0).sum(1).float().mean().item(),
            }
        return loss, logs


class PairCollator:
    """Pairs to token ids and masks, int64 [B, L], and ``same``, bool [B, B].

    ``same`` is true where the document of another pair answers the query too, as far as the batch
    tells: both pairs have the same document, or the same query.
    """

    def __init__(self, encoder: DupMAEEncoder, recipe: FinetuneRecipe) -> None:
        self.tokenizer = encoder.tokenizer
        self.pad_id = encoder.pad_id
        self.prefixes = encoder.config.query_prefix, encoder.config.prefix
        self.lengths = recipe.query_length, recipe.document_length

    def __call__(self, batch: list[Pair]) -> dict[str, Tensor]:
        result: dict[str, Tensor] = {}
        for i, name in enumerate(("query", "document")):
            texts = [self.prefixes[i] + getattr(pair, name) for pair in batch]
            ids = tokenize(self.tokenizer, texts, self.lengths[i]).ids
            result[f"{name}_ids"], result[f"{name}_mask"] = pad(ids, self.pad_id)
        same = [[a.document == b.document or a.query == b.query for b in batch] for a in batch]
        result["same"] = torch.tensor(same) & ~torch.eye(len(batch), dtype=torch.bool)
        return result


def finetune(
    recipe: FinetuneRecipe,
    *,
    resume: bool = False,
    listen: Listen = lambda entry: None,
) -> Path:
    """Fine-tune as the recipe says; returns the folder of the trained checkpoint."""
    check_output(recipe, resume=resume)
    check_sources(recipe.data, need_pairs=True)
    encoder = DupMAEEncoder.from_pretrained(
        recipe.model, fresh_head=recipe.fresh_head, precision=recipe.precision, **recipe.encoder
    )
    check_lengths(encoder.lm, recipe, "query_length", "document_length")
    freeze_layers(encoder.lm, recipe.frozen_layers)
    set_dropout(encoder.lm, recipe.dropout)
    draw = Batches(recipe.data, 1, recipe.seed + 1_000_003, pairs, lambda batch: batch[0])
    sample: list[str] = []
    if recipe.active_terms or recipe.unigram_prior or recipe.teachers:
        sample = [pair.document for pair in itertools.islice(draw, PRIOR_TEXTS)]
    teachers = None
    if recipe.teachers:
        teachers = Teachers(recipe.teachers, encoder, sample, recipe.document_length)
        teachers.to(encoder.device)
    module = PairModel(encoder, recipe, teachers)
    batches = Batches(
        recipe.data,
        recipe.batch_size,
        recipe.seed,
        pairs,
        PairCollator(encoder, recipe),
        pool=recipe.near_batches,
        deal=lambda items, size, rng: near_batches([p.document for p in items], size, rng),
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

    return run(
        recipe,
        module,
        batches,
        encoder.save_pretrained,
        load,
        resume=resume,
        listen=listen,
        prepare=prepare,
    )
