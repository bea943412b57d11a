"""The summary of a fit as text, as HTML and as LaTeX: one set of facts, three ways to set them.

A head with the numbers of the fit in two columns, the parameters row by row, what else there is to say in words, and
notes on what is particular: how standard errors were found, bounds, ties, digits lost, and why a number is missing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from sym2tf.fit.inference.intervals import p_values, quantile, ratios
from sym2tf.fit.wording import counted
from sym2tf.frontend.describe import describe

if TYPE_CHECKING:
    from sym2tf.fit.result import FitResult

WIDTH = 100
NARROW = 60
COST = 120  # characters of the cost that are shown
LONG = 2000
ILL_CONDITIONED = 1e8
NAME = 40  # characters of a name that stand in the table; its end tells elements apart

WITHOUT_VARIANCE = "the parameters without the variance, as in statsmodels"
LEFT_OUT = "the parameters; log L is as stated, so constants left out of it are missing"

Pairs = list[tuple[str, str]]


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
    pairs = _side_by_side(quality_of(result))
    width = min(WIDTH, max(NARROW, *map(len, lines), *map(len, pairs)))
    facts = facts_of(result)
    label = max(len(name) for name, _ in facts)
    text = [title_of(result), "=" * width, *pairs, "-" * width, lines[0], "-" * width, *lines[1:], "=" * width]
    for name, value in facts:
        text += _wrapped(f"{name + ':':<{label + 1}} ", value, max(width, 80))
    for k, note in enumerate(notes_of(result), 1):
        text += _wrapped(f"[{k}] ", note, max(width, 80))
    return "\n".join(text)


def html_summary(result: FitResult) -> str:
    """The same as HTML tables; everything that the user wrote is escaped."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    left = "style='text-align:left'"
    pairs = quality_of(result)
    half = (len(pairs) + 1) // 2
    beside = [(*a, *b) for a, b in zip(pairs[:half], [*pairs[half:], ("", "")], strict=False)]
    above = [
        f"<tr><th {left}>{html.escape(a)}</th><td>{html.escape(b)}</td>"
        f"<th {left}>{html.escape(c)}</th><td>{html.escape(d)}</td></tr>"
        for a, b, c, d in beside
    ]
    table = [row(head_of(result), "th"), *(row(cells, "td") for cells in cells_of(result))]
    facts = [f"<tr><th {left}>{html.escape(n)}</th><td {left}>{html.escape(v)}</td></tr>" for n, v in facts_of(result)]
    notes = [f"<li>{html.escape(note)}</li>" for note in notes_of(result)]
    listed = ["<ol>", *notes, "</ol>"] if notes else []
    caption = f"<caption>{html.escape(title_of(result))}</caption>"
    tables = ["<table>", caption, *above, "</table>", "<table>", *table, "</table>", "<table>", *facts, "</table>"]
    return "\n".join([*tables, *listed])


def latex_summary(result: FitResult) -> str:
    r"""A `tabular` for a document with `\usepackage{booktabs}`: the parameters, the numbers of the fit, the notes."""
    head = head_of(result)
    ratio = head[3]
    columns = ["parameter", "estimate", "std. error", f"${ratio}$", f"$P>|{ratio}|$", "[0.025", "0.975]"]
    tied = [symbol for t in result.tied for symbol in _elements(t.name, t.value.shape)]
    names = [*_symbols(result, free=True), *tied, *_symbols(result, free=False)]
    rows = [
        " & ".join([f"${name}$", *(_latex_number(c) for c in cells[1:])])
        for name, cells in zip(names, cells_of(result), strict=True)
    ]
    pairs = quality_of(result)
    half = (len(pairs) + 1) // 2
    span = len(columns)
    facts = []
    for a, b in zip(pairs[:half], [*pairs[half:], ("", "")], strict=False):
        cells = [latex_text(a[0]), _latex_number(a[1]), latex_text(b[0]), _latex_number(b[1])]
        facts.append(
            f"{cells[0]} & \\multicolumn{{2}}{{r}}{{{cells[1]}}} & \\multicolumn{{2}}{{l}}{{{cells[2]}}} & "
            f"\\multicolumn{{2}}{{r}}{{{cells[3]}}}"
        )
    width = rf"\multicolumn{{{span}}}{{p{{0.9\linewidth}}}}"
    notes = [rf"{width}{{\footnotesize [{k}] {latex_text(n)}}}" for k, n in enumerate(notes_of(result), 1)]
    body = [r"\toprule", " & ".join(columns), r"\midrule", *rows, r"\midrule", *facts, r"\bottomrule", *notes]
    lines = [line if line.startswith("\\") and line.endswith("rule") else rf"{line} \\" for line in body]
    return "\n".join([rf"\begin{{tabular}}{{l{'r' * (span - 1)}}}", *lines, r"\end{tabular}"])


# What is said -------------------------------------------------------------------------------------


