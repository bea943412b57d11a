"""Functions that mix matrices, indices, arrays and branches: values and derivatives in every form agree."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import sympy as sp

import sym2tf
from sym2tf.autodiff import derivatives
from sym2tf.backends.numpy import evaluate
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Graph
from sym2tf.lazy import lazy
from sym2tf.passes.pipeline import optimize
from tests.mixtures import SIZES, Data, draw, mixture

tf = lazy("tensorflow")

STEP = 1e-4
LARGEST = 1e5


def mixtures(first: int, last: int) -> Iterator[tuple[int, Any, Any, Graph, Data]]:
    """Seeds, expressions, functions, graphs and data: of those that SymPy can hold, with values of ordinary size."""
    for seed in range(first, last):
        try:
            expr, function = mixture(seed)
            graph = lower(expr)
        except (AttributeError, NotImplementedError, TypeError):  # of SymPy, for some elements of FunctionMatrix
            continue
        data = draw(seed)
        with np.errstate(all="ignore"):
            value = function(data)
        if graph.inputs and np.isfinite(value) and abs(value) < LARGEST and np.min(np.abs(data["y"])) > 0.05:
            yield seed, expr, function, graph, data


def names(graph: Graph) -> list[str]:
    return [graph[v].attributes["name"] for v in graph.inputs]


def slope(function: Any, data: Data, direction: Data) -> Any:
    """Along a direction, by differences of fourth order."""

    def at(step: float) -> Any:
        return function({name: value + step * direction.get(name, 0) for name, value in data.items()})

    return (8 * (at(STEP) - at(-STEP)) - (at(2 * STEP) - at(-2 * STEP))) / (12 * STEP)


def element(gradient: Graph, sizes: dict[str, int], row: int, data: Data) -> Any:
    """One of the outputs of a gradient."""
    return list(evaluate(gradient, data, sizes).values())[row]


@pytest.mark.parametrize("level", ["stable", "real", "exact"])
def test_values_gradients_and_hessians(level: str) -> None:
    first = {"stable": 0, "real": 1000, "exact": 2000}[level]
    checked = 0
    for seed, expr, function, graph, data in mixtures(first, first + 22):
        given = {name: data[name] for name in names(graph)}
        sizes = {name: SIZES[name] for name in graph.info["sizes"]}
        why = f"{seed}: {expr}"
        due = function(data)
        np.testing.assert_allclose(np.squeeze(evaluate(graph, given, sizes)["out"]), due, rtol=1e-9, err_msg=why)
        answer = evaluate(optimize(graph, level=level)[0], given, sizes)["out"]
        np.testing.assert_allclose(np.squeeze(answer), due, rtol=1e-9, atol=1e-10, err_msg=why)
        gradient = optimize(derivatives.gradient(graph, graph.inputs), level=level)[0]
        slopes = dict(zip(given, evaluate(gradient, given, sizes).values(), strict=True))
        rng = np.random.default_rng(seed)
        direction = {name: rng.normal(size=value.shape) for name, value in given.items()}
        along = sum(np.sum(slopes[name] * direction[name]) for name in given)
        size = 1 + abs(due) + max(np.max(np.abs(g)) for g in slopes.values())
        np.testing.assert_allclose(along, slope(function, data, direction), atol=1e-7 * size, rtol=1e-7, err_msg=why)
        second = optimize(derivatives.hessian(graph, graph.inputs), level=level)[0]
        blocks = list(evaluate(second, given, sizes).values())
        size = 1 + max(np.max(np.abs(b)) for b in blocks)
        for row, name in enumerate(given):
            product = sum(
                np.tensordot(blocks[row * len(given) + column], t, axes=t.ndim)
                for column, t in enumerate(direction.values())
            )
            difference = slope(partial(element, gradient, sizes, row), given, direction)
            np.testing.assert_allclose(product, difference, atol=1e-6 * size, rtol=1e-5, err_msg=f"{name} of {why}")
        checked += 1
    assert checked > 12


def many(answer: Any) -> tuple[Any, ...]:
    return tuple(answer) if isinstance(answer, tuple | list) else (answer,)


def close(answer: Any, due: Any, why: str, tolerance: float = 1e-9) -> None:
    due = np.asarray(due)
    scale = 1 + np.max(np.abs(due), initial=0)
    np.testing.assert_allclose(np.asarray(answer), due, rtol=tolerance, atol=tolerance * scale, err_msg=why)


def test_every_product_with_derivatives_agrees_with_the_hessian_and_with_tapes() -> None:
    checked = 0
    for seed, expr, function, graph, data in mixtures(3000, 3008):
        f, why = sym2tf.compile(expr), f"{seed}: {expr}"
        given = {name: data[name] for name in names(graph)}
        rng = np.random.default_rng(seed)
        tangents = {name: rng.normal(size=value.shape) for name, value in given.items()}
        value, gradient = f.value_and_gradient()(**given)
        gradient = many(gradient)
        close(np.squeeze(value), function(data), why)
        close(pickle.loads(pickle.dumps(f))(**given), value, why)
        pushed = f.jvp()(*given.values(), *tangents.values())
        close(np.sum(pushed), sum(np.sum(g * t) for g, t in zip(gradient, tangents.values(), strict=True)), why)
        for pulled, due in zip(many(f.vjp()(*given.values(), np.ones(np.shape(value)))), gradient, strict=True):
            close(pulled, due, why)
        products = many(f.hvp()(*given.values(), *tangents.values()))
        variables = [tf.constant(v) for v in given.values()]
        with tf.GradientTape() as outer:
            outer.watch(variables)
            with tf.GradientTape() as inner:
                inner.watch(variables)
                total = tf.reduce_sum(f(*variables))
            taped = inner.gradient(total, variables, unconnected_gradients="zero")
            along = sum(tf.reduce_sum(g * t) for g, t in zip(taped, tangents.values(), strict=True))
        for name, g, due in zip(given, taped, gradient, strict=True):
            close(g, due, f"tape, {name} of {why}")
        second = outer.gradient(along, variables, unconnected_gradients="zero")
        for name, g, due in zip(given, second, products, strict=True):
            close(g, due, f"second tape, {name} of {why}", 1e-8)
        checked += 1
    assert checked > 5


def test_batches_of_some_inputs_broadcast_against_batches_of_others() -> None:
    for seed, expr, _, graph, data in mixtures(4000, 4004):
        given = {name: data[name] for name in names(graph)}
        first, *others = given
        batched = given | {first: np.stack([given[first], 2 * given[first], given[first]])}
        at: tuple[int, ...] = (2,)
        if others:
            batched[others[0]] = np.stack([given[others[0]] / 2, given[others[0]]])[:, None]
            at = (1, 2)
        f = sym2tf.compile(expr).gradient()
        for name, answer, due in zip(given, many(f(**batched)), many(f(**given)), strict=True):
            close(np.asarray(answer)[at], due, f"{name} of {seed}: {expr}")


def test_sources_run_on_their_own_and_formulas_of_gradients_are_right() -> None:
    for seed, expr, _, graph, data in mixtures(5000, 5004):
        f, why = sym2tf.compile(expr), f"{seed}: {expr}"
        given = {name: data[name] for name in names(graph)}
        program: dict[str, Any] = {}
        exec(f.source, program)
        close(program["f"](*map(tf.constant, given.values())), f(**given), why)
        variable = next(iter(given))
        formula = f.gradient_expr(wrt=variable)
        free = sorted((s for s in sp.sympify(formula).free_symbols if str(s) in "ij"), key=str)
        back = lower(formula, indices=[s for s in free if s.is_integer])
        known = {name: {**data, **SIZES}[name] for name in names(back)}
        answer = evaluate(back, known, {name: SIZES[name] for name in back.info["sizes"]})["out"]
        (due,) = many(f.gradient(wrt=variable)(**given))
        if np.shape(answer) == np.shape(due):  # what is the same in all elements has no axes
            close(answer, due, why)
        else:
            close(np.broadcast_to(answer, np.shape(due)), due, why)
        assert f.render() is not None
