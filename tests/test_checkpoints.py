"""Loading masked language models as they are found in the wild."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model import checkpoints
from dupmae_toolkit.model.checkpoints import load_masked_lm
from dupmae_toolkit.model.encoder import DupMAEEncoder
from tests.tiny import FAMILIES, save_tiny, tiny_config, tiny_tokenizer

IDS = torch.tensor([[2, 9, 17, 55, 30, 3], [2, 12, 3, 0, 0, 0]])
MASK = (IDS != 0).long()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **options: object) -> str:
        raise ConnectionError("the network is not for tests")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)


def rewrite(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Replace a checkpoint's weights by these."""
    state = {name: value.clone().contiguous() for name, value in state.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def logits(lm) -> torch.Tensor:
    with torch.no_grad():
        return lm(input_ids=IDS, attention_mask=MASK).logits[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_with_its_head_and_gives_its_logits(tmp_path: Path, family: str):
    saved = save_tiny(tmp_path, family)
    lm, tokenizer, has_head = load_masked_lm(tmp_path)
    assert has_head
    assert not lm.training
    assert tokenizer.is_fast
    torch.testing.assert_close(logits(lm), logits(saved), rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_of_the_bare_encoder_has_no_head(tmp_path: Path, family: str):
    saved = save_tiny(tmp_path, family)
    saved.base_model.save_pretrained(tmp_path)
    lm, _, has_head = load_masked_lm(tmp_path)
    assert not has_head
    for name, value in saved.base_model.state_dict().items():
        assert torch.equal(lm.base_model.state_dict()[name], value), name


def test_old_layer_norm_names_and_stray_position_ids_are_read(tmp_path: Path):
    saved = save_tiny(tmp_path)
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in saved.state_dict().items()
    }
    state["bert.embeddings.position_ids"] = torch.arange(40)[None]
    assert any(name.endswith("gamma") for name in state)
    rewrite(tmp_path, state)
    lm, _, has_head = load_masked_lm(tmp_path)
    assert has_head
    torch.testing.assert_close(logits(lm), logits(saved), rtol=0, atol=0)


@pytest.mark.parametrize("dropped", ["cls.predictions.bias", "cls.predictions.decoder.bias"])
def test_the_authors_shape_is_read_whichever_copy_of_the_bias_it_keeps(
    tmp_path: Path, dropped: str
):
    saved = save_tiny(tmp_path)
    state = dict(saved.state_dict())
    assert {"cls.predictions.decoder.weight", "cls.predictions.transform.dense.weight"} <= set(
        state
    )
    del state[dropped]
    rewrite(tmp_path, state)
    lm, _, has_head = load_masked_lm(tmp_path)
    assert has_head
    torch.testing.assert_close(logits(lm), logits(saved), rtol=0, atol=0)


@pytest.mark.parametrize("old_names", [False, True])
def test_names_without_prefix_and_with_a_pooler_are_read(tmp_path: Path, old_names: bool):
    saved = save_tiny(tmp_path)
    state = {
        name.removeprefix("bert."): value
        for name, value in saved.state_dict().items()
        if name.startswith("bert.")
    }
    state["pooler.dense.weight"], state["pooler.dense.bias"] = torch.ones(16, 16), torch.ones(16)
    if old_names:
        state = {name.replace("Norm.weight", "Norm.gamma"): v for name, v in state.items()}
    rewrite(tmp_path, state)
    lm, _, has_head = load_masked_lm(tmp_path)
    assert not has_head
    torch.testing.assert_close(
        lm.base_model(IDS, MASK)[0][:, 0], saved.base_model(IDS, MASK)[0][:, 0], rtol=0, atol=0
    )


def test_an_encoder_fine_tuned_for_classification_has_no_head(tmp_path: Path):
    save_tiny(tmp_path)
    model = AutoModelForSequenceClassification.from_config(tiny_config("bert"))
    model.save_pretrained(tmp_path)
    assert not load_masked_lm(tmp_path)[2]


def test_half_precision_weights_are_read_into_float32(tmp_path: Path):
    saved = save_tiny(tmp_path)
    saved.half().save_pretrained(tmp_path)
    lm, _, _ = load_masked_lm(tmp_path)
    assert {p.dtype for p in lm.parameters()} == {torch.float32}
    for name, value in saved.state_dict().items():
        assert torch.equal(lm.state_dict()[name], value.float()), name


def test_a_missing_head_is_refused_for_lexical_use_but_not_for_dense_or_training(tmp_path: Path):
    save_tiny(tmp_path).base_model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no masked-LM head") as caught:
        DupMAEEncoder.from_pretrained(tmp_path, precision="fp32")
    assert "\n" not in str(caught.value)
    dense = DupMAEEncoder.from_pretrained(tmp_path, precision="fp32", lexical_head="none")
    assert dense(IDS, MASK).lexical is None
    with pytest.warns(UserWarning, match="masked-LM head is new"):
        fresh = DupMAEEncoder.from_pretrained(tmp_path, precision="fp32", fresh_head=True)
    assert fresh(IDS, MASK).lexical is not None


def test_a_fresh_head_is_the_same_one_each_time_and_leaves_the_generator_alone(tmp_path: Path):
    save_tiny(tmp_path).base_model.save_pretrained(tmp_path)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, _, has_head = load_masked_lm(tmp_path, fresh_head=True)
    assert torch.equal(torch.rand(3), expected)
    second, _, _ = load_masked_lm(tmp_path, fresh_head=True)
    assert has_head
    torch.testing.assert_close(logits(first), logits(second), rtol=0, atol=0)


def test_a_head_that_is_there_stays_when_a_fresh_one_is_allowed(tmp_path: Path):
    saved = save_tiny(tmp_path)
    lm, _, _ = load_masked_lm(tmp_path, fresh_head=True)
    torch.testing.assert_close(logits(lm), logits(saved), rtol=0, atol=0)


def test_sharded_safetensors_load_and_a_lost_shard_is_one_line(tmp_path: Path):
    saved = save_tiny(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    saved.save_pretrained(tmp_path, max_shard_size="6KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    torch.testing.assert_close(logits(load_masked_lm(tmp_path)[0]), logits(saved), rtol=0, atol=0)
    shards[-1].unlink()
    refused(tmp_path)


def refused(source: str | Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_masked_lm(source)
    message = str(caught.value)
    assert "\n" not in message
    assert str(source) in message
    for word in words:
        assert word in message, message


class Bomb:
    """Unpickling this is seen."""

    went_off = False

    def __reduce__(self):
        return (setattr, (Bomb, "went_off", True))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"])
def test_pickled_weights_are_never_opened(tmp_path: Path, name: str):
    save_tiny(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path, "pickled", "safetensors", name)
    assert not Bomb.went_off


def test_a_pickle_is_not_opened_for_want_of_the_shards_index(tmp_path: Path):
    save_tiny(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path, "pickled")
    assert not Bomb.went_off


def test_safetensors_are_taken_where_a_pickle_lies_beside_them(tmp_path: Path):
    saved = save_tiny(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    torch.testing.assert_close(logits(load_masked_lm(tmp_path)[0]), logits(saved), rtol=0, atol=0)
    assert not Bomb.went_off


def test_a_missing_folder_a_file_and_an_empty_folder_are_one_line(tmp_path: Path):
    refused(tmp_path / "nowhere", "no such folder")
    refused("nowhere/at/all", "no such folder")
    file = tmp_path / "file"
    file.write_text("x")
    refused(file, "is a file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no config.json")


def test_an_unknown_hub_id_is_one_line_with_the_hubs_reason():
    refused("nobody/nothing", "no such folder", "the hub cannot be reached")


def test_a_hub_id_on_the_machine_is_read_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    saved = save_tiny(tmp_path)

    def cache(name: str, local_files_only: bool = False, **options: object) -> str:
        assert name == "someone/model"
        assert local_files_only, "the network was asked"
        assert not any("bin" in pattern for pattern in options["allow_patterns"])  # type: ignore[attr-defined]
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", cache)
    torch.testing.assert_close(
        logits(load_masked_lm("someone/model")[0]), logits(saved), rtol=0, atol=0
    )


def test_weights_missing_from_the_encoder_are_one_line(tmp_path: Path):
    saved = save_tiny(tmp_path)
    state = dict(saved.state_dict())
    lost = "bert.encoder.layer.1.attention.self.query.weight"
    del state[lost]
    rewrite(tmp_path, state)
    refused(tmp_path, "1 of the encoder's weights", lost)


def test_weights_of_another_family_are_one_line(tmp_path: Path):
    save_tiny(tmp_path, "roberta")
    tiny_config("modernbert").save_pretrained(tmp_path)
    refused(tmp_path, "missing", "modernbert")


def test_weights_of_another_size_are_one_line(tmp_path: Path):
    save_tiny(tmp_path)
    tiny_config("bert", intermediate_size=32).save_pretrained(tmp_path)
    refused(tmp_path, "shape")


@pytest.mark.parametrize(
    "content", [b"", b"garbage of no kind", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"]
)
def test_weights_that_are_no_safetensors_are_one_line(tmp_path: Path, content: bytes):
    save_tiny(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    refused(tmp_path)


def test_truncated_weights_are_one_line(tmp_path: Path):
    save_tiny(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(tmp_path)


def test_a_git_lfs_pointer_is_named_for_what_it_is(tmp_path: Path):
    save_tiny(tmp_path)
    (tmp_path / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    )
    refused(tmp_path, "git lfs pull")


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"model_type": "gpt2"}),
        json.dumps({"model_type": "no-such-model"}),
        json.dumps({"model_type": "bert", "auto_map": {"AutoModelForMaskedLM": "code.Model"}}),
        json.dumps({"model_type": "bert", "hidden_size": "wide"}),
    ],
)
def test_a_config_that_is_no_masked_lms_is_one_line(tmp_path: Path, config: str):
    save_tiny(tmp_path)
    (tmp_path / "code.py").write_text("raise SystemExit('code from a checkpoint was run')")
    (tmp_path / "config.json").write_text(config)
    refused(tmp_path)


def test_a_missing_tokenizer_is_one_line(tmp_path: Path):
    save_tiny(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    refused(tmp_path, "has no tokenizer")
    (tmp_path / "tokenizer_config.json").unlink()
    refused(tmp_path, "has no tokenizer")


def test_an_old_checkpoint_with_a_plain_word_list_is_tokenised(tmp_path: Path):
    save_tiny(tmp_path)
    expected = tiny_tokenizer()
    for path in tmp_path.glob("*token*"):
        path.unlink()
    tokens = expected.convert_ids_to_tokens(list(range(len(expected))))
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    _, tokenizer, _ = load_masked_lm(tmp_path)
    assert tokenizer.is_fast
    text = "w1 w22p3 w4"
    assert tokenizer(text)["input_ids"] == expected(text)["input_ids"] == [2, 6, 27, 58, 9, 3]


def test_a_tokenizer_without_words_or_that_does_not_parse_is_one_line(tmp_path: Path):
    save_tiny(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("")
    refused(tmp_path, "tokenizer")
    (tmp_path / "tokenizer.json").write_text("{")
    refused(tmp_path, "tokenizer")


def test_a_tokenizer_with_more_tokens_than_the_model_is_one_line(tmp_path: Path):
    save_tiny(tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(tmp_path)
    refused(tmp_path, "65 tokens", "64")


def test_a_model_with_more_rows_than_the_tokenizer_loads(tmp_path: Path):
    save_tiny(tmp_path, size=72)
    lm, tokenizer, has_head = load_masked_lm(tmp_path)
    assert has_head
    assert (len(tokenizer), lm.get_input_embeddings().weight.shape[0]) == (64, 72)


def test_loading_says_nothing_on_either_stream(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    save_tiny(tmp_path).base_model.save_pretrained(tmp_path)
    capfd.readouterr()
    load_masked_lm(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_the_model_is_the_same_as_transformers_reads_it(tmp_path: Path):
    save_tiny(tmp_path, "distilbert")
    theirs = AutoModel.from_pretrained(tmp_path).eval()
    ours, _, _ = load_masked_lm(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(
            ours.base_model(IDS, MASK)[0], theirs(IDS, MASK)[0], rtol=0, atol=0
        )
    assert load_file(tmp_path / "model.safetensors")
    assert checkpoints.checkpoint_folder(tmp_path) == tmp_path
