"""Archives that lead elsewhere, that swell, or that are broken: nothing is written, little read."""

from __future__ import annotations

import gzip
import json
import os
import resource
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from dupmae_toolkit.collection import sources
from dupmae_toolkit.collection.beir import open_beir
from dupmae_toolkit.collection.opening import open_corpus
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError
from tests.packing import PACKERS

CORPUS = b'{"_id": "d", "text": "the good one"}\n'
EVIL = b'{"_id": "evil", "text": "the evil one"}\n'
QRELS = b"q\td\t1\n"
ZEROS = bytes(1 << 20)


def beir(path: Path, extra: list[tuple[zipfile.ZipInfo | str, bytes]] = (), good=True) -> Path:  # type: ignore[assignment]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, data in extra:
            archive.writestr(info, data)
        if good:
            archive.writestr("toy/corpus.jsonl", CORPUS)
            archive.writestr("toy/queries.jsonl", b'{"_id": "q", "text": "x"}\n')
            archive.writestr("toy/qrels/test.tsv", QRELS)
    return path


def everything(path: Path) -> list[str]:
    data = open_beir(path)
    assert [query.id for query in data.queries("test")] == ["q"]
    return [document.id for document in data.corpus]


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        everything(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    "name",
    [
        *("../corpus.jsonl", "../../corpus.jsonl", "/corpus.jsonl", "/etc/corpus.jsonl"),
        *("x/../../corpus.jsonl", "C:\\corpus.jsonl", "..\\corpus.jsonl", "a\\..\\corpus.jsonl"),
        *("toy//corpus.jsonl", "./corpus.jsonl", "a\x1b[2Jb/corpus.jsonl", "a\nb/corpus.jsonl"),
        *("__MACOSX/corpus.jsonl", ".hidden/corpus.jsonl", "corpus.jsonl/", "//x/corpus.jsonl"),
    ],
)
def test_members_with_names_that_lead_elsewhere_are_not_seen_and_nothing_is_written(tmp_path, name):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    path = beir(inside / "x.zip", [(name, EVIL)])
    before = tree(tmp_path)
    assert everything(path) == ["d"]
    assert tree(tmp_path) == before
    beir(path, [(name, EVIL)], good=False)
    assert "no corpus.jsonl in it" in refusal(path)
    assert tree(tmp_path).keys() == before.keys()


def test_a_link_in_a_zip_is_a_text_like_any_other(tmp_path):
    target = tmp_path / "secret.jsonl"
    target.write_bytes(EVIL)
    info = zipfile.ZipInfo("toy/corpus.jsonl")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = beir(tmp_path / "x.zip", [(info, os.fsencode(target))], good=False)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("toy/queries.jsonl", b'{"_id": "q", "text": "x"}\n')
        archive.writestr("toy/qrels/test.tsv", QRELS)
    assert "broken JSON" in refusal(path)


def test_a_file_that_swells_beyond_reason_is_refused_before_it_is_read_to_its_end(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sources, "BOMB_FLOOR_BYTES", 1 << 20)
    line = b'{"_id": "%d", "text": "' + b"x" * 10_000 + b'"}\n'
    swollen = b"".join(line % n for n in range(1000))  # 10 MB, of it some kB when packed
    for ending, pack in PACKERS.items():
        name = f"c.jsonl{ending}"
        (tmp_path / name).write_bytes(pack(swollen))
        with pytest.raises(InputError, match="unpacks to more than 200 times its size") as caught:
            list(open_corpus(tmp_path / name))
        assert int(str(caught.value).split(":")[1]) < 1000
    path = beir(tmp_path / "x.zip", [("toy/corpus.jsonl", swollen)], good=False)
    with pytest.raises(InputError, match="unpacks to more than 200 times"):
        list(open_corpus(path))


