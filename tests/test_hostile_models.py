"""Model folders that lie, that are half there, or that would run code: refused in one line."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.model.checkpoints import check_files
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.plausible import check_config
from tests.tiny import save_tiny, tiny_encoder

WEIGHTS = "model.safetensors"


class Touch:
    """Unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "model")
    return tmp_path / "model"


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        DupMAEEncoder.from_pretrained(folder, device="cpu", precision="fp32")
    return str(caught.value)


def configure(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def plant(folder: Path, name: str) -> Path:
    """A pickle that leaves a trace when it is read; returns the trace."""
    trace = folder / f"trace-of-{name}"
    (folder / name).write_bytes(pickle.dumps(Touch(trace)))
    return trace


def test_a_planted_pickle_would_leave_a_trace(tmp_path):
    trace = plant(tmp_path, "x.bin")
    pickle.loads((tmp_path / "x.bin").read_bytes())
    assert trace.exists()


@pytest.mark.parametrize("whole", [True, False])
def test_no_pickle_is_read_wherever_it_lies(folder, whole):
    names = ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "model.pt", "model.pkl")
    traces = [plant(folder, name) for name in (*names, "added_tokens.pkl", "dupmae.bin")]
    if whole:
        DupMAEEncoder.from_pretrained(folder, device="cpu")
    else:
        (folder / WEIGHTS).unlink()
        assert "pickled weights" in refusal(folder)
    assert not any(trace.exists() for trace in traces)


def test_a_pickle_under_the_name_of_safetensors_is_not_read(folder):
    trace = plant(folder, WEIGHTS)
    assert "cannot be loaded" in refusal(folder)
    assert not trace.exists()


@pytest.mark.parametrize("known", [True, False])
def test_code_that_a_config_brings_is_not_run(folder, known):
    trace = folder / "trace"
    code = f"import os\nos.system('touch {trace}')\nclass Evil: pass\n"
    for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py"):
        (folder / name).write_text(code)
    models = {"AutoModelForMaskedLM": "modeling_evil.Evil", "AutoModel": "modeling_evil.Evil"}
    configure(folder, auto_map={"AutoConfig": "configuration_evil.Evil"} | models)
    path = folder / "tokenizer_config.json"
    tokenizer = {"auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", None]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | tokenizer))
    if not known:
        configure(folder, model_type="evil")
        assert "cannot be loaded" in refusal(folder)
    else:
        with contextlib.suppress(InputError):  # a stricter transformers may refuse it
            DupMAEEncoder.from_pretrained(folder, device="cpu")
    assert not trace.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("value", ["evil/kernel", "paged|evil/kernel:f", "evil/kernel@main"])
def test_a_kernel_that_a_config_names_is_not_fetched(folder, key, value):
    configure(folder, **{key: value})
    assert "code from elsewhere is not run" in refusal(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": 2_000_000},
        {"vocab_size": 10**9},
        {"num_hidden_layers": 10**7},
        {"intermediate_size": 10**9},
        {"max_position_embeddings": 10**9},
        {"vocab_size": 10**30},
    ],
)
def test_sizes_beyond_the_weights_are_refused_before_anything_is_made(folder, values):
    configure(folder, **values)
    with pytest.raises(InputError, match=f"{next(iter(values))} is .*more than weights of"):
        check_config(folder)
    refusal(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": "16"},
        {"hidden_size": -16},
        {"hidden_size": 0},
        {"hidden_size": None},
        {"num_attention_heads": 0},
        {"num_attention_heads": 3},
        {"num_hidden_layers": 3},
        {"vocab_size": 63},
        {"vocab_size": True},
        {"hidden_act": "os.system"},
        {"pad_token_id": 64},
        {"model_type": "../bert"},
        {"model_type": ["bert"]},
        {"dupmae": {"top_k": "all"}},
        {"dupmae": {"dense_dim": 8}},
        {"dupmae": [1]},
        {"dupmae": {"max_length": 1e99}},
        {"dupmae": {"dense_weight": float("nan")}},
        {"dupmae": {"prefix": 7}},
    ],
    ids=str,
)
def test_wrong_values_in_a_config_are_one_line(folder, values):
    configure(folder, **values)
    assert refusal(folder).startswith(str(folder))


