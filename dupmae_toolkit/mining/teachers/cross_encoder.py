"""A cross-encoder as a teacher: query and text in one sequence, one score."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.mining.examples import Example
from dupmae_toolkit.model import backbones
from dupmae_toolkit.model.checkpoints import load_classifier
from dupmae_toolkit.model.precision import PRECISIONS, takes_bf16
from dupmae_toolkit.model.tokens import CHARACTERS_PER_TOKEN, batches, beginning, pad
from dupmae_toolkit.model.weights import hash_weights

#: Tokens of a batch, padding included.
TOKENS_ON_CPU, TOKENS_ON_DEVICE = 4096, 65_536
_LONGEST = 1 << 20  # tokenizers without a limit state an absurdly large one


class CrossEncoder:
    """Any sequence classifier of transformers.

    With one label the score is its logit. With several it is the log-odds of the chosen label: its
    logit minus the log-sum-exp of the others. For two labels that is the difference of the logits,
    which corresponds to the single logit of a model with a sigmoid.

    label: number or name of the label, if there are several. max_length: tokens of query and text
    together, including special ones; by default as many as tokenizer and model allow. A longer pair
    is truncated, the longer of the two first. precision: ``auto`` (bf16 where the hardware has it),
    ``fp32`` or ``bf16``.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        label: str | None = None,
        max_length: int | None = None,
        device: str | None = None,
        precision: str = "auto",
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r}: choose one of auto, fp32, bf16")
        self.name = str(source)
        self.model, self.tokenizer = load_classifier(source)
        self.label = self._choose(label)
        self.max_length = self._length(max_length)
        if self.tokenizer.pad_token_id is None:
            raise InputError(f"{source}: its tokenizer has no padding token; give it one")
        self.model.config.pad_token_id = self.tokenizer.pad_token_id
        try:
            self.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"device {device!r} cannot be used: {reason}") from error
        kind = self.model.device.type
        self.bf16 = takes_bf16(precision, kind)
        self.cut = 0  # pairs that were longer than max_length

    def describe(self) -> dict[str, Any]:
        labels = self.model.config.num_labels
        return {
            "kind": "cross-encoder",
            "model": self.name,
            "weights_sha256": self._weights_sha256,
            "score": "logit" if labels == 1 else f"log-odds of label {self.label} of {labels}",
            "max_length": self.max_length,
            "precision": "bf16" if self.bf16 else "fp32",
        }

    def score(self, examples: Sequence[Example]) -> np.ndarray:
        """The score of each passage, float64 [passages]; see ``Teacher``."""
        pairs = [(e.query, passage.contents) for e in examples for passage in e.passages]
        return self.score_pairs(pairs)

    @torch.inference_mode()
    def score_pairs(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """The score of each pair of query and text, float64 [n].

        Raises DupMAEError if the model gives numbers that are not finite.
        """
        if not pairs:
            return np.zeros(0)
        encodings = self._tokenize(pairs)
        lengths = [len(encoding.ids) for encoding in encodings]
        scores = np.empty(len(pairs))
        tokens = TOKENS_ON_CPU if self.model.device.type == "cpu" else TOKENS_ON_DEVICE
        waiting = list(batches(lengths, tokens, most=tokens))[::-1]
        while waiting:
            places = waiting.pop()
            found = self._forward([encodings[place] for place in places])
            if found is None:
                half = len(places) // 2
                waiting += [places[half:], places[:half]]
                continue
            scores[places] = found
        if not np.isfinite(scores).all():
            bad = pairs[int(np.flatnonzero(~np.isfinite(scores))[0])][0]
            raise DupMAEError(
                f"{self.name}: a score of query {bad[:60]!r} is not finite; the weights are "
                "damaged, or too large for this precision (try fp32)"
            )
        return scores

    def _tokenize(self, pairs: Sequence[tuple[str, str]]) -> list[Any]:
        limit = self.max_length * CHARACTERS_PER_TOKEN
        short = [(beginning(query, limit), beginning(text, limit)) for query, text in pairs]
        found = self._encode(short)
        for place, pair in enumerate(pairs):
            # If tokens are long, the text that was cut beforehand may be needed after all.
            if short[place] != pair and not found[place].overflowing:
                found[place] = self._encode([pair])[0]
        self.cut += sum(bool(encoding.overflowing) for encoding in found)
        return found

    def _encode(self, pairs: Sequence[tuple[str, str]]) -> list[Any]:
        encodings = self.tokenizer(
            [query for query, _ in pairs],
            [text for _, text in pairs],
            truncation="longest_first",
            max_length=self.max_length,
        ).encodings
        if encodings is None:
            raise InputError(f"{self.name}: its tokenizer has no fast version; save one with it")
        return list(encodings)

    def _forward(self, encodings: Sequence[Any]) -> np.ndarray | None:
        """Scores of a batch; None if it must be halved to fit into the device's memory."""
        device = self.model.device
        ids, mask = pad([encoding.ids for encoding in encodings], self.tokenizer.pad_token_id)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self._takes_types:
            inputs["token_type_ids"] = pad([encoding.type_ids for encoding in encodings], 0)[0]
        try:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.bf16):
                logits = self.model(**{k: v.to(device) for k, v in inputs.items()}).logits
        except torch.cuda.OutOfMemoryError as error:
            if len(encodings) > 1:
                return None
            raise DupMAEError(
                f"{device}: no memory left for a single pair of {ids.shape[1]} tokens; free some, "
                "lower --max-length (max_length=…), or name another device"
            ) from error
        logits = logits.float()
        if logits.shape[1] == 1:
            return logits[:, 0].cpu().numpy()
        others = torch.arange(logits.shape[1], device=logits.device) != self.label
        odds = logits[:, self.label] - logits[:, others].logsumexp(dim=1)
        return odds.cpu().numpy()

    @cached_property
    def _takes_types(self) -> bool:
        """Whether the model distinguishes query and text by token types."""
        return (
            "token_type_ids" in inspect.signature(self.model.forward).parameters
            and "token_type_ids" in self.tokenizer.model_input_names
            and (getattr(self.model.config, "type_vocab_size", 0) or 0) > 1
        )

    @cached_property
    def _weights_sha256(self) -> str:
        return hash_weights(self.model.state_dict())

    def _choose(self, label: str | None) -> int:
        config = self.model.config
        names = {int(number): str(name) for number, name in config.id2label.items()}
        shown = ", ".join(f"{number} ({name})" for number, name in sorted(names.items()))
        if label is None:
            if config.num_labels == 1:
                return 0
            raise InputError(
                f"{self.name}: has {config.num_labels} labels, {shown}; say which one means "
                "that the text answers, with --label (label=…)"
            )
        chosen = [n for n, name in names.items() if label in (str(n), name)]
        if len(chosen) != 1:
            raise InputError(f"{self.name}: has no label {label!r}; there is {shown}")
        return chosen[0]

    def _length(self, asked: int | None) -> int:
        room = min(int(self.tokenizer.model_max_length), backbones.positions(self.model), _LONGEST)
        if asked is None:
            return room
        least = self.tokenizer.num_special_tokens_to_add(pair=True) + 2
        if not least <= asked <= room:
            raise InputError(f"{self.name}: max length {asked}; give {least} to {room} tokens")
        return asked
