"""Teachers that score every query of a batch against every document of it during training.

Each is frozen. It reads the student's token ids; a dense teacher with another vocabulary, or with
prefixes, reads the same texts by its own tokenizer (``OwnTokens``). Each teacher's scores are
multiplied by its scale and added up. The sums are the logits of the distribution that the student's
scores imitate. A batch of n pairs gives n² scores from 2n texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model import backbones
from dupmae_toolkit.model.checkpoints import load_masked_lm, named_folder
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.heads import activate, pooled_logits
from dupmae_toolkit.model.tokens import pad, tokenize
from dupmae_toolkit.training.data.bm25 import K1, B
from dupmae_toolkit.training.data.frequencies import TermFrequencies
from dupmae_toolkit.training.data.own_tokens import OwnTokens, Side
from dupmae_toolkit.training.joined_vectors import JoinedVectors
from dupmae_toolkit.training.sources import TeacherSource

#: How many texts are encoded together for the joined vectors.
_TEXTS = 32


class Teaching(NamedTuple):
    """The teachers' outputs for a batch.

    logits: float32 [Q, D], of the distribution over the documents. query, document: float32 [B, H],
    the vectors to imitate, of length one: those of the first dense teacher, or joined ones; None if
    none are imitated.
    """

    logits: Tensor
    query: Tensor | None
    document: Tensor | None


class Frozen(nn.Module):
    """A module that stays in evaluation mode, has no gradients and is not in checkpoints."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)  # type: ignore[return-value]


class DenseTeacher(Frozen):
    """Cosines of pooled hidden states."""

    def __init__(self, source: TeacherSource, tokenizer: Any) -> None:
        super().__init__()
        lm, own, _ = load_masked_lm(named_folder(source.model)[0])
        self.backbone = lm.base_model.requires_grad_(False)
        self.pooling = source.pooling
        prefixes = source.query_prefix, source.prefix
        reads_alike = own.get_vocab() == tokenizer.get_vocab() and not any(prefixes)
        #: None if it reads the student's tokens.
        self.own_tokens = None if reads_alike else OwnTokens(own, prefixes, backbones.positions(lm))
        self.eval()

    @property
    def width(self) -> int:
        return self.backbone.config.hidden_size

    @torch.no_grad()
    def forward(self, side: Side) -> Tensor:
        """float32 [B, H], of length one."""
        hidden = self.backbone(input_ids=side.ids, attention_mask=side.mask)[0].float()
        if self.pooling == "cls":
            return nn.functional.normalize(hidden[:, 0], dim=-1)
        mask = side.mask[..., None].float()
        return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


class LexicalTeacher(Frozen):
    """Dot products of a SPLADE-like model's term weights."""

    ordinary: Tensor

    def __init__(self, source: TeacherSource, tokenizer: Any, ordinary: Tensor) -> None:
        super().__init__()
        self.lm = _load_lexical(source, tokenizer).requires_grad_(False)
        self.register_buffer("ordinary", ordinary.clone(), persistent=False)
        self.eval()

    @torch.no_grad()
    def forward(self, side: Side) -> Tensor:
        """Term weights, float32 [B, |V|]."""
        features = backbones.transform(
            self.lm, backbones.hidden_states(self.lm, side.ids, side.mask)
        )
        weight, bias = backbones.vocabulary_projection(self.lm)
        pool = side.mask.bool() & self.ordinary[side.ids]
        return activate(pooled_logits(features, weight, bias, pool), "log1p_relu")


class BatchBm25(Frozen):
    """BM25 over the student's token ids, truncated as for the student."""

    idf: Tensor

    def __init__(self, frequencies: TermFrequencies, ordinary: Tensor):
        """ordinary: bool [|V|], the terms to score: all but the special ones."""
        super().__init__()
        texts, documents = frequencies.texts, frequencies.documents
        idf = np.log1p((texts - documents + 0.5) / (documents + 0.5)).astype(np.float32)
        self.register_buffer("idf", torch.from_numpy(idf) * ordinary.cpu(), persistent=False)
        self.length = max(1.0, frequencies.tokens / max(1, texts))

    @torch.no_grad()
    def forward(self, query: Side, document: Side) -> Tensor:
        """float32 [Q, D]."""
        counts, lengths = self._counts(document), document.mask.sum(1, keepdim=True).float()
        saturation = K1 * (1 - B + B * lengths / self.length)
        impact = counts * (K1 + 1) / (counts + saturation)
        return _products(self._counts(query) * self.idf, impact)

    def _counts(self, side: Side) -> Tensor:
        counts = torch.zeros(len(side.ids), len(self.idf), device=side.ids.device)
        return counts.scatter_add_(1, side.ids, side.mask.float())


