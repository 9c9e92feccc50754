"""A tiny random checkpoint of each family, with a tokenizer of the family's kind and its texts."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerFast

from dupmae_toolkit.model.checkpoints import quiet

_TEXT = (
    "a the of and to in is was for on that by with river mountain cell protein heart blood star "
    "light wave energy theory proof number graph city king war law trade ship fish bird tree seed "
    "water stone fire wind rain snow ice sun moon day night year old new small large red blue"
)
WORDS = _TEXT.split()
#: transformers' model type, and the kind of tokenizer that such models have.
FAMILIES = {
    "bert": "wordpiece",
    "distilbert": "wordpiece",
    "mpnet": "wordpiece",
    "electra": "wordpiece",
    "roberta": "bytes",
    "modernbert": "bytes",
    "xlm-roberta": "unigram",
}
LONGEST = 64  # tokens that each of them has positions for
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_SPECIAL_KEYS = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")


def sentences(count: int, seed: int = 0, words: int = 12) -> list[str]:
    """Sentences of about ``words`` words."""
    rng = random.Random(seed)
    return [
        " ".join(rng.choices(WORDS, k=rng.randint(words - 5, words + 5))).capitalize() + "."
        for _ in range(count)
    ]


def write_titled(path: Path, count: int = 60, seed: int = 500) -> None:
    """JSON lines with a title and a text of four sentences each."""
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            title, *rest = sentences(5, seed=seed + i, words=8)
            file.write(json.dumps({"title": title, "text": " ".join(rest)}) + "\n")


def make_tokenizer(kind: str = "wordpiece") -> PreTrainedTokenizerFast:
    """WordPiece as BERT's, byte-level BPE as RoBERTa's, or a unigram model as XLM-R's."""
    if kind == "wordpiece":
        names = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
        rest = [*".,?!'-", *WORDS, *_CHARACTERS, *(f"##{c}" for c in _CHARACTERS)]
        tokens = dict.fromkeys([*names, *rest])
        vocabulary = {token: i for i, token in enumerate(tokens)}
        backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        backend = _byte_pairs(names) if kind == "bytes" else _unigram(names)
    first, last = names[0], names[2]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(name, backend.token_to_id(name)) for name in (first, last)],
    )
    special = dict(zip(_SPECIAL_KEYS, names, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def _byte_pairs(names: list[str]) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=330,
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(sentences(60), trainer)
    return backend


def _unigram(names: list[str]) -> Tokenizer:
    pieces = {f"▁{word}": -4.0 for word in WORDS} | dict.fromkeys((*_CHARACTERS, *".,▁"), -9.0)
    scored = [(name, 0.0) for name in names] + list(pieces.items())
    backend = Tokenizer(models.Unigram(scored, unk_id=3))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return backend


def make_lm(family: str, tokenizer: Any, *, rows: int = 0, seed: int = 0, **changes: Any) -> Any:
    """A random masked LM of two layers, 16 wide; ``rows`` of the vocabulary, 0 as many as needed.

    Its weights are larger than those that training starts from, so that its vectors differ clearly.
    """
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    if family == "distilbert":
        sizes = {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2}
    if family == "electra":
        sizes["embedding_size"] = 16
    offset = 2 if family in ("roberta", "xlm-roberta", "mpnet") else 0
    settings = {
        "vocab_size": rows or len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "max_position_embeddings": LONGEST + offset,
        "initializer_range": 0.3,
        **sizes,
        **changes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lm = AutoModelForMaskedLM.from_config(AutoConfig.for_model(family, **settings))
        bias = lm.get_output_embeddings().bias
        if bias is not None:
            torch.nn.init.normal_(bias, std=0.3)
    return lm.float().eval()


def save_checkpoint(folder: Path, family: str = "bert", **changes: Any) -> Path:
    """An ordinary transformers folder with a tiny model of that family."""
    tokenizer = make_tokenizer(FAMILIES[family])
    with quiet():
        make_lm(family, tokenizer, **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
