"""The normal form of contractions: values against the definition, unit tensors gone, the best order, bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import evaluate
from sym2tf.frontend.lower import lower
from sym2tf.ir.dims import Size, size_symbol
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.arithmetic import add, log, mul
from sym2tf.ops.assembly import eye
from sym2tf.ops.contraction import einsum
from sym2tf.ops.elementary import sin
from sym2tf.ops.indexing import expand, sum_, transpose
from sym2tf.ops.leaves import input_
from sym2tf.ops.linalg import inverse
from sym2tf.ops.logic import less, select
from sym2tf.ops.values import Value, apply
from sym2tf.passes import planning
from sym2tf.passes.contraction import contract
from sym2tf.passes.pipeline import LEVELS, optimize, stabilize
from tests.peak_memory import asks_linux, megabytes_printed_by

LENGTH = {"a": 2, "b": 3, "c": 4, "d": 2, "e": 3}
N, M, D = size_symbol("n"), size_symbol("m"), size_symbol("d")
MOVES = {"input", "const", "size", "cast", "expand", "squeeze"}


class Made:
    """A builder with inputs by name."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.inputs: dict[str, Value] = {}

    def input(self, name: str, *shape: Size) -> Value:
        if name not in self.inputs:
            type = TensorType(Kind.REAL, shape)
            v = self.builder.add(input_, (), {"name": name, "symbol": name, "type": type})
            self.inputs[name] = Value(self.builder, v)
        return self.inputs[name]

    def eye(self, size: Size) -> Value:
        return apply(self.builder, eye, (), {"size": size})

    def graph(self, *outputs: Value) -> Graph:
        return self.builder.build(
            [v.id for v in self.inputs.values()], {f"o{k}": v.id for k, v in enumerate(outputs)}
        ).validate()


def operations(graph: Graph) -> dict[str, int]:
    return {name: count for name, count in graph.counts().items() if name not in MOVES}


def data_for(graph: Graph, lengths: dict[str, int], seed: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    size = lambda d: d if isinstance(d, int) else lengths[str(d)]
    return {graph[v].attributes["name"]: rng.normal(size=[size(d) for d in graph[v].type.shape]) for v in graph.inputs}


def check(before: Graph, after: Graph, lengths: dict[str, int] | None = None) -> None:
    after.validate()
    data = data_for(before, lengths or {"n": 4, "m": 3, "d": 2})
    due, got = evaluate(before, data), evaluate(after, data)
    for name, value in due.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-10, atol=1e-10)


# Random monomials -----------------------------------------------------------------------------------------------------


@st.composite
def monomials(draw: st.DrawFn) -> tuple[Graph, str, list[str]]:
    """A product of tensors and unit tensors with random letters, summed over some: the graph and the equation."""
    made = Made()
    factors: list[tuple[str, Value | None]] = []
    for k in range(draw(st.integers(1, 5))):
        if draw(st.integers(0, 3)) == 0:
            pair = draw(st.sampled_from(["ad", "da", "be", "eb", "aa", "bb"]))
            factors.append((pair, made.eye(LENGTH[pair[0]])))
        else:
            letters = draw(st.text("abcde", max_size=3))
            factors.append((letters, made.input(f"x{k}", *(LENGTH[c] for c in letters))))
    used = "".join(dict.fromkeys("".join(letters for letters, _ in factors)))
    output = "".join(draw(st.permutations([c for c in used if draw(st.booleans())])))
    value = einsum(*(v for _, v in factors), inputs=tuple(letters for letters, _ in factors), output=output)
    if draw(st.booleans()):  # more sums and products around it
        other = made.input("y", *(LENGTH[c] for c in output))
        value = mul(value, other) if draw(st.booleans()) else add(value, other)
        axes = sorted(draw(st.sets(st.integers(-len(output), -1)))) if output else []
        value = sum_(value, axes=tuple(axes)) if axes else value
    return made.graph(value), output, [letters for letters, _ in factors]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(drawn=monomials())
