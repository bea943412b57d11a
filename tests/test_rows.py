"""Every row by the same tests: TensorFlow against NumPy against mpmath, derivatives against differences."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

from sym2tf.autodiff.derivatives import jvp, vjp
from sym2tf.backends.constants import FORMATS, rounded
from sym2tf.backends.mpmath import evaluate as evaluate_mpmath
from sym2tf.backends.numpy import DTYPES, evaluate, numpy_dtype
from sym2tf.backends.tensorflow import direct
from sym2tf.errors import DtypeError, ShapeError
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.op import Op
from sym2tf.ir.types import Kind, TensorType
from sym2tf.lazy import lazy
from sym2tf.ops import OPS
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value, apply, constant

tf = lazy("tensorflow")

LOGICAL = {"and", "or", "xor", "not"}
INTEGERS = {"gather", "scatter_add", "one_hot", "floor_divide"}  # rows whose last operand is one
ELEMENTWISE = [op for op in OPS.values() if op.elementwise and op.arity != 0 and op.name != "cast"]
COMPARISONS = {"less", "less_equal", "equal", "not_equal"}
REAL_VALUED = [op for op in ELEMENTWISE if op.name not in LOGICAL | COMPARISONS]

# Units in the last place that a kernel may be off: the default, and the exceptions with their reasons.
ULP = {"float64": 4.0, "float32": 5.0, "float16": 2.0, "bfloat16": 2.0}
TENSORFLOW_ULP = {
    "softplus": (8.0, "composed of exp and log1p, each rounded to the dtype"),
    "digamma": (400.0, "relative accuracy is lost near its zero at 1.46"),
    "erfc": (10.0, "the same rational approximation as SciPy's"),
    "lgamma": (60.0, "relative accuracy is lost near its zeros at 1 and 2"),
}
NUMPY_ULP = {
    "digamma": (60.0, "relative accuracy is lost near its zero at 1.46"),
    "erfc": (10.0, "the rational approximation of Cephes"),
    "lgamma": (200.0, "relative accuracy is lost near its zeros at 1 and 2"),
    "polygamma": (8.0, "a product of gamma and the Hurwitz zeta function"),
}

SPECIAL = (
    0.0,
    -0.0,
    np.inf,
    -np.inf,
    np.nan,
    1.0,
    -1.0,
    2.0,
    0.5,
    -0.5,
    -3.5,
    1e300,
    -1e300,
    1e-300,
    -1e-300,
    800.0,
)
SPECIAL_OF_MANY = (0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -2.0)

# Where TensorFlow's kernel differs from IEEE arithmetic or from SciPy, and why.
TENSORFLOW_SPECIAL = {
    "erf": (lambda x: abs(x) > 1e150, "its erf squares the argument: NaN where that overflows"),
    "xlogy": (lambda x, y: x == 0 and np.isnan(y), "its xlogy does not look at y where x is 0"),
    "digamma": (lambda x: x <= 0, "its digamma at the poles is NaN"),
    "polygamma": (lambda x: x <= 0 or x > 1e299, "its polygamma is NaN at the poles and underflows early"),
    "lgamma": (lambda x: x < 0, "signs of infinity at the poles are conventions"),
}
JUDGE_SPECIAL = {
    "digamma": (lambda x: x <= 0, "poles: SciPy takes the limit from the side of the signed zero"),
    "polygamma": (lambda x: x <= 0, "poles"),
    "lgamma": (lambda x: x < 0, "poles"),
}


@dataclass(frozen=True)
class Case:
    """A row applied to operands of given core shapes; of `regular` ones the first is a matrix far from singular."""

    op: Op
    shapes: tuple[tuple[int, ...], ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    regular: bool = False

    def __str__(self) -> str:
        return f"{self.op.name}-{'-'.join('x'.join(map(str, s)) or '0' for s in self.shapes)}"


def kinds_of(op: Op) -> list[Kind]:
    count = op.arity or 3
    if op.name in LOGICAL or op.name == "reduce_any":
        return [Kind.BOOLEAN] * count
    if op.name in INTEGERS:
        return [*(Kind.REAL,) * (count - 1), Kind.INTEGER]
    return [Kind.BOOLEAN, Kind.REAL, Kind.REAL] if op.name == "select" else [Kind.REAL] * count


def samples_of(op: Op) -> list[Any]:
    """For each operand an interval, or the number that it is."""
    count = op.arity or 3
    if not any(isinstance(s, tuple) for s in op.sample):
        return [op.sample] * count
    return list(op.sample) * count if len(op.sample) == 1 else list(op.sample)


def graph_of(case: Case) -> Graph:
    """A graph with one input `a0`, `a1`, ... for each operand, and the output `y`."""
    builder = Builder()
    operands, inputs = [], []
    kinds, samples = kinds_of(case.op), samples_of(case.op)
    for k, shape in enumerate(case.shapes):
        kind = kinds[0] if case.op.arity is None else kinds[k]
        sample = samples[k % len(samples)]
        if not isinstance(sample, tuple):
            operands.append(constant(builder, sample, Kind.REAL))
            continue
        type_ = TensorType(kind, shape)
        v = builder.add(input_, (), {"name": f"a{k}", "symbol": f"a{k}", "type": type_})
        inputs.append(v)
        operands.append(Value(builder, v))
    y = apply(builder, case.op, operands, case.attributes)
    return builder.build(inputs, {"y": y.id}).validate()


def draw(case: Case, graph: Graph, batch: tuple[int, ...], dtype: str, seed: int = 0) -> dict[str, Any]:
    """Points inside the row's domain for every input."""
    rng = np.random.default_rng(seed)
    samples = samples_of(case.op)
    points = {}
    for v in graph.inputs:
        name, type_ = graph[v].attributes["name"], graph[v].type
        shape = (*batch, *type_.shape)
        if type_.kind is Kind.BOOLEAN:
            points[name] = rng.random(shape) < 0.5
        elif type_.kind is Kind.INTEGER:
            points[name] = rng.integers(*samples[int(name[1:]) % len(samples)], shape)
        else:
            low, high = samples[int(name[1:]) % len(samples)]
            points[name] = rng.uniform(low, high, shape).astype(numpy_dtype(Kind.REAL, dtype))
    if case.regular:
        points["a0"] = regular(points["a0"])
    return points


