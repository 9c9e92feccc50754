"""The settings of pre-training, with the published methods as presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from dupmae_toolkit.errors import InputError

CHOICES = {
    "decoder_query": ("normalized", "sum"),
    "bow_pool": ("all_but_cls", "unmasked", "cls"),
    "bow_weighting": ("frequency", "set"),
    "lexical_head": ("mlm", "projection"),
}


@dataclass(frozen=True, slots=True)
class PreTrainingConfig:
    """Three losses on one encoder: total = Σ weight · loss. A weight of 0 leaves that part out.

    mlm_weight: the encoder's masked tokens. decoder_weight: the text rebuilt from [CLS].
    bow_weight: the bag of words from the pooled vocabulary logits.
    bow_weight_end: the value of bow_weight at the last step; it changes linearly with the steps.
        None keeps it constant.
    encoder_mask_rate, decoder_mask_rate: the share of a text's tokens that is masked, whole words.
    mask_pool: the maximum number of decoder masks drawn for a text; its rows share them.
    decoder_query: ``normalized`` or ``sum``, see CLSDecoder.
    bow_pool: the tokens that logits are pooled over. ``all_but_cls``: [SEP] and [MASK] too;
        ``unmasked``: ordinary tokens that were not chosen for masking; ``cls``: [CLS] alone.
    bow_weighting: ``frequency``: 1/n for each distinct term of n tokens; ``set``: 1.
    lexical_head: as in DupMAEConfig; pre-training sets the encoder's.
    """

    mlm_weight: float = 1.0
    decoder_weight: float = 1.0
    bow_weight: float = 0.1
    bow_weight_end: float | None = None
    encoder_mask_rate: float = 0.3
    decoder_mask_rate: float = 0.5
    mask_pool: int = 256
    decoder_query: str = "normalized"
    bow_pool: str = "all_but_cls"
    bow_weighting: str = "frequency"
    lexical_head: str = "mlm"

    def __post_init__(self) -> None:
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise InputError(f"{key} {getattr(self, key)!r}: choose one of {list(choices)}")
        for key in ("mlm_weight", "decoder_weight", "bow_weight"):
            if not 0 <= getattr(self, key) < float("inf"):
                raise InputError(f"{key} {getattr(self, key)!r}: give 0 or a positive number")
        end = self.bow_weight_end
        if end is not None and not (_is_number(end) and 0 <= end < float("inf")):
            raise InputError(f"bow_weight_end {end!r}: give 0, a positive number, or null")
        if end and not self.bow_weight:
            raise InputError(f"bow_weight_end {end!r}: a bow_weight of 0 leaves that part out")
        if not (self.mlm_weight or self.decoder_weight or self.bow_weight):
            raise InputError("all three loss weights are 0: nothing would be learned")
        for key in ("encoder_mask_rate", "decoder_mask_rate"):
            if not 0 < getattr(self, key) < 1:
                raise InputError(f"{key} {getattr(self, key)!r}: give a share between 0 and 1")
        if not isinstance(self.mask_pool, int) or self.mask_pool < 1:
            raise InputError(f"mask_pool {self.mask_pool!r}: give a whole number of at least 1")

    def bow_weight_at(self, progress: float) -> float:
        """The weight of the bag of words when a share ``progress`` of the steps is done."""
        if self.bow_weight_end is None:
            return self.bow_weight
        return self.bow_weight + (self.bow_weight_end - self.bow_weight) * min(1.0, progress)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreTrainingConfig:
        """Read a checkpoint's settings; keys that this version does not know are ignored."""
        return cls(**{k: v for k, v in values.items() if k in cls.__dataclass_fields__})

    @classmethod
    def preset(cls, name: str, **changes: Any) -> PreTrainingConfig:
        """A preset by its name, with some fields changed.

        Example:
            PreTrainingConfig.preset("official", bow_weight=0.5)
        """
        if name not in PRESETS:
            raise InputError(f"preset {name!r}: choose one of {list(PRESETS)}")
        unknown = sorted(set(changes) - set(cls.__dataclass_fields__))
        if unknown:
            raise InputError(
                f"pre-training has no setting {unknown[0]!r}: choose from "
                f"{list(cls.__dataclass_fields__)}"
            )
        return replace(PRESETS[name], **changes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


#: ``official`` is what the authors' code does, ``paper`` what arXiv 2305.02564 describes.
#: ``retromae``: masked tokens and the decoder on [CLS] (arXiv 2205.12035).
#: ``bow``: masked tokens, and instead of the decoder the bag of words predicted from [CLS] alone,
#: as in "Drop your Decoder" (arXiv 2401.11248); its weight falls to 0. ``mlm``: masked tokens only.
PRESETS = {
    "official": PreTrainingConfig(),
    "paper": PreTrainingConfig(
        bow_weight=1.0,
        decoder_query="sum",
        bow_pool="unmasked",
        bow_weighting="set",
        lexical_head="projection",
    ),
    "retromae": PreTrainingConfig(bow_weight=0.0),
    "bow": PreTrainingConfig(
        decoder_weight=0.0, bow_weight=1.0, bow_weight_end=0.0, bow_pool="cls"
    ),
    "mlm": PreTrainingConfig(decoder_weight=0.0, bow_weight=0.0),
}
