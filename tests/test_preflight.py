"""What a training will take: products, memory, time, and how fast it then is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.pretraining import DupMAEForPreTraining
from dupmae_toolkit.training.data.groups import Pair
from dupmae_toolkit.training.data.pair_collator import PairCollator
from dupmae_toolkit.training.pair_model import PairModel
from dupmae_toolkit.training.pretrain import StepModel, TextCollator
from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
from dupmae_toolkit.training.running import preflight
from dupmae_toolkit.training.running.measuring import (
    Speedometer,
    TrainingPlan,
    known_peak,
    lengthen,
    measured_product,
    probe,
    tokens_of,
)
from dupmae_toolkit.training.running.preflight import (
    available_bytes,
    memory_knobs,
    plan_training,
    refuse_what_cannot_fit,
)
from dupmae_toolkit.training.running.processes import Shares
from dupmae_toolkit.training.sources import DataSource
from tests.tiny import tiny_encoder

CPU = torch.device("cpu")
PLAN = TrainingPlan(
    steps=100,
    batch_size=8,
    processes=2,
    rows=4,
    tokens_a_step=1000.0,
    flops_a_step=6e9,
    flops_per_token=3e6,
    product=4e9,
    peak=8e9,
    efficiency=0.5,
    parameters=10,
    bytes_parameters=40,
    bytes_gradients=40,
    bytes_optimizer=80,
    bytes_working=500,
    bytes_constant=800.0,
    bytes_a_row=400.0,
    bytes_available=10_000,
)


def pretrain_recipe(**changes):
    return PretrainRecipe("model", "output", [DataSource("texts")], 10, max_length=40, **changes)


def pretraining(recipe):
    encoder = tiny_encoder(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = DupMAEForPreTraining(encoder, recipe.pretraining())
    return StepModel(model), TextCollator(encoder, model.config, recipe)


def texts(count, words=60):
    return [" ".join(f"w{(i * 7 + j) % 50}" for j in range(words)) for i in range(count)]


def products_by_hand(batch, width=16, inner=24, layers=2, vocabulary=64):
    """FLOP of official pre-training, forward and back, from the sizes of the network's matrices."""
    rows, length = batch["input_ids"].shape
    tokens = rows * length
    layer = 2 * tokens * (4 * width**2 + 2 * width * inner)
    attention = 4 * rows * length**2 * width
    masked = int((batch["labels"] != -100).sum())
    rebuilt = int((batch["decoder_labels"] != -100).sum())
    # The decoder's key, value and query for all tokens, the rest for those that are rebuilt.
    decoder = 2 * (3 * tokens * width**2 + rebuilt * (width**2 + 2 * width * inner))
    transform = 2 * (masked + rebuilt + tokens) * width**2
    both_ways = 3 * (layers * layer + decoder + transform)
    # The way back computes the attention's scores once more.
    both_ways += 3.5 * (layers + 1) * attention
    cross_entropy = 3 * 2 * (masked + rebuilt) * vocabulary * width
    pooled = 2 * tokens * vocabulary * width  # its way back follows single tokens
    return both_ways + cross_entropy + pooled


def test_products_are_those_of_the_architecture():
    recipe = pretrain_recipe()
    module, collate = pretraining(recipe)
    for count in (1, 4):
        batch = collate(texts(count))
        flops, _, tokens = probe(module, batch, 10, CPU, False)
        assert tokens == count * 40
        assert flops == pytest.approx(products_by_hand(batch), rel=0.1)


def test_a_probe_leaves_nothing_behind():
    module, collate = pretraining(pretrain_recipe())
    module.eval()
    state = torch.random.get_rng_state()
    probe(module, collate(texts(2)), 10, CPU, False)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(weight.grad is None for weight in module.parameters())
    assert not module.training


