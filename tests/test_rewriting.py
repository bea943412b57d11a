"""The rewrite engine: what it folds and collects, that it ends in a fixed point, and that it is linear."""

from __future__ import annotations

import gc
import math
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from sym2tf.backends import mpmath as judge
from sym2tf.ir.dims import size_symbol
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.arithmetic import add, cast, log, mul, pow_
from sym2tf.ops.elementary import cos, cosh, exp, log1p, sigmoid, sin, softplus, tanh
from sym2tf.ops.indexing import broadcast, expand, sum_
from sym2tf.ops.leaves import Exact, const, input_
from sym2tf.ops.logic import and_, equal, less, not_, or_, select
from sym2tf.ops.piecewise_linear import abs_, floor, max_, min_, sign
from sym2tf.ops.values import Value, constant
from sym2tf.passes.folding import MAX_BITS, exact_power, fold
from sym2tf.passes.patterns import Rule, wild
from sym2tf.passes.rewriting import rewrite
from sym2tf.passes.rules import EXACT, REAL, STABLE

ALL = (*EXACT, *STABLE, *REAL)
SCALAR = TensorType(Kind.REAL)
HALF = Fraction(1, 2)


def make(function: Callable[..., Any], names: str = "x y z", type: TensorType = SCALAR, symbols: Any = None) -> Graph:
    """The graph of a function of graph values; several results are outputs y0, y1, ..."""
    builder = Builder()
    inputs = [
        Value(builder, builder.add(input_, (), {"name": n, "symbol": (symbols or {}).get(n), "type": type}))
        for n in names.split()
    ]
    made = function(*inputs[: function.__code__.co_argcount])
    results = made if isinstance(made, tuple) else (made,)
    return builder.build([x.id for x in inputs], {f"y{k}": r.id for k, r in enumerate(results)}).validate()


def text(graph: Graph) -> str:
    """The outputs written out, operands of commutative operations sorted."""
    written: dict[int, str] = {}
    for v in graph.order:
        node = graph[v]
        parts = [written[u] for u in graph.operands(v)]
        if node.op is const:
            written[v] = str(node.attributes["value"])
        elif node.op is input_:
            written[v] = node.attributes["name"]
        elif node.op is expand:
            written[v] = parts[0]
        else:
            written[v] = f"{node.op.name}({', '.join(sorted(parts) if node.op.commutative else parts)})"
    return "; ".join(written[v] for v in graph.outputs.values())


