"""Verification, shipped to users: is this compiled function right, here, in this dtype?

Four questions, each with its own judge:

- **rewriting**: is the optimised graph the lowered one? Both evaluated with mpmath; they agree to nearly all digits.
- **values**: does the function, as the user calls it, give what the lowered graph gives with mpmath? In units in the
  last place (ULP). What is allowed is 8 ULP, plus 8 times what rounding explains: the formula, unoptimised, is
  evaluated a few times in high precision with every number half an ULP off at random (Monte Carlo arithmetic; Parker,
  1997). So a cancellation in the formula itself is not held against the compiler.
- **derivatives**: the graphs of gradient and Hessian-vector product, evaluated with mpmath, against central differences
  in mpmath with steps of 1e-15 (their own error is about 1e-30); and the compiled gradient against its graph, in ULP.
- **tape**: TensorFlow's `GradientTape` through the generated operations, where it is finite, against ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np

from sym2tf.backends.constants import FORMATS
from sym2tf.backends.mpmath import evaluate as evaluate_exactly
from sym2tf.backends.tensorflow.taping import taped_gradient
from sym2tf.check_report import ULP_QUESTIONS, CheckReport, Comparison
from sym2tf.errors import CheckError, DifferentiationError
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.sampling import candidates, elements, sizes_for, take
from sym2tf.trees import leaves

Array = np.ndarray[Any, Any]
Allowed = Callable[[Any, int], Any]  # (expected number, its place) -> the error that is allowed
DIGITS = 50
STEP = mpmath.mpf(10) ** -15
FACTOR = 8  # times a unit in the last place and what rounding errors explain
NOISY_RUNS = 5
# decompositions are exact for a matrix nearby, so many units in the last place of its largest element away
NORMWISE_OPS = frozenset(
    [
        *("cofactor", "cofactor_slope", "eigh_values", "eigh_vectors", "svd_values", "svd_left", "svd_right"),
        *("qr_q", "qr_r", "expm", "logm", "sqrtm"),
    ]
)
NORMWISE_ULP = 4
# what moves or chooses numbers and does not round them; a constant is rounded once, when code is generated
EXACT_OPS = frozenset(
    [
        "const",
        "size",
        "range",
        "cast",
        "expand",
        "squeeze",
        "broadcast",
        "slice",
        "pad",
        "transpose",
        "select",
        "neg",
        "abs",
        "sign",
        "floor",
        "ceiling",
        "max",
        "min",
        "reduce_max",
        "reduce_min",
    ]
)
EXACT = 1e-20  # relative; what mpmath may lose between two forms of one formula
DERIVED = 1e-10  # relative; the error of a central difference near a singularity
KINK = 1e-6
ELEMENTS = 8  # partial derivatives that are looked at


def check_function(
    function: Any, *, samples: int = 40, seed: int = 0, derivatives: bool = True, raises: bool = False
) -> CheckReport:
    """Verify a compiled function at sampled points of its domain.

    Args:
        function: the compiled function.
        samples: points; data get small made-up sizes.
        seed: of the sampling.
        derivatives: look at gradient, second derivatives and tape too, for scalar real outputs.
        raises: raise instead of only reporting.

    Raises:
        CheckError: something disagrees, and `raises` is set.
    """
    start = time.perf_counter()
    with mpmath.workdps(DIGITS):
        study = _Study(function, samples, seed)
        comparisons = [*study.rewriting(), *study.values()]
        if derivatives:
            comparisons += study.derivatives()
    title = f"{function.name}: {function.title}, {function.dtype}"
    report = CheckReport(title, tuple(comparisons), study.outside, time.perf_counter() - start)
    if raises and not report.ok:
        raise CheckError(str(report))
    return report


class _Study:
    """The sampled points of one function and what is known about them."""

    def __init__(self, function: Any, samples: int, seed: int) -> None:
        self.function, self.dtype, self.form = function, function.dtype, FORMATS[function.dtype]
        self.graph: Graph = function.lowered
        self.rng = np.random.default_rng(seed)
        self.explained: dict[str, Allowed] = {}  # by output: what rounding explains
        self.decomposed: set[int] = set()  # records of nodes of which a decomposition is computed
        self.sizes = sizes_for(self.graph)
        tried = 4 * samples if self.graph.inputs else 1
        sampled = {n: self.rounded(v) for n, v in candidates(self.graph, self.sizes, tried, self.rng).items()}
        truth = self.exactly(self.graph, sampled)
        inside = np.array([all(_defined(t[k]) for t in truth.values()) for k in range(tried)], bool)
        rows, outside = np.flatnonzero(inside)[:samples], np.flatnonzero(~inside)
        self.points, self.count = take(sampled, rows), len(rows)
        self.truth = {name: t[rows] for name, t in truth.items()}
        self.outside = (len(outside), _at(sampled, outside[0]) if len(outside) else {})

    # Questions -------------------------------------------------------------------------------------------------

    def rewriting(self) -> list[Comparison]:
        found = self.exactly(self.function.graph, self.points)
        return [
            self.compare("rewriting", name, found[name], truth, lambda e, k: EXACT * max(abs(e), 1))
            for name, truth in self.truth.items()
        ]

    def values(self) -> list[Comparison]:
        return self.in_ulp("values", self.graph, self.called(self.function), self.truth)

    def derivatives(self) -> list[Comparison]:
        real = [v for v in self.graph.inputs if self.graph[v].type.kind >= Kind.REAL]
        types = [self.graph[v].type for v in self.graph.outputs.values()]
        if not real or not self.count or any(t.kind < Kind.REAL or any(d != 1 for d in t.shape) for t in types):
            return []
        try:
            gradient, product = self.function.gradient(), self.function.hvp()
        except DifferentiationError as error:
            return [Comparison("gradient", str(error), 0, ok=False)]
        names = [self.graph[v].attributes["name"] for v in real]
        found = self.exactly(gradient.lowered, self.points)
        got = self.called(gradient)
        comparisons = [c for output in self.graph.outputs for c in self.differences(output, names, found)]
        comparisons += self.second(gradient.lowered, product.lowered, found, names)
        comparisons += self.in_ulp("gradient values", gradient.lowered, got, found)
        return comparisons + self.tape(names, got)

    def differences(self, output: str, names: Sequence[str], found: dict[str, Array]) -> list[Comparison]:
        comparisons = []
        for name, at in elements(self.graph, self.points, ELEMENTS):
            place: Any = (slice(None), *at)
            moved = []
            for step in (STEP, -STEP):
                shifted = _objects(self.points[name])
                shifted[place] += step
                moved.append(self.exactly(self.graph, self.points | {name: shifted})[output])
            got = found[f"{output}/{names.index(name)}"].reshape(self.points[name].shape)[place]
            label = f"{output} by {name}{list(at) if at else ''}"
            comparisons.append(self.against_difference("gradient", label, got, moved, self.truth[output]))
        return comparisons

    def second(
        self, gradient: Graph, product: Graph, first: dict[str, Array], names: Sequence[str]
    ) -> list[Comparison]:
        """Hessian-vector products along one random direction, against differences of the gradient graph."""
        direction = {n: np.round(self.rng.normal(size=self.points[n].shape), 2) for n in names}
        new = [product[v].attributes["name"] for v in product.inputs[len(self.graph.inputs) :]]
        found = self.exactly(product, self.points | {n: direction[x] for n, x in zip(new, names, strict=True)})
        moved = []
        for step in (STEP, -STEP):
            shifted = {n: _objects(self.points[n]) + step * _objects(direction[n]) for n in names}
            moved.append(self.exactly(gradient, self.points | shifted))
        return [
            self.against_difference("second derivative", name, got, [m[name] for m in moved], first[name])
            for name, got in found.items()
        ]

    def tape(self, names: Sequence[str], ours: dict[str, Array]) -> list[Comparison]:
        comparisons = []
        assumed = {self.graph[v].attributes["name"] for v in self.graph.inputs if self.graph[v].attributes.get("known")}
        for k, output in enumerate(self.graph.outputs):
            taped = taped_gradient(self.function._program, self.arguments(), self.sizes, k, names)
            for j, (name, theirs) in enumerate(zip(names, taped, strict=True)):
                mine = np.asarray(ours[f"{output}/{j}"], float).ravel()
                lost = ~np.isfinite(theirs.ravel()) & np.isfinite(mine)
                due = np.where(lost | ~np.isfinite(mine), np.nan, theirs.ravel())
                if name in assumed:
                    due[:] = np.nan
                largest = max(1.0, float(np.max(np.abs(mine[np.isfinite(mine)]), initial=0.0)))
                skipped = {"GradientTape is not finite where sym2tf is": int(lost.sum())}
                if name in assumed:  # an algorithm for triangular matrices, say, never looks at the other half
                    skipped = {"the tape goes through an algorithm that takes assumptions for granted": len(due)}
                rounding = self.explained[f"{output}/{j}"]
                loose = self.about(8 * 2.0 ** (-self.form.precision / 2), largest)
                allowed = _either(loose, rounding)
                comparisons.append(self.compare("tape", f"{output} by {name}", mine, due, allowed, skipped))
        return comparisons

    # Tools -----------------------------------------------------------------------------------------------------

    def against_difference(
        self, question: str, label: str, got: Array, moved: Sequence[Array], here: Array
    ) -> Comparison:
        """A derivative against the central difference, where the two one-sided ones agree."""
        central = ((moved[0] - moved[1]) / (2 * STEP)).ravel()
        jump = np.abs((moved[0] - 2 * here + moved[1]) / STEP).ravel()
        smooth = [mpmath.isfinite(c) and j <= KINK * max(1, abs(c)) for c, j in zip(central, jump, strict=True)]
        due = np.array([c if s else mpmath.nan for c, s in zip(central, smooth, strict=True)], object)
        return self.compare(
            question, label, got, due, lambda e, k: DERIVED * max(abs(e), 1) + jump[k] * 1e-6,
            {"a corner or the edge of the domain": smooth.count(False)},
        )  # fmt: skip

    def in_ulp(self, question: str, graph: Graph, got: dict[str, Array], truth: dict[str, Array]) -> list[Comparison]:
        rows = [v for v in graph.order if graph[v].op.name in NORMWISE_OPS]
        self.decomposed = {id(graph[u]) for v in rows for u in graph.operands(v)}
        noisy = [self.exactly(graph, self.points, self.noise) for _ in range(NOISY_RUNS)]
        comparisons = []
        for name, due in truth.items():
            if graph[graph.outputs[name]].type.kind is Kind.BOOLEAN:
                allowed = self.about(0.0, 0.0)
            else:
                allowed = self.explained[name] = self.within(due.ravel(), [run[name].ravel() for run in noisy])
            comparisons.append(self.compare(question, name, got[name], due, allowed))
        return comparisons

    def about(self, relative: float, largest: float) -> Allowed:
        """An error relative to the number and to the largest one."""
        return lambda e, k: mpmath.mpf(relative) * (abs(e) + largest) if relative else mpmath.mpf(0)

    def within(self, due: Array, noisy: Sequence[Array]) -> Allowed:
        """What rounding the result, the inputs and every step of the plain formula explains."""
        spread = [max(_distance(run[k], e) for run in noisy) for k, e in enumerate(due)]
        return lambda e, k: FACTOR * (self.ulp(e) + spread[k])

    def noise(self, node: Node, values: Any) -> Any:
        """A value as another rounding of it might have come out: up to half a unit in the last place away."""
        if node.type.kind < Kind.REAL or node.op.name in EXACT_OPS:
            return values
        half = mpmath.mpf(2) ** -self.form.precision
        if (id(node) in self.decomposed or node.op.name in NORMWISE_OPS) and np.size(values):
            axes = tuple(range(-min(2, node.type.rank), 0))
            largest = np.max(np.abs(values), axes, keepdims=True)
            values = values + NORMWISE_ULP * half * largest * _objects(self.rng.uniform(-1, 1, np.shape(values)))
        return values * (1 + half * _objects(self.rng.uniform(-1, 1, np.shape(values))))

    def compare(
        self, question: str, output: str, got: Any, due: Array, allowed: Allowed, skipped: dict[str, int] | None = None
    ) -> Comparison:
        """The worst of many numbers; where `due` is NaN nothing is compared."""
        worst: tuple[float, int, Any, Any] | None = None
        found, expected, compared = np.asarray(got, object).ravel(), np.asarray(due, object).ravel(), 0
        for k, (g, e) in enumerate(zip(found, expected, strict=True)):
            if not _is_bool(e) and mpmath.isnan(e):
                continue
            compared += 1
            limit, error = allowed(e, k), self.error(g, e)
            ratio = float(error / limit) if limit else float(error) * 1e30
            ratio = ratio if ratio == ratio else float("inf")
            if worst is None or ratio > worst[0]:
                worst = (ratio, k, error, limit)
        skipped = {why: int(n) for why, n in (skipped or {}).items() if n}
        if worst is None:
            return Comparison(question, output, 0, skipped)
        ratio, k, error, limit = worst
        e = expected[k]
        unit = self.ulp(e) if question in ULP_QUESTIONS and not _is_bool(e) else max(abs(e), 1)
        return Comparison(
            question, output, compared, skipped, float(error / unit), float(limit / unit),
            _at(self.points, k * self.count // len(expected)), _plain(found[k]), _plain(e), ratio <= 1,
        )  # fmt: skip

    def error(self, got: Any, due: Any) -> Any:
        """How far a number is from the truth; overflow to the infinity of its sign is no error."""
        if _is_bool(due):
            return mpmath.mpf(bool(got) != bool(due))
        got, due = mpmath.mpf(got), mpmath.mpf(due)
        if mpmath.isnan(got):
            return mpmath.inf
        if mpmath.isinf(got) or mpmath.isinf(due):
            largest = mpmath.mpf(2) ** (self.form.largest + 1) * (1 - mpmath.mpf(2) ** -self.form.precision)
            return mpmath.mpf(0) if mpmath.sign(got) == mpmath.sign(due) and abs(due) >= largest else mpmath.inf
        return abs(got - due)

    def ulp(self, value: Any) -> Any:
        """The unit in the last place at a value; subnormal numbers, which TensorFlow flushes, count as zero."""
        least = self.form.least + self.form.precision - 1  # exponent of the smallest normal number
        if value == 0 or not mpmath.isfinite(value):
            return mpmath.mpf(2) ** least
        exponent = int(mpmath.floor(mpmath.log(abs(value), 2)))
        return mpmath.mpf(2) ** max(exponent - self.form.precision + 1, least)

    def exactly(
        self, graph: Graph, points: dict[str, Array], through: Callable[[Node, Any], Any] | None = None
    ) -> dict[str, Array]:
        """The judge's values, as arrays with one row for each point."""
        found = evaluate_exactly(graph, points, self.needed(graph), digits=DIGITS, through=through)
        return found if graph.inputs else {name: t[None] for name, t in found.items()}

    def needed(self, graph: Graph) -> dict[str, int]:
        known = set(graph.info.get("sizes", ())) | graph.size_names()
        return {name: size for name, size in self.sizes.items() if name in known}

    def rounded(self, values: Array) -> Array:
        """Points as the dtype holds them."""
        if values.dtype.kind != "f" or self.dtype == "float64":
            return values
        mantissa, exponent = np.frexp(values)
        return np.ldexp(np.round(np.ldexp(mantissa, self.form.precision)), exponent - self.form.precision)

    def arguments(self) -> list[Array]:
        return [self.points[self.graph[v].attributes["name"]] for v in self.graph.inputs]

    def called(self, function: Any) -> dict[str, Array]:
        """What the user gets, by output, one row for each point."""
        outputs = list(function.lowered.outputs)
        if not self.count:
            return {name: np.empty(0) for name in outputs}
        given = {n: s for n, s in self.sizes.items() if n in function.sizes}
        found = [np.asarray(a) for a in leaves(function(**self.points, **given))]
        found = [a if a.dtype == bool else a.astype(float) for a in found]
        return dict(zip(outputs, found if self.graph.inputs else [a[None] for a in found], strict=True))


def _either(first: Allowed, second: Allowed) -> Allowed:
    """The sum of two allowances."""
    return lambda e, k: first(e, k) + second(e, k)


def _objects(values: Array) -> Array:
    return np.asarray(np.frompyfunc(mpmath.mpf, 1, 1)(np.asarray(values, object)), object)


def _defined(values: Any) -> bool:
    return all(_is_bool(v) or mpmath.isfinite(v) for v in np.asarray(values, object).ravel())


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _distance(value: Any, truth: Any) -> Any:
    distance = abs(mpmath.mpf(value) - truth)
    return distance if mpmath.isfinite(distance) else mpmath.inf


def _plain(value: Any) -> bool | float:
    return bool(value) if _is_bool(value) else float(value)


def _at(points: dict[str, Array], row: Any) -> dict[str, Any]:
    return {name: values[row].tolist() for name, values in points.items()}
