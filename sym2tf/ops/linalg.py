"""Rows of linear algebra: inverses, systems of equations, determinants, Cholesky factors.

All act on the last two core axes. Core axes in front of these (a matrix for each value of an index, the basis of a
Jacobian) are like batch axes; operands have the same number of them, and length 1 broadcasts.
Derivatives are those of the full matrix, without regard to symmetry; a row that sees only part of a matrix says so.

Sources: M. Giles, Collected matrix derivative results for forward and reverse mode algorithmic differentiation (2008);
I. Murray, Differentiation of the Cholesky decomposition (2016).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from sym2tf.errors import ShapeError
from sym2tf.ir.dims import Size, broadcast_sizes
from sym2tf.ir.op import Op, TFOp
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops import matrix_numerics as numerics
from sym2tf.ops.assembly import identity, reshape
from sym2tf.ops.contraction import einsum
from sym2tf.ops.indexing import expand, restore, sum_, transpose
from sym2tf.ops.leaves import iota
from sym2tf.ops.logic import less_equal, select
from sym2tf.ops.values import Value, constant, with_rank, with_shape

DTYPES = ("float64", "float32")  # the floating dtypes that have kernels
NO_XLA = "XLA has no kernel for it"
MATRIX = (-2, -1)
_FRONT = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Shapes


def shape_text(shape: tuple[Size, ...]) -> str:
    """A shape as people write it."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def matrix_shape(name: str, x: TensorType) -> tuple[Size, Size]:
    """The lengths of the last two axes.

    Raises:
        ShapeError: there are fewer than two.
    """
    if x.rank < 2:
        raise ShapeError(f"{name} needs a matrix, got a value of core shape {shape_text(x.shape)}")
    return x.shape[-2], x.shape[-1]


def square(name: str, x: TensorType) -> TensorType:
    """`x` itself, where it is a square matrix.

    Raises:
        ShapeError: it is not; the message names its shape.
    """
    rows, columns = matrix_shape(name, x)
    if rows != columns:
        raise ShapeError(f"{name} needs a square matrix, got one of shape {shape_text(x.shape)}")
    return x


def _system_type(name: str) -> Callable[..., TensorType]:
    def infer(a: TensorType, b: TensorType, **attributes: Any) -> TensorType:
        square(name, a)
        rows, columns = matrix_shape(name, b)
        both = f"a matrix of shape {shape_text(a.shape)} and a right-hand side of shape {shape_text(b.shape)}"
        if rows != a.shape[-1]:
            raise ShapeError(f"{name}: {both} do not agree: {a.shape[-1]} columns against {rows} rows")
        if a.rank != b.rank:
            raise ShapeError(f"{name}: {both} have different numbers of axes")
        front = tuple(broadcast_sizes(axis) for axis in zip(a.shape[:-2], b.shape[:-2], strict=True))
        return TensorType(max(a.kind, b.kind), (*front, rows, columns))

    return infer


# Pieces of derivatives


def product(equation: str, *factors: Any) -> Any:
    """An einsum whose letters name the last axes of the factors; those in front are aligned from the right.

    Args:
        equation: as `"ba,bc,dc->ad"`, in lower case.
        factors: values with at least as many axes as letters; axes in front have equal lengths where several have them.
    """
    operands, output = equation.split("->")
    letters = operands.split(",")
    fronts = [x.type.rank - len(own) for x, own in zip(factors, letters, strict=True)]
    names = _FRONT[: max(fronts)]
    inputs = tuple(names[len(names) - k :] + own for k, own in zip(fronts, letters, strict=True))
    return einsum(*factors, inputs=inputs, output=names + output)


def swapped(x: Any) -> Any:
    """The transposed matrix."""
    return transpose(x, axes=(-1, -2))


def symmetric_part(x: Any) -> Any:
    """(x + x^T) / 2."""
    return (x + swapped(x)) * Fraction(1, 2)


def lower_part(x: Any, *, lower: bool = True) -> Any:
    """The triangle of a matrix with its diagonal, zeros elsewhere."""
    rows = expand(x.apply(iota, (), {"start": 0, "size": x.shape[-2]}), axis=-1)
    columns = expand(x.apply(iota, (), {"start": 0, "size": x.shape[-1]}), axis=-2)
    return select(less_equal(columns, rows) if lower else less_equal(rows, columns), x, 0)


