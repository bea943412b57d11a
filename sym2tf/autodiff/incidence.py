"""For each element of a tensor the set of input elements that it reads: a Boolean sparse matrix, row by row.

A row that reads every element of an input says so with one mark instead of a list, so that a sum over 100,000
elements that is broadcast again costs nothing. Columns are the elements of the inputs one after the other, and behind
them one column for each input, which is its mark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.errors import ResourceLimitError
from sym2tf.lazy import lazy

scipy_sparse = lazy("scipy.sparse")

Array = np.ndarray[Any, Any]
LIMIT = 100_000_000  # entries of one matrix: some gigabytes
_WORTH_A_MARK = 8  # elements of an input below which a list is as good


@dataclass(frozen=True)
class Columns:
    """The columns: how many elements each input has."""

    widths: tuple[int, ...]

    @property
    def elements(self) -> int:
        """The elements of all inputs together."""
        return sum(self.widths)

    @property
    def count(self) -> int:
        """Elements and marks."""
        return self.elements + len(self.widths)

    @property
    def offsets(self) -> Array:
        """The first column of each input, and the end."""
        return np.cumsum((0, *self.widths))


@dataclass(frozen=True, eq=False)
class Incidence:
    """Rows as compressed sparse rows: row `k` holds `members[starts[k]:starts[k + 1]]`, in increasing order."""

    starts: Array
    members: Array
    columns: Columns

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, index: Array) -> Incidence:
        """The rows at `index`; -1 is an empty row."""
        lengths = np.append(np.diff(self.starts), 0)[index]  # -1 is the last
        total = int(lengths.sum())
        require(total)
        starts = np.zeros(len(index) + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        places = np.repeat(self.starts[index] - starts[:-1], lengths) + np.arange(total)
        return Incidence(starts, self.members[places], self.columns)

    def grouped(self, labels: Array, count: int) -> Incidence:
        """`count` rows, each the union of the rows that have its number as label."""
        if count == 1:
            return _single(np.unique(self.members), self.columns).marked()
        ones = np.ones(len(labels), bool)
        which = scipy_sparse.csr_matrix((ones, (labels, np.arange(len(labels)))), shape=(count, len(self)))
        return _from_scipy(which @ self._scipy(), self.columns).marked()

    def marked(self) -> Incidence:
        """The same with a mark in place of every complete list of the elements of an input."""
        widths = np.asarray(self.columns.widths)
        least = min((w for w in self.columns.widths if w >= _WORTH_A_MARK), default=0)
        lengths = np.diff(self.starts)
        if not least or not np.any(lengths >= least):
            return self
        rows = np.repeat(np.arange(len(self)), lengths)
        element = self.members < self.columns.elements
        owner = np.searchsorted(self.columns.offsets, self.members, side="right") - 1
        owner[~element] = 0
        keys = rows * len(widths) + owner
        found, place, counts = np.unique(keys[element], return_inverse=True, return_counts=True)
        full = (counts == widths[found % len(widths)]) & (counts >= _WORTH_A_MARK)
        if not np.any(full):
            return self
        listed = np.ones(len(self.members), bool)
        listed[element] = ~full[place]
        marks = found[full]
        return _from_pairs(
            np.concatenate([rows[listed], marks // len(widths)]),
            np.concatenate([self.members[listed], self.columns.elements + marks % len(widths)]),
            len(self),
            self.columns,
        )

    def pairs(self) -> tuple[Array, Array]:
        """Rows and columns of all entries, marks spelled out, in row-major order."""
        rows = np.repeat(np.arange(len(self)), np.diff(self.starts))
        mark = self.members - self.columns.elements
        if not np.any(mark >= 0):
            return rows, self.members.astype(np.int64)
        widths, offsets = np.asarray(self.columns.widths), self.columns.offsets
        owners = mark[mark >= 0]
        require(int(widths[owners].sum()) + len(rows))
        spelled = [np.arange(offsets[k], offsets[k + 1]) for k in owners]
        rows_of_marks = np.repeat(rows[mark >= 0], widths[owners])
        all_ = _from_pairs(
            np.concatenate([rows[mark < 0], rows_of_marks]),
            np.concatenate([self.members[mark < 0], *spelled]),
            len(self),
            self.columns,
        )
        return np.repeat(np.arange(len(self)), np.diff(all_.starts)), all_.members.astype(np.int64)

    def _scipy(self) -> Any:
        ones = np.ones(len(self.members), bool)
        return scipy_sparse.csr_matrix((ones, self.members, self.starts), shape=(len(self), self.columns.count))


def own(columns: Columns, which: int) -> Incidence:
    """Each element of input number `which` reads itself."""
    start, width = columns.offsets[which], columns.widths[which]
    return Incidence(np.arange(width + 1), np.arange(start, start + width), columns)


def union(parts: Sequence[Incidence]) -> Incidence | None:
    """Row by row what any of `parts` reads; None for no parts."""
    distinct = list({id(part): part for part in parts}.values())
    if len(distinct) <= 1:
        return distinct[0] if distinct else None
    columns = distinct[0].columns
    if len(distinct[0]) == 1:
        return _single(np.unique(np.concatenate([part.members for part in distinct])), columns)
    total = distinct[0]._scipy()
    for part in distinct[1:]:
        total = total + part._scipy()
    require(total.nnz)
    return _from_scipy(total, columns)


def stacked(parts: Sequence[Incidence]) -> Incidence:
    """The rows of all parts, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    shifts = np.cumsum([0, *(p.starts[-1] for p in parts[:-1])])
    starts = [p.starts[:-1] + shift for p, shift in zip(parts, shifts, strict=True)]
    members = np.concatenate([p.members for p in parts])
    return Incidence(np.concatenate([*starts, [len(members)]]), members, parts[0].columns)


def nothing(rows: int, columns: Columns) -> Incidence:
    """Rows that read nothing."""
    return Incidence(np.zeros(rows + 1, np.int64), np.zeros(0, np.int64), columns)


def elements_of(shape: Sequence[int]) -> int:
    """How many elements a tensor has.

    Raises:
        ResourceLimitError: more than can be numbered.
    """
    count = math.prod(shape)
    require(count)
    return count


def require(count: int) -> None:
    """Refuse what would fill the memory.

    Raises:
        ResourceLimitError: more than `LIMIT` entries.
    """
    if count > LIMIT:
        raise ResourceLimitError(
            f"the structure has {count:,} entries, more than {LIMIT:,}: the derivative is dense, or goes through a "
            "tensor of that size; use hvp, jvp or vjp, or compressed=True"
        )


def _single(members: Array, columns: Columns) -> Incidence:
    return Incidence(np.array([0, len(members)]), members, columns)


def _from_scipy(matrix: Any, columns: Columns) -> Incidence:
    matrix.sort_indices()
    return Incidence(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), columns)


def _from_pairs(rows: Array, members: Array, count: int, columns: Columns) -> Incidence:
    ones = np.ones(len(rows), bool)
    matrix = scipy_sparse.coo_matrix((ones, (rows, members)), shape=(count, columns.count)).tocsr()
    matrix.sum_duplicates()
    return _from_scipy(matrix, columns)
