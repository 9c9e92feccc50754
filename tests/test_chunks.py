"""Encoding in chunks: the gradient of one batch, without its memory."""

from __future__ import annotations

import weakref

import pytest
import torch

from dupmae_toolkit.training.running.chunks import encode_in_chunks
from tests.tiny import tiny_encoder

CHUNKS = [1, 3, 4, 10, 64]


def batch(texts=10, length=12, seed=0):
    ids = torch.randint(5, 60, (texts, length), generator=torch.Generator().manual_seed(seed))
    ids[:, 0] = 2
    mask = torch.ones_like(ids)
    mask[3:, 8:] = 0
    mask[7:, 5:] = 0
    return ids * mask, mask


def make_encoder(dropout=0.0, family="bert", **changes):
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    encoder = tiny_encoder(family, **(rates if family == "bert" else {}))
    encoder.config = encoder.config.but(**changes)
    return encoder.train()


def loss_of(vectors):
    """Looks at every pair of texts, and at the batch's mean."""
    dense, lexical = vectors
    scores = dense[:5] @ dense[5:].T + lexical[:5] @ lexical[5:].T
    cross_entropy = torch.nn.functional.cross_entropy(scores, torch.arange(5))
    return cross_entropy + lexical.mean(0).square().sum()


def gradients(encoder, vectors):
    encoder.zero_grad()
    loss = loss_of(vectors)
    loss.backward()
    return loss.item(), {
        name: weight.grad.clone()
        for name, weight in encoder.named_parameters()
        if weight.grad is not None
    }


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_the_gradient_is_that_of_one_large_batch(chunk_size, family):
    encoder = make_encoder(family=family, normalize=True)
    if family != "bert":
        encoder.eval()
    whole_loss, whole = gradients(encoder, encode_in_chunks(encoder, *batch()))
    loss, found = gradients(encoder, encode_in_chunks(encoder, *batch(), chunk_size=chunk_size))
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    assert set(found) == set(whole)
    for name, gradient in whole.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_dropout_drops_the_same_in_both_passes(chunk_size):
    """The same chunks with all their graphs kept, from the same random state: equal to the bit."""
    encoder = make_encoder(dropout=0.3)
    ids, mask = batch()
    torch.manual_seed(7)
    parts = []
    for start in range(0, len(ids), chunk_size):
        rows = slice(start, start + chunk_size)
        length = int(mask[rows].sum(1).max())
        parts.append(encoder(ids[rows, :length], mask[rows, :length]))
    plain = torch.cat([part.dense for part in parts]), torch.cat([part.lexical for part in parts])
    plain_loss, expected = gradients(encoder, plain)
    torch.manual_seed(7)
    loss, found = gradients(encoder, encode_in_chunks(encoder, ids, mask, chunk_size=chunk_size))
    assert loss == plain_loss
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name


def test_between_the_passes_only_the_vectors_are_kept():
    encoder = make_encoder(dropout=0.1)

    def kept(chunk_size):
        held = {}

        def pack(tensor):
            if not tensor.is_leaf:
                held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            vectors = encode_in_chunks(encoder, *batch(), chunk_size=chunk_size)
        assert vectors.dense.requires_grad
        return sum(held.values())

    assert kept(2) == 0  # cat keeps nothing, and the chunks nothing but their token ids
    assert kept(0) > 10 * 64 * 4  # more than the lexical vectors


def test_only_one_chunk_is_alive_while_gradients_are_taken():
    encoder = make_encoder()
    alive: list[weakref.ref] = []
    most = []
    layer = encoder.lm.bert.encoder.layer[0].intermediate

    def count(module, inputs, output):
        most.append(sum(ref() is not None for ref in alive))
        alive.append(weakref.ref(output))

    handle = layer.register_forward_hook(count)
    vectors = encode_in_chunks(encoder, *batch(), chunk_size=2)
    first_pass = len(most)
    loss_of(vectors).backward()
    handle.remove()
    assert len(most) == 2 * first_pass == 10
    assert max(most) <= 1


def test_the_largest_terms_are_kept_and_get_the_gradient():
    encoder = make_encoder()
    ids, mask = batch()
    whole = encode_in_chunks(encoder, ids, mask).lexical
    for chunk_size in (0, 3):
        found = encode_in_chunks(encoder, ids, mask, chunk_size=chunk_size, top_k=4).lexical
        values, terms = whole.topk(4, dim=1)
        expected = torch.zeros_like(whole).scatter(1, terms, values)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (slope,) = torch.autograd.grad(found.sum(), encoder.lm.get_output_embeddings().bias)
    active = (found > 0).sum(0)
    assert torch.equal(slope != 0, active > 0)


def test_an_encoder_without_a_lexical_head_is_encoded_in_chunks_too():
    encoder = make_encoder(lexical_head="none")
    ids, mask = batch()
    vectors = encode_in_chunks(encoder, ids, mask, chunk_size=3)
    assert vectors.lexical is None
    torch.testing.assert_close(vectors.dense, encode_in_chunks(encoder, ids, mask).dense)


def test_chunks_work_under_autocast():
    encoder = make_encoder(dropout=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(1)
        vectors = encode_in_chunks(encoder, *batch(), chunk_size=4)
        loss = loss_of([vectors.dense, vectors.lexical.float()])
    loss.backward()
    assert all(
        torch.isfinite(weight.grad).all()
        for weight in encoder.parameters()
        if weight.grad is not None
    )