class Small(nn.Module):
    """One layer whose products and kept tensors are easily told."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(32, 64)

    def forward(self, batch, step, steps):
        return torch.relu(self.layer(batch["x"])).sum(), {}


def test_what_is_kept_is_weighed_once_and_weights_are_not():
    batch = {"x": torch.randn(10, 32), "x_mask": torch.ones(10, 1)}
    flops, kept, tokens = probe(Small(), batch, 1, CPU, False)
    # Forward, and back to the weights; the input needs no gradient.
    assert flops == 2 * (2 * 10 * 32 * 64)
    # The input and what ReLU gave, float32.
    assert kept == 4 * (10 * 32 + 10 * 64)
    assert tokens == 10


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_two_texts_tell_what_many_take(kind):
    if kind == "pretrain":
        recipe = pretrain_recipe(batch_size=16)
        module, collate = pretraining(recipe)
        examples = texts(16)
    else:
        recipe = FinetuneRecipe(
            *("model", "output", [DataSource("texts")], 10),
            batch_size=16,
            query_length=20,
            document_length=40,
            flops_query=0.1,
        )
        encoder = tiny_encoder(hidden_dropout_prob=0.0)
        module, collate = PairModel(encoder, recipe), PairCollator(encoder, recipe)
        examples = [Pair(text, text) for text in texts(16)]
    share = Shares(collate, 1)
    first = share(examples)
    plan = plan_training(recipe, module, first, share, bf16=False)
    flops, kept, _ = probe(module, first[0], 10, CPU, False)
    assert plan.flops_a_step == pytest.approx(flops, rel=0.1)
    assert plan.bytes_constant + 16 * plan.bytes_a_row == pytest.approx(kept, rel=0.15)
    trained = sum(weight.numel() for weight in module.parameters())
    assert (plan.parameters, plan.bytes_gradients) == (trained, 4 * trained)
    assert plan.bytes_optimizer == 8 * trained
    assert plan.tokens_a_step == tokens_of(first[0])[0]
    assert 0 < plan.seconds(10) < 60


class Chunked(nn.Module):
    """A layer whose products are made again on the way back where a chunk size is set."""

    def __init__(self, recipe):
        super().__init__()
        self.recipe = recipe
        self.layer = nn.Linear(32, 512)

    def inner(self, x):
        return torch.relu(self.layer(x)).mean(1)

    def forward(self, batch, step, steps):
        x = batch["x"]
        if self.recipe.chunk_size:
            return checkpoint(self.inner, x, use_reentrant=False).square().sum(), {}
        return self.inner(x).square().sum(), {}


def test_of_a_chunked_batch_the_vectors_stay_and_one_chunk():
    def collate(examples):
        return {"x": torch.randn(len(examples), 32), "x_mask": torch.ones(len(examples), 4)}

    recipe = SimpleNamespace(batch_size=100, accumulation=1, steps=5, max_length=4, chunk_size=0)
    share = Shares(collate, 1)
    first = share(["text"] * 100)
    plain = plan_training(recipe, Chunked(recipe), first, share, bf16=False)
    assert plain.bytes_a_row > 4 * 512
    recipe.chunk_size = 10
    chunked = plan_training(recipe, Chunked(recipe), first, share, bf16=False)
    assert recipe.chunk_size == 10
    assert chunked.bytes_a_row < 4 * 64
    assert chunked.bytes_constant == pytest.approx(10 * plain.bytes_a_row, rel=0.1)
    assert chunked.flops_a_step == pytest.approx(1.5 * plain.flops_a_step)


def test_memory_is_planned_for_the_longest_texts_whatever_comes_first():
    recipe = pretrain_recipe(batch_size=4)
    module, collate = pretraining(recipe)
    plans = []
    for words in (3, 60):
        share = Shares(collate, 1)
        first = share(texts(4, words))
        plans.append(plan_training(recipe, module, first, share, bf16=False))
    assert plans[0].bytes_a_row == pytest.approx(plans[1].bytes_a_row, rel=0.1)
    assert plans[0].flops_a_step < plans[1].flops_a_step / 4


def test_the_sums_of_a_plan():
    assert PLAN.bytes_activations == 500 + 1.25 * (800 + 4 * 400)
    assert PLAN.bytes_needed == 40 + 80 + 3500
    assert PLAN.seconds(20) == 20 * 6e9 / (4e9 * 0.5 * 2)
    assert PLAN.entry(20)["estimated_seconds"] == PLAN.seconds(20)
    # (10,000 - 120 - 500) / 1.25 - 800, in rows of 400
    assert PLAN.rows_that_fit == 16
    assert replace(PLAN, rows=16).bytes_needed <= PLAN.bytes_available
    assert replace(PLAN, rows=17).bytes_needed > PLAN.bytes_available


def test_what_cannot_fit_is_refused_with_the_knobs_and_what_would_fit():
    recipe = pretrain_recipe()
    refuse_what_cannot_fit(recipe, PLAN)
    with pytest.raises(InputError, match=r"4 texts at once need about .* GB are free") as error:
        refuse_what_cannot_fit(recipe, replace(PLAN, bytes_available=3000))
    assert "at most 2 at once would fit; lower batch_size or max_length" in str(error.value)
    assert "or raise accumulation" in str(error.value)
    with pytest.raises(InputError, match="not even one would fit"):
        refuse_what_cannot_fit(recipe, replace(PLAN, bytes_available=100))


def test_gradients_and_optimizer_without_room_are_refused_before_anything_is_tried(monkeypatch):
    recipe = pretrain_recipe(batch_size=2)
    module, collate = pretraining(recipe)
    share = Shares(collate, 1)
    first = share(texts(2))
    monkeypatch.setattr(preflight, "available_bytes", lambda device: 1000)
    monkeypatch.setattr(preflight, "probe", None)
    with pytest.raises(InputError, match="not even one would fit"):
        plan_training(recipe, module, first, share, bf16=False)


def test_the_knobs_are_those_that_the_recipe_has():
    assert "batch_size or max_length" in memory_knobs(pretrain_recipe())
    recipe = FinetuneRecipe("model", "output", [DataSource("texts")], 1)
    assert "batch_size, query_length or document_length" in memory_knobs(recipe)


def test_examples_are_lengthened_whatever_holds_their_texts():
    assert lengthen("ab c", 20) == "ab c ab c ab c ab c ab c"
    assert len(lengthen("", 20)) >= 20
    pair = lengthen(Pair("q", "d d"), 10)
    assert isinstance(pair, Pair)
    assert len(pair.query) >= 10 <= len(pair.document)
    assert lengthen(("a", [1, 2], 0.5), 3) == ("a a", [1, 2], 0.5)


def test_free_memory_is_the_least_of_what_machine_and_control_group_leave(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  2000 kB\n")
    assert preflight._machine_bytes(tmp_path / "meminfo") == 2000 * 1024
    assert preflight._group_bytes(tmp_path / "none") is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 30\n")
    assert preflight._group_bytes(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert preflight._group_bytes(tmp_path) == 1000 - 100 + 30
    (tmp_path / "memory").mkdir()
    old = tmp_path / "old" / "memory"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("500\n")
    (old / "memory.usage_in_bytes").write_text("600\n")
    (old / "memory.stat").write_text("cache 1\n")
    assert preflight._group_bytes(tmp_path / "old") == 0
    monkeypatch.setattr(preflight, "_machine_bytes", lambda: 7000)
    monkeypatch.setattr(preflight, "_group_bytes", lambda: 5000)
    assert available_bytes(CPU) == 5000
    # Processes of one machine share what it has.
    monkeypatch.setattr(preflight.processes, "world_size", lambda: 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert available_bytes(CPU) == 1250


@pytest.mark.parametrize(
    ("name", "bf16", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", True, 989e12),
        ("NVIDIA H100 PCIe", True, 756e12),
        ("NVIDIA A100-SXM4-80GB", True, 312e12),
        ("NVIDIA A100-SXM4-80GB", False, 19.5e12),
        ("NVIDIA A10", True, 125e12),
        ("NVIDIA A10G", True, None),
        ("NVIDIA L40S", True, 362e12),
        ("NVIDIA L4", True, 121e12),
        ("NVIDIA L40", True, None),
        ("", True, None),
    ],
)
def test_peaks_are_of_the_named_device_only(name, bf16, peak):
    assert known_peak(name, bf16) == peak


def test_a_product_is_measured():
    assert measured_product(CPU, bf16=False) > 1e7


def test_tokens_a_second_and_the_share_of_the_peak():
    now = [0.0]
    meter = Speedometer()
    meter.clock = lambda: now[0]
    meter.begin(10)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    batch = {
        "attention_mask": mask,
        "input_ids": mask,
        "decoder_attention_mask": torch.ones(2, 3, 3),
    }
    assert tokens_of(batch) == (3, 6)
    for _ in range(4):
        meter.count([batch, batch])
    now[0] = 5.0
    with meter.paused():
        now[0] = 105.0  # a checkpoint
    now[0] = 107.0
    logs = meter.read(PLAN, 14, 100)
    assert logs["tokens_per_second"] == pytest.approx(24 / 7)
    assert logs["seconds_left"] == pytest.approx(86 * 7 / 4)
    assert logs["peak_share"] == pytest.approx(3e6 * (48 / 7) / (8e9 * 2))
    # The next reading begins here.
    meter.count([batch])
    now[0] = 108.0
    assert meter.read(None, 15, 100) == {"tokens_per_second": 3.0, "seconds_left": 85.0}