def regular(a: Any) -> Any:
    """Matrices with a positive definite symmetric part and well separated singular values."""
    rows, columns = a.shape[-2:]
    diagonal = np.eye(rows, columns) * (2 + 1.5 * np.arange(columns))
    return (a.astype(float) / 6 + diagonal).astype(a.dtype)


def exact(points: dict[str, Any]) -> dict[str, Any]:
    return {k: v if v.dtype == bool else v.astype(np.float64) for k, v in points.items()}


def scalar_case(op: Op) -> Case:
    return Case(op, ((),) * (op.arity or 3))


def ulps(value: Any, reference: Any, dtype: str, scale: Any = 0) -> float:
    """The error of `value` in units in the last place of the reference, or of a larger `scale`."""
    form = FORMATS[dtype]
    size = max(abs(reference), abs(scale))
    exponent = int(mpmath.frexp(size)[1]) - 1 if size else form.least
    unit = mpmath.ldexp(1, max(exponent - form.precision + 1, form.least))
    return float(abs(mpmath.mpf(float(value)) - reference) / unit)


def tensors(points: dict[str, Any]) -> dict[str, Any]:
    return {name: tf.constant(value) for name, value in points.items()}


def has_kernel(op: Op, dtype: str) -> bool:
    return not op.tf.dtypes or dtype in op.tf.dtypes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_elementwise_rows_agree_with_high_precision_to_a_few_ulp(op: Op, dtype: str) -> None:
    case = scalar_case(op)
    graph = graph_of(case)
    points = draw(case, graph, (60,), dtype)
    judge = evaluate_mpmath(graph, exact(points))["y"]
    answers = {"numpy": (evaluate(graph, points, dtype=dtype)["y"], NUMPY_ULP)}
    if has_kernel(op, dtype):
        answers["tensorflow"] = (direct.run(graph, tensors(points), dtype=dtype)["y"].numpy(), TENSORFLOW_ULP)
    sums = op.name in ("add", "sub")  # cancellation: accurate relative to the operands
    scale = sum(np.abs(p.astype(float)) for p in points.values()) if sums else np.zeros(60)
    for name, (answer, exceptions) in answers.items():
        if answer.dtype == bool:
            assert (answer == judge.astype(bool)).all(), name
            continue
        assert answer.dtype == numpy_dtype(Kind.REAL, dtype)
        allowed = max(ULP[dtype], exceptions.get(op.name, (0.0, ""))[0])
        errors = [ulps(a, j, dtype, s) for a, j, s in zip(answer, judge, scale, strict=True)]
        worst = int(np.argmax(errors))
        where = {key: value[worst] for key, value in points.items()}
        assert errors[worst] <= allowed, f"{name} is {errors[worst]:.1f} ulp off at {where}"


