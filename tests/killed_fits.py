"""Fits that are killed and resumed, as a program: `killed_fits.py FOLDER KILLS SEED CASE...` prints what the fits give.

A fork of this process does the fit with a checkpoint and is killed by SIGKILL at a random evaluation, several times
over; the last one may end. Forks, because importing takes longer than all fits together.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp

from sym2tf import Parameter, fit
from sym2tf.fit.process import journal

x, y = sp.IndexedBase("x"), sp.IndexedBase("y")
i, n = sp.symbols("i n", integer=True)
a, b, c = sp.symbols("a b c")
XS = np.linspace(0.0, 4.0, 40)
YS = 2.5 * np.exp(-1.3 * XS) + 0.5 + 0.05 * np.random.default_rng(0).standard_normal(40)
RESIDUAL = y[i] - a * sp.exp(-b * x[i]) - c
ROOT = sp.sqrt(1 + RESIDUAL**2) - 1
START = {a: 1.0, b: 0.3, c: 0.0}


def summed(term: Any) -> Any:
    return sp.Sum(term, (i, 0, n - 1))


CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "lm": (summed(RESIDUAL**2), START, {}),
    "trust-exact": (summed(ROOT), START, {}),
    "l-bfgs-b": (summed(ROOT), {**START, b: Parameter(0.3, bounds=(0, 5))}, {}),
    "slsqp": (summed(ROOT), START, {"constraints": [a + c <= 2.8]}),
    "multistart": (summed(sp.sin(3 * a - x[i]) ** 2 * ROOT), START, {"multistart": 3, "seed": 5}),
}


def answer(case: str, folder: str | None) -> dict[str, Any]:
    """What the fit gives, every float in full."""
    cost, params, options = CASES[case]
    result = fit(cost, {x: XS, y: YS}, params, checkpoint=folder, **options)
    return {
        "theta": [v.hex() for v in result.estimates],
        "stderr": None if result.standard_errors is None else [v.hex() for v in result.standard_errors],
        "cost": result.cost.hex(),
        "history": [step.cost.hex() for step in result.history],
        "message": result.message,
        "evaluations": result.evaluations,
        "solver": result.solver,
    }


def in_a_fork(work: Callable[[], Any]) -> Any:
    """What a fork of this process gives back, None if it is killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        status = 1
        try:
            with os.fdopen(writing, "w") as out:
                json.dump(work(), out)
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as into:
        text = into.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    assert status == 0, "the fork failed"
    return json.loads(text)


def computed_until(last: int | None) -> list[int]:
    """From now on kill this process at the end of a number of computed answers; gives the list that counts them."""
    count = [0]
    original = journal._in_one_piece

    def counting(part: Any) -> Any:
        count[0] += 1
        if last is not None and count[0] >= last:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(part)

    journal._in_one_piece = counting
    return count


def run(case: str, folder: str, last: int | None) -> dict[str, Any]:
    journal.FLUSHED = 0.0 if last is None or last % 2 else 0.05  # sometimes what is in the buffer is lost too
    count = computed_until(last)
    return answer(case, folder) | {"computed": count[0]}


def resumed(case: str, folder: Path, kills: int, rng: np.random.Generator) -> dict[str, Any]:
    """What a fit gives undisturbed, resumed after it was killed, and called once more."""
    folder.mkdir(exist_ok=True)
    whole = in_a_fork(lambda: answer(case, None))
    killed = 0
    for k in range(kills):
        last = int(rng.integers(1, 5 + 7 * k))  # the first falls into the shortest of the fits
        killed += in_a_fork(partial(run, case, str(folder), last)) is None
    sizes = [path.stat().st_size for path in folder.glob("*.journal")]
    once, again = (in_a_fork(lambda: run(case, str(folder), None)) for _ in range(2))
    return {"whole": whole, "killed": killed, "sizes": sizes, "resumed": once, "again": again}


def main(folder: str, kills: str, seed: str, *cases: str) -> None:
    rng = np.random.default_rng(int(seed))
    json.dump({case: resumed(case, Path(folder) / case, int(kills), rng) for case in cases}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
