"""Files and folders are old or new, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupmae_toolkit import files
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.locks import exclusive


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_alone(tmp_path):
    path = tmp_path / "new" / "deep" / "file.txt"
    with files.atomic_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent, "a rename across file systems is not atomic"
        assert temporary.suffix == path.suffix, "some writers choose a format by it"
    assert path.read_text() == "half"
    assert names(path.parent) == ["file.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with contextlib.suppress(RuntimeError), files.atomic_file(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_file_gets_the_permissions_of_an_ordinary_one(tmp_path):
    old = os.umask(0o027)
    try:
        with files.atomic_file(tmp_path / "file"):
            pass
        with files.atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


def test_a_folder_appears_whole(tmp_path):
    path = tmp_path / "folder"
    with files.atomic_folder(path) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "file").write_text("x")
        assert not path.exists()
    assert (path / "inner" / "file").read_text() == "x"
    assert names(tmp_path) == ["folder"]


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    with contextlib.suppress(RuntimeError), files.atomic_folder(tmp_path / "f") as temporary:
        (temporary / "file").write_text("x")
        raise RuntimeError
    assert names(tmp_path) == []


def test_a_folder_with_contents_is_never_overwritten_by_atomic_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").write_text("x")
    with pytest.raises(OSError, match="not empty"), files.atomic_folder(tmp_path / "folder"):
        pass
    assert names(tmp_path) == ["folder"]
    assert (tmp_path / "folder" / "precious").exists()


@pytest.mark.parametrize("fails", [False, True])
def test_replacing_a_folder_leaves_the_old_or_the_new_one(tmp_path, fails):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with contextlib.suppress(RuntimeError), files.replace_folder(path) as temporary:
        (temporary / "new").touch()
        if fails:
            raise RuntimeError
    assert names(path) == (["old"] if fails else ["new"])
    assert names(tmp_path) == ["folder"]


def test_a_folder_that_does_not_exist_can_be_replaced(tmp_path):
    with files.replace_folder(tmp_path / "folder") as temporary:
        (temporary / "new").touch()
    assert names(tmp_path / "folder") == ["new"]


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".tmp-file").touch()
    (tmp_path / ".tmp-folder" / "inner").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / ".hidden").touch()
    (tmp_path / ".tmp-link").symlink_to(tmp_path / "kept")
    files.remove_leftovers(tmp_path)
    assert names(tmp_path) == [".hidden", "kept"]


def test_what_a_killed_process_leaves_is_a_leftover(tmp_path):
    program = (
        "import os, signal, sys; from pathlib import Path; from dupmae_toolkit import files\n"
        "with files.atomic_file(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "file"
    path.write_text("old")
    assert subprocess.run([sys.executable, "-c", program, path]).returncode == -9
    assert len(names(tmp_path)) == 2
    files.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["file"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("inside", ["", "deeper", "deeper/still"])
def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path, inside):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be created .*; name a writable folder") as caught:
        files.make_folder(tmp_path / "file" / inside)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        files.make_folder(tmp_path)


def test_json_comes_back_as_it_was_written(tmp_path):
    value = {"z": 1, "a": ["ß", "日本", None, 1.5, True], "": {}}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == value
    text = (tmp_path / "x.json").read_text("utf-8")
    assert "日本" in text
    assert text.endswith("}\n")
    assert list(json.loads(text)) == ["z", "a", ""], "keys keep their order"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"a": 1}}', b"\xff\xfe", b"\x00", b"[" * 100_000],
    ids=["empty", "open", "more", "not-utf-8", "binary", "deep"],
)
def test_json_that_does_not_parse_is_refused_with_its_file(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json"):
        files.read_json(path)


def test_json_that_is_missing_is_refused_with_its_file(tmp_path):
    with pytest.raises(InputError, match=r"x\.json: no such file"):
        files.read_json(tmp_path / "x.json")


def test_a_files_digest_is_that_of_its_bytes(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    assert files.sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_two_lists_of_strings_have_one_digest_only_if_they_are_equal(one, other):
    assert (files.sha256_lines(one) == files.sha256_lines(other)) == (one == other)


def test_the_digest_of_strings_sees_where_one_ends():
    assert files.sha256_lines(["ab", ""]) != files.sha256_lines(["a", "b"])
    assert files.sha256_lines(["\ud800"]) != files.sha256_lines(["\ud801"]), "lone surrogates too"


def test_a_folder_is_held_by_one_at_a_time_and_keeps_no_trace(tmp_path):
    with exclusive(tmp_path):
        with pytest.raises(InputError, match="another process"), exclusive(tmp_path):
            pass
        assert names(tmp_path) == []
    with exclusive(tmp_path):
        pass


def test_a_lock_ends_with_the_process_that_held_it(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from dupmae_toolkit.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another process"), exclusive(tmp_path):
            pass
        process.kill()
    with exclusive(tmp_path):
        pass


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_replaced_folder_holds_the_new_files_only_and_nothing_is_left_beside_it(
    tmp_path, monkeypatch, can_exchange
):
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    with files.replace_folder(path) as temporary:
        (temporary / "new").write_text("new")
        assert (path / "old").exists()
    assert [item.name for item in path.iterdir()] == ["new"]
    assert [item.name for item in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc here")
@pytest.mark.parametrize("write", [files.atomic_file, files.atomic_folder])
def test_a_place_that_takes_no_files_is_refused_in_one_line(write):
    expected = r"^/proc/run\.trec: cannot be (written|created)"
    with pytest.raises(InputError, match=expected), write(Path("/proc/run.trec")):
        pass