@pytest.mark.parametrize("op", [o for o in ELEMENTWISE if o.tf and o.tf.dtypes], ids=lambda op: op.name)
def test_rows_that_name_their_dtypes_have_no_kernel_for_the_others(op: Op) -> None:
    case = scalar_case(op)
    graph = graph_of(case)
    for dtype in sorted(set(DTYPES) - set(op.tf.dtypes)):
        with pytest.raises((tf.errors.NotFoundError, tf.errors.InvalidArgumentError, TypeError)):
            direct.run(graph, tensors(draw(case, graph, (2,), dtype)), dtype=dtype)


def special_points(graph: Graph) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    kinds = [graph[v].type.kind for v in graph.inputs]
    grid = SPECIAL_OF_MANY if kinds.count(Kind.REAL) > 2 else SPECIAL
    points = list(itertools.product(*((False, True) if kind is Kind.BOOLEAN else grid for kind in kinds)))
    names = [graph[v].attributes["name"] for v in graph.inputs]
    return points, {n: np.array(c) for n, c in zip(names, zip(*points, strict=True), strict=True)}


def same(a: Any, b: Any) -> bool:
    if np.isnan(a) or np.isnan(b):
        return bool(np.isnan(a) and np.isnan(b))
    return a == b or abs(a - b) <= 1e-11 * abs(b) + 1e-307  # TensorFlow flushes subnormal results to zero


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_special_values_are_those_of_ieee_arithmetic_in_every_backend(op: Op) -> None:
    graph = graph_of(scalar_case(op))
    points, columns = special_points(graph)
    reference = evaluate(graph, columns)["y"]
    in_tensorflow = direct.run(graph, tensors(columns))["y"].numpy()
    judge = evaluate_mpmath(graph, columns)["y"]
    elsewhere = (lambda *x: False, "")
    for point, numpy, tensorflow, true in zip(points, reference, in_tensorflow, judge, strict=True):
        if not TENSORFLOW_SPECIAL.get(op.name, elsewhere)[0](*point):
            assert same(tensorflow, numpy), f"TensorFlow {tensorflow}, NumPy {numpy} at {point}"
        unsigned = any(x == 0 and np.signbit(x) for x in point if not isinstance(x, bool))
        if not unsigned and not JUDGE_SPECIAL.get(op.name, elsewhere)[0](*point):
            due = bool(true) if reference.dtype == bool else rounded(true, "float64")
            assert same(numpy, due), f"NumPy {numpy}, mpmath {due} at {point}"


# Shapes

