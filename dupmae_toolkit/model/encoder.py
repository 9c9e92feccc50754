"""DupMAEEncoder: one pass over a text gives a dense and a lexical vector."""

from __future__ import annotations

import threading
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
from dupmae_toolkit.model.heads import EncoderOutput, output_of
from dupmae_toolkit.model.inference_copy import (
    Fingerprint,
    InferenceCopy,
    OwnLayers,
    fingerprint,
)
from dupmae_toolkit.model.lean.bert import LeanBert
from dupmae_toolkit.model.precision import PRECISIONS
from dupmae_toolkit.model.text_encoder import TextEncoder
from dupmae_toolkit.model.tokens import ordinary_tokens
from dupmae_toolkit.model.weights import (
    EXTRA_WEIGHTS,
    hash_weights,
    load_projection,
    save_projection,
    stored_weights,
    warn_new,
)

_COPYING = threading.Lock()


class DupMAEEncoder(nn.Module, TextEncoder):
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
        """Lengths in ``config`` are limited to the backbone's positions."""
        super().__init__()
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r}: choose one of {list(PRECISIONS)}")
        if config.lexical_head == "tokens":
            raise InputError(
                f"{name}: lexical_head 'tokens' is that of BGE-M3's folders; choose mlm, "
                "projection or none"
            )
        if not tokenizer.is_fast:
            raise InputError(f"{name}: its tokenizer has no fast version; save one with it")
        self.lm = lm
        self.tokenizer = tokenizer
        self.room = backbones.positions(lm)
        self.config = config.but(
            max_length=min(config.max_length, self.room),
            query_max_length=min(config.query_max_length, self.room),
        )
        self.name = name
        self.precision = precision
        hidden = lm.config.hidden_size
        self.dense_projection = (
            nn.Linear(hidden, config.dense_dim, bias=False) if config.dense_dim else None
        )
        rows: Any = lm.get_input_embeddings()
        table = ordinary_tokens(tokenizer, rows.weight.shape[0])
        self.register_buffer("ordinary", table, persistent=False)
        #: By autocast's dtype: documents and queries may differ in it, and take turns.
        self._inference_copies: dict[torch.dtype | None, InferenceCopy] = {}
        self._hashed: tuple[Fingerprint, str] | None = None

    # --- the network

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pool_mask: Tensor | None = None,
        *,
        top_k: int | None = None,
        lexical: bool = True,
    ) -> EncoderOutput:
        """Both vectors of a batch.

        input_ids, attention_mask: int64 [B, L]. pool_mask: bool [B, L], the tokens that the lexical
        vector is pooled over; by default all that are neither padding nor special. top_k: lexical
        weights beyond a text's ``top_k`` largest may be 0; 0 or None keeps all. Without
        ``lexical`` the vocabulary head, about half of the work, does not run.
        """
        layers = self._layers()

        def bag_of_words() -> Tensor:
            pool = pool_mask
            if pool is None:
                pool = attention_mask.bool()
                if not self.pools_special:
                    pool = pool & self.ordinary[input_ids]
            return layers.pooled_logits(hidden, pool, self.config.lexical_head, top_k)

        with layers.autocast():
            hidden = layers.hidden_states(input_ids, attention_mask)
            project = self.dense_projection
            head = bag_of_words if lexical else None
            return output_of(self.config, hidden, project, head, self.pooling)

    def bag_of_words(self, hidden: Tensor, pool_mask: Tensor) -> Tensor:
        """Pooled vocabulary logits μ, float32 [B, |V|], before the activation."""
        layers = self._layers()
        with layers.autocast():
            return layers.pooled_logits(hidden, pool_mask, self.config.lexical_head)

    def _layers(self) -> OwnLayers | LeanBert:
        """The layers to compute a batch with: the LM's, or without gradients those of a copy."""
        kind = self.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        # On a CPU lean layers may be faster than the LM's own even without autocast.
        copy_helps = dtype is not None or kind == "cpu"
        if self.training or torch.is_grad_enabled() or not copy_helps:
            return OwnLayers(self.lm)
        now = fingerprint(self.lm)
        with _COPYING:  # batches run in parallel, and one copy for each dtype is enough
            copies = self._inference_copies
            if dtype not in copies or not copies[dtype].fits(now):
                # A copy of other weights is of no more use, in whatever dtype.
                for stale in [key for key, made in copies.items() if not made.fits(now)]:
                    del copies[stale]
                copies[dtype] = InferenceCopy.of(self.lm, dtype, now)
            return copies[dtype].layers

    def __getstate__(self) -> dict[str, Any]:
        """The state without the inference copies, which are made again when needed."""
        return self.__dict__ | {"_inference_copies": {}}

    def train(self, mode: bool = True) -> DupMAEEncoder:
        """As in any module; the inference copies are dropped, since training makes them stale."""
        if mode:
            self._inference_copies.clear()
        return super().train(mode)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    # --- what it is

    @property
    def vocabulary_size(self) -> int:
        return backbones.vocabulary_projection(self.lm)[0].shape[0]

    @property
    def dense_dim(self) -> int:
        """Width of the dense vectors."""
        if self.pooling == "none":
            return 0
        return self.config.dense_dim or self.lm.config.hidden_size

    @property
    def weights_sha256(self) -> str:
        """See ``hash_weights``; computed again when the weights have changed."""
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

        device: as torch names it; by default a CUDA device if there is one, else the CPU.
        precision: ``auto`` computes documents in bf16 where the hardware is faster in it, and
        queries in float32; ``fp32`` and ``bf16`` compute both in one. In bf16 a text's vectors
        depend a little on the texts beside it.
        fresh_head: give a checkpoint without a masked-LM head a new one, to be trained.
        changes: fields of DupMAEConfig that override the checkpoint's (``top_k=128``, …). A new
        ``dense_dim`` above 0 gives a new projection, to be trained. A NewWeightsWarning names
        what is drawn at random.
        Raises InputError for a source that is missing, partial, or has no lexical head.
        """
        folder, name = named_folder(source)
        lm, tokenizer, has_head = load_masked_lm(folder)
        try:
            carried = DupMAEConfig.from_dict(getattr(lm.config, "dupmae", None))
        except InputError as error:
            raise InputError(f"{folder}/config.json: {error}") from error
        config = carried.but(**changes)
        if not has_head and not fresh_head and config.lexical_head != "none":
            raise InputError(
                f"{source}: has no masked-LM head, so it gives no lexical vector; name a masked "
                "LM, a sentence-transformers folder with its modules.json, or train a head "
                "(fresh_head)"
            )
        # A new projection is drawn at random: the same one each time.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            encoder = cls(lm, tokenizer, config, name, precision)
        new = [] if has_head or config.lexical_head == "none" else ["masked-LM head"]
        if config.dense_dim not in (0, carried.dense_dim):
            new.append("projection of [CLS]")
        if new:
            warn_new(source, " and ".join(new))
        if encoder.dense_projection is not None and config.dense_dim == carried.dense_dim:
            load_projection(encoder.dense_projection, folder / EXTRA_WEIGHTS)
        try:
            encoder.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"device {device!r} cannot be used: {reason}") from error
        return encoder.eval()

    def save_pretrained(self, folder: str | Path, *, half: bool = False) -> None:
        """Write an ordinary transformers folder; an existing one is replaced atomically.

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
