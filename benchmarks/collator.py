"""Making a pre-training batch, against the published algorithm in plain Python.

The peer is written here from the description of the algorithm (RetroMAE, DupMAE). It takes one text
at a time and puts words together from the tokens' strings. Each mask shuffles the words and takes
those that fit. A text of L tokens gets a pool of min(L, 256) such masks, and each of its rows draws
one. The terms of a text are counted into an array as wide as the vocabulary.

Times are CPU times of one thread, so that other work on the machine does not count.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Row, Sizes
from dupmae_toolkit.model.presets import PreTrainingConfig
from dupmae_toolkit.training.data.collator import PreTrainingCollator

WORDS, PIECES = 28_000, 2_517
POOL, IGNORED = 256, -100
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """``run`` with a batch of a training's size, or smaller."""
    return run(min(sizes.documents, 32))


def run(texts: int = 32, length: int = 512, rounds: int = 3) -> list[Row]:
    """One row: for each side the best of ``rounds``, on one thread."""
    import torch

    tokenizer = make_tokenizer()
    examples = make_texts(texts, length)
    ours = PreTrainingCollator(tokenizer, PreTrainingConfig.preset("official"))
    peer = PlainCollator(tokenizer)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours(examples[:1])  # imports and caches do not count
        best = [min(_cpu_s(make, examples) for _ in range(rounds)) for make in (ours, peer)]
    finally:
        torch.set_num_threads(threads)
    work = f"a pre-training batch of {texts} × {length} tokens, one thread"
    found = agreement(ours, peer, examples)
    return [Row(work, "the published algorithm in plain Python", *best, found)]


def _cpu_s(make: Any, examples: Any) -> float:
    start = time.process_time()
    make(examples)
    return time.process_time() - start


def agreement(ours: Any, peer: Any, examples: list[dict[str, list[int]]]) -> str:
    """Whether the targets that are not random are equal, and what shares of tokens are drawn."""
    a, b = ours(examples), peer(examples)
    dense = np.zeros(b["bow"].shape, np.float32)
    np.put_along_axis(dense, a["bow_ids"].numpy(), a["bow_weights"].numpy(), axis=1)
    # Padding is term 0 of weight 0, and no text holds term 0.
    same = np.allclose(dense, b["bow"]) and bool((a["decoder_labels"].numpy() == b["labels"]).all())
    masked = [float(np.mean(found != IGNORED)) for found in (a["labels"].numpy(), b["mlm"])]
    visible = [float(v.mean()) for v in (a["decoder_attention_mask"].numpy(), b["visible"])]
    shares = [
        f"{name} {x:.3f} and {y:.3f}"
        for name, (x, y) in {"masked": masked, "seen": visible}.items()
    ]
    return ("the same targets, " if same else "OTHER targets, ") + ", ".join(shares)


class PlainCollator:
    """The published algorithm, one text and one mask at a time."""

    def __init__(self, tokenizer: Any, seed: int = 0) -> None:
        self.tokenizer = tokenizer
        self.rng = random.Random(seed)
        self.size = len(tokenizer)
        self.special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}

    def __call__(self, examples: list[dict[str, list[int]]]) -> dict[str, np.ndarray]:
        longest = max(len(example["input_ids"]) for example in examples)
        shown, mlm, labels, bags = [], [], [], []
        visible = np.zeros((len(examples), longest, longest), dtype=bool)
        for number, example in enumerate(examples):
            ids = list(example["input_ids"])
            tokens = self.tokenizer.convert_ids_to_tokens(ids)
            mask = self.mask(tokens, ids, 0.3)
            corrupted = [
                self.corrupt(t) if hidden else t for t, hidden in zip(ids, mask, strict=True)
            ]
            padding = longest - len(ids)
            shown.append(corrupted + [0] * padding)
            mlm.append(
                [t if m else IGNORED for t, m in zip(ids, mask, strict=True)] + [IGNORED] * padding
            )
            labels.append([IGNORED if t in self.special else t for t in ids] + [IGNORED] * padding)
            pool = [self.mask(tokens, ids, 0.5) for _ in range(min(len(ids), POOL))]
            for row in range(len(ids)):
                drawn = list(self.rng.choice(pool))
                drawn[row] = True
                visible[number, row, : len(ids)] = [not hidden for hidden in drawn]
            bags.append(self.bag(ids))
        return {
            "shown": np.asarray(shown),
            "mlm": np.asarray(mlm),
            "labels": np.asarray(labels),
            "visible": visible,
            "bow": np.stack(bags),
        }

    def mask(self, tokens: list[str], ids: list[int], rate: float) -> list[bool]:
        """One whole-word mask: goes through the words in random order, takes those that fit."""
        words: list[list[int]] = []
        for place, (token, number) in enumerate(zip(tokens, ids, strict=True)):
            if number in self.special:
                continue
            if words and token.startswith("##"):
                words[-1].append(place)
            else:
                words.append([place])
        self.rng.shuffle(words)
        room = max(1, round(len(tokens) * rate))
        hidden: set[int] = set()
        for word in words:
            if len(hidden) >= room:
                break
            if len(hidden) + len(word) <= room:
                hidden.update(word)
        return [place in hidden for place in range(len(tokens))]

    def corrupt(self, token: int) -> int:
        """[MASK] in eight of ten cases, any token in one, the token itself in one."""
        draw = self.rng.random()
        if draw < 0.8:
            return self.tokenizer.mask_token_id
        return self.rng.randrange(len(SPECIAL), self.size) if draw < 0.9 else token

    def bag(self, ids: list[int]) -> np.ndarray:
        """1/n for each distinct term of n, in float32 [|V|]."""
        words = [token for token in ids if token not in self.special]
        bag = np.zeros(self.size, dtype=np.float32)
        for word in set(words):
            bag[word] = 1 / len(words)
        return bag


def make_tokenizer() -> Any:
    """WordPiece over made-up words, with as many entries as BERT's."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = [*SPECIAL, *(f"w{i}" for i in range(WORDS)), *(f"##p{i}" for i in range(PIECES))]
    model = models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def make_texts(count: int, length: int, seed: int = 0) -> list[dict[str, list[int]]]:
    """Texts of ``length`` tokens: words by Zipf's law, every seventh with one or two pieces."""
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(10, WORDS + 10)
    texts = []
    for _ in range(count):
        ids: list[int] = []
        for word in rng.choice(WORDS, size=length, p=chance / chance.sum()):
            pieces = int(rng.integers(1, 3)) if rng.random() < 1 / 7 else 0
            first = len(SPECIAL) + WORDS
            ids += [
                len(SPECIAL) + int(word),
                *(first + rng.integers(0, PIECES, size=pieces)).tolist(),
            ]
        texts.append({"input_ids": [2, *ids[: length - 2], 3]})
    return texts
