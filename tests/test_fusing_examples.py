"""The worked examples in the docstrings of norms and methods of fusion."""

from __future__ import annotations

import doctest

import pytest

from dupmae_toolkit.fusing import norms
from dupmae_toolkit.fusing.method import NORMS
from dupmae_toolkit.fusing.methods import (
    distribution,
    order_statistics,
    rank_biased,
    reciprocal,
    sums,
    voting,
)
from dupmae_toolkit.fusing.registry import METHODS

MODULES = (sums, order_statistics, reciprocal, rank_biased, voting, distribution)


@pytest.mark.parametrize("module", [norms, *MODULES], ids=lambda module: module.__name__)
def test_the_examples_are_right(module):
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 2) == (0, True)


def test_every_method_has_an_example_and_a_source():
    shown = {method.name for module in MODULES for method in module.METHODS}
    assert shown == set(METHODS)
    for module in MODULES:
        for method in module.METHODS:
            assert method.name in module.__doc__
            assert any(year in method.source for year in ("19", "20"))
            assert set(method.norms) <= set(NORMS)
