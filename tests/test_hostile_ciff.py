"""Files of CIFF that are cut off, contradict themselves, or ask for too much: one line each."""

from __future__ import annotations

import pytest

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.interop.ciff_read import read_ciff
from tests import ciff_support as plain
from tests.cli_support import run


def changed(place: int, *new: bytes) -> bytes:
    return b"".join((*plain.GOOD[:place], *new, *plain.GOOD[place + 1 :]))


HOSTILE = {
    "empty": (b"", "empty"),
    "gzip": (b"\x1f\x8b\x08" + b"".join(plain.GOOD), "the suffix .gz"),
    "text": (b"not a file of CIFF at all, but text\n", "not a whole file"),
    "version": (changed(0, plain.header(2, 3, version=2)), "version 2"),
    "negative count": (changed(0, plain.header(-1, 3)), "states -1 postings lists"),
    "many lists": (changed(0, plain.header(2**31 - 1, 3)), "not a whole file|no term|lists"),
    "few lists": (changed(0, plain.header(1, 3)), "document"),
    "many documents": (changed(0, plain.header(2, 2**31 - 1)), "2,147,483,647 documents"),
    "few documents": (changed(0, plain.header(2, 2)), "document 2; the file has 2"),
    "no documents": (plain.header(0, 0), "no document"),
    "no terms": (plain.header(0, 1) + plain.record(0, b"a"), "no term"),
    "zero gap": (changed(1, plain.postings(b"one", (1, 2), (0, 1))), "posting 2 .* gap 0"),
    "negative gap": (changed(1, plain.postings(b"one", (2, 2), (-1, 1))), "posting 2 .* gap -1"),
    "negative first": (changed(1, plain.postings(b"one", (-1, 2))), "posting 1 .* gap -1"),
    "docid beyond": (changed(1, plain.postings(b"one", (1, 2), (2, 1))), "document 3; the file"),
    "huge gaps": (changed(1, plain.postings(b"one", *[(2**31 - 1, 1)] * 9)), "posting 1"),
    "no impact": (changed(1, plain.postings(b"one", (1, 0))), "impact 0"),
    "negative impact": (changed(1, plain.postings(b"one", (1, -5))), "impact -5"),
    "large impact": (changed(1, plain.postings(b"one", (1, 65536))), "impact 65,536"),
    "gap of 33 bits": (changed(1, plain.postings(b"one", (2**32, 1))), "32 bits"),
    "df": (changed(1, plain.postings(b"one", (0, 2), df=7)), "1 postings and states 7"),
    "term twice": (changed(2, plain.postings(b"one", (0, 2))), "two lists of the term 'one'"),
    "no term": (changed(1, plain.postings(b"", (0, 2))), "no term"),
    "bad term": (changed(1, plain.postings(b"\xff", (0, 2))), "UTF-8"),
    "wrong type": (changed(1, plain.message(plain.field(1, 5))), "wrong type"),
    "group": (changed(1, plain.message(b"\x0b")), "wire type 3"),
    "field 0": (changed(1, plain.message(b"\x00")), "number 0"),
    "long varint": (
        changed(1, plain.message(plain.field(1, b"x"), b"\x10" + b"\xff" * 12)),
        "10 bytes",
    ),
    "wide varint": (changed(1, plain.message(b"\x10" + b"\xff" * 9 + b"\x7f")), "64 bits"),
    "long list": (changed(1, plain.number(2**62) + b"xx"), "announces 4,611,686"),
    "long term": (changed(1, plain.message(b"\x0a" + plain.number(2**40))), "announces"),
    "docid twice": (changed(4, plain.record(0, b"z")), "two documents have the number 0"),
    "id twice": (changed(4, plain.record(1, b"a")), "'a' comes twice"),
    "docid too large": (changed(4, plain.record(9, b"z")), "number 9, of 3"),
    "negative docid": (changed(4, plain.record(-1, b"z")), "number -1"),
    "no id": (changed(4, plain.record(1, b"")), "empty id"),
    "id of two lines": (changed(4, plain.record(1, b"a\nb")), "line break"),
    "bad id": (changed(4, plain.record(1, b"\xc3")), "UTF-8"),
    "more": (b"".join(plain.GOOD) + b"\x00", "1 bytes after"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(tmp_path, case, capsys):
    data, said = HOSTILE[case]
    (tmp_path / "f.ciff").write_bytes(data)
    with pytest.raises(InputError, match=f"f.ciff: .*{said}") as caught:
        read_ciff(tmp_path / "f.ciff")
    assert "\n" not in str(caught.value)
    code, out, err = run(capsys, "import", tmp_path / "f.ciff", "--output", tmp_path / "i")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["f.ciff"]


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    whole = b"".join(plain.GOOD)
    for length in range(len(whole)):
        (tmp_path / "f").write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_ciff(tmp_path / "f")


def test_a_changed_byte_is_refused_or_read_as_another_index(tmp_path):
    """Never another error: every byte of a small file, each with every bit turned."""
    whole = b"".join(plain.GOOD)
    for place in range(len(whole)):
        for bit in range(8):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            (tmp_path / "f").write_bytes(bytes(data))
            try:
                found = read_ciff(tmp_path / "f")
            except InputError:
                continue
            assert found.impacts.shape == (len(found.ids), len(found.terms))
