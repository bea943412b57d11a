"""Random matrix expressions against a plain interpreter in NumPy.

An expression is a tree of `Node`s. The same tree becomes SymPy, and then a graph, and is evaluated by NumPy functions
that know nothing of either. Inverses and determinants are taken of diagonally dominant matrices, so that answers are no
accident of rounding.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from sympy.matrices.expressions.matexpr import MatrixElement

import sym2tf
from sym2tf.backends.mpmath import evaluate as evaluate_exactly
from sym2tf.backends.numpy import evaluate

COUNT, CHUNK = 400, 50
GRADIENTS, TENSORFLOW = 20, 20
DEPTH = 5
LENGTHS = {"n": 3, "m": 2, "1": 1}
LARGEST = 1e6
Shape = tuple[str, str]  # names of dimensions; "1" is one
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Node:
    """One operation on matrices; scalars are 1 x 1 in NumPy."""

    op: str
    shape: Shape
    operands: tuple[Node, ...] = ()
    detail: Any = None


def sine(a: Any) -> Any:
    return a.applyfunc(sp.sin)


def weight(a: Any) -> Any:
    return 2 * a.rows + 1


def dominant(a: Any) -> Any:
    """A matrix whose diagonal outweighs the rest of each row."""
    return weight(a) * sp.Identity(a.rows) + sine(a)


def np_dominant(a: Array) -> Array:
    return (2 * len(a) + 1) * np.eye(len(a)) + np.sin(a)


def total(a: Any) -> Any:
    return sp.Trace(sp.OneMatrix(a.cols, a.rows) * a)


def np_total(a: Array) -> Array:
    return a.sum().reshape(1, 1)


def blocks(rows: list[list[Any]], at: tuple[int, int]) -> Any:
    """One block of the square of a block matrix, as a slice."""
    matrix = sp.BlockMatrix(rows)
    heights, widths = [row[0].rows for row in rows], [a.cols for a in rows[0]]
    top, left = sum(heights[: at[0]], sp.S.Zero), sum(widths[: at[1]], sp.S.Zero)
    return (2 * matrix)[top : top + heights[at[0]], left : left + widths[at[1]]]


# name -> (SymPy, NumPy), both of the operands and the detail
MATRICES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (lambda a, b, _: a + b, lambda a, b, _: a + b),
    "subtract": (lambda a, b, _: a + -2 * b, lambda a, b, _: a - 2 * b),
    "multiply": (lambda a, b, _: a * b, lambda a, b, _: a @ b),
    "multiply three": (lambda a, b, c, _: a * b * c, lambda a, b, c, _: a @ b @ c),
    "gram": (lambda a, _: a.T * a, lambda a, _: a.T @ a),
    "transpose": (lambda a, _: a.T, lambda a, _: a.T),
    "scale": (lambda s, a, _: sp.MatMul(s, a), lambda s, a, _: s * a),
    "number": (lambda a, c: c * a, lambda a, c: float(c) * a),
    "inverse": (lambda a, _: dominant(a).I, lambda a, _: np.linalg.inv(np_dominant(a))),
    "solve": (lambda a, b, _: dominant(a).I * b, lambda a, b, _: np.linalg.solve(np_dominant(a), b)),
    "solve from the right": (lambda a, b, _: b * dominant(a).I, lambda a, b, _: b @ np.linalg.inv(np_dominant(a))),
    "power": (lambda a, k: a**k, np.linalg.matrix_power),
    "hadamard": (lambda a, b, _: sp.HadamardProduct(a, b), lambda a, b, _: a * b),
    "hadamard power": (sp.HadamardPower, np.power),
    "by elements": (lambda a, f: a.applyfunc(getattr(sp, f)), lambda a, f: getattr(np, f)(a)),
    "add identity": (lambda a, _: a + sp.Identity(a.rows), lambda a, _: a + np.eye(len(a))),
    "add ones": (lambda a, _: a + sp.OneMatrix(*a.shape), lambda a, _: a + 1),
    "diagonal matrix": (lambda v, _: sp.DiagMatrix(v), lambda v, _: np.diag(v[:, 0])),
    "diagonal": (lambda a, _: sp.DiagonalOf(a), lambda a, _: np.diag(a)[:, None]),
    "block": (
        lambda a, b, c, d, at: blocks([[a, b], [c, d]], at),
        lambda a, b, c, d, at: 2 * [[a, b], [c, d]][at[0]][at[1]],
    ),
    "function": (
        lambda s, shape: sp.FunctionMatrix(*shape, sp.Lambda((I, J), s * I - sp.cos(J))),
        lambda s, shape: s * np.arange(shape[0])[:, None] - np.cos(np.arange(shape[1])),
    ),
}
SCALARS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "trace": (lambda a, _: sp.Trace(a), lambda a, _: np.trace(a).reshape(1, 1)),
    "trace of a product": (lambda a, b, _: sp.Trace(a * b), lambda a, b, _: np.trace(a @ b).reshape(1, 1)),
    "determinant": (lambda a, _: sp.Determinant(dominant(a)), lambda a, _: np.linalg.det(np_dominant(a)).reshape(1, 1)),
    "log determinant": (
        lambda a, _: sp.log(sp.Determinant(dominant(a))),
        lambda a, _: np.log(np.linalg.det(np_dominant(a))).reshape(1, 1),
    ),
    "element": (lambda a, at: MatrixElement(a, *at), lambda a, at: a[at].reshape(1, 1)),
    "total": (lambda a, _: total(a), lambda a, _: np_total(a)),
    "sum by indices": (
        lambda a, _: sp.Sum(a[I, J] ** 2, (I, 0, a.rows - 1), (J, 0, a.cols - 1)),
        lambda a, _: np_total(a * a),
    ),
    "kronecker": (
        lambda a, b, _: sp.Trace(sp.KroneckerProduct(a, b)), lambda a, b, _: np.trace(np.kron(a, b)).reshape(1, 1)
    ),
    "norm": (lambda a, _: sp.sqrt(1 + sp.Trace(a.T * a)), lambda a, _: np.sqrt(1 + np_total(a * a))),
    "sum of scalars": (lambda s, t, _: s + 2 * t, lambda s, t, _: s + 2 * t),
    "product of scalars": (lambda s, t, _: s * sp.sin(t), lambda s, t, _: s * np.sin(t)),
}  # fmt: skip
LEAF = (lambda *_: None, lambda *_: None)
TABLE = MATRICES | SCALARS | {"leaf": LEAF}
I, J = sp.symbols("i j", integer=True)  # noqa: E741


class Generator:
    """Makes trees of a wanted shape."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)

    def dimension(self) -> str:
        return self.random.choice(["n", "n", "m", "1"])

    def tree(self, *, scalar: bool) -> Node:
        if scalar or self.random.random() < 0.4:
            return self.scalar(DEPTH)
        return self.matrix((self.dimension(), self.dimension()), DEPTH)

    def operands(self, shapes: tuple[Shape, ...], depth: int) -> tuple[Node, ...]:
        """One deep operand at most: a tree that is bushy all the way down is larger than anybody writes."""
        deep = self.random.randrange(len(shapes))
        return tuple(self.matrix(s, depth - 1 if k == deep else min(depth - 1, 1)) for k, s in enumerate(shapes))

    def leaf(self, shape: Shape) -> Node:
        return Node("leaf", shape, detail=self.random.choice("ab"))

    def matrix(self, shape: Shape, depth: int) -> Node:
        if depth <= 0 or self.random.random() < 0.12:
            return self.leaf(shape)
        rows, columns = shape
        inner, other = self.dimension(), self.dimension()
        same, square = shape, rows == columns
        choices: list[tuple[str, tuple[Shape, ...], Any]] = [
            ("add", (same, same), None),
            ("subtract", (same, same), None),
            ("multiply", ((rows, inner), (inner, columns)), None),
            ("multiply", ((rows, inner), (inner, columns)), None),
            ("multiply three", ((rows, inner), (inner, other), (other, columns)), None),
            ("transpose", ((columns, rows),), None),
            ("number", (same,), self.random.choice([sp.Integer(-1), sp.Rational(1, 2), sp.Integer(3)])),
            ("solve", ((rows, rows), same), None),
            ("solve from the right", ((columns, columns), same), None),
            ("hadamard", (same, same), None),
            ("hadamard power", (same,), 2),
            ("by elements", (same,), self.random.choice(["sin", "tanh", "cos"])),
            ("add ones", (same,), None),
            ("block", (same, (rows, inner), (other, columns), (other, inner)), (0, 0)),
            ("block", ((other, inner), (other, columns), (rows, inner), same), (1, 1)),
        ]
        if square:
            choices += [("gram", ((inner, rows),), None), ("inverse", (same,), None), ("add identity", (same,), None)]
            choices += [("power", (same,), self.random.choice([2, 3])), ("diagonal matrix", ((rows, "1"),), None)]
        if columns == "1":
            choices.append(("diagonal", ((rows, rows),), None))
        name, shapes, detail = self.random.choice(choices)
        if self.random.random() < 0.08:
            return Node("scale", shape, (self.scalar(depth - 1), self.matrix(shape, depth - 1)))
        if self.random.random() < 0.03:
            return Node("function", shape, (self.scalar(depth - 1),), shape)
        return Node(name, shape, self.operands(shapes, depth), detail)

    def scalar(self, depth: int) -> Node:
        inner, other = self.dimension(), self.dimension()
        any_shape, square = (inner, other), (inner, inner)
        choices: list[tuple[str, tuple[Shape, ...], Any]] = [
            ("trace", (square,), None),
            ("trace of a product", ((inner, other), (other, inner)), None),
            ("determinant", (square,), None),
            ("log determinant", (square,), None),
            ("total", (any_shape,), None),
            ("norm", (any_shape,), None),
            ("kronecker", (square, (other, other)), None),
        ]
        if depth > 2 and self.random.random() < 0.3:
            name = self.random.choice(["sum of scalars", "product of scalars"])
            return Node(name, ("1", "1"), (self.scalar(depth - 1), self.scalar(depth - 1)))
        if self.random.random() < 0.1:
            return Node("sum by indices", ("1", "1"), (self.leaf(any_shape),))
        name, shapes, detail = self.random.choice(choices)
        if self.random.random() < 0.12:
            # of an expression only by itself: SymPy works out such an element wherever it scales a matrix
            operand = self.matrix(("n", "m"), depth - 1) if depth == DEPTH else self.leaf(("n", "m"))
            return Node("element", ("1", "1"), (operand,), (self.random.randrange(3), self.random.randrange(2)))
        return Node(name, ("1", "1"), self.operands(shapes, depth), detail)


