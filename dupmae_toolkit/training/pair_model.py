"""The encoder with the fine-tuning losses over a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.training import losses
from dupmae_toolkit.training.fitted_score import FittedScore
from dupmae_toolkit.training.loss_table import LOSSES, Loss
from dupmae_toolkit.training.recipe import FinetuneRecipe
from dupmae_toolkit.training.running.chunks import Vectors, encode_in_chunks
from dupmae_toolkit.training.running.processes import batch_mean, gather, own_part
from dupmae_toolkit.training.teachers import Side, Teachers, Teaching

COSINE_SCALE = 20.0  #: if dense_scale is 0 and the vectors have length one


@dataclass(frozen=True, slots=True)
class BatchScores:
    """Scores of each query for every document of the batch, float32 [Q, D].

    dense: for the full vectors, then for each shorter size. lexical, joint: None without a lexical
    head. scores, teacher: those of the data and of the recipe's teachers, if there are any. bm25:
    with the fitted score only.

    The rest is the batch's, see PairCollator: ``target``, ``same``, ``own``; ``aside`` is its
    ``repeated``, and ``absent`` [Q, G] is ``repeated`` for the query's own group. Without in-batch
    negatives, ``same`` and ``aside`` are also true for all documents outside the query's own group.
    aside is None if it is false everywhere.
    """

    dense: list[Tensor]
    lexical: Tensor | None
    joint: Tensor | None
    target: Tensor
    same: Tensor
    aside: Tensor | None
    own: Tensor
    absent: Tensor
    scores: Tensor | None
    teacher: Tensor | None
    bm25: Tensor | None = None

    def of(self, part: str) -> list[Tensor]:
        """The scores of ``joint``, ``lexical`` or ``dense``: one, or one for each dense size."""
        found = getattr(self, part)
        return found if isinstance(found, list) else [found]


class PairModel(nn.Module):
    """The encoder with its losses over a batch of pairs or groups.

    The batch may be split over several processes, each with equally many queries and their
    documents.
    """

    many_processes = True

    def __init__(
        self,
        encoder: DupMAEEncoder,
        recipe: FinetuneRecipe,
        teachers: Teachers | None = None,
        fitted: FittedScore | None = None,
    ) -> None:
        """fitted: the joint score, if it is not the plain one; batches then have BM25."""
        super().__init__()
        used = recipe.used_losses
        lexical = [
            name for name, loss in LOSSES.items() if name in used and "lexical" in loss.parts
        ]
        keys = ("active_terms", "unigram_prior", "score_weights")
        lexical += [name for name in keys if getattr(recipe, name)]
        if lexical and encoder.config.lexical_head == "none":
            raise InputError(f"{lexical[0]} needs a lexical head; the model has none")
        if "teacher_terms" in used:
            check_same_terms(encoder, recipe)
        for size in recipe.dense_sizes:
            if size >= encoder.dense_dim:
                raise InputError(
                    f"dense_sizes: {size} is not below the full {encoder.dense_dim}; give less"
                )
        imitated = teachers.dense if teachers and "teacher_vector" in used else None
        joined = teachers.joined if teachers else None
        if joined is not None:
            imitated = None
        if imitated and imitated.width != encoder.dense_dim:
            raise InputError(
                f"the dense teacher's vectors have {imitated.width} dimensions and the model's "
                f"{encoder.dense_dim}; the loss 'teacher_vector' needs equal dimensions"
            )
        self.encoder = encoder
        self.recipe = recipe
        self.teachers = teachers
        # Here, so that it moves to the device and to other processes with the rest.
        self.joined = joined
        self.fitted = fitted
        self.dense_scale = recipe.dense_scale or (COSINE_SCALE if encoder.config.normalize else 1.0)

    def forward(
        self, batch: dict[str, Tensor], step: int, steps: int
    ) -> tuple[Tensor, dict[str, float]]:
        r, config = self.recipe, self.encoder.config
        query, document = (
            self.vectors(side_of(batch, name), top_k if r.prune else 0)
            for name, top_k in (("query", config.query_top_k), ("document", config.top_k))
        )
        kinds = r.loss_kinds
        taught = terms = None
        if self.teachers is not None and kinds & {"teacher", "vector"}:
            taught = ask_teachers(self.teachers, batch)
        if "terms" in kinds:
            terms = self.terms(batch)
        with torch.autocast(query.dense.device.type, enabled=False):
            scores = self.scores(query, document, batch, taught)
            # This process's documents without the repetitions, bool [D].
            real = ~scores.absent.flatten()
            counted = real[with_lexical(len(real), r.lexical_share).to(real.device)]
            used = r.used_losses
            on_scores = [name for name in used if LOSSES[name].on_scores]
            parts = {name: score_loss(LOSSES[name], scores) for name in on_scores}
            if "teacher_vector" in used:
                assert taught is not None  # the recipe was checked
                parts["teacher_vector"] = imitation(query.dense, document.dense, taught, real)
            if terms is not None:
                parts["teacher_terms"] = imitated_terms(query, document, terms, counted)
            loss = torch.stack([used[name] * value for name, value in parts.items()]).sum()
            logs = {name: value.item() for name, value in parts.items()}
            if self.fitted is not None:
                logs |= fitted_logs(self.fitted, scores)
            if query.lexical is not None and document.lexical is not None:
                extra, more = self.sparsity(query.lexical, document.lexical, counted, step, steps)
                loss, logs = loss + extra, logs | more
        return loss, logs

    def vectors(self, side: Side, top_k: int) -> Vectors:
        """Dense vectors of all texts of a side; lexical ones of those in ``with_lexical``, in their
        order."""
        encode = partial(encode_in_chunks, self.encoder, chunk_size=self.recipe.chunk_size)
        rows = with_lexical(len(side.ids), self.recipe.lexical_share).to(side.ids.device)
        if len(rows) == len(side.ids):
            return encode(side.ids, side.mask, top_k=top_k)
        both = encode(side.ids[rows], side.mask[rows], top_k=top_k)
        left = torch.ones(len(side.ids), dtype=torch.bool, device=rows.device)
        left[rows] = False
        rest = encode(side.ids[left], side.mask[left], lexical=False)
        order = torch.cat([rows, left.nonzero()[:, 0]]).argsort()
        return Vectors(torch.cat([both.dense, rest.dense])[order], both.lexical)

    def terms(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The lexical teacher's weights of the queries and documents in ``with_lexical``."""
        assert self.teachers is not None
        teacher = self.teachers.lexical
        assert teacher is not None  # the recipe was checked
        found = []
        for name in ("query", "document"):
            ids, mask = side_of(batch, name)
            rows = with_lexical(len(ids), self.recipe.lexical_share).to(ids.device)
            found.append(teacher(Side(ids[rows], mask[rows])))
        return found[0], found[1]

    def scores(
        self, query: Vectors, document: Vectors, batch: dict[str, Tensor], taught: Teaching | None
    ) -> BatchScores:
        """Every query against the documents of all processes."""
        normalize = self.encoder.config.normalize
        sizes = [query.dense.shape[1], *self.recipe.dense_sizes]
        cut = losses.truncated(query.dense, gather(document.dense), sizes, normalize=normalize)
        dense = [self.dense_scale * q @ d.T for q, d in cut]
        lexical = joint = None
        whole = self.recipe.lexical_share == 1
        if whole and query.lexical is not None and document.lexical is not None:
            weights = query.lexical
            if self.fitted is not None:
                weights = weights * self.fitted.factors
            lexical = weights @ gather(document.lexical).T
            if self.fitted is None:
                joint = lexical + dense[0]
            else:
                # Each process has BM25 of its own queries and the documents of all processes.
                joint = self.fitted(dense[0] / self.dense_scale, lexical, batch["bm25"])
        same, repeated, own = batch["same"], batch["repeated"], batch["own"]
        if not self.recipe.in_batch:
            outside = torch.ones_like(same).scatter(1, own, False)
            same, repeated = same | outside, repeated | outside
        return BatchScores(
            dense,
            lexical,
            joint,
            batch["target"],
            same,
            repeated if bool(repeated.any()) else None,
            own,
            batch["repeated"].gather(1, own),
            batch.get("scores"),
            None if taught is None else taught.logits,
            batch.get("bm25"),
        )

    def sparsity(
        self, query: Tensor, document: Tensor, real: Tensor, step: int, steps: int
    ) -> tuple[Tensor, dict[str, float]]:
        """The regularisers of both lexical vectors, [B, |V|], with their weights at this step.

        real: bool [D], false for repeated documents, which do not count; see ``PairCollator``.
        """
        r = self.recipe
        rise = losses.ramp(step, round(r.flops_ramp * steps))
        total, logs = query.new_zeros(()), {}
        for name, weights, counted in (("query", query, None), ("document", document, real)):
            mean = batch_mean(weights, counted)
            for kind, loss in (("flops", losses.flops(mean)), ("l1", losses.l1(mean))):
                total = total + rise * getattr(r, f"{kind}_{name}") * loss
                logs[f"{kind}_{name}"] = loss.item()
            active = (weights.detach() > 0).sum(dim=1).float()
            logs[f"active_{name}"] = batch_mean(active, counted).item()
        return total, logs


