"""What the machine is."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from graphgrad.runtime.engine import host_target


def description() -> str:
    """Processor, its name in LLVM, Python and system."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        found = re.search(r"model name\s*: (.*)", information.read_text())
        model = found.group(1).strip() if found else model
    return (
        f"{model} (LLVM: {host_target().cpu}), {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    )