def to_sympy(node: Node, dims: dict[str, Any]) -> Any:
    shape = tuple(dims[d] for d in node.shape)
    if node.op == "leaf":
        return sp.MatrixSymbol(name_of(node), *shape)
    detail = shape if node.op == "function" else node.detail
    return TABLE[node.op][0](*(to_sympy(child, dims) for child in node.operands), detail)


def to_numpy(node: Node, data: dict[str, Array]) -> Array:
    if node.op == "leaf":
        return data[name_of(node)]
    detail = tuple(LENGTHS[d] for d in node.shape) if node.op == "function" else node.detail
    return TABLE[node.op][1](*(to_numpy(child, data) for child in node.operands), detail)


def name_of(leaf: Node) -> str:
    return f"{leaf.detail}_{''.join(leaf.shape)}"


def leaves(tree: Node) -> dict[str, Shape]:
    """The leaves of a tree by name, with their shapes."""
    found, stack = dict[str, Shape](), [tree]
    while stack:
        node = stack.pop()
        stack.extend(node.operands)
        if node.op == "leaf":
            found[name_of(node)] = node.shape
    return found


def numbers(tree: Node, seed: int, batch: tuple[int, ...] = ()) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = {name: [LENGTHS[d] for d in shape] for name, shape in sorted(leaves(tree).items())}
    return {name: rng.normal(size=(*batch, *shape)) for name, shape in shapes.items()}