class Teachers(nn.ModuleList):
    """All teachers of a recipe, and the sum of their scores."""

    def __init__(
        self,
        sources: Sequence[TeacherSource],
        encoder: DupMAEEncoder,
        frequencies: TermFrequencies | None = None,
        *,
        vectors: bool = True,
        scores: bool = True,
    ) -> None:
        """frequencies: of terms in the training documents; only BM25 needs them. vectors: whether
        vectors are imitated. scores: whether scores are; if not, only imitated teachers run."""
        made: list[nn.Module] = []
        for source in sources:
            if source.kind == "dense":
                made.append(DenseTeacher(source, encoder.tokenizer))
            elif source.kind == "lexical":
                made.append(LexicalTeacher(source, encoder.tokenizer, encoder.ordinary))
            elif frequencies is None:
                raise InputError("a teacher of kind 'bm25' needs the frequencies of terms")
            else:
                made.append(BatchBm25(frequencies, encoder.ordinary))
        super().__init__(made)
        self.scales = [source.scale for source in sources]
        self._vectors, self._scores = vectors, scores
        #: The positions of the teachers whose vectors are joined.
        self._joining = [n for n, source in enumerate(sources) if vectors and source.vector]
        self._joined = []
        if self._joining:
            widths = [int(made[n].width) for n in self._joining]  # type: ignore[arg-type]
            shares = [sources[n].vector for n in self._joining]
            about = json.dumps([_fingerprint(sources[n], made[n]) for n in self._joining])
            self._joined = [JoinedVectors(widths, shares, encoder.dense_dim, about)]

    @property
    def dense(self) -> DenseTeacher | None:
        """The first dense teacher, whose vectors the student may imitate."""
        return next((t for t in self if isinstance(t, DenseTeacher)), None)

    @property
    def lexical(self) -> LexicalTeacher | None:
        """The first lexical teacher, whose term weights the student may imitate."""
        return next((t for t in self if isinstance(t, LexicalTeacher)), None)

    @property
    def joined(self) -> JoinedVectors | None:
        """Joins the vectors to imitate; None if those of the first dense teacher are imitated."""
        # In a list, because everything else in this one is a teacher.
        return self._joined[0] if self._joined else None

    def fit_joined(self, encoder: DupMAEEncoder, texts: Sequence[str], length: int) -> float:
        """Fit ``joined`` on texts of at most ``length`` tokens; see ``JoinedVectors.fit``."""
        assert self.joined is not None
        teachers = [self[number] for number in self._joining]
        vectors: list[list[Tensor]] = [[] for _ in teachers]
        with encoder.autocast():
            for start in range(0, len(texts), _TEXTS):
                some = list(texts[start : start + _TEXTS])
                ids = tokenize(encoder.tokenizer, some, length).ids
                read = Side(*(each.to(encoder.device) for each in pad(ids, encoder.pad_id)))
                for teacher, made in zip(teachers, vectors, strict=True):
                    assert isinstance(teacher, DenseTeacher)
                    if teacher.own_tokens is not None:
                        _, own = teacher.own_tokens.sides([some[:1], some], [length, length])
                        read_here = Side(*(each.to(encoder.device) for each in own))
                    else:
                        read_here = read
                    made.append(teacher(read_here).float())
        student = torch.from_numpy(encoder.encode_documents(list(texts)).dense)
        return self.joined.fit([torch.cat(made).cpu() for made in vectors], student)

    @property
    def own_tokens(self) -> dict[int, OwnTokens]:
        """By its number, how each teacher reads that does not read the student's tokens."""
        found = {n: getattr(teacher, "own_tokens", None) for n, teacher in enumerate(self)}
        return {number: tokens for number, tokens in found.items() if tokens is not None}

    def forward(
        self,
        query: Side,
        document: Side,
        own: Mapping[int, Sequence[Side]] | None = None,
        scales: Sequence[float] | None = None,
    ) -> Teaching:
        """The models run in autocast's dtype if it is on; scores are always float32.

        own: queries and documents for each of ``own_tokens``. scales: for this batch, in place of
        the teachers' own.
        """
        total, vectors = torch.zeros((), device=query.ids.device), None
        to_join: list[tuple[Tensor, Tensor]] = []
        for number, teacher in enumerate(self):
            scale = (scales or self.scales)[number] if self._scores else 0.0
            # A lexical teacher may be imitated too, but of a part of the batch: see ``lexical``.
            first = not self.joined and teacher is self.dense
            imitated = self._vectors and (first or number in self._joining)
            if not (scale or imitated):
                continue
            if isinstance(teacher, BatchBm25):
                scores = teacher(query, document)
            else:
                sides = (own or {}).get(number, (query, document))
                of_queries, of_documents = map(teacher, sides)
                scores = _products(of_queries, of_documents)
                if number in self._joining:
                    to_join.append((of_queries, of_documents))
                if imitated:
                    vectors = of_queries, of_documents
            total = total + scale * scores
        if self.joined is not None:
            with torch.autocast(total.device.type, enabled=False):
                queries, documents = map(self.joined, zip(*to_join, strict=True))
            vectors = queries, documents
        return Teaching(total, *(vectors or (None, None)))


def _fingerprint(source: TeacherSource, teacher: nn.Module) -> list[str]:
    """What a dense teacher's vectors depend on: how it is asked, and a digest of its weights.

    Folders may move between calls, so their names do not count. Of each matrix, the digest reads
    the beginning, which tells two models apart in a moment.
    """
    digest = hashlib.sha256()
    for name, weights in teacher.named_parameters():
        beginning = weights.detach().flatten()[:256].float().cpu()
        digest.update(name.encode() + beginning.numpy().tobytes())
    return [source.pooling, source.query_prefix, source.prefix, digest.hexdigest()]


def _products(one: Tensor, other: Tensor) -> Tensor:
    """Inner products of float32 rows, [n, m]; in float32 under autocast too."""
    with torch.autocast(one.device.type, enabled=False):
        return one @ other.T


def _load_lexical(source: TeacherSource, tokenizer: Any) -> Any:
    lm, own, has_head = load_masked_lm(named_folder(source.model)[0])
    if own.get_vocab() != tokenizer.get_vocab():
        raise InputError(
            f"{source.model}: a lexical teacher needs the vocabulary of the model it teaches"
        )
    if not has_head:
        raise InputError(f"{source.model}: a lexical teacher needs a masked-LM head; it has none")
    return lm
