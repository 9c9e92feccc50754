"""Folders of sentence-transformers with tiny random weights, in the forms of its versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.tiny import tiny_lm, tiny_tokenizer

TEXTS = ["w1 w2 w3", "w4", "w7p3 w9 w9 w20 w3 w4 w5", "", "w1 w2 " * 20]
_KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def write(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), "utf-8")


def list_modules(folder: Path, *kinds: str) -> None:
    """modules.json, as version 5 writes it: the first module is in the folder itself."""
    write(
        folder / "modules.json",
        [
            {
                "idx": number,
                "name": str(number),
                "path": f"{number}_{kind}" if number else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for number, kind in enumerate(kinds)
        ],
    )


def save_sentence(
    folder: Path,
    *modes: str,
    dense: tuple[tuple[int, bool, str], ...] = (),
    normalize: bool = False,
    family: str = "bert",
    max_length: int | None = 20,
    overall: dict[str, Any] | None = None,
    seed: int = 0,
) -> tuple[Any, list[dict[str, torch.Tensor]]]:
    """Write a folder of dense vectors; returns its text model and the weights of its Dense modules.

    dense: outputs, bias and activation of each Dense module.
    """
    model = tiny_lm(family, seed).base_model
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    kinds = ["Transformer", "Pooling", *["Dense"] * len(dense), *["Normalize"] * normalize]
    list_modules(folder, *kinds)
    write(folder / "sentence_bert_config.json", {"max_seq_length": max_length})
    flags = {key: name in modes for name, key in _KEYS.items()}
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 16} | flags)
    width, layers = 16 * len(modes), []
    for number, (outputs, bias, activation) in enumerate(dense, 2):
        generator = torch.Generator().manual_seed(number)
        layer = {"linear.weight": torch.randn(outputs, width, generator=generator)}
        if bias:
            layer["linear.bias"] = torch.randn(outputs, generator=generator)
        place = folder / f"{number}_Dense"
        write(
            place / "config.json",
            {
                "in_features": width,
                "out_features": outputs,
                "bias": bias,
                "activation_function": f"torch.nn.modules.activation.{activation}"
                if activation != "Identity"
                else "torch.nn.modules.linear.Identity",
            },
        )
        save_file(layer, place / "model.safetensors")
        layers.append(layer)
        width = outputs
    write(folder / "config_sentence_transformers.json", overall or {"similarity_fn_name": "dot"})
    return model, layers


def save_splade(folder: Path, seed: int = 0, **pooling: Any) -> Any:
    """Write a SparseEncoder's folder; returns its masked LM."""
    lm = tiny_lm("bert", seed)
    lm.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    list_modules(folder, "MLMTransformer", "SpladePooling")
    write(folder / "sentence_bert_config.json", {"max_seq_length": 20})
    write(
        folder / "1_SpladePooling" / "config.json",
        {"pooling_strategy": "max", "activation_function": "relu"} | pooling,
    )
    return lm
