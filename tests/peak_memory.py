"""Peak memory of a program in a process of its own, where nothing before it has raised the peak."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

asks_posix = pytest.mark.skipif(sys.platform == "win32", reason="peak memory is asked of POSIX")

PEAK = """
import resource
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
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