def test_random_monomials_keep_their_values(drawn: tuple[Graph, str, list[str]]) -> None:
    graph, _, _ = drawn
    after, _ = contract(graph)
    check(graph, after)
    check(graph, optimize(graph)[0])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(drawn=monomials())
def test_contracting_again_changes_nothing(drawn: tuple[Graph, str, list[str]]) -> None:
    after, _ = contract(drawn[0])
    again, fired = contract(after)
    assert again is after
    assert not fired


@settings(max_examples=150, deadline=None, derandomize=True)
@given(drawn=monomials())
def test_unit_tensors_stay_only_where_the_output_holds_both_of_their_letters(drawn) -> None:
    graph, output, letters = drawn
    after, _ = contract(graph)
    merged = {c: c for c in LENGTH}
    merged |= {"d": "a", "e": "b"} if any(set(p) in ({"a", "d"}, {"b", "e"}) for p in letters) else {}
    counts = after.counts()
    if len({merged[c] for c in output}) == len(output):
        assert "eye" not in counts
        assert "diag" not in counts


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(drawn=monomials())
def test_every_level_keeps_the_values(level: str, drawn: tuple[Graph, str, list[str]]) -> None:
    check(drawn[0], optimize(drawn[0], level=level)[0])


# Unit tensors ---------------------------------------------------------------------------------------------------------


def test_unit_tensor_that_is_summed_alone_is_the_length() -> None:
    made = Made()
    x = made.input("x", N)
    total = mul(sum_(made.eye(N), axes=(-2, -1)), sum_(x, axes=(-1,)))
    graph = made.graph(total)
    after, _ = contract(graph)
    assert operations(after) == {"sum": 1, "mul": 1}
    check(graph, after)


def test_unit_tensor_times_a_matrix_renames() -> None:
    made = Made()
    a = made.input("A", N, M)
    graph = made.graph(einsum(made.eye(N), a, made.eye(M), inputs=("ij", "jk", "kl"), output="il"))
    after, _ = contract(graph)
    assert operations(after) == {}


def test_unit_tensor_in_the_output_is_a_diagonal_matrix() -> None:
    made = Made()
    x, y = made.input("x", N), made.input("y", N)
    product = einsum(made.eye(N), x, inputs=("ij", "j"), output="ij")
    graph = made.graph(product, mul(product, expand(y, axis=-1)))
    after, _ = contract(graph)
    assert operations(after) == {"diag": 2, "mul": 1}
    check(graph, after)


def test_terms_with_the_same_unit_tensor_are_one_term() -> None:
    made = Made()
    x, y = made.input("x", N), made.input("y", N)
    unit = made.eye(N)
    graph = made.graph(add(mul(unit, expand(x, axis=-1)), mul(unit, expand(y, axis=-2))))
    after, _ = contract(graph)
    assert operations(after) == {"add": 1, "diag": 1}
    check(graph, after)


def test_sum_over_terms_is_taken_apart_where_a_unit_tensor_vanishes() -> None:
    made = Made()
    a, s, v = made.input("A", N, N), made.input("s", N), made.input("v", N)
    matrix = add(a, mul(made.eye(N), expand(s, axis=-1)))
    graph = made.graph(einsum(matrix, v, inputs=("ij", "j"), output="i"))
    after, _ = contract(graph)
    assert operations(after) == {"einsum": 1, "mul": 1, "add": 1}
    check(graph, after)


def test_no_other_sum_is_taken_apart() -> None:
    made = Made()
    a, b, v = made.input("A", N, N), made.input("B", N, N), made.input("v", N)
    graph = made.graph(einsum(add(a, b), v, inputs=("ij", "j"), output="i"))
    assert operations(contract(graph)[0]) == {"add": 1, "einsum": 1}


def test_selection_leaves_the_unit_tensor_outside() -> None:
    made = Made()
    x, y = made.input("x", N), made.input("y", N)
    masked = select(expand(less(x, 0 * x), axis=-2), mul(made.eye(N), expand(y, axis=-1)), 0)
    graph = made.graph(einsum(masked, x, inputs=("ij", "j"), output="i"))
    after, _ = contract(graph)
    assert "eye" not in after.counts()
    assert max(after[v].type.rank for v in after.order) == 1
    check(graph, after)


