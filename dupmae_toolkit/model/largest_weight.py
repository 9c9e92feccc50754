"""The largest weight that an encoder gives a term of a document. It fixes the scale of impacts.

The rule: HEADROOM times the largest weight in SAMPLE documents of the training data. It was chosen
with the built-in encoder, on 15,098 texts of fifteen kinds: abstracts, articles, answers, titles,
passages, words by themselves or repeated, random tokens. The largest weight of them all is 2.30,
and few documents show nearly that. Of 300 samples of each kind, these had the smallest largest
weights; 2.30 over theirs is

    documents in the sample          500   256    64    16
    log1p_relu                      1.11  1.17  1.28  1.44
    relu (the same weights before
        the logarithm)              1.29  1.48  1.75  2.26

In 1,024 documents of the four training collections together it is 1.08, and 1.21 for relu. So 1.25
leaves nothing to clip after a training, and hardly anything where a first build of some hundreds
of documents measures. The price: impacts up to 255 have a mean error of 0.0029 instead of 0.0023,
of weights that are 0.7 on average. That moves nDCG@10 on SciFact and Cranfield by .001 at most, in
either direction, like any other scale up to four times the largest weight.
"""

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
