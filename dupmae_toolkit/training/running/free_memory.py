"""How much memory a training may take."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from dupmae_toolkit.training.running import processes


def available_bytes(device: torch.device) -> int:
    """Memory that a process can still get: of its GPU, or its share of the machine's.

    On Linux the smaller of what the machine has free and what the control group leaves; where
    neither is told, all that is built in; 1 << 62 where not even that is known.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + held
    found = [value for value in (_machine_bytes(), _group_bytes()) if value is not None]
    neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if processes.world() > 1 else 1
    return (min(found) if found else 1 << 62) // max(1, neighbours)


def _machine_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _group_bytes(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the control group leaves, of either version; files it caches can be given up."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, now = int((root / limit).read_text()), int((root / used).read_text())
            stat = (root / limit).with_name("memory.stat").read_text().split()
            spare = int(stat[stat.index(cache) + 1]) if cache in stat else 0
        except (OSError, ValueError, IndexError):
            continue
        return max(0, most - now + spare)
    return None