def test_infinity_on_a_diagonal_leaves_zeros_beside_it() -> None:
    made = Made()
    x = made.input("x", N)
    graph = made.graph(mul(made.eye(N), expand(x, axis=-1)))
    got = evaluate(contract(graph)[0], {"x": np.array([np.inf, 2.0])})["o0"]
    np.testing.assert_array_equal(got, [[np.inf, 0], [0, 2]])


def test_unit_tensor_with_several_users_is_not_made() -> None:
    made = Made()
    a, x = made.input("A", N, M), made.input("x", N)
    seed = mul(made.eye(N), expand(sin(x), axis=-2))
    first = einsum(seed, a, inputs=("ki", "ij"), output="kj")
    second = einsum(seed, x, inputs=("ki", "i"), output="k")
    graph = made.graph(first, second)
    after, _ = contract(graph)
    assert not {"eye", "diag", "einsum"} & set(after.counts())
    check(graph, after)


def test_outer_product_with_several_users_is_not_made_where_it_is_summed() -> None:
    made = Made()
    x, y, z = made.input("x", N), made.input("y", M), made.input("z", M)
    outer = mul(expand(x, axis=-1), expand(y, axis=-2))
    graph = made.graph(sum_(outer, axes=(-2,)), einsum(outer, z, inputs=("ij", "j"), output="i"))
    after, _ = contract(graph)
    assert max(after[v].type.rank for v in after.order) == 1
    check(graph, after)


# Order ----------------------------------------------------------------------------------------------------------------


def matrices(made: Made, names: str) -> list[Value]:
    return [made.input(name, N, N) for name in names]


def test_chain_times_a_vector_goes_from_right_to_left() -> None:
    made = Made()
    a, b, c = matrices(made, "ABC")
    v = made.input("v", N)
    graph = made.graph(einsum(a, b, c, v, inputs=("ij", "jk", "kl", "l"), output="i"))
    after, _ = contract(graph)
    made_by_einsum = [after[v].type.rank for v in after.order if after[v].op is einsum]
    assert made_by_einsum == [1, 1, 1]
    check(graph, after)


def test_nested_products_are_one_chain() -> None:
    made = Made()
    a, b = matrices(made, "AB")
    v = made.input("v", N)
    inner = einsum(a, b, inputs=("ij", "jk"), output="ik")
    graph = made.graph(einsum(transpose(inner, axes=(-1, -2)), v, inputs=("ki", "k"), output="i"))
    after, _ = contract(graph)
    assert operations(after) == {"einsum": 2}
    assert max(after[v].type.rank for v in after.order if after[v].op is einsum) == 1
    check(graph, after)


def test_known_lengths_decide_the_order() -> None:
    made = Made()
    a, b, c = made.input("A", 2, 50), made.input("B", 50, 50), made.input("C", 50, 3)
    after, _ = contract(made.graph(einsum(a, b, c, inputs=("ij", "jk", "kl"), output="il")))
    assert [after[v].type.shape for v in after.order if after[v].op is einsum] == [(2, 50), (2, 3)]


def test_hints_decide_the_order_where_lengths_are_symbols() -> None:
    made = Made()
    a, b, c = made.input("A", N, M), made.input("B", M, M), made.input("C", M, D)
    graph = made.graph(einsum(a, b, c, inputs=("ij", "jk", "kl"), output="il"))
    shapes = lambda graph: [tuple(map(str, graph[v].type.shape)) for v in graph.order if graph[v].op is einsum]
    assert shapes(contract(graph, sizes={"n": 2, "m": 50, "d": 3})[0])[0] == ("n", "m")
    assert shapes(contract(graph, sizes={"n": 3, "m": 50, "d": 2})[0])[0] == ("m", "d")


