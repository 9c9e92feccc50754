"""Stock Pyserini in a fresh process, made ready by the documented call, as README shows it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest

from dupmae_toolkit import HybridIndex, doctor, jvm, load_encoder
from dupmae_toolkit.doctor import FINE, NOTE
from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.interop import pyserini
from dupmae_toolkit.interop.pyserini import DenseQueryEncoder, LexicalQueryEncoder, ready

pytestmark = [pytest.mark.java, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
TEXTS = ["how to parse a date", "the blue sea", "dates and times in one string", "a date", "zebra"]


def fresh(code: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process without a key or a named Java; the first on its PATH is too old."""
    old = folder / "old" / "bin"
    old.mkdir(parents=True, exist_ok=True)
    (old.parent / "release").write_text('JAVA_VERSION="17.0.9"\n')
    (old / "java").write_text("#!/bin/sh\nexit 1\n")
    (old / "java").chmod(0o755)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OPENAI_API_KEY", "JAVA_HOME", "JDK_HOME", "JVM_PATH")
    }
    environment |= {"PATH": f"{old}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    environment |= {"PYTHONPATH": str(ROOT / "src"), **settings}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )


def readme_example() -> str:
    text = (ROOT / "README.md").read_text("utf-8")
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "ready()" in c]
    return code


def test_the_readmes_example_runs_in_a_fresh_process(tmp_path):
    index = HybridIndex.build(tmp_path / "indexes" / "notes", TEXTS, load_encoder("builtin"))
    done = fresh(readme_example(), tmp_path)
    assert done.returncode == 0, done.stderr
    shown = [line.split() for line in done.stdout.splitlines()]
    by_vectors = index.search("parse a date", mode="dense")
    by_tokens = index.search("parse a date", mode="lexical", plain=True)
    assert [name for name, _ in shown] == [hit.id for hit in by_tokens + by_vectors]
    scale = pyserini.WEIGHT_SCALE * index.manifest.scale
    expected = [hit.score * scale for hit in by_tokens] + [hit.score for hit in by_vectors]
    assert [float(score) for _, score in shown] == pytest.approx(expected, rel=5e-3, abs=1e-3)


def importing(monkeypatch, imported: Callable[[str], object]) -> None:
    """Let ``ready``, and nothing else, import by this function."""
    stand_in = SimpleNamespace(import_module=imported, metadata=importlib.metadata)
    monkeypatch.setattr(pyserini, "importlib", stand_in)


def test_the_key_of_openai_is_left_as_it_was(tmp_path):
    code = "import os; from dupmae_toolkit.interop.pyserini import ready; ready(); ready(); "
    code += "print(os.environ.get('OPENAI_API_KEY'))"
    assert fresh(code, tmp_path).stdout == "None\n"


def test_a_key_of_the_users_is_the_one_that_pyserini_gets(monkeypatch):
    seen = []
    monkeypatch.setenv("OPENAI_API_KEY", "own")
    record = lambda _: seen.append(os.environ["OPENAI_API_KEY"])  # noqa: E731
    importing(monkeypatch, record)
    ready()
    assert set(seen) == {"own"}
    assert os.environ["OPENAI_API_KEY"] == "own"


def test_a_pyserini_that_cannot_be_imported_is_told_in_a_line(monkeypatch):
    def broken(name):
        raise ImportError(f"no\n{name}")

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    importing(monkeypatch, broken)
    with pytest.raises(DupMAEError, match=r"^Pyserini [\d.]+ cannot be imported: ImportError: no"):
        ready()
    assert "OPENAI_API_KEY" not in os.environ


def test_encoders_work_without_pyserini(tmp_path):
    code = (
        "import sys; import dupmae_toolkit.interop.pyserini as p; p.LexicalQueryEncoder('builtin')"
    )
    code += ".encode('a'); sys.exit('pyserini' in sys.modules)"
    assert fresh(code, tmp_path).returncode == 0
    assert set(LexicalQueryEncoder("builtin").encode("date")) > {"date"}
    assert DenseQueryEncoder("builtin").encode("date").ndim == 1


def pyserini_checks(monkeypatch, version: str | None = None, code: str | None = None):
    if version is not None:
        monkeypatch.setattr(doctor.importlib.metadata, "version", lambda _: version)
    if code is not None:
        monkeypatch.setattr(doctor, "_START_PYSERINI", code)
    return list(doctor._pyserini())


def test_doctor_says_whether_pyserini_starts(monkeypatch):
    first, own = pyserini_checks(monkeypatch)
    assert (first.state, own.state) == (FINE, FINE)
    assert "ready()" in own.found
    assert jvm.find_jar().name in first.found


def test_doctor_says_why_pyserini_does_not_start(monkeypatch):
    _, own = pyserini_checks(monkeypatch, code="raise SystemExit('ValueError: no key')")
    assert (own.state, own.found) == (NOTE, "Pyserini's do not start: no key")
    _, own = pyserini_checks(monkeypatch, code="import os; os._exit(3)")
    assert own.found == "Pyserini's do not start: Python ended without a message"


def test_doctor_does_not_import_a_pyserini_that_may_access_the_network(monkeypatch):
    _, own = pyserini_checks(monkeypatch, version="2.4.0", code="raise AssertionError")
    assert own.state == NOTE
    assert own.found.startswith("not tried")


def test_lists_that_cannot_be_fetched_are_empty_and_said(monkeypatch):
    """As Pyserini 2.4 does without a network: importing its lists fails, not having some."""

    def imported(name):
        if pyserini._LISTS not in sys.modules:
            raise URLError("no network")
        lists = sys.modules[pyserini._LISTS]
        assert dict(lists.TF_INDEX_INFO) == {}
        assert not hasattr(lists, "__path__")

    monkeypatch.setitem(sys.modules, pyserini._LISTS, None)  # so that it is as before afterwards
    monkeypatch.delitem(sys.modules, pyserini._LISTS)
    importing(monkeypatch, imported)
    with pytest.warns(UserWarning, match=r"lists .* cannot be fetched \(.*no network.*\)"):
        ready()


def test_another_failure_of_the_system_is_told(monkeypatch):
    def broken(name):
        raise OSError("disk is gone")

    monkeypatch.setitem(sys.modules, pyserini._LISTS, sys)
    importing(monkeypatch, broken)
    with pytest.raises(DupMAEError, match="OSError: disk is gone"):
        ready()
