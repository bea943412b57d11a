"""Writes a sum of a product of matrices and vectors with indices as a matrix product: `Sum(X[i, j]*r[i])` is `X.T*r`.

A factor is a matrix expression with a letter for its rows and one for its columns. Summed letters are eliminated one by
one: one that a single matrix holds makes it a vector, one that two matrices share makes them a product, one that closes
a circle a trace. Vectors at a letter where the chain goes on are diagonal matrices in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy as sp
from sympy.core.sorting import default_sort_key
from sympy.matrices.expressions.applyfunc import ElementwiseApplyFunction
from sympy.matrices.expressions.matexpr import MatrixElement

Letter = int


@dataclass(frozen=True)
class Factor:
    """A scalar (no letters), a column (rows alone), a row (columns alone) or a matrix, and the letters of its axes."""

    expression: Any
    rows: Letter | None = None
    columns: Letter | None = None


def multiplied(*factors: Any) -> Any:
    """The product of scalars and matrices. SymPy's `*` would work out scalars such as `(x.T*y)[0, 0]` to sums."""
    scale, matrices = sp.S.One, list[Any]()
    for factor in factors:
        c, product = factor.as_coeff_mmul() if factor.is_Matrix else (factor, None)
        scale *= c
        if product is not None:
            matrices += product.args if product.is_MatMul else (product,)
    return scaled(scale, matrices)


def scaled(coefficient: Any, factors: Sequence[Any]) -> Any:
    """A scalar times a product of matrices; a number is not multiplied into a sum."""
    product = factors[0] if len(factors) == 1 else sp.MatMul(*factors).doit(deep=False)
    if coefficient == 1:
        return product
    return sp.MatMul(coefficient, *(product.args if product.is_MatMul else (product,)))


def by_element(argument: Any, value: Any, matrix: Any) -> Any:
    """The function of `argument` that `value` is, of each element of a matrix."""
    if value == argument:
        return matrix
    return ElementwiseApplyFunction(sp.Lambda(argument, value), matrix)


def transposed(expression: Any) -> Any:
    """The transpose, written without a transpose where nothing changes."""
    if expression.shape == (1, 1) or isinstance(expression, sp.DiagMatrix | sp.Identity):
        return expression
    return expression.T


def single(expression: Any) -> Any:
    """The number in a matrix of one row and one column."""
    return MatrixElement(expression, sp.S.Zero, sp.S.Zero)