def test_trace_of_a_product_forms_no_product() -> None:
    made = Made()
    a, b = matrices(made, "AB")
    product = einsum(a, b, inputs=("ij", "jk"), output="ik")
    graph = made.graph(einsum(product, inputs=("aa",), output=""))
    after, _ = contract(graph)
    assert operations(after) == {"transpose": 1, "mul": 1, "sum": 1}
    check(graph, after)


def test_factor_outside_a_sum_goes_where_it_is_small() -> None:
    made = Made()
    u, v, s = made.input("U", 5, 2), made.input("V", 7, 2), made.input("s", 5)
    product = einsum(u, v, s, inputs=("ik", "jk", "i"), output="ij")
    after, _ = contract(made.graph(product))
    assert [after[v].type.shape for v in after.order if after[v].op is mul] == [(5, 2)]
    tall = Made()
    a, x, s = tall.input("A", 5, 9), tall.input("x", 9), tall.input("s", 5)
    after, _ = contract(tall.graph(einsum(a, x, s, inputs=("ij", "j", "i"), output="i")))
    assert [after[v].type.shape for v in after.order if after[v].op is mul] == [(5,)]


def test_two_equal_halves_are_computed_once() -> None:
    made = Made()
    x, s = made.input("X", N, D), made.input("s", N, M)
    graph = made.graph(einsum(x, s, x, s, inputs=("ia", "ib", "ic", "id"), output="badc"[::-1]))
    after, fired = contract(graph)
    assert fired["equal halves"] == 1
    assert operations(after)["mul"] == 1
    check(graph, after)


def test_planning_gives_the_same_order_every_time() -> None:
    inputs = [frozenset(pair) for pair in ((1, 2), (2, 3), (3, 4), (4, 1))]
    lengths = dict.fromkeys(range(1, 5), 8)
    assert len({str(planning.order_of(inputs, (), lengths)) for _ in range(5)}) == 1


def test_long_monomials_are_contracted_too() -> None:
    made = Made()
    chain = [made.input(f"A{k}", 2, 2) for k in range(70)]
    value = chain[0]
    for a in chain[1:]:
        value = einsum(value, a, inputs=("ij", "jk"), output="ik")
    graph = made.graph(value)
    after, _ = contract(graph)
    data = {name: np.random.default_rng(1).normal(size=(2, 2)) for name in made.inputs}
    np.testing.assert_allclose(evaluate(after, data)["o0"], evaluate(graph, data)["o0"], rtol=1e-9)


# Inverses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "output", "shape", "adjoint"),
    [
        (("ij", "j"), "i", ("n",), False),
        (("ij", "i"), "j", ("n",), True),
        (("ij", "jk"), "ik", ("n", "m"), False),
        (("ij", "kj"), "ki", ("m", "n"), False),
        (("ij", "ik"), "kj", ("n", "m"), True),
        (("ij", "ji"), "", ("n", "n"), False),
        (("ij", "jkl"), "lik", ("n", "m", "m"), False),
    ],
)
def test_inverse_times_a_factor_is_a_system(inputs, output, shape, adjoint) -> None:
    made = Made()
    a = made.input("A", N, N)
    b = made.input("b", *map(size_symbol, shape))
    graph = made.graph(einsum(inverse(a), b, inputs=inputs, output=output))
    after, fired = contract(graph)
    assert "inverse" not in after.counts()
    (v,) = (v for v in after.order if after[v].op.name == "solve")
    assert after[v].attributes["adjoint"] is adjoint
    assert fired["inverse times a factor is a system"] == 1
    check(graph, after)


def test_inverses_in_a_chain_are_solved_from_the_vector_on() -> None:
    made = Made()
    a, b = matrices(made, "AB")
    v = made.input("v", N)
    graph = made.graph(einsum(inverse(a), inverse(b), v, inputs=("ij", "jk", "k"), output="i"))
    after, _ = contract(graph)
    assert operations(after) == {"solve": 2}
    assert all(after[v].type.shape[-1] in (1, N) for v in after.order)
    check(graph, after)