def header(values: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(start: int, end: int, shape=(2, 2), dtype="F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "content",
    [
        header({}, length=2**63),
        header({}, length=10**9),
        header(b"[" * 10_000),
        header(b"\xff\xfe"),
        header({"a": tensor(0, 16)}),
        header({"a": tensor(0, 16), "b": tensor(8, 24)}, bytes(24)),
        header({"a": tensor(0, 16), "b": tensor(32, 48)}, bytes(48)),
        header({"a": tensor(16, 0)}, bytes(16)),
        header({"a": tensor(0, 16, (2**40, 2**40))}, bytes(16)),
        header({"a": tensor(0, 16, (-2, -2))}, bytes(16)),
        header({"a": tensor(0, 16, dtype="OBJECT")}, bytes(16)),
        header({"a": tensor(0, 16)}, bytes(17)),
        b"",
        b"\0" * 7,
    ],
)
def test_headers_of_safetensors_that_lie_are_one_line(folder, content):
    (folder / WEIGHTS).write_bytes(content)
    assert "cannot be loaded" in refusal(folder)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_told_when_they_are_used(folder, bad):
    state = load_file(folder / WEIGHTS)
    for value in state.values():
        value.view(-1)[0] = bad
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    encoder = DupMAEEncoder.from_pretrained(folder, device="cpu", precision="fp32")
    with pytest.raises(DupMAEError, match="is not finite; the weights are damaged"):
        encoder.encode_documents(["w1 w2"])


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64, torch.uint8])
def test_weights_of_other_kinds_of_number_are_refused_or_read_as_numbers(folder, kind):
    state = load_file(folder / WEIGHTS)
    name = "bert.encoder.layer.0.output.dense.weight"
    state[name] = state[name].to(kind)
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    with contextlib.suppress(InputError):
        encoder = DupMAEEncoder.from_pretrained(folder, device="cpu", precision="fp32")
        assert encoder.encode_documents(["w1"]).dense.dtype.name == "float32"


def test_tensors_that_nobody_asked_for_change_nothing(folder):
    plain = DupMAEEncoder.from_pretrained(folder, device="cpu", precision="fp32")
    state = load_file(folder / WEIGHTS)
    save_file(
        state | {"evil.weight": torch.ones(3), "": torch.ones(1)},
        folder / WEIGHTS,
        {"format": "pt"},
    )
    other = DupMAEEncoder.from_pretrained(folder, device="cpu", precision="fp32")
    assert other.weights_sha256 == plain.weights_sha256


@pytest.mark.parametrize(
    "shape", [(9, 16), (8, 17), (8,), (0, 16)], ids=["rows", "columns", "flat", "none"]
)
def test_a_projection_of_another_shape_is_one_line(tmp_path, shape):
    encoder = tiny_encoder()
    encoder.config = encoder.config.but(dense_dim=8)
    encoder.dense_projection = torch.nn.Linear(16, 8, bias=False)
    encoder.save_pretrained(tmp_path / "m")
    save_file({"dense_projection.weight": torch.ones(shape)}, tmp_path / "m" / "dupmae.safetensors")
    assert "the projection of [CLS] cannot be loaded" in refusal(tmp_path / "m")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": "1.0"}',
        '{"model": {"type": "WordPiece", "vocab": {"a": -1}}}',
        '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a a a"]}}',
        '{"model": {"type": "WordPiece", "vocab": {}, "unk_token": "[UNK]"}}',
        "[" * 100_000,
    ],
)
def test_a_tokenizer_that_is_none_is_one_line(folder, content):
    (folder / "tokenizer.json").write_text(content)
    assert "tokenizer" in refusal(folder)


def test_a_tokenizer_whose_ids_leave_the_matrix_is_one_line(folder):
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["vocab"]["w1"] = 10**6
    path.write_text(json.dumps(values))
    with pytest.raises(DupMAEError):
        DupMAEEncoder.from_pretrained(folder, device="cpu").encode_documents(["w1"])


def test_links_that_lead_in_circles_and_folders_that_are_files_are_one_line(tmp_path, folder):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "loop" in refusal(loop)
    for name in ("config.json", WEIGHTS, "tokenizer.json"):
        path = folder / name
        data = path.read_bytes()
        path.unlink()
        path.symlink_to(name)
        assert str(folder) in refusal(folder)
        path.unlink()
        path.mkdir()
        assert str(folder) in refusal(folder)
        path.rmdir()
        path.write_bytes(data)
    check_files(folder)


@pytest.mark.parametrize(
    "name", ["", "\0", "a\nb", "../../../etc", "x" * 5000, "a//b", "~nobody/x"]
)
def test_names_that_are_no_folders_are_one_line(name):
    with pytest.raises(InputError):
        DupMAEEncoder.from_pretrained(name)
