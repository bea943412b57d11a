"""A matrix that is held as sums of products of small tensors, with the operations that never make it large."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sym2tf.errors import ArgumentError, ShapeError
from sym2tf.lazy import lazy

tf = lazy("tensorflow")

Letters = tuple[int, ...]
NAMES = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, eq=False)
class FactoredTerm:
    """The product of factors and unit tensors, summed over every letter that neither rows nor columns have.

    Attributes:
        factors: tensors, batch axes in front, each with one letter for each of its core axes.
        names: of the factors, for people.
        rows: letters of the row axes; all letters of rows and columns differ.
        columns: letters of the column axes.
        units: pairs of these that must be equal; only the first of the two is in a factor.
        lengths: of the axes with each letter.
    """

    factors: tuple[tuple[Any, Letters], ...]
    names: tuple[str, ...]
    rows: Letters
    columns: Letters
    units: tuple[tuple[int, int], ...]
    lengths: Mapping[int, int]

    def __str__(self) -> str:
        name = dict(zip(self._letters(), NAMES, strict=False))
        parts = [
            f"{text}[{', '.join(name[c] for c in letters)}]" if letters else text
            for text, (_, letters) in zip(self.names, self.factors, strict=True)
        ]
        parts += [f"I[{name[a]}, {name[b]}]" for a, b in self.units]
        index = ", ".join(name[c] for c in (*self.rows, *self.columns))
        return f"[{index}]: {' * '.join(parts) or '1'}"

    @property
    def summed(self) -> list[int]:
        """The letters that are summed."""
        outside = {*self.rows, *self.columns}
        return [c for c in dict.fromkeys(c for _, own in self.factors for c in own) if c not in outside]

    def is_unit(self, axis: int) -> bool:
        """Whether row and column are equal along an axis wherever it is not zero."""
        row, column = self.rows[axis], self.columns[axis]
        return (row, column) in self.units or self.lengths[row] == self.lengths[column] == 1

    def contracted(
        self, output: Letters, rename: Mapping[int, int], dtype: Any, more: Sequence[tuple[Any, Letters]] = ()
    ) -> Any:
        """The term, times further tensors, with some letters taken for others, summed to the letters of `output`."""
        operands = [(t, tuple(rename.get(c, c) for c in own)) for t, own in (*self.factors, *more)]
        for a, b in ((rename.get(a, a), rename.get(b, b)) for a, b in self.units):
            if a != b:
                operands.append((tf.eye(self.lengths[a], dtype=dtype), (a, b)))
        have = {c for _, own in operands for c in own}
        operands += ((tf.ones(self.lengths[c], dtype), (c,)) for c in output if c not in have)
        return _einsum(operands, output, dtype)

    def _letters(self) -> list[int]:
        return list(dict.fromkeys((*self.rows, *self.columns, *self.summed)))


class FactoredMatrix:
    """A matrix of shape `(*rows, *columns)` as a sum of terms; what `f.hessian(compressed=True)` returns when called.

    `H @ v` multiplies by a tensor in the shape of the columns. Batch axes stand in front, as everywhere.

    Attributes:
        terms: the summands.
        shape: rows and columns, without batch axes.
        dtype: of the elements.
    """

    __array_ufunc__ = None  # NumPy arrays leave `@` to this class

    def __init__(
        self, terms: Sequence[FactoredTerm], rows: tuple[int, ...], columns: tuple[int, ...], dtype: Any
    ) -> None:
        self.terms = tuple(terms)
        self._rows, self._columns = rows, columns
        self.shape = (*rows, *columns)
        self.dtype = dtype

    def __repr__(self) -> str:
        lines = "".join(f"\n  {term}" for term in self.terms)
        return f"<matrix {self._rows} by {self._columns}, {self.structure}:{lines}>"

    @property
    def factors(self) -> list[Any]:
        """All tensors that it holds, each once."""
        return list({id(t): t for term in self.terms for t, _ in term.factors}.values())

    @cached_property
    def structure(self) -> str:
        """`zero`, `diagonal`, `blocks` (along some axes), `low rank plus diagonal`, or `dense`: how `solve` works."""
        if not self.terms:
            return "zero"
        if self._rows != self._columns:
            return "dense"
        if self._diagonal_axes:
            return "diagonal" if len(self._diagonal_axes) == len(self._rows) else "blocks"
        return "low rank plus diagonal" if self._low_rank is not None else "dense"

    # What it can do ---------------------------------------------------------------------------------------------

    def matvec(self, vector: Any) -> Any:
        """The product with a tensor of shape `(*batch, *columns)`; of shape `(*batch, *rows)`.

        Raises:
            ShapeError: the tensor has another core shape.
        """
        vector = self._tensor(vector, self._columns)
        parts = []
        for term in self.terms:
            rename = {b: a for a, b in term.units if a in term.rows and b in term.columns}
            parts.append(term.contracted(term.rows, rename, self.dtype, [(vector, term.columns)]))
        return self._total(parts, (*self._batch(vector, self._columns), *self._rows))

    def __matmul__(self, vector: Any) -> Any:
        return self.matvec(vector)

    def dense(self) -> Any:
        """The whole, of shape `(*batch, *rows, *columns)`."""
        parts = [term.contracted((*term.rows, *term.columns), {}, self.dtype) for term in self.terms]
        return self._total(parts, self.shape)

    def diagonal(self) -> Any:
        """The elements whose row is their column, of shape `(*batch, *rows)`.

        Raises:
            ShapeError: it is not square.
        """
        self._require_square("a diagonal")
        parts = [_on_diagonal(term, range(len(self._rows)), term.rows, self.dtype) for term in self.terms]
        return self._total(parts, self._rows)

    def solve(self, vector: Any) -> Any:
        """The x that the matrix takes to `vector`, in its shape.

        By division where it is diagonal, block by block where it is diagonal along some axes (one factorisation where
        all blocks are the same, as in a Kronecker product), by the Woodbury identity where it is a diagonal plus a
        matrix of low rank (the diagonal alone must have no zeros), and else from the whole matrix.

        Raises:
            ShapeError: it is not square, or the vector has another shape.
        """
        self._require_square("a solution")
        vector = self._tensor(vector, self._rows)
        return _SOLVERS[self.structure](self, vector)

    # How it does it ---------------------------------------------------------------------------------------------

    @cached_property
    def _diagonal_axes(self) -> tuple[int, ...]:
        """The axes along which row and column are equal in every term."""
        axes = range(len(self._rows))
        return tuple(k for k in axes if all(term.is_unit(k) for term in self.terms))

    @cached_property
    def _low_rank(self) -> tuple[list[FactoredTerm], list[FactoredTerm]] | None:
        """Terms that are diagonal and terms of low rank, if it is worth while; None otherwise."""
        axes = range(len(self._rows))
        diagonal = [term for term in self.terms if all(map(term.is_unit, axes))]
        others = [term for term in self.terms if not all(map(term.is_unit, axes))]
        rank = sum(math.prod(term.lengths[c] for c in term.summed) for term in others)
        if not diagonal or not all(map(_is_apart, others)) or 2 * rank > math.prod(self._rows):
            return None
        return diagonal, others

    def _tensor(self, value: Any, core: tuple[int, ...]) -> Any:
        tensor = tf.convert_to_tensor(value, self.dtype)
        rank = tensor.shape.rank
        if rank is None or rank < len(core) or not tensor.shape[rank - len(core) :].is_compatible_with(core):
            raise ShapeError(f"a matrix {self._rows} by {self._columns} and a vector of shape {tensor.shape}")
        return tensor

    def _batch(self, tensor: Any, core: tuple[int, ...]) -> Any:
        return tuple(tf.unstack(tf.shape(tensor))[: len(tensor.shape) - len(core)])

    def _total(self, parts: Sequence[Any], shape: tuple[Any, ...]) -> Any:
        return tf.add_n(parts) if parts else tf.zeros(shape, self.dtype)

    def _require_square(self, what: str) -> None:
        if self._rows != self._columns:
            raise ShapeError(f"{what} needs as many rows as columns: the matrix is {self._rows} by {self._columns}")

    def _by_division(self, vector: Any) -> Any:
        return vector / self.diagonal()

    def _by_blocks(self, vector: Any) -> Any:
        """`A[e, r, c] x[e, c] = v[e, r]`, or one factorisation where no block depends on e."""
        equal = self._diagonal_axes
        rest = [k for k in range(len(self._rows)) if k not in equal]
        size, count = math.prod(self._rows[k] for k in rest), math.prod(self._rows[k] for k in equal)
        same = not any(term.rows[k] in own for term in self.terms for k in equal for _, own in term.factors)
        parts = []
        for term in self.terms:
            front = () if same else tuple(term.rows[k] for k in equal)
            inner = (*(term.rows[k] for k in rest), *(term.columns[k] for k in rest))
            parts.append(_on_diagonal(term, equal, (*front, *inner), self.dtype))
        blocks = self._total(parts, ())
        batch = len(vector.shape) - len(self._rows)
        order = [*range(batch), *(batch + k for k in ((*rest, *equal) if same else (*equal, *rest)))]
        moved = tf.transpose(vector, order)
        front_shape = tf.shape(vector)[:batch]
        if same:
            matrix = _reshaped(blocks, 2 * len(rest), (size, size))
            right = tf.reshape(moved, tf.concat([front_shape, [size, count]], 0))
            solved = _solved(matrix, right)
        else:
            matrix = _reshaped(blocks, len(equal) + 2 * len(rest), (count, size, size))
            right = tf.reshape(moved, tf.concat([front_shape, [count, size, 1]], 0))
            solved = _solved(matrix, right)
        shape = [self._rows[k - batch] for k in order[batch:]]
        back = tf.reshape(solved, tf.concat([tf.shape(solved)[:-2] if same else tf.shape(solved)[:-3], shape], 0))
        found_batch = len(back.shape) - len(self._rows)
        inverse = [order.index(batch + k) - batch + found_batch for k in range(len(self._rows))]
        return tf.transpose(back, [*range(found_batch), *inverse])

    def _by_woodbury(self, vector: Any) -> Any:
        """(D + L R^T)^-1 v = u - D^-1 L (I + R^T D^-1 L)^-1 R^T u where u = D^-1 v.

        M. A. Woodbury, Inverting modified matrices, 1950.
        """
        assert self._low_rank is not None
        diagonal, others = self._low_rank
        size = math.prod(self._rows)
        inner = FactoredMatrix(diagonal, self._rows, self._columns, self.dtype)
        d = _reshaped(inner.diagonal(), len(self._rows), (size,))
        left = tf.concat(_broadcast([self._side(t, t.rows, t.columns, size) for t in others]), -1)
        right = tf.concat(_broadcast([self._side(t, t.columns, None, size) for t in others]), -1)
        v = _reshaped(vector, len(self._rows), (size, 1))
        scaled = left / d[..., None]
        u = v / d[..., None]
        small = tf.eye(left.shape[-1], dtype=self.dtype) + tf.linalg.matmul(right, scaled, transpose_a=True)
        x = u - tf.linalg.matmul(scaled, _solved(small, tf.linalg.matmul(right, u, transpose_a=True)))
        return _reshaped(x, 2, self._rows)

    def _side(self, term: FactoredTerm, own: Letters, without: Letters | None, size: int) -> Any:
        """The factors on one side as a matrix of shape (size, rank); those on neither side go with the rows."""
        summed = tuple(term.summed)
        factors = [
            (t, letters)
            for t, letters in term.factors
            if set(letters) & set(own) or (without is not None and not set(letters) & set(without))
        ]
        part = FactoredTerm(tuple(factors), (), own, (), (), term.lengths)
        whole = part.contracted((*own, *summed), {}, self.dtype)
        rank = math.prod(term.lengths[c] for c in summed)
        return _reshaped(whole, len(own) + len(summed), (size, rank))

    def _by_elimination(self, vector: Any) -> Any:
        size = math.prod(self._rows)
        matrix = _reshaped(self.dense(), 2 * len(self._rows), (size, size))
        return _reshaped(_solved(matrix, _reshaped(vector, len(self._rows), (size, 1))), 2, self._rows)

    def _of_zero(self, vector: Any) -> Any:
        raise ArgumentError("the matrix is zero: there is no solution")


_SOLVERS: dict[str, Callable[[FactoredMatrix, Any], Any]] = {
    "zero": FactoredMatrix._of_zero,
    "diagonal": FactoredMatrix._by_division,
    "blocks": FactoredMatrix._by_blocks,
    "low rank plus diagonal": FactoredMatrix._by_woodbury,
    "dense": FactoredMatrix._by_elimination,
}


def _is_apart(term: FactoredTerm) -> bool:
    """Whether no factor and no unit tensor joins rows and columns but through what is summed."""
    rows, columns = set(term.rows), set(term.columns)
    return not term.units and not any(rows.intersection(own) and columns.intersection(own) for _, own in term.factors)


def _on_diagonal(term: FactoredTerm, axes: Iterable[int], output: Letters, dtype: Any) -> Any:
    """The elements of a term whose row is their column along `axes`."""
    return term.contracted(output, {term.columns[k]: term.rows[k] for k in axes}, dtype)


def _einsum(operands: Sequence[tuple[Any, Letters]], output: Letters, dtype: Any) -> Any:
    if not operands:
        return tf.ones((), dtype)
    letters = dict.fromkeys(c for _, own in operands for c in own)
    name = dict(zip(letters, NAMES, strict=False))
    if len(name) < len(letters):
        raise ArgumentError(f"a product over {len(letters)} axes, of which {len(NAMES)} can be named")
    inputs = ",".join("..." + "".join(name[c] for c in own) for _, own in operands)
    return tf.einsum(f"{inputs}->...{''.join(name[c] for c in output)}", *(t for t, _ in operands))


def _reshaped(tensor: Any, rank: int, shape: tuple[int, ...]) -> Any:
    """The last `rank` axes as axes of lengths `shape`."""
    front = tf.shape(tensor)[: len(tensor.shape) - rank]
    fixed = tensor.shape[: len(tensor.shape) - rank]
    whole = tf.reshape(tensor, tf.concat([front, tf.constant(shape, tf.int32)], 0))
    return tf.ensure_shape(whole, [*fixed, *shape])


def _broadcast(tensors: Sequence[Any]) -> list[Any]:
    """Matrices with one batch shape."""
    fronts = [tuple(t.shape[:-2]) for t in tensors]
    if len(set(fronts)) == 1 and None not in fronts[0]:
        return list(tensors)
    batch = tf.shape(tensors[0])[:-2]
    for t in tensors[1:]:
        batch = tf.broadcast_dynamic_shape(batch, tf.shape(t)[:-2])
    return [tf.broadcast_to(t, tf.concat([batch, tf.shape(t)[-2:]], 0)) for t in tensors]


def _solved(matrix: Any, right: Any) -> Any:
    """`tf.linalg.solve`, whose operands must have equal batch shapes."""
    return tf.linalg.solve(*_broadcast([matrix, right]))