def test_inverse_of_each_matrix_of_a_stack_is_solved() -> None:
    made = Made()
    a, b = made.input("A", M, N, N), made.input("b", M, N)
    graph = made.graph(einsum(inverse(a), b, inputs=("kij", "kj"), output="ki"))
    after, _ = contract(graph)
    assert operations(after) == {"solve": 1}
    check(graph, after)


def test_inverse_that_is_wanted_is_formed() -> None:
    made = Made()
    a = made.input("A", N, N)
    graph = made.graph(mul(inverse(a), a))
    assert contract(graph)[0].counts()["inverse"] == 1


# Derivatives ----------------------------------------------------------------------------------------------------------

i, j, k = sp.symbols("i j k", integer=True)
n, m, d, r = sp.symbols("n m d r", integer=True, positive=True)
X, Y, A, U, V, T, w, v_ = map(sp.IndexedBase, ("X", "Y", "A", "U", "V", "T", "w", "v"))
XW = sp.Sum(X[i, j] * w[j], (j, 0, d - 1))
LEAST_SQUARES = sp.Sum((XW - Y[i]) ** 2, (i, 0, n - 1))
LOGISTIC = sp.Sum(sp.log(1 + sp.exp(-Y[i] * XW)), (i, 0, n - 1))
FACTORS = sp.Sum((T[i, j] - sp.Sum(U[i, k] * V[j, k], (k, 0, r - 1))) ** 2, (i, 0, n - 1), (j, 0, m - 1))
QUADRATIC = sp.Sum(w[i] * A[i, j] * w[j], (i, 0, n - 1), (j, 0, n - 1))
NETWORK = sp.Sum(
    (Y[i] - sp.Sum(v_[k] * sp.tanh(sp.Sum(U[k, j] * X[i, j], (j, 0, d - 1))), (k, 0, r - 1))) ** 2, (i, 0, n - 1)
)
LOSSES = {
    "least squares": (LEAST_SQUARES, "w"),
    "logistic": (LOGISTIC, "w"),
    "factorisation": (FACTORS, "U"),
    "network": (NETWORK, "U"),
}
SIZES = {"n": 5, "m": 4, "d": 3, "r": 2, "n_i": 5}


def second(expr: sp.Expr, *names: str) -> tuple[Graph, Graph]:
    """The Hessian as differentiation gives it, and optimised."""
    graph = stabilize(lower(expr))
    inputs = {graph[v].attributes["name"]: v for v in graph.inputs}
    before = derivatives.hessian(graph, [inputs[name] for name in names])
    return before, optimize(before)[0]


def test_hessian_of_a_quadratic_form_is_a_sum_without_a_product() -> None:
    before, after = second(QUADRATIC, "w")
    assert operations(after) == {"transpose": 1, "add": 1}
    check(before, after, SIZES)


@pytest.mark.parametrize("name", LOSSES)
def test_hessians_keep_their_values_and_hold_no_unit_tensor_that_can_vanish(name: str) -> None:
    before, after = second(*LOSSES[name])
    check(before, after, SIZES)
    counts = after.counts()
    assert before.counts()["eye"] >= 1
    assert counts.get("eye", 0) + counts.get("diag", 0) == {"factorisation": 1, "network": 1}.get(name, 0)


def test_hessian_of_the_logistic_loss_is_one_weighted_product() -> None:
    _, after = second(LOGISTIC, "w")
    (last,) = after.outputs.values()
    assert after[last].op is einsum
    assert sum(1 for v in after.order if after[v].op is einsum) == 2
    assert max(after[v].type.rank for v in after.order) == 2


def test_hessian_of_a_factorisation_needs_no_more_than_the_small_factor() -> None:
    _, after = second(FACTORS, "U")
    big = [v for v in after.order if after[v].type.rank > 2 and after[v].op is not expand]
    assert big == list(after.outputs.values())


