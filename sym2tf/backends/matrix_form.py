"""Raises a graph of matrices to matrix expressions: `X.T*(X*w - y)` where the index form is a double sum.

Products and sums over axes are read as one contraction and written as a matrix product (`chains`); an elementwise
function of one matrix is applied to its elements; the rows of linear algebra have names in SymPy. What has none is a
matrix of its elements, in index form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp
from sympy.matrices.expressions.applyfunc import ElementwiseApplyFunction
from sympy.matrices.expressions.factorizations import (
    EigenValues,
    EigenVectors,
    LofCholesky,
    QofQR,
    RofQR,
    SofSVD,
    UofSVD,
    VofSVD,
)
from sympy.matrices.expressions.matexpr import MatrixElement

from sym2tf.backends.chains import Factor, collected, contracted, hadamard, multiplied, single, transposed
from sym2tf.backends.index_form import taken_names
from sym2tf.backends.index_rules import raising
from sym2tf.errors import GraphError
from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind
from sym2tf.passes.counting import constant_value

MOST_FACTORS = 40  # of one contraction

Axes = tuple[int | None, int | None]  # the core axes, from the left, that are the rows and the columns
Letters = tuple[int | None, ...]
MOVES = frozenset(("expand", "squeeze", "broadcast", "transpose"))
PRODUCTS = frozenset(("mul", "sum", "einsum", "neg", "diag")) | MOVES


@dataclass(frozen=True)
class Form:
    """A value as a matrix expression: its element at core indices `i` is `expression[i[rows], i[columns]]`.

    An axis that is None has the subscript 0; a value with neither is the scalar `expression`.
    """

    expression: Any
    rows: int | None = None
    columns: int | None = None

    @property
    def scalar(self) -> bool:
        """Whether the expression is a number and no matrix."""
        return self.rows is None and self.columns is None


class NoMatrixFormError(GraphError):
    """A value that no matrix expression says."""


def is_of_matrices(graph: Graph, v: int) -> bool:
    """Whether output `v` is best written with matrices: all tensors that it depends on are given as matrices."""
    if graph[v].type.rank not in (0, 2) or graph[v].type.kind is Kind.BOOLEAN:
        return False
    tensors = [graph[u] for u in graph.ancestors(v) if graph[u].op.name == "input" and graph[u].type.rank]
    return bool(tensors) and all(getattr(n.attributes["symbol"], "is_Matrix", False) for n in tensors)


def matrix_expression(graph: Graph, v: int) -> Any:
    """Node `v` as a matrix expression of its core shape, or as a scalar expression if it has no core axes.

    Raises:
        NoMatrixFormError: it, or something in it, has more than two axes that count, or an operation has no notation.
    """
    matrices = _Matrices(graph)
    form, shape = matrices.form(v), graph[v].type.shape
    return _in_shape(form, [matrices.elements.size(d) for d in shape]) if shape else form.expression


def element_expression(graph: Graph, v: int) -> Any:
    """Node `v` as its element at free indices, linear algebra inside of it as elements of matrix expressions.

    Raises:
        GraphError: an operation, or linear algebra on more than a matrix, without notation.
    """
    matrices = _Matrices(graph)
    needed, element = matrices.indexed(v)
    return element(*(matrices.form(u) for u in needed))


def _in_shape(form: Form, shape: Sequence[Any]) -> Any:
    """A form as a matrix with exactly this shape."""
    if form.scalar:
        return (
            _one_by_one(form.expression)
            if tuple(shape) == (1, 1)
            else multiplied(form.expression, sp.OneMatrix(*shape))
        )
    return transposed(form.expression) if form.rows in (1, None) and form.columns in (0, None) else form.expression


def _one_by_one(number: Any) -> Any:
    """A number as a matrix of one row and one column: sums of `(x.T*y)[0, 0]` without the subscripts."""
    terms = []
    for term in sp.Add.make_args(number):
        whole = [f for f in sp.Mul.make_args(term) if isinstance(f, MatrixElement) and f.parent.shape == (1, 1)]
        rest = sp.Mul(*(f for f in sp.Mul.make_args(term) if f not in whole[:1]))
        terms.append(multiplied(rest, whole[0].parent if whole else sp.OneMatrix(1, 1)))
    return collected(terms)


@dataclass
class _Matrices:
    """The matrix forms of the nodes of a graph, each made once."""

    graph: Graph
    forms: dict[int, Form] = field(default_factory=dict)
    cores: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.elements = raising(self.graph)
        taken = {str(name) for name in taken_names(self.graph)}
        self.argument = next((sp.Symbol(c) for c in "xtuvz" if c not in taken), sp.Dummy("x"))  # of functions
        self.use_cores()

    def long(self, v: int) -> tuple[int, ...]:
        """The core axes of `v` that are not of length 1."""
        return tuple(k for k, d in enumerate(self.graph[v].type.shape) if d != 1)

    def form(self, root: int) -> Form:
        """The form of a node; operands first."""
        stack = [root]
        while stack:
            v = stack[-1]
            if v in self.forms:
                stack.pop()
                continue
            needed, build = self.rule(v)
            missing = [u for u in needed if u not in self.forms]
            if missing:
                stack += missing
            else:
                self.forms[v] = build(*(self.forms[u] for u in needed))
        return self.forms[root]

    def rule(self, v: int) -> tuple[list[int], Callable[..., Form]]:
        """The nodes whose forms that of `v` is made of, and how."""
        node, axes = self.graph[v], self.long(v)
        special = _RULES.get(node.op.name)
        if special is not None:
            return list(self.graph.operands(v)), lambda *xs: special(self, v, node, xs)
        if not axes and (not self.graph.operands(v) or node.op.elementwise):
            return self.scalar(v)
        if node.type.kind is Kind.BOOLEAN:
            return self.by_elements(v)
        if len(axes) > 2:
            raise NoMatrixFormError(f"{node.op.name} of shape ({', '.join(map(str, node.type.shape))}) is no matrix")
        if node.op.name == "input":
            return [], lambda: self.symbol(v, node)
        if self.is_function(v):
            return self.applied(v)
        if node.op.name in PRODUCTS:
            return self.contraction(v)
        if node.op.name == "select" and self.is_masked(v):
            return self.masked(v)
        plain = _ELEMENTWISE.get(node.op.name)
        if plain is not None:
            return list(self.graph.operands(v)), lambda *xs: plain(self, v, xs)
        return self.by_elements(v)

    # Leaves and functions of elements

    def symbol(self, v: int, node: Node) -> Form:
        """An input: a matrix symbol as it is."""
        symbol, axes = node.attributes["symbol"], self.long(v)
        if not getattr(symbol, "is_Matrix", False) or node.type.rank != 2:
            return self.ready(*self.by_elements(v))
        return _placed(symbol, axes)

    def scalar(self, v: int) -> tuple[list[int], Callable[..., Form]]:
        """A number made of numbers."""
        needed = list(self.graph.operands(v))
        return needed, lambda *xs: Form(self.composed(v, {u: x.expression for u, x in zip(needed, xs, strict=True)}))

    def composed(self, v: int, named: dict[int, Any]) -> Any:
        """The element of `v` in terms of the names of nodes below it, which have no indices."""
        held = {u: _Anywhere(x) if self.graph[u].type.rank else x for u, x in named.items()}
        return replace(self.elements, named=held, known={}).element(v)

    def use_cores(self) -> None:
        """For each node the one that it is a function of, element by element; itself if there is no single one."""
        for v in self.graph.order:
            node, operands = self.graph[v], self.graph.operands(v)
            below = {self.cores[u] for u in operands if self.long(u)}
            same = all(self.long(u) == self.long(v) for u in operands if self.long(u))
            fused = node.op.elementwise and len(below) == 1 and same and bool(self.long(v))
            self.cores[v] = below.pop() if fused else v

    def is_function(self, v: int) -> bool:
        """Whether `v` reads best as a function applied to the elements of its core."""
        node, core = self.graph[v], self.cores[v]
        if core == v:
            return False
        operands = self.graph.operands(v)
        tensors = [u for u in operands if self.long(u)]
        if node.op.name == "neg" or (node.op.name == "mul" and len(tensors) == 1):
            return False
        if node.op.name in ("add", "sub"):
            return len(tensors) < len(operands)
        return node.op.name not in ("pow", "square") or tensors != [core]

    def is_masked(self, v: int) -> bool:
        """Whether `v` is a tensor where a condition on the elements of one other tensor holds, and 0 elsewhere."""
        condition, _, otherwise = self.graph.operands(v)
        same = self.long(condition) == self.long(v)
        return same and self.cores[condition] != condition and constant_value(self.graph, otherwise) == 0

    def masked(self, v: int) -> tuple[list[int], Callable[..., Form]]:
        """A tensor times the indicator of a condition, by elements."""
        condition, then, _ = self.graph.operands(v)
        needed, indicator = self.applied(condition)

        def build(*xs: Form) -> Form:
            weight, x = indicator(*xs[:-1]), xs[-1]
            if x.scalar:
                return replace(weight, expression=multiplied(x.expression, weight.expression))
            turned = transposed(x.expression) if self.turned(x, weight.rows, weight.columns) else x.expression
            if (x.rows is None) + (x.columns is None) != (weight.rows is None) + (weight.columns is None):
                return self.ready(*self.by_elements(v))
            return replace(weight, expression=hadamard([turned, weight.expression]))

        return [*needed, then], build

    def applied(self, v: int) -> tuple[list[int], Callable[..., Form]]:
        """A function of one matrix, applied to its elements; the numbers in it are part of the function."""
        core = self.cores[v]
        inner, numbers = [v], list[int]()
        for u in inner:
            for w in self.graph.operands(u):
                if not self.long(w):
                    numbers.append(w)
                elif w != core:
                    inner.append(w)
        numbers = list(dict.fromkeys(numbers))

        def build(matrix: Form, *scalars: Form) -> Form:
            named = {core: self.argument} | {u: s.expression for u, s in zip(numbers, scalars, strict=True)}
            value = self.composed(v, named)
            if self.graph[v].type.kind is Kind.BOOLEAN:
                value = sp.Piecewise((1, value), (0, True))
            function = sp.Lambda(self.argument, value)
            return replace(matrix, expression=ElementwiseApplyFunction(function, matrix.expression))

        return [core, *numbers], build

    def by_elements(self, v: int) -> tuple[list[int], Callable[..., Form]]:
        """A matrix of elements in index form."""
        rows, columns, shape = *_places(self.long(v)), self.graph[v].type.shape
        needed, element = self.indexed(v)

        def build(*xs: Form) -> Form:
            value = element(*xs)
            if rows is None and columns is None:
                return Form(value)
            indices = [sp.Dummy(integer=True) if k is None else self.elements.letters[k] for k in (rows, columns)]
            lengths = [sp.S.One if k is None else self.elements.size(shape[k]) for k in (rows, columns)]
            return Form(sp.FunctionMatrix(*lengths, sp.Lambda(tuple(indices), value)), rows, columns)

        return needed, build

    def indexed(self, v: int) -> tuple[list[int], Callable[..., Any]]:
        """The element of `v` at the first letters, and the nodes below it whose elements are those of their forms."""
        found, seen, stack = list[int](), {v}, [v]
        while stack:
            u = stack.pop()
            if self.graph[u].op.name in LINEAR_ALGEBRA:
                found.append(u)
                continue
            fresh = [w for w in self.graph.operands(u) if w not in seen]
            seen.update(fresh)
            stack += fresh
        return found, lambda *xs: replace(
            self.elements,
            named={
                u: _Elements(x) if self.graph[u].type.rank else x.expression for u, x in zip(found, xs, strict=True)
            },
            known={},
        ).element(v)

    # Sums and powers

    def total(self, v: int, xs: Sequence[Form], signs: Sequence[int] | None = None) -> Form:
        """A sum of matrices of one shape; vectors and numbers are stretched."""
        rows, columns = _places(self.long(v))
        shape = [sp.S.One if k is None else self.elements.size(self.graph[v].type.shape[k]) for k in (rows, columns)]
        terms = [self.stretched(x, rows, columns, shape) for x in xs]
        return Form(
            collected(
                [multiplied(sp.Integer(sign), t) for sign, t in zip(signs or (1,) * len(terms), terms, strict=True)]
            ),
            rows,
            columns,
        )

    def stretched(self, x: Form, rows: int | None, columns: int | None, shape: Sequence[Any]) -> Any:
        """A form as a matrix with these rows and columns."""
        if x.scalar:
            return multiplied(x.expression, sp.OneMatrix(*shape))
        turned = transposed(x.expression) if self.turned(x, rows, columns) else x.expression
        has_rows = rows is None or rows in (x.rows, x.columns)
        has_columns = columns is None or columns in (x.rows, x.columns)
        if has_rows and has_columns:
            return turned
        ones = sp.OneMatrix(1, shape[1]) if has_rows else sp.OneMatrix(shape[0], 1)
        return multiplied(turned, ones) if has_rows else multiplied(ones, turned)

    def turned(self, x: Form, rows: int | None, columns: int | None) -> bool:
        """Whether a form has to be transposed to have these rows and columns, or what it has of them."""
        return (x.rows is not None and x.rows == columns) or (x.columns is not None and x.columns == rows)

    def power(self, v: int, xs: Sequence[Form]) -> Form:
        """A power by elements."""
        base, exponent = xs
        if not exponent.scalar or base.scalar:
            return self.ready(*self.by_elements(v))
        return replace(base, expression=sp.HadamardPower(base.expression, exponent.expression))

    def quotient(self, v: int, xs: Sequence[Form]) -> Form:
        """A quotient by elements."""
        a, b = xs
        if b.scalar:
            return replace(a, expression=_over(a.expression, b.expression))
        if (a.rows, a.columns) != (b.rows, b.columns):
            return self.ready(*self.by_elements(v))
        return replace(a, expression=hadamard([a.expression, sp.HadamardPower(b.expression, -1)]))

    def ready(self, needed: Sequence[int], build: Callable[..., Form]) -> Form:
        """A form whose parts may not be there yet."""
        return build(*(self.form(u) for u in needed))

    # Contractions

    def contraction(self, v: int) -> tuple[list[int], Callable[..., Form]]:
        """Products, sums over axes and movements as one matrix product."""
        letters = _Letters(self)
        factors = letters.factors(v)
        rows, columns = _places(self.long(v))
        needed = [u for u, _ in factors]

        def build(*xs: Form) -> Form:
            parts = [
                Factor(x.expression, _at(held, x.rows), _at(held, x.columns))
                for x, (_, held) in zip(xs, factors, strict=True)
            ]
            lengths = {letter: self.elements.size(d) for letter, d in letters.lengths.items()}
            outputs = letters.output
            found = contracted([*parts, *letters.units()], lengths, _at(outputs, rows), _at(outputs, columns))
            if found is None:
                return self.ready(*self.by_elements(v))
            return Form(
                letters.sign * found if rows is None is columns else multiplied(letters.sign, found), rows, columns
            )

        return needed, build

    def exponentials(self, v: int, x: Form, axes: Sequence[int]) -> tuple[Form, Form]:
        """The exponential by elements of the operand of `v`, and its sum over axes, itself a column, row or number."""
        (u,) = self.graph.operands(v)
        rank = self.graph[u].type.rank
        if x.scalar:
            return Form(sp.exp(x.expression)), Form(sp.exp(x.expression))
        each = replace(
            x, expression=ElementwiseApplyFunction(sp.Lambda(self.argument, sp.exp(self.argument)), x.expression)
        )
        lengths = {k: self.elements.size(self.graph[u].type.shape[k]) for k in (x.rows, x.columns) if k is not None}
        rows = None if x.rows is None or x.rows - rank in axes else x.rows
        columns = None if x.columns is None or x.columns - rank in axes else x.columns
        return each, Form(
            contracted([Factor(each.expression, x.rows, x.columns)], lengths, rows, columns), rows, columns
        )

    def softmax(self, v: int, xs: Sequence[Form]) -> Form:
        """exp(x) divided by its sums along axes."""
        each, sums = self.exponentials(v, xs[0], self.graph[v].attributes["axes"])
        if sums.scalar:
            return replace(each, expression=_over(each.expression, sums.expression))
        inverse = sp.HadamardPower(sums.expression, -1)
        if sums.columns is None:
            found = (
                multiplied(sp.DiagMatrix(inverse), each.expression)
                if each.rows == sums.rows
                else hadamard([each.expression, inverse])
            )
        else:
            found = multiplied(each.expression, sp.DiagMatrix(transposed(inverse)))
        return replace(each, expression=found)

    def logsumexp(self, v: int, xs: Sequence[Form]) -> Form:
        """The logarithm of the sums of exp(x) along axes."""
        axes, (u,) = self.graph[v].attributes["axes"], self.graph.operands(v)
        sums = self.exponentials(v, xs[0], axes)[1]
        if sums.scalar:
            return Form(sp.log(sums.expression))
        kept = [k for k in range(self.graph[u].type.rank) if k - self.graph[u].type.rank not in axes]
        rows, columns = (None if k is None else kept.index(k) for k in (sums.rows, sums.columns))
        log = sp.Lambda(self.argument, sp.log(self.argument))
        return Form(ElementwiseApplyFunction(log, sums.expression), rows, columns)

    def part(self, v: int, xs: Sequence[Form]) -> Form:
        """A slice of one axis."""
        node, x = self.graph[v], xs[0]
        axis, start = node.type.rank + node.attributes["axis"], self.elements.size(node.attributes["start"])
        piece, everything = (start, start + self.elements.size(node.attributes["size"])), (None, None, None)
        if axis not in (x.rows, x.columns):
            return x
        sliced = x.expression[
            (slice(*piece), slice(*everything)) if axis == x.rows else (slice(*everything), slice(*piece))
        ]
        if node.attributes["size"] != 1:
            return replace(x, expression=sliced)
        kept = (
            replace(x, expression=sliced, rows=None) if axis == x.rows else replace(x, expression=sliced, columns=None)
        )
        return replace(kept, expression=single(sliced)) if kept.scalar else kept


class _Elements:
    """The elements of a form, in place of a node with indices."""

    def __init__(self, form: Form) -> None:
        self.form = form

    def __getitem__(self, at: Any) -> Any:
        form = self.form
        if form.scalar:
            return form.expression
        places = (sp.S.Zero if k is None else at[k] for k in (form.rows, form.columns))
        return MatrixElement(form.expression, *places)


class _Anywhere:
    """A name for a tensor that stands for its element at whatever indices."""

    def __init__(self, name: Any) -> None:
        self.name = name

    def __getitem__(self, at: Any) -> Any:
        return self.name


class _Letters:
    """Letters for the axes of the factors that make up a value, seen through products, sums and movements."""

    def __init__(self, matrices: _Matrices) -> None:
        self.matrices = matrices
        self.graph = matrices.graph
        self.lengths: dict[int, Size] = {}
        self.eyes: list[tuple[int, int]] = []
        self.output: Letters = ()
        self.sign = sp.S.One

    def fresh(self, size: Size) -> int | None:
        if size == 1:
            return None
        self.lengths[len(self.lengths)] = size
        return len(self.lengths) - 1

    def units(self) -> list[Factor]:
        """The identity matrices among the factors."""
        return [Factor(sp.Identity(self.matrices.elements.size(self.lengths[r])), r, c) for r, c in self.eyes]

    def factors(self, root: int) -> list[tuple[int, Letters]]:
        """The factors of a node with the letters of their axes."""
        self.output = tuple(self.fresh(d) for d in self.graph[root].type.shape)
        found: list[tuple[int, Letters]] = []
        stack = [(root, self.output)]
        while stack:
            v, letters = stack.pop()
            if len(found) + len(stack) > MOST_FACTORS:
                raise NoMatrixFormError(f"a product of more than {MOST_FACTORS} factors")
            name = self.graph[v].op.name
            rule = _SPREAD.get(name)
            if name == "eye":
                r, c = letters
                if r is not None and c is not None:
                    self.eyes.append((r, c))
            elif v != root and self.is_summed_square(v, letters):
                stack += 2 * [(self.graph.operands(v)[0], letters)]
            elif rule is None or (v != root and self.matrices.is_function(v)):
                found.append((v, letters))
            else:
                stack += reversed([(u, self.clipped(u, held)) for u, held in rule(self, v, letters)])
        return found

    def is_summed_square(self, v: int, letters: Letters) -> bool:
        """Whether `v` is a square that is summed along all its axes: twice the same factor."""
        if self.matrices.is_function(v) or not any(c is not None for c in letters):
            return False
        name, operands = self.graph[v].op.name, self.graph.operands(v)
        two = name == "square" or (name == "pow" and constant_value(self.graph, operands[1]) == 2)
        return two and not any(c is not None and c in self.output for c in letters)

    def clipped(self, v: int, letters: Sequence[int | None]) -> Letters:
        """Letters for a node: none along its axes of length 1."""
        return tuple(None if d == 1 else letter for d, letter in zip(self.graph[v].type.shape, letters, strict=True))

    def of_mul(self, v: int, letters: Letters) -> list[tuple[int, Sequence[int | None]]]:
        return [(u, letters) for u in self.graph.operands(v)]

    def of_neg(self, v: int, letters: Letters) -> list[tuple[int, Sequence[int | None]]]:
        self.sign = -self.sign
        return self.of_mul(v, letters)

    def of_sum(self, v: int, letters: Letters) -> list[tuple[int, Sequence[int | None]]]:
        (u,), axes = self.graph.operands(v), self.graph[v].attributes["axes"]
        shape, kept = self.graph[u].type.shape, iter(letters)
        return [(u, [self.fresh(d) if k - len(shape) in axes else next(kept) for k, d in enumerate(shape)])]

    def of_einsum(self, v: int, letters: Letters) -> list[tuple[int, Sequence[int | None]]]:
        attributes = self.graph[v].attributes
        known: dict[str, int | None] = dict(zip(attributes["output"], letters, strict=True))
        spread = []
        for u, named in zip(self.graph.operands(v), attributes["inputs"], strict=True):
            for c, d in zip(named, self.graph[u].type.shape, strict=True):
                if known.get(c) is None and (c not in known or d != 1) and c not in attributes["output"]:
                    known[c] = self.fresh(d)
        for u, named in zip(self.graph.operands(v), attributes["inputs"], strict=True):
            spread.append((u, [known.get(c) for c in named]))
        return spread

    def of_diag(self, v: int, letters: Letters) -> list[tuple[int, Sequence[int | None]]]:
        *front, r, c = letters
        if r is not None and c is not None:
            self.eyes.append((r, c))
        return [(self.graph.operands(v)[0], [*front, r])]

    def of_movement(self, v: int, letters: Letters) -> list[tuple[int, Sequence[int | None]]]:
        node, (u,) = self.graph[v], self.graph.operands(v)
        rank, axis = node.type.rank, node.attributes.get("axis", 0)
        if node.op.name == "expand":
            return [(u, [*letters[: rank + axis], *letters[rank + axis + 1 :]])]
        if node.op.name == "squeeze":
            at = rank + 1 + axis
            return [(u, [*letters[:at], None, *letters[at:]])]
        if node.op.name == "transpose":
            axes = node.attributes["axes"]
            keep = rank - len(axes)
            moved = dict(zip((a % rank for a in axes), letters[keep:], strict=True))
            return [(u, [*letters[:keep], *(moved[k] for k in range(keep, rank))])]
        return [(u, letters)]  # broadcast: `clipped` takes the letters of stretched axes away


_SPREAD: dict[str, Callable[[_Letters, int, Letters], list[tuple[int, Sequence[int | None]]]]] = {
    "mul": _Letters.of_mul,
    "neg": _Letters.of_neg,
    "sum": _Letters.of_sum,
    "einsum": _Letters.of_einsum,
    "diag": _Letters.of_diag,
    **dict.fromkeys(MOVES, _Letters.of_movement),
}


def _over(matrix: Any, number: Any) -> Any:
    return multiplied(1 / number, matrix) if getattr(matrix, "is_Matrix", False) else matrix / number


def _places(axes: Sequence[int]) -> Axes:
    """Which axes are the rows and the columns: a single one is the rows."""
    return (axes[0] if axes else None, axes[1] if len(axes) > 1 else None)


def _at(letters: Letters, axis: int | None) -> int | None:
    return None if axis is None else letters[axis]


def _placed(matrix: Any, axes: Sequence[int]) -> Form:
    """A matrix whose axes are the core axes 0 and 1, of which only `axes` are longer than 1."""
    if not axes:
        return Form(single(matrix))
    return Form(matrix, 0 if 0 in axes else None, 1 if 1 in axes else None)


# Linear algebra: (matrices, v, node, forms of the operands) -> form


def _square(m: _Matrices, u: int, x: Form) -> Any:
    """The operand as a square matrix, axes -2 and -1 its rows and columns."""
    shape = m.graph[u].type.shape
    if len(shape) != 2:
        raise NoMatrixFormError(f"linear algebra on a value with {len(shape)} axes")
    return _in_shape(x, [m.elements.size(d) for d in shape])


def _matrix(notation: Callable[..., Any]) -> Callable[[_Matrices, int, Node, Sequence[Form]], Form]:
    def build(m: _Matrices, v: int, node: Node, xs: Sequence[Form]) -> Form:
        operands = [_square(m, u, x) for u, x in zip(m.graph.operands(v), xs, strict=True)]
        return _placed(notation(*operands, **node.attributes), m.long(v))

    return build


def _number(notation: Callable[..., Any]) -> Callable[[_Matrices, int, Node, Sequence[Form]], Form]:
    return lambda m, v, node, xs: Form(notation(_square(m, m.graph.operands(v)[0], xs[0])))


def _vector(notation: Callable[..., Any]) -> Callable[[_Matrices, int, Node, Sequence[Form]], Form]:
    """A row whose SymPy form is the diagonal matrix of it."""

    def build(m: _Matrices, v: int, node: Node, xs: Sequence[Form]) -> Form:
        found = sp.DiagonalOf(notation(_square(m, m.graph.operands(v)[0], xs[0])))
        return Form(found, 0) if m.long(v) else Form(single(found))

    return build


def _solution(a: Any, b: Any, *, adjoint: bool = False, **_: Any) -> Any:
    return multiplied(_inverse(transposed(a) if adjoint else a), b)


def _inverse(a: Any) -> Any:
    return sp.Inverse(a).doit(deep=False) if a.shape == (1, 1) else a**-1


_ELEMENTWISE: dict[str, Callable[[_Matrices, int, Sequence[Form]], Form]] = {
    "add": _Matrices.total,
    "sub": lambda m, v, xs: m.total(v, xs, (1, -1)),
    "pow": _Matrices.power,
    "square": lambda m, v, xs: m.power(v, (*xs, Form(sp.Integer(2)))),
    "sqrt": lambda m, v, xs: m.power(v, (*xs, Form(sp.Rational(1, 2)))),
    "reciprocal": lambda m, v, xs: m.power(v, (*xs, Form(sp.Integer(-1)))),
    "div": _Matrices.quotient,
    "softmax": _Matrices.softmax,
    "logsumexp": _Matrices.logsumexp,
    "slice": _Matrices.part,
}
_RULES: dict[str, Callable[[_Matrices, int, Node, Sequence[Form]], Form]] = {
    "eye": lambda m, v, node, xs: _placed(sp.Identity(m.elements.size(node.attributes["size"])), m.long(v)),
    "inverse": _matrix(_inverse),
    "solve": _matrix(_solution),
    "triangular_solve": _matrix(_solution),
    "cofactor": _matrix(lambda a: multiplied(sp.Determinant(a), _inverse(transposed(a)))),
    "det": _number(sp.Determinant),
    "logdet": _number(lambda a: sp.log(sp.Determinant(a))),
    "logabsdet": _number(lambda a: sp.log(sp.Abs(sp.Determinant(a)))),
    "cholesky": _matrix(LofCholesky),
    "qr_q": _matrix(QofQR),
    "qr_r": _matrix(RofQR),
    "eigh_values": _vector(EigenValues),
    "eigh_vectors": _matrix(EigenVectors),
    "svd_values": _vector(SofSVD),
    "svd_left": _matrix(UofSVD),
    "svd_right": _matrix(VofSVD),
    "sqrtm": _matrix(lambda a: a ** sp.Rational(1, 2)),
}
LINEAR_ALGEBRA = frozenset(_RULES) - {"eye"}