def check_same_terms(encoder: DupMAEEncoder, recipe: FinetuneRecipe) -> None:
    """Raise InputError if the model's lexical vectors are computed otherwise than a teacher's.

    A lexical teacher has the whole masked-LM head, log(1 + ReLU) and all terms, so a model that has
    not would be changed even by itself as the teacher.
    """
    config = encoder.config
    for key, value, wanted in (
        ("lexical_head", config.lexical_head, "mlm"),
        ("activation", config.activation, "log1p_relu"),
        ("prune", recipe.prune, False),
    ):
        if value != wanted:
            raise InputError(
                f"{key} is {value!r}; the loss teacher_terms needs {wanted!r}, as its teacher has"
            )


def fitted_logs(fitted: FittedScore, scores: BatchScores) -> dict[str, float]:
    """The weights, and ``bm25``: the cross-entropy of BM25 alone, with its weight."""
    weights = zip(("dense", "lexical", "bm25"), fitted.weights().tolist(), strict=True)
    logs = {f"weight_{part}": weight for part, weight in weights}
    assert scores.bm25 is not None
    alone = logs["weight_bm25"] * scores.bm25
    return logs | {"bm25": losses.contrastive(alone, scores.same, scores.target).item()}


def ask_teachers(teachers: Teachers, batch: dict[str, Tensor]) -> Teaching:
    """The teachers' outputs for this process's queries and the documents of all processes.

    Every process runs them on all queries, which are short, and on its own documents.
    """
    scales = batch.get("teacher_scales")
    taught = teachers(
        *_sides(batch, ""),
        {n: _sides(batch, f"teacher{n}_") for n in teachers.own_tokens},
        None if scales is None else scales[0].tolist(),
    )
    count = len(batch["query_ids"])
    own = slice(own_part() * count, (own_part() + 1) * count)
    vectors = None if taught.query is None else taught.query[own]
    return Teaching(gather(taught.logits.T)[:, own].T, vectors, taught.document)


