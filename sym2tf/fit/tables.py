"""The summary of a fit as text and as HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np
import sympy as sp

from sym2tf.fit.wording import counted
from sym2tf.frontend.describe import describe
from sym2tf.lazy import lazy

scipy_special = lazy("scipy.special")

if TYPE_CHECKING:
    from sym2tf.fit.result import FitResult

WIDTH = 100
COST = 120  # characters of the cost that are shown
LONG = 2000


def number(x: float, digits: int = 8) -> str:
    """`x` with a few significant digits, always with a sign of its size."""
    return f"{x:.{digits}g}"


def text_summary(result: FitResult) -> str:
    """Aligned text, as statisticians know it."""
    cells = [head_of(result), *cells_of(result)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in cells
    ]
    width = min(WIDTH, max(60, *map(len, lines)))
    rule = "-" * width
    facts = facts_of(result)
    label = max(len(name) for name, _ in facts)
    likelihood = "maximum likelihood, " if result.log_likelihood is not None else ""
    text = [f"Fit: {likelihood}{result.problem}", "=" * width, lines[0], rule, *lines[1:], "=" * width]
    for name, value in facts:
        text += _wrapped(f"{name + ':':<{label + 1}} ", value, max(width, 80))
    return "\n".join(text)


def html_summary(result: FitResult) -> str:
    """The same as two HTML tables."""

    def row(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    table = [row(head_of(result), "th"), *(row(cells, "td") for cells in cells_of(result))]
    left = "style='text-align:left'"
    facts = [f"<tr><th {left}>{html.escape(n)}</th><td {left}>{html.escape(v)}</td></tr>" for n, v in facts_of(result)]
    return "\n".join(["<table>", *table, "</table>", "<table>", *facts, "</table>"])


def head_of(result: FitResult) -> tuple[str, ...]:
    """The names of the columns."""
    ratio = "t" if result.log_likelihood is None else "z"
    return ("parameter", "estimate", "std. error", ratio, "[0.025", "0.975]")


def _quantile(result: FitResult) -> float:
    """Half the width of a 95% interval in standard errors: Student's, or the normal one for likelihoods."""
    if result.log_likelihood is not None:
        return float(scipy_special.ndtri(0.975))
    freedom = result.degrees_of_freedom
    return float(scipy_special.stdtrit(freedom, 0.975)) if freedom is not None and freedom > 0 else np.nan


def cells_of(result: FitResult) -> list[tuple[str, ...]]:
    """One row for each element of a parameter, with its ratio to the standard error and its 95% interval."""
    quantile = _quantile(result)
    found: list[tuple[str, ...]] = []
    for name, x, s in result.rows():
        if s is None:
            found.append((name, number(x), "-", "-", "-", "-"))
            continue
        t = f"{x / s:.4g}" if s > 0 else "-"
        found.append((name, number(x), number(s), t, number(x - quantile * s, 6), number(x + quantile * s, 6)))
    for unknown in result.statement.unknowns:
        if unknown.fixed:
            values = zip(unknown.names, unknown.initial.ravel(), strict=True)
            found += [(name, number(float(x)), "(fixed)", "-", "-", "-") for name, x in values]
    return found


def facts_of(result: FitResult) -> list[tuple[str, str]]:
    """Everything else in words: `(name, value)`."""
    facts = [("cost", f"{number(result.cost, 10)} = {cost_of(result)}")]
    if result.log_likelihood is not None:
        facts.append(("log-likelihood", number(result.log_likelihood, 10)))
    if result.observations is not None:
        freedom = result.degrees_of_freedom
        more = "" if freedom is None else f" (degrees of freedom: {freedom})"
        facts.append(("observations", f"{result.observations}{more}"))
    if result.r_squared is not None:
        facts.append(("R²", f"{result.r_squared:.8f}"))
    elif result.log_likelihood is None:
        facts.append(("R²", f"none: {result.r_squared_reason}"))
    if result.residual_std is not None:
        facts.append(("residual std.", number(result.residual_std)))
    if result.stderr is None:
        facts.append(("std. errors", f"none: {result.stderr_reason}"))
    if result.at_bounds:
        facts.append(("at a bound", ", ".join(result.at_bounds)))
    facts.append(("solver", result.solver))
    facts.append(("convergence", result.message))
    facts.append(
        (
            "effort",
            f"{counted(result.iterations, 'iteration')}, {counted(result.evaluations, 'evaluation')}, "
            f"gradient norm {number(result.gradient_norm, 3)}; "
            f"compiled in {result.compile_seconds:.3g} s, run in {result.run_seconds:.3g} s",
        )
    )
    if result.condition is not None:
        warning = (
            " (large: digits of the estimates are lost to the data's own rounding)" if result.condition > 1e8 else ""
        )
        facts.append(("condition", number(result.condition, 3) + warning))
    return facts


def cost_of(result: FitResult) -> str:
    """What was minimised, in words; a long formula ends in `...`."""
    cost = result.statement.cost
    if not isinstance(cost, sp.Eq):
        return _shortened(describe(cost, LONG))
    right = describe(cost.rhs, LONG)
    return _shortened(
        f"sum of squares of {describe(cost.lhs, LONG)} - {f'({right})' if isinstance(cost.rhs, sp.Add) else right}"
    )


def _shortened(text: str) -> str:
    return text if len(text) <= COST else text[:COST].rpartition(" ")[0].rstrip("+-* ") + " ..."


def _wrapped(head: str, text: str, width: int) -> list[str]:
    """`text` behind `head`, broken at blanks, later lines indented."""
    lines, line = [], head
    for word in text.split(" "):
        if len(line) + len(word) > width and len(line) > len(head):
            lines.append(line.rstrip())
            line = " " * len(head)
        line += word + " "
    return [*lines, line.rstrip()]
