"""Identities of matrix calculus: values, gradients, Jacobians and Hessians against the literature and differences.

What is run is the optimised graph, in NumPy; the judge of derivatives is the lowered graph in mpmath, with steps of
1e-15 in 50 digits. A sample goes through TensorFlow, against its `GradientTape`.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any

import mpmath
import numpy as np
import pytest
import tensorflow as tf

import sym2tf
from sym2tf.backends.mpmath import evaluate as evaluate_exactly
from sym2tf.backends.numpy import evaluate
from sym2tf.ir.dims import evaluate_size
from sym2tf.ir.types import TensorType
from tests.matrix_corpus import CASES, SYMPY_IS_WRONG, Case, names_of

STEP = 1e-15
Array = np.ndarray[Any, Any]


@functools.cache
def primal(case: Case) -> sym2tf.CompiledFunction:
    return sym2tf.compile(case.expr)


def is_scalar(case: Case) -> bool:
    """Whether it has a gradient: its value is a number or 1 x 1."""
    graph = primal(case).graph
    return all(d == 1 for v in graph.outputs.values() for d in graph[v].type.shape)


@functools.cache
def derivative(case: Case) -> sym2tf.CompiledFunction:
    f = primal(case)
    return f.gradient(wrt=case.wrt) if is_scalar(case) else f.jacobian(wrt=case.wrt)


def orthogonal(length: int, rng: np.random.Generator) -> Array:
    return np.linalg.qr(rng.normal(size=(length, length)))[0]


def invertible(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    return orthogonal(shape[0], rng) @ np.diag(rng.uniform(0.7, 2, shape[0])) @ orthogonal(shape[0], rng)


def positive_definite(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    vectors = orthogonal(shape[0], rng)
    return vectors @ np.diag(rng.uniform(0.5, 3, shape[0])) @ vectors.T


def regular_symmetric(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Symmetric, with eigenvalues of both signs that are apart."""
    vectors = orthogonal(shape[0], rng)
    return vectors @ np.diag(np.arange(shape[0]) - 0.7 + rng.uniform(-0.2, 0.2, shape[0])) @ vectors.T