def test_blocks_of_a_hessian_of_several_inputs_fit_each_other() -> None:
    before, after = second(NETWORK, "U", "v")
    check(before, after, SIZES)
    data = data_for(after, SIZES)
    got = evaluate(after, data)
    np.testing.assert_allclose(got["out/0/1"], np.moveaxis(got["out/1/0"], 0, -1), rtol=1e-12)
    slope = derivatives.gradient(stabilize(lower(NETWORK)), [1])
    name = slope[slope.inputs[1]].attributes["name"]
    assert name in "UvXY"


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_has_at_most_four_times_the_nodes_of_the_loss(name: str) -> None:
    expr, wrt = LOSSES[name]
    graph = stabilize(lower(expr))
    inputs = {graph[v].attributes["name"]: v for v in graph.inputs}
    gradient = optimize(derivatives.gradient(graph, [inputs[wrt]]))[0]
    assert len(gradient) <= 4 * len(optimize(graph)[0])
    check(derivatives.gradient(graph, [inputs[wrt]]), gradient, SIZES)


def test_jacobian_of_an_elementwise_function_is_a_diagonal() -> None:
    graph = lower(sp.sin(w[i]) * v_[i], args=(w, v_))
    jacobian = derivatives.jacobian(graph, [graph.inputs[0]])
    after, _ = optimize(jacobian)
    assert after.counts()["diag"] == 1
    assert "eye" not in after.counts()
    check(jacobian, after, {"n_i": 4})


def test_jacobian_of_a_product_is_the_matrix() -> None:
    graph = lower(sp.Sum(A[i, j] * w[j], (j, 0, n - 1)))
    inputs = {graph[v].attributes["name"]: v for v in graph.inputs}
    after, _ = optimize(derivatives.jacobian(graph, [inputs["w"]]))
    assert operations(after) == {}


def test_mode_starts_from_fewer_elements() -> None:
    """Five outputs of a long input: from the outputs; a long output of one number: from the input."""
    many = lower([w[0] * w[1] + w[2] ** 2, w[1] + w[2]], args=[w])
    by_outputs = derivatives.jacobian(many, many.inputs)
    assert "eye" in by_outputs.counts() or len(by_outputs.outputs) == 2
    one = lower(sp.sin(v_[i] * sp.Symbol("t")))
    t = next(v for v in one.inputs if one[v].attributes["name"] == "t")
    assert "eye" not in derivatives.jacobian(one, [t]).counts()


def test_jacobian_of_a_tensor_of_scalars_has_no_basis_axis() -> None:
    from_scalars = Made()
    x = from_scalars.input("x", N)
    total, squares = sum_(sin(x), axes=(-1,)), sum_(mul(x, x), axes=(-1,))
    from sym2tf.ops.assembly import stack

    graph = from_scalars.graph(stack(total, squares, mul(total, squares), axis=-1))
    jacobian = derivatives.jacobian(graph, graph.inputs)
    assert "eye" not in jacobian.counts()
    point = np.array([0.3, -1.2])
    got = evaluate(optimize(jacobian)[0], {"x": point})["o0/0"]
    s, q = np.sin(point).sum(), (point**2).sum()
    np.testing.assert_allclose(got, [np.cos(point), 2 * point, np.cos(point) * q + 2 * s * point], rtol=1e-13)


# Masks ----------------------------------------------------------------------------------------------------------------


def masked_sum() -> tuple[Graph, Made]:
    """`Sum(select(x > 0, A[i, j]*f(x[i])*y[j], 0), i)`, which has `j` left."""
    made = Made()
    x, y, a = made.input("x", N), made.input("y", M), made.input("A", N, M)
    product = mul(a, expand(log(x), axis=-1), expand(y, axis=-2))
    chosen = select(expand(less(0 * x, x), axis=-1), product, 0)
    return made.graph(sum_(chosen, axes=(-2,))), made


def test_selection_under_a_sum_is_made_factor_by_factor() -> None:
    graph, _ = masked_sum()
    after, fired = contract(graph)
    assert fired["mask inside a sum"] == 1
    assert operations(after)["einsum"] == 1
    data = {"x": np.array([0.5, -1.0, 2.0, 0.0]), "y": np.ones(3), "A": np.arange(12.0).reshape(4, 3)}
    np.testing.assert_allclose(evaluate(after, data)["o0"], evaluate(graph, data)["o0"], rtol=1e-13)


