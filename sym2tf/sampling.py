"""Points to verify a function at: ordinary and adversarial values for every input, with data of small made-up sizes.

What is assumed of an input holds for its values exactly, so that an algorithm that relies on it computes the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sym2tf.ir.binding import Binding
from sym2tf.ir.dims import evaluate_size, size_names
from sym2tf.ir.graph import Graph
from sym2tf.ir.types import Kind

Array = np.ndarray[Any, Any]
LENGTH, LONGEST = 4, 64
SPECIAL = (0.0, 1.0, -1.0, 0.5, 2.0, -0.25, 10.0, -10.0, 1e-3, -1e-6, 30.0, -30.0, 1e-9, 700.0)
SCALES = (1.0, 1.0, 0.1, 3.0, 10.0)


def sizes_for(graph: Graph) -> dict[str, int]:
    """A small number for each size of a graph, such that no axis is empty and all subscripts stay inside the data."""
    binding = Binding(graph)
    sizes = dict.fromkeys(binding.names, LENGTH)
    while sizes and any(evaluate_size(a.length, sizes) < 1 for a in binding.axes) and max(sizes.values()) < LONGEST:
        sizes = {name: size + 1 for name, size in sizes.items()}
    for reach in (axis for axis in binding.axes if not axis.exact):
        for own in binding.axes:  # this axis has a length of its own, which has to reach far enough
            if own.exact and (own.input, own.axis) == (reach.input, reach.axis):
                for name in size_names(own.length):
                    sizes[name] = max(sizes[name], evaluate_size(reach.length, sizes))
    return sizes


def candidates(graph: Graph, sizes: dict[str, int], count: int, rng: np.random.Generator) -> dict[str, Array]:
    """`count` points as one batch: for each input by name an array `(count, *core shape)`."""
    points: dict[str, Array] = {}
    for v in graph.inputs:
        node = graph[v]
        shape = (count, *(evaluate_size(d, sizes) for d in node.type.shape))
        name = node.attributes["name"]
        if node.type.kind is Kind.BOOLEAN:
            points[name] = rng.random(shape) < 0.5
        elif node.type.kind is Kind.INTEGER:
            points[name] = rng.integers(0, max(1, min(sizes.values(), default=1)), shape)
        else:
            values = rng.normal(size=shape) * rng.choice(SCALES, size=(count, *[1] * (len(shape) - 1)))
            values = np.where(rng.random(shape) < 0.3, np.abs(values), values)
            points[name] = np.where(rng.random(shape) < 0.2, rng.choice(SPECIAL, size=shape), values)
            # every third point takes the special values in turn, each input at its own place in the row
            third = points[name][::3]
            third[:] = np.resize(np.roll(SPECIAL, 5 * len(points)), len(third)).reshape(-1, *[1] * (len(shape) - 1))
            points[name] = as_assumed(points[name], node.attributes.get("known", frozenset()), rng)
    return points


def as_assumed(values: Array, known: frozenset[str], rng: np.random.Generator) -> Array:
    """`values` changed so that what is known of the input holds for them, exactly."""
    for word in sorted(known):
        kind, _, axis = word.partition(":")
        if axis:
            values = _along_axis(values, kind, int(axis), rng)
    words = {word for word in known if ":" not in word}
    return _as_matrix(values, words, rng) if words else values


def _along_axis(values: Array, kind: str, axis: int, rng: np.random.Generator) -> Array:
    """Parts of one: multiples of 1/64, or all of it in one place."""
    length = values.shape[axis]
    front = tuple(np.delete(values.shape, axis))
    whole = 64 if kind == "simplex" else 1
    parts = rng.multinomial(whole, rng.dirichlet(np.ones(length), front)) / whole
    return np.moveaxis(parts, -1, axis)


def _as_matrix(values: Array, words: set[str], rng: np.random.Generator) -> Array:
    symmetric = bool(words & {"symmetric", "positive_definite"})
    lower, upper = "lower_triangular" in words, "upper_triangular" in words
    diagonal = "diagonal" in words or (lower and upper) or (symmetric and (lower or upper))
    n = values.shape[-1]
    if "orthogonal" in words:  # matrices of which floats hold the elements: rows of the identity, with signs
        signs: Array = np.where(rng.random(values.shape[:-1]) < 0.5, -1.0, 1.0)
        order = np.arange(n) if symmetric or diagonal or lower or upper else rng.permutation(n)
        signs = np.ones_like(signs) if "positive_definite" in words else signs
        permuted: Array = signs[..., None] * np.eye(n)[order]
        return permuted
    if "positive_definite" in words:
        factor = np.asarray(rng.normal(size=values.shape))
        values = factor @ np.swapaxes(factor, -1, -2) + np.eye(n)
    if symmetric:
        values = (values + np.swapaxes(values, -1, -2)) / 2
    if diagonal or lower:
        values = np.tril(values)
    return np.triu(values) if diagonal or upper else values


def take(points: dict[str, Array], rows: Any) -> dict[str, Array]:
    """Some of the points of a batch."""
    return {name: values[rows] for name, values in points.items()}


def elements(graph: Graph, points: dict[str, Array], most: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and subscripts of real elements of the inputs, at most `most`, spread over the inputs."""
    real = [graph[v].attributes["name"] for v in graph.inputs if graph[v].type.kind >= Kind.REAL]
    places = [[(name, at) for at in np.ndindex(points[name].shape[1:])] for name in real]
    turns = (place[k] for k in range(max(map(len, places), default=0)) for place in places if k < len(place))
    for _, element in zip(range(most), turns, strict=False):
        yield element
