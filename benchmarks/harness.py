"""Fair comparisons: contenders take turns in one process, ratios are taken within a round, and their median counts."""

from __future__ import annotations

import gc
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[], Any]


@dataclass(frozen=True)
class Timings:
    """Seconds per call of each contender, one number for each round; the same round of all is comparable."""

    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """The usual time of one contender, in seconds."""
        return statistics.median(self.seconds[name])

    def best(self, names: Sequence[str]) -> str:
        """The quickest of `names`."""
        return min(names, key=self.median)

    def ratios(self, name: str, other: str) -> list[float]:
        """Time of `name` over time of `other`, round by round, in increasing order."""
        return sorted(a / b for a, b in zip(self.seconds[name], self.seconds[other], strict=True))

    def ratio(self, name: str, other: str) -> float:
        """The median of `ratios`; below 1, `name` is the quicker one."""
        return statistics.median(self.ratios(name, other))

    def spread(self, name: str, other: str) -> tuple[float, float]:
        """The quartiles of `ratios`."""
        ratios = self.ratios(name, other)
        return ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]


def take_turns(contenders: Mapping[str, Call], *, rounds: int = 9, slice_s: float = 0.02) -> Timings:
    """Time contenders in turn, A B C A B C, so that a busy machine slows all of them alike.

    Args:
        contenders: functions that finish their work before they return; each has run at least once.
        rounds: how many turns each gets.
        slice_s: a turn repeats the call until it has taken about this many seconds.
    """
    repeats = {}
    for name, call in contenders.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, min(10_000, int(slice_s / (time.perf_counter() - start + 1e-9))))
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in contenders.items():
                start = time.perf_counter()
                for _ in range(repeats[name]):
                    call()
                seconds[name].append((time.perf_counter() - start) / repeats[name])
    finally:
        gc.enable()
    return Timings(seconds)


def take_turns_once(contenders: Mapping[str, Call], *, rounds: int = 3) -> Timings:
    """Like `take_turns`, for work that is slow or may be done only once for each call, such as compiling."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            gc.collect()
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return Timings(seconds)


def agree(answers: Mapping[str, Any], *, rtol: float = 1e-9) -> None:
    """Contenders must compute the same thing before their speed is compared.

    Args:
        answers: by contender, a sequence of arrays that broadcast to one shape.
        rtol: of the largest magnitude in each array.

    Raises:
        AssertionError: two contenders disagree, or an answer is not finite.
    """
    (first, due), *others = ((name, [np.asarray(a) for a in answer]) for name, answer in answers.items())
    for k, array in enumerate(due):
        assert np.all(np.isfinite(array)), f"{first}: answer {k} is not finite"
    for name, found in others:
        assert len(found) == len(due), f"{name} gives {len(found)} arrays, {first} {len(due)}"
        for k, (a, b) in enumerate(zip(due, found, strict=True)):
            scale = float(np.max(np.abs(a), initial=0.0)) or 1.0
            difference = float(np.max(np.abs(a - b), initial=0.0)) / scale
            assert difference <= rtol, f"{name} and {first} differ by {difference:.2g} in answer {k}"


@dataclass
class Table:
    """A Markdown table.

    Attributes:
        title: its heading.
        head: of the columns.
        rows: texts; a cell that misses its bar is marked by `verdict`.
        notes: lines below the table.
        missed: what missed its bar, in words.
    """

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def verdict(self, what: str, value: float, bar: float, text: str) -> str:
        """`text`, marked where `value` is above `bar`, which is then listed under the table."""
        if value <= bar:
            return text
        self.missed.append(f"{what}: {value:.2f}, the bar is {bar:g}")
        return f"**{text}** ✗"

    def __str__(self) -> str:
        lines = [f"## {self.title}", "", _row(self.head), _row(["---"] * len(self.head)), *map(_row, self.rows)]
        notes = [*self.notes]
        if self.missed:
            notes.append(f"Missed bars ({len(self.missed)}): " + "; ".join(self.missed) + ".")
        for note in notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def duration(seconds: float) -> str:
    """Seconds with a unit and three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def ratio_text(timings: Timings, name: str, other: str) -> str:
    """The median ratio with its quartiles."""
    low, high = timings.spread(name, other)
    return f"{timings.ratio(name, other):.2f} ({low:.2f} to {high:.2f})"


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of ratios."""
    return math.exp(statistics.fmean(math.log(v) for v in values))


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log(seconds) over log(sizes) by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def machine() -> str:
    """The machine and the versions, in one paragraph."""
    packages = []
    for name in ("tensorflow", "sympy", "numpy", "jax", "networkx"):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            packages.append(f"no {name}")
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores, {_memory()}, "
        f"{platform.system()}; Python {platform.python_version()}, {', '.join(packages)}. Load before the run: {load}. "
        "Contenders take turns in one process; a ratio is the median over rounds, with quartiles in brackets."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    if sys.platform == "win32":
        return "unknown memory"
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def progress(text: str) -> None:
    """One line for whoever waits."""
    print(text, file=sys.stderr, flush=True)
