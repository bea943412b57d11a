"""Sparse Jacobians and Hessians: no entry is missing, and the values are those of the dense one."""

import copy
import pickle
import time
from itertools import islice

import numpy as np
import pytest
import scipy.sparse
import sympy as sp
import tensorflow as tf

import sym2tf
from sym2tf.autodiff import sparsity
from sym2tf.autodiff.colouring import columns_apart, single_places, stars
from sym2tf.autodiff.derivatives import gradient, jacobian, name_of
from sym2tf.autodiff.incidence import Columns, own, stacked, union
from sym2tf.autodiff.sparse_plan import make_plan
from sym2tf.autodiff.sparsity import dependencies
from sym2tf.autodiff.sweeps import sweeps
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import ArgumentError, DifferentiationError, ResourceLimitError, ShapeError, SizeError
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Builder
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops import (
    arithmetic,
    assembly,
    contraction,
    correlation,
    decompositions,
    elementary,
    gathering,
    indexing,
    linalg,
    logic,
)
from sym2tf.ops.leaves import input_, iota
from sym2tf.ops.values import Value, apply, with_shape
from sym2tf.passes.pipeline import optimize, stabilize
from tests.test_random_indices import differentiable, given

n, m = sp.symbols("n m", integer=True)
i, j, k = sp.symbols("i j k", cls=sp.Idx)
x, y, w, a = (sp.IndexedBase(name) for name in "xywa")
u, v = sp.symbols("u v")
GROUP = sp.IndexedBase("group", integer=True)


def rosenbrock():
    return sp.Sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2, (i, 0, n - 2))


# Without TensorFlow: graph, pattern, entries and the dense derivative on the reference backend ------------------


def sparse_and_dense(graph, data, sizes, *, symmetric=False, wrt=None):
    """Each block's dense derivative, and the matrix put together from pattern and entries; and the plan."""
    wrt = list(graph.inputs) if wrt is None else wrt
    wrt = [v for v in wrt if graph[v].type.kind >= Kind.REAL]
    best, _ = optimize(graph)
    places = [best.inputs[graph.inputs.index(v)] for v in wrt]
    subscripts = {k: np.asarray(d) for k, d in data.items() if np.asarray(d).dtype.kind == "i"}
    plan = make_plan(best, places, sizes, subscripts, symmetric=symmetric)
    made = sweeps(graph, wrt, plan.mode, single=plan.single, picked=plan.picked)
    extra = {made.palette: np.arange(plan.count), made.colours: plan.colours} if made.palette else {}
    if made.places:
        extra[made.places] = plan.places
    (entries,) = evaluate(made.graph.validate(), {**data, **extra}, sizes).values()
    dense = evaluate(jacobian(graph, wrt), data, sizes)
    pairs = {}
    for name in graph.outputs:
        for number in range(len(wrt)):
            block = name_of(name, number)
            rows, columns, shape = plan.patterns[block]
            matrix = np.zeros((*entries.shape[:-1], *shape))
            matrix[..., rows, columns] = entries[..., plan.slices[block]]
            pairs[block] = dense[block].reshape(matrix.shape), matrix
    return pairs, plan


def assert_equal(pairs):
    for name, (dense, sparse) in pairs.items():
        scale = max(1.0, float(np.abs(dense).max(initial=0)))
        np.testing.assert_allclose(sparse, dense, rtol=1e-9, atol=1e-12 * scale, err_msg=name)


def points(graph, seed, **sizes):
    """Random values for every real input, at numbers for the sizes."""
    rng = np.random.default_rng(seed)
    data = {}
    for v in graph.inputs:
        shape = tuple(sparsity.evaluate_size(d, sizes) for d in graph[v].type.shape)
        data[graph[v].attributes["name"]] = rng.uniform(0.3, 1.5, shape)
    return data