def simplified(function: Callable[..., Any], **options: Any) -> str:
    graph = make(function, **options)
    after, _ = rewrite(graph, ALL)
    assert [after[v].type for v in after.outputs.values()] == [graph[v].type for v in graph.outputs.values()]
    again, fired = rewrite(after.validate(), ALL)
    assert not fired
    assert text(again) == text(after)
    return text(after)


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (lambda x, y: x + y + x, "add(mul(2, x), y)"),
        (lambda x: x + x * 3 - HALF, "add(-1/2, mul(4, x))"),
        (lambda x, y: x * y * 2 + y * x * -2, "0"),
        (lambda x: x - x, "0"),
        (lambda x: 0 * sin(x), "0"),
        (lambda x: x * 1 + 0, "x"),
        (lambda x: (-x) * -1, "x"),
        (lambda x, y: -(-x - 2 * y), "add(mul(2, y), x)"),
        (lambda x: x * x * x, "pow(x, 3)"),
        (lambda x: x * x**-1, "1"),
        (lambda x: x**HALF * x**HALF, "x"),
        (lambda x: (x**HALF) ** 2, "x"),
        (lambda x: (x**2) ** HALF, "abs(x)"),
        (lambda x: (x**3) ** Fraction(1, 3), "x"),
        (lambda x: (1 / x) ** -1, "x"),
        (lambda x: (4 * x) ** HALF, "mul(2, pow(x, 1/2))"),
        (lambda x: (-4 * x) ** HALF, "pow(mul(-4, x), 1/2)"),
        (lambda x: (2 * x) ** -2, "mul(1/4, pow(x, -2))"),
        (lambda x, y, z: x + y * z + 7 + y * x, "add(7, mul(add(x, z), y), x)"),
        (lambda x, y: log(x + 1 + y), "log1p(add(x, y))"),
        (lambda x: log(1 - x), "log1p(mul(-1, x))"),
        (lambda x: log(1 + exp(2 * x)), "softplus(mul(2, x))"),
        (lambda x: 1 / (1 + exp(-x)), "sigmoid(x)"),
        (lambda x, y: exp(x - y) / (1 + exp(x - y)), "sigmoid(add(mul(-1, y), x))"),
        (lambda x: log(1 / (1 + exp(-x))), "mul(-1, softplus(mul(-1, x)))"),
        (lambda x: 1 - sigmoid(x), "sigmoid(mul(-1, x))"),
        (lambda x, y: exp(x) + y - 1, "add(expm1(x), y)"),
        (lambda x: (1 - cos(x)) / x**2, "mul(2, pow(sin(mul(1/2, x)), 2), pow(x, -2))"),
        (lambda x, y: sin(x) ** 2 + y + cos(x) ** 2, "add(1, y)"),
        (lambda x, y: y * sin(x) ** 2 + y * cos(x) ** 2, "y"),
        (lambda x: exp(x) / 2 - exp(-x) / 2, "sinh(x)"),
        (lambda x: (exp(x) - exp(-x)) / (exp(x) + exp(-x)), "tanh(x)"),
        (lambda x: sin(-2 * x) + sin(2 * x), "0"),
        (lambda x, y: select(less(x, y), sin(x), sin(x)), "sin(x)"),
        (lambda x, y: select(less(x, y), x, 0) + select(not_(less(x, y)), y, 0), "select(less(x, y), x, y)"),
        (lambda x, y: and_(less(x, y), or_(less(x, y), less(y, 0))), "less(x, y)"),
        (lambda x: or_(less(x, 0), not_(less(x, 0))), "True"),
        (lambda x: select(less(constant(x.builder, 1), 2), x, 1 / x), "x"),
        (lambda x: max_(2, x, max_(3, x)), "max(3, x)"),
        (lambda x: abs_(-3 * x), "mul(3, abs(x))"),
        (lambda x: abs_(exp(x)), "exp(x)"),
        (lambda x: max_(x * x, 0), "pow(x, 2)"),
        (lambda x: x * sign(x), "abs(x)"),
        (lambda x: exp(x) ** -1, "exp(mul(-1, x))"),
        (lambda x: exp(x) ** 3, "pow(exp(x), 3)"),
        (lambda x, y: log(exp(x) + exp(y)), "logaddexp(x, y)"),
    ],
)
def test_what_becomes_of(function: Callable[..., Any], result: str) -> None:
    assert simplified(function) == result


def test_a_rule_fires_inside_a_longer_sum_and_leaves_the_rest() -> None:
    graph = make(lambda x, a, b, y, c: x + a * b + y + a * c, names="x a b y c")
    after, fired = rewrite(graph, REAL)
    assert text(after.validate()) == "add(mul(a, add(b, c)), x, y)"
    assert fired["factor"] == 1


def test_products_that_others_use_are_not_factored() -> None:
    graph = make(lambda x, y, z: (x * y + x * z, sin(x * y), cos(x * z)))
    assert rewrite(graph, REAL)[1]["factor"] == 0


@pytest.mark.parametrize("branches", [2, 3, 12])
def test_terms_of_a_piecewise_derivative_become_one_select_again(branches: int) -> None:
    def masked(x: Any, y: Any) -> Any:
        total, taken = 0 * x, []
        for k in range(branches):
            here = less(x, k)
            guards = [*taken, here] if k < branches - 1 else taken
            guard = and_(*guards) if len(guards) > 1 else guards[0]
            total = total + select(guard, sin(y + k), 0)
            taken.append(not_(here))
        return total

    after, _ = rewrite(make(masked), ALL)
    counts = after.counts()
    assert counts["select"] == branches - 1
    assert not {"and", "not"} & set(counts)


def test_rows_of_any_shape_keep_their_type() -> None:
    vector = TensorType(Kind.REAL, (size_symbol("n"),))
    assert simplified(lambda x: x - x, type=vector) == "broadcast(0)"
    assert simplified(lambda x: 2 * log(1 + exp(x)) + 0 * x, type=vector) == "mul(2, softplus(x))"
    assert (
        simplified(lambda x: sum_(broadcast(x, shape=(5,)), axes=(-1,)), type=TensorType(Kind.REAL, (1,)))
        == "mul(5, squeeze(x))"
    )
    assert simplified(lambda x: log(sum_(exp(x), axes=(-1,))), type=vector) == "logsumexp(x)"