def test_what_a_mask_hides_may_be_nan_in_any_factor() -> None:
    graph, _ = masked_sum()
    a = np.arange(12.0).reshape(4, 3)
    a[1] = np.nan
    data = {"x": np.array([0.5, -1.0, 2.0, 0.0]), "y": np.ones(3), "A": a}
    got = evaluate(contract(graph)[0], data)["o0"]
    assert np.all(np.isfinite(got))
    np.testing.assert_allclose(got, evaluate(graph, data)["o0"], rtol=1e-13)


def test_mask_over_letters_that_stay_is_applied_at_the_end() -> None:
    made = Made()
    x, a, y = made.input("x", N), made.input("A", N, M), made.input("y", M)
    chosen = select(expand(less(0 * x, x), axis=-1), mul(a, expand(y, axis=-2)), 0)
    graph = made.graph(sum_(chosen, axes=(-1,)))
    after, _ = contract(graph)
    (v,) = (v for v in after.order if after[v].op is select)
    assert after[v].type.shape == (N,)
    check(graph, after)


HINGE = sp.Sum(sp.Max(0, 1 - Y[i] * XW) ** 2, (i, 0, n - 1))
RELU = sp.Sum(
    (Y[i] - sp.Sum(v_[k] * sp.Max(0, sp.Sum(U[k, j] * X[i, j], (j, 0, d - 1))), (k, 0, r - 1))) ** 2, (i, 0, n - 1)
)
HUBER = sp.Sum(
    sp.Piecewise(((Y[i] - XW) ** 2 / 2, sp.Abs(Y[i] - XW) < 1), (sp.Abs(Y[i] - XW) - sp.Rational(1, 2), True)),
    (i, 0, n - 1),
)


@pytest.mark.parametrize(("expr", "wrt", "rank"), [(HINGE, "w", 2), (HUBER, "w", 2), (RELU, "U", 4)])
def test_hessians_of_losses_with_branches_hold_no_unit_tensor_and_no_tensor_of_products(expr, wrt, rank) -> None:
    before, after = second(expr, wrt)
    check(before, after, SIZES)
    assert not {"eye", "diag"} & set(after.counts())
    assert max(after[v].type.rank for v in after.order) == rank


# Transposition --------------------------------------------------------------------------------------------------------


def test_function_of_a_product_and_of_its_transpose_are_computed_once() -> None:
    """`(X*W).applyfunc(sin)` and `(W.T*X.T).applyfunc(sin)`, as SymPy writes the transpose."""
    made = Made()
    x, w, y = made.input("X", N, D), made.input("W", D, M), made.input("y", N)
    straight = sin(einsum(x, w, inputs=("ij", "jk"), output="ik"))
    turned = sin(einsum(w, x, inputs=("jk", "ij"), output="ki"))
    graph = made.graph(
        einsum(straight, y, inputs=("ik", "i"), output="k"), einsum(turned, y * y, inputs=("ki", "i"), output="k")
    )
    after, _ = contract(graph)
    assert operations(after) == {"einsum": 3, "sin": 1, "mul": 1}
    check(graph, after)


def test_column_vector_is_a_vector_where_it_meets_one() -> None:
    made = Made()
    x, w, y = made.input("X", N, D), made.input("w", D, 1), made.input("y", N, 1)
    difference = add(einsum(x, w, inputs=("ij", "jk"), output="ik"), -1 * y)
    graph = made.graph(einsum(difference, difference, inputs=("ik", "il"), output="kl"))
    after, _ = contract(graph)
    assert max(after[v].type.rank for v in after.order if after[v].op is add) == 1
    check(graph, after)


