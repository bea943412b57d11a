"""What each structural pass makes of named cases, and what the report says of it."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import numpy as np
import pytest
import sympy as sp

import sym2tf
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import ArgumentError
from sym2tf.frontend.lower import lower
from sym2tf.ir.dims import size_symbol
from sym2tf.ir.graph import Builder, Graph, Node
from sym2tf.ir.types import REAL, Kind, TensorType
from sym2tf.ops.arithmetic import add, log, mul
from sym2tf.ops.indexing import expand, sum_
from sym2tf.ops.leaves import input_
from sym2tf.ops.logic import less, select
from sym2tf.ops.values import Value
from sym2tf.passes.contraction import contract
from sym2tf.passes.counting import operation_count, use_counts
from sym2tf.passes.machine import choose_machine_operations
from sym2tf.passes.pipeline import PassRecord, Report, optimize, prune
from sym2tf.passes.sharing import WINDOW, share

a, b, c, d, w, x, y, z = sp.symbols("a b c d w x y z")
i, j, k = sp.symbols("i j k", integer=True)
n, m = sp.symbols("n m", integer=True, positive=True)
X, Y, A, B = map(sp.IndexedBase, "XYAB")
OVER_I, OVER_J, OVER_K = (i, 0, n - 1), (j, 0, m - 1), (k, 0, n - 1)
LENGTH = 4


def same(g: Graph, h: Graph) -> bool:
    """Whether two graphs compute their outputs by the same operations."""
    builder = Builder()
    one, two = builder.include(g), builder.include(h)
    return [one[v] for v in g.outputs.values()] == [two[v] for v in h.outputs.values()]


def data_for(graph: Graph, low: float = 0.5, high: float = 2.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {graph[v].attributes["name"]: rng.uniform(low, high, [LENGTH] * graph[v].type.rank) for v in graph.inputs}


def agree(before: Graph, after: Graph, **options: float) -> None:
    """Assert that both graphs are valid and give the same numbers."""
    before.validate()
    after.validate()
    data = data_for(before)
    expected, got = evaluate(before, data), evaluate(after, data)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=options.get("rtol", 1e-12))


def optimized(expr: object, level: str = "stable") -> dict[str, int]:
    """The operations of the optimised graph of `expr`, which has been checked against the one before."""
    before = lower(expr)
    after, _ = optimize(before, level=level)
    agree(before, after)
    again, _ = optimize(after, level=level)
    assert same(after, again), "optimising again changed something"
    leaves = {"input", "const", "size", "cast", "expand"}
    return {name: count for name, count in after.counts().items() if name not in leaves}


# Pruning and the report ---------------------------------------------------------------------------------


def course_example() -> Graph:
    """(x + y)**(x*y), and an x*(x + y) that no output uses, as a graph made by hand."""
    graph = lower((x + y) ** (x * y))
    whole = graph.nx.copy()
    inputs = {graph[v].attributes["name"]: v for v in graph.inputs}
    (total,) = (v for v in graph.order if graph[v].op is add)
    dead = max(graph.order) + 1
    whole.add_node(dead, node=Node(mul, {}, REAL))
    whole.add_edge(inputs["x"], dead, 0)
    whole.add_edge(total, dead, 1)
    return Graph(whole, graph.inputs, graph.outputs, graph.info).validate()


def test_course_example_drops_the_unused_product_and_keeps_the_value() -> None:
    graph = course_example()
    result, report = optimize(graph)
    assert graph.counts()["mul"] == 2
    assert result.counts()["mul"] == 1
    assert evaluate(result, {"x": 2.0, "y": 3.0})["out"] == 15625
    first = report.records[0]
    assert (first.name, first.nodes_before, first.nodes_after) == ("prune", 6, 5)
    assert "dead node 1" in str(report)


def test_prune_leaves_a_graph_without_dead_nodes_as_it_is() -> None:
    graph = lower(x + y)
    assert prune(graph) == (graph, {})


def test_prune_keeps_unused_inputs() -> None:
    graph = lower(x, args=(x, y))
    assert len(optimize(graph)[0].inputs) == 2


def test_passes_leave_their_input_untouched() -> None:
    graph = lower([(x + y) ** 3 / z, x + y + z])
    before = nx.to_dict_of_dicts(graph.nx)
    optimize(graph)
    assert nx.to_dict_of_dicts(graph.nx) == before


def test_report_is_an_aligned_table_with_what_fired() -> None:
    report = optimize(lower(x**2 - y / z))[1]
    lines = str(report).splitlines()
    assert lines[0].split()[:4] == ["pass", "before", "after", "ms"]
    assert lines[-1].startswith("total")
    assert "subtraction 1" in str(report)
    columns = {line.index("  ", len(line.split()[0])) for line in lines if not line.startswith("-")}
    assert columns
    assert report.fired["division"] == 1
    assert report.seconds == pytest.approx(sum(record.seconds for record in report))


def test_report_in_html_escapes_names() -> None:
    html = Report((PassRecord("<b>", 3, 2, 0.1, Counter({"a&b": 1})),))._repr_html_()
    assert "&lt;b&gt;" in html
    assert "a&amp;b 1" in html


def test_empty_report_prints() -> None:
    assert "total" in str(Report())


def test_unknown_level_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'exact', 'real', 'stable'"):
        optimize(lower(x), level="fast")


def test_graph_info_and_output_names_survive() -> None:
    graph = lower({"loss": sp.Sum((Y[i] - w * X[i]) ** 2, OVER_I), "twice": 2 * w})
    result = optimize(graph)[0]
    assert list(result.outputs) == list(graph.outputs)
    assert result.info == graph.info


# Sharing ------------------------------------------------------------------------------------------------


def shared(expr: object) -> Graph:
    before = lower(expr)
    after, _ = share(before)
    agree(before, after)
    assert operation_count(after) <= operation_count(before)
    assert share(after)[0] is after
    return after


@pytest.mark.parametrize(
    ("outputs", "operations"),
    [
        ([x + y, x + y + z], 2),
        ([x + y + z, x + y + w], 3),
        ([x * y * z, x * y * w, x * y], 3),
        ([a + b + c + d + x, a + b + c + d + y, a + b + c + d], 5),
        ([a + b + x, a + b + y, b + c + x, b + c + y], 6),
        ([a + b, c + d, a + c], 3),
        ([sp.Max(a, b, c), sp.Max(a, b, d)], 3),
        ([sp.And(a < 1, b < 1, c < 1), sp.And(a < 1, b < 1, d < 1)], 7),
    ],
)
def test_shared_partial_sums_and_products_are_computed_once(outputs: list[object], operations: int) -> None:
    assert operation_count(shared(outputs)) == operations


def test_sign_is_not_shared_since_subtraction_has_it() -> None:
    graph = lower([z - x * y, w - x * a])
    assert not share(graph)[1]


def test_copies_of_one_operand_are_counted() -> None:
    builder = Builder()
    u, v, t = (Value(builder, builder.add(input_, (), {"name": s, "symbol": s, "type": REAL})) for s in "uvt")
    before = builder.build([u.id, v.id, t.id], {"p": mul(u, u, v).id, "q": mul(u, u, t).id, "r": mul(u, v).id})
    after, fired = share(before)
    agree(before, after)
    assert fired["shared partial product"] == 1
    assert operation_count(after) == 4


def test_long_sums_that_overlap_share_most_of_their_terms() -> None:
    terms = sp.symbols(f"t:{8 * WINDOW}")
    after = shared([sp.Add(*terms[: 6 * WINDOW]), sp.Add(*terms[2 * WINDOW :])])
    assert operation_count(after) == 8 * WINDOW - 1


def test_nested_sum_with_another_user_is_kept_and_one_without_is_merged() -> None:
    builder = Builder()
    u, v, t = (Value(builder, builder.add(input_, (), {"name": s, "symbol": s, "type": REAL})) for s in "uvt")
    inputs = [u.id, v.id, t.id]
    once = builder.build(inputs, {"out": add(add(u, v), t).id})
    assert share(once)[0].counts()["add"] == 1
    twice = builder.build(inputs, {"out": add(add(u, v), t).id, "inner": add(u, v).id})
    assert share(twice)[0] is twice


def test_small_operands_are_not_paired_with_large_ones() -> None:
    before = lower([sp.Sum(sp.sin(X[i] * a * b), OVER_I), sp.Sum(sp.sin(X[i] * a * c), OVER_I)])
    after, _ = share(before)
    agree(before, after)
    large = [v for v in after.order if after[v].op is mul and after[v].type.rank]
    assert len([v for v in large if after[v].type.shape != (1,)]) == 2


def test_exact_sharing_leaves_sums_alone() -> None:
    graph = lower([x + y + z, x + y + w])
    assert share(graph, exact=True)[0] is graph


def test_use_counts_count_operands_and_outputs() -> None:
    graph = lower([x + y, (x + y) ** 2])
    assert all(use_counts(graph)[v] == graph.use_count(v) for v in graph.order)


# Reductions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expr", "operations"),
    [
        (sp.Sum(c * X[i], OVER_I), {"sum": 1, "mul": 1}),
        (sp.Sum(-2 * a * X[i] * Y[i], (i, 0, n - 1)), {"sum": 1, "mul": 2}),
        (sp.Sum(X[i] * Y[j], OVER_I, OVER_J), {"sum": 2, "mul": 1}),
        (sp.Sum(c * A[i, j] * X[j], OVER_J), {"einsum": 1, "mul": 1}),
        (sp.Sum(A[i, j] * X[i], OVER_I), {"einsum": 1}),
        (sp.Sum(A[i, k] * B[k, j], OVER_K), {"einsum": 1}),
        (sp.Sum(A[i, j] * X[i] * Y[j], OVER_I, OVER_J), {"einsum": 1, "mul": 1, "sum": 1}),
        (sp.Sum(A[i, j] * B[i, j], OVER_I, OVER_J), {"mul": 1, "sum": 1}),
        (sp.Sum(X[i] * Y[i], OVER_I), {"mul": 1, "sum": 1}),
        (sp.Sum(sp.Sum(A[i, j], OVER_I), OVER_J), {"sum": 1}),
        (sp.Sum((Y[i] - w * X[i] - b) ** 2, OVER_I), {"mul": 1, "add": 1, "sub": 1, "square": 1, "sum": 1}),
    ],
)
def test_sums_do_the_least_work(expr: object, operations: dict[str, int]) -> None:
    assert optimized(expr) == operations


def test_einsum_takes_transposed_operands_as_they_are() -> None:
    assert optimized(sp.Sum(A[k, i] * B[j, k], OVER_K)) == {"einsum": 1}


def test_sum_over_a_length_of_one_is_no_sum() -> None:
    builder = Builder()
    value = Value(builder, builder.add(input_, (), {"name": "u", "symbol": "u", "type": REAL}))
    total = sum_(expand(value, axis=-1), axes=(-1,))
    after, fired = contract(builder.build([value.id], {"out": total.id}))
    assert after.outputs["out"] == after.inputs[0]
    assert fired["sum over an axis of length 1"] == 1


def test_term_that_may_cancel_stays_in_its_sum() -> None:
    """Sum(x - m) with m the mean of x is rounding error alone; Sum(x) - n*m is larger than the sum itself."""
    expr = sp.Sum(X[i] - a, OVER_I)
    values = 1e15 + np.arange(4.0)
    stable = evaluate(optimize(lower(expr))[0], {"X": values, "a": 1e15 + 1.5})
    assert stable["out"] == 0
    assert optimize(lower(expr), level="real")[0].counts()["sum"] == 1
    agree(lower(expr), optimize(lower(expr), level="real")[0], rtol=1e-10)


def test_factor_outside_a_masked_sum_agrees_where_the_mask_hides_nan() -> None:
    builder = Builder()
    size = TensorType(Kind.REAL, (size_symbol("n"),))
    u = Value(builder, builder.add(input_, (), {"name": "u", "symbol": "u", "type": size}))
    v = Value(builder, builder.add(input_, (), {"name": "v", "symbol": "v", "type": REAL}))
    total = sum_(v * select(less(0, u), log(u), 0), axes=(-1,))
    after, fired = contract(builder.build([u.id, v.id], {"out": total.id}))
    assert fired["constant factor out of a sum"] == 1
    with np.errstate(all="ignore"):
        got = evaluate(after.validate(), {"u": np.array([-1.0, 2.0, 0.0]), "v": 3.0})["out"]
    np.testing.assert_allclose(got, 3 * np.log(2), rtol=1e-15)


def test_branches_of_a_select_are_not_mixed() -> None:
    before = lower(sp.Piecewise((a * x, x > 0), (b * x, True)))
    after, _ = optimize(before)
    point = {"a": 2.0, "b": np.inf, "x": 3.0}
    assert evaluate(after, point)["out"] == evaluate(before, point)["out"] == 6


def test_product_that_others_use_is_summed_as_it_stands() -> None:
    expr = [sp.Sum(c * X[i], OVER_I), sp.Sum(sp.sin(c * X[i]), OVER_I)]
    assert optimized(expr) == {"mul": 1, "sin": 1, "sum": 2}


def test_exact_level_keeps_sums_of_products() -> None:
    assert optimized(sp.Sum(c * X[i], OVER_I), level="exact") == {"mul": 1, "sum": 1}
    graph = lower(sp.Sum(A[i, j] * X[j], OVER_J))
    assert "einsum" not in optimize(graph, level="exact")[0].counts()


def test_batches_pass_through_an_einsum() -> None:
    before = lower(sp.Sum(A[i, j] * X[j], OVER_J))
    after, _ = optimize(before)
    rng = np.random.default_rng(0)
    data = {"A": rng.normal(size=(5, 1, 2, 3)), "X": rng.normal(size=(7, 3))}
    expected = evaluate(before, data)["out"]
    assert expected.shape == (5, 7, 2)
    np.testing.assert_allclose(evaluate(after, data)["out"], expected, rtol=1e-13)


# Machine operations -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expr", "operations"),
    [
        (x**2, {"square": 1}),
        (x**3, {"square": 1, "mul": 1}),
        (x**4, {"square": 2}),
        ([x**2, x**3, x**6], {"square": 2, "mul": 1}),
        ([x**5, x**10], {"square": 3, "mul": 1}),
        (x**-2, {"square": 1, "reciprocal": 1}),
        (sp.sqrt(x), {"sqrt": 1}),
        (1 / sp.sqrt(x), {"sqrt": 1, "reciprocal": 1}),
        (x ** sp.Rational(3, 2), {"sqrt": 1, "mul": 1}),
        (
            [sp.sqrt(x), x ** sp.Rational(-1, 2), x ** sp.Rational(3, 2)],
            {"sqrt": 1, "mul": 1, "reciprocal": 1},
        ),
        (x ** sp.Rational(1, 3), {"pow": 1}),
        (x**y, {"pow": 1}),
        (2**x, {"pow": 1}),
        (x / y, {"div": 1}),
        (x / (y * z), {"mul": 1, "div": 1}),
        (3 / x, {"div": 1}),
        (-1 / x, {"div": 1}),
        (x - y, {"sub": 1}),
        (x - 1 / y, {"sub": 1, "reciprocal": 1}),
        (-x, {"neg": 1}),
        (-x - y, {"neg": 1, "add": 1}),
        (x - y - z + w, {"add": 2, "sub": 1}),
        (x - 2 * y, {"mul": 1, "sub": 1}),
        (x / 3, {"div": 1}),
        (x / 4, {"mul": 1}),
        (2 * x / 3, {"mul": 1}),
        (1 - x, {"sub": 1}),
        (x - 1, {"sub": 1}),
        (-1 - x, {"sub": 1}),
    ],
)
def test_machine_operations_of_scalars(expr: object, operations: dict[str, int]) -> None:
    assert optimized(expr) == operations


@pytest.mark.parametrize("exponent", [*range(2, 65), *range(-12, 0), *(sp.Rational(p, 2) for p in (-7, -3, 5, 63))])
def test_powers_agree_with_pow_everywhere_but_in_the_last_digits(exponent: object) -> None:
    graph = lower(x**exponent)
    after, _ = choose_machine_operations(graph)
    after.validate()
    assert "pow" not in after.counts()
    assert operation_count(after) <= 13
    points = np.array([0.0, np.inf, np.nan, 1.0, 0.3, 1.7, 4.0, -1.5])
    with np.errstate(all="ignore"):
        expected, got = np.power(points, float(exponent)), evaluate(after, {"x": points})["out"]
    # Each product rounds once, and squaring doubles what was wrong before: at most |exponent| half units.
    np.testing.assert_allclose(got, expected, rtol=1.2e-16 * abs(float(exponent)) + 5e-16)


def test_power_beyond_the_limit_stays_a_power() -> None:
    assert optimized(x**65) == {"pow": 1}


def test_roots_at_signed_zero_and_infinity_are_as_the_module_says() -> None:
    points = np.array([-0.0, -np.inf])
    with np.errstate(all="ignore"):
        root = evaluate(choose_machine_operations(lower(sp.sqrt(x)))[0], {"x": points})["out"]
        half = evaluate(choose_machine_operations(lower(x ** sp.Rational(3, 2)))[0], {"x": points})["out"]
    assert np.signbit(root[0])
    assert root[0] == 0
    assert np.isnan(root[1])
    assert half[0] == 0
    assert not np.signbit(half[0])
    assert np.isnan(half[1])


def test_third_is_rounded_once() -> None:
    points = np.arange(1.0, 200.0)
    got = evaluate(optimize(lower(x / 3))[0], {"x": points})["out"]
    np.testing.assert_array_equal(got, points / 3)


def test_constants_meet_before_they_meet_variables() -> None:
    """2/sqrt(pi)*x is one product with one constant, which generation rounds once."""
    graph = optimize(lower(2 * x / sp.sqrt(sp.pi)))[0]
    (v,) = graph.outputs.values()
    assert graph[v].op is mul
    assert len(graph.operands(v)) == 2
    agree(lower(2 * x / sp.sqrt(sp.pi)), graph)


def test_small_operands_meet_before_a_large_one() -> None:
    before = lower(sp.Sum(sp.sin(a * b * X[i] / c), OVER_I))
    after, _ = optimize(before)
    agree(before, after)
    sizes = [after[v].type.rank for v in after.order if after[v].op.name in ("mul", "div")]
    assert sorted(sizes) == [0, 0, 1]


def test_difference_whose_negative_is_needed_elsewhere_computes_the_product_once() -> None:
    before = lower([z - x * y, sp.sin(-x * y)])
    after, _ = choose_machine_operations(before)
    agree(before, after)
    assert operation_count(after) == 4


def test_exact_level_gives_the_same_bits() -> None:
    expr = [x - y, -x, 1 / x, x**2, x / y - z + w, x**3, sp.sqrt(x), a * x - b * y]
    before = lower(expr)
    after, _ = optimize(before, level="exact")
    after.validate()
    special = np.array([0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan, 1e308, 5e-324])
    rng = np.random.default_rng(1)
    data = {graph_input: rng.choice(special, 400) for graph_input in "abwxyz"}
    with np.errstate(all="ignore"):
        expected, got = evaluate(before, data), evaluate(after, data)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)
        numbers = ~np.isnan(value)
        np.testing.assert_array_equal(np.signbit(got[name])[numbers], np.signbit(value)[numbers])


def test_an_einsum_that_is_only_used_transposed_is_made_transposed() -> None:
    n, d, h = sp.symbols("n d h", integer=True, positive=True)
    X, W, V, y = (sp.MatrixSymbol(*s) for s in (("X", n, d), ("W", d, h), ("V", h, 3), ("y", n, 3)))
    loss = sym2tf.nn.cce(y, sym2tf.nn.sigmoid(X * W) * V, from_logits=True)
    gradient = sym2tf.compile(loss).gradient([W, V])
    assert gradient.report.fired["einsum in the order of its use"]
    assert "transpose" not in gradient.graph.counts()
    rng = np.random.default_rng(0)
    data = {k: rng.normal(size=s) for k, s in (("X", (5, 2)), ("W", (2, 4)), ("V", (4, 3)), ("y", (5, 3)))}
    due = evaluate(gradient.lowered, data)
    for name, value in evaluate(gradient.graph, data).items():
        np.testing.assert_allclose(value, due[name], rtol=1e-12)
