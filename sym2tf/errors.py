"""The exceptions that sym2tf raises, which all derive from `Sym2TFError`, and its warnings.

Where a standard exception says the same thing to existing code (`ValueError`, `TypeError`), the class derives from
it as well, so that callers who know only Python's own hierarchy still catch the right thing.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass


class Sym2TFError(Exception):
    """Base of every error raised by sym2tf."""


class GraphError(Sym2TFError):
    """A graph breaks one of its own invariants; always a bug in the pass that made it."""


class ShapeError(Sym2TFError, ValueError):
    """Shapes that do not agree."""


class SizeError(ShapeError):
    """Lengths of data that contradict each other or the sizes in an expression."""


class SubscriptError(Sym2TFError, IndexError):
    """Data that are used as subscripts and point outside of the axis."""


class SingularMatrixError(Sym2TFError, ArithmeticError):
    """A matrix that is to be inverted, or a system that is to be solved, is exactly singular at the data given."""


class ArgumentError(Sym2TFError, TypeError, ValueError):
    """A call or a declaration with arguments that are missing, unknown or of the wrong kind."""


class DtypeError(Sym2TFError, TypeError, ValueError):
    """A dtype that sym2tf does not know or a value that it cannot hold."""


class DifferentiationError(Sym2TFError):
    """A derivative that does not exist or that is asked of the wrong kind of function."""


class ResourceLimitError(Sym2TFError):
    """An expression whose evaluation would need absurd time or memory."""


class ParseError(Sym2TFError, ValueError):
    """Text that is not a mathematical expression in the accepted grammar."""


class RenderError(Sym2TFError):
    """A picture that cannot be made."""


class JitError(Sym2TFError):
    """XLA was asked for where it cannot compile an operation or computes it badly."""


class ForkedProcessError(Sym2TFError, RuntimeError):
    """A compiled function was called in a forked child, where TensorFlow would hang."""


class CheckError(Sym2TFError, AssertionError):
    """A verification that was asked to raise found a disagreement."""


class FitError(Sym2TFError):
    """A fit that cannot be set up or solved."""


class DataError(FitError, ValueError):
    """Data that are missing, of different lengths, or not finite."""


class SingularProblemError(FitError):
    """A fit whose parameters are not determined by the data."""


class PersistenceError(Sym2TFError, ValueError):
    """What cannot be saved, or a file that is not what was saved."""


class FitWarning(UserWarning):
    """A fit whose result is no minimum, or is not known to be one."""


class UnusedDataWarning(UserWarning):
    """A sum that never reaches the first data, as it does when it counts from one."""


class OpaqueWarning(UserWarning):
    """A derivative that takes for constant what depends on the variable in a way that it cannot see."""


def warn(category: type[Warning], message: str) -> None:
    """A warning that points at the user's line: the nearest one outside of this package."""
    frame, level = sys._getframe(1), 2
    ours = {"sym2tf", "contextlib"}  # decorators of ours go through the latter
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ours:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@dataclass(frozen=True)
class Unsupported:
    """One thing that could not be lowered: what it is, where it stands, and what to do instead."""

    expression: str
    where: str
    advice: str

    def __str__(self) -> str:
        place = f" in {self.where}" if self.where else ""
        return f"{self.expression}{place}: {self.advice}"


class UnsupportedExpressionError(Sym2TFError, NotImplementedError):
    """Lists every sub-expression that sym2tf cannot lower, all at once."""

    def __init__(self, items: Sequence[Unsupported]) -> None:
        self.items = tuple(items)
        count = len(self.items)
        noun = "sub-expression" if count == 1 else "sub-expressions"
        lines = [f"cannot lower {count} {noun}:"]
        lines += [f"  {k}. {item}" for k, item in enumerate(self.items, 1)]
        super().__init__("\n".join(lines))
