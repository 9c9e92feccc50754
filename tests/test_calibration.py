"""Setting the head's bias before fine-tuning: document frequencies, and the number of terms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.training.calibration import calibrate_head, log_document_frequency
from tests.families import FAMILIES, make_lm, make_tokenizer, sentences

TEXTS = sentences(40)


def make_encoder(family="bert", **changes):
    tokenizer = make_tokenizer(FAMILIES[family])
    lm = make_lm(family, tokenizer, **changes)
    return DupMAEEncoder(lm, tokenizer, DupMAEConfig(top_k=0), precision="fp32").eval()


def bias_of(encoder):
    return encoder.lm.get_output_embeddings().bias.detach().clone()


def test_document_frequencies_count_texts_not_tokens():
    encoder = make_encoder()
    found = log_document_frequency(encoder, ["river river war", "river", "sun"], 64)
    ids = encoder.tokenizer.convert_tokens_to_ids(["river", "war", "sun", "moon", "[SEP]"])
    expected = [math.log((df + 0.5) / 4) for df in (2, 1, 1, 0, 3)]
    assert found[ids].tolist() == pytest.approx(expected)
    assert found.shape == (encoder.vocabulary_size,)


def test_texts_are_counted_to_the_length_that_training_sees():
    encoder = make_encoder()
    found = log_document_frequency(encoder, ["river war sun"], 4)
    sun = encoder.tokenizer.convert_tokens_to_ids("sun")
    assert found[sun].item() == pytest.approx(math.log(0.5 / 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prior_is_taken_from_the_bias_and_nothing_else_changes(family):
    encoder = make_encoder(family)
    before, weights = bias_of(encoder), encoder.lm.get_output_embeddings().weight.clone()
    calibrate_head(encoder, TEXTS, prior=0.7, active_terms=0, max_length=64)
    frequency = log_document_frequency(encoder, TEXTS, 64)
    torch.testing.assert_close(bias_of(encoder), before - 0.7 * frequency)
    assert torch.equal(encoder.lm.get_output_embeddings().weight, weights)


@pytest.mark.parametrize("wanted", [1, 20, 60])
def test_the_shift_gives_a_text_as_many_terms_as_wanted_on_average(wanted):
    encoder = make_encoder()
    before = bias_of(encoder)
    shift = calibrate_head(encoder, TEXTS, prior=0.0, active_terms=wanted, max_length=64)
    torch.testing.assert_close(bias_of(encoder), before + shift)
    active = np.mean(encoder.encode_documents(TEXTS).lexical.getnnz(axis=1))
    assert active == pytest.approx(wanted, rel=0.05, abs=0.1)


def test_more_terms_than_there_are_make_all_of_them_active():
    encoder = make_encoder()
    calibrate_head(encoder, TEXTS, prior=0.0, active_terms=10_000, max_length=64)
    active = encoder.encode_documents(TEXTS).lexical.nnz
    assert active >= len(TEXTS) * encoder.vocabulary_size - 1


def test_a_head_without_a_bias_is_refused():
    encoder = make_encoder("modernbert", decoder_bias=False)
    with pytest.raises(InputError, match="the head has no bias"):
        calibrate_head(encoder, TEXTS, prior=0.5, active_terms=20, max_length=64)


def test_texts_without_an_ordinary_token_are_refused():
    with pytest.raises(InputError, match="no ordinary token"):
        calibrate_head(make_encoder(), ["", "[MASK]"], prior=0.0, active_terms=5, max_length=64)