def title_of(result: FitResult) -> str:
    """What kind of a fit this is."""
    likelihood = "maximum likelihood, " if _is_likelihood(result) else ""
    return f"Fit: {likelihood}{result.problem}"


def head_of(result: FitResult) -> tuple[str, ...]:
    """The names of the columns."""
    ratio = "z" if result.inference.normal else "t"
    return ("parameter", "estimate", "std. error", ratio, f"P>|{ratio}|", "[0.025", "0.975]")


def cells_of(result: FitResult) -> list[tuple[str, ...]]:
    """One row for each element of a parameter: free ones, those tied to others, fixed ones."""
    inference = result.inference
    rows: list[tuple[str, float, float | None]] = result.rows()
    for tied in result.tied:
        errors = [None] * tied.value.size if tied.stderr is None else tied.stderr.ravel().tolist()
        rows += zip(tied.names, tied.value.ravel().tolist(), errors, strict=True)
    half = 0.0 if inference.stderr is None else quantile(inference, 0.95)
    found: list[tuple[str, ...]] = []
    for name, x, s in rows:
        if s is None:
            found.append((_short(name), number(x), *["-"] * 5))
            continue
        t, p = ratios(np.array(x), np.array(s), inference), p_values(np.array(x), np.array(s), inference)
        ratio = (f"{t:.4g}", f"{p:.3g}") if s > 0 else ("-", "-")
        found.append((_short(name), number(x), number(s), *ratio, number(x - half * s, 6), number(x + half * s, 6)))
    for unknown in result.statement.unknowns:
        if unknown.fixed:
            values = zip(unknown.names, unknown.initial.ravel(), strict=True)
            found += [(_short(name), number(float(x)), "(fixed)", *["-"] * 4) for name, x in values]
    return found


def quality_of(result: FitResult) -> Pairs:
    """The numbers of the head: how many observations, and how well the model describes them."""
    freedom = result.degrees_of_freedom
    pairs: list[tuple[str, Any]] = [
        ("observations", None if result.observations is None else str(result.observations)),
        ("parameters", str(len(result.names))),
        ("degrees of freedom", None if freedom is None else str(freedom)),
        ("residual std.", None if result.options.absolute_sigma else _or_none(result.residual_std)),
        ("reduced χ²", _or_none(_reduced_chi_square(result))),
        ("R²", _fraction(result.r_squared)),
        ("adjusted R²", _fraction(result.adj_r_squared)),
        ("log-likelihood", _or_none(result.log_likelihood, 10)),
        ("AIC", _or_none(result.aic)),
        ("BIC", _or_none(result.bic)),
        ("converged", "yes" if result.success else "NO"),
    ]
    return [(name, value) for name, value in pairs if value is not None]


def facts_of(result: FitResult) -> Pairs:
    """Everything else in words: `(name, value)`."""
    return [
        objective_of(result),
        ("solver", result.solver),
        ("convergence", result.message),
        (
            "effort",
            f"{counted(result.iterations, 'iteration')}, {counted(result.evaluations, 'evaluation')}, "
            f"gradient norm {number(result.gradient_norm, 3)}; "
            f"compiled in {result.compile_seconds:.3g} s, run in {result.run_seconds:.3g} s",
        ),
        *([] if result.condition is None else [("condition", number(result.condition, 3))]),
    ]


def notes_of(result: FitResult) -> list[str]:
    """What is particular about this fit, and why numbers are missing."""
    notes = []
    if result.stderr is None:
        notes.append(f"no standard errors: {result.stderr_reason}")
    else:
        notes.append(f"standard errors {result.inference.errors}")
    notes += [f"{tie.name} = {describe(tie.expression)}" for tie in result.statement.ties.values()]
    taken = "" if result.stderr is None else ", which the standard errors take for an equation"
    for constraint in result.statement.constraints:
        holds = constraint.kind == "inequality" and constraint.text in result.multipliers
        notes.append(f"constraint: {constraint.text}" + (f" holds with equality{taken}" if holds else ""))
    if result.at_bounds:
        notes.append(f"at a bound: {', '.join(result.at_bounds)}")
    if result.r_squared is None and not _is_likelihood(result):
        notes.append(f"no R²: {result.r_squared_reason}")
    if result.log_likelihood is None:
        notes.append(f"no log-likelihood, AIC and BIC: {result.log_likelihood_reason}")
    else:
        notes.append(
            "AIC = 2k - 2 log L" + ("" if result.bic is None else ", BIC = k log N - 2 log L") + f" with k = "
            f"{result.estimated}, {LEFT_OUT if _is_likelihood(result) else WITHOUT_VARIANCE}"
        )
    if result.log_likelihood is not None and result.bic is None:
        notes.append(f"no BIC: {result.bic_reason}")
    if result.condition is not None and result.condition > ILL_CONDITIONED:
        notes.append(
            f"the condition number is large, {number(result.condition, 3)}: that many digits of the estimates are lost "
            "to the data's own rounding"
        )
    return notes


