"""What each row reads: for every element of its result the input elements that the derivative can be nonzero by.

A table from row to rule. A rule gets what is known of the operands, the attributes with numbers for sizes, and the core
shape of the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sym2tf.autodiff.incidence import Incidence, elements_of, stacked, union
from sym2tf.ir.op import Op
from sym2tf.ops import (
    assembly,
    contraction,
    correlation,
    decompositions,
    gathering,
    indexing,
    linalg,
    logic,
    piecewise_linear,
)
from sym2tf.ops.leaves import const

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Rule = Callable[[Sequence["Fact"], Mapping[str, Any], Shape], Incidence]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
EVALUATED = 10_000_000  # elements of a value that is worth computing for its zeros


class Fact(NamedTuple):
    """What is known of a node.

    Attributes:
        op: its row.
        shape: its core shape.
        reads: for each element the input elements that it depends on; None: on none.
        support: False where it is zero for all inputs; None: nowhere for certain.
        known: its value, where sizes and index data determine it; with batch axes in front if those have some.
    """

    op: Op
    shape: Shape
    reads: Incidence | None = None
    support: Array | None = None
    known: Array | None = None


def mask_of(x: Fact) -> Array:
    """Where a value can be other than zero."""
    return np.ones(x.shape, bool) if x.support is None else x.support


def elementwise(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
    """Each element reads what the elements of the operands at its place read."""
    return _union([_stretched(x.reads, x.shape, shape) for x in xs if x.reads is not None])


def choice(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
    """`select`: only what can be chosen."""
    parts = []
    for x, possible in zip(xs[1:], choices(xs[0], shape), strict=True):
        if x.reads is not None:
            places = np.where(possible, _numbers(x.shape, shape), -1)
            parts.append(x.reads.take(places.ravel()))
    return _union(parts)


def movement(op: Op) -> Rule:
    """Rows that only move elements: the row's own implementation moves the numbers of the elements."""

    def reads(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
        numbers, parts, first = [], [], 1
        for x in xs:
            if x.reads is None:
                numbers.append(np.zeros(x.shape, np.int64))  # zero is also what padding puts in
                continue
            count = elements_of(x.shape)
            numbers.append(np.arange(first, first + count).reshape(x.shape))
            parts.append(x.reads)
            first += count
        places = np.asarray(op.numpy(*numbers, **attributes))  # type: ignore[misc]
        return stacked(parts).take(places.ravel() - 1)

    return reads


def total(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
    """Reductions over `axes` (or one `axis`)."""
    (x,) = xs
    return _required(x).grouped(_labels(x.shape, _axes(attributes)), elements_of(shape))


def along(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
    """Each element reads all of its line (`axes`, or the last axis) and the shape stays."""
    (x,) = xs
    axes = _axes(attributes) or (-1,)
    kept = tuple(1 if k - len(shape) in axes else d for k, d in enumerate(shape))
    lines = _required(x).grouped(_labels(x.shape, axes), elements_of(kept))
    return _stretched(lines, kept, shape)


def taken(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
    """`gather`: the elements that the index says; with a batch of indices those of any of them."""
    x, index = xs
    reads = _required(x)
    if index.known is None:
        axis = attributes["axis"]
        lines = reads.grouped(_labels(x.shape, (axis,)), elements_of(x.shape) // max(1, x.shape[axis]))
        at = len(x.shape) + axis
        ones = (1,) * len(index.shape)
        return _stretched(lines, (*x.shape[:at], *ones, *x.shape[at + 1 :]), shape)
    numbers = np.arange(elements_of(x.shape)).reshape(x.shape)
    places = np.asarray(gathering.gather.numpy(numbers, index.known, **attributes))  # type: ignore[misc]
    count = elements_of(shape)
    if places.size == count:
        return reads.take(places.ravel())
    labels = np.tile(np.arange(count), places.size // max(1, count))
    return reads.take(places.ravel()).grouped(labels, count)


def scattered(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
    """`scatter_add`: an element reads those whose index is its number."""
    x, index = xs
    if index.known is None:
        return everything(xs, attributes, shape)
    numbers = np.arange(elements_of(shape)).reshape(shape)
    places = {"axis": attributes["axis"], "core": len(shape), "rank": attributes["rank"]}
    labels = np.asarray(gathering.gather.numpy(numbers, index.known, **places))  # type: ignore[misc]
    repeats = labels.size // max(1, elements_of(x.shape))
    reads = _required(x)
    if repeats > 1:
        reads = reads.take(np.tile(np.arange(len(reads)), repeats))
    return reads.grouped(labels.ravel(), elements_of(shape))


def running(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
    """`cumsum`: all elements on one side."""
    (x,) = xs
    axis, count = attributes["axis"], shape[attributes["axis"]]
    after, before = np.tril_indices(count, -1 if attributes["exclusive"] else 0)
    rows, sources = (before, after) if attributes["reverse"] else (after, before)
    numbers = np.moveaxis(np.arange(elements_of(shape)).reshape(shape), axis, 0).reshape(count, -1)
    elements_of((len(rows), numbers.shape[-1]))
    reads = _required(x).take(numbers[sources].ravel())
    return reads.grouped(numbers[rows].ravel(), elements_of(shape))


def block(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
    """Linear algebra: every element of a matrix reads the whole matrix at the same place of the axes in front."""
    parts = []
    for x in xs:
        if x.reads is not None:
            front = x.shape[:-2]
            whole = x.reads.grouped(_labels(x.shape, (-2, -1)), elements_of(front))
            parts.append(_stretched(whole, (*front, *(1,) * (len(shape) - len(front))), shape))
    return _union(parts)


def solution(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
    """A matrix equation: all of the matrix (and its factors), and of the right side the same column."""
    *matrices, b = xs
    parts = [block([a], attributes, shape) for a in matrices if a.reads is not None]
    if b.reads is not None:
        kept = (*b.shape[:-2], 1, b.shape[-1])
        parts.append(_stretched(b.reads.grouped(_labels(b.shape, (-2,)), elements_of(kept)), kept, shape))
    return _union(parts)


def everything(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
    """A row of which nothing is known here: every element reads all that the operands read."""
    parts = [x.reads.grouped(np.zeros(len(x.reads), np.int64), 1) for x in xs if x.reads is not None]
    return _union(parts).take(np.zeros(elements_of(shape), np.int64))


def product(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
    """`einsum`: for each factor, what it reads over the letters that the output lacks.

    The identity matrix renames a letter; a factor with known zeros leaves out what it multiplies by them.
    """
    factors, output, equal = _without_identities(xs, attributes["inputs"], attributes["output"])
    lengths = einsum_lengths([x for x, _ in factors], [letters for _, letters in factors])
    lengths.update({c: d for c, d in zip(output, shape, strict=True) if lengths.get(c, 1) == 1})
    own_letters = "".join(dict.fromkeys(output))
    due = tuple(lengths[c] for c in own_letters)
    parts = []
    for k, (x, letters) in enumerate(factors):
        if x.reads is not None:
            others = [f for j, f in enumerate(factors) if j != k and f[0].support is not None]
            parts.append(_factor_reads(x, letters, own_letters, lengths, others))
    found = _union(parts)
    if not equal:
        return found
    numbers = np.zeros(shape, np.int64)  # a letter twice in the output: the diagonal, zeros beside it
    np.einsum(numbers, [LETTERS.index(c) for c in output], [LETTERS.index(c) for c in own_letters])[...] = np.arange(
        1, 1 + elements_of(due)
    ).reshape(due)
    return found.take(numbers.ravel() - 1)


def _factor_reads(
    x: Fact, letters: str, output: str, lengths: Mapping[str, int], others: Sequence[tuple[Fact, str]]
) -> Incidence:
    """What one factor of an einsum gives each element of the output, whose letters are distinct."""
    distinct = "".join(dict.fromkeys(letters))
    numbers = np.arange(elements_of(x.shape)).reshape(x.shape)
    numbers = np.einsum(numbers, [LETTERS.index(c) for c in letters], [LETTERS.index(c) for c in distinct])
    reads = _required(x)
    for other, its in others:
        found = _through_zeros(reads, numbers, distinct, output, lengths, mask_of(other), its)
        if found is not None:
            return found
    kept = "".join(c for c in distinct if c in output)
    axes = tuple(k - len(distinct) for k, c in enumerate(distinct) if c not in kept)
    reads = reads.take(numbers.ravel())
    small = tuple(d for d, c in zip(numbers.shape, distinct, strict=True) if c in kept)
    if axes:
        reads = reads.grouped(_labels(numbers.shape, axes), elements_of(small))
    places = np.arange(elements_of(small)).reshape(small)
    order = sorted(range(len(kept)), key=lambda k: output.index(kept[k]))
    places = places.transpose(order)
    for k, c in enumerate(output):
        if c not in kept:
            places = np.expand_dims(places, k)
    return reads.take(np.broadcast_to(places, [lengths[c] for c in output]).ravel())


def _through_zeros(
    reads: Incidence, numbers: Array, letters: str, output: str, lengths: Mapping[str, int], mask: Array, its: str
) -> Incidence | None:
    """What a factor gives where another one is not zero: each place of the output and the element that it reads there.

    None where that other factor is of no use: its letters repeat, or there are too many places.
    """
    rest = [c for c in dict.fromkeys(letters + output) if c not in its]
    spread = [lengths[c] for c in rest]
    nonzero = np.nonzero(mask)
    count = len(nonzero[0])
    if len(set(its)) < len(its) or mask.shape != tuple(lengths[c] for c in its):
        return None
    if count * product_of(spread) > EVALUATED:
        return None
    grids = np.indices(spread).reshape(len(rest), 1, product_of(spread))
    at = {c: nonzero[k][:, None] for k, c in enumerate(its)} | {c: grids[k] for k, c in enumerate(rest)}
    place, source = np.zeros((count, product_of(spread)), np.int64), np.zeros((count, product_of(spread)), np.int64)
    for c in output:
        place = place * lengths[c] + at[c]
    for c, d in zip(letters, numbers.shape, strict=True):
        source = source * d + (at[c] if d > 1 else 0)
    return reads.take(numbers.ravel()[source.ravel()]).grouped(place.ravel(), elements_of([lengths[c] for c in output]))


def _without_identities(
    xs: Sequence[Fact], inputs: Sequence[str], output: str
) -> tuple[list[tuple[Fact, str]], str, bool]:
    """Factors and output with the letters that identity matrices make equal; whether the output has one twice."""
    factors = list(zip(xs, inputs, strict=True))
    while True:
        units = [k for k, (x, s) in enumerate(factors) if x.op is assembly.eye and s[0] != s[1]]
        if not units:
            return factors, output, len(set(output)) < len(output)
        x, letters = factors.pop(units[0])
        new, old = letters[0], letters[1]
        factors = [(f, s.replace(old, new)) for f, s in factors]
        output = output.replace(old, new)
        if not any(new in s for _, s in factors):
            factors.append((x._replace(shape=x.shape[:1], support=None, known=None, op=const), new))


def windows(xs: Sequence[Fact], attributes: Mapping[str, Any], shape: Shape) -> Incidence:
    """`correlate`: each element a window of all channels of the data, and the kernels of its output."""
    x, k = xs
    dims = attributes["dims"]
    offsets = k.shape[-dims:]
    stretch = math.prod((*offsets, k.shape[-dims - 1]))
    elements_of((*shape, stretch))
    parts = []
    if x.reads is not None:
        numbers = np.arange(elements_of(x.shape)).reshape(x.shape)
        inside = np.lib.stride_tricks.sliding_window_view(numbers, offsets, tuple(range(-dims, 0)))
        inside = np.moveaxis(inside, -2 * dims - 1, -1)[..., np.newaxis, *(slice(None),) * (2 * dims + 1)]
        parts.append((x.reads, np.broadcast_to(inside, (*shape, *offsets, k.shape[-dims - 1]))))
    if k.reads is not None:
        numbers = np.arange(elements_of(k.shape)).reshape(*k.shape[: -dims - 1], *(1,) * dims, -1)
        parts.append((k.reads, np.broadcast_to(numbers, (*shape, stretch))))
    rows = np.repeat(np.arange(elements_of(shape)), stretch)
    return _union([reads.take(places.ravel()).grouped(rows, elements_of(shape)) for reads, places in parts])


# The tables -----------------------------------------------------------------------------------------------------

STEPS = (piecewise_linear.sign, piecewise_linear.floor, piecewise_linear.ceiling)  # derivative zero
FILLING = (indexing.pad, gathering.dilate, assembly.diag)  # put zeros in
MOVEMENTS = (
    *(indexing.expand, indexing.squeeze, indexing.broadcast, indexing.slice_, indexing.pad, indexing.transpose),
    *(assembly.stack, assembly.concat, assembly.reshape, assembly.diag, gathering.stride, gathering.dilate),
)
READS: dict[Op, Rule] = {
    **{op: movement(op) for op in MOVEMENTS},
    **dict.fromkeys((indexing.sum_, contraction.logsumexp, contraction.prod), total),
    **dict.fromkeys((contraction.reduce_max, contraction.reduce_min), total),
    **dict.fromkeys((contraction.softmax, contraction.prod_others), along),
    logic.select: choice,
    gathering.gather: taken,
    gathering.scatter_add: scattered,
    gathering.cumsum: running,
    correlation.correlate: windows,
    contraction.einsum: product,
    **dict.fromkeys((*linalg.ROWS, *decompositions.ROWS), block),
    **dict.fromkeys((linalg.solve, linalg.triangular_solve, linalg.solve_factored), solution),
}
# Numbers of elements --------------------------------------------------------------------------------------------


def _numbers(shape: Shape, due: Shape) -> Array:
    """For each element of a result the number of the operand's element that it comes from by broadcasting."""
    return np.broadcast_to(np.arange(elements_of(shape)).reshape(shape), due)


def _stretched(reads: Incidence, shape: Shape, due: Shape) -> Incidence:
    if shape == due:
        return reads
    elements_of(due)
    return reads.take(_numbers(shape, due).ravel())


def _labels(shape: Shape, axes: Sequence[int]) -> Array:
    """For each element the number of the element of the result that it is reduced to."""
    kept = tuple(1 if k - len(shape) in axes else d for k, d in enumerate(shape))
    return _numbers(kept, shape).ravel()


def _axes(attributes: Mapping[str, Any]) -> tuple[int, ...]:
    if "axis" in attributes:
        return (attributes["axis"],)
    axes: tuple[int, ...] = attributes.get("axes", ())
    return axes


def choices(condition: Fact, shape: Shape) -> tuple[Array, Array]:
    """Where the first and where the second of two values can be chosen."""
    if condition.known is None:
        either = np.ones(shape, bool)
        return either, either
    rank = len(condition.shape)
    batch = tuple(range(condition.known.ndim - rank))
    ever, always = condition.known.any(axis=batch), condition.known.all(axis=batch)
    return np.broadcast_to(ever, shape), np.broadcast_to(~always, shape)


def einsum_lengths(xs: Sequence[Fact], inputs: Sequence[str]) -> dict[str, int]:
    """The length of the axes that each letter names; length 1 broadcasts."""
    lengths: dict[str, int] = {}
    for x, letters in zip(xs, inputs, strict=True):
        for c, d in zip(letters, x.shape, strict=True):
            if lengths.get(c, 1) == 1:
                lengths[c] = d
    return lengths


def _required(x: Fact) -> Incidence:
    assert x.reads is not None
    return x.reads


def _union(parts: Sequence[Incidence]) -> Incidence:
    found = union(parts)
    assert found is not None
    return found


def product_of(shape: Sequence[int]) -> int:
    """How many elements there are, of whatever number."""
    return math.prod(shape)