EXPRESSIONS = {
    "diagonal map": (sp.sin(x[i]) * sp.exp(x[i]), 1),
    "scaled diagonal": (w[i] * x[i] ** 2, 1),
    "second difference": ((x[i + 2] - 2 * x[i + 1] + x[i]) ** 2, 3),
    "upwind flux": (x[i + 1] * (x[i + 1] - x[i]), 2),
    "matrix times vector": (sp.Sum(a[i, j] * x[j], (j, 0, n - 1)), None),
    "outer product": (x[i] * y[j], None),
    "mean removed": (x[i] - sp.Sum(x[j], (j, 0, n - 1)) / n, None),
    "row sums of squares": (sp.Sum(a[i, j] ** 2, (j, 0, n - 1)), None),
    "softmax": (sp.exp(x[i]) / sp.Sum(sp.exp(x[j]), (j, 0, n - 1)), None),
    "branches": (sp.Piecewise((x[i] ** 2, x[i] > y[i]), (y[i] * x[i], True)), 1),
    "scalar": (sp.Sum(x[i] ** 2, (i, 0, n - 1)), None),
    "independent": (y[i] ** 2 + 0 * x[i], None),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_sparse_jacobian_is_the_dense_one(name):
    expr, due = EXPRESSIONS[name]
    graph = stabilize(lower(expr, args=[x, y, w, a] if name == "independent" else None))
    sizes = dict.fromkeys(graph.size_names(), 6)
    data = points(graph, 1, **sizes)
    of_x = [v for v in graph.inputs if graph[v].attributes["name"] == "x"]
    pairs, plan = sparse_and_dense(graph, data, sizes, wrt=of_x or None)
    assert_equal(pairs)
    if due is not None:
        assert plan.count == due


COSTS = {
    "Rosenbrock chain": (rosenbrock(), 3),
    "separable": (sp.Sum(sp.cosh(x[i]) * w[i], (i, 0, n - 1)), 1),
    "two blocks": (sp.Sum((x[i] * y[i]) ** 2 + x[i] ** 4, (i, 0, n - 1)), 2),
    "arrow": (sp.Sum((x[i] - u) ** 4, (i, 0, n - 1)), 2),
    "next but one": (sp.Sum(x[i] * x[i + 2] ** 2, (i, 0, n - 3)), 3),
    "least squares": (sp.Sum((sp.Sum(a[i, j] * x[j], (j, 0, m - 1)) - y[i]) ** 2, (i, 0, n - 1)), None),
    "blocks of a matrix": (sp.Sum(sp.exp(sp.Sum(a[i, j], (j, 0, m - 1))), (i, 0, n - 1)), 3),
    "linear": (sp.Sum(x[i] * w[i], (i, 0, n - 1)), None),
    "everything": (sp.exp(sp.Sum(x[i], (i, 0, n - 1))), None),
}


@pytest.mark.parametrize("name", COSTS)
def test_a_sparse_hessian_is_the_dense_one(name):
    expr, due = COSTS[name]
    graph = stabilize(lower(expr))
    sizes = {"n": 7, "m": 3}
    sizes = {size: sizes[size] for size in graph.size_names()}
    data = points(graph, 2, **sizes)
    fixed = () if name in ("two blocks", "linear", "arrow") else ("w", "y", *("a" * (name == "least squares")))
    variables = [v for v in graph.inputs if graph[v].attributes["name"] not in fixed]
    first = gradient(graph, variables)
    wrt = [first.inputs[graph.inputs.index(v)] for v in variables]
    pairs, plan = sparse_and_dense(first, data, sizes, symmetric=True, wrt=wrt)
    assert_equal(pairs)
    if due is not None:
        assert (plan.mode, plan.count) == ("columns", due)


def test_the_chain_has_a_tridiagonal_hessian():
    graph = gradient(stabilize(lower(rosenbrock())), [stabilize(lower(rosenbrock())).inputs[0]])
    best, _ = optimize(graph)
    found = dependencies(best, list(best.inputs), {"n": 9}, {})
    rows, columns = next(iter(found.values())).pairs()
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
        (r, c) for r in range(9) for c in range(9) if abs(r - c) <= 1
    }


def test_scalars_have_blocks_of_one_element_and_zero_blocks_are_empty():
    graph = stabilize(lower([u * v, sp.sin(u), v**2, sp.Integer(3)], args=[u, v]))
    pairs, plan = sparse_and_dense(graph, {"u": 0.5, "v": 2.0}, {})
    assert_equal(pairs)
    lengths = [len(pattern.rows) for pattern in plan.patterns.values()]
    assert lengths == [1, 1, 1, 0, 0, 1, 0, 0]


def test_batch_axes_stay_in_front():
    graph = stabilize(lower(x[i + 1] * x[i]))
    data = {"x": np.random.default_rng(0).normal(size=(3, 2, 5))}
    pairs, _ = sparse_and_dense(graph, data, dict.fromkeys(graph.size_names(), 4))
    assert_equal(pairs)