@dataclass
class Product:
    """Factors by the letters that they hold, while summed letters are eliminated.

    Attributes:
        lengths: of the axes that carry a letter.
        scalars: factors without letters.
        columns: vectors, as columns, by their letter.
        matrices: (expression, letter of rows, letter of columns), the two letters different.
    """

    lengths: Mapping[Letter, Any]
    scalars: list[Any] = field(default_factory=list)
    columns: dict[Letter, list[Any]] = field(default_factory=dict)
    matrices: list[tuple[Any, Letter, Letter]] = field(default_factory=list)

    def put(self, factor: Factor) -> None:
        """One more factor; one with the same letter twice counts by its diagonal."""
        x, rows, columns = factor.expression, factor.rows, factor.columns
        if rows is None and columns is None:
            self.scalars.append(x)
        elif columns is None:
            self.columns.setdefault(rows, []).append(x)  # type: ignore[arg-type]
        elif rows is None:
            self.columns.setdefault(columns, []).append(transposed(x))
        elif rows == columns:
            self.columns.setdefault(rows, []).append(sp.OneMatrix(self.lengths[rows], 1) if _unit(x) else _diagonal(x))
        else:
            self.matrices.append((x, rows, columns))

    def rename(self, old: Letter, new: Letter) -> None:
        """Two letters become one."""
        factors = [Factor(x, r, c) for x, r, c in self.matrices]
        factors += [Factor(x, letter) for letter, xs in self.columns.items() for x in xs]
        self.matrices, self.columns = [], {}
        for f in factors:
            self.put(Factor(f.expression, new if f.rows == old else f.rows, new if f.columns == old else f.columns))

    def vector(self, letter: Letter) -> Any:
        """The product of all vectors at a letter, taken out; None if there is none."""
        found = self.columns.pop(letter, [])
        return hadamard(found) if found else None

    def at(self, letter: Letter) -> list[int]:
        """The places of the matrices that hold a letter."""
        return [k for k, (_, r, c) in enumerate(self.matrices) if letter in (r, c)]

    def take(self, k: int, columns: Letter) -> tuple[Any, Letter]:
        """A matrix, taken out and turned so that its columns have a letter, and the letter of its rows."""
        x, r, c = self.matrices.pop(k)
        return (x, r) if c == columns else (transposed(x), c)

    def eliminate(self, summed: Iterable[Letter]) -> bool:
        """Sums over letters; False where a letter joins too many matrices to be written as products."""
        left = list(dict.fromkeys(summed))
        self.drop_units(left)
        while left:
            chosen = min(left, key=lambda letter: (len(self.at(letter)), letter))
            places = self.at(chosen)
            if len(places) > 2 and not self.merge():
                return False
            if len(places) > 2:
                continue
            left.remove(chosen)
            (self.close, self.absorb, self.join)[len(places)](chosen, left)
        return True

    def drop_units(self, summed: list[Letter]) -> None:
        """An identity matrix renames a summed letter."""
        k = 0
        while k < len(self.matrices):
            x, r, c = self.matrices[k]
            old = next((letter for letter in (c, r) if letter in summed), None) if _unit(x) else None
            if old is None:
                k += 1
                continue
            self.matrices.pop(k)
            summed.remove(old)
            self.rename(old, r if old == c else c)
            k = 0

    def close(self, letter: Letter, left: list[Letter]) -> None:
        """A letter that no matrix holds: the sum of a vector, the product of two."""
        vectors = self.columns.pop(letter, [])
        length = self.lengths[letter]
        if not vectors:
            self.scalars.append(length)
        elif len(vectors) == 1:
            self.scalars.append(_total(vectors[0], length))
        else:
            self.scalars.append(single(multiplied(transposed(vectors[0]), hadamard(vectors[1:]))))

    def absorb(self, letter: Letter, left: list[Letter]) -> None:
        """A letter of one matrix: that times the vectors at the letter."""
        x, other = self.take(self.at(letter)[0], letter)
        vector = self.vector(letter)
        product = multiplied(x, sp.OneMatrix(self.lengths[letter], 1) if vector is None else vector)
        self.columns.setdefault(other, []).append(product)

    def join(self, letter: Letter, left: list[Letter]) -> None:
        """A letter of two matrices: their product, or a trace if that closes a circle."""
        second, first = sorted(self.at(letter), reverse=True)
        b, after = self.take(second, letter)
        a, before = self.take(first, letter)
        vector = self.vector(letter)
        if before != after:
            self.matrices.append((_chained([a, vector, transposed(b)]), before, after))
        elif before in left and not self.at(before) and before not in self.columns:
            left.remove(before)
            self.scalars.append(sp.Trace(_chained([a, vector, transposed(b)])))
        else:
            column = sp.OneMatrix(self.lengths[letter], 1) if vector is None else vector
            self.columns.setdefault(before, []).append(multiplied(hadamard([a, b]), column))

    def merge(self) -> bool:
        """Matrices with the same two letters become one, by elements; False if there are none."""
        by_letters: dict[frozenset[Letter], list[int]] = {}
        for k, (_, r, c) in enumerate(self.matrices):
            by_letters.setdefault(frozenset((r, c)), []).append(k)
        parallel = [places for places in by_letters.values() if len(places) > 1]
        for k in sorted((k for places in parallel for k in places[1:]), reverse=True):
            x, r, c = self.matrices.pop(k)
            first = next(first for first, (_, s, t) in enumerate(self.matrices) if {s, t} == {r, c})
            y, s, t = self.matrices[first]
            self.matrices[first] = (hadamard([y, x if s == r else transposed(x)]), s, t)
        return bool(parallel)

    def finished(self, rows: Letter | None, columns: Letter | None) -> Any:
        """The matrix, column or row with the letters that are left, or a scalar if none is."""
        scale = sp.Mul(*self.scalars)
        u = None if rows is None else self.vector(rows)
        v = None if columns is None else self.vector(columns)
        if rows is not None and columns is not None:
            body = self.square(rows, columns, u, v)
        elif rows is not None:
            body = sp.OneMatrix(self.lengths[rows], 1) if u is None else u
        elif columns is not None:
            body = sp.OneMatrix(1, self.lengths[columns]) if v is None else transposed(v)
        else:
            return scale
        return multiplied(scale, body)

    def square(self, rows: Letter, columns: Letter, u: Any, v: Any) -> Any:
        """What has two letters left: a matrix between two diagonal ones, or an outer product."""
        if self.matrices:
            turned = [x if r == rows else transposed(x) for x, r, _ in self.matrices]
            return _chained([_diag(u), hadamard(turned), _diag(v)], between=False)
        u = sp.OneMatrix(self.lengths[rows], 1) if u is None else u
        v = sp.OneMatrix(self.lengths[columns], 1) if v is None else v
        if isinstance(u, sp.OneMatrix) and isinstance(v, sp.OneMatrix):
            return sp.OneMatrix(self.lengths[rows], self.lengths[columns])
        return multiplied(u, transposed(v))


def contracted(
    factors: Sequence[Factor], lengths: Mapping[Letter, Any], rows: Letter | None, columns: Letter | None
) -> Any | None:
    """The product of `factors`, summed over all letters but `rows` and `columns`, as a matrix expression.

    A matrix, a column (only `rows`), a row (only `columns`) or a scalar; None where no matrix product says it.
    """
    product = Product(lengths)
    for factor in factors:
        product.put(factor)
    summed = [letter for letter in lengths if letter not in (rows, columns)]
    return product.finished(rows, columns) if product.eliminate(summed) else None


