"""The decoder on [CLS] against the formula worked out row by row."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import ElectraConfig, ElectraForMaskedLM

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.decoder import CLSDecoder
from tests.pretraining_reference import decoder_reference, embedded_text, randomise
from tests.tiny import FAMILIES, tiny_lm

IDS = torch.tensor([[2, 9, 17, 55, 30, 3], [2, 12, 44, 3, 0, 0]])
LENGTHS = (6, 4)


def visibility(seed: int = 0) -> torch.Tensor:
    """Random rows that see themselves never and [CLS] always, as a collator would make them."""
    generator = torch.Generator().manual_seed(seed)
    visible = torch.rand(2, 6, 6, generator=generator) < 0.5
    visible[:, :, 0] = True
    visible[:, torch.arange(6), torch.arange(6)] = False
    for text, length in enumerate(LENGTHS):
        visible[text, length:], visible[text, :, length:] = False, False
    return visible


def labelled_rows() -> torch.Tensor:
    rows = torch.zeros(2, 6, dtype=torch.bool)
    rows[0, 1:5], rows[1, 1:3] = True, True
    return rows


@pytest.mark.parametrize("query", ["normalized", "sum"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_equal_the_formula_in_every_family(family: str, query: str):
    lm = tiny_lm(family)
    decoder = randomise(CLSDecoder(lm, query)).eval()
    cls, visible, rows = torch.randn(2, 16), visibility(), labelled_rows()
    with torch.no_grad():
        got = decoder(lm, cls, IDS, visible, rows)
        expected = [
            decoder_reference(decoder, lm, query, cls[text], IDS[text], visible[text], row)
            for text, row in rows.nonzero().tolist()
        ]
    torch.testing.assert_close(got, torch.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_cannot_see_what_is_hidden_from_it(family: str):
    lm = tiny_lm(family)
    decoder = randomise(CLSDecoder(lm)).eval()
    cls, visible = torch.randn(2, 16), visibility()
    rows = torch.zeros(2, 6, dtype=torch.bool)
    rows[0, 2] = True
    hidden = (~visible[0, 2]).nonzero()[:, 0].tolist()
    changed = IDS.clone()
    changed[0, hidden] = torch.tensor([(i + 20) % 50 + 5 for i in changed[0, hidden].tolist()])
    assert 2 in hidden
    with torch.no_grad():
        torch.testing.assert_close(
            decoder(lm, cls, changed, visible, rows), decoder(lm, cls, IDS, visible, rows)
        )
        seen = visible[0, 2].nonzero()[-1].item()
        changed[0, seen] = (changed[0, seen] + 11) % 50 + 5
        assert not torch.allclose(
            decoder(lm, cls, changed, visible, rows), decoder(lm, cls, IDS, visible, rows)
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_text_at_another_place_is_decoded_otherwise(family: str):
    """Rows know their positions, also where the backbone has no table of them."""
    lm = tiny_lm(family)
    decoder = randomise(CLSDecoder(lm)).eval()
    ids = torch.tensor([[2, 9, 9, 9, 9, 3]])
    visible = torch.zeros(1, 6, 6, dtype=torch.bool)
    visible[:, :, 0] = True
    rows = torch.ones(1, 6, dtype=torch.bool)
    with torch.no_grad():
        states = decoder(lm, torch.randn(1, 16), ids, visible, rows)
    assert len({tuple(row) for row in states.mul(1e4).round().tolist()}) == 6


def test_rows_that_see_nothing_give_no_nan_and_no_nan_gradients():
    lm = tiny_lm()
    decoder = CLSDecoder(lm)
    visible = torch.zeros(2, 6, 6, dtype=torch.bool)
    states = decoder(lm, torch.randn(2, 16), IDS, visible, torch.ones(2, 6, dtype=torch.bool))
    states.sum().backward()
    assert torch.isfinite(states).all()
    for name, parameter in [
        *decoder.named_parameters(),
        *lm.base_model.embeddings.named_parameters(),
    ]:
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


def test_dropout_is_off_in_evaluation_and_on_in_training():
    lm = tiny_lm()
    decoder = CLSDecoder(lm)
    cls, visible, rows = torch.randn(2, 16), visibility(), labelled_rows()
    lm.train(), decoder.train()
    assert not torch.equal(
        decoder(lm, cls, IDS, visible, rows), decoder(lm, cls, IDS, visible, rows)
    )
    lm.eval(), decoder.eval()
    assert torch.equal(decoder(lm, cls, IDS, visible, rows), decoder(lm, cls, IDS, visible, rows))


def test_robertas_positions_begin_after_the_padding_row():
    lm = tiny_lm("roberta")
    table = lm.base_model.embeddings.position_embeddings
    decoder = CLSDecoder(lm, "sum")
    cls = torch.randn(1, 16)
    query, memory = decoder.inputs(lm, cls, IDS[:1])
    torch.testing.assert_close(query[0], cls + table.weight[1:7])
    torch.testing.assert_close(memory[:, 1:], embedded_text(decoder, lm, IDS[:1])[:, 1:])
    assert torch.equal(memory[:, 0], cls)


def test_modernbert_gets_sinusoids_of_the_size_of_its_embeddings():
    lm = tiny_lm("modernbert")
    decoder = CLSDecoder(lm)
    assert decoder.position_scale is not None
    size = lm.get_input_embeddings().weight.pow(2).mean().sqrt().item()
    assert decoder.position_scale.item() == pytest.approx(size)
    query, _ = CLSDecoder(lm, "sum").inputs(lm, torch.zeros(1, 16), torch.zeros(1, 300).long())
    assert query.pow(2).mean().sqrt().item() == pytest.approx(size, rel=1e-4)
    assert math.isclose(query[0, 0, 8].item(), size * 2**0.5, rel_tol=1e-5)  # cos 0


def test_a_text_longer_than_the_positions_is_refused_in_one_line():
    lm = tiny_lm()
    ids = torch.full((1, 41), 9)
    with pytest.raises(InputError, match="41 tokens"):
        CLSDecoder(lm).inputs(lm, torch.zeros(1, 16), ids)


def test_an_unknown_query_and_an_unfit_backbone_are_refused_in_one_line():
    with pytest.raises(InputError, match="decoder_query"):
        CLSDecoder(tiny_lm(), "product")
    narrow = ElectraForMaskedLM(
        ElectraConfig(
            vocab_size=64,
            embedding_size=8,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
        )
    )
    with pytest.raises(InputError, match="8 wide"):
        CLSDecoder(narrow)
