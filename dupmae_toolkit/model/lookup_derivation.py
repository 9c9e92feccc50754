"""Derives a lookup table (``lookup.py``) from the network, without any texts.

A token's weight is the one that the network gives it in a query of this token alone. The mean over
the queries of a collection in which a token occurs ranks no better; docs/lookup.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import make_folder
from dupmae_toolkit.model.checkpoints import named_folder
from dupmae_toolkit.model.loading import load_encoder
from dupmae_toolkit.model.lookup import LOOKUP_FILE, berts_tokenizer, write_lookup
from dupmae_toolkit.model.tokens import ordinary_tokens
from dupmae_toolkit.progress import Progress, silent

#: Queries of one token that are computed at once.
_BATCH = 128


@dataclass(frozen=True, slots=True)
class Derived:
    """What ``derive_lookup`` wrote.

    tokens: how many of the vocabulary's tokens can occur in a query; special ones cannot. without:
    how many of these the network gives no weight, so that a query does not search for them. mean:
    the mean weight of the others.
    """

    path: Path
    tokens: int
    without: int
    mean: float


def derive_lookup(
    source: str | Path, *, device: str | None = None, progress: Progress = silent
) -> Derived:
    """Write the lookup table of a checkpoint beside its weights, replacing an earlier one.

    source: ``builtin``, a folder or a hub id. Raises InputError before the work for a folder that
    cannot be written, an encoder without lexical vectors and a tokenizer that is not BERT's;
    DupMAEError for weights that are not finite.
    """
    folder, name = named_folder(source)
    make_folder(folder)
    tokenizer = berts_tokenizer(folder)
    encoder = load_encoder(source, device=device, precision="fp32")
    if encoder.config.lexical_head == "none":
        raise InputError(f"{name}: has no lexical head, so a lookup table would be empty")
    prefix = encoder.config.query_prefix
    (around,) = tokenizer([prefix], True, encoder.config.query_max_length).encodings
    ordinary = ordinary_tokens(tokenizer, encoder.vocabulary_size).numpy()
    known = np.zeros(encoder.vocabulary_size, bool)
    known[list(tokenizer.get_vocab().values())] = True
    tokens = np.flatnonzero(ordinary & known)
    weights = np.zeros(encoder.vocabulary_size, np.float32)
    before, after = torch.tensor(around.ids[:-1]), torch.tensor(around.ids[-1:])
    with progress("deriving", len(tokens)) as advance:
        for start in range(0, len(tokens), _BATCH):
            part = torch.from_numpy(tokens[start : start + _BATCH])
            sides = [ids.expand(len(part), -1) for ids in (before, after)]
            batch = torch.cat([sides[0], part[:, None], sides[1]], dim=1).to(encoder.device)
            with torch.inference_mode(), encoder.autocast(queries=True):
                found = encoder(batch, torch.ones_like(batch)).lexical
            assert found is not None
            rows = torch.arange(len(part), device=found.device)
            weights[part.numpy()] = found[rows, part.to(found.device)].float().cpu().numpy()
            advance(len(part))
    if not np.isfinite(weights).all():
        raise DupMAEError(f"{name}: gives weights that are not finite; the checkpoint is damaged")
    stored = weights.astype(np.float16)
    if not np.isfinite(stored).all():
        raise DupMAEError(f"{name}: gives weights above 65,504, too large for the table")
    write_lookup(folder / LOOKUP_FILE, encoder.info, weights)
    given = stored[tokens][stored[tokens] > 0]
    mean = float(given.mean(dtype=np.float64)) if len(given) else 0.0
    return Derived(folder / LOOKUP_FILE, len(tokens), len(tokens) - len(given), mean)
