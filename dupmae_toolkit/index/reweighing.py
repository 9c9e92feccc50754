"""Writes weights into an index: searches that name none use them from then on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.scoring import Origin, Scoring
from dupmae_toolkit.index.updates import WAIT, changing
from dupmae_toolkit.records import EncoderInfo

PARTS = ("dense", "lexical", "bm25")


def own_scoring(index: Path, manifest: Manifest) -> Scoring:
    """The score whose weights can be set. Raises InputError for an index of an earlier version."""
    if manifest.scoring is None:
        raise InputError(
            f"{index}: was built by an earlier version, whose score has no weights of its own; "
            "`dupmae compact` adds them"
        )
    return manifest.scoring


def save_weights(
    index: str | Path,
    weights: Mapping[str, float],
    idf_power: float,
    origin: Origin,
    encoder: EncoderInfo,
    *,
    wait: float = WAIT,
) -> tuple[Scoring, Scoring]:
    """Set the weights of an index's fitted score, in one step; returns it before and after.

    weights: by part; parts that are not named keep theirs. idf_power: of the tokens' frequencies.
    origin: what they were tuned on, which the index records. encoder: that of the index they were
    tuned with. wait: seconds to wait for another process that is changing the index. Searchers that
    are open see the weights when they are refreshed. Raises InputError for an index of an earlier
    version, which has only the plain score, for weights that make no sense, and while another
    process changes the index; EncoderMismatchError if another encoder's has taken its place.
    """
    index = Path(index)
    with changing(index, wait) as state:
        manifest = state.manifest
        manifest.check_encoder(index, encoder)
        before = own_scoring(index, manifest)
        lacking = [part for part in weights if part not in manifest.parts]
        if lacking:
            raise InputError(f"{index}: has no {lacking[0]} part to weigh")
        dense, lexical, words = (
            float(weights.get(part, old)) for part, old in zip(PARTS, before.weights, strict=True)
        )
        after = replace(
            before, weights=(dense, lexical, words), idf_power=float(idf_power), origin=origin
        )
        try:
            Scoring.from_dict(after.to_dict())
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"weights cannot be kept in an index: {error}") from error
        manifest.scoring = after
        state.commit()
        return before, after
