"""Memory while encoding and indexing: ten times the documents must not need more.

The real commands, `dupmae encode` and `dupmae index`, run in their own processes on n and on ten
times n synthetic documents. The encoder is tiny and random: a real one would take hours, and its
memory does not depend on the corpus. One segment at a time is in memory, so both indexes are built
in segments of n documents. The Java heap is equally large in both, which is up to Java.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import Finished, run_python
from benchmarks.rows import Row, Sizes, against

WORDS, WORDS_EACH = 5_000, 60
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_CLI = ["-c", "from dupmae_cli.main import main; main()"]


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """A row for each command: ours is its peak with ten times n documents, the peer's with n."""
    few = sizes.documents
    many = few * (100 if sizes.large else 10)
    # In its own process, so that torch does not enlarge this one; see ``run_python``.
    run_python(["-m", "benchmarks.memory", str(folder / "model")])
    work = f"peak memory, {many:,} documents against {few:,}"
    return against(work, "itself", lambda: _rows(folder, few, many, work))


def _rows(folder: Path, few: int, many: int, work: str) -> list[Row]:
    measured = {count: commands(folder, count, few) for count in (few, many)}
    rows = []
    for name in ("encode", "index"):
        small, large = measured[few][name], measured[many][name]
        held = measured[many]["documents"]
        same = f"all {held:,} are in the index"
        details = {"seconds": {few: small.seconds, many: large.seconds}, "segment_size": few}
        title = f"`{name}`, {work}, segments of {few:,}"
        rows.append(
            Row(title, "itself", large.peak_mib, small.peak_mib, same, "MiB", details=details)
        )
    return rows


def commands(folder: Path, count: int, segment_size: int) -> dict[str, Any]:
    """Time and memory of encoding and indexing ``count`` documents, and how many are indexed."""
    corpus, encoded, index = (folder / f"{name}-{count}" for name in ("corpus", "encoded", "index"))
    corpus = corpus.with_suffix(".jsonl")
    write_corpus(corpus, count)
    model = str(folder / "model")
    took: dict[str, Any] = {}
    took["encode"] = run_python(
        [*_CLI, "encode", str(corpus), "--output", str(encoded), "--model", model]
    )
    words = ["--index", str(index), "--model", model, "--segment-size", str(segment_size), "--json"]
    built: Finished = run_python([*_CLI, "index", str(encoded), *words])
    took["index"] = built
    answer = json.loads(run_python([*_CLI, "info", "--index", str(index), "--json"]).output)
    took["documents"] = answer["documents"]
    if took["documents"] != count:
        raise RuntimeError(f"the index holds {took['documents']:,} of {count:,} documents")
    return took


def write_corpus(path: Path, count: int) -> None:
    """Write JSON lines of synthetic words, drawn by Zipf's law."""
    rng = np.random.default_rng(11)
    chance = 1 / np.arange(10, WORDS + 10)
    chance /= chance.sum()
    with path.open("w", encoding="utf-8") as file:
        for first in range(0, count, 1000):
            size = min(1000, count - first)
            drawn = rng.choice(WORDS, size=(size, WORDS_EACH), p=chance)
            for number, row in enumerate(drawn.tolist(), first):
                text = " ".join(f"w{word}" for word in row)
                file.write(json.dumps({"id": f"d{number:08}", "title": "", "text": text}) + "\n")


def save_encoder(folder: Path, words: int = WORDS) -> None:
    """Save a random BERT of width 32 with two layers, whose vocabulary has ``words`` words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    names = [*SPECIAL, *(f"w{i}" for i in range(words))]
    backend = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.2,
    )
    config.dupmae = {"top_k": 128, "max_length": 128, "normalize": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForMaskedLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    save_encoder(Path(sys.argv[1]))
