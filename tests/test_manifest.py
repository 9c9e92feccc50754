"""The manifest: what it keeps, what it refuses, what it says when it is not whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dupmae_toolkit.errors import EncoderMismatchError, InputError
from dupmae_toolkit.files import sha256_lines
from dupmae_toolkit.index.impacts import QuantizationError
from dupmae_toolkit.index.manifest import Manifest, SegmentEntry
from dupmae_toolkit.index.staging import check_target
from dupmae_toolkit.index.vocabulary import write_vocabulary
from dupmae_toolkit.records import EncoderInfo

VOCABULARY = ["a", "b c", "", "\ud800", "日本", "\n"]


def info(**changes: Any) -> EncoderInfo:
    values = {
        "name": "tiny",
        "weights_sha256": "0" * 64,
        "vocabulary_sha256": sha256_lines(VOCABULARY),
        "vocabulary_size": len(VOCABULARY),
        "dense_dim": 4,
    }
    return EncoderInfo(**(values | changes))


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "encoder": info(),
        "scale": 255 / 3.3,
        "max_impact": 255,
        "faiss_spec": "Flat",
        "segment_size": 10,
        "segments": [
            SegmentEntry("000001", 10, 50, QuantizationError(50, 0.1, 0.5, 2, 1)),
            SegmentEntry("000002", 3, 10, QuantizationError(10, 0.4, 0.4)),
        ],
        "source": "notes.jsonl",
        "truncated": 2,
        "checksums": {"vocabulary.json": {"sha256": "1" * 64, "bytes": 9}},
    }
    return Manifest(**(values | changes))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved = manifest(generation=4)
    saved.segments[1] = replace(saved.segments[1], dead=2, deletions="deletions/000002-4.npy")
    saved.save(tmp_path)
    assert Manifest.load(tmp_path) == saved
    assert (saved.count, saved.live, saved.dead) == (13, 11, 2)
    assert saved.error.weights == 60
    assert saved.error.mean_absolute == pytest.approx(0.15)


def test_the_same_manifest_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        manifest().save(tmp_path / name)
    one, two = ((tmp_path / name / "manifest.json").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_vocabulary_of_any_tokens_comes_back(tmp_path: Path) -> None:
    write_vocabulary(tmp_path / "vocabulary.json", VOCABULARY)
    assert manifest().vocabulary(tmp_path) == VOCABULARY


@pytest.mark.parametrize("content", ['["a"]', '{"a": 1}', "[1]", "nonsense"])
def test_another_vocabulary_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "vocabulary.json").write_text(content)
    with pytest.raises(InputError, match=r"vocabulary\.json"):
        manifest().vocabulary(tmp_path)


def test_every_flipped_digit_of_a_number_is_found(tmp_path: Path) -> None:
    manifest().save(tmp_path)
    path = tmp_path / "manifest.json"
    values = json.loads(path.read_text())
    values["impacts"]["scale"] *= 2
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="changed or damaged"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "nonsense", "[]", "{}", '{"format_version": 1}', '{"encoder": {}}', "\x00"]
)
def test_what_is_no_manifest_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json") as raised:
        Manifest.load(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_later_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format_version": 5, "segments": []}')
    with pytest.raises(InputError, match="update dupmae-toolkit"):
        Manifest.load(tmp_path)


def test_where_there_is_no_index_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such index"):
        Manifest.load(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: is a file; name the folder of an index"):
        Manifest.load(tmp_path / "file")
    with pytest.raises(InputError, match=r"it has no manifest\.json"):
        Manifest.load(tmp_path)
    (tmp_path / "segments").mkdir()
    with pytest.raises(InputError, match=r"manifest\.json is missing, .*restore it .*overwrite"):
        Manifest.load(tmp_path)
    (tmp_path / ".building").mkdir()
    with pytest.raises(InputError, match="its build was interrupted"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[1, 2", "[]", '{"format_version": 2}', "nothing", "\x00\xff"]
)
@pytest.mark.parametrize("segments", [True, False])
def test_of_a_manifest_that_is_none_the_advice_can_be_followed(
    tmp_path: Path, content: str, segments: bool
) -> None:
    (tmp_path / "manifest.json").write_text(content, "latin-1")
    if segments:
        (tmp_path / "segments").mkdir()
    with pytest.raises(InputError) as raised:
        Manifest.load(tmp_path)
    said = str(raised.value)
    assert str(tmp_path / "manifest.json") in said
    assert ("restore it from a copy" in said) == ("--overwrite" in said) == segments
    assert ("in a new folder" in said) == (not segments)
    if segments:
        check_target(tmp_path, overwrite=True)
    else:
        with pytest.raises(InputError, match="name a new folder"):
            check_target(tmp_path, overwrite=True)


@pytest.mark.parametrize("change", [{"weights_sha256": "9" * 64}, {"max_length": 128}])
def test_another_encoder_is_refused_with_both_names_and_the_difference(change: dict) -> None:
    with pytest.raises(EncoderMismatchError) as raised:
        manifest().check_encoder(Path("idx"), info(name="other", **change))
    for part in ("'tiny'", "'other'", next(iter(change))):
        assert part in str(raised.value)


def test_a_renamed_encoder_and_other_weights_of_the_score_are_the_same_encoder() -> None:
    manifest().check_encoder(Path("idx"), info(name="other", lexical_weight=0.5))
