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
from sympy.matrices.expressions.matexpr import MatrixElement

from sym2tf.backends.chains import Factor, by_element, collected, contracted, hadamard, multiplied, single, transposed
from sym2tf.backends.forms import Form, NoMatrixFormError, in_shape, over, placed
from sym2tf.backends.index_form import taken_names
from sym2tf.backends.index_rules import raising
from sym2tf.backends.lettering import PRODUCTS, Lettering, Letters, is_masked
from sym2tf.backends.matrix_rows import LINEAR_ALGEBRA, ROWS, matrices_of
from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.types import Kind

Axes = tuple[int | None, int | None]  # the core axes, from the left, that are the rows and the columns


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
    return in_shape(form, [matrices.elements.size(d) for d in shape]) if shape else form.expression


def element_expression(graph: Graph, v: int) -> Any:
    """Node `v` as its element at free indices, linear algebra inside of it as elements of matrix expressions.

    Raises:
        GraphError: an operation, or linear algebra on more than a matrix, without notation.
    """
    matrices = _Matrices(graph, inner=True)
    needed, element = matrices.indexed(v)
    return element(*(matrices.form(u) for u in needed))


@dataclass
class _Matrices:
    """The matrix forms of the nodes of a graph, each made once."""

    graph: Graph
    inner: bool = False  # parts of an element at indices
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
        """The form of a node, operands first; that of a tensor of conditions is their indicator."""
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
        special = ROWS.get(node.op.name)
        if special is not None:
            needed = matrices_of(self.graph, v)
            if any(self.graph[u].type.rank != 2 for u in needed):
                raise NoMatrixFormError(f"{node.op.name} of many matrices at once has no notation in SymPy")
            return needed, lambda *xs: special(self, v, node, xs)
        if not axes and (not self.graph.operands(v) or node.op.elementwise):
            return self.scalar(v)
        if not axes and node.type.kind is Kind.BOOLEAN:
            return self.by_elements(v)
        if len(axes) > 2:
            raise NoMatrixFormError(f"{node.op.name} of shape ({', '.join(map(str, node.type.shape))}) is no matrix")
        if node.op.name == "input":
            return [], lambda: self.symbol(v, node)
        if self.is_function(v):
            return self.applied(v)
        if node.op.name in PRODUCTS or is_masked(self.graph, v):
            return self.contraction(v)
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
        return placed(symbol, axes)

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
            return replace(matrix, expression=by_element(self.argument, value, matrix.expression))

        return [core, *numbers], build

    def by_elements(self, v: int) -> tuple[list[int], Callable[..., Form]]:
        """A matrix of elements in index form."""
        rows, columns, shape = *_places(self.long(v)), self.graph[v].type.shape
        needed, element = self.indexed(v)

        def build(*xs: Form) -> Form:
            value = element(*xs)
            if rows is None and columns is None:
                return Form(value)
            if self.graph[v].type.kind is Kind.BOOLEAN:
                value = sp.Piecewise((1, value), (0, True))
            indices = [sp.Dummy(integer=True) if k is None else self.elements.letters[k] for k in (rows, columns)]
            if self.inner:  # the letters are the indices of the whole
                own = {index: sp.Dummy(str(index), integer=True) for index in indices}
                indices, value = list(own.values()), value.xreplace(own)
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
            return replace(a, expression=over(a.expression, b.expression))
        if (a.rows, a.columns) != (b.rows, b.columns):
            return self.ready(*self.by_elements(v))
        return replace(a, expression=hadamard([a.expression, sp.HadamardPower(b.expression, -1)]))

    def ready(self, needed: Sequence[int], build: Callable[..., Form]) -> Form:
        """A form whose parts may not be there yet."""
        return build(*(self.form(u) for u in needed))

    # Contractions

    def contraction(self, v: int) -> tuple[list[int], Callable[..., Form]]:
        """Products, sums over axes and movements as one matrix product."""
        letters = Lettering(self.graph, self.is_function)
        factors = letters.factors(v)
        rows, columns = _places(self.long(v))
        needed = [u for u, _ in factors]

        def build(*xs: Form) -> Form:
            parts = [
                Factor(x.expression, _at(held, x.rows), _at(held, x.columns))
                for x, (_, held) in zip(xs, factors, strict=True)
            ]
            lengths = {letter: self.elements.size(d) for letter, d in letters.lengths.items()}
            parts += [Factor(sp.Identity(lengths[r]), r, c) for r, c in letters.eyes]
            outputs = letters.output
            found = contracted(parts, lengths, _at(outputs, rows), _at(outputs, columns))
            if found is None:
                return self.ready(*self.by_elements(v))
            sign = sp.Integer(letters.sign)
            return Form(sign * found if rows is None is columns else multiplied(sign, found), rows, columns)

        return needed, build

    def exponentials(self, v: int, x: Form, axes: Sequence[int]) -> tuple[Form, Form]:
        """The exponential by elements of the operand of `v`, and its sum over axes, itself a column, row or number."""
        (u,) = self.graph.operands(v)
        rank = self.graph[u].type.rank
        if x.scalar:
            return Form(sp.exp(x.expression)), Form(sp.exp(x.expression))
        each = replace(x, expression=by_element(self.argument, sp.exp(self.argument), x.expression))
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
            return replace(each, expression=over(each.expression, sums.expression))
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
        return Form(by_element(self.argument, sp.log(self.argument), sums.expression), rows, columns)

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


def _places(axes: Sequence[int]) -> Axes:
    """Which axes are the rows and the columns: a single one is the rows."""
    return (axes[0] if axes else None, axes[1] if len(axes) > 1 else None)


def _at(letters: Letters, axis: int | None) -> int | None:
    return None if axis is None else letters[axis]


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
