"""Encoders for inference: read without transformers where possible, with it otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.text_encoder import TextEncoder


def load_encoder(
    source: str | Path,
    *,
    device: str | None = None,
    precision: str = "auto",
    pooling: str | None = None,
    **changes: Any,
) -> TextEncoder:
    """An encoder for inference only; it loads seconds faster than a DupMAEEncoder.

    Of a checkpoint of this toolkit, arguments, vectors and errors are those of
    ``DupMAEEncoder.from_pretrained``. Of a folder of sentence-transformers, they are what its
    modules.json says: dense vectors, or those of a SPLADE model.

    Any other masked LM gives lexical vectors alone, by SPLADE's formula, since nothing says that
    its [CLS] was ever trained. pooling: ``cls`` takes it nevertheless, and computes both vectors
    as of a checkpoint of this toolkit; ``none`` takes the lexical vectors of one of those alone.

    ``DENSE+LEXICAL`` pairs two encoders, see ``PairEncoder``: lengths limit both, prefixes and
    pooling are the first one's. ``NAME:…`` calls the encoder that an installed package registered
    as NAME, see ``plugins``; it is then what that package makes.
    """
    from dupmae_toolkit.model.checkpoints import named_folder
    from dupmae_toolkit.model.modules import MODULES, SPARSE_FILES
    from dupmae_toolkit.model.pair_names import names_of_pair
    from dupmae_toolkit.model.plugins import load_plugin, plugin

    if isinstance(source, str) and (pair := names_of_pair(source)):
        return _read_pair(*pair, device, precision, pooling, changes)
    if isinstance(source, str) and (found := plugin(source)):
        settings = {"device": device, "precision": precision, "pooling": pooling}
        made: TextEncoder = load_plugin(*found, settings | changes)
        return made

    folder, name = named_folder(source)
    declared = _is_declared(folder)
    if not declared and any((folder / each).is_file() for each in SPARSE_FILES):
        from dupmae_toolkit.model.m3 import read_m3

        where: dict[str, Any] = {"device": device, "precision": precision}
        return read_m3(folder, name, changes, pooling=pooling, **where)
    if not declared and (folder / MODULES).is_file():
        return _read_modules(folder, name, device, precision, pooling, changes)
    if pooling not in (None, "cls", "none"):
        raise InputError(f"{source}: pooling {pooling!r}; choose cls or none")
    if declared or pooling == "cls":
        encoder = _read(folder, name, device, precision, changes)
        if pooling == "none":
            _make_lexical(encoder, source)
        return encoder
    encoder = _read(folder, name, device, precision, {"top_k": 0} | _given(changes))
    _make_lexical(encoder, source)
    encoder.pools_special = True
    encoder.remarks = (
        f"{name}: a masked LM that says nothing of a dense vector: lexical vectors alone, as "
        "SPLADE's; --dense cls (pooling='cls') takes its [CLS] too",
    )
    return encoder


def _read_pair(
    dense: str,
    lexical: str,
    device: str | None,
    precision: str,
    pooling: str | None,
    changes: dict[str, Any],
) -> TextEncoder:
    from dupmae_toolkit.model.pair import PairEncoder, limited

    if changes.get("lexical_head") is not None or changes.get("dense_dim") is not None:
        raise InputError(f"{dense}+{lexical}: a pair takes both as they are")
    where: dict[str, Any] = {"device": device, "precision": precision}
    own: dict[str, Any] = {key: changes.get(key) for key in ("prefix", "query_prefix", "normalize")}
    terms: dict[str, Any] = {
        key: changes.get(key) for key in ("top_k", "query_top_k", "activation")
    }
    first = load_encoder(dense, pooling=pooling, lexical_head="none", **where, **own)
    second = load_encoder(lexical, pooling="none", **where, **terms)
    return PairEncoder(limited(first, changes), limited(second, changes))


def _is_declared(folder: Path) -> bool:
    """Whether a checkpoint's config.json has settings of this toolkit."""
    from dupmae_toolkit.files import read_json

    try:
        config = read_json(folder / "config.json")
    except InputError:  # reported when it is loaded
        return False
    return isinstance(config, dict) and "dupmae" in config


def _given(changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in changes.items() if value is not None}


def _make_lexical(encoder: TextEncoder, source: str | Path) -> None:
    if encoder.config.lexical_head == "none":
        raise InputError(
            f"{source}: with neither a pooling nor a lexical head no vector is left; leave out one "
            "of the two"
        )
    encoder.pooling = "none"


def _read_modules(
    folder: Path,
    name: str,
    device: str | None,
    precision: str,
    pooling: str | None,
    changes: dict[str, Any],
) -> TextEncoder:
    from dupmae_toolkit.model.modules import read_modules
    from dupmae_toolkit.model.sentence import read_sentence_encoder, settings_of

    modules = read_modules(folder)
    if pooling not in (None, modules.pooling):
        raise InputError(
            f"{name}: its modules.json says {modules.pooling!r} where the pooling {pooling!r} is "
            "asked for; leave that out, and build indexes of it again"
        )
    if not modules.activation:
        return read_sentence_encoder(modules, name, changes, device=device, precision=precision)
    if modules.lower:
        raise InputError(
            f"{name}: lower-cases its texts (do_lower_case), which is not supported for a masked "
            "LM; save it with a tokenizer that does"
        )
    settings = settings_of(modules, changes).to_dict()
    encoder = _read(modules.folder, name, device, precision, settings)
    _make_lexical(encoder, name)
    encoder.pools_special = True
    encoder.remarks = (f"{name}: lexical vectors alone, SPLADE's, as its modules.json says",)
    return encoder


def _read(
    folder: Path, name: str, device: str | None, precision: str, changes: dict[str, Any]
) -> TextEncoder:
    """The encoder of a masked LM's folder, with both vectors."""
    import torch

    from dupmae_toolkit.model.checkpoints import check_files
    from dupmae_toolkit.model.lean.encoder import read_lean_encoder
    from dupmae_toolkit.model.plausible import check_config
    from dupmae_toolkit.model.precision import PRECISIONS

    on_cpu = device == "cpu" or (device is None and not torch.cuda.is_available())
    if on_cpu and precision in PRECISIONS:
        check_files(folder)
        check_config(folder)
        encoder = read_lean_encoder(folder, name, changes, precision)
        if encoder is not None:
            return encoder
    from dupmae_toolkit.model.encoder import DupMAEEncoder

    made = DupMAEEncoder.from_pretrained(folder, device=device, precision=precision, **changes)
    made.name = name
    return made
