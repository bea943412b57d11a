"""The line on stderr that says how far a fit is: iteration, cost, gradient norm, seconds.

Nothing is shown in the first half second, so that quick fits stay quiet and cost nothing.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from sym2tf.fit.process.monitor import Step

FIRST = 0.5  # seconds until the line appears
BETWEEN = 0.1  # seconds between its changes on a terminal
BETWEEN_LINES = 5.0  # seconds between lines of a log


class ProgressLine:
    """One line that is written over and over on a terminal; elsewhere a line now and then.

    Its clock is looked at with every evaluation, which takes some 0.1 us.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._over = stream, stream.isatty()
        self._due = time.perf_counter() + FIRST
        self._began = time.perf_counter()
        self._step: Step | None = None
        self._evaluations = 0
        self._shown = False

    def __call__(self, step: Step) -> None:
        """Remember a step for the next line."""
        self._step = step
        self.tick(self._evaluations)

    def tick(self, evaluations: int) -> None:
        """Write the line if it is time."""
        self._evaluations = evaluations
        now = time.perf_counter()
        if now >= self._due:
            self._due = now + (BETWEEN if self._over else BETWEEN_LINES)
            self._write(now)

    def close(self) -> None:
        """Write how it ended, if anything was written before, or if somebody wants lines who has no terminal."""
        if self._shown or not self._over:
            self._write(time.perf_counter())
        if self._shown and self._over:
            self._stream.write("\n")
            self._stream.flush()

    def _write(self, now: float) -> None:
        text = _line(self._step, self._evaluations, now - self._began)
        if self._over:
            width = shutil.get_terminal_size().columns - 1
            text = "\r" + text[:width] + "\x1b[K"
        else:
            text += "\n"
        self._stream.write(text)
        self._stream.flush()
        self._shown = True


def progress_line(wanted: bool | None) -> ProgressLine | None:
    """The line, if it is to be shown: `None` means on a terminal alone."""
    stream = sys.stderr
    if stream is None or wanted is False or (wanted is None and not stream.isatty()):
        return None
    return ProgressLine(stream)


def _line(step: Step | None, evaluations: int, seconds: float) -> str:
    parts = ["fit"]
    if step is not None:
        parts.append(f"iteration {step.iteration}")
        parts.append(f"cost {step.cost:.6g}")
        if step.validation is not None:
            parts.append(f"validation {step.validation:.6g}")
        if step.gradient_norm is not None:
            parts.append(f"gradient {step.gradient_norm:.2e}")
    if evaluations:
        parts.append(f"{evaluations} evaluations")
    parts.append(f"{seconds:.1f} s")
    return "  ".join(parts)
