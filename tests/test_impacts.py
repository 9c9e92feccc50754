"""Weights become integers with a known error, and query weights multiply without rounding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.impacts import (
    QuantizationError,
    calibrate,
    check_max_impact,
    quantize,
    round_weights,
)

weights = st.floats(2**-20, 2**20, width=32)


def rows(*values: list[float]) -> csr_matrix:
    return csr_matrix(np.array(values, np.float32))


def test_the_largest_weight_becomes_the_largest_impact() -> None:
    lexical = rows([0, 0.5, 2.0], [1.0, 0, 0])
    scale = calibrate(lexical, largest_weight=2.0)
    assert scale == 127.5
    impacts, error = quantize(lexical, scale)
    assert impacts.toarray().tolist() == [[0, 64, 255], [128, 0, 0]]
    assert impacts.data.dtype == np.uint8
    assert error.weights == 3
    assert error.clipped == error.raised == 0
    assert error.max_absolute == pytest.approx(0.5 / 127.5)


def test_no_positive_weight_is_lost_and_stored_zeros_are_no_terms() -> None:
    lexical = rows([1.0, 1e-6, 1.0])
    lexical.data[2] = 0
    impacts, error = quantize(lexical, 255.0)
    assert impacts.toarray().tolist() == [[255, 1, 0]]
    assert impacts.nnz == 2
    assert (error.weights, error.raised) == (2, 1)


def test_weights_above_the_calibrated_one_are_clipped_and_counted() -> None:
    impacts, error = quantize(rows([1.0, 4.0]), 255.0)
    assert impacts.toarray().tolist() == [[255, 255]]
    assert (error.clipped, error.max_absolute) == (1, 3.0)


def test_weights_are_rounded_not_truncated() -> None:
    assert quantize(rows([0.9, 2.0]), 1.0)[0].toarray().tolist() == [[1, 2]]


def test_the_input_is_left_as_it_was() -> None:
    lexical = rows([1.0, 2.0])
    lexical.data[0] = 0
    quantize(lexical, 3.0)
    assert lexical.nnz == 2


def test_a_corpus_without_any_weight_has_a_scale_and_no_impacts() -> None:
    lexical = csr_matrix((3, 5), dtype=np.float32)
    assert calibrate(lexical) == 255
    impacts, error = quantize(lexical, 255.0)
    assert (impacts.shape, impacts.nnz) == ((3, 5), 0)
    assert error == QuantizationError()


def test_errors_of_segments_add_up_to_the_error_of_the_whole() -> None:
    generator = np.random.default_rng(5)
    first = rows(*generator.random((20, 30)).tolist())
    second = rows(*(2 * generator.random((7, 30))).tolist())
    both = rows(*first.toarray().tolist(), *second.toarray().tolist())
    scale = calibrate(first)
    total = quantize(first, scale)[1] + quantize(second, scale)[1]
    whole = quantize(both, scale)[1]
    assert total.mean_absolute == pytest.approx(whole.mean_absolute)
    assert (total.weights, total.clipped) == (whole.weights, whole.clipped)
    assert total.max_absolute == whole.max_absolute
    assert QuantizationError.from_dict(total.to_dict()) == total
    assert sum([], QuantizationError()) == QuantizationError()


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_weights_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(InputError):
        quantize(rows([1.0, bad]), 255.0)


@pytest.mark.parametrize(
    ("largest", "kind"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)]
)
def test_the_impacts_take_no_more_bytes_than_they_need(largest: int, kind: type) -> None:
    impacts, _ = quantize(rows([3.0]), calibrate(rows([3.0]), largest, 3.0), largest)
    assert impacts.data.dtype == kind
    assert impacts.data.tolist() == [largest]


@pytest.mark.parametrize("largest", [0, -1, 65536])
def test_impacts_that_cannot_be_stored_are_refused(largest: int) -> None:
    with pytest.raises(InputError, match="choose one from 1 to 65,535"):
        check_max_impact(largest)


@given(weights, st.integers(1, 255))
def test_a_rounded_weight_times_an_impact_is_exact_in_float32(weight: float, impact: int) -> None:
    rounded = round_weights(np.array([weight], np.float32))
    product = np.float32(impact) * rounded[0]
    assert float(product) == float(rounded[0]) * impact


@given(weights, st.integers(1, 65535), st.integers(1, 65535))
def test_larger_impacts_leave_fewer_bits(weight: float, impact: int, largest: int) -> None:
    rounded = round_weights(np.array([weight], np.float32), largest)
    product = np.float32(min(impact, largest)) * rounded[0]
    assert float(product) == float(rounded[0]) * min(impact, largest)


@given(weights)
def test_rounding_is_to_the_nearest_and_changes_nothing_twice(weight: float) -> None:
    rounded = round_weights(np.array([weight], np.float32))
    assert abs(float(rounded[0]) - weight) <= max(weight * 2**-16, 2**-31)
    assert round_weights(rounded) == rounded


def test_integers_of_sixteen_bits_and_zero_stay_as_they_are() -> None:
    values = np.array([0, 1, 255, 65535, 0.5, 3.75], np.float32)
    assert round_weights(values).tolist() == values.tolist()
    assert round_weights(np.empty(0, np.float32)).dtype == np.float32


@given(st.lists(st.tuples(weights, st.integers(1, 255)), min_size=1, max_size=50), st.randoms())
def test_the_order_of_summing_does_not_matter(
    pairs: list[tuple[float, int]], random: object
) -> None:
    weight = round_weights(np.minimum(np.array([w for w, _ in pairs], np.float32), 100))
    products = [float(w) * impact for w, (_, impact) in zip(weight, pairs, strict=True)]
    total = sum(products)
    random.shuffle(products)  # type: ignore[attr-defined]
    assert sum(products) == total


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_query_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(InputError):
        round_weights(np.array([bad], np.float32))
