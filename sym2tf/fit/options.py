"""How a fit is to be done, apart from what it is about: the keyword arguments of `fit`, checked and in one record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from sym2tf.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `fit`; its docstring says what each means.

    Raises:
        ArgumentError: a value of the wrong sort.
    """

    likelihood: bool = False
    absolute_sigma: bool = False
    method: Any = None
    multistart: int | None = None
    max_iterations: int = 1000
    batch_size: int | None = None
    epochs: int = 1
    validation: Any = None
    patience: int | None = None
    progress: bool | None = None
    callbacks: Sequence[Callable[[Any], Any]] = ()
    checkpoint: str | PathLike[str] | None = None
    tensorboard: str | PathLike[str] | None = None
    seed: int = 0
    dtype: str = "float64"
    device: str | None = None
    strategy: Any = None

    def __post_init__(self) -> None:
        for name in ("max_iterations", "epochs"):
            _require_count(name, getattr(self, name))
        for name in ("multistart", "batch_size", "patience"):
            if getattr(self, name) is not None:
                _require_count(name, getattr(self, name))
        for name in ("likelihood", "absolute_sigma"):
            if not isinstance(getattr(self, name), bool):
                raise ArgumentError(f"{name} must be True or False, got {getattr(self, name)!r}")
        wrong = [c for c in self.callbacks if not callable(c)]
        if wrong:
            raise ArgumentError(f"callbacks are functions of a Step, got {wrong[0]!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ArgumentError(f"seed must be an integer >= 0, got {self.seed!r}")
        if self.progress not in (None, True, False):
            raise ArgumentError(f"progress must be True, False or None, got {self.progress!r}")
        for name in ("checkpoint", "tensorboard"):
            if not isinstance(getattr(self, name), str | PathLike | None):
                raise ArgumentError(f"{name} must be the path of a folder, got {getattr(self, name)!r}")
        if self.dtype not in ("float64", "float32"):
            raise ArgumentError(f"dtype must be 'float64' or 'float32', got {self.dtype!r}")


def _require_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{name} must be a positive integer, got {value!r}")
