"""The losses of fine-tuning against their formulas, written out."""

from __future__ import annotations

import math

import pytest
import torch

from dupmae_toolkit.training.losses import contrastive, distill, flops, l1, margin_mse, ramp


def scores(seed=0, size=6):
    return torch.randn(size, size, generator=torch.Generator().manual_seed(seed)) * 3


def test_contrastive_is_the_mean_log_probability_of_the_own_document():
    given = scores().requires_grad_()
    same = torch.zeros(6, 6, dtype=torch.bool)
    expected = 0.0
    for i, row in enumerate(given.tolist()):
        expected -= math.log(math.exp(row[i]) / sum(math.exp(value) for value in row))
    loss = contrastive(given, same)
    assert loss.item() == pytest.approx(expected / 6, rel=1e-5)
    loss.backward()
    # softmax minus one-hot, over the queries
    slope = (given.detach().softmax(dim=1) - torch.eye(6)) / 6
    torch.testing.assert_close(given.grad, slope)


def test_documents_that_answer_the_query_too_are_no_negatives():
    given = scores()
    same = torch.zeros(6, 6, dtype=torch.bool)
    same[0, 3] = same[3, 0] = same[2, 1] = True
    expected = 0.0
    for i, row in enumerate(given.tolist()):
        others = [value for j, value in enumerate(row) if not same[i, j]]
        expected -= math.log(math.exp(row[i]) / sum(math.exp(value) for value in others))
    assert contrastive(given, same).item() == pytest.approx(expected / 6, rel=1e-5)


def test_a_batch_of_equal_documents_teaches_nothing():
    same = ~torch.eye(4, dtype=torch.bool)
    given = scores(size=4).requires_grad_()
    loss = contrastive(given, same)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(given.grad, torch.zeros(4, 4))


def test_distillation_is_the_divergence_per_query_not_per_number():
    student, teacher = scores(1).requires_grad_(), scores(2)
    expected = 0.0
    for mine, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        log_p = torch.log_softmax(torch.tensor(theirs), dim=0)
        log_q = torch.log_softmax(torch.tensor(mine), dim=0)
        expected += sum(p.exp().item() * (p - q).item() for p, q in zip(log_p, log_q, strict=True))
    loss = distill(student, teacher)
    assert loss.item() == pytest.approx(expected / 6, rel=1e-4)
    loss.backward()
    slope = (student.detach().softmax(dim=1) - teacher.softmax(dim=1)) / 6
    torch.testing.assert_close(student.grad, slope)


def test_distillation_to_itself_is_nothing_and_a_constant_per_query_does_not_matter():
    teacher = scores()
    assert distill(teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    moved = teacher + torch.arange(6.0)[:, None]
    assert distill(moved, teacher).item() == pytest.approx(0, abs=1e-5)


def test_flops_are_the_squares_of_the_mean_weights_summed():
    weights = torch.rand(5, 40, generator=torch.Generator().manual_seed(0))
    expected = sum((sum(row[v] for row in weights.tolist()) / 5) ** 2 for v in range(40))
    assert flops(weights).item() == pytest.approx(expected, rel=1e-5)
    assert flops(torch.zeros(3, 7)).item() == 0


def test_the_ramp_rises_with_the_square_of_the_step_and_then_stays():
    assert [ramp(step, 4) for step in range(7)] == [0, 1 / 16, 1 / 4, 9 / 16, 1, 1, 1]
    assert ramp(0, 0) == 0
    assert ramp(1, 0) == 1


def test_documents_that_are_left_out_of_a_distillation_have_no_part_in_it():
    student, teacher = scores(1).requires_grad_(), scores(2)
    left_out = torch.rand(6, 6, generator=torch.Generator().manual_seed(3)) < 0.4
    left_out.fill_diagonal_(False)
    expected = 0.0
    for i in range(6):
        kept = ~left_out[i]
        p = torch.softmax(teacher[i][kept], 0)
        expected += (p * (p.log() - torch.log_softmax(student[i][kept], 0))).sum() / 6
    loss = distill(student, teacher, left_out)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    loss.backward()
    assert torch.isfinite(student.grad).all()
    assert not student.grad[left_out].any()
    changed = teacher.masked_fill(left_out, 1e9)
    assert distill(student, changed, left_out).item() == pytest.approx(loss.item(), rel=1e-5)


def test_margins_are_compared_over_all_negatives_that_are_there():
    student, teacher = scores(4)[:, :4].requires_grad_(), scores(5)[:, :4]
    left_out = torch.zeros(6, 4, dtype=torch.bool)
    left_out[0, 2:] = left_out[3, 1:] = True
    expected = 0.0
    for i in range(6):
        errors = [
            (student[i, 0] - student[i, j] - teacher[i, 0] + teacher[i, j]) ** 2
            for j in range(1, 4)
            if not left_out[i, j]
        ]
        expected += sum(errors) / max(1, len(errors)) / 6
    loss = margin_mse(student, teacher, left_out)
    assert loss.item() == pytest.approx(float(expected), rel=1e-4)
    loss.backward()
    assert not student.grad[left_out].any()
    alone = torch.ones(6, 4, dtype=torch.bool)
    assert margin_mse(student, teacher, alone).item() == 0


def test_l1_is_the_mean_sum_of_the_weights():
    weights = torch.rand(5, 40, generator=torch.Generator().manual_seed(0))
    assert l1(weights).item() == pytest.approx(sum(map(sum, weights.tolist())) / 5, rel=1e-5)
    assert l1(weights.mean(0, keepdim=True)).item() == pytest.approx(l1(weights).item(), rel=1e-5)
