"""Every rewrite rule keeps the promise of its table on an adversarial grid; a rule that cannot fire fails."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest

from sym2tf.backends import mpmath as judge
from sym2tf.backends import numpy as reference
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.arithmetic import cast, log
from sym2tf.ops.contraction import reduce_max, softmax
from sym2tf.ops.elementary import cos, cosh, exp
from sym2tf.ops.indexing import broadcast, expand, pad, slice_, squeeze, sum_, transpose
from sym2tf.ops.leaves import input_
from sym2tf.ops.linalg import det
from sym2tf.ops.logic import and_, less, not_, or_, select, xor
from sym2tf.ops.piecewise_linear import abs_
from sym2tf.ops.values import Value, apply, constant
from sym2tf.passes.patterns import Number, Pattern, Rule, Term, Wild, wild
from sym2tf.passes.rewriting import rewrite
from sym2tf.passes.rules import EXACT, REAL, STABLE

TINY, HUGE, LEAST = float(np.finfo(float).tiny), float(np.finfo(float).max), 5e-324
EXACT_GRID = [
    *(0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -3.0, 1.5, -2.5, 7.0, 1 / 3, -0.1),
    *(TINY, -TINY, LEAST, -LEAST, HUGE, -HUGE, 1e16, -1e-16, math.inf, -math.inf, math.nan),
]
REAL_GRID = [0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 1.5, -3.0, 4.0, 1 / 3, -0.1, 1e-6, -1e-6, 40.0, -7.0]
STABLE_GRID = [
    *(0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 1.5, 7.0, 1 / 3, -0.1, -0.999999, 1e-3, -1e-5, 1e-9, -1e-12, 1e-17),
    *(
        -1e-20,
        20.0,
        -20.0,
        35.0,
        -40.0,
        100.3,
        -100.7,
        300.1,
        -300.1,
        709.0,
        -709.0,
        750.0,
        -750.0,
        TINY,
        -LEAST,
    ),
]
EDGE_GRID = [
    0.0,
    1.0,
    -1.0,
    0.5,
    -2.0,
    3.0,
    1e-200,
    1e-308,
    1e200,
    -1e200,
    1.7e308,
    -1e308,
    700.0,
    -700.0,
    1e5,
]
CONSTANTS = [Fraction(n, d) for d in (1, 2) for n in (-1, -2, -3, -5, 1, 2, 3, 4, 5)]
INSTANCES = 8
MAY_OVERFLOW = {
    "factor": "b + c may overflow where a small a keeps both products finite",
    "sum of sum": "as any other order of summation",
}
# Units in the last place that a rule may lose, else 2
SLACK = {
    "1 - tanh squared": 3,  # a square doubles them
    "softmax": 2**9,  # rounding x - max(x), up to 750, costs what is far below 1; dividing by the sum overflows instead
}
# Differences, accurate to the last place of what is subtracted: here the largest number of the grid
DIFFERENCES = {"log of softmax": 750.0, "log of a multiple of a sum": 750.0}

# Rules on shapes have attributes, so each is given an example: shape of the input, and the left side.
EXAMPLES: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "squeeze expand": ((3,), lambda x: squeeze(expand(x, axis=-2), axis=-2)),
    "expand squeeze": ((1, 3), lambda x: expand(squeeze(x, axis=-2), axis=-2)),
    "squeeze inwards": ((3,), lambda x: squeeze(expand(expand(x, axis=-1), axis=-3), axis=-1)),
    "expand of broadcast": ((1, 3), lambda x: expand(broadcast(x, shape=(2, 3)), axis=-2)),
    "squeeze of broadcast": ((1, 1, 3), lambda x: squeeze(broadcast(x, shape=(2, 1, 3)), axis=-2)),
    "multiple of broadcast": ((1, 3), lambda x: broadcast(x, shape=(2, 3)) * Fraction(-3)),
    "new axis of a single element": ((1,), lambda x: expand(x, axis=-1)),
    "broadcast to the same": ((2, 3), lambda x: broadcast(x, shape=(3,))),
    "broadcast twice": ((1, 1, 3), lambda x: broadcast(broadcast(x, shape=(1, 2, 3)), shape=(2, 3))),
    "slice of all": ((3,), lambda x: slice_(x, axis=-1, start=0, size=3)),
    "slice of slice": ((7,), lambda x: slice_(slice_(x, axis=-1, start=1, size=5), axis=-1, start=2, size=2)),
    "slice of pad": ((3,), lambda x: slice_(pad(x, axis=-1, before=2, after=1), axis=-1, start=3, size=2)),
    "slice of broadcast": ((1, 2), lambda x: slice_(broadcast(x, shape=(5, 2)), axis=-2, start=1, size=3)),
    "pad by nothing": ((3,), lambda x: pad(x, axis=-1, before=0, after=0)),
    "pad of pad": ((3,), lambda x: pad(pad(x, axis=-1, before=1, after=2), axis=-1, before=3, after=4)),
    "transpose to the same": ((2, 3), lambda x: transpose(x, axes=(-2, -1))),
    "transpose twice": ((2, 3, 4), lambda x: transpose(transpose(x, axes=(-2, -1, -3)), axes=(-1, -2))),
    "sum over no axes": ((3,), lambda x: sum_(x, axes=())),
    "cast to the same": ((3,), lambda x: cast(x, kind=Kind.REAL)),
    "cast of cast": ((3,), lambda x: cast(cast(less(x, 0), kind=Kind.INTEGER), kind=Kind.REAL)),
    "weight as condition": ((3,), lambda x: less(0, cast(less(x, 1), kind=Kind.REAL))),
    "sum of short axes": ((3, 1), lambda x: sum_(x, axes=(-2, -1))),
    "sum of broadcast": ((1, 3), lambda x: sum_(broadcast(x, shape=(4, 3)), axes=(-2, -1))),
    "sum of sum": ((2, 3, 4), lambda x: sum_(sum_(x, axes=(-2,)), axes=(-2, -1))),
    "sum of pad": ((3,), lambda x: sum_(pad(x, axis=-1, before=1, after=2), axes=(-1,))),
    "number out of a single element": ((), lambda x: expand(-3 * x, axis=-1) * expand(exp(x), axis=-1)),
    "minus of negatives": ((3,), lambda x: -(Fraction(-2) * x - exp(x))),
    "sum of a simplex": ((4, 3), lambda x: sum_(softmax(x, axes=(-1,)), axes=(-2, -1))),
    "softmax of a shift": ((4, 3), lambda x: softmax(x + expand(reduce_max(x, axes=(-1,)), axis=-1), axes=(-1,))),
    "softmax": ((4, 3), lambda x: exp(x) / expand(sum_(exp(x), axes=(-2,)), axis=-2)),
    "log of softmax": ((5,), lambda x: log(softmax(x, axes=(-1,)))),
    "log of a multiple of a sum": ((5,), lambda x: log(sum_(exp(x), axes=(-1,)) / 3)),
    "log of a weighted sum": ((5,), lambda x: log(sum_(cosh(x) * exp(x), axes=(-1,)))),
    "logsumexp": ((5,), lambda x: log(sum_(exp(x), axes=(-1,)))),
    "log determinant": ((2, 2), lambda x: log(det(x))),
    "log of the size of a determinant": ((2, 2), lambda x: log(abs_(det(x)))),
}


@cache
def instances(rule: Rule) -> list[tuple[Graph, Graph]]:
    """Graphs of the left side, and what the rule makes of them, for several choices of its wildcards."""
    found = []
    for graph in itertools.islice(_left_sides(rule), 1500):
        if not any(graph.use_count(v) for v in graph.inputs):
            continue  # nothing but constants
        after, fired = rewrite(graph, [rule], collect=False)
        if fired[rule.name]:
            found.append((graph, after.validate()))
            if len(found) == INSTANCES:
                break
    assert found, f"rule {rule.name!r} never fired"
    return found


def plain_instances(rule: Rule) -> list[tuple[Graph, Graph]]:
    """The smallest instances: what is rounded or huge inside an operand would count as an error of the rule."""
    least = min(len(before) for before, _ in instances(rule))
    return [(before, after) for before, after in instances(rule) if len(before) == least]


def _left_sides(rule: Rule) -> Iterator[Graph]:
    if rule.name in EXAMPLES:
        shape, left = EXAMPLES[rule.name]
        builder = Builder()
        x = _input(builder, "a", TensorType(Kind.REAL, shape))
        yield builder.build([x.id], {"y": left(x).id}).validate()
        return
    wilds: dict[str, Wild] = {}
    conditions: set[str] = set()
    _collect(rule.left, wilds, conditions)
    choices = {n: [0] if n in conditions else _choices(w) for n, w in wilds.items()}
    picks = list(itertools.product(*choices.values()))
    if len(picks) > 40:
        picks[10:] = random.Random(1).sample(picks[10:], len(picks) - 10)
    for pick in picks:
        builder = Builder()
        inputs = {n: _input(builder, n, TensorType(Kind.BOOLEAN if n in conditions else Kind.REAL)) for n in wilds}
        first = inputs.get("a") or next(iter(inputs.values()))
        values = {
            n: choice(inputs[n], first) if callable(choice) else constant(builder, choice) if choice else inputs[n]
            for n, choice in zip(choices, pick, strict=True)
        }
        left = _build(builder, rule.left, values)
        yield builder.build([x.id for x in inputs.values()], {"y": left.id}).validate()


def _choices(w: Wild) -> list[Any]:
    if w.condition is not None:
        return [
            *CONSTANTS,
            lambda x, first: abs_(x),
            lambda x, first: -abs_(x),
            lambda x, first: cosh(x),
            lambda x, first: -cosh(x),
        ]
    return [
        0,
        lambda x, first: -first,
        lambda x, first: first,
        Fraction(2),
        Fraction(-2),
        lambda x, first: exp(x),
        lambda x, first: cosh(x),
        lambda x, first: cast(less(x, 0), kind=Kind.INTEGER),
    ]


def _collect(pattern: Pattern, wilds: dict[str, Wild], conditions: set[str]) -> None:
    if isinstance(pattern, Wild):
        wilds.setdefault(pattern.name, pattern)
    elif isinstance(pattern, Term):
        for k, part in enumerate(pattern.operands):
            if isinstance(part, Wild) and (pattern.op in (and_, or_, xor, not_) or (pattern.op is select and k == 0)):
                conditions.add(part.name)
            _collect(part, wilds, conditions)


def _build(builder: Builder, pattern: Pattern, values: dict[str, Value]) -> Value:
    if isinstance(pattern, Wild):
        return values[pattern.name]
    if isinstance(pattern, Number):
        return constant(builder, pattern.value)
    assert isinstance(pattern, Term)
    return apply(builder, pattern.op, [_build(builder, p, values) for p in pattern.operands], pattern.attributes)


def _input(builder: Builder, name: str, type: TensorType) -> Value:
    return Value(builder, builder.add(input_, (), {"name": name, "symbol": name, "type": type}))


def points(graph: Graph, grid: list[float], most: int) -> dict[str, Any]:
    """All combinations of grid values for the inputs, or `most` of them drawn at random."""
    types = [graph[v].type for v in graph.inputs]
    names = [graph[v].attributes["name"] for v in graph.inputs]
    if any(t.shape for t in types):
        rng = np.random.default_rng(7)
        return {n: rng.choice(grid, size=(most // 8, *t.shape)) for n, t in zip(names, types, strict=True)}
    choices: list[list[Any]] = [
        [False, True] if t.kind is Kind.BOOLEAN else grid if graph.use_count(v) else [1.0]
        for v, t in zip(graph.inputs, types, strict=True)
    ]
    total = math.prod(map(len, choices))
    if total <= most:
        rows = list(itertools.product(*choices))
    else:
        rng = random.Random(5)
        rows = [tuple(rng.choice(c) for c in choices) for _ in range(most)]
    return {
        n: np.array([row[k] for row in rows], dtype=bool if types[k].kind is Kind.BOOLEAN else float)
        for k, n in enumerate(names)
    }


def check_exact(rule: Rule) -> None:
    for before, after in instances(rule):
        at = points(before, EXACT_GRID, 4000)
        left, right = reference.evaluate(before, at)["y"], reference.evaluate(after, at)["y"]
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        same = (left == right) & (np.signbit(left) == np.signbit(right)) if left.dtype == float else left == right
        if left.dtype == float:
            same |= np.isnan(left) & np.isnan(right)
        assert same.all(), _worst(at, ~same, left, right)


def check_real(rule: Rule, grid: list[float] = REAL_GRID, digits: int = 120) -> None:
    for before, after in plain_instances(rule) if rule in STABLE else instances(rule):
        at = points(before, grid, 64)
        left = judge.evaluate(before, at, digits=digits)["y"]
        right = judge.evaluate(after, at, digits=digits)["y"]
        assert left.shape == right.shape
        with mpmath.workdps(digits):
            wrong = np.array([not _equal(x, y) for x, y in zip(left.flat, right.flat, strict=True)])
        assert not wrong.any(), _worst(at, wrong.reshape(left.shape), left, right)


def _equal(x: Any, y: Any) -> bool:
    if isinstance(x, bool | int | np.bool_):
        return bool(x == y)
    return not mpmath.isfinite(x) or abs(x - y) <= mpmath.mpf("1e-30") * max(1, abs(x))


def check_stable(rule: Rule) -> None:
    better = False
    for before, after in plain_instances(rule):
        at = points(before, STABLE_GRID, 48)
        truth = judge.evaluate(before, at, digits=400)["y"]
        left, right = reference.evaluate(before, at)["y"], reference.evaluate(after, at)["y"]
        counts = np.array([_representable(t) for t in truth.flat]).reshape(truth.shape)
        scale = DIFFERENCES.get(rule.name, 0.0)
        error = _ulps(left, truth, scale), _ulps(right, truth, scale)
        worse = counts & ~(error[1] <= error[0] + SLACK.get(rule.name, 2))
        assert not worse.any(), _worst(at, worse, left, right)
        better |= bool((counts & ~(error[0] <= error[1] + 1)).any())
    assert better, f"rule {rule.name!r} gains nothing"


def _representable(t: Any) -> bool:
    return bool(mpmath.isfinite(t)) and TINY <= abs(t) <= HUGE


def _ulps(values: Any, truth: Any, scale: float = 0.0) -> Any:
    result = np.full(truth.shape, np.inf)
    for k, t in np.ndenumerate(truth):
        if _representable(t) and math.isfinite(values[k]):
            with mpmath.workdps(60):
                result[k] = float(abs(mpmath.mpf(float(values[k])) - t) / math.ulp(max(abs(float(t)), scale)))
    return result


def _worst(at: dict[str, Any], wrong: Any, left: Any, right: Any) -> str:
    k = tuple(np.argwhere(wrong)[0])
    where = {name: x[k[: max(1, x.ndim - 1)]] if x.ndim > 1 else x[k[0]] for name, x in at.items()}
    return f"at {where}: {left[k]} became {right[k]}"


def _names(rules: tuple[Rule, ...]) -> list[str]:
    return [rule.name for rule in rules]


@pytest.mark.parametrize("rule", EXACT, ids=_names(EXACT))
def test_exact_rules_give_the_same_bits(rule: Rule) -> None:
    check_exact(rule)


@pytest.mark.parametrize("rule", REAL + STABLE, ids=_names(REAL + STABLE))
def test_real_and_stable_rules_are_equal_where_the_left_side_is_defined(rule: Rule) -> None:
    check_real(rule)


@pytest.mark.parametrize("rule", STABLE, ids=_names(STABLE))
def test_stable_rules_are_never_worse_and_somewhere_better(rule: Rule) -> None:
    check_stable(rule)


@pytest.mark.parametrize("rule", REAL + STABLE, ids=_names(REAL + STABLE))
def test_no_rule_adds_overflow_except_those_that_say_why(rule: Rule) -> None:
    if rule.name in MAY_OVERFLOW:
        return
    for before, after in instances(rule):
        at = points(before, EDGE_GRID, 4000)
        left, right = reference.evaluate(before, at)["y"], reference.evaluate(after, at)["y"]
        if left.dtype == float:
            bad = np.isfinite(left) & ~np.isfinite(right)
            if bad.any():  # unless the left side was finite by mistake
                rows = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
                truth = judge.evaluate(before, {name: x[rows] for name, x in at.items()})["y"]
                bad[rows] &= np.array([_representable(t) for t in truth.flat]).reshape(truth.shape)
            assert not bad.any(), _worst(at, bad, left, right)


def test_rules_that_may_overflow_exist() -> None:
    assert set(MAY_OVERFLOW) <= set(_names(REAL + STABLE))


def test_examples_name_rules() -> None:
    assert set(EXAMPLES) <= set(_names(EXACT + REAL + STABLE))


def test_names_are_unique() -> None:
    names = _names(EXACT + REAL + STABLE)
    assert sorted(set(names)) == sorted(names)


a, b = wild("a b")


@pytest.mark.parametrize(
    ("check", "rule"),
    [
        (check_exact, Rule("loses the sign of zero", a + 0 * b, a)),
        (check_exact, Rule("inf times 0", a * 0, 0)),
        (check_exact, Rule("signed zero", select(less(a, 1), a, 0) + select(not_(less(a, 1)), b, 0), a)),
        (check_real, Rule("root of square", (a**2) ** Fraction(1, 2), a)),
        (check_real, Rule("log of product", log(a * b), log(a) + log(b))),
        (check_real, Rule("power of a power", (a ** Fraction(1, 2)) ** b, a ** (b * b))),
        (check_stable, Rule("sum of exponents", exp(a) * exp(b), exp(a + b))),
        (check_stable, Rule("undoes 1 - cos", (1 - cos(a)) * b, b - b * cos(a))),
        (check_real, Rule("never fires", log(cos(exp(a)) * cos(a) ** 7) * 0, 0, where=lambda a: False)),
    ],
    ids=lambda x: x.name if isinstance(x, Rule) else "",
)
def test_a_wrong_rule_is_caught(check: Callable[[Rule], None], rule: Rule) -> None:
    with pytest.raises(AssertionError):
        check(rule)


def test_rules_refuse_names_that_the_left_side_does_not_bind() -> None:
    with pytest.raises(ValueError, match="does not bind b"):
        Rule("wrong", exp(a), b)
    with pytest.raises(ValueError, match="does not bind c"):
        Rule("wrong", exp(a), a, where=lambda c: True)
    with pytest.raises(ValueError, match="not an operation"):
        Rule("wrong", a, a)
