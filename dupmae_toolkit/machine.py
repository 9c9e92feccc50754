"""Describes this machine: processor, cores and memory; nothing that names it or its user."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """The system, the processor's model, the cores that this process may use, memory in GiB.

    None for what cannot be determined.
    """
    total, _ = memory_in_bytes()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": None if total is None else round(total / 2**30, 1),
    }


def _processor() -> str | None:
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if found:
            return found[1].strip()
    return platform.processor() or None


def cores() -> int | None:
    """How many cores this process may use; None if unknown."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count()


def memory_in_bytes() -> tuple[int | None, int | None]:
    """Total and available memory, within this container's limit if it has one; None if unknown."""
    total = available = None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        values = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/meminfo").read_text()))
        available = int(values["MemAvailable"]) * 1024 if "MemAvailable" in values else None
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max", not a number: no limit
            cap = int(Path(limit).read_text())
            if total is not None and cap < total:
                total = cap
                left = cap - int(Path(used).read_text())
                available = left if available is None else min(available, left)
    return total, available
