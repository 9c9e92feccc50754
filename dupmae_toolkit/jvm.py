"""The one place that starts Java.

Lucene runs in a Java virtual machine inside this process, reached through pyjnius with Pyserini's
jar on the class path. A process has at most one virtual machine, it cannot be restarted, and it
does not survive a fork. So this module starts it once, at the first use, and all other code gets
its Java classes here.
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

#: pyjnius stores a method's object in the class, not in the call: when two threads call the same
#: method on two objects, either may run on the wrong one. Hold this lock while calling methods on
#: Java objects, or use ``index.handles``, whose calls need no lock.
lock = threading.RLock()
_home: JavaHome | None = None
_started_in: int | None = None
_kept: list[Any] = []  # Java holds loggers weakly: one that is collected loses its level


def is_running() -> bool:
    """Whether a virtual machine runs in this process, started here or by another library."""
    configuration = sys.modules.get("jnius_config")
    return bool(configuration and configuration.vm_running)


def start(heap: str | None = None) -> None:
    """Start the virtual machine unless it runs. Can be called from any thread, and repeatedly.

    heap: the maximum heap size, in Java's notation ("4g", "800m"); defaults to the environment
    variable DUPMAE_JAVA_HEAP, then to Java's own default, a quarter of the memory. A virtual
    machine that stock Pyserini started in this process is used as it is. Raises JavaError.
    """
    global _home, _started_in
    with lock:
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
    """The Java that this module started; None if it started none."""
    return _home


def autoclass(name: str) -> Any:
    """The Java class ``name`` as pyjnius gives it; starts the virtual machine if needed."""
    start()
    import jnius

    with errors(name):
        return jnius.autoclass(name)


@contextlib.contextmanager
def errors(doing: str) -> Iterator[None]:
    """Turn a Java exception in the block into a one-line JavaError that starts with ``doing``."""
    import jnius

    try:
        yield
    except jnius.JavaException as error:
        kind = str(getattr(error, "classname", None) or "")
        if "OutOfMemoryError" in f"{kind} {error}":
            size = _heap_in_mebibytes()
            raise JavaError(
                f"{doing}: Java's heap of {size:,} MiB is used up; "
                f"raise {HEAP_VARIABLE}, for example {HEAP_VARIABLE}={1 + 2 * size // 1024}g"
            ) from error
        text = str(getattr(error, "innermessage", None) or str(error).split("\n")[0])
        name = kind.rsplit(".", 1)[-1]
        reason = text if not name or name in text else f"{name}: {text}"
        # Java passes on the system's message, but not its error number.
        disk_full = os.strerror(errno.ENOSPC) in reason
        raise JavaError(f"{doing}: {' '.join(reason.split())}", disk_full) from error


def _launch(heap: str | None) -> JavaHome:
    """Find Java and start its virtual machine."""
    found, jar = find_java(), find_jar()
    options = _options(found, heap)
    if heap or _memory_is_limited():
        _rehearse(found, options)
    import jnius_config

    # Asking for a module that this Java lacks ends the process, and another library may have asked.
    other = [option for option in jnius_config.get_options() if VECTOR_MODULE not in option]
    jnius_config.set_options(*other, *options)
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
        "-Xrs",  # leave Ctrl-C to Python
        "-XX:-UsePerfData",  # no files in /tmp
        "-Djava.awt.headless=true",
        "--enable-native-access=ALL-UNNAMED",
        f"-Dlog4j2.configurationFile={_LOG_SETTINGS.as_uri()}",
    ]
    if found.major >= 23:
        options.append("--sun-misc-unsafe-memory-access=allow")  # Lucene's use of it would warn
    if found.has_vector_module:
        options.append(f"--add-modules={VECTOR_MODULE}")
    if heap:
        if not re.fullmatch(r"[1-9]\d*[kKmMgG]", heap.strip()):
            raise InputError(f"{HEAP_VARIABLE}: {heap!r} is not a heap size; write 4g or 800m")
        options.append(f"-Xmx{heap.strip()}")
    return options


def _prepare() -> None:
    """Settings of the whole virtual machine: quiet logs, queries of any length."""
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
    """Try the options in a separate process: bad ones end the process that uses them."""
    command = [str(found.path / "bin" / "java"), *options, "-version"]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    if answer.returncode:
        lines = (answer.stdout + answer.stderr).decode("utf-8", "replace").split("\n")
        reason = "; ".join(line.strip() for line in lines if line.strip())[:300]
        raise JavaError(f"Java does not start ({reason}); lower {HEAP_VARIABLE}, for example to 1g")


def _memory_is_limited() -> bool:
    """Whether `ulimit -v` limits the address space; Java reserves much of it when it starts."""
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
    """Set environment variables, or remove those given as None, for the duration of the block."""
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
    """Suppress the warning that Java writes to stderr when it loads the vector module."""
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