# 750 seeds were run like this once
@pytest.mark.parametrize("order", [1, 2])
def test_random_index_expressions_have_the_derivatives_of_the_dense_ones(order):
    drawn = (made for made in differentiable(30_000) if order == 1 or not made[-1].ndim)
    for graph, wrt, data, _ in islice(drawn, 60):
        if order == 2:
            first = gradient(graph, wrt)
            graph, wrt = first, [first.inputs[graph.inputs.index(v)] for v in wrt]
        data = {name: np.asarray(value) for name, value in data.items()}
        pairs, _ = sparse_and_dense(graph, data, given(graph), symmetric=order == 2, wrt=wrt)
        assert_equal(pairs)


# Rows ----------------------------------------------------------------------------------------------------------


def inputs_of(*shapes, kinds=()):
    builder = Builder()
    made = []
    for number, shape in enumerate(shapes):
        kind = kinds[number] if kinds else Kind.REAL
        attributes = {"name": f"x{number}", "symbol": None, "type": TensorType(kind, shape)}
        made.append(Value(builder, builder.add(input_, (), attributes)))
    return made


def graph_of(inputs, *outputs):
    named = {f"f{number}": value.id for number, value in enumerate(outputs)}
    return inputs[0].builder.build([v.id for v in inputs], named).validate()


def random_value(rng, pool):
    """A random operation on random values of core shape (4,), (4, 4) or (), which stay of order one."""
    vectors = [v for v in pool if v.shape == (4,)]
    matrices = [v for v in pool if v.shape == (4, 4)]
    scalars = [v for v in pool if v.shape == ()]
    p, q = (vectors[rng.integers(len(vectors))] for _ in range(2))
    s, t = (matrices[rng.integers(len(matrices))] for _ in range(2))
    index = apply(p.builder, iota, (), {"start": 0, "size": 4})
    rows, columns = indexing.expand(index, axis=-1), indexing.expand(index, axis=-2)
    makers = [
        lambda: elementary.sin(p),
        lambda: p * q,
        lambda: p + elementary.cos(q),
        lambda: s * t,
        lambda: s + indexing.expand(p, axis=-1),
        lambda: elementary.tanh(s) * indexing.expand(p, axis=-2),
        lambda: indexing.transpose(s, axes=(-1, -2)),
        lambda: indexing.pad(indexing.slice_(p, axis=-1, start=1, size=3), axis=-1, before=0, after=1),
        lambda: indexing.pad(indexing.slice_(s, axis=-2, start=0, size=2), axis=-2, before=1, after=1),
        lambda: indexing.sum_(s, axes=(-1,)),
        lambda: indexing.sum_(s, axes=(-2,)),
        lambda: contraction.einsum(s, p, inputs=("ab", "b"), output="a"),
        lambda: contraction.einsum(s, t, inputs=("ab", "cb"), output="ac"),
        lambda: contraction.einsum(p, q, inputs=("a", "b"), output="ab"),
        lambda: contraction.einsum(s, inputs=("aa",), output="a"),
        lambda: contraction.einsum(assembly.identity(p, 4), p, inputs=("ab", "a"), output="ab"),
        lambda: logic.select(logic.less_equal(columns, rows), s, 0),
        lambda: logic.select(logic.equal(columns, rows), s, t * t),
        lambda: logic.select(logic.less(p, q), elementary.sin(p), q * q),
        lambda: contraction.einsum(
            arithmetic.cast(logic.less(columns, rows), kind=Kind.REAL), p, inputs=("ab", "b"), output="a"
        ),
        lambda: contraction.softmax(p, axes=(-1,)),
        lambda: contraction.softmax(s, axes=(-2,)),
        lambda: with_shape(contraction.logsumexp(s, axes=(-1, -2)), (4,)),
        lambda: contraction.prod_others(p),
        lambda: gathering.cumsum(p, axis=-1, reverse=bool(rng.integers(2)), exclusive=bool(rng.integers(2))),
        lambda: gathering.cumsum(s, axis=-2, reverse=False, exclusive=False),
        lambda: gathering.stride(p, axis=-1, start=3, size=4, step=-1),
        lambda: gathering.dilate(
            gathering.stride(p, axis=-1, start=1, size=2, step=2), axis=-1, start=0, size=4, step=2
        ),
        lambda: assembly.stack(p, q, elementary.sin(p), p * q, axis=-1),
        lambda: assembly.concat(
            indexing.slice_(p, axis=-1, start=0, size=1), indexing.slice_(q, axis=-1, start=1, size=3), axis=-1
        ),
        lambda: assembly.reshape(
            indexing.transpose(assembly.reshape(p, rank=1, shape=(2, 2)), axes=(-1, -2)), rank=2, shape=(4,)
        ),
        lambda: linalg.inverse(s * 0.1 + 3 * assembly.identity(s, 4)),
        lambda: linalg.solve(assembly.identity(s, 4) * 3 + s * 0.1, t, adjoint=False),
        lambda: with_shape(indexing.sum_(p, axes=(-1,)), (4,)),
        lambda: with_shape(scalars[0] if scalars else indexing.sum_(p * q, axes=(-1,)), (4,)) * q,
    ]
    return elementary.tanh(makers[rng.integers(len(makers))]())


