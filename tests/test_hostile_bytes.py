"""Whatever bytes are in a file, readers give records or refuse in one line."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dupmae_toolkit.collection.beir import open_beir
from dupmae_toolkit.collection.opening import open_corpus, read_qrels, read_queries
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.errors import InputError
from tests.packing import PACKERS

NAMES = ["c.jsonl", "c.tsv", "c.jsonl.gz", "c.tsv.xz", "c.zip", "c.trec", "c.txt"]
RECORDS = [b'{"_id": "a", "text": "x"}', b"a\tb", b"a\tb\t1", b"a 0 b 1", b"q Q0 d 1 1.0 t"]
CRUMBS = [
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"\0",
    b"\xff",
    b"{",
    b'"',
    b"\\ud800",
    b"1e999",
    b"\xef\xbb\xbf",
]
PIECES = st.sampled_from([*RECORDS, *CRUMBS])
BYTES = st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=12).map(b"".join))
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read_every_way(path: Path) -> None:
    for read in (
        lambda: list(open_corpus(path)),
        lambda: list(open_corpus(path, skip_invalid=True)),
        lambda: open_corpus(path).count(),
        lambda: read_queries(path),
        lambda: read_qrels(path),
        lambda: read_run(path),
        lambda: read_run(path, ties="trec_eval"),
        lambda: open_beir(path).queries("test"),
    ):
        message = ""
        try:
            read()
        except InputError as error:
            message = str(error)
        assert "\n" not in message
        assert len(message) < 2000


@pytest.mark.parametrize("name", NAMES)
@QUICK
@given(data=BYTES)
def test_any_bytes_under_any_name(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    read_every_way(path)


def packed(kind: str, path: Path) -> bytes:
    lines = b"".join(
        json.dumps({"_id": str(n), "text": f"text {n}"}).encode() + b"\n" for n in range(50)
    )
    if kind in PACKERS:
        return PACKERS[kind](lines)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy/corpus.jsonl", lines)
        archive.writestr("toy/queries.jsonl.gz", gzip.compress(lines))
        archive.writestr("toy/qrels/test.tsv", "1\t2\t1\n")
    return path.read_bytes()


@pytest.mark.parametrize("kind", [*PACKERS, ".zip"])
def test_damaged_archives(tmp_path, kind):
    draw = random.Random(5)
    path = tmp_path / ("c.zip" if kind == ".zip" else f"c.jsonl{kind}")
    whole = packed(kind, path)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        if draw.random() < 0.2:
            del data[draw.randrange(len(data)) :]
        path.write_bytes(data)
        read_every_way(path)