def diagonal_part(x: Any) -> Any:
    """A square matrix with zeros off its diagonal."""
    return product("aa,ab->ab", x, identity(x, x.shape[-1]))


def folded(x: Any, shape: tuple[Size, ...]) -> Any:
    """A cotangent summed over the axes along which an operand of core shape `shape` was repeated."""
    axes = tuple(
        k - len(shape) for k, d in enumerate(shape[:-2]) if d == 1 and x.shape[k - len(shape)] != 1
    )
    return restore(sum_(x, axes=axes), axes) if axes else x


def everywhere(g: Any) -> Any:
    """How support spreads when every element of a result depends on every element of a matrix."""
    return restore(sum_(g, axes=MATRIX), MATRIX)


def aligned(a: Value, b: Value) -> tuple[Value, Value]:
    """Both with the axes in front of the matrix that the result of a system has."""
    a, b = with_rank(a, b.type.rank), with_rank(b, a.type.rank)
    front = tuple(broadcast_sizes(axis) for axis in zip(a.shape[:-2], b.shape[:-2], strict=True))
    return with_shape(a, (*front, *a.shape[-2:])), with_shape(b, (*front, *b.shape[-2:]))


def by_columns(system: Callable[[Any, Any], Any], a: Value, b: Value) -> Any:
    """`system(a, b)` for a right-hand side with more axes in front than the matrix.

    They become further columns, so that the matrix is factored once and not for each of them.
    """
    extra = b.type.rank - a.type.rank
    if extra <= 0:
        return system(a, with_rank(b, a.type.rank))
    core, total = a.type.rank, b.type.rank
    order = (*range(extra, total - 1), *range(extra), total - 1)
    moved = transpose(b, axes=tuple(k - total for k in order))
    columns: Size = 1
    for d in moved.shape[core - 1 :]:
        columns = columns * d
    flat = reshape(moved, rank=extra + 1, shape=(columns,))
    solved = reshape(system(a, flat), rank=1, shape=moved.shape[core - 1 :])
    back = (*range(core - 1, total - 1), *range(core - 1), total - 1)
    return transpose(solved, axes=tuple(k - total for k in back))


# Inverses and systems

inverse = Op(
    name="inverse", infer=lambda a: square("the inverse", a), elementwise=False, promotes=Kind.REAL,
    numpy=numerics.inverse,
    tf=TFOp("MatrixInverse", "tf.linalg.inv", dtypes=DTYPES),
    vjp=lambda g, y, a: (-product("ba,bc,dc->ad", y, g, y),),
    jvp=lambda tangents, y, a: -product("ab,bc,cd->ad", y, tangents[0], y),
    support=lambda g, y, a: (everywhere(g),), label="A⁻¹",
)


def _solve_vjp(g: Any, y: Any, a: Any, b: Any, *, adjoint: bool) -> tuple[Any, Any]:
    full, _ = aligned(a, b)
    back = by_columns(lambda m, c: solve(m, c, adjoint=not adjoint), full, g)
    outer = product("ak,bk->ab", y, back) if adjoint else product("ak,bk->ab", back, y)
    return folded(-outer, a.shape), folded(back, b.shape)


def _solve_jvp(tangents: tuple[Any, ...], y: Any, a: Any, b: Any, *, adjoint: bool) -> Any:
    full, _ = aligned(a, b)
    return by_columns(lambda m, c: solve(m, c, adjoint=adjoint), full, _residual(tangents, y, b, adjoint))


def _residual(tangents: tuple[Any, ...], y: Any, b: Any, adjoint: bool) -> Any:
    """The right-hand side db - da y of the tangent's system."""
    da, db = tangents
    if da is None:
        return with_shape(db, (*db.shape[: db.type.rank - y.type.rank], *y.shape))
    da = with_shape(da, (*da.shape[: da.type.rank - y.type.rank], *y.shape[:-2], *da.shape[-2:]))
    moved = -(product("ba,bk->ak", da, y) if adjoint else product("ab,bk->ak", da, y))
    return moved if db is None else db + moved