n, m = sp.symbols("n m", integer=True, positive=True)
DIMENSIONS = ({name: sp.Integer(length) for name, length in LENGTHS.items()}, {"n": n, "m": m, "1": sp.S.One})


def examples(chunk: int, count: int, *, scalar: bool = False) -> Iterator[tuple[Node, Any, sym2tf.CompiledFunction]]:
    """Trees, their expressions, every other one with symbolic dimensions, and functions."""
    generator, made = Generator(f"matrices {chunk}"), 0
    while made < count:
        tree = generator.tree(scalar=scalar)
        try:
            expr = to_sympy(tree, DIMENSIONS[made % 2])
        except (AttributeError, TypeError):  # SymPy itself cannot build it: products of 1 x 1 matrices become numbers
            continue
        made += 1
        yield tree, expr, sym2tf.compile(expr)


def run(f: sym2tf.CompiledFunction, data: dict[str, Array]) -> Array:
    """What the optimised graph gives for those of the data that it still needs."""
    needed = [f.graph[v].attributes["name"] for v in f.graph.inputs]
    sizes = {name: length for name, length in LENGTHS.items() if name in f.graph.size_names()}
    (answer,) = evaluate(f.graph, {name: data[name] for name in needed}, sizes).values()
    return answer


@pytest.mark.parametrize("chunk", range(COUNT // CHUNK))
def test_random_matrix_expressions_agree_with_numpy(chunk: int) -> None:
    for number, (tree, expr, f) in enumerate(examples(chunk, CHUNK)):
        data = numbers(tree, number, (2,))
        answer = run(f, data)
        for at in range(2):
            due = to_numpy(tree, {name: array[at] for name, array in data.items()})
            got = np.broadcast_to(answer[at] if f.graph.inputs else answer, due.shape)
            scale = np.max(np.abs(due), initial=1.0)
            if scale < LARGEST:
                np.testing.assert_allclose(got, due, rtol=0, atol=1e-10 * scale, err_msg=str(expr)[:300])


@pytest.mark.parametrize("chunk", range(2))
def test_gradients_of_random_matrix_expressions_agree_with_differences(chunk: int) -> None:
    for number, (tree, expr, f) in enumerate(examples(chunk, GRADIENTS, scalar=True)):
        if not f.graph.inputs:  # SymPy has cancelled everything
            continue
        data, rng = numbers(tree, number), np.random.default_rng(number)
        names = [f.graph[v].attributes["name"] for v in f.graph.inputs]
        data = {name: data[name] for name in names}
        directions = {name: rng.normal(size=data[name].shape) for name in names}
        gradients = evaluate(f.gradient(wrt=names).graph, data).values()
        ours = sum(np.sum(g * directions[name]) for g, name in zip(gradients, names, strict=True))
        slope = float(difference(f, data, directions))
        scale = max(1.0, *(np.max(np.abs(g * directions[name])) for g, name in zip(gradients, names, strict=True)))
        assert abs(ours - slope) <= 1e-9 * scale, f"{ours} is not {slope}: {expr}"


def difference(f: sym2tf.CompiledFunction, data: dict[str, Array], directions: dict[str, Array]) -> Any:
    """The slope along directions: a central difference of the lowered graph in 50 digits."""
    sizes = {name: length for name, length in LENGTHS.items() if name in f.lowered.size_names()}
    exact, ends = np.frompyfunc(mpmath.mpf, 1, 1), []
    with mpmath.workdps(50):
        step = mpmath.mpf("1e-15")
        for sign in (1, -1):
            moved = {name: np.asarray(exact(x) + sign * step * exact(directions[name])) for name, x in data.items()}
            (end,) = evaluate_exactly(f.lowered, moved, sizes, digits=50).values()
            ends.append(np.ravel(end)[0])
        return (ends[0] - ends[1]) / (2 * step)


def test_a_sample_of_random_matrix_expressions_is_right_in_tensorflow() -> None:
    for number, (tree, expr, f) in enumerate(examples(99, TENSORFLOW)):
        data = numbers(tree, number)
        names = [f.graph[v].attributes["name"] for v in f.graph.inputs]
        sizes = {name: length for name, length in LENGTHS.items() if name in f.graph.size_names()}
        answer = np.asarray(f(**{name: data[name] for name in names}, **sizes))
        due = to_numpy(tree, data)
        scale = np.max(np.abs(due), initial=1.0)
        np.testing.assert_allclose(
            np.broadcast_to(answer, due.shape), due, rtol=0, atol=1e-10 * scale, err_msg=str(expr)[:300]
        )