@pytest.mark.parametrize("seed", range(8))
def test_no_entry_is_missing_in_random_graphs(seed):
    rng = np.random.default_rng(seed)
    for _ in range(25):
        values = inputs_of((4,), (4,), (4, 4))
        pool = list(values)
        for _ in range(rng.integers(2, 7)):
            pool.append(random_value(rng, pool))
        graph = graph_of(values, pool[-1], pool[-2])
        data = {name: rng.normal(size=shape) for name, shape in (("x0", 4), ("x1", 4), ("x2", (4, 4)))}
        pairs, _ = sparse_and_dense(graph, data, {})
        assert_equal(pairs)


@pytest.mark.parametrize("mode", ["gather", "scatter"])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_subscripts_that_are_data_give_the_pattern(mode, batch):
    values = inputs_of((6,), (4,) if mode == "gather" else (6,), kinds=(Kind.REAL, Kind.INTEGER))
    moved = gathering.gathered(*values) if mode == "gather" else gathering.scattered(*values, size=4)
    graph = graph_of(values, moved * moved)
    rng = np.random.default_rng(3)
    index = rng.integers(0, 4, (*batch, *values[1].shape))
    pairs, plan = sparse_and_dense(graph, {"x0": rng.normal(size=6), "x1": index}, {})
    assert_equal(pairs)
    if not batch:
        assert len(plan.patterns["f0/0"].rows) == index.size


def test_without_subscripts_a_gather_may_read_everything():
    values = inputs_of((6,), (4,), kinds=(Kind.REAL, Kind.INTEGER))
    graph = graph_of(values, gathering.gathered(*values))
    rows, _ = dependencies(graph, [graph.inputs[0]], {}, {})["f0"].pairs()
    assert len(rows) == 24


def test_a_sum_over_everything_costs_one_mark_a_row():
    (value,) = inputs_of((100_000,))
    total = indexing.sum_(value, axes=(-1,))
    spread = with_shape(total, (100_000,)) + value
    graph = graph_of([value], indexing.sum_(spread * spread, axes=(-1,)))
    found = dependencies(graph, [graph.inputs[0]], {}, {})["f0"]
    assert len(found.members) == 1
    assert len(found.pairs()[0]) == 100_000


def test_a_dense_derivative_too_large_to_list_is_refused():
    (value,) = inputs_of((100_000,))
    graph = graph_of([value], with_shape(indexing.sum_(value, axes=(-1,)), (100_000,)) + value)
    with pytest.raises(ResourceLimitError, match=r"10,000,\d{3},\d{3} entries.*hvp, jvp or vjp"):
        dependencies(graph, [graph.inputs[0]], {}, {})["f0"].pairs()


def test_every_row_with_a_derivative_that_mixes_elements_has_a_rule():
    rows = [
        op
        for ops in (contraction, correlation, indexing, assembly, gathering, linalg, decompositions)
        for op in ops.ROWS
    ]
    constant = {"reduce_any", "one_hot", "floor_divide", "lu_rows"}
    mixing = [op for op in rows if not op.elementwise and op.arity != 0 and op.name not in constant]
    missing = [op.name for op in mixing if op not in sparsity.READS]
    assert missing == []


# Sets of elements -----------------------------------------------------------------------------------------------


def dense_rows(incidence):
    matrix = np.zeros((len(incidence), incidence.columns.elements), bool)
    rows, columns = incidence.pairs()
    matrix[rows, columns] = True
    return matrix


