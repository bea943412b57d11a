"""How a sparse derivative is computed at given sizes: which entries there are, and by which directions they are had."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sym2tf.autodiff.colouring import Colouring, columns_apart, single_places, stars
from sym2tf.autodiff.derivatives import name_of
from sym2tf.autodiff.sparsity import dependencies
from sym2tf.autodiff.sweeps import Mode
from sym2tf.ir.dims import Size, evaluate_size
from sym2tf.ir.graph import Graph

Array = np.ndarray[Any, Any]


class Pattern(NamedTuple):
    """Where the entries of one block can be nonzero, in row-major order.

    Attributes:
        rows: number of the output element of each entry.
        columns: number of the input element.
        shape: elements of the output, elements of the input.
    """

    rows: Array
    columns: Array
    shape: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Plan:
    """How the entries are computed at given sizes.

    Attributes:
        patterns: of each block, by the name of its derivative.
        slices: of each block in the vector of entries.
        mode: by which derivatives; see `sweeps`.
        single: one direction, all of ones.
        picked: the entries are gathered from the answers; else they are the answers.
        count: how many directions it takes.
        colours: the colour of each element of the inputs (mode `columns`) or outputs (`rows`), one after the other.
        places: where each entry stands in the answers.
    """

    patterns: dict[str, Pattern]
    slices: dict[str, slice]
    mode: Mode
    single: bool
    picked: bool
    count: int
    colours: Array
    places: Array


class _Blocks(NamedTuple):
    """The matrix of all outputs by all inputs, one after the other.

    Attributes:
        tops: the first row of each output, and the end.
        lefts: the first column of each input, and the end.
        rows: of all entries, block by block, outputs outside.
        columns: of all entries.
        row: number of the output of each entry.
        column: number of the input.
    """

    tops: Array
    lefts: Array
    rows: Array
    columns: Array
    row: Array
    column: Array

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.tops[-1]), int(self.lefts[-1])


@dataclass(frozen=True, eq=False)
class _Directions:
    mode: Mode
    count: int
    colours: Array
    places: Array


def make_plan(
    graph: Graph, wrt: Sequence[int], sizes: Mapping[str, int], data: Mapping[str, Array], *, symmetric: bool
) -> Plan:
    """The plan for the Jacobian of all outputs by all of `wrt`.

    Args:
        graph: what is differentiated; optimised, so that products under sums are einsums.
        wrt: input nodes of it.
        sizes: numbers for all size symbols.
        data: values of integer and Boolean inputs, by name.
        symmetric: it is a Hessian: the outputs are the derivatives of one scalar by each of `wrt`.

    Raises:
        ResourceLimitError: the derivative is dense, and too large to list.
    """
    inputs = [_numbers(graph[v].type.shape, sizes) for v in wrt]
    outputs = [_numbers(graph[v].type.shape, sizes) for v in graph.outputs.values()]
    entries = [incidence.pairs() for incidence in dependencies(graph, wrt, sizes, data).values()]
    blocks = _blocks(entries, outputs, inputs, symmetric=symmetric)
    chosen = _directions(blocks, symmetric=symmetric)
    count = len(inputs)
    ends = np.searchsorted(blocks.row * count + blocks.column, np.arange(len(outputs) * count + 1))
    patterns, slices = {}, {}
    for j, name in enumerate(graph.outputs):
        for k in range(count):
            part = slice(int(ends[j * count + k]), int(ends[j * count + k + 1]))
            rows, columns = blocks.rows[part] - blocks.tops[j], blocks.columns[part] - blocks.lefts[k]
            rows.flags.writeable = columns.flags.writeable = False
            shape = math.prod(outputs[j]), math.prod(inputs[k])
            patterns[name_of(name, k)], slices[name_of(name, k)] = Pattern(rows, columns, shape), part
    height, width = blocks.shape
    answers = height * width if chosen.mode == "dense" else chosen.count * (width if chosen.mode == "rows" else height)
    dense = chosen.mode == "dense"
    return Plan(
        patterns=patterns,
        slices=slices,
        mode=chosen.mode,
        single=chosen.count == 1 and not dense,
        picked=len(chosen.places) != answers or not np.array_equal(chosen.places, np.arange(answers)),
        count=chosen.count,
        colours=chosen.colours,
        places=chosen.places,
    )


def _numbers(shape: Sequence[Size], sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(evaluate_size(d, sizes) for d in shape)


def _blocks(
    entries: Sequence[tuple[Array, Array]],
    outputs: Sequence[tuple[int, ...]],
    inputs: Sequence[tuple[int, ...]],
    *,
    symmetric: bool,
) -> _Blocks:
    tops = np.cumsum([0, *map(math.prod, outputs)])
    lefts = np.cumsum([0, *map(math.prod, inputs)])
    rows = np.concatenate([_EMPTY, *(r + top for (r, _), top in zip(entries, tops[:-1], strict=True))])
    columns = np.concatenate([_EMPTY, *(c for _, c in entries)])
    if symmetric:  # each of the two sides may have been found to be zero in another way
        size = max(1, int(lefts[-1]))
        keys = np.unique(np.concatenate([rows * size + columns, columns * size + rows]))
        rows, columns = keys // size, keys % size
    row = np.searchsorted(tops, rows, side="right") - 1
    column = np.searchsorted(lefts, columns, side="right") - 1
    order = np.argsort(row * len(inputs) + column, kind="stable")
    return _Blocks(tops, lefts, rows[order], columns[order], row[order], column[order])


def _directions(blocks: _Blocks, *, symmetric: bool) -> _Directions:
    """Along columns or along rows, whichever takes fewer colours; all at once where that saves nothing."""
    rows, columns = blocks.rows, blocks.columns
    height, width = blocks.shape
    if 2 * len(rows) >= height * width and len(rows) > height + width:
        return _whole(blocks)
    if symmetric:
        colours, count = stars(rows, columns, width)
        at, colour = single_places(rows, columns, colours)
        found = _Directions("columns", max(1, count), colours, colour * height + at)
    else:
        mode, (colours, count) = _fewest(rows, columns, (height, width))
        places = colours[columns] * height + rows if mode == "columns" else colours[rows] * width + columns
        found = _Directions(mode, max(1, count), colours, places)
    return _whole(blocks) if found.count >= min(height, width) > 1 else found


def _fewest(rows: Array, columns: Array, shape: tuple[int, int]) -> tuple[Mode, Colouring]:
    fullest_row = int(np.bincount(rows, minlength=1).max(initial=0))  # the columns take no fewer colours
    fullest_column = int(np.bincount(columns, minlength=1).max(initial=0))
    if fullest_row <= fullest_column:
        along = columns_apart(rows, columns, shape)
        if along.number <= fullest_column:
            return "columns", along
        back = columns_apart(columns, rows, shape[::-1])
    else:
        back = columns_apart(columns, rows, shape[::-1])
        if back.number < fullest_row:
            return "rows", back
        along = columns_apart(rows, columns, shape)
    return ("columns", along) if along.number <= back.number else ("rows", back)


def _whole(blocks: _Blocks) -> _Directions:
    """The whole Jacobian: its blocks, flat, one after the other."""
    heights, widths = np.diff(blocks.tops), np.diff(blocks.lefts)
    firsts = np.cumsum([0, *np.outer(heights, widths).ravel()])
    down = blocks.rows - blocks.tops[blocks.row]
    across = blocks.columns - blocks.lefts[blocks.column]
    places = firsts[blocks.row * len(widths) + blocks.column] + down * widths[blocks.column] + across
    return _Directions("dense", min(blocks.shape), _EMPTY, places)


_EMPTY = np.zeros(0, np.int64)