STRUCTURAL = [
    Case(OPS["cast"], ((2,),), {"kind": Kind.REAL}),
    Case(OPS["expand"], ((3,),), {"axis": -1}),
    Case(OPS["expand"], ((3,),), {"axis": -2}),
    Case(OPS["squeeze"], ((1, 3),), {"axis": -2}),
    Case(OPS["broadcast"], ((1, 3),), {"shape": (2, 3)}),
    Case(OPS["broadcast"], ((2, 1),), {"shape": (4,)}),
    Case(OPS["slice"], ((5, 2),), {"axis": -2, "start": 1, "size": 3}),
    Case(OPS["pad"], ((3, 2),), {"axis": -2, "before": 1, "after": 2}),
    Case(OPS["transpose"], ((2, 3, 4),), {"axes": (-1, -3, -2)}),
    Case(OPS["transpose"], ((2, 3, 4),), {"axes": (-1, -2)}),
    Case(OPS["sum"], ((3, 4),), {"axes": (-1,)}),
    Case(OPS["sum"], ((3, 4),), {"axes": (-2, -1)}),
    Case(OPS["reduce_max"], ((3, 4),), {"axes": (-2,)}),
    Case(OPS["reduce_min"], ((3, 4),), {"axes": (-2, -1)}),
    Case(OPS["reduce_any"], ((3, 4),), {"axes": (-1,)}),
    Case(OPS["logsumexp"], ((3, 4),), {"axes": (-1,)}),
    Case(OPS["softmax"], ((3, 4),), {"axes": (-1,)}),
    Case(OPS["softmax"], ((3, 4),), {"axes": (-2,)}),
    Case(OPS["softmax"], ((2, 3, 2),), {"axes": (-3, -1)}),
    Case(OPS["prod"], ((2, 4),), {"axis": -1}),
    Case(OPS["prod_others"], ((2, 4),)),
    Case(OPS["einsum"], ((2, 3), (3, 4)), {"inputs": ("ij", "jk"), "output": "ik"}),
    Case(OPS["einsum"], ((3,), (3,), (3,)), {"inputs": ("i", "i", "i"), "output": ""}),
    Case(OPS["einsum"], ((2, 3), ()), {"inputs": ("ij", ""), "output": "ji"}),
    Case(OPS["einsum"], ((3, 3),), {"inputs": ("aa",), "output": "a"}),
    Case(OPS["einsum"], ((3, 3),), {"inputs": ("aa",), "output": ""}),
    Case(OPS["einsum"], ((2, 3, 2), (3,)), {"inputs": ("aba", "b"), "output": "ba"}),
    Case(OPS["stack"], ((2, 3), (2, 3), (2, 3)), {"axis": -1}),
    Case(OPS["stack"], ((2, 3), (2, 3)), {"axis": -3}),
    Case(OPS["stack"], ((), (), (), ()), {"axis": -1}),
    Case(OPS["concat"], ((2, 3), (2, 1), (2, 2)), {"axis": -1}),
    Case(OPS["concat"], ((1, 3), (2, 3)), {"axis": -2}),
    Case(OPS["reshape"], ((2, 6),), {"rank": 1, "shape": (2, 3)}),
    Case(OPS["reshape"], ((2, 3, 4),), {"rank": 2, "shape": (6, 2)}),
    Case(OPS["reshape"], ((),), {"rank": 0, "shape": (1, 1)}),
    Case(OPS["diag"], ((3,),)),
    Case(OPS["diag"], ((2, 3),)),
    Case(OPS["gather"], ((4,), (3,)), {"axis": -1, "core": 1, "rank": 1}),
    Case(OPS["gather"], ((2, 5, 3), (2, 3)), {"axis": -2, "core": 3, "rank": 2}),
    Case(OPS["gather"], ((2, 4), ()), {"axis": -1, "core": 2, "rank": 0}),
    Case(OPS["scatter_add"], ((6,), (6,)), {"axis": -1, "core": 1, "rank": 1, "size": 4}),
    Case(OPS["scatter_add"], ((2, 3, 5, 4), (3, 5)), {"axis": -2, "core": 4, "rank": 2, "size": 5}),
    Case(OPS["scatter_add"], ((2,), ()), {"axis": -2, "core": 1, "rank": 0, "size": 4}),
    Case(OPS["one_hot"], ((5,),), {"size": 4}),
    Case(OPS["floor_divide"], ((5,),), {"by": 3}),
    Case(OPS["cumsum"], ((4, 2),), {"axis": -2, "reverse": False, "exclusive": False}),
    Case(OPS["cumsum"], ((2, 4),), {"axis": -1, "reverse": True, "exclusive": True}),
    Case(OPS["stride"], ((7, 2),), {"axis": -2, "start": 1, "size": 3, "step": 2}),
    Case(OPS["stride"], ((6,),), {"axis": -1, "start": 5, "size": 3, "step": -2}),
    Case(OPS["correlate"], ((1, 6), (1, 1, 3)), {"dims": 1}),
    Case(OPS["correlate"], ((2, 5), (3, 2, 2)), {"dims": 1}),
    Case(OPS["correlate"], ((2, 4, 3), (2, 2, 2, 2)), {"dims": 2}),
    Case(OPS["correlate"], ((2, 1, 5), (2, 1, 1, 2)), {"dims": 1}),
    Case(OPS["dilate"], ((3, 2),), {"axis": -2, "start": 1, "size": 7, "step": 2}),
    Case(OPS["dilate"], ((3,),), {"axis": -1, "start": 5, "size": 6, "step": -2}),
]
STRUCTURAL += [
    *(
        Case(OPS[name], (shape,), regular=True)
        for name in ("inverse", "det", "cofactor", "logabsdet", "logdet", "cholesky", "eigh_values", "eigh_vectors")
        for shape in ((3, 3), (2, 2, 2))
    ),
    *(
        Case(OPS[name], (shape,), regular=True)
        for name in ("svd_values", "svd_left", "svd_right", "qr_q", "qr_r")
        for shape in ((2, 2), (2, 3, 2))
    ),
    *(Case(OPS[name], ((2, 3),), regular=True) for name in ("svd_values", "svd_left", "svd_right")),
    *(Case(OPS[name], ((2, 2),), regular=True) for name in ("expm", "logm", "sqrtm")),
    Case(OPS["cofactor_slope"], ((3, 3), (3, 3)), regular=True),
    Case(OPS["cofactor_slope"], ((1, 2, 2), (2, 2, 2)), regular=True),
    Case(OPS["solve"], ((3, 3), (3, 2)), {"adjoint": False}, regular=True),
    Case(OPS["solve"], ((1, 2, 2), (2, 2, 1)), {"adjoint": True}, regular=True),
    Case(OPS["solve"], ((2, 2, 2), (1, 2, 3)), {"adjoint": False}, regular=True),
    Case(OPS["triangular_solve"], ((3, 3), (3, 2)), {"lower": True, "adjoint": False}, regular=True),
    Case(OPS["triangular_solve"], ((1, 2, 2), (2, 2, 1)), {"lower": False, "adjoint": True}, regular=True),
    Case(OPS["eigh_values"], ((3, 3),), {"alone": True}, regular=True),
    Case(OPS["svd_values"], ((3, 2),), {"alone": True}, regular=True),
    Case(OPS["cholesky"], ((2, 2),), {"trust": False}, regular=True),
]
BROADCAST = [
    Case(op, shapes)
    for op in REAL_VALUED
    for shapes in [((2, 3),) * (op.arity or 3)]
    + ([((1, 3), *((2, 1),) * ((op.arity or 3) - 1)), ((), *((2,),) * ((op.arity or 3) - 1))] if op.arity != 1 else [])
]


