"""How much memory there is for the data."""

from __future__ import annotations

import os
import resource
from pathlib import Path

CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available_memory() -> int:
    """Bytes that this process may still take: the least that the machine, its limits and its container leave."""
    page = os.sysconf("SC_PAGE_SIZE")
    try:
        mapped, resident = (int(pages) * page for pages in Path("/proc/self/statm").read_text().split()[:2])
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        left = [int(facts["MemAvailable"].split()[0]) * 1024]
    except OSError:  # not on Linux: what programs use is not told
        mapped = resident = 0
        left = [page * os.sysconf("SC_PHYS_PAGES") // 2]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        left.append(limit - mapped)
    for name in CONTAINER_LIMITS:
        try:
            left.append(int(Path(name).read_text()) - resident)
        except (OSError, ValueError):  # not in a container, or in one without a limit
            continue
    return max(min(left), 0)