def test_signs_come_from_the_assumptions_of_symbols() -> None:
    symbols = {"x": sp.Symbol("x", positive=True), "y": sp.Symbol("y", integer=True)}
    assert simplified(lambda x: (x**2) ** HALF, symbols=symbols) == "x"
    assert simplified(lambda x, y: floor(y) + log(x**y), symbols=symbols) == "add(mul(log(x), y), y)"


def test_origin_and_stage_stay_or_are_inherited() -> None:
    builder = Builder()
    x = Value(builder, builder.add(input_, (), {"name": "x", "symbol": None, "type": SCALAR}))
    s = Value(builder, builder.add(sin, (x.id,), origin="sin(x)", stage="derivative"))
    builder.origin, builder.stage = "the log", "derivative"
    y = log(1 + exp(s))
    after, _ = rewrite(builder.build([x.id], {"y": y.id}, {"note": 1}), ALL)
    nodes = {after[v].op: after[v] for v in after.order}
    assert (nodes[sin].origin, nodes[sin].stage) == ("sin(x)", "derivative")
    assert (nodes[softplus].origin, nodes[softplus].stage) == ("the log", "derivative")
    assert nodes[input_].stage == "primal"
    assert after.info == {"note": 1}


def test_unused_inputs_and_outputs_that_fall_together_are_kept() -> None:
    graph = make(lambda x, y: (x + y - y, x, x * x**-1 * x))
    after, _ = rewrite(graph, ALL)
    assert len(after.inputs) == 3
    assert len(set(after.outputs.values())) == 1
    assert list(after.outputs) == ["y0", "y1", "y2"]


def test_collecting_can_be_left_out() -> None:
    after, fired = rewrite(make(lambda x: x - x + 0), [], collect=False)
    assert text(after) == "add(0, mul(-1, x), x)"
    assert set(fired) <= {"flatten", "fold constants"}


@pytest.mark.parametrize(
    ("base", "exponent", "result"),
    [
        (Fraction(4, 9), Fraction(-3, 2), Fraction(27, 8)),
        (Fraction(2), HALF, None),
        (Fraction(-8), Fraction(1, 3), None),
        (Fraction(0), Fraction(-1), None),
        (Fraction(0), Fraction(0), Fraction(1)),
        (Fraction(10), Fraction(10**10), None),
        (Fraction(-1), Fraction(10**30), Fraction(1)),
        (Fraction(10**40), Fraction(1, 40), Fraction(10)),
    ],
)
def test_powers_of_fractions_are_exact_or_left(base: Fraction, exponent: Fraction, result: Fraction | None) -> None:
    assert exact_power(base, exponent) == result


def test_numbers_never_grow_beyond_the_bound() -> None:
    def tower(x: Any) -> Any:
        y = constant(x.builder, 3)
        for _ in range(40):
            y = y * y
        return x * y

    after, _ = rewrite(make(tower), ALL)
    values = [after[v].attributes["value"] for v in after.order if after[v].op is const]
    assert max(v.numerator.bit_length() for v in values) <= MAX_BITS
    assert rewrite(make(lambda x: x * constant(x.builder, 10) ** (10**10)), ALL)[0].counts()["pow"] == 1


@pytest.mark.parametrize(
    ("op", "values", "result"),
    [
        (add, (math.inf, Fraction(1)), math.inf),
        (add, (math.inf, -math.inf), math.nan),
        (add, (-0.0, -0.0), -0.0),
        (add, (-0.0, Fraction(0)), Fraction(0)),
        (mul, (math.inf, Fraction(0)), math.nan),
        (mul, (math.inf, Fraction(-1, 3)), -math.inf),
        (mul, (-0.0, Fraction(-5)), Fraction(0)),
        (mul, (-0.0, Fraction(5)), -0.0),
        (pow_, (math.inf, Fraction(-1)), Fraction(0)),
        (less, (Fraction(1), math.inf), True),
        (equal, (math.nan, math.nan), False),
        (max_, (math.nan, Fraction(1)), math.nan),
        (min_, (-math.inf, Fraction(1)), -math.inf),
        (abs_, (-math.inf,), math.inf),
        (sign, (-0.0,), -0.0),
        (floor, (Fraction(-1, 2),), Fraction(-1)),
        (exp, (Fraction(0),), Fraction(1)),
        (exp, (Fraction(1),), None),
    ],
)
def test_folding_follows_ieee(op: Any, values: tuple[Exact, ...], result: Exact | None) -> None:
    folded = fold(op, values, {})
    assert repr(folded) == repr(result)