def test_every_row_is_tested() -> None:
    leaves = {
        "input",
        "const",
        "size",
        "range",
        "pi",
        "e",
        "euler_gamma",
        "golden_ratio",
        "catalan",
        "tribonacci",
        "eye",
        "table",
    }
    in_test_linalg = {"lu_factor", "lu_rows", "solve_factored"}  # made by a pass, from one another
    tested = {case.op.name for case in STRUCTURAL} | {op.name for op in ELEMENTWISE} | leaves | in_test_linalg
    assert set(OPS) <= tested, f"no case for {sorted(set(OPS) - tested)}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", STRUCTURAL + BROADCAST, ids=str)
def test_rows_agree_on_every_core_and_batch_shape(case: Case, dtype: str) -> None:
    graph = graph_of(case)
    step = float(np.ldexp(1.0, 1 - FORMATS[dtype].precision))
    for batch in ((), (2,), (3, 1)):
        points = draw(case, graph, batch, dtype)
        if len(points) > 1 and len(batch) == 2:
            points["a0"] = points["a0"][0]  # one operand with fewer batch axes
        due = evaluate_mpmath(graph, exact(points))["y"].astype(float)
        answer = evaluate(graph, points, dtype=dtype)["y"]
        size = max(1.0, np.abs(due).max()) if case.regular else 1.0  # errors of a matrix are relative to its norm
        assert answer.shape == due.shape == (*batch, *graph[graph.outputs["y"]].type.shape)
        np.testing.assert_allclose(answer.astype(float), due, rtol=60 * step, atol=60 * step * size)
        if has_kernel(case.op, dtype):
            tensor = direct.run(graph, tensors(points), dtype=dtype)["y"].numpy().astype(float)
            np.testing.assert_allclose(tensor, due, rtol=60 * step, atol=60 * step * size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tables_of_numbers_are_rounded_once_in_every_backend(dtype: str) -> None:
    values = (Fraction(1, 3), Fraction(-2), Fraction(7, 10), Fraction(2049, 2048), Fraction(0), np.nan)
    builder = Builder()
    y = builder.add(OPS["table"], (), {"values": values, "shape": (2, 3), "kind": Kind.REAL})
    graph = builder.build([], {"y": y, "unit": builder.add(OPS["eye"], (), {"size": 3})}).validate()
    due = np.array([rounded(v, dtype) for v in values]).reshape(2, 3)
    for answer in (evaluate(graph, {}, dtype=dtype), direct.run(graph, {}, dtype=dtype)):
        np.testing.assert_array_equal(np.asarray(answer["y"]).astype(float), due)
        np.testing.assert_array_equal(np.asarray(answer["unit"]).astype(float), np.eye(3))
    judge = evaluate_mpmath(graph, {}, digits=30)
    assert judge["y"][0, 2] * 10 == 7
    assert mpmath.isnan(judge["y"][1, 2])
    np.testing.assert_array_equal(judge["unit"].astype(float), np.eye(3))


def test_a_table_refuses_numbers_that_the_dtype_cannot_hold() -> None:
    builder = Builder()
    attributes = {"values": (Fraction(10) ** 6, Fraction(1)), "shape": (2,), "kind": Kind.REAL}
    graph = builder.build([], {"y": builder.add(OPS["table"], (), attributes)})
    with pytest.raises(DtypeError, match="float16 cannot hold"):
        evaluate(graph, {}, dtype="float16")


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [
        ("stack", [(2,), (3,)], {"axis": -1}),
        ("concat", [(2, 3), (3, 2)], {"axis": -1}),
        ("concat", [(2, 3), (2,)], {"axis": -1}),
        ("reshape", [(2, 3)], {"rank": 2, "shape": (4,)}),
        ("reshape", [(2,)], {"rank": 2, "shape": (2,)}),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(op: str, shapes: Any, attributes: Any) -> None:
    with pytest.raises(ShapeError):
        OPS[op].infer(*(TensorType(Kind.REAL, shape) for shape in shapes), **attributes)


# Derivatives

DIFFERENTIABLE = [
    case
    for case in [*(scalar_case(op) for op in REAL_VALUED), *STRUCTURAL, *BROADCAST]
    if case.op.name not in ("reduce_any", "cast", "one_hot", "floor_divide")
]
STEP = mpmath.mpf(10) ** -15


def real_inputs(graph: Graph) -> list[int]:
    return [v for v in graph.inputs if graph[v].type.kind is Kind.REAL]


def inner(a: Any, b: Any) -> Any:
    return sum((x * y for x, y in zip(np.ravel(a), np.ravel(b), strict=True)), mpmath.mpf(0))


def difference_quotient(graph: Graph, points: dict[str, Any], direction: dict[str, Any], name: str) -> Any:
    """The derivative of an output along a direction, by central differences in 50 digits."""
    sides = []
    for sign in (1, -1):
        with mpmath.workdps(50):
            moved = {k: np.asarray(p, dtype=object) for k, p in points.items()}
            for k, d in direction.items():
                moved[k] = np.vectorize(mpmath.mpf, otypes=[object])(points[k]) + sign * STEP * d
        sides.append(evaluate_mpmath(graph, moved, digits=50)[name])
    with mpmath.workdps(50):
        return (sides[0] - sides[1]) / (2 * STEP)


def random_like(graph: Graph, nodes: list[int], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {graph[v].attributes["name"]: np.asarray(rng.normal(size=graph[v].type.shape)) for v in nodes}


def close(a: Any, b: Any, tolerance: float) -> bool:
    return bool(abs(a - b) <= tolerance * (1 + abs(b)))


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_first_derivatives_equal_high_precision_differences(case: Case) -> None:
    graph = graph_of(case)
    wrt = real_inputs(graph)
    points = exact(draw(case, graph, (), "float64", seed=1))
    direction = random_like(graph, wrt, seed=2)
    due = difference_quotient(graph, points, direction, "y")
    forward = jvp(graph, wrt)
    names = [forward[v].attributes["name"] for v in forward.inputs[len(graph.inputs) :]]
    given = points | dict(zip(names, direction.values(), strict=True))
    (pushed,) = evaluate_mpmath(forward, given).values()
    assert all(close(a, b, 1e-12) for a, b in zip(np.ravel(pushed), np.ravel(due), strict=True))
    backward = vjp(graph, wrt)
    cotangent = random_like(backward, list(backward.inputs[len(graph.inputs) :]), seed=3)
    pulled = evaluate_mpmath(backward, points | cotangent).values()
    (weight,) = cotangent.values()
    product = sum((inner(p, d) for p, d in zip(pulled, direction.values(), strict=True)), mpmath.mpf(0))
    assert close(product, inner(weight, due), 1e-12)


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_second_derivatives_equal_differences_of_the_first(case: Case) -> None:
    graph = graph_of(case)
    first = vjp(graph, real_inputs(graph))
    cotangent = random_like(first, list(first.inputs[len(graph.inputs) :]), seed=3)
    points = exact(draw(case, graph, (), "float64", seed=1)) | cotangent
    wrt = [v for v in first.inputs[: len(graph.inputs)] if first[v].type.kind is Kind.REAL]
    direction = random_like(first, wrt, seed=4)
    second = jvp(first, wrt)
    names = [second[v].attributes["name"] for v in second.inputs[len(first.inputs) :]]
    pushed = evaluate_mpmath(second, points | dict(zip(names, direction.values(), strict=True)))
    for name, answer in pushed.items():
        due = difference_quotient(first, points, direction, name)
        assert all(close(a, b, 1e-12) for a, b in zip(np.ravel(answer), np.ravel(due), strict=True)), name


NO_TAPE = {
    "max",
    "min",
    "mod",
    "floor",
    "ceiling",
    "sign",
    "logm",
}  # conventions at corners differ, the logarithm of a matrix has no tape; covered by differences


@pytest.mark.parametrize("case", [c for c in DIFFERENTIABLE if c.op.name not in NO_TAPE], ids=str)
def test_derivatives_equal_the_gradient_tape_to_second_order(case: Case) -> None:
    graph = graph_of(case)
    wrt = real_inputs(graph)
    first = vjp(graph, wrt)
    cotangent = random_like(first, list(first.inputs[len(graph.inputs) :]), seed=3)
    points = tensors(draw(case, graph, (), "float64", seed=1))
    (weight,) = (tf.constant(c) for c in cotangent.values())
    names = [graph[v].attributes["name"] for v in wrt]
    watched = [points[name] for name in names]
    zero = tf.UnconnectedGradients.ZERO
    with tf.GradientTape() as outer:
        outer.watch(watched)
        with tf.GradientTape() as tape:
            tape.watch(watched)
            y = direct.run(graph, points)["y"]
        gradients = tape.gradient(y, watched, output_gradients=weight, unconnected_gradients=zero)
        total = tf.add_n([tf.reduce_sum(tf.sin(g)) for g in gradients])
    seconds = outer.gradient(total, watched, unconnected_gradients=zero)
    ours = direct.run(first, points | {k: tf.constant(c) for k, c in cotangent.items()})
    for tape_gradient, mine in zip(gradients, ours.values(), strict=True):
        np.testing.assert_allclose(np.broadcast_to(mine, tape_gradient.shape), tape_gradient, rtol=1e-9, atol=1e-11)
    with tf.GradientTape() as outer:
        outer.watch(watched)
        ours = direct.run(first, points | {k: tf.constant(c) for k, c in cotangent.items()})
        total = tf.add_n([tf.reduce_sum(tf.sin(g)) for g in ours.values()])
    if case.op.name == "polygamma":
        return  # TensorFlow has no derivative of polygamma by its order, which our rule does not need
    again = outer.gradient(total, watched, unconnected_gradients=zero)
    for tape_second, mine in zip(seconds, again, strict=True):
        np.testing.assert_allclose(mine, tape_second, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("zeros", [(), (0,), (0, 2), (0, 1, 2)])
def test_products_have_right_derivatives_at_zeros(zeros: tuple[int, ...]) -> None:
    x = np.array([1.5, -2.0, 3.0, 0.5])
    x[list(zeros)] = 0.0
    others = [np.prod(np.delete(x, k)) for k in range(4)]
    pairs = [[0.0 if k == m else np.prod(np.delete(x, [k, m])) for m in range(4)] for k in range(4)]
    flat, whole = Case(OPS["mul"], ((),) * 4), Case(OPS["prod"], ((4,),), {"axis": -1})
    for case, points in ((flat, {f"a{k}": x[k] for k in range(4)}), (whole, {"a0": x})):
        graph = graph_of(case)
        first = vjp(graph, list(graph.inputs))
        cotangent = {first[first.inputs[-1]].attributes["name"]: 1.0}
        np.testing.assert_array_equal(np.hstack(list(evaluate(first, points | cotangent).values())), others)
        second = jvp(first, list(first.inputs[: len(graph.inputs)]))
        for m in range(4):
            unit = np.eye(4)[m]
            names = [second[v].attributes["name"] for v in second.inputs[len(first.inputs) :]]
            tangents = dict(zip(names, unit if case is flat else [unit], strict=True))
            answer = np.hstack(list(evaluate(second, points | cotangent | tangents).values()))
            np.testing.assert_array_equal(answer, np.array(pairs)[:, m])


def test_rounding_is_exact_at_ties_and_at_the_edges_of_each_dtype() -> None:
    assert rounded(1 + Fraction(1, 2**53), "float64") == 1.0
    assert rounded(1 + Fraction(1, 2**53) + Fraction(1, 2**200), "float64") == 1.0 + 2.0**-52
    assert rounded(65519, "float16") == 65504
    assert rounded(65520, "float16") == np.inf
    assert rounded(-Fraction(1, 3), "bfloat16") == -0.333984375
    assert rounded(Fraction(10) ** -5000, "float32") == 0.0
