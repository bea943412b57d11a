"""Which columns of a sparse derivative can share one directional derivative.

A seed that is the sum of basis vectors whose columns have no row in common gives all their entries at once, so the
number of colours is the number of sweeps. Source: A. Gebremedhin, F. Manne, A. Pothen, What color is your Jacobian?
Graph coloring for computing derivatives, SIAM Review 47 (2005); for Hessians A. Gebremedhin, A. Tarafdar, F. Manne,
A. Pothen, New acyclic and star coloring algorithms with application to computing Hessians, SIAM J. Sci. Comput. 29
(2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Colouring(NamedTuple):
    """A colour for each column, counted from zero; columns without entries have colour 0."""

    colours: Array
    number: int


def columns_apart(rows: Array, columns: Array, shape: tuple[int, int]) -> Colouring:
    """Columns that have a row in common get different colours, greedily; linear in the entries.

    Tried in the order of the columns and, where that takes more colours than the longest row has entries (the least
    that is possible), again with the fullest columns first.
    """
    lengths = np.bincount(columns, minlength=shape[1])
    least = int(np.bincount(rows, minlength=1).max(initial=0))
    starts = _starts(lengths)
    members = rows[np.argsort(columns, kind="stable")]
    found = _greedy(members, starts, range(shape[1]), shape)
    if found.number > max(1, least):
        order = np.argsort(-lengths, kind="stable").tolist()
        found = min(found, _greedy(members, starts, order, shape), key=lambda c: c.number)
    return found


def stars(rows: Array, columns: Array, size: int) -> Colouring:
    """A star colouring of a symmetric pattern: no path of four vertices has two colours only, and neighbours differ.

    Then each entry (i, j) is the only one of its colour in its row, or (j, i) in its row is. An arrow takes two,
    whatever its size.
    """
    off = rows != columns
    rows, columns = rows[off], columns[off]
    order = np.lexsort((columns, rows))
    starts = _starts(np.bincount(rows, minlength=size))
    neighbours = columns[order]
    return min((_stars(neighbours, starts, vertices) for vertices in _orders(np.diff(starts))), key=lambda c: c.number)


def single_places(rows: Array, columns: Array, colours: Array) -> tuple[Array, Array]:
    """Where each entry of a star-coloured symmetric matrix stands alone: its row, and the colour it has there."""
    span = int(colours.max(initial=0)) + 1
    _, inverse, counts = np.unique(rows * span + colours[columns], return_inverse=True, return_counts=True)
    alone = counts[inverse] == 1
    return np.where(alone, rows, columns), colours[np.where(alone, columns, rows)]


def _starts(lengths: Array) -> list[int]:
    return [0, *np.cumsum(lengths).tolist()]


def _orders(degrees: Array) -> list[Sequence[int]]:
    return [range(len(degrees)), np.argsort(-degrees, kind="stable").tolist()]


def _greedy(members: Array, starts: list[int], order: Sequence[int], shape: tuple[int, int]) -> Colouring:
    """Each column in turn gets the first colour that no row of it has yet; a row's colours are the bits of a number."""
    listed = members.tolist()
    taken = [0] * shape[0]
    colours = [0] * shape[1]
    for j in order:
        own = listed[starts[j] : starts[j + 1]]
        forbidden = 0
        for i in own:
            forbidden |= taken[i]
        bit = ~forbidden & (forbidden + 1)
        colours[j] = bit.bit_length() - 1
        for i in own:
            taken[i] |= bit
    return Colouring(np.array(colours, np.int64), max(colours, default=-1) + 1)


def _stars(neighbours: Array, starts: list[int], order: Sequence[int]) -> Colouring:
    """Greedy star colouring, linear in the edges; sets of colours are the bits of numbers.

    A vertex v must not take a colour c that closes a path of four: as its end (v, w, x, y: x has colour c, and y that
    of w), or inside it (w, v, x, y: x has the colour of w, and y colour c).
    """
    size = len(starts) - 1
    listed = neighbours.tolist()
    colour = [0] * size  # as a bit; 0: none yet
    seen = [0] * size  # colours of the neighbours
    repeated = [0] * size  # those that two neighbours or more have
    closed = [0] * size  # colours of neighbours that have another neighbour of this vertex's own colour
    first: dict[tuple[int, int], int] = {}  # the first neighbour of a vertex with a colour
    for v in order:
        around = listed[starts[v] : starts[v + 1]]
        forbidden = seen[v]
        for w in around:
            if colour[w]:
                forbidden |= closed[w]
                if colour[w] & repeated[v]:
                    forbidden |= seen[w]
        bit = ~forbidden & (forbidden + 1)
        colour[v] = bit
        for w in around:
            if colour[w] & repeated[v]:
                closed[w] |= bit
            if seen[w] & bit:
                if not repeated[w] & bit:
                    repeated[w] |= bit
                    closed[first[w, bit]] |= colour[w]
                closed[v] |= colour[w]
            else:
                seen[w] |= bit
                first[w, bit] = v
    colours = np.array([c.bit_length() - 1 for c in colour], np.int64)
    return Colouring(np.maximum(colours, 0), int(colours.max(initial=-1)) + 1)
