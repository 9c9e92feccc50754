"""What is said when the hub cannot be reached, or refuses."""

from __future__ import annotations

import logging

import huggingface_hub
import pytest

from dupmae_toolkit import load_encoder
from dupmae_toolkit.collection.opening import open_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.hub import quietly, why_not


class ConnectError(Exception):
    """As httpx has it."""


def chained(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectError("[Errno -2] Name or service not known"), "the hub cannot be reached"),
        (
            chained(ValueError("Got:\nsomething long"), ConnectError("x")),
            "the hub cannot be reached",
        ),
        (OSError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"), "cannot be reached"),
        (
            ValueError("404 Client Error.\n\nRepository Not Found"),
            "404 Client Error. Repository Not",
        ),
        (ValueError(), "ValueError"),
    ],
)
def test_the_reason_is_short_and_on_one_line(error, said):
    reason = why_not(error)
    assert said in reason
    assert reason.isprintable()
    assert len(reason) <= 200


def test_a_circle_of_causes_ends():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert why_not(one) == "one"


def test_the_library_is_quiet_only_meanwhile(caplog):
    logger = logging.getLogger("huggingface_hub.utils._http")
    before = logger.getEffectiveLevel()
    with quietly():
        logger.warning("Retrying in 1s [Retry 1/5].")
    assert not caplog.records
    assert logger.getEffectiveLevel() == before


def test_a_model_that_cannot_be_fetched_is_one_line(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectError("[Errno -2] Name or service not known")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(InputError, match=r"not downloaded \(the hub cannot be reached\); name a"):
        load_encoder("nobody/nothing")


def test_a_data_set_that_cannot_be_fetched_is_one_line(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def unreachable(*_, **__):
        logging.getLogger("huggingface_hub").warning("Retrying in 1s [Retry 1/5].")
        raise ConnectionError("Couldn't reach 'a/b' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(InputError, match=r"as a data set \(the hub cannot be reached\)$"):
        list(open_corpus("hf:nobody/nothing"))
