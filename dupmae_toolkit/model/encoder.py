"""DupMAEEncoder: one pass over a text gives a dense and a lexical vector."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import replace_folder
from dupmae_toolkit.model import backbones
from dupmae_toolkit.model.checkpoints import load_masked_lm, named_folder, quiet
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.heads import pooled_logits
from dupmae_toolkit.model.lean.bert import LeanBert
from dupmae_toolkit.model.lean.bf16 import LEAN
from dupmae_toolkit.model.precision import (
    PRECISIONS,
    CastCopy,
    Fingerprint,
    fingerprint,
    takes_bf16,
)
from dupmae_toolkit.model.text_encoder import (
    EncoderOutput,
    TextEncoder,
    ordinary_tokens,
    output_of,
)
from dupmae_toolkit.model.weights import (
    EXTRA_WEIGHTS,
    hash_weights,
    load_projection,
    save_projection,
    stored_weights,
)

_CASTING = threading.Lock()


class DupMAEEncoder(TextEncoder, nn.Module):
    """A masked LM whose [CLS] is the dense vector and whose vocabulary head gives the lexical one.

    Example:
        encoder = DupMAEEncoder.from_pretrained("builtin")
        vectors = encoder.encode_queries(["how do I parse a date"])
        vectors.dense.shape, vectors.lexical.nnz
    """

    ordinary: Tensor

    def __init__(
        self,
        lm: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: DupMAEConfig,
        name: str = "unnamed",
        precision: str = "auto",
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r}: choose one of {list(PRECISIONS)}")
        if not tokenizer.is_fast:
            raise InputError(f"{name}: its tokenizer has no fast version; save one with it")
        self.lm = lm
        self.tokenizer = tokenizer
        self.config = config
        self.name = name
        self.precision = precision
        hidden = lm.config.hidden_size
        self.dense_projection = (
            nn.Linear(hidden, config.dense_dim, bias=False) if config.dense_dim else None
        )
        rows: Any = lm.get_input_embeddings()
        table = ordinary_tokens(tokenizer, rows.weight.shape[0])
        self.register_buffer("ordinary", table, persistent=False)
        self._cast: CastCopy | None = None
        self._lean_copy: tuple[str, Fingerprint, LeanBert | None] | None = None
        self._hashed: tuple[Fingerprint, str] | None = None

    # --- the network

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pool_mask: Tensor | None = None,
        *,
        most: int | None = None,
    ) -> EncoderOutput:
        """Both vectors of a batch.

        input_ids, attention_mask: int64 [B, L]. pool_mask: bool [B, L], the tokens that the lexical
        pool sees; by default every token that is neither padding nor special. most: lexical weights
        that are not among the so many largest of a text (0: all that there are) may be 0.
        """
        lean = self._lean()

        def bag_of_words() -> Tensor:
            ordinary = attention_mask.bool() & self.ordinary[input_ids]
            pool = ordinary if pool_mask is None else pool_mask
            return self._bag_of_words(hidden, pool, lean, most)

        with self._dtypes_of(lean):
            if lean is not None:
                hidden = lean.hidden_states(input_ids, attention_mask)
            else:
                hidden = backbones.hidden_states(self._lm(), input_ids, attention_mask)
            return output_of(self.config, hidden, self.dense_projection, bag_of_words)

    def bag_of_words(self, hidden: Tensor, pool_mask: Tensor) -> Tensor:
        """Pooled vocabulary logits μ, float32 [B, |V|], before the activation."""
        lean = self._lean()
        with self._dtypes_of(lean):
            return self._bag_of_words(hidden, pool_mask, lean)

    def _bag_of_words(
        self, hidden: Tensor, pool_mask: Tensor, lean: LeanBert | None, most: int | None = None
    ) -> Tensor:
        lm, features = self._lm(), hidden
        weight, bias = backbones.vocabulary_projection(lm)
        if self.config.lexical_head == "mlm":
            features = lean.transform(hidden) if lean else backbones.transform(lm, hidden)
        if lean is not None:
            return lean.pooled_logits(features, bias, pool_mask, most)
        return pooled_logits(features, weight, bias, pool_mask)

    def _dtypes_of(self, lean: LeanBert | None) -> contextlib.AbstractContextManager[None]:
        """Without autocast where the layers know themselves what is in bf16."""
        if lean is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, enabled=False)

    def _lean(self) -> LeanBert | None:
        """The backbone for inference on a CPU, where it is one that ``lean`` knows."""
        if self.training or torch.is_grad_enabled() or self.device.type != "cpu":
            return None
        arithmetic = "fp32"
        if torch.is_autocast_enabled("cpu"):
            if torch.get_autocast_dtype("cpu") != torch.bfloat16:
                return None
            arithmetic = "bf16"
        now = fingerprint(self.lm)
        with _CASTING:
            if self._lean_copy is None or self._lean_copy[:2] != (arithmetic, now):
                self._lean_copy = arithmetic, now, LEAN[arithmetic].of(self.lm)
            return self._lean_copy[2]

    def _lm(self) -> Any:
        """The masked LM; for inference under autocast a copy that is cast already."""
        kind = self.device.type
        if self.training or torch.is_grad_enabled() or not torch.is_autocast_enabled(kind):
            return self.lm
        dtype = torch.get_autocast_dtype(kind)
        with _CASTING:  # batches run side by side, and one copy is enough
            if self._cast is None or not self._cast.fits(self.lm, dtype):
                self._cast = CastCopy.of(self.lm, dtype)
            return self._cast.module

    def __getstate__(self) -> dict[str, Any]:
        """Without the copies for inference, which whoever copies or loads it makes again."""
        return self.__dict__ | {"_cast": None, "_lean_copy": None}

    def train(self, mode: bool = True) -> DupMAEEncoder:
        """As in any module; copies for inference are given up, since training outdates them."""
        if mode:
            self._cast = self._lean_copy = None
        return super().train(mode)

    # --- where and how it computes

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Products in bf16 where the precision says so and, under ``auto``, the hardware has it."""
        kind = self.device.type
        wanted = takes_bf16(self.precision, kind)
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=wanted):
            yield

    @property
    def arithmetic(self) -> str:
        """What products are taken in here, ``bf16`` or ``fp32``, as ``auto`` is resolved."""
        with self.autocast():
            return "bf16" if torch.is_autocast_enabled(self.device.type) else "fp32"

    # --- what it is

    @property
    def vocabulary_size(self) -> int:
        return backbones.vocabulary_projection(self.lm)[0].shape[0]

    @property
    def dense_dim(self) -> int:
        """Width of the dense vectors."""
        return self.config.dense_dim or self.lm.config.hidden_size

    @property
    def weights_sha256(self) -> str:
        """See ``hash_weights``; worked out again when the weights have changed."""
        now = fingerprint(self)
        if self._hashed is None or self._hashed[0] != now:
            self._hashed = now, hash_weights(self.state_dict())
        return self._hashed[1]

    # --- checkpoints

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: str | None = None,
        precision: str = "auto",
        fresh_head: bool = False,
        **changes: Any,
    ) -> DupMAEEncoder:
        """Load ``builtin``, a folder, or a hub id.

        device: as torch names it; by default a CUDA device where there is one, else the CPU.
        precision: ``auto``, ``fp32`` or ``bf16``, see ``autocast``.
        fresh_head: give a checkpoint without a masked-LM head a new one, to be trained.
        changes: fields of DupMAEConfig that override the checkpoint's (``top_k=128``, …). Lengths
        are cut to what the backbone has positions for. A ``dense_dim`` that the checkpoint did not
        have gives a new projection, to be trained.
        Raises InputError for a source that is missing, partial, or has no lexical head.
        """
        folder, name = named_folder(source)
        lm, tokenizer, has_head = load_masked_lm(folder, fresh_head=fresh_head)
        try:
            carried = DupMAEConfig.from_dict(getattr(lm.config, "dupmae", None))
        except InputError as error:
            raise InputError(f"{folder}/config.json: {error}") from error
        config = carried.but(**changes)
        if not has_head and not fresh_head and config.lexical_head != "none":
            raise InputError(
                f"{source}: has no masked-LM head, so it gives no lexical vector; name a masked "
                "LM, train a head (fresh_head), or set lexical_head to none"
            )
        room = backbones.positions(lm)
        config = config.but(
            max_length=min(config.max_length, room),
            query_max_length=min(config.query_max_length, room),
        )
        # A new projection is drawn at random: always the same one, whatever ran before.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            encoder = cls(lm, tokenizer, config, name, precision)
        if encoder.dense_projection is not None and config.dense_dim == carried.dense_dim:
            load_projection(encoder.dense_projection, folder / EXTRA_WEIGHTS)
        try:
            encoder.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"device {device!r} cannot be used: {reason}") from error
        return encoder.eval()

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> None:
        """Write an ordinary transformers folder; what stood there is replaced in one step.

        half: store the weights in float16, for shipping.
        """
        from safetensors import SafetensorError

        self.lm.config.dupmae = self.config.to_dict()
        with replace_folder(Path(folder)) as temporary:
            try:
                with quiet():
                    self.lm.save_pretrained(temporary, state_dict=stored_weights(self.lm, half))
                    self.tokenizer.save_pretrained(temporary)
                if self.dense_projection is not None:
                    save_projection(self.dense_projection, temporary / EXTRA_WEIGHTS, half)
            except (OSError, SafetensorError) as error:
                raise DupMAEError(f"{folder}: cannot be written ({error})") from error