def test_a_line_without_an_end_takes_no_more_memory_than_a_line_may(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 8 << 20)
    packed = gzip.compress(ZEROS.replace(b"\0", b"x") * 100)  # 100 MB in 100 kB
    (tmp_path / "c.jsonl.gz").write_bytes(packed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="a line longer than 8 MiB"):
        list(open_corpus(tmp_path / "c.jsonl.gz"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 << 10  # KiB


def test_a_bomb_of_bombs_is_one_file_deep(tmp_path):
    inner = gzip.compress(gzip.compress(CORPUS * 1000))
    (tmp_path / "c.jsonl.gz").write_bytes(inner)
    with pytest.raises(InputError, match="this is a gzip"):
        list(open_corpus(tmp_path / "c.jsonl.gz"))


def test_a_size_that_a_zip_states_wrongly_is_damage(tmp_path):
    path = beir(tmp_path / "x.zip")
    raw = bytearray(path.read_bytes())
    place = raw.index(b"PK\x01\x02")
    struct.pack_into("<I", raw, place + 24, 5)  # the unpacked size in the directory
    path.write_bytes(raw)
    assert "damaged or cut off" in refusal(path) or "broken JSON" in refusal(path)


def test_a_wrong_checksum_is_damage(tmp_path):
    path = beir(tmp_path / "x.zip")
    raw = bytearray(path.read_bytes())
    struct.pack_into("<I", raw, raw.index(b"PK\x01\x02") + 16, 5)
    path.write_bytes(raw)
    assert "damaged or cut off" in refusal(path)


def test_an_encrypted_member_is_told_from_a_damaged_one(tmp_path):
    path = beir(tmp_path / "x.zip")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x03\x04") + 6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    assert "encrypted" in refusal(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", [*PACKERS, ".zip"])
def test_an_archive_that_was_cut_off_is_refused(tmp_path, kind, share):
    path = tmp_path / ("x.zip" if kind == ".zip" else f"c.jsonl{kind}")
    data = beir(path).read_bytes() if kind == ".zip" else PACKERS[kind](CORPUS * 500)
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError):
        list(open_corpus(path))


def test_a_name_that_stands_twice_gives_one_of_the_two_and_says_nothing_wrong(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = beir(tmp_path / "x.zip", [("toy/corpus.jsonl", EVIL)])
    assert everything(path) == ["d"]  # the last one counts, as for every reader of zips


def test_a_member_without_a_name_is_not_seen(tmp_path):
    path = beir(tmp_path / "x.zip", [("x", EVIL)])
    raw = bytearray(path.read_bytes())
    struct.pack_into("<HH", raw, raw.index(b"PK\x01\x02") + 28, 0, 1)  # the name is an extra field
    path.write_bytes(raw)
    assert everything(path) == ["d"]


def test_an_unknown_compression_is_told(tmp_path):
    path = beir(tmp_path / "x.zip")
    raw = bytearray(path.read_bytes())
    struct.pack_into("<H", raw, raw.index(b"PK\x03\x04") + 8, 99)
    struct.pack_into("<H", raw, raw.index(b"PK\x01\x02") + 10, 99)
    path.write_bytes(raw)
    assert "cannot be unpacked" in refusal(path)


def test_a_zip_behind_other_bytes_and_an_empty_one_are_handled(tmp_path):
    path = beir(tmp_path / "x.zip")
    path.write_bytes(b"#!/bin/sh\nexit 1\n" + path.read_bytes())
    assert everything(path) == ["d"]  # as self-extracting archives are
    with zipfile.ZipFile(path, "w"):
        pass
    assert "no corpus.jsonl in it" in refusal(path)


def test_a_folder_whose_files_are_links_in_circles_is_refused(tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "corpus.jsonl").symlink_to("corpus.jsonl")
    with pytest.raises(InputError):
        list(open_corpus(folder))
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl").mkdir()
    with pytest.raises(InputError, match=r"corpus\.jsonl: this is a folder; name a file"):
        list(open_corpus(folder))


def test_a_device_and_a_pipe_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "c.jsonl")
    with pytest.raises(InputError, match="this is not a file; name a file"):
        list(open_corpus(tmp_path / "c.jsonl"))
    (tmp_path / "d.jsonl").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="this is not a file; name a file"):
        list(TextSource(tmp_path / "d.jsonl").lines())


def test_thousands_of_data_sets_in_one_zip_are_named_and_not_read(tmp_path):
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3000):
            archive.writestr(f"set{number}/corpus.jsonl", json.dumps({"_id": "d", "text": "x"}))
    with pytest.raises(InputError, match="several data sets") as caught:
        open_beir(path)
    assert len(str(caught.value)) < 1100