def collected(terms: Sequence[Any]) -> Any:
    """The sum of matrices of one shape, with common first or last factors taken out: `A*x + A.T*x` is `(A + A.T)*x`."""
    parts = _merged(_coefficient_and_factors(t) for t in terms)
    parts = _merged(
        (scale * c, [*fs, *factors[1:]])
        for scale, factors in parts
        for c, fs in (map(_coefficient_and_factors, factors[0].args) if _is_sum(factors) else [(1, factors[:1])])
    )
    while True:
        groups: dict[tuple[int, Any], list[int]] = {}
        for k, (_, factors) in enumerate(parts):
            if len(factors) > 1:
                for side in (0, -1):
                    groups.setdefault((side, factors[side]), []).append(k)
        (side, factor), members = max(groups.items(), key=lambda item: len(item[1]), default=((0, None), []))
        if len(members) < 2:
            break
        scale, ratios = _common([parts[k][0] for k in members])
        rests = [parts[k][1][1:] if side == 0 else parts[k][1][:-1] for k in members]
        inner = collected([scaled(ratio, rest) for ratio, rest in zip(ratios, rests, strict=True)])
        c, factors = _coefficient_and_factors(inner)
        made = (scale * c, [factor, *factors] if side == 0 else [*factors, factor])
        parts = [part for k, part in enumerate(parts) if k not in members] + [made]
    if len(parts) == 1:
        return scaled(*parts[0])
    scale, ratios = _common([c for c, _ in parts])
    # in SymPy's own order, but not by its `doit`, which works out scalars
    ordered = sorted((scaled(r, fs) for r, (_, fs) in zip(ratios, parts, strict=True)), key=default_sort_key)
    return multiplied(scale, sp.MatAdd(*ordered))


def _is_sum(factors: Sequence[Any]) -> bool:
    return len(factors) == 1 and bool(factors[0].is_MatAdd)


def _merged(parts: Iterable[tuple[Any, list[Any]]]) -> list[tuple[Any, list[Any]]]:
    """Terms with the same factors made one."""
    coefficients: dict[tuple[Any, ...], Any] = {}
    for c, factors in parts:
        coefficients[tuple(factors)] = coefficients.get(tuple(factors), 0) + c
    kept = [(c, list(factors)) for factors, c in coefficients.items() if c != 0]
    return kept or [(sp.S.One, [sp.ZeroMatrix(*next(iter(coefficients))[0].shape)])]


def _common(coefficients: Sequence[Any]) -> tuple[Any, list[Any]]:
    """A factor of all, and what is left of each: numbers, of which one is positive."""
    first = coefficients[0]
    ratios = [c / first for c in coefficients]
    if not all(r.is_Number for r in ratios) or len({abs(r) for r in ratios}) > 1:
        return sp.S.One, list(coefficients)
    if first.could_extract_minus_sign() and any(r < 0 for r in ratios):
        return -first, [-r for r in ratios]
    return first, ratios


def _coefficient_and_factors(term: Any) -> tuple[Any, list[Any]]:
    coefficient, product = term.as_coeff_mmul()
    return coefficient, list(product.args) if product.is_MatMul else [product]


def hadamard(factors: Sequence[Any]) -> Any:
    """The product by elements."""
    kept = list[Any]()
    for x in factors:
        if not isinstance(x, sp.OneMatrix) and not (_is_indicator(x) and x in kept):
            kept.append(x)
    if not kept:
        return factors[0]
    if len(kept) > 1 and kept[0].shape == (1, 1):
        return multiplied(kept[0], hadamard(kept[1:]))
    return kept[0] if len(kept) == 1 else sp.HadamardProduct(*kept)


def _is_indicator(matrix: Any) -> bool:
    """Whether all elements are 0 or 1, by form."""
    value = matrix.function.expr if isinstance(matrix, ElementwiseApplyFunction) else None
    return isinstance(value, sp.Piecewise) and all(branch in (0, 1) for branch, _ in value.args)


def _chained(parts: Sequence[Any], *, between: bool = True) -> Any:
    """The product of what is there; with `between`, the middle one is a vector that becomes a diagonal matrix."""
    left, middle, right = parts
    factors = [left, _diag(middle) if between else middle, right]
    kept = [x for x in factors if x is not None and not (_unit(x) and len([f for f in factors if f is not None]) > 1)]
    if not kept:
        return middle
    return multiplied(*kept)


def _diag(vector: Any) -> Any:
    return None if vector is None or isinstance(vector, sp.OneMatrix) else sp.DiagMatrix(vector)


def _diagonal(matrix: Any) -> Any:
    return sp.DiagonalOf(matrix)


def _total(vector: Any, length: Any) -> Any:
    """The sum of the elements of a column."""
    if isinstance(vector, sp.OneMatrix):
        return length
    return single(multiplied(sp.OneMatrix(1, length), vector))


def _unit(expression: Any) -> bool:
    return isinstance(expression, sp.Identity)