def _system_support(g: Any, y: Any, a: Any, b: Any, **attributes: Any) -> tuple[Any, Any]:
    return folded(everywhere(g), (*a.shape[:-2], 1, 1)), folded(restore(sum_(g, axes=(-2,)), (-2,)), b.shape)


solve: Op = Op(
    name="solve", arity=2, infer=_system_type("solve"), elementwise=False, promotes=Kind.REAL, numpy=numerics.solve,
    tf=TFOp("MatrixSolve", "tf.linalg.solve", dtypes=DTYPES, form=lambda e, a, b, *, adjoint: e.call(
        "solve_core", a, b, adjoint)),
    vjp=_solve_vjp, jvp=_solve_jvp, support=_system_support, label="A⁻¹b",
    doc="x where a x = b, or a^T x = b if `adjoint`; b is a matrix.",
)


lu_factor = Op(
    name="lu_factor", infer=lambda a: square("lu_factor", a), elementwise=False, promotes=Kind.REAL,
    numpy=numerics.lu_factor, label="LU",
    tf=TFOp("Lu", "", dtypes=DTYPES, xla=NO_XLA, form=lambda e, a: e.call("lu_factor", a)),
    vjp=lambda g, y, a: (None,), jvp=lambda tangents, y, a: with_shape(constant(y.builder, 0, Kind.REAL), y.shape),
    doc="The factors of a with its rows in the order `lu_rows`: U, and below its diagonal L without its unit diagonal. "
    "Made by the optimiser for matrices that several systems share; the derivative is in `solve_factored`.",
)
lu_rows = Op(
    name="lu_rows", elementwise=False, promotes=Kind.REAL, numpy=numerics.lu_rows, label="rows of LU",
    infer=lambda a: TensorType(Kind.INTEGER, square("lu_rows", a).shape[:-1]),
    tf=TFOp("Lu", "", dtypes=DTYPES, xla=NO_XLA, form=lambda e, a: e.call("lu_rows", a)), vjp=lambda g, y, a: (None,),
    doc="Which row of `a` is the k-th of its factors.",
)


def _factored_type(a: TensorType, lu: TensorType, rows: TensorType, b: TensorType, *, adjoint: bool) -> TensorType:
    if lu != a or rows.shape != a.shape[:-1]:
        raise ShapeError(f"solve_factored: {lu} and {rows} are no factors of {a}")
    return _system_type("solve_factored")(a, b)


def _factored_vjp(g: Any, y: Any, a: Any, lu: Any, rows: Any, b: Any, *, adjoint: bool) -> tuple[Any, ...]:
    in_a, in_b = _solve_vjp(g, y, a, b, adjoint=adjoint)
    return in_a, None, None, in_b


solve_factored = Op(
    name="solve_factored", arity=4, infer=_factored_type, elementwise=False, promotes=(0, 1, 3), label="A⁻¹b",
    numpy=numerics.solve_factored,
    tf=TFOp("", "", dtypes=DTYPES, xla=NO_XLA, form=lambda e, a, lu, rows, b, *, adjoint: e.call(
        "solve_factored", lu, rows, b, adjoint)),
    vjp=_factored_vjp,
    jvp=lambda tangents, y, a, lu, rows, b, *, adjoint: _solve_jvp(
        (tangents[0], tangents[3]), y, a, b, adjoint=adjoint),
    support=lambda g, y, a, lu, rows, b, *, adjoint: (
        *_system_support(g, y, a, b)[:1], None, None, *_system_support(g, y, a, b)[1:]),
    doc="As `solve`, from the factors of `a`; its derivatives are those of `solve`.",
)


def _triangular_vjp(g: Any, y: Any, a: Any, b: Any, *, lower: bool, adjoint: bool) -> tuple[Any, Any]:
    full, _ = aligned(a, b)
    back = by_columns(lambda m, c: triangular_solve(m, c, lower=lower, adjoint=not adjoint), full, g)
    outer = product("ak,bk->ab", y, back) if adjoint else product("ak,bk->ab", back, y)
    return folded(-lower_part(outer, lower=lower), a.shape), folded(back, b.shape)