def test_incidence_is_a_boolean_matrix():
    columns = Columns((12, 3))
    both = stacked([own(columns, 0), own(columns, 1)])
    np.testing.assert_array_equal(dense_rows(both), np.eye(15, dtype=bool))
    picked = both.take(np.array([3, -1, 14, 3]))
    np.testing.assert_array_equal(dense_rows(picked).sum(axis=1), [1, 0, 1, 1])
    labels = np.array([0] * 12 + [1, 0, 1])
    summed = both.grouped(labels, 3)
    assert summed.members.tolist() == [13, 15, 12, 14]  # all twelve are one mark
    due = np.zeros((3, 15), bool)
    due[labels, np.arange(15)] = True
    np.testing.assert_array_equal(dense_rows(summed), due)
    np.testing.assert_array_equal(
        dense_rows(union([summed, both.take(np.array([0, 0, 14]))])), due | np.eye(15, dtype=bool)[[0, 0, 14]]
    )


# Colours --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_coloured_directions_give_every_entry(seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        height, width = rng.integers(1, 20, 2)
        matrix = rng.normal(size=(height, width)) * (rng.random((height, width)) < rng.random() / 2)
        rows, columns = np.nonzero(matrix)
        colours, count = columns_apart(rows, columns, matrix.shape)
        seeds = np.eye(max(1, count))[colours]
        np.testing.assert_array_equal((matrix @ seeds)[rows, colours[columns]], matrix[rows, columns])
        square = rng.normal(size=(width, width)) * (rng.random((width, width)) < rng.random() / 2)
        square = square + square.T
        rows, columns = np.nonzero(square)
        colours, count = stars(rows, columns, width)
        at, colour = single_places(rows, columns, colours)
        seeds = np.eye(max(1, count))[colours]
        np.testing.assert_array_equal((square @ seeds)[at, colour], square[rows, columns])


@pytest.mark.parametrize("order", [1, -1])
def test_an_arrow_takes_two_colours_and_a_chain_three(order):
    arrow = np.eye(30)
    arrow[0] = arrow[:, 0] = 1
    assert stars(*np.nonzero(arrow[::order, ::order]), 30).number == 2
    chain = np.eye(30) + np.eye(30, k=1) + np.eye(30, k=-1)
    assert stars(*np.nonzero(chain), 30).number == 3
    assert columns_apart(*np.nonzero(chain), (30, 30)).number == 3


def test_a_hundred_thousand_variables_take_seconds():
    graph = stabilize(lower(rosenbrock()))
    first, _ = optimize(gradient(graph, list(graph.inputs)))
    start = time.process_time()
    plan = make_plan(first, list(first.inputs), {"n": 100_000}, {}, symmetric=True)
    assert time.process_time() - start < 5
    assert (plan.count, len(plan.places)) == (3, 299_998)


# The public face -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain():
    return sym2tf.compile(rosenbrock())


@pytest.fixture(scope="module")
def chain_hessian(chain):
    return chain.hessian(x, sparse=True)


def test_a_hessian_for_scipy_and_for_tensorflow_at_changing_sizes(chain, chain_hessian):
    dense = chain.hessian(x)
    for size in (2, 5, 9, 5):
        at = np.linspace(-1, 1, size)
        matrix = chain_hessian.to_scipy(at)
        assert isinstance(matrix, scipy.sparse.csr_array)
        assert matrix.has_canonical_format
        np.testing.assert_allclose(matrix.toarray(), dense(at), rtol=1e-12)
    batch = np.random.default_rng(0).normal(size=(2, 3, 5))
    tensor = chain_hessian.to_tf(batch)
    assert tensor.shape == (2, 3, 5, 5)
    due = dense(batch).numpy()
    found = np.zeros_like(due)
    found[tuple(tensor.indices.numpy().T)] = tensor.values.numpy()
    np.testing.assert_allclose(found, due, rtol=1e-12)
    assert chain_hessian(batch).shape == (2, 3, 13)
    with pytest.raises(ShapeError, match=r"batch axes \(2, 3\): use to_tf"):
        chain_hessian.to_scipy(batch)


def test_a_pattern_needs_sizes_only(chain_hessian):
    rows, columns, shape = chain_hessian.pattern(n=3)
    assert (rows.tolist(), columns.tolist(), shape) == ([0, 0, 1, 1, 1, 2, 2], [0, 1, 0, 1, 2, 1, 2], (3, 3))
    assert chain_hessian.pattern(np.zeros(3)) == chain_hessian.pattern(x=np.zeros(3))
    assert chain_hessian.sweeps(n=1000) == 3
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 1
    with pytest.raises(SizeError, match="depends on n: give sizes by name"):
        chain_hessian.pattern()
    with pytest.raises(SizeError, match="n is a size"):
        chain_hessian.pattern(n=-1)


