"""M3Encoder: both vectors of BGE-M3 and models like it (Chen et al., 2024, arXiv 2402.03216).

The dense vector is [CLS], scaled to length one. A token's weight is ReLU(w · h + b) of its hidden
state, the largest where it occurs several times; special and unknown tokens have none, as in
FlagEmbedding. The third kind of vector, one for each token, is not used.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.checkpoints import load_text_model
from dupmae_toolkit.model.heads import EncoderOutput
from dupmae_toolkit.model.modules import MODULES, SPARSE_FILES, Modules, read_modules
from dupmae_toolkit.model.sentence import SentenceEncoder, settings_of

_COLBERT_FILES = ("colbert_linear.safetensors", "colbert_linear.pt")
#: torch's names of the numbers in a .pt file, with their sizes in bytes.
_STORAGES = {
    "torch FloatStorage": (torch.float32, 4),
    "torch HalfStorage": (torch.float16, 2),
    "torch BFloat16Storage": (torch.bfloat16, 2),
}
_MOST_PICKLE = 1 << 16
_TWIN = (
    "write its weight and bias as sparse_linear.safetensors (safetensors.torch.save_file), on a "
    "machine where you trust it"
)


class M3Encoder(SentenceEncoder):
    """See the module. ``lexical_head`` is ``tokens``, or ``none`` for dense vectors alone."""

    #: ``weight`` [1, H] and ``bias`` [1] of the layer.
    sparse: dict[str, Tensor]

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        top_k: int | None = None,
        lexical: bool = True,
    ) -> EncoderOutput:
        """See ``TextEncoder``."""
        if self.pooling == "none":
            hidden = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
            nothing = hidden.new_zeros((len(hidden), 0), dtype=torch.float32)
            output = EncoderOutput(nothing, None, hidden[:, 0], hidden)
        else:
            output = super().__call__(input_ids, attention_mask)
        if self.config.lexical_head == "none" or not lexical:
            return output
        with torch.autocast(self.device.type, enabled=False):
            weights = torch.relu(functional.linear(output.hidden.float(), **self.sparse))[..., 0]
            counts = attention_mask.bool() & ~torch.isin(input_ids, self._special)
            weights = weights * counts
            found = weights.new_zeros((len(weights), self.vocabulary_size))
            found.scatter_reduce_(1, input_ids, weights, "amax")
        return output._replace(lexical=found)

    @cached_property
    def _special(self) -> Tensor:
        names = ("cls", "sep", "eos", "bos", "pad", "unk")
        ids = [getattr(self.tokenizer, f"{name}_token_id", None) for name in names]
        return torch.tensor([i for i in ids if i is not None], device=self.device)

    @property
    def dense_dim(self) -> int:
        return 0 if self.pooling == "none" else super().dense_dim

    def _named(self) -> dict[str, Tensor]:
        return super()._named() | {f"sparse.{key}": value for key, value in self.sparse.items()}


def read_m3(
    folder: Path,
    name: str,
    changes: Mapping[str, Any],
    *,
    device: str | None = None,
    precision: str = "auto",
    pooling: str | None = None,
) -> M3Encoder:
    """The encoder of a folder with one of SPARSE_FILES; InputError if it cannot be read."""
    if pooling not in (None, "cls", "none"):
        raise InputError(f"{name}: pooling {pooling!r}; choose cls or none")
    modules = Modules(folder, folder, pooling="cls", normalize=True)
    if (folder / MODULES).is_file():
        modules = read_modules(folder)
    if modules.pooling != "cls" or modules.steps or modules.activation:
        raise InputError.at(
            folder / MODULES,
            None,
            f"not a model of BGE-M3's kind, although {SPARSE_FILES[-1]} lies beside it",
            "a text model and cls pooling are needed",
        )
    config = settings_of(modules, {"lexical_head": "tokens", "activation": "relu"})
    config = config.but(**changes)
    if config.lexical_head not in ("tokens", "none") or config.activation != "relu":
        raise InputError(f"{name}: its tokens have weights of their own; leave out lexical_head")
    model, tokenizer = load_text_model(modules.folder)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    layer = _read_layer(folder, model.config.hidden_size)
    encoder = M3Encoder(model, tokenizer, modules, [], config, name, precision)
    try:
        model.to(place)
        encoder.sparse = {key: value.to(place) for key, value in layer.items()}
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used: {reason}") from error
    encoder.pooling = pooling or "cls"
    colbert = any((folder / each).is_file() for each in _COLBERT_FILES)
    ignored = "; its vectors of single tokens (colbert) are not used" if colbert else ""
    encoder.remarks = (f"{name}: both vectors as of BGE-M3{ignored}",)
    return encoder


def _read_layer(folder: Path, width: int) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = next(folder / name for name in SPARSE_FILES if (folder / name).is_file())
    if path.suffix == ".pt":
        return _read_archive(path, width)
    try:
        layer = {key: value.float() for key, value in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise InputError.at(path, None, f"cannot be read ({error})", "copy it again") from error
    shapes = {key: tuple(value.shape) for key, value in layer.items()}
    if shapes != {"weight": (1, width), "bias": (1,)}:
        raise InputError.at(path, None, f"holds {shapes}; weight [1, {width}] and bias [1] needed")
    return layer


def _read_archive(path: Path, width: int) -> dict[str, Tensor]:
    """The layer of a .pt file, read without unpickling it.

    Such a file is a zip of raw numbers and of a pickle that says how they belong together. Running
    a pickle can run code; here its instructions are only listed, for the type of the numbers. That
    ``width`` of them are the weight, and a single one the bias, leaves nothing else to ask.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
            pickled, numbers = entries.get("data.pkl"), [entries.get(f"data/{n}") for n in (0, 1)]
            if pickled is None or None in numbers or pickled.file_size > _MOST_PICKLE:
                raise ValueError("it is no archive of two tensors")
            order = entries.get("byteorder")
            if order and (order.file_size > 16 or archive.read(order).strip() != b"little"):
                raise ValueError("its numbers are big-endian")
            listed = pickletools.genops(io.BytesIO(archive.read(pickled)))
            kinds = {str(a) for op, a, _ in listed if op.name == "GLOBAL" and a in _STORAGES}
            if len(kinds) != 1:
                raise ValueError("its numbers are of no single known type")
            dtype, size = _STORAGES[kinds.pop()]
            tensors = {}
            for entry in numbers:
                assert entry is not None
                shape = {width * size: (1, width), size: (1,)}.get(entry.file_size)
                if shape is None:
                    raise ValueError(f"a tensor of {entry.file_size} bytes for {width} numbers")
                raw = np.frombuffer(archive.read(entry), np.uint8).copy()
                name = "weight" if len(shape) == 2 else "bias"
                tensors[name] = torch.from_numpy(raw).view(dtype).float().reshape(shape)
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, KeyError, EOFError) as error:
        raise InputError.at(path, None, f"cannot be read ({error})", _TWIN) from error
    if set(tensors) != {"weight", "bias"}:
        raise InputError.at(path, None, "does not hold a weight and a bias", _TWIN)
    return tensors