def _triangular_jvp(
    tangents: tuple[Any, ...], y: Any, a: Any, b: Any, *, lower: bool, adjoint: bool
) -> Any:
    full, _ = aligned(a, b)
    da, db = tangents
    change = _residual((None if da is None else lower_part(da, lower=lower), db), y, b, adjoint)
    return by_columns(lambda m, c: triangular_solve(m, c, lower=lower, adjoint=adjoint), full, change)


triangular_solve: Op = Op(
    name="triangular_solve", arity=2, infer=_system_type("triangular_solve"), elementwise=False, promotes=Kind.REAL,
    numpy=numerics.triangular_solve,
    tf=TFOp("MatrixTriangularSolve", "tf.linalg.triangular_solve", dtypes=DTYPES,
            form=lambda e, a, b, *, lower, adjoint: e.call("triangular_solve_core", a, b, lower, adjoint)),
    vjp=_triangular_vjp, jvp=_triangular_jvp, support=_system_support, label="L⁻¹b",
    doc="As `solve`, for a triangular matrix; the other triangle of `a` is not looked at.",
)

# Determinants


def _scalar_type(name: str) -> Callable[[TensorType], TensorType]:
    return lambda a: TensorType(a.kind, square(name, a).shape[:-2])


def _times(g: Any, matrix: Any) -> Any:
    """Each matrix times a number of its own."""
    return product(",ab->ab", g, matrix)


def _inner(a: Any, b: Any) -> Any:
    return product("ab,ab->", a, b)


cofactor_slope: Op = Op(
    name="cofactor_slope", arity=2, elementwise=False, promotes=Kind.REAL, numpy=numerics.cofactor_slope,
    infer=lambda a, t: _system_type("cofactor_slope")(a, square("cofactor_slope", t)),
    tf=TFOp("", "cofactor_slope", dtypes=DTYPES, xla=NO_XLA, form=lambda e, a, t: e.call("cofactor_slope", a, t)),
    vjp=lambda g, y, a, t: _cofactor_slope_vjp(g, a, t),
    jvp=lambda tangents, y, a, t: _cofactor_slope_jvp(tangents, y, a, t),
    support=lambda g, y, a, t: (
        folded(everywhere(g), (*a.shape[:-2], 1, 1)), folded(everywhere(g), (*t.shape[:-2], 1, 1))),
    label="∂cof",
    doc="The derivative of the cofactor matrix of `a` along `t`, right at every rank; symmetric in t and a cotangent. "
    "Its own derivative by `a`, the third of the determinant, needs the inverse of `a`.",
)


def _cofactor_third(a: Any, t: Any, s: Any) -> Any:
    """The matrix X with <X, p> = D^3 det(a)[t, s, p]: of the traces of products of a^-1 t, a^-1 s and a^-1 p."""
    inv = inverse(a)
    m, n = product("ab,bc->ac", inv, t), product("ab,bc->ac", inv, s)
    tr_m, tr_n = product("aa->", m), product("aa->", n)
    both = tr_m * tr_n - product("ab,ba->", m, n)
    crossed = product("ab,bc->ac", m, n) + product("ab,bc->ac", n, m)
    inner = _times(both, with_shape(identity(a, a.shape[-1]), m.shape)) - _times(tr_m, n) - _times(tr_n, m) + crossed
    return _times(det(a), product("ab,bc->ca", inner, inv))


def _spread(x: Any, like: Any) -> Any:
    """`x` with the axes in front of the matrix that `like` has."""
    return with_shape(with_rank(x, like.type.rank), (*like.shape[:-2], *x.shape[-2:]))


def _cofactor_slope_vjp(g: Any, a: Any, t: Any) -> tuple[Any, Any]:
    in_a = _cofactor_third(_spread(a, g), _spread(t, g), g)
    return folded(in_a, a.shape), folded(_slope_along(a, g), t.shape)


def _cofactor_slope_jvp(tangents: tuple[Any, ...], y: Any, a: Any, t: Any) -> Any:
    da, dt = tangents
    total = None if dt is None else _slope_along(a, dt)
    if da is None:
        return total
    widest = with_shape(da, (*da.shape[: da.type.rank - y.type.rank], *y.shape))
    third = _cofactor_third(_spread(a, widest), _spread(t, widest), widest)
    return third if total is None else total + third


def _slope_along(a: Any, t: Any) -> Any:
    return cofactor_slope(with_rank(a, t.type.rank), t)


