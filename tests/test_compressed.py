"""Compressed Hessians and Jacobians: few and small factors, and all that they do is what the dense one does."""

import copy
import pickle
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
import tensorflow as tf

import sym2tf
from sym2tf.autodiff.derivatives import gradient, hessian, jacobian
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import ArgumentError, DifferentiationError, ShapeError, SizeError
from sym2tf.frontend.lower import lower
from sym2tf.ir.binding import Binding
from sym2tf.ir.dims import evaluate_size
from sym2tf.passes.monomials import UNIT
from sym2tf.passes.pipeline import stabilize
from sym2tf.passes.terms import factored, simplified
from tests import test_matrix_calculus as matrices
from tests.test_random_indices import differentiable, given
from tests.test_sparsity import assert_equal, sparse_and_dense

n, m, k, d = sp.symbols("n m k d", integer=True)
i, j, a, b = sp.symbols("i j a b", cls=sp.Idx)
U, V, T, X, w, y = (sp.IndexedBase(name) for name in "UVTXwy")
LAM = sp.Symbol("lam")


def factorisation():
    return sp.Sum((T[i, j] - sp.Sum(U[i, a] * V[j, a], (a, 0, k - 1))) ** 2, (i, 0, n - 1), (j, 0, m - 1))


def logistic():
    z = sp.Sum(X[i, a] * w[a], (a, 0, d - 1))
    return sp.Sum(sp.log(1 + sp.exp(z)) - y[i] * z, (i, 0, n - 1)) + LAM * sp.Sum(w[a] ** 2, (a, 0, d - 1))


def rows_apart():
    return sp.Sum(sp.exp(sp.Sum(U[i, a] ** 2, (a, 0, k - 1))), (i, 0, n - 1))


# what, by what, its sizes, the structure, elements held
CASES = {
    "matrix factorisation by U": (factorisation(), "U", {"n": 6, "m": 8, "k": 3}, "blocks", 9),
    "matrix factorisation by V": (factorisation(), "V", {"n": 6, "m": 8, "k": 3}, "blocks", 9),
    "logistic, few observations": (logistic(), "w", {"n": 4, "d": 12}, "low rank plus diagonal", 53),
    "logistic, many observations": (logistic(), "w", {"n": 40, "d": 3}, "dense", 10),
    "rows apart": (rows_apart(), "U", {"n": 5, "k": 3}, "blocks", None),
    "separable": (sp.Sum(sp.exp(w[a]) * y[a], (a, 0, d - 1)), "w", {"d": 7}, "diagonal", 7),
    "square of a sum": (
        sp.Sum(w[a] ** 2, (a, 0, d - 1)) ** 2,
        *("w", {"d": 9}, "low rank plus diagonal", None),
    ),
    "log-sum-exp with ridge": (
        sp.log(sp.Sum(sp.exp(w[a]), (a, 0, d - 1))) + sp.Sum(w[a] ** 2, (a, 0, d - 1)),
        *("w", {"d": 9}, "low rank plus diagonal", None),
    ),
}


def data_for(graph, sizes, seed=0):
    rng = np.random.default_rng(seed)
    data = {}
    for v in graph.inputs:
        name = graph[v].attributes["name"]
        data[name] = rng.normal(size=[evaluate_size(e, sizes) for e in graph[v].type.shape]) / 2
    if "lam" in data:
        data["lam"] = np.array(0.3)
    return data


def together(terms, values, sizes):
    """The dense tensor of some terms with the values of their factors."""
    total = 0
    for term in terms:
        length = {letter: evaluate_size(size, sizes) for letter, size in term.lengths.items()}
        at = list(length).index
        operands = [x for name, own in term.factors for x in (values[name], [at(c) for c in own])]
        operands += [x for p, q in term.units for x in (np.eye(length[p]), [at(p), at(q)])]
        output = [c for c in term.output if c != UNIT]
        operands += [x for c in output for x in (np.ones(length[c]), [at(c)])]
        shape = [1 if c == UNIT else length[c] for c in term.output]
        total = total + np.einsum(*operands, [at(c) for c in output]).reshape(shape)
    return total


@pytest.mark.parametrize("name", CASES)
def test_the_terms_add_up_to_the_hessian(name):
    expr, variable, sizes, _, _ = CASES[name]
    graph = stabilize(lower(expr))
    (v,) = [v for v in graph.inputs if graph[v].attributes["name"] == variable]
    whole = hessian(graph, [v])
    assert_terms_add_up(whole, data_for(graph, sizes), sizes)


def assert_terms_add_up(whole, data, sizes):
    parts = factored(simplified(whole, level="stable"), sizes)
    values, due = evaluate(parts.graph.validate(), data, sizes), evaluate(whole, data, sizes)
    for name, terms in parts.terms.items():
        found = np.broadcast_to(together(terms, values, sizes), due[name].shape)
        np.testing.assert_allclose(found, due[name], rtol=1e-8, atol=1e-9 * (1 + np.abs(due[name]).max(initial=0)))


