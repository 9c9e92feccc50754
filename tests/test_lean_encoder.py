"""The encoder that is read without transformers is the one that transformers gives, or none."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from dupmae_toolkit import DupMAEEncoder, load_encoder
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.checkpoints import BUILTIN
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.lean import encoder as lean_encoder
from dupmae_toolkit.model.lean import tokenizer as plain_tokenizer
from dupmae_toolkit.model.lean.encoder import LeanEncoder
from dupmae_toolkit.model.tokens import tokenize

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["river", "war", "sun", "day", "##s", "##ing", "the", "é", "e", "日", "本", "!", "İ", "a"]
TEXTS = [
    "The rivers, warring!",
    "",
    "   ",
    "DAY day Daÿs",
    "日本 sun 日",
    "[CLS] river [MASK] [SEP]",
    "un\u0000known \ufffd \u200b\u202e \U0001f600",
    "e\u0301 é E\u0301 İi",
    "river " * 300,
    "x" * 5000,
    "\ud800 lone",
]


def make_checkpoint(
    folder: Path, *, half: bool = False, lower: bool = True, dense_dim: int = 0, act: str = "gelu"
) -> Path:
    """A random BERT with a real BertTokenizer, saved as ``save_pretrained`` does it."""
    words = SPECIAL + WORDS
    tokenizer = BertTokenizer(vocab={w: i for i, w in enumerate(words)}, do_lower_case=lower)
    torch.manual_seed(4)
    backbone = BertConfig(
        vocab_size=len(words) + 3,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=40,
        initializer_range=0.3,
        hidden_act=act,
    )
    config = DupMAEConfig(max_length=64, top_k=5, dense_dim=dense_dim)
    encoder = DupMAEEncoder(BertForMaskedLM(backbone), tokenizer, config, precision="fp32")
    encoder.save_pretrained(folder, half=half)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("lean") / "bert")


def assert_same(lean, whole, texts=TEXTS):
    assert isinstance(lean, LeanEncoder)
    assert isinstance(whole, DupMAEEncoder)
    assert lean.info == whole.info
    assert lean.vocabulary == whole.vocabulary
    assert lean.arithmetic == whole.arithmetic
    for one, other in (
        (lean.encode_documents(texts), whole.encode_documents(texts)),
        (lean.encode_queries(texts[:3]), whole.encode_queries(texts[:3])),
    ):
        np.testing.assert_array_equal(one.dense, other.dense)
        assert (one.lexical != other.lexical).nnz == 0
        assert one.truncated == other.truncated
        assert one.ids == other.ids


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("act", ["gelu", "relu"])
@pytest.mark.parametrize("arithmetic", ["fp32", "bf16"])
def test_vectors_and_info_are_those_of_the_whole_encoder(tmp_path, half, lower, act, arithmetic):
    folder = make_checkpoint(tmp_path / "bert", half=half, lower=lower, act=act)
    lean = lean_encoder.read_lean_encoder(folder, str(folder), {}, arithmetic)
    assert lean.arithmetic == arithmetic
    assert_same(lean, DupMAEEncoder.from_pretrained(folder, precision=arithmetic))


@pytest.mark.parametrize("arithmetic", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "changes",
    [
        {"top_k": 2, "query_max_length": 4},
        {"normalize": True, "prefix": "the ", "query_prefix": "a "},
        {"lexical_head": "projection", "activation": "relu"},
        {"lexical_head": "none"},
        {"dense_dim": 6},
        {"max_length": 4000, "dense_weight": 3.0},
    ],
)
def test_settings_change_it_as_they_change_the_whole_one(tmp_path, changes, arithmetic):
    folder = make_checkpoint(tmp_path / "bert", dense_dim=changes.get("dense_dim", 0))
    lean = lean_encoder.read_lean_encoder(folder, str(folder), changes, arithmetic)
    assert_same(lean, DupMAEEncoder.from_pretrained(folder, precision=arithmetic, **changes))


@pytest.mark.parametrize("arithmetic", ["fp32", "bf16"])
def test_the_built_in_encoder_is_one(arithmetic):
    lean = lean_encoder.read_lean_encoder(BUILTIN, "builtin", {}, arithmetic)
    texts = [*TEXTS, "How do I parse a date?", "naïve café — “quotes” ½"]
    assert_same(lean, DupMAEEncoder.from_pretrained("builtin", precision=arithmetic), texts)


@pytest.mark.parametrize("arithmetic", ["fp32", "bf16"])
@pytest.mark.parametrize("lean", [True, False])
def test_an_encoder_that_has_encoded_can_be_copied_and_pickled(checkpoint, arithmetic, lean):
    load = load_encoder if lean else DupMAEEncoder.from_pretrained
    encoder = load(checkpoint, precision=arithmetic)
    expected = encoder.encode_documents(TEXTS)
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert type(other) is type(encoder)
        assert other.info == encoder.info
        found = other.encode_documents(TEXTS)
        np.testing.assert_array_equal(found.dense, expected.dense)
        assert (found.lexical != expected.lexical).nnz == 0


@pytest.fixture(scope="module")
def tokenizers():
    return plain_tokenizer.read_tokenizer(BUILTIN), DupMAEEncoder.from_pretrained(
        "builtin"
    ).tokenizer


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.text(), min_size=1, max_size=4), limit=st.integers(3, 20))
def test_any_text_has_the_tokens_that_transformers_gives(tokenizers, texts, limit):
    plain, whole = tokenizers
    assert tokenize(plain, texts, limit) == tokenize(whole, texts, limit)


def edit(path: Path, **changes) -> None:
    values = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**values, **changes}), "utf-8")


def a_decoder(folder):
    edit(folder / "config.json", is_decoder=True)


def another_activation(folder):
    edit(folder / "config.json", hidden_act="silu")


def code_of_its_own(folder):
    edit(folder / "config.json", auto_map={"AutoModelForMaskedLM": "code.Model"})


def a_layer_more(folder):
    edit(folder / "config.json", num_hidden_layers=3)


def relative_positions(folder):
    edit(folder / "config.json", position_embedding_type="relative_key")


def another_case(folder):
    edit(folder / "tokenizer_config.json", do_lower_case=False)


def another_class(folder):
    edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")


def another_mask_token(folder):
    edit(folder / "tokenizer_config.json", mask_token="<mask>")


def an_unheard_setting(folder):
    edit(folder / "tokenizer_config.json", split_special_tokens=True)


def cut_on_the_left(folder):
    edit(folder / "tokenizer_config.json", truncation_side="left")


def more_tokens(folder):
    (folder / "added_tokens.json").write_text('{"new": 19}')


def another_normalizer(folder):
    edit(folder / "tokenizer.json", normalizer={"type": "Lowercase"})


def another_untied_matrix(folder):
    weights = load_file(folder / "model.safetensors")
    weights["cls.predictions.decoder.weight"] = torch.ones(22, 16)
    save_file(weights, folder / "model.safetensors")


def a_weight_less(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["cls.predictions.transform.dense.bias"]
    save_file(weights, folder / "model.safetensors")


def a_weight_more(folder):
    weights = load_file(folder / "model.safetensors")
    weights["adapter.weight"] = torch.ones(2)
    save_file(weights, folder / "model.safetensors")


def another_precision(folder):
    edit(folder / "config.json", dtype="bfloat16")


def several_precisions(folder):
    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.LayerNorm.bias"] = weights["bert.embeddings.LayerNorm.bias"].half()
    save_file(weights, folder / "model.safetensors")


def heads_that_do_not_divide(folder):
    edit(folder / "config.json", num_attention_heads=3)


def no_heads(folder):
    edit(folder / "config.json", num_attention_heads=0)


def a_word_for_a_number(folder):
    edit(folder / "config.json", layer_norm_eps="1e-12")


def more_dropout_than_all(folder):
    edit(folder / "config.json", hidden_dropout_prob=2.0)


def padding_beyond_the_vocabulary(folder):
    edit(folder / "config.json", pad_token_id=4000)


def attention_from_elsewhere(folder):
    edit(folder / "config.json", _attn_implementation="somebody/kernels")


def an_adapter(folder):
    (folder / "adapter_config.json").write_text("{}")


def another_number_for_cls(folder):
    stated = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    stated["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [5]
    edit(folder / "tokenizer.json", **stated)


def no_config(folder):
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    "change",
    [
        *(a_decoder, another_activation, code_of_its_own, a_layer_more, relative_positions),
        *(another_case, another_class, another_mask_token, an_unheard_setting, cut_on_the_left),
        *(more_tokens, another_normalizer, another_untied_matrix, a_weight_less, a_weight_more),
        *(another_precision, several_precisions, heads_that_do_not_divide, no_heads),
        *(a_word_for_a_number, more_dropout_than_all, padding_beyond_the_vocabulary),
        *(attention_from_elsewhere, an_adapter, another_number_for_cls, no_config),
    ],
)
def test_whatever_is_not_plain_is_left_to_transformers(tmp_path, change):
    folder = make_checkpoint(tmp_path / "bert")
    assert lean_encoder.read_lean_encoder(folder, "x", {}) is not None
    change(folder)
    assert lean_encoder.read_lean_encoder(folder, "x", {}) is None


def test_no_weights_are_read_where_the_tokenizer_is_left_to_transformers(tmp_path, monkeypatch):
    folder = make_checkpoint(tmp_path / "bert")
    read = []

    def spy(path):
        read.append(path)
        return load_file(path)

    monkeypatch.setattr("safetensors.torch.load_file", spy)
    assert lean_encoder.read_lean_encoder(folder, "x", {}) is not None
    assert read == [folder / "model.safetensors"]
    # Folders that older versions of transformers saved have it.
    (folder / "special_tokens_map.json").write_text("{}")
    assert lean_encoder.read_lean_encoder(folder, "x", {}) is None
    assert len(read) == 1


def test_a_projection_that_is_not_there_yet_is_left_to_the_whole_encoder(checkpoint):
    assert lean_encoder.read_lean_encoder(checkpoint, "x", {"dense_dim": 3}) is None


def test_the_loader_takes_it_where_it_can_and_the_whole_one_otherwise(checkpoint, monkeypatch):
    for precision in ("fp32", "bf16"):
        encoder = load_encoder(checkpoint, precision=precision)
        assert isinstance(encoder, LeanEncoder)
        assert encoder.arithmetic == precision
        monkeypatch.setattr(
            "dupmae_toolkit.model.precision.has_bf16", lambda _, bf16=precision == "bf16": bf16
        )
        assert load_encoder(checkpoint).arithmetic == precision
    assert load_encoder(checkpoint).info.name == str(checkpoint.resolve())


def test_errors_are_those_of_the_whole_encoder(tmp_path, checkpoint):
    for source, options in (
        (tmp_path / "nowhere", {}),
        (tmp_path, {}),
        (checkpoint, {"precision": "half"}),
        (checkpoint, {"top_k": -1}),
        (checkpoint, {"unheard_of": 1}),
        (checkpoint, {"device": "nowhere"}),
    ):
        with pytest.raises(InputError) as ours:
            load_encoder(source, **options)
        with pytest.raises(InputError) as theirs:
            DupMAEEncoder.from_pretrained(source, **options)
        assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_transformers_is_not_imported_for_it(checkpoint, precision):
    script = (
        "import sys\n"
        "from dupmae_toolkit import load_encoder\n"
        f"encoder = load_encoder({str(checkpoint)!r}, precision={precision!r})\n"
        "found = encoder.encode_queries(['sun'])\n"
        "assert found.lexical.nnz\n"
        "assert 'transformers' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