cofactor = Op(
    name="cofactor", infer=lambda a: square("the cofactor matrix", a), elementwise=False, promotes=Kind.REAL,
    numpy=numerics.cofactor,
    tf=TFOp("", "cofactor", dtypes=DTYPES, xla=NO_XLA, form=lambda e, a: e.call("cofactor", a)),
    vjp=lambda g, y, a: (_slope_along(a, g),), jvp=lambda tangents, y, a: _slope_along(a, tangents[0]),
    support=lambda g, y, a: (everywhere(g),), label="cof",
    doc="det(a) a^-T, also for singular matrices: from singular vectors and products of all singular values but one.",
)
det: Op = Op(
    name="det", infer=_scalar_type("the determinant"), elementwise=False, promotes=Kind.REAL, numpy=numerics.det,
    tf=TFOp("MatrixDeterminant", "tf.linalg.det", dtypes=DTYPES, xla=NO_XLA),
    vjp=lambda g, y, a: (_times(g, cofactor(a)),), jvp=lambda tangents, y, a: _inner(tangents[0], cofactor(a)),
    support=lambda g, y, a: (restore(g, MATRIX),),
    doc="Its gradient is the cofactor matrix: first and second derivatives are right for singular matrices too, "
    "third ones only for invertible matrices.",
)


def _logarithm(name: str, numpy: Any, label: str, doc: str) -> Op:
    return Op(
        name=name, infer=_scalar_type("the determinant"), elementwise=False, promotes=Kind.REAL, numpy=numpy,
        tf=TFOp("LogMatrixDeterminant", f"{name}_core", dtypes=DTYPES, xla=NO_XLA),
        vjp=lambda g, y, a: (_times(g, swapped(inverse(a))),),
        jvp=lambda tangents, y, a: product("ab,ba->", tangents[0], inverse(a)),
        support=lambda g, y, a: (restore(g, MATRIX),), label=label, doc=doc,
    )


logabsdet = _logarithm("logabsdet", numerics.logabsdet, "log |det|", "The logarithm of the size of the determinant.")
logdet = _logarithm("logdet", numerics.logdet, "log det", "The logarithm of the determinant; NaN where it is negative.")

# The Cholesky factor


def _half_diagonal(x: Any) -> Any:
    """The lower triangle with half of the diagonal (Murray's Phi)."""
    return lower_part(x) - diagonal_part(x) * Fraction(1, 2)


def _lower_solve(factor: Any, b: Any, *, adjoint: bool) -> Any:
    return by_columns(lambda m, c: triangular_solve(m, c, lower=True, adjoint=adjoint), factor, b)


def _cholesky_vjp(g: Any, y: Any, a: Any, **attributes: Any) -> tuple[Any]:
    middle = symmetric_part(_half_diagonal(product("ba,bc->ac", y, g)))
    half = _lower_solve(y, middle, adjoint=True)
    return (_lower_solve(y, swapped(half), adjoint=True),)


def _cholesky_jvp(tangents: tuple[Any, ...], y: Any, a: Any, **attributes: Any) -> Any:
    half = _lower_solve(y, symmetric_part(tangents[0]), adjoint=False)
    return product("ab,bc->ac", y, _half_diagonal(_lower_solve(y, swapped(half), adjoint=False)))


cholesky = Op(
    name="cholesky", infer=lambda a, *, trust=False: square("cholesky", a), elementwise=False, promotes=Kind.REAL,
    numpy=numerics.cholesky,
    tf=TFOp("Cholesky", "cholesky_core", dtypes=DTYPES, form=lambda e, a, *, trust=False: (
        e.call("tf.linalg.cholesky", a) if trust else e.call("cholesky_core", a))),
    vjp=_cholesky_vjp, jvp=_cholesky_jvp, support=lambda g, y, a, **attributes: (everywhere(g),), label="chol",
    doc="The lower triangular L with L L^T = (a + a^T)/2; NaN where that is not positive definite. With `trust` the "
    "matrix is known to be symmetric, and its upper triangle not looked at.",
)

ROWS = (
    inverse, solve, lu_factor, lu_rows, solve_factored, triangular_solve, det, cofactor, cofactor_slope, logabsdet,
    logdet, cholesky,
)
