"""Digits of the fits to NIST's certified nonlinear regressions (StRD), with defaults only, from both official starts.

The 14 problems are those of https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml; models are typed in from there,
data, starts and certified values are read from NIST's files.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp

from benchmarks.harness import Table, duration
from sym2tf.errors import FitError, FitWarning
from sym2tf.fit.api import fit
from sym2tf.fit.result import FitResult

Array = np.ndarray[Any, Any]

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "nist" / "nonlinear"
LEAST = 6  # digits in every parameter, standard error and residual standard deviation

x, y, i = sp.IndexedBase("x"), sp.IndexedBase("y"), sp.Symbol("i", integer=True)
B = sp.symbols("b1:10")


def _cubic(t: Any, numerator: int) -> Any:
    """A quotient of polynomials with `numerator` coefficients above and one less, and the 1, below."""
    above = sum(B[k] * t**k for k in range(numerator))
    return above / (1 + sum(B[numerator + k] * t ** (k + 1) for k in range(numerator - 1)))


MODELS: dict[str, Callable[[Any], Any]] = {
    "BoxBOD": lambda t: B[0] * (1 - sp.exp(-B[1] * t)),
    "Chwirut2": lambda t: sp.exp(-B[0] * t) / (B[1] + B[2] * t),
    "DanWood": lambda t: B[0] * t ** B[1],
    "ENSO": lambda t: (
        B[0]
        + sum(
            B[k] * sp.cos(2 * sp.pi * t / period) + B[k + step] * sp.sin(2 * sp.pi * t / period)
            for k, step, period in ((1, 1, 12), (4, 1, B[3]), (7, 1, B[6]))
        )
    ),
    "Gauss1": lambda t: (
        B[0] * sp.exp(-B[1] * t) + sum(B[k] * sp.exp(-((t - B[k + 1]) ** 2) / B[k + 2] ** 2) for k in (2, 5))
    ),
    "Hahn1": lambda t: _cubic(t, 4),
    "Kirby2": lambda t: _cubic(t, 3),
    "Lanczos3": lambda t: sum(B[k] * sp.exp(-B[k + 1] * t) for k in (0, 2, 4)),
    "MGH09": lambda t: B[0] * (t**2 + t * B[1]) / (t**2 + t * B[2] + B[3]),
    "MGH17": lambda t: B[0] + B[1] * sp.exp(-t * B[3]) + B[2] * sp.exp(-t * B[4]),
    "Misra1a": lambda t: B[0] * (1 - sp.exp(-B[1] * t)),
    "Misra1b": lambda t: B[0] * (1 - (1 + B[1] * t / 2) ** -2),
    "Rat42": lambda t: B[0] / (1 + sp.exp(B[1] - B[2] * t)),
    "Thurber": lambda t: _cubic(t, 4),
}


@dataclass(frozen=True)
class Certified:
    """One of NIST's problems.

    Attributes:
        name: NIST's.
        y, x: the data.
        starts: (2, p), the official start values.
        parameters, deviations: (p,), certified, and their standard deviations.
        residual_std: certified.
    """

    name: str
    y: Array
    x: Array
    starts: Array
    parameters: Array
    deviations: Array
    residual_std: float

    @property
    def symbols(self) -> tuple[sp.Symbol, ...]:
        return B[: len(self.parameters)]

    @property
    def equation(self) -> sp.Eq:
        return sp.Eq(y[i], MODELS[self.name](x[i]))

    def fit(self, start: int, **options: Any) -> FitResult:
        """The fit from the first (0) or second (1) official start."""
        params = dict(zip(self.symbols, self.starts[start], strict=True))
        found = fit(self.equation, {x: self.x, y: self.y}, params, **options)
        assert isinstance(found, FitResult)
        return found

    def digits(self, result: FitResult) -> tuple[float, float, float]:
        """The fewest digits of a parameter and of a standard error, and those of the residual standard deviation."""
        if result.standard_errors is None or result.residual_std is None:
            return agreement(result.estimates, self.parameters), 0.0, 0.0
        return (
            agreement(result.estimates, self.parameters),
            agreement(result.standard_errors, self.deviations),
            agreement(np.array([result.residual_std]), np.array([self.residual_std])),
        )


def agreement(found: Array, due: Array) -> float:
    """The fewest digits to which numbers agree; NIST certifies 11, so more are not told apart."""
    with np.errstate(divide="ignore"):
        return float(np.clip(-np.log10(np.abs(found - due) / np.abs(due)), 0, 11).min())


def read(name: str, folder: Path = FOLDER) -> Certified:
    """A problem from NIST's file.

    Raises:
        FileNotFoundError: the file is not there.
    """
    lines = (folder / f"{name}.dat").read_text(encoding="utf-8").splitlines()
    rows = [re.match(r"\s*b\d+ *= +(\S+) +(\S+) +(\S+) +(\S+)", line) for line in lines]
    entries = np.array([[float(q) for q in m.groups()] for m in rows if m])
    deviation = next(line for line in lines if line.startswith("Residual Standard Deviation"))
    first = next(at for at, line in enumerate(lines) if re.match(r"Data: +y", line)) + 1
    table = np.array([[float(q) for q in line.split()] for line in lines[first:] if line.strip()])
    return Certified(
        name,
        table[:, 0],
        table[:, 1],
        entries[:, :2].T,
        entries[:, 2],
        entries[:, 3],
        float(deviation.split()[-1]),
    )


def run(quick: bool) -> Iterator[Table]:
    """Digits, evaluations and seconds of every problem from both starts; `quick` takes the first start only."""
    head = ("problem", "start", "solver", "evaluations", "time", "parameters", "standard errors", "residual sd")
    for method in (None, "lm", "varpro"):
        table = Table(f"NIST nonlinear regression, {'by default' if method is None else f'method={method!r}'}", head)
        evaluations, reached, runs = 0, 0, 0
        for name in MODELS:
            problem = read(name)
            for start in range(1 if quick else 2):
                runs += 1
                began = time.perf_counter()
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", FitWarning)
                        result = problem.fit(start, **({} if method is None else {"method": method}))
                except (FitError, ValueError) as error:
                    table.rows.append([name, str(start + 1), f"{type(error).__name__}: {error}"[:60], *["-"] * 5])
                    continue
                seconds = time.perf_counter() - began
                digits = problem.digits(result)
                evaluations += result.evaluations
                reached += min(digits) >= LEAST
                cells = [f"{d:.1f}" for d in digits]
                if method is None:
                    cells = [
                        table.verdict(f"{name} {start + 1}", LEAST - d, 0, c)
                        for d, c in zip(digits, cells, strict=True)
                    ]
                solver = result.solver.partition(" (")[0]
                table.rows.append([name, str(start + 1), solver, str(result.evaluations), duration(seconds), *cells])
        table.notes.append(f"{reached} of {runs} runs have at least {LEAST} digits; {evaluations} evaluations in all.")
        yield table
