"""BERT's lean layers against transformers' own, and that they step aside where they must."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM
from transformers.models.bert.modeling_bert import BertSelfAttention

from dupmae_toolkit.model.lean import bert as lean
from dupmae_toolkit.model.lean import bf16 as lean_bf16
from dupmae_toolkit.model.lean.bert import LeanBert
from dupmae_toolkit.model.lean.bf16 import HalfProduct, LeanBertBf16
from tests.test_encoder import TEXTS, make_encoder


def make_bert(act="gelu", half=True, **changes):
    torch.manual_seed(3)
    config = BertConfig(
        **{
            "vocab_size": 211,
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 80,
            "max_position_embeddings": 96,
            "hidden_act": act,
            "layer_norm_eps": 1e-6,
            **changes,
        }
    )
    lm = BertForMaskedLM(config).eval()
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.02 if "embed" in name else 0.1))
            if half:
                parameter.copy_(parameter.half())
    return lm


def batch(*lengths):
    generator = torch.Generator().manual_seed(len(lengths))
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for i, length in enumerate(lengths):
        ids[i, :length] = torch.randint(1, 211, (length,), generator=generator)
        mask[i, :length] = 1
    return ids, mask


def lean_of(lm):
    return LeanBert.of(lm)


def are_halves(lm):
    return lean._are_halves(dict(lm.named_parameters()))


@pytest.mark.parametrize("act", ["gelu", "relu", "gelu_new", "silu"])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("lengths", [(1,), (11,), (96,), (7, 31, 2), (90, 96, 1, 50)])
@torch.no_grad()
def test_hidden_states_transform_and_logits_are_those_of_transformers(act, half, tied, lengths):
    lm = make_bert(act, half, tie_word_embeddings=tied)
    ids, mask = batch(*lengths)
    ours = lean_of(lm)
    counts = mask.bool()
    hidden = ours.hidden_states(ids, mask)
    expected = lm.bert(input_ids=ids, attention_mask=mask)[0]
    torch.testing.assert_close(hidden[counts], expected[counts], atol=2e-5, rtol=2e-5)
    rows = ours.transform(hidden[counts])
    torch.testing.assert_close(
        rows, lm.cls.predictions.transform(expected[counts]), atol=5e-5, rtol=5e-5
    )
    logits = ours.logits(rows) + lm.get_output_embeddings().bias
    whole = lm(input_ids=ids, attention_mask=mask).logits[counts]
    torch.testing.assert_close(logits, whole, atol=2e-4, rtol=2e-4)


def off(found, exact):
    return (found.float() - exact).norm() / exact.norm()


@pytest.fixture(params=[True, False], ids=["laid out", "plain"])
def laid_out(request, monkeypatch):
    if request.param and not lean_bf16.can_pack():
        pytest.skip("no bf16 products on this processor")
    monkeypatch.setattr(lean_bf16, "can_pack", lambda: request.param)


@pytest.mark.parametrize("act", ["gelu", "relu", "gelu_new"])
@pytest.mark.parametrize("lengths", [(1,), (11,), (96,), (7, 31, 2), (90, 96, 1, 50)])
@torch.no_grad()
def test_in_bf16_nothing_is_farther_from_float32_than_under_autocast(act, lengths, laid_out):
    lm = make_bert(act)
    ids, mask = batch(*lengths)
    counts = mask.bool()
    exact = lm.bert(input_ids=ids, attention_mask=mask)[0][counts]
    features = lm.cls.predictions.transform(exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        usual = lm.bert(input_ids=ids, attention_mask=mask)[0][counts]
        usual_features = lm.cls.predictions.transform(usual)
    ours = LeanBertBf16.of(lm)
    hidden = ours.hidden_states(ids, mask)[counts]
    rows = ours.transform(hidden)
    assert hidden.dtype == rows.dtype == torch.float32
    assert 1e-5 < off(hidden, exact) < 1.2 * off(usual, exact)
    assert 1e-5 < off(rows, features) < 1.2 * off(usual_features, features)
    assert ours.vocabulary.dtype == torch.bfloat16
    assert off(ours.vocabulary, lm.get_output_embeddings().weight) < 4e-3


@torch.no_grad()
def test_in_bf16_a_text_of_padding_alone_moves_no_other_and_is_finite():
    ours = LeanBertBf16.of(make_bert())
    ids, mask = batch(40, 40, 40)
    whole = ours.hidden_states(ids, mask)
    mask[1] = 0
    found = ours.hidden_states(ids, mask)
    assert torch.isfinite(found).all()
    assert off(found[[0, 2]], whole[[0, 2]]) < 1e-2


@torch.no_grad()
def test_in_bf16_attention_of_long_texts_gives_what_that_of_short_ones_gives(monkeypatch):
    ours = LeanBertBf16.of(make_bert())
    ids, mask = batch(96, 90, 3)
    short = ours.hidden_states(ids, mask)[mask.bool()]
    monkeypatch.setattr(lean_bf16, "MOST_SCORES", 3 * 4 * 96**2 - 1)
    long = ours.hidden_states(ids, mask)[mask.bool()]
    assert 0 < off(long, short) < 1e-2


def test_a_bf16_product_is_the_float32_product_of_the_rounded_numbers(laid_out):
    torch.manual_seed(0)
    weight, bias, x, to = (torch.randn(*shape) for shape in ((30, 48), (30,), (70, 48), (70, 30)))
    product = HalfProduct(weight, bias)
    rounded = [part.bfloat16().double() for part in (x, weight, bias)]
    exact = rounded[0] @ rounded[1].T + rounded[2]
    found = product(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-5)
    sums = product.added(x, to.clone())
    torch.testing.assert_close(sums, found.float() + to)
    assert product(x[:0]).shape == (0, 30)


class Products:
    """In the place of what torch keeps for its compiler."""

    def __init__(self, product):
        self._linear_pointwise = lambda x, weight, bias, *_: product(x, weight, bias)
        self._reorder_linear_weight = lambda weight, rows: weight
        self._is_mkldnn_bf16_supported = lambda: True


@pytest.mark.parametrize("missing", ["_linear_pointwise", "_reorder_linear_weight"])
def test_weights_are_not_laid_out_where_torch_lacks_what_it_takes(monkeypatch, missing):
    plain = Products(torch.nn.functional.linear)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops, "mkldnn", plain)
    assert lean_bf16.can_pack.__wrapped__() is True
    delattr(plain, missing)
    assert lean_bf16.can_pack.__wrapped__() is False


def test_weights_are_not_laid_out_where_their_product_is_another_or_none(monkeypatch):
    def refusing(*_):
        raise RuntimeError("other arguments")

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    linear = torch.nn.functional.linear
    for product, right in (
        (linear, True),
        (lambda x, w, b: linear(x, w), False),
        (refusing, False),
    ):
        monkeypatch.setattr(torch.ops, "mkldnn", Products(product))
        assert lean_bf16.can_pack.__wrapped__() is right


def test_a_product_whose_weights_cannot_be_laid_out_is_the_plain_one(monkeypatch):
    def refusing(*_):
        raise RuntimeError("not of this shape")

    weight, bias, x = torch.randn(30, 48), torch.randn(30), torch.randn(5, 48)
    monkeypatch.setattr(lean_bf16, "can_pack", lambda: True)
    products = Products(torch.nn.functional.linear)
    products._reorder_linear_weight = refusing
    monkeypatch.setattr(torch.ops, "mkldnn", products)
    found = HalfProduct(weight, bias)(x)
    torch.testing.assert_close(found.float(), x @ weight.T + bias, rtol=0.05, atol=0.2)


def test_weights_are_read_in_half_precision_only_if_nothing_is_lost():
    assert are_halves(make_bert()) == ("fbgemm" in torch.backends.quantized.supported_engines)
    assert not are_halves(make_bert(half=False))
    lm = make_bert()
    with torch.no_grad():
        lm.bert.encoder.layer[1].output.dense.weight[3, 5] = 1e6  # no float16 number
    assert not are_halves(lm)


@pytest.mark.parametrize("size", [1, 64, 65, 200])
def test_few_rows_and_many_give_the_same_product(size):
    weight = torch.randn(300, 40).half().float()
    x = torch.randn(size, 40)
    product = lean.Product(weight, None)
    if "fbgemm" in torch.backends.quantized.supported_engines:
        product.pack()
    torch.testing.assert_close(product(x), x @ weight.T, atol=1e-4, rtol=1e-5)
    assert product(x[:0]).shape == (0, 300)


def test_embeddings_without_layers_are_left_to_transformers():
    assert lean_of(make_bert(num_hidden_layers=0)) is None


def listening(lm):
    lm.bert.encoder.layer[1].register_forward_hook(lambda *_: None)


def replacing_attention(lm):
    class Other(BertSelfAttention):
        pass

    lm.bert.encoder.layer[0].attention.self.__class__ = Other


def replacing_a_product(lm):
    class Adapter(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    lm.bert.encoder.layer[0].output.dense.__class__ = Adapter


@pytest.mark.parametrize("change", [listening, replacing_attention, replacing_a_product])
def test_a_model_that_was_changed_is_left_to_transformers(change):
    lm = make_bert()
    change(lm)
    assert lean_of(lm) is None


def test_other_families_decoders_and_other_dtypes_are_left_to_transformers():
    assert lean_of(make_bert(is_decoder=True)) is None
    assert lean_of(make_bert().bfloat16()) is None
    roberta = make_encoder("roberta")
    assert LeanBert.of(roberta.lm) is None


@pytest.mark.parametrize(("precision", "room"), [("fp32", 1e-5), ("bf16", 5e-2)])
def test_the_encoder_uses_it_and_gives_transformers_vectors(monkeypatch, precision, room):
    encoder = make_encoder(precision=precision)
    assert type(lean_copy(encoder)) is lean_bf16.LEAN[precision]
    ours = encoder.encode_documents(TEXTS)
    monkeypatch.setattr(LeanBert, "of", classmethod(lambda cls, lm: None))
    encoder._inference_copies.clear()
    theirs = encoder.encode_documents(TEXTS)
    assert abs(ours.dense - theirs.dense).max() < room
    assert abs(ours.lexical - theirs.lexical).max() < room


def test_one_encoder_changes_between_precisions():
    encoder = make_encoder(precision="fp32")
    whole = encoder.encode_documents(TEXTS).dense
    encoder.precision = "bf16"
    assert 0 < abs(encoder.encode_documents(TEXTS).dense - whole).max() < 2e-2
    encoder.precision = "fp32"
    assert (encoder.encode_documents(TEXTS).dense == whole).all()


@torch.no_grad()
def lean_copy(encoder):
    with encoder.autocast():
        layers = encoder._layers()
        return layers if isinstance(layers, LeanBert) else None


def test_it_follows_the_weights_and_steps_aside_for_a_hook_that_comes_later():
    encoder = make_encoder()
    before = encoder.encode_documents(TEXTS).dense
    with torch.no_grad():
        encoder.lm.bert.encoder.layer[0].attention.self.key.weight.mul_(-3)
    after = encoder.encode_documents(TEXTS).dense
    assert abs(after - before).max() > 1e-4
    fresh = copy.deepcopy(encoder)
    fresh._inference_copies.clear()
    assert (fresh.encode_documents(TEXTS).dense == after).all()
    heard = []
    encoder.lm.bert.encoder.layer[0].register_forward_hook(lambda *_: heard.append(1))
    encoder.encode_documents(TEXTS)
    assert heard


def test_training_and_gradients_do_not_go_through_it():
    encoder = make_encoder()
    ids, mask = batch(5)
    ids %= len(encoder.vocabulary)
    assert encoder(ids, mask).dense.requires_grad
    with torch.no_grad():
        encoder.train()
        assert lean_copy(encoder) is None
