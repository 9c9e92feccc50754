"""Tiny random masked language models of every supported family, and a tokenizer for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    DistilBertConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLMRobertaConfig,
)

from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.encoder import DupMAEEncoder

FAMILIES = ("bert", "distilbert", "roberta", "xlm-roberta", "mpnet", "modernbert")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZE = 64  # entries of the vocabulary: special ones, words w0 … w49, pieces ##p0 … ##p8


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over a made-up vocabulary: "w7p3" is the two tokens w7 ##p3."""
    tokens = SPECIAL + [f"w{i}" for i in range(50)] + [f"##p{i}" for i in range(9)]
    assert len(tokens) == SIZE
    backend = Tokenizer(
        models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]")  # type: ignore[call-arg]
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def tiny_config(family: str, size: int = SIZE, **changes: Any) -> Any:
    """16 wide, two layers, two heads, 40 positions; dropout as the family has it."""
    common: dict[str, Any] = {
        "vocab_size": size,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 40,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "initializer_range": 0.2,
    }
    if family == "distilbert":
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
            common.pop(name)
        common.update(dim=16, n_layers=2, n_heads=2, hidden_dim=common.pop("intermediate_size"))
        return DistilBertConfig(**{**common, **changes})
    if family == "modernbert":
        common.update(cls_token_id=2, sep_token_id=3, initializer_cutoff_factor=2.0)
        return ModernBertConfig(**{**common, **changes})
    kind = {
        "bert": BertConfig,
        "roberta": RobertaConfig,
        "xlm-roberta": XLMRobertaConfig,
        "mpnet": MPNetConfig,
    }[family]
    if family == "mpnet":  # its padding index is 1, whatever its config says
        common.update(pad_token_id=1)
    return kind(**{**common, **changes})


def tiny_lm(family: str = "bert", seed: int = 0, **changes: Any) -> Any:
    """A random masked LM; biases and norms are drawn too, so that none can be forgotten unseen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lm = AutoModelForMaskedLM.from_config(tiny_config(family, **changes))
        for name, parameter in lm.named_parameters():
            if parameter.dim() == 1:
                centre = 1.0 if "weight" in name else 0.0
                torch.nn.init.normal_(parameter, mean=centre, std=0.2)
    return lm.eval()


def tiny_encoder(family: str = "bert", seed: int = 0, **changes: Any) -> DupMAEEncoder:
    return DupMAEEncoder(
        tiny_lm(family, seed, **changes), tiny_tokenizer(), DupMAEConfig(), family, "fp32"
    )


def save_tiny(folder: Path, family: str = "bert", seed: int = 0, **changes: Any) -> Any:
    """Write a tiny checkpoint with settings of this toolkit; returns the model."""
    lm = tiny_lm(family, seed, **changes)
    lm.config.dupmae = {}
    lm.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return lm