def test_a_rule_that_never_ends_runs_out_of_fuel() -> None:
    a = wild("a")
    after, fired = rewrite(make(lambda x: sin(x)), [Rule("grows", sin(a), sin(sin(a)))])
    assert after.validate()
    assert sum(fired.values()) < 10_000


# Random graphs ------------------------------------------------------------------------------------------------

UNARY = [
    sin,
    cos,
    exp,
    tanh,
    abs_,
    log1p,
    cosh,
    sigmoid,
    lambda x: x**2,
    lambda x: 1 / x,
    lambda x: -x,
    lambda x: log(x),
    lambda x: x**HALF,
    lambda x: 1 - x,
    lambda x: x * 3,
    floor,
]
BINARY = [
    lambda x, y: x + y,
    lambda x, y: x * y,
    lambda x, y: x - y,
    lambda x, y: x / y,
    max_,
    min_,
    lambda x, y: select(less(x, y), x, y),
    lambda x, y: select(less(x, 0), y, 0) + select(not_(less(x, 0)), x, 0),
    lambda x, y: cast(less(x, y), kind=Kind.REAL) * x,
]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    builder = Builder()
    values = [Value(builder, builder.add(input_, (), {"name": n, "symbol": None, "type": SCALAR})) for n in "xyz"]
    inputs = [v.id for v in values]
    values += [constant(builder, n, Kind.REAL) for n in (0, 1, -2, HALF)]
    for _ in range(draw(st.integers(3, 14))):
        pick = st.sampled_from(values)
        if draw(st.booleans()):
            values.append(draw(st.sampled_from(UNARY))(draw(pick)))
        else:
            values.append(draw(st.sampled_from(BINARY))(draw(pick), draw(pick)))
    return builder.build(inputs, {"y": values[-1].id, "z": values[-3].id}).validate()


@settings(max_examples=150)
@given(graphs(), st.lists(st.sampled_from([0.3, -0.7, 1.9, -2.3, 0.05]), min_size=3, max_size=3))
def test_random_graphs_agree_are_valid_and_stay(graph: Graph, at: list[float]) -> None:
    after, _ = rewrite(graph, ALL)
    after.validate()
    again, fired = rewrite(after, ALL)
    assert fired == Counter()
    assert text(again) == text(after)
    inputs = dict(zip("xyz", at, strict=True))
    before, result = (judge.evaluate(g, inputs, digits=60) for g in (graph, after))
    for name, value in before.items():
        x, y = value[()], result[name][()]
        if math.isfinite(x) and abs(x) < 1e100:
            assert abs(x - y) <= 1e-25 * max(1, abs(x)), (text(graph), text(after))


# Size -----------------------------------------------------------------------------------------------------------


def _chain(levels: int) -> Graph:
    def build(x: Any, y: Any) -> Any:
        for k in range(levels):
            x = x + y if k % 2 else sin(x)
        return x

    return make(build)


def _sum(terms: int) -> Graph:
    def build(x: Any, y: Any) -> Any:
        total = x
        for k in range(terms // 3):
            total = total + (y + k) * x
        return total

    return make(build)


@pytest.mark.parametrize("kind", [_chain, _sum])
def test_time_grows_linearly_up_to_large_graphs(kind: Callable[[int], Graph]) -> None:
    def least(size: int, rounds: int) -> float:
        graph, seconds = kind(size), []
        for _ in range(rounds):  # the least of several: other processes can only slow it down
            start = time.process_time()
            rewrite(graph, ALL)
            seconds.append(time.process_time() - start)
        return min(seconds)

    gc.collect()
    gc.freeze()  # what earlier tests have left would be gone through by every collection
    try:
        small, large = least(4_000, 3), least(24_000, 2)
    finally:
        gc.unfreeze()
    assert large < 6 * small * 2.5  # quadratic time would be 36 times as long