def objective_of(result: FitResult) -> tuple[str, str]:
    """What was minimised, or maximised, and how far."""
    value = number(result.cost, 10)
    if result.statement.maximize:
        return "maximum", f"{value} of {cost_of(result)}"
    return "cost", f"{value} = {cost_of(result)}"


def cost_of(result: FitResult) -> str:
    """What was minimised (or maximised), as the user wrote it or in words; a long formula ends in `...`."""
    problem = result.statement
    if not problem.equations:
        return _shortened(describe(problem.cost, LONG))
    parts = []
    for k, (observed, model) in enumerate(problem.equations):
        right = describe(model, LONG)
        difference = f"{describe(observed, LONG)} - {f'({right})' if isinstance(model, sp.Add) else right}"
        parts.append(difference if k not in problem.spreads else f"({difference})/sigma")
    what = "squares" if problem.loss is None else f"{problem.loss.name} losses"
    return _shortened(f"sum of {what} of {' and of '.join(parts)}")


def _is_likelihood(result: FitResult) -> bool:
    return result.options.likelihood


def _reduced_chi_square(result: FitResult) -> float | None:
    """Squares of residuals in units of their stated standard deviations, over the degrees of freedom; else None.

    About 1 where model and standard deviations are right. Weights are known up to a factor, so they have none.
    """
    problem, freedom = result.statement, result.degrees_of_freedom
    stated = [problem.spreads[k].kind != "weights" for k in range(len(problem.equations)) if k in problem.spreads]
    if not (stated and all(stated) and len(stated) == len(problem.equations) and problem.loss is None and freedom):
        return None
    return float(result.cost) / freedom


def _fraction(x: float | None) -> str | None:
    """Eight decimals; zero has no sign."""
    return None if x is None else f"{round(x, 8) + 0.0:.8f}"


def _or_none(x: float | None, digits: int = 8) -> str | None:
    return None if x is None else number(x, digits)


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME // 2]}…{name[-NAME // 2 + 1 :]}"


def _shortened(text: str) -> str:
    return text if len(text) <= COST else text[:COST].rpartition(" ")[0].rstrip("+-* ") + " ..."


# How it is set ------------------------------------------------------------------------------------


def _side_by_side(pairs: Pairs) -> list[str]:
    """`name: value` in two columns, the first half on the left."""
    half = (len(pairs) + 1) // 2
    columns = [pairs[:half], pairs[half:]]
    blocks = []
    for column in columns:
        label = max((len(name) for name, _ in column), default=0)
        width = max((len(value) for _, value in column), default=0)
        blocks.append([f"{name + ':':<{label + 1}}  {value:>{width}}" for name, value in column])
    left = max((len(line) for line in blocks[0]), default=0)
    blocks[1] += [""] * (half - len(blocks[1]))
    return [f"{a:<{left}}    {b}".rstrip() for a, b in zip(*blocks, strict=True)]


def _wrapped(head: str, text: str, width: int) -> list[str]:
    """`text` behind `head`, broken at blanks, later lines indented."""
    lines, line = [], head
    for word in text.split(" "):
        if len(line) + len(word) > width and len(line) > len(head):
            lines.append(line.rstrip())
            line = " " * len(head)
        line += word + " "
    return [*lines, line.rstrip()]


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "²": "$^2$", "±": r"$\pm$", "×": r"$\times$", "…": r"\ldots{}",
}  # fmt: skip


def latex_text(text: str) -> str:
    """Plain text for LaTeX: what has a meaning there is escaped."""
    return "".join(_LATEX.get(c, c) for c in text)


def _latex_number(text: str) -> str:
    """A number in mathematics, with a power of ten for an exponent; other text escaped."""
    found = re.fullmatch(r"(-?[\d.]+)(?:e([+-]\d+))?", text)
    if found is None:
        return latex_text(text) if text != "-" else "--"
    mantissa, exponent = found.groups()
    return f"${mantissa}$" if exponent is None else rf"${mantissa} \times 10^{{{int(exponent)}}}$"


def _symbols(result: FitResult, *, free: bool) -> list[str]:
    """Each element of the free or of the fixed parameters as mathematics."""
    chosen = (u for u in result.statement.unknowns if u.fixed != free)
    return [symbol for u in chosen for symbol in _elements(u.name, u.initial.shape)]


def _elements(name: str, shape: tuple[int, ...]) -> list[str]:
    """Each element of a parameter as mathematics."""
    plain = re.fullmatch(r"\w+", name) is not None
    base = sp.latex(sp.Symbol(name)) if plain else rf"\text{{{latex_text(name)}}}"
    return [f"{{{base}}}_{{{','.join(map(str, k))}}}" if k else base for k in np.ndindex(shape)]