def symmetric(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    half = rng.normal(size=shape)
    return half + half.T


DRAW = {
    "general": lambda shape, rng: rng.normal(size=shape),
    "small": lambda shape, rng: rng.uniform(-0.25, 0.25, shape),
    "positive": lambda shape, rng: rng.uniform(0.5, 2, shape),
    "labels": lambda shape, rng: rng.choice([-1.0, 1.0], shape),
    "one-hot": lambda shape, rng: np.eye(shape[1])[rng.integers(shape[1], size=shape[0])],
    "symmetric": symmetric,
    "regular symmetric": regular_symmetric,
    "positive definite": positive_definite,
    "invertible": invertible,
    "lower triangular": lambda shape, rng: np.tril(rng.normal(size=shape), -1) + np.diag(rng.uniform(0.5, 2, shape[0])),
}


def seed_of(case: Case) -> int:
    return zlib.crc32(case.name.encode())


def draw(case: Case, *, batched: bool = False, seed: int = 0) -> dict[str, Array]:
    """Inputs of random shapes: n from 2 to 4, m larger, k from 2 to 3; batched, the batch shapes only broadcast."""
    rng = np.random.default_rng([seed_of(case), seed])
    n = int(rng.integers(2, 5))
    sizes = {"n": n, "m": n + int(rng.integers(1, 3)), "k": int(rng.integers(2, 4))}
    graph = primal(case).graph
    inputs = {}
    for place, v in enumerate(graph.inputs):
        name, type = graph[v].attributes["name"], graph[v].type
        batch = ((2, 1), (3,), ())[min(place, 2)] if batched else ()
        usual = "positive" if getattr(graph[v].attributes["symbol"], "is_positive", False) else "general"
        inputs[name] = many(case.draw.get(name, usual), type, batch, sizes, rng)
    return inputs


def many(kind: str, type: TensorType, batch: tuple[int, ...], sizes: dict[str, int], rng: np.random.Generator) -> Array:
    shape = tuple(evaluate_size(d, sizes) for d in type.shape)
    drawn = [np.asarray(DRAW[kind](shape, rng)) for _ in range(int(np.prod(batch)))]
    return np.reshape(drawn, (*batch, *shape))


def run(f: sym2tf.CompiledFunction, inputs: dict[str, Array]) -> Array:
    (answer,) = evaluate(f.graph, inputs).values()
    return answer


def literature(case: Case, which: Any, inputs: dict[str, Array]) -> Array:
    """What the NumPy function gives, batch element by batch element."""
    graph = primal(case).graph
    ranks = {graph[v].attributes["name"]: graph[v].type.rank for v in graph.inputs}
    cores = {name: array.shape[array.ndim - ranks[name] :] for name, array in inputs.items()}
    batches = {name: array.shape[: array.ndim - ranks[name]] for name, array in inputs.items()}
    batch = np.broadcast_shapes(*batches.values())
    wide = {name: np.broadcast_to(array, batch + cores[name]) for name, array in inputs.items()}
    answers = [np.asarray(which(**{name: wide[name][at] for name in names_of(case)})) for at in np.ndindex(batch)]
    return np.reshape(answers, batch + answers[0].shape)


def error(got: Array, due: Array) -> float:
    """The largest difference in units of the largest element due."""
    assert got.shape == due.shape
    return float(np.max(np.abs(got - due), initial=0) / max(1.0, np.max(np.abs(due), initial=0)))


def named(case: Case) -> str:
    return case.name


def moved(case: Case, inputs: dict[str, Any], direction: Array, step: Any) -> dict[str, Any]:
    """The inputs in high precision, the variable `step` along `direction`."""
    name = str(case.wrt)
    exact = np.frompyfunc(mpmath.mpf, 1, 1)
    return inputs | {name: np.asarray(exact(inputs[name]) + exact(direction) * step)}


def slope(case: Case, graph: Any, inputs: dict[str, Array], direction: Array) -> Array:
    """The derivative of the only output of a graph along a direction: central differences in 50 digits."""
    with mpmath.workdps(50):
        step = mpmath.mpf(STEP)
        ends = []
        for sign in (1, -1):
            (answer,) = evaluate_exactly(graph, moved(case, inputs, direction, sign * step), digits=50).values()
            ends.append(answer)
        return np.asarray((ends[0] - ends[1]) / (2 * step)).astype(float)


@pytest.mark.parametrize("batched", [False, True], ids=["one", "batch"])
@pytest.mark.parametrize("case", CASES, ids=named)
def test_value_and_derivative_are_those_of_the_literature(case: Case, batched: bool) -> None:
    inputs = draw(case, batched=batched)
    assert error(run(primal(case), inputs), literature(case, case.value, inputs)) < 1e-11
    assert error(run(derivative(case), inputs), literature(case, case.derivative, inputs)) < 1e-10


@pytest.mark.parametrize("case", CASES, ids=named)
def test_derivative_agrees_with_differences_in_high_precision(case: Case) -> None:
    inputs = draw(case, seed=1)
    direction = np.random.default_rng(seed_of(case)).normal(size=inputs[str(case.wrt)].shape)
    ours = run(derivative(case), inputs)
    along = np.sum(ours * direction) if is_scalar(case) else np.tensordot(ours, direction, direction.ndim)
    due = slope(case, primal(case).lowered, inputs, direction)
    assert error(np.asarray(along), due.reshape(np.shape(along))) < 1e-10


NUMBERS = [c for c in CASES if tuple(getattr(c.expr, "shape", ())) in ((), (1, 1)) and c.hessian]


@pytest.mark.parametrize("case", NUMBERS, ids=named)
def test_hessian_is_the_slope_of_the_gradient(case: Case) -> None:
    inputs = draw(case, seed=2)
    point = inputs[str(case.wrt)]
    direction = np.random.default_rng(seed_of(case)).normal(size=point.shape)
    hessian = run(primal(case).hessian(wrt=case.wrt), inputs)
    assert hessian.shape == point.shape * 2
    flat = hessian.reshape(point.size, point.size)
    assert error(flat, flat.T) < 1e-10
    due = slope(case, derivative(case).graph, inputs, direction)
    assert error((flat @ direction.ravel()).reshape(point.shape), due.reshape(point.shape)) < 1e-9


@pytest.mark.parametrize("name", SYMPY_IS_WRONG)
def test_gradients_that_sympy_gets_wrong_are_right_and_not_zero(name: str) -> None:
    (case,) = (c for c in CASES if c.name == name)
    inputs = draw(case, seed=3)
    gradient = run(derivative(case), inputs)
    assert error(gradient, literature(case, case.derivative, inputs)) < 1e-10
    assert np.any(abs(gradient) > 1e-6)


def test_the_corpus_is_as_large_as_it_says_it_is() -> None:
    assert len(CASES) == len({case.name for case in CASES}) >= 230
    assert sum(case.name.startswith("site: ") for case in CASES) == 9
    assert len(set(SYMPY_IS_WRONG) & {case.name for case in CASES}) == len(SYMPY_IS_WRONG) >= 44


def test_check_says_so_where_tensorflow_has_no_gradient_to_compare_with() -> None:
    (case,) = (c for c in CASES if c.name == "KL of two Gaussians by the second covariance")
    report = primal(case).check(samples=4)
    assert "GradientTape is not finite" in str(report)
    assert report.ok


TENSORFLOW = (
    "Cookbook 81: x'Bx", "Cookbook 54: det X'AX", "log det X", "Cookbook 61: a'X^-1 b",
    "Cookbook 126: tr (X'CX)^-1 X'BX", "the Frobenius norm", "M&N: tr C(A kron X) by X",
    "Mahalanobis distance by the covariance", "GP marginal likelihood by the amplitude",
    "logistic loss, labels 0 and 1", "softmax cross-entropy", "matrix factorisation by the first factor",
    "two-layer network by the inner weights", "Riccati step: trace by the cost-to-go",
    "site: sum(log(exp(-y.*(X*w)) + vector(1)))", "site: log(det(inv(X)))",
)  # fmt: skip


@pytest.mark.parametrize("name", TENSORFLOW)
def test_tensorflow_gives_the_same_and_its_tape_agrees(name: str) -> None:
    (case,) = (c for c in CASES if c.name == name)
    batch = draw(case, batched=True)
    answer = np.asarray(derivative(case)(**batch))
    assert error(answer, literature(case, case.derivative, batch)) < 1e-9
    inputs, scope = draw(case), {}
    exec(primal(case).source, scope)
    tensors = {key: tf.constant(array, tf.float64) for key, array in inputs.items()}
    with tf.GradientTape() as tape:
        tape.watch(tensors[str(case.wrt)])
        value = scope["f"](**tensors)
    taped = tape.gradient(value, tensors[str(case.wrt)])
    assert error(taped.numpy(), literature(case, case.derivative, inputs)) < 1e-9
