"""The one place that starts Java.

Lucene runs in a Java virtual machine inside this process, reached through pyjnius with Pyserini's
jar on the class path. A process has at most one virtual machine, it cannot be restarted, and it
does not survive a fork; so it is started late, once, and everything else asks this module for
classes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.java_homes import (
    OLDEST_JAVA,
    VECTOR_MODULE,
    Candidate,
    JavaError,
    JavaHome,
    candidates,
    find_jar,
    find_java,
)

__all__ = [
    "HEAP_VARIABLE",
    "OLDEST_JAVA",
    "VECTOR_MODULE",
    "Candidate",
    "JavaError",
    "JavaHome",
    "autoclass",
    "candidates",
    "errors",
    "find_jar",
    "find_java",
    "home",
    "is_running",
    "lock",
    "start",
]

HEAP_VARIABLE = "DUPMAE_JAVA_HEAP"
_LOG_SETTINGS = Path(__file__).with_name("log4j2.json")
_INCUBATOR_WARNING = b"WARNING: Using incubator modules"

#: pyjnius binds a method to its object in the class, not in the call: two threads that call the
#: same method on two objects can exchange them. Hold this while calling methods on Java objects,
#: or go through ``index.handles``, whose calls need no lock.
lock = threading.RLock()
_home: JavaHome | None = None
_started_in: int | None = None
_kept: list[Any] = []  # Java holds its loggers weakly; losing one loses its level


def is_running() -> bool:
    """Whether a virtual machine runs in this process, whoever started it."""
    configuration = sys.modules.get("jnius_config")
    return bool(configuration and configuration.vm_running)


def start(heap: str | None = None) -> None:
    """Start the virtual machine unless it runs; from any thread, any number of times.

    ``heap`` is the most memory for Java's objects as Java writes it ("4g", "800m"); it defaults to
    the environment variable DUPMAE_JAVA_HEAP, then to Java's own choice, a quarter of the memory.
    A machine that stock Pyserini started in this process is joined. Raises JavaError.
    """
    global _home, _started_in
    with lock:
        if _started_in == os.getpid():
            return
        if _started_in is not None:
            raise JavaError(
                "Java runs in the process that this one was forked from and cannot be used here; "
                "fork before the first use of Lucene, or start processes by 'spawn'"
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

    with errors(name):
        return jnius.autoclass(name)


@contextlib.contextmanager
def errors(doing: str) -> Iterator[None]:
    """Turn a Java exception raised inside into a JavaError of one line that starts ``doing: ``."""
    import jnius

    try:
        yield
    except jnius.JavaException as error:
        kind = str(getattr(error, "classname", None) or "")
        if "OutOfMemoryError" in f"{kind} {error}":
            size = _heap_in_mebibytes()
            raise JavaError(
                f"{doing}: Java's heap of {size:,} MiB is used up; "
                f"set {HEAP_VARIABLE} to more, as in {HEAP_VARIABLE}={1 + 2 * size // 1024}g"
            ) from error
        text = str(getattr(error, "innermessage", None) or str(error).split("\n")[0])
        name = kind.rsplit(".", 1)[-1]
        said = text if not name or name in text else f"{name}: {text}"
        # Java hands on what the system said, and no number of the error.
        disk_full = os.strerror(errno.ENOSPC) in said
        raise JavaError(f"{doing}: {' '.join(said.split())}", disk_full) from error


def _launch(heap: str | None) -> JavaHome:
    """Start the virtual machine of the Java that is found."""
    found, jar = find_java(), find_jar()
    options = _options(found, heap)
    if heap or _memory_is_limited():
        _rehearse(found, options)
    import jnius_config

    # A library may have asked for a module that this Java lacks, which would end the process.
    asked = [option for option in jnius_config.get_options() if VECTOR_MODULE not in option]
    jnius_config.set_options(*asked, *options)
    jnius_config.add_classpath(str(jar))
    with (
        _environment(JAVA_HOME=str(found.path), JDK_HOME=None, JRE_HOME=None, JVM_PATH=None),
        _quiet_incubator(found.has_vector_module),
    ):
        try:
            import jnius  # noqa: F401
        except Exception as error:
            text = " ".join(str(error).split())
            raise JavaError(f"{found.path}: Java {found.version} does not start: {text}") from error
    return found


def _options(found: JavaHome, heap: str | None) -> list[str]:
    options = [
        "-Xrs",  # Ctrl-C stays Python's
        "-XX:-UsePerfData",  # no files in /tmp
        "-Djava.awt.headless=true",
        "--enable-native-access=ALL-UNNAMED",
        f"-Dlog4j2.configurationFile={_LOG_SETTINGS.as_uri()}",
    ]
    if found.major >= 23:
        options.append("--sun-misc-unsafe-memory-access=allow")  # Lucene's; Java warns of it
    if found.has_vector_module:
        options.append(f"--add-modules={VECTOR_MODULE}")
    if heap:
        if not re.fullmatch(r"[1-9]\d*[kKmMgG]", heap.strip()):
            raise InputError(f"{HEAP_VARIABLE}: {heap!r} is no size for a heap; write 4g or 800m")
        options.append(f"-Xmx{heap.strip()}")
    return options


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
            "a Java virtual machine already runs in this process, without Pyserini's jar; "
            "use Lucene before the library that started it"
        ) from error


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
        raise JavaError(f"Java does not start ({said}); set {HEAP_VARIABLE} to less, as in 1g")


def _memory_is_limited() -> bool:
    """Whether `ulimit -v` bounds the address space, of which Java reserves much at its start."""
    try:
        import resource
    except ImportError:  # Windows
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _heap_in_mebibytes() -> int:
    import jnius

    return int(jnius.autoclass("java.lang.Runtime").getRuntime().maxMemory()) >> 20


@contextlib.contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    """Set or remove environment variables for the time of the block."""
    before = {name: os.environ.get(name) for name in values}
    try:
        _set_environment(values)
        yield
    finally:
        _set_environment(before)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _quiet_incubator(expected: bool) -> Iterator[None]:
    """Hold back the line that Java writes to stderr when it is asked for the vector module."""
    if not expected:
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        stderr = os.dup(2)
        try:
            os.dup2(caught.fileno(), 2)
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            lines = [line for line in caught if not line.startswith(_INCUBATOR_WARNING)]
            os.write(2, b"".join(lines))
