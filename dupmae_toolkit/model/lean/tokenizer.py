"""BERT's tokenizer from tokenizer.json alone, without importing transformers.

If that file alone determines the tokens, they are the same as those of transformers' tokenizer of
the folder. For any other folder ``read_tokenizer`` returns None.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_CLASSES = ("BertTokenizer", "BertTokenizerFast")
#: Settings that change the tokens, and their default values.
_NORMALIZER = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
_MODEL = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
#: Settings that may have any value: they do not affect encoding.
_HARMLESS = {
    *("backend", "clean_up_tokenization_spaces", "do_basic_tokenize", "is_local", "max_length"),
    *("model_max_length", "name_or_path", "pad_to_multiple_of", "pad_token_type_id", "stride"),
    *("padding_side", "truncation_strategy", "model_input_names", "special_tokens_map_file"),
    *("tokenizer_file", "tokenizer_class", "local_files_only"),
}
#: Settings that may be present only with this value.
_USUAL = {"truncation_side": "right", "never_split": None, "extra_special_tokens": None}
#: Files with settings that are not read here: ``read_tokenizer`` returns None if there is one.
_OTHER_FILES = ("added_tokens.json", "special_tokens_map.json", "chat_template.jinja")


class PlainTokenizer:
    """The part of transformers' tokenizer interface that encoding needs."""

    is_fast = True

    def __init__(self, backend: Any) -> None:
        """backend: a ``Tokenizer`` of the library tokenizers."""
        self._backend = backend
        backend.no_padding()
        self._special = {name: backend.token_to_id(token) for name, token in _SPECIAL.items()}

    def __call__(self, texts: list[str], truncation: bool, max_length: int) -> Any:
        """An object whose ``encodings`` are the texts', truncated to ``max_length`` tokens."""
        assert truncation
        self._backend.enable_truncation(max_length)
        return SimpleNamespace(encodings=self._backend.encode_batch(texts))

    def __len__(self) -> int:
        return self._backend.get_vocab_size()

    def get_vocab(self) -> dict[str, int]:
        return self._backend.get_vocab()

    @property
    def all_special_ids(self) -> list[int]:
        return list(self._special.values())

    @property
    def unk_token_id(self) -> int:
        return self._special["unk_token"]

    @property
    def pad_token_id(self) -> int:
        return self._special["pad_token"]


def read_tokenizer(folder: Path) -> PlainTokenizer | None:
    """The tokenizer of a checkpoint's folder; None if transformers' tokens might differ."""
    if any((folder / name).exists() for name in _OTHER_FILES):
        return None
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        stated = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        if not _is_berts(stated, config):
            return None
        from tokenizers import Tokenizer

        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # whatever is wrong: transformers is tried next, and its error is reported
        return None
    known = backend.get_vocab()
    return PlainTokenizer(backend) if all(token in known for token in _SPECIAL.values()) else None


def _is_berts(stated: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether tokenizer.json is a BERT tokenizer that tokenizer_config.json does not change."""
    if config.get("tokenizer_class") not in _CLASSES:
        return False
    for key, value in config.items():
        expected = _SPECIAL.get(key, _USUAL.get(key))
        known = key in _HARMLESS or key in _NORMALIZER
        if not known and (value != expected or key not in {**_SPECIAL, **_USUAL}):
            return False
    lower, accents, chinese = (config.get(key, usual) for key, usual in _NORMALIZER.items())
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": chinese,
        "strip_accents": accents,
        "lowercase": lower,
    }
    model = {key: stated["model"].get(key) for key in _MODEL}
    single = [
        part["SpecialToken"]["id"] if "SpecialToken" in part else part["Sequence"]["id"]
        for part in stated["post_processor"]["single"]
    ]
    numbers = stated["model"]["vocab"]
    around = stated["post_processor"]["special_tokens"]
    added = [(token["content"], token["special"]) for token in stated["added_tokens"]]
    return (
        stated["normalizer"] == normalizer
        and stated["pre_tokenizer"] == {"type": "BertPreTokenizer"}
        and model == _MODEL
        and stated["model"].get("max_input_chars_per_word") == 100
        and stated["post_processor"]["type"] == "TemplateProcessing"
        and single == ["[CLS]", "A", "[SEP]"]
        and all(around[token]["ids"] == [numbers[token]] for token in ("[CLS]", "[SEP]"))
        and sorted(added) == sorted((token, True) for token in _SPECIAL.values())
    )
