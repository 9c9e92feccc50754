"""The fitted score in training: the joint score that a search of an index has.

    w_d · dense + w_l · Σ_t q_t · f_t · d_t + w_b · BM25(query, document)

f_t is the frequency factor of token t, see ``frequency_factors``; BM25 is that of the whole texts,
see data/bm25.py. Neither gets a gradient, but both decide which negatives are hard, and what is
left for the learned parts to add.

The factors are those of an index of training texts, by the encoder before the first step: a token's
document frequency is the number of texts whose lexical vector keeps it. Counting the tokens that
occur in the texts would be cheaper, but a lexical vector is no count of tokens: it adds many that
hardly any text has, and these would get the largest factors. For the built-in encoder and 2,045 of
the texts of recipes/builtin-fitted.yaml, the two kinds of factors correlate by only .29 over the
tokens of queries (weighted by their weights), and differ by .43 in the mean logarithm. Those of the
first 1,024 texts correlate with those of all by .987, and differ by .03.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.training.data.bm25 import WordFrequencies
from dupmae_toolkit.training.data.frequencies import frequency_factors
from dupmae_toolkit.training.recipe import FinetuneRecipe

FILE = "score.safetensors"
#: Training texts that the factors are counted in.
ENCODED_TEXTS = 1024
_WORDS = ("words", "word_documents", "word_counts")


class FittedScore(nn.Module):
    """The weighted sum of the three parts; the weights are fixed or learned.

    words: of the training texts. factors: float32 [|V|], all 1 until they are counted. A learned
    weight is its start × exp(speed · log), where ``logs``, float32 [2], begin at 0: of dense and of
    lexical. The weight of bm25 stays, as the unit; with it free, too, the sum's scale would be
    another temperature.
    """

    start: Tensor
    factors: Tensor

    def __init__(
        self, recipe: FinetuneRecipe, vocabulary_size: int, words: WordFrequencies
    ) -> None:
        """recipe: one with ``score_weights``."""
        super().__init__()
        self.words = words
        self.idf_power = recipe.idf_power
        self._speed = recipe.learn_weights
        self._given = recipe.score_weights
        self.register_buffer("start", torch.tensor(self._given, dtype=torch.float32))
        self.register_buffer("factors", torch.ones(vocabulary_size))
        self.logs = nn.Parameter(torch.zeros(2)) if self._speed else None

    def forward(self, dense: Tensor, lexical: Tensor, bm25: Tensor) -> Tensor:
        """The joint score [Q, D] of the three parts' scores; lexical: with the factors."""
        dense_weight, lexical_weight, bm25_weight = self.weights()
        return dense_weight * dense + lexical_weight * lexical + bm25_weight * bm25

    def weights(self) -> Tensor:
        """The weights of dense, lexical and bm25, float32 [3], with gradient if they are learned.

        Adam moves a parameter by about the learning rate a step, whatever its gradient's size. So
        forward multiplies ``logs`` by the speed and backward does not: a factor in the gradient
        would only let the weights dominate the norm that gradients are clipped to.
        """
        if self.logs is None:
            return self.start
        logs = self.logs + ((self._speed - 1) * self.logs).detach()
        return self.start * torch.cat([logs.exp(), logs.new_ones(1)])

    @property
    def numbers(self) -> tuple[float, float, float]:
        """The current weights; learned ones with six significant digits."""
        found = self._given
        if self.logs is not None:
            found = [float(f"{weight:.6g}") for weight in self.weights().tolist()]
        dense, lexical, bm25 = found
        return dense, lexical, bm25

    def count(self, encoder: DupMAEEncoder, texts: list[str]) -> None:
        """Set the factors to those of an index of ``texts``; leaves the encoder in eval mode."""
        lexical = encoder.encode_documents(texts).lexical
        documents = np.bincount(lexical.indices, minlength=lexical.shape[1])
        with np.errstate(over="ignore"):
            factors = frequency_factors(documents, len(texts), self.idf_power).astype(np.float32)
        if not np.isfinite(factors).all():
            raise InputError(f"idf_power {self.idf_power:g} gives infinite factors; lower it")
        self.factors.copy_(torch.from_numpy(factors))

    def save(self, folder: Path, about: str) -> None:
        """Write what a resume needs into a checkpoint. about: identifies the sample of texts."""
        logs = np.zeros(2, np.float32) if self.logs is None else self.logs.detach().cpu().numpy()
        arrays = {"factors": self.factors.cpu().numpy(), "logs": logs, **self.words.arrays()}
        save_file(arrays, folder / FILE, metadata={"about": about})

    def load(self, folder: Path) -> None:
        """Read factors and weights from a checkpoint.

        Raises OSError, SafetensorError or ValueError for a file that is damaged or does not fit.
        """
        with safe_open(folder / FILE, framework="numpy") as file:
            found = {name: torch.from_numpy(file.get_tensor(name)) for name in ("factors", "logs")}
        if found["factors"].shape != self.factors.shape or found["logs"].shape != (2,):
            raise ValueError(f"{FILE} is of another vocabulary")
        self.factors.copy_(found["factors"])
        if self.logs is not None:
            with torch.no_grad():
                self.logs.copy_(found["logs"])

    def state_in(self, encoder: DupMAEEncoder, recipe: FinetuneRecipe) -> None:
        """Store the current weights as the config's ``fitted_weights``, for the indexes of it.

        The plain score gets the same ratio of dense and lexical. Keys that the recipe sets stay.
        """
        dense, lexical, _ = self.numbers
        found: dict[str, object] = {"fitted_weights": self.numbers}
        if lexical and encoder.config.lexical_weight:
            found["dense_weight"] = dense / lexical * encoder.config.lexical_weight
        changes = {key: value for key, value in found.items() if key not in recipe.encoder}
        encoder.config = encoder.config.but(**changes)


def saved_words(folder: Path, about: str) -> WordFrequencies | None:
    """The words' frequencies in a checkpoint; None if it has none, or those of another ``about``.

    Raises OSError, SafetensorError or ValueError for a file that cannot be read.
    """
    if not (folder / FILE).exists():
        return None
    with safe_open(folder / FILE, framework="numpy") as file:
        if (file.metadata() or {}).get("about") != about:
            return None
        return WordFrequencies.of_arrays(*map(file.get_tensor, _WORDS))
