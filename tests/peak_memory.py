"""Peak memory of a program in a process of its own, where nothing before it has raised the peak."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

asks_linux = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is asked of Linux")

# not `ru_maxrss`: a process starts with that of the one that started it
PEAK = """
from pathlib import Path
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
"""


def megabytes_printed_by(program: str) -> float:
    """The last number that a program prints; it may call `peak()`, its highest use of memory so far in megabytes."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK + program],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.split()[-1])