P, Q, y_ = sp.MatrixSymbol("P", n, d), sp.MatrixSymbol("Q", d, r), sp.MatrixSymbol("y", n, 1)
q_ = sp.MatrixSymbol("q", r, 1)
RESIDUAL = (P * Q).applyfunc(sp.tanh) * q_ - y_
LOWERED = {
    "matrix network": (RESIDUAL.T * RESIDUAL, ("Q", "q")),
    "matrix factorisation": (sp.Trace((P.T * P - Q * Q.T) * (P.T * P - Q * Q.T).T), ("Q",)),
}


@pytest.mark.parametrize("name", LOWERED)
def test_gradients_of_matrix_expressions_compute_nothing_twice(name: str) -> None:
    expr, wrt = LOWERED[name]
    graph = stabilize(lower(expr))
    inputs = {graph[v].attributes["name"]: v for v in graph.inputs}
    before = derivatives.gradient(graph, [inputs[w] for w in wrt])
    after, _ = optimize(before)
    assert len(after) <= 4 * len(optimize(graph)[0])
    assert after.counts().get("tanh", 0) <= 1
    assert after.counts()["einsum"] <= 4
    check(before, after, SIZES)


# Memory ---------------------------------------------------------------------------------------------------------------

MEASURED = """
import numpy as np, sympy as sp
from sym2tf.frontend.lower import lower
from sym2tf.autodiff import derivatives
from sym2tf.passes.pipeline import optimize, stabilize
from sym2tf.backends import numpy as reference

i, j, k = sp.symbols("i j k", integer=True)
n, m, r = sp.symbols("n m r", integer=True, positive=True)
X, Y, U, V = map(sp.IndexedBase, "XYUV")
inner = sp.Sum(U[i, k] * V[j, k] * X[i] * Y[j], (i, 0, n - 1), (j, 0, m - 1), (k, 0, r - 1))
ramp = sp.Sum(sp.Max(0, X[i]) * U[i, k] * V[j, k] * Y[j], (i, 0, n - 1), (j, 0, m - 1), (k, 0, r - 1))
graph = stabilize(lower({"inner": inner, "ramp": ramp}, args=(X, Y, U, V)))
gradient = optimize(derivatives.gradient(graph, graph.inputs))[0]
NAMES = [f"{name}/{k}" for name in ("inner", "ramp") for k in range(4)]
N, R = 20_000, 25  # all of i, j, k at once: 10^10 products, 80 GB
rng = np.random.default_rng(0)
data = dict(X=rng.normal(size=N), Y=rng.normal(size=N), U=rng.normal(size=(N, R)), V=rng.normal(size=(N, R)))
"""
WITH_NUMPY = """
small = {name: a[:50] for name, a in data.items()}
reference.evaluate(gradient, small)
before = peak()
got = dict(zip(NAMES, reference.evaluate(gradient, data).values(), strict=True))
"""
WITH_TENSORFLOW = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
from sym2tf.compiled import compile
function = compile([inner, ramp], args=(X, Y, U, V)).gradient()
function(**{name: a[:50] for name, a in data.items()})
before = peak()
answer = function(**data)
got = dict(zip(NAMES, [x.numpy() for part in answer for x in part], strict=True))
"""
JUDGED = """
grown = peak() - before
u, v = data["U"].T @ data["X"], data["V"].T @ data["Y"]
np.testing.assert_allclose(got["inner/0"], data["U"] @ v, rtol=1e-9)
np.testing.assert_allclose(got["inner/3"], np.outer(data["Y"], u), rtol=1e-9, atol=1e-9)
np.testing.assert_allclose(got["ramp/0"], np.where(data["X"] > 0, data["U"] @ v, 0), rtol=1e-9, atol=1e-9)
print(grown)
"""


@asks_linux
@pytest.mark.parametrize("backend", [WITH_NUMPY, WITH_TENSORFLOW], ids=["numpy", "tensorflow"])
def test_contraction_of_80_gigabytes_of_products_takes_memory_for_its_operands_alone(backend: str) -> None:
    """Value and all gradients of sums over three indices; the operands and answers are 16 MB."""
    assert megabytes_printed_by(MEASURED + backend + JUDGED) < 250
