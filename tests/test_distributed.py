"""Two processes with half of a batch each, against one with all of it."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import multiprocessing

from dupmae_toolkit.training.data.bm25 import WordFrequencies
from dupmae_toolkit.training.data.frequencies import TermFrequencies
from dupmae_toolkit.training.data.pair_collator import PairCollator
from dupmae_toolkit.training.fitted_score import FittedScore
from dupmae_toolkit.training.pair_model import PairModel
from dupmae_toolkit.training.running.processes import batch_mean, gather
from dupmae_toolkit.training.sources import DataSource, TeacherSource
from dupmae_toolkit.training.teachers import Teachers
from tests.test_pair_model import EVERY, draw, encoder_of, recipe_of

PROCESSES = 2
#: Queries share words with documents of their own part and of the other, for BM25.
BATCH = [
    draw("w1 w3 w5", "w3 w4", ["w5 w6", "w7"]),
    draw("w8 w3", "w9 w10 w8", ["w11"]),  # one negative fewer
    draw("w12 w13 w3", "w14 w3", ["w3 w4", "w15 w16 w17"]),  # another's positive is its negative
    draw("w1 w3 w5", "w18 w19 w1", ["w20", "w21 w22"]),  # the first query again
]


def gradients(number=0, of=1, **changes):
    """Of every loss together, for one of ``of`` equal parts of the batch."""
    encoder = encoder_of()
    recipe = recipe_of(
        losses=dict.fromkeys((*EVERY, "teacher_joint"), 1.0),
        teachers=[TeacherSource("bm25", scale=2.0)],
        flops_query=0.5,
        flops_document=0.5,
        l1_query=0.1,
        dense_sizes=[5],
        **changes,
    )
    frequencies = TermFrequencies.of(encoder, ["w1 w3 w4", "w5 w9"], 12)
    teachers = Teachers(recipe.teachers, encoder, frequencies)
    words = fitted = None
    if recipe.score_weights:
        words = WordFrequencies.of(["w1 w3 w4", "w5 w9", "w14"])
        fitted = FittedScore(recipe, encoder.vocabulary_size, words)
        fitted.factors.copy_(torch.linspace(0.5, 2, encoder.vocabulary_size))
    model = PairModel(encoder, recipe, teachers, fitted)
    scales = tuple(recipe.data[0].teacher_scales)
    batch = PairCollator(encoder, recipe, words)([item._replace(scales=scales) for item in BATCH])
    loss, _ = model({name: rows.chunk(of)[number] for name, rows in batch.items()}, 3, 4)
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return found | {"loss": loss.detach()}


def work(number, folder):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=number, world_size=PROCESSES
    )
    for name, changes in VARIANTS.items():
        found = gradients(number, PROCESSES, **changes)
        for tensor in found.values():  # as DDP does
            dist.all_reduce(tensor)
            tensor /= PROCESSES
        if number == 0:
            save_file(found, f"{folder}/{name}.safetensors")
    rows = torch.arange(4.0).view(2, 2) + 10 * number
    rows.requires_grad_()
    gathered, mean = gather(rows), batch_mean(rows)
    some = batch_mean(rows.detach(), torch.tensor([True, number == 1]))
    (gathered * torch.arange(1, 5)[:, None]).sum().backward()
    save_file(
        {"gathered": gathered.detach(), "mean": mean.detach(), "some": some, "slope": rows.grad},
        f"{folder}/rows{number}.safetensors",
    )
    dist.destroy_process_group()


VARIANTS = {
    "whole": {},
    "chunks": {"chunk_size": 2},
    "alone": {"in_batch": False},
    "fitted": {"score_weights": [3.0, 0.5, 2.0], "learn_weights": 20.0},
    "scales": {"data": [DataSource("x", "groups", teacher_scales=[9.0])]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(work, (str(folder),), nprocs=PROCESSES)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_the_mean_gradient_of_two_processes_is_that_of_one(folder, name):
    expected = gradients(**VARIANTS[name])
    found = load_file(folder / f"{name}.safetensors")
    assert set(found) == set(expected)
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-3, atol=1e-4, msg=key)


def test_the_scales_of_a_source_change_the_loss():
    assert gradients(**VARIANTS["scales"])["loss"] != gradients()["loss"]


@pytest.mark.slow
def test_rows_are_gathered_in_the_order_of_the_processes_and_gradients_summed(folder):
    every = torch.tensor([[0.0, 1], [2, 3], [10, 11], [12, 13]])
    for number in range(PROCESSES):
        found = load_file(folder / f"rows{number}.safetensors")
        assert torch.equal(found["gathered"], every)
        assert torch.equal(found["mean"], every.mean(0, keepdim=True))
        torch.testing.assert_close(found["some"], every[[0, 2, 3]].mean(0, keepdim=True))
        weights = torch.arange(1.0, 5)[2 * number :][:2]
        assert torch.equal(found["slope"], PROCESSES * weights[:, None].expand(2, 2))


def test_in_one_process_nothing_is_gathered():
    rows = torch.rand(3, 2, requires_grad=True)
    assert gather(rows) is rows
    torch.testing.assert_close(batch_mean(rows), rows.mean(0, keepdim=True))
