"""One target vector from those of several dense teachers, for the loss ``teacher_vector``.

The mean is subtracted from each teacher's vector; the difference is scaled to length one and
multiplied by the square root of the teacher's share. The results are concatenated to a row. So the
inner product of two rows is the sum of the teachers' centred cosines, each times its share.

The rows are projected onto as many of their principal axes (uncentred) as the student has
dimensions. Then an orthogonal map brings them as near as possible to the student's own vectors (the
orthogonal Procrustes problem: Schönemann 1966, Psychometrika 31), so that a student that knows one
teacher already does not have to learn its axes anew. The map changes no inner product.

The means matter: E5's cosines lie between .7 and 1, because its vectors have a large common part.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dupmae_toolkit.errors import InputError

FILE = "joined.safetensors"
#: How many training texts the means and axes are computed from.
JOINED_TEXTS = 2048


class JoinedVectors(nn.Module):
    """Joins and projects vectors; all zero until ``fit`` or ``load``.

    means: float32 [H], of all teachers' vectors, concatenated. projection: float32 [H, d].
    """

    means: Tensor
    projection: Tensor

    def __init__(
        self, widths: Sequence[int], shares: Sequence[float], size: int, about: str = ""
    ) -> None:
        """widths, shares: of each teacher. size: the student's dimensions. about: what tells these
        teachers from others, for a resume.

        Raises InputError if the teachers' vectors together have fewer dimensions.
        """
        super().__init__()
        if sum(widths) < size:
            raise InputError(
                f"the dense teachers' vectors have {sum(widths)} dimensions together and the "
                f"model's {size}; the loss 'teacher_vector' needs at least as many"
            )
        self.widths = list(widths)
        self._about = json.dumps([list(shares), about])
        self._roots = [share**0.5 for share in shares]
        self.register_buffer("means", torch.zeros(sum(widths)))
        self.register_buffer("projection", torch.zeros(sum(widths), size))

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """The targets, float32 [B, d], of length one. vectors: of each teacher, [B, H_t]."""
        return nn.functional.normalize(self._rows(vectors, self.means) @ self.projection, dim=-1)

    def fit(self, vectors: Sequence[Tensor], student: Tensor) -> float:
        """Set means and projection. vectors: of each teacher, for some texts; student: [n, d].

        Returns the share of the rows' squared length that the projection keeps.
        """
        # On the CPU, in float64, wherever the buffers are.
        means = torch.cat([own.double().cpu().mean(0) for own in vectors]).float()
        self.means.copy_(means)
        rows = self._rows([own.cpu() for own in vectors], means).double()
        values, axes = torch.linalg.eigh(rows.T @ rows)
        axes = axes.flip(1)[:, : self.projection.shape[1]]
        left, _, right = torch.linalg.svd((rows @ axes).T @ student.double().cpu())
        self.projection.copy_(axes @ left @ right)
        return float(values.flip(0)[: axes.shape[1]].sum() / values.sum())

    def _rows(self, vectors: Sequence[Tensor], means: Tensor) -> Tensor:
        rows = []
        for own, mean, root in zip(vectors, means.split(self.widths), self._roots, strict=True):
            rows.append(root * nn.functional.normalize(own.float() - mean, dim=-1))
        return torch.cat(rows, dim=-1)

    def save(self, folder: Path) -> None:
        """Write means and projection into a checkpoint, for a resume."""
        arrays = {"means": self.means.cpu(), "projection": self.projection.cpu().contiguous()}
        save_file(arrays, folder / FILE, metadata={"teachers": self._about})

    def load(self, folder: Path) -> None:
        """Read them from a checkpoint.

        Raises OSError, SafetensorError or ValueError for a file that is damaged or does not fit.
        """
        with safe_open(folder / FILE, framework="pt") as file:
            about = (file.metadata() or {}).get("teachers")
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        own = {"means": self.means, "projection": self.projection}
        fits = all(name in found and found[name].shape == own[name].shape for name in own)
        if about != self._about or not fits:
            raise ValueError(f"{FILE} is of other teachers")
        for name, buffer in own.items():
            buffer.copy_(found[name])