def test_nests_of_outputs_and_inputs_are_kept():
    f = sym2tf.compile({"p": u * x[i], "q": (sp.sin(v), u)}, [u, v, x])
    sparse = f.jacobian([u, x, v], sparse=True)
    dense = f.jacobian([u, x, v])
    at = (0.5, 2.0, np.array([1.0, -2.0, 3.0]))
    due, found = dense(*at), sparse.to_scipy(*at)
    assert found.keys() == due.keys()
    for a_, b_, height in ((due["p"], found["p"], 3), (due["q"][0], found["q"][0], 1), (due["q"][1], found["q"][1], 1)):
        for one, other in zip(a_, b_, strict=True):
            np.testing.assert_allclose(other.toarray(), np.reshape(one, (height, -1)), rtol=1e-12)
    assert found["q"][0][0].nnz == 0  # sin(v) by u


def test_elements_of_an_input_are_inputs(chain):
    at = np.array([0.5, -1.0, 2.0])
    sparse = chain.hessian([x[0], x[2]], sparse=True).to_scipy(at)
    dense = chain.hessian([x[0], x[2]])(at)
    for one, other in zip(sum(sparse, ()), sum(dense, ()), strict=True):
        np.testing.assert_allclose(one.toarray(), np.reshape(other, (1, 1)), rtol=1e-12)
    assert sparse[0][1].nnz == 0
    with pytest.raises(SizeError):
        chain.hessian(x[5], sparse=True)(at)


def test_a_gather_has_the_pattern_of_its_data():
    f = sym2tf.compile(x[GROUP[i]] ** 2, [x, GROUP])
    sparse, dense = f.jacobian(x, sparse=True), f.jacobian(x)
    at = np.array([0.5, -1.0, 2.0])
    for group in ([0, 2, 1, 0], [1, 1, 1, 1]):
        matrix = sparse.to_scipy(at, np.array(group))
        assert (matrix.nnz, matrix.indices.tolist()) == (4, group)
        np.testing.assert_allclose(matrix.toarray(), dense(at, np.array(group)), rtol=1e-12)
    with pytest.raises(ArgumentError, match="depends on group: give the arguments of a call"):
        sparse.pattern()


def test_it_runs_inside_the_users_graph_and_a_tape_sees_it(chain_hessian):
    at = tf.constant(np.linspace(-1, 1, 4))
    inside = tf.function(chain_hessian, autograph=False)
    np.testing.assert_allclose(inside(at), chain_hessian(at), rtol=1e-12)
    with tf.GradientTape() as tape:
        tape.watch(at)
        total = tf.reduce_sum(chain_hessian(at))
    # the diagonal has 1200 x**2, twice the mixed entries -400 x each
    first, last = 2400 * at.numpy() - 800, 400 * (np.arange(4) > 0)
    due = np.where(np.arange(4) < 3, first, 0) - last
    np.testing.assert_allclose(tape.gradient(total, at), due, rtol=1e-9)
    unknown = tf.function(chain_hessian, autograph=False, input_signature=[tf.TensorSpec([None], tf.float64)])
    with pytest.raises(SizeError, match="shape of x, which is not known yet"):
        unknown(at)


def test_it_is_frozen_and_travels_in_a_pickle(chain_hessian):
    assert copy.deepcopy(chain_hessian) is chain_hessian
    again = pickle.loads(pickle.dumps(chain_hessian))
    at = np.linspace(-1, 1, 5)
    np.testing.assert_array_equal(again(at), chain_hessian(at))
    assert "sparse hessian of f" in repr(again)


def test_nothing_to_differentiate_by_gives_an_empty_nest():
    sparse = sym2tf.compile(u * v).jacobian([], sparse=True)
    assert sparse(1.0, 2.0) == sparse.to_scipy(1.0, 2.0) == sparse.pattern(1.0, 2.0) == ()


def test_it_refuses_what_has_no_derivative():
    with pytest.raises(DifferentiationError, match="gradient needs scalar outputs"):
        sym2tf.compile(x[i] ** 2).hessian(x, sparse=True)
    with pytest.raises(ArgumentError, match="is no input of f"):
        sym2tf.compile(u**2).jacobian(v, sparse=True)
    with pytest.raises(ArgumentError, match="lacks x"):
        sym2tf.compile(x[i] ** 2).jacobian(x, sparse=True)()