def with_lexical(count: int, share: float) -> Tensor:
    """The rows of this process's ``count`` texts whose lexical vectors are computed, int64 [n].

    They are spread evenly over the batch, wherever its parts begin: a text of all processes with
    the position g is one of them if a multiple of 1 / share lies in [g, g + 1). At least one.
    """
    positions = own_part() * count + torch.arange(count + 1, dtype=torch.float64)
    steps = torch.ceil(positions * share)
    rows = (steps[1:] > steps[:-1]).nonzero()[:, 0]
    return rows if len(rows) else torch.zeros(1, dtype=torch.int64)


def side_of(batch: dict[str, Tensor], name: str) -> Side:
    """This process's queries or documents, in the student's tokens."""
    return Side(batch[f"{name}_ids"], batch[f"{name}_mask"])


def _sides(batch: dict[str, Tensor], name: str) -> tuple[Side, Side]:
    """The queries of all processes and this one's documents, in the tokens of that name."""
    queries = (gather(batch[f"{name}query_{what}"]) for what in ("ids", "mask"))
    documents = (batch[f"{name}document_{what}"] for what in ("ids", "mask"))
    return Side(*queries), Side(*documents)


def imitation(query: Tensor, document: Tensor, taught: Teaching, real: Tensor) -> Tensor:
    """1 - cosine between the dense vectors, [B, d] and [D, d], and the teacher's.

    Averaged as ``_mean_of_sides`` says. real: bool [D], the documents that count.
    """
    assert taught.query is not None
    assert taught.document is not None
    near = nn.functional.cosine_similarity
    return _mean_of_sides(1 - near(query, taught.query), 1 - near(document, taught.document), real)


def imitated_terms(
    query: Vectors, document: Vectors, taught: tuple[Tensor, Tensor], counted: Tensor
) -> Tensor:
    """The relative error of both sides' lexical vectors, averaged as ``_mean_of_sides`` says.

    counted: bool, the documents among those with lexical vectors that are no repetitions.
    """
    assert query.lexical is not None
    assert document.lexical is not None
    return _mean_of_sides(
        losses.relative_error(query.lexical, taught[0]),
        losses.relative_error(document.lexical, taught[1]),
        counted,
    )


def _mean_of_sides(query: Tensor, document: Tensor, counted: Tensor) -> Tensor:
    """The average of the means over queries, [B], and over the documents that count, [D].

    Both means are over all processes, since these may hold unequal numbers of repetitions.
    """
    return torch.cat([batch_mean(query), batch_mean(document, counted)]).mean()


def score_loss(loss: Loss, s: BatchScores) -> Tensor:
    """A loss on scores: of any kind but ``vector`` and ``terms``.

    A loss on the dense score is summed over the dense sizes. Losses that need scores in the data
    use only the query's own documents.
    """
    if loss.kind == "aggretriever":
        assert s.joint is not None
        assert s.lexical is not None
        return losses.aggretriever(s.joint, s.lexical, s.dense, s.same, s.target)
    given = s.of(loss.part)
    if loss.needs_scores:
        given = [scores.gather(1, s.own) for scores in given]
    scored: Any = s.scores  # present if a loss needs them: the recipe was checked
    joint: Any = s.joint
    taught: Any = s.teacher
    makers: dict[str, Callable[..., Tensor]] = {
        "contrastive": partial(losses.contrastive, same=s.same, target=s.target),
        "kl": partial(losses.distill, teacher=scored, left_out=s.absent),
        "margin": partial(losses.margin_mse, teacher=scored, left_out=s.absent),
        "self": partial(losses.self_distill, joint=joint, left_out=s.aside),
        "teacher": partial(losses.distill, teacher=taught, left_out=s.aside),
    }
    return torch.stack([makers[loss.kind](scores) for scores in given]).sum()
