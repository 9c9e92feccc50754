"""The largest weight that an encoder gives a term of a document. It fixes the scale of impacts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dupmae_toolkit.model.text_encoder import TextEncoder

#: The largest weight over the largest one that was seen.
HEADROOM = 1.25
#: Documents that a training measures on.
SAMPLE = 1024


def with_headroom(largest: float) -> float:
    """The weight that should become the largest impact, if ``largest`` is the largest one seen."""
    return HEADROOM * largest


def measured_largest_weight(encoder: TextEncoder, texts: Sequence[str]) -> float:
    """What ``DupMAEConfig.largest_weight`` should be: of these documents' weights, with headroom.

    texts: as ``Document.contents`` gives them. Three significant digits; 0 if no text has a term.

    Example:
        encoder.config = encoder.config.but(largest_weight=measured_largest_weight(encoder, texts))
    """
    config = encoder.config
    try:
        encoder.config = config.but(top_k=1)  # the largest weight of each text is enough
        weights = encoder.encode_documents(list(texts)).lexical.data
    finally:
        encoder.config = config
    return float(f"{with_headroom(float(weights.max())):.3g}") if len(weights) else 0.0