# every case of the corpus, and 620 random expressions, were run like this once
@pytest.mark.parametrize("case", [c for c in matrices.CASES if c.hessian][::6], ids=matrices.named)
def test_structure_of_derivatives_in_matrix_calculus(case):
    f = matrices.primal(case)
    graph, data = stabilize(f.lowered), matrices.draw(case)
    sizes = Binding(graph).bind({name: np.shape(x) for name, x in data.items()}, {})
    (v,) = [v for v in graph.inputs if graph[v].attributes["name"] == str(case.wrt)]
    scalar = matrices.is_scalar(case)
    assert_terms_add_up((hessian if scalar else jacobian)(graph, [v]), data, sizes)
    first = gradient(graph, [v]) if scalar else graph
    wrt = [first.inputs[graph.inputs.index(v)]]
    pairs, _ = sparse_and_dense(first, data, sizes, symmetric=scalar, wrt=wrt)
    assert_equal(pairs)


def test_terms_of_random_index_expressions_add_up():
    for graph, wrt, data, due in islice(differentiable(40_000), 25):
        assert_terms_add_up((jacobian if due.ndim else hessian)(graph, wrt), data, given(graph))


@pytest.mark.parametrize("name", CASES)
def test_a_compressed_hessian_does_what_the_dense_one_does(name):
    expr, variable, sizes, structure, held = CASES[name]
    f = sym2tf.compile(expr)
    data = data_for(f.lowered, sizes)
    matrix = f.hessian(variable, compressed=True)(**data)
    assert matrix.structure == structure
    if held is not None:
        assert sum(int(np.prod(t.shape)) for t in matrix.factors) <= held
    graph = stabilize(lower(expr))
    (v,) = [v for v in graph.inputs if graph[v].attributes["name"] == variable]
    (due,) = evaluate(hessian(graph, [v]), data, sizes).values()
    core = data[variable].shape
    count = int(np.prod(core))
    square = due.reshape(count, count)
    vector = np.random.default_rng(1).normal(size=core)
    np.testing.assert_allclose(matrix.dense(), due, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(matrix @ vector, (square @ vector.ravel()).reshape(core), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(matrix.diagonal(), np.diagonal(square).reshape(core), rtol=1e-12, atol=1e-13)
    solved = np.linalg.solve(square, vector.ravel()).reshape(core)
    np.testing.assert_allclose(matrix.solve(vector), solved, rtol=1e-9, atol=1e-9 * np.abs(solved).max())


@pytest.mark.parametrize(
    "name", ["rows apart", "separable", "logistic, few observations", "logistic, many observations"]
)
def test_batches_of_the_matrix_and_of_the_vector_broadcast(name):
    expr, variable, sizes, structure, _ = CASES[name]
    f = sym2tf.compile(expr)
    data = data_for(f.lowered, sizes)
    core = data[variable].shape
    count = int(np.prod(core))
    rng = np.random.default_rng(0)
    data[variable] = rng.normal(size=(2, 1, *core)) / 2
    matrix = f.hessian(variable, compressed=True)(**data)
    assert matrix.structure == structure
    square = np.reshape(matrix.dense(), (2, 1, count, count))
    vector = rng.normal(size=(3, *core))
    due = np.linalg.solve(square, np.broadcast_to(vector.reshape(3, count, 1), (2, 3, count, 1)))
    np.testing.assert_allclose(matrix.solve(vector), due.reshape(2, 3, *core), rtol=1e-8)
    again = np.broadcast_to(vector, (2, 3, *core))
    np.testing.assert_allclose(matrix @ matrix.solve(vector), again, rtol=1e-8)


def test_terms_read_like_index_notation():
    f = sym2tf.compile(logistic())
    matrix = f.hessian(w, compressed=True)(**data_for(f.lowered, {"n": 3, "d": 9}))
    assert sorted(map(str, matrix.terms)) == ["[a, b]: F2 * I[a, b]", "[a, b]: X[c, a] * X[c, b] * F1[c]"]
    assert repr(matrix).startswith("<matrix (9,) by (9,), low rank plus diagonal:\n  [a, b]: ")


def test_batch_axes_and_changing_sizes():
    f = sym2tf.compile(factorisation())
    compressed = f.hessian(U, compressed=True)
    rng = np.random.default_rng(0)
    for n_, m_, k_ in ((3, 4, 2), (5, 2, 2), (3, 4, 2)):
        t, u, v = rng.normal(size=(n_, m_)), rng.normal(size=(2, n_, k_)), rng.normal(size=(3, 1, m_, k_))
        matrix = compressed(T=t, U=u, V=v)
        vector = rng.normal(size=(n_, k_))
        due = 2 * np.einsum("...ja,...jb,ib->...ia", v, v, vector)
        np.testing.assert_allclose(matrix @ vector, np.broadcast_to(due, (3, 2, n_, k_)), rtol=1e-11)
        back = matrix.solve(matrix @ vector)
        np.testing.assert_allclose(back, np.broadcast_to(vector, (3, 2, n_, k_)), rtol=1e-7)
    assert len(compressed._programs) == 1  # one graph for all sizes


def test_several_inputs_give_a_nest_and_blocks_need_not_be_square():
    f = sym2tf.compile(factorisation())
    data = data_for(f.lowered, {"n": 4, "m": 5, "k": 2})
    nest = f.hessian([U, V], compressed=True)(**data)
    (v_u,) = [v for v in f.lowered.inputs if f.lowered[v].attributes["name"] == "U"]
    (v_v,) = [v for v in f.lowered.inputs if f.lowered[v].attributes["name"] == "V"]
    due = list(evaluate(hessian(f.lowered, [v_u, v_v]), data, {"n": 4, "m": 5, "k": 2}).values())
    for matrix, dense in zip(sum(nest, ()), due, strict=True):
        np.testing.assert_allclose(matrix.dense(), dense, rtol=1e-11, atol=1e-12)
    mixed = nest[0][1]
    vector = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_allclose(mixed @ vector, np.einsum("iajb,jb->ia", due[1], vector), rtol=1e-11)
    with pytest.raises(ShapeError, match=r"a solution needs as many rows as columns: .*\(4, 2\) by \(5, 2\)"):
        mixed.solve(vector)
    with pytest.raises(ShapeError, match="a diagonal needs"):
        mixed.diagonal()
    with pytest.raises(ShapeError, match=r"a matrix \(4, 2\) by \(5, 2\) and a vector of shape \(4, 2\)"):
        mixed.matvec(np.ones((4, 2)))


def test_a_jacobian_is_compressed_too():
    expr = sp.Sum(X[i, a] * w[a], (a, 0, d - 1)) ** 2
    f = sym2tf.compile(expr)
    data = data_for(f.lowered, {"n_i": 6, "d": 4})
    matrix = f.jacobian(w, compressed=True)(**data)
    (v,) = [v for v in f.lowered.inputs if f.lowered[v].attributes["name"] == "w"]
    (due,) = evaluate(jacobian(f.lowered, [v]), data, {"n_i": 6, "d": 4}).values()
    np.testing.assert_allclose(matrix.dense(), due, rtol=1e-12)
    vector = np.arange(4.0)
    np.testing.assert_allclose(matrix @ vector, due @ vector, rtol=1e-12)


def test_a_linear_cost_has_no_hessian_to_solve_with():
    matrix = sym2tf.compile(sp.Sum(w[a] * y[a], (a, 0, d - 1))).hessian(w, compressed=True)(np.ones(3), np.ones(3))
    np.testing.assert_array_equal(matrix @ np.ones(3), np.zeros(3))
    np.testing.assert_array_equal(matrix.dense(), np.zeros((3, 3)))


def test_it_runs_inside_the_users_graph():
    f = sym2tf.compile(logistic())
    compressed = f.hessian(w, compressed=True)
    data = {name: tf.constant(x) for name, x in data_for(f.lowered, {"n": 3, "d": 9}).items()}
    step = tf.function(lambda data, v: compressed(**data).solve(v), autograph=False)
    vector = tf.constant(np.arange(9.0))
    np.testing.assert_allclose(step(data, vector), compressed(**data).solve(vector), rtol=1e-10)


def test_it_is_frozen_and_travels_in_a_pickle():
    f = sym2tf.compile(sp.Sum(sp.exp(w[a]), (a, 0, d - 1)))
    compressed = f.hessian(w, compressed=True)
    assert copy.copy(compressed) is compressed
    again = pickle.loads(pickle.dumps(compressed))
    np.testing.assert_allclose(again(np.arange(3.0)).diagonal(), np.exp(np.arange(3.0)), rtol=1e-15)
    assert "compressed hessian of f" in repr(again)


def test_sparse_and_compressed_exclude_each_other():
    f = sym2tf.compile(sp.Sum(sp.exp(w[a]), (a, 0, d - 1)))
    for derivative in (f.hessian, f.jacobian):
        with pytest.raises(ArgumentError, match="sparse or compressed, not both"):
            derivative(w, sparse=True, compressed=True)
    with pytest.raises(DifferentiationError, match="gradient needs scalar outputs"):
        sym2tf.compile(w[a] ** 2).hessian(w, compressed=True)(np.ones(3))
    with pytest.raises(SizeError):
        sym2tf.compile(factorisation()).hessian(U, compressed=True)(np.ones((3, 2)), np.ones((3, 2)), np.ones((4, 1)))


def test_every_python_block_of_the_page_runs_in_order():
    page = Path(__file__).parent.parent / "docs" / "structure.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, page.name, "exec"), namespace)
