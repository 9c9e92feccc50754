"""The vocabulary head when only the largest logits are needed: int8 products select candidates.

Only the 256 largest of a document's 30,522 logits are kept, but multiplying its tokens with the
whole vocabulary matrix is half of the work of encoding. Cheaper int8 products, with an error bound
(`int8.py`), show which terms could be among the largest, about one in a hundred; only their logits
are computed in float32. The kept logits are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dupmae_toolkit.int8 import LIMIT, Int8Bound
from dupmae_toolkit.model.heads import token_groups
from dupmae_toolkit.processor import has_byte_products, multiplies_bytes_right

#: Tokens and vocabulary entries in a tile, whose products fit into the processor's cache.
ROWS = 512
ENTRIES = 2816
#: With candidates above this share of the vocabulary, computing all logits is faster.
_MAX_SHARE = 0.25
#: Generous limits: of the error of float32 logits, relative to ‖h‖‖w‖ and to the bias; and of the
#: difference between logits that are equal after the activation, relative to 1 + the logit.
_ROUNDINGS = 1e-4
_CLOSE = 1e-5


class Screen:
    """A vocabulary matrix in int8. Several threads may use it at once."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: float32 [V, H]; bias: float32 [V]; both finite. Takes V · H bytes more."""
        with torch.inference_mode(False), torch.no_grad():
            self._weight, self._bias = weight.detach(), bias.detach().float()
            self._scale = _not_zero(self._weight.abs().amax(dim=1) / LIMIT)
            codes = torch.round(self._weight / self._scale[:, None])
            self._bytes = codes.to(torch.int8)
            reconstructed = codes * self._scale[:, None]
            lost = (self._weight - reconstructed).norm(dim=1)
            lost += _ROUNDINGS * self._weight.norm(dim=1)
            self._bound = Int8Bound(reconstructed.norm(dim=1), lost)

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor) -> Screen | None:
        """Make a screen; None without fast, correct int8 products, or for non-finite weights."""
        if not has_byte_products() or not hasattr(torch, "_int_mm"):
            return None
        if not bool(torch.isfinite(weight).all()) or not bool(torch.isfinite(bias).all()):
            return None
        screen = cls(weight, bias)
        return screen if multiplies_bytes_right(screen._bytes, at_once=3) else None

    def pooled(self, rows: Tensor, lengths: list[int], top_k: int) -> Tensor | None:
        """max over the tokens of each text of h · w, float32 [B, V], without the bias.

        rows: float32 [Σ lengths, H], the tokens of all texts, text by text. top_k: only a text's
        ``top_k`` largest (0: all) logits above 0, bias included, are needed; others may be -inf.
        Returns None if all logits should be computed: too many candidates, or numbers that are not
        finite.
        """
        texts = rows.split(lengths)
        largest = torch.stack([_largest(own.abs().flatten()) for own in texts])
        if not bool(torch.isfinite(largest).all()):
            return None
        scale = _not_zero(largest / LIMIT)
        steps = scale.repeat_interleave(torch.tensor(lengths))[:, None]
        codes = torch.round(rows / steps)
        lost = _largest_of(torch.linalg.vector_norm(rows - codes * steps, dim=1), lengths)
        norms = _largest_of(torch.linalg.vector_norm(rows, dim=1), lengths)
        rough = self._rough(codes.to(torch.int8), lengths) * (scale[:, None] * self._scale)
        rough += self._bias
        off = self._bound.off(norms[:, None], lost[:, None])
        off += _ROUNDINGS * self._bias.abs()
        highest = rough + off
        if not bool(torch.isfinite(highest).all()):
            return None
        least = torch.zeros(len(lengths))
        if 0 < top_k < rough.shape[1]:
            least = (rough - off).topk(top_k, dim=1).values[:, -1].clamp(min=0)
        wanted = highest >= (least - _CLOSE * (1 + least))[:, None]
        counts = wanted.sum(dim=1)
        if int(counts.max()) > _MAX_SHARE * rough.shape[1]:
            return None
        pooled = torch.full_like(rough, float("-inf"))
        for own, terms, into in zip(texts, wanted, pooled, strict=True):
            if len(own):
                places = terms.nonzero()[:, 0]
                into[places] = torch.mm(own, self._weight[places].t()).amax(dim=0)
        return pooled

    def _rough(self, rows: Tensor, lengths: list[int]) -> Tensor:
        """The largest int8 product over each text's tokens, int32 [B, V]; 0 without tokens."""
        found = torch.zeros(len(lengths), len(self._bytes), dtype=torch.int32)
        tile = torch.empty(0, dtype=torch.int32)
        start = 0
        for first, last, count in token_groups(lengths, ROWS):
            part = rows[start : start + count]
            for entry in range(0, len(self._bytes), ENTRIES):
                columns = self._bytes[entry : entry + ENTRIES].t()
                needed = count * columns.shape[1]
                if len(tile) < needed:
                    tile = torch.empty(needed, dtype=torch.int32)
                products = tile[:needed].view(count, -1)
                torch._int_mm(part, columns, out=products)
                owned = products.split(lengths[first:last])
                for i, own in enumerate(owned, first):
                    if len(own):
                        torch.amax(own, dim=0, out=found[i, entry : entry + ENTRIES])
            start += count
        return found


def _largest(values: Tensor) -> Tensor:
    return values.max() if len(values) else torch.zeros(())


def _largest_of(values: Tensor, lengths: list[int]) -> Tensor:
    return torch.stack([_largest(own) for own in values.split(lengths)])


def _not_zero(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, torch.ones_like(scale))
