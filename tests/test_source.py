"""Generated source: stands alone, gives the same bits, and never holds anything that a user named."""

from __future__ import annotations

import ast
import subprocess
import sys

import numpy as np
import pytest
import sympy as sp
import tensorflow as tf

import sym2tf
from sym2tf.ir.graph import Builder
from sym2tf.ir.types import REAL
from sym2tf.ops.elementary import sin
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value

x, y, w, b = sp.symbols("x y w b")
i, j, n = sp.symbols("i j n", integer=True)
X, Y, A = sp.IndexedBase("x"), sp.IndexedBase("y"), sp.IndexedBase("A")

PROGRAMS = {
    "gaussian": sp.exp(-(x**2)) * sp.sin(y),
    "piecewise": sp.Piecewise((x * sp.log(x), x > 0), (sp.cos(y), y < 0), (0, True)),
    "loss": sp.Sum((Y[i] - w * X[i] - b) ** 2, (i, 0, n - 1)) / n,
    "differences": sp.Sum((X[i + 1] - X[i]) ** 2, (i, 0, n - 2)),
    "product": sp.Product(1 + X[i] * w, (i, 0, n - 1)),
    "matvec": sp.Sum(A[i, j] * X[j], (j, 0, n - 1)),
    "nest": {"a": [x + y, sp.pi], "b": (sp.Max(x, 0), x > y)},
    "constant": sp.sqrt(2),
    "free index": X[i] * w + b,
}
RNG = np.random.default_rng(3)
DATA = {"x": RNG.normal(size=4), "y": RNG.normal(size=4), "A": RNG.normal(size=(3, 4)), "w": 0.7, "b": -0.2}


def arguments(f):
    scalars = {"x": 0.3, "y": -0.6}
    types = {f.graph[v].attributes["name"]: f.graph[v].type for v in f.graph.inputs}
    return [DATA[k] if t.rank or k not in scalars else scalars[k] for k, t in types.items()]


def flat(answer):
    return [np.asarray(a) for a in tf.nest.flatten(answer)]


def run_source(f, *values):
    """The generated text in an empty module, traced the way `f` is."""
    namespace: dict = {}
    exec(compile(f.source, "<pasted>", "exec"), namespace)
    function = tf.function(namespace[f.name], autograph=False)
    return function(*[tf.constant(v, tf.float64) for v in values])


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("derivative", [False, True], ids=["value", "jacobian"])
def test_pasted_source_gives_the_same_bits(name, derivative):
    f = sym2tf.compile(PROGRAMS[name])
    if derivative:
        if name in ("nest", "constant"):
            return
        f = f.jacobian()
    values = arguments(f)
    for mine, pasted in zip(flat(f(*values)), flat(run_source(f, *values)), strict=True):
        np.testing.assert_array_equal(mine, pasted)


def test_the_source_needs_only_tensorflow():
    f = sym2tf.compile(PROGRAMS["loss"]).gradient(["w", "b"])
    code = f.source + "\nprint(float(f_gradient(0.5, 2.0, [1.0, 2.0], [3.0, 4.0])[0]))\n"
    program = "import sys; sys.modules['sym2tf'] = None\n" + code
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) == float(f(0.5, 2.0, [1.0, 2.0], [3.0, 4.0])[0])


@pytest.mark.parametrize("name", PROGRAMS)
def test_golden_source(name, golden):
    golden(f"source_{name.replace(' ', '_')}.py", sym2tf.compile(PROGRAMS[name]).source)


class Canary:
    """What hostile names would run if anything ever executed them."""

    names = (
        "lambda",
        "tf",
        "f",
        "x y",
        r"\alpha_{1}",
        "x); import os",
        "__import__('os').abort()",
        'x"""\nraise SystemExit\n"""',
        "x\nraise SystemExit(1)",
        "# comment",
        "",
        "1x",
        "ſ",
        "s",
        "batch_shape",
        "print",
        "x'",
        "\\",
        "{x}",
        "None",
        "const_0",
    )


@pytest.mark.parametrize("name", Canary.names, ids=repr)
def test_hostile_symbol_names_work_and_are_never_executed(name):
    s = sp.Symbol(name)
    f = sym2tf.compile(2 * s + sp.sin(s), name=name or "f")
    assert float(f(0.5)) == pytest.approx(1 + np.sin(0.5))
    assert float(f.gradient(s)(0.5)) == pytest.approx(2 + np.cos(0.5))
    identifiers = {node.id for node in ast.walk(ast.parse(f.source)) if isinstance(node, ast.Name)}
    assert all(word.isascii() and word.isidentifier() for word in identifiers)


@pytest.mark.parametrize("name", Canary.names[1:], ids=repr)
def test_hostile_names_of_indices_bases_functions_sizes_and_keys(name):
    k, size = sp.Symbol(name + "k", integer=True), sp.Symbol(name + "n", integer=True)
    base = sp.IndexedBase(sp.Symbol(name))
    f = sym2tf.compile({name: sp.Sum(base[k], (k, 0, size - 1)) / size})
    assert float(f([1.0, 2.0, 6.0])[name]) == 3
    assert float(run_source(f, [1.0, 2.0, 6.0])[name]) == 3
    applied = sp.Function(name or "q")(x)
    assert float(sym2tf.compile(applied + 1)(2.0)) == 3


def test_names_that_python_folds_together_stay_apart():
    long_s, s = sp.Symbol("ſ"), sp.Symbol("s")
    f = sym2tf.compile(s - 10 * long_s, args=(s, long_s))
    assert float(f(1.0, 2.0)) == -19


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_float_constants_are_reproduced_bit_for_bit(dtype):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, 3000, dtype=np.uint64).view(np.float64)
    numbers = (
        [float(v) for v in bits if np.isfinite(v)][:2000]
        if dtype == "float64"
        else [float(v) for v in rng.integers(0, 2**32, 3000, dtype=np.uint32).view(np.float32) if np.isfinite(v)][:2000]
    )
    # not multiplied by anything: TensorFlow's kernels flush subnormal numbers to zero
    f = sym2tf.compile([sp.Float(v) for v in numbers], dtype=dtype)
    got = np.array([float(v) for v in f()])
    np.testing.assert_array_equal(got, numbers)


def test_a_constant_that_the_dtype_cannot_hold_is_an_error():
    huge = sp.Pow(10, sp.Pow(10, 10, evaluate=False), evaluate=False)
    tower = sp.Integer(2)
    for _ in range(8):
        tower = sp.Pow(2, tower, evaluate=False)
    for expr in (tower * x, sp.exp(sp.exp(sp.exp(1000))) * x, sp.Mod(huge, 7, evaluate=False) * x):
        with pytest.raises(sym2tf.errors.DtypeError, match=r"too large to compute with|hold"):
            sym2tf.compile(expr)(1.0)
    for expr, dtype in ((huge, "float64"), (huge * x, "float64"), (x + 70000, "float16")):
        with pytest.raises(sym2tf.errors.DtypeError, match="hold"):
            sym2tf.compile(expr, dtype=dtype)(*([1.0] if expr.free_symbols else []))


def test_long_sums_are_printed_over_several_lines():
    symbols = sp.symbols("a0:100")
    f = sym2tf.compile(sp.Add(*symbols))
    assert max(map(len, f.source.splitlines())) < 200
    assert float(f(*range(100))) == 4950


def test_a_graph_of_100_000_levels_prints_its_source():
    builder = Builder()
    v = Value(builder, builder.add(input_, (), {"name": "x", "symbol": None, "type": REAL}))
    source = v
    for _ in range(100_000):
        v = sin(v)
    graph = builder.build([source.id], {"out": v.id})
    text = sym2tf.generate(graph)
    assert text.count("tf.sin(") == 100_000


def test_tracebacks_show_the_generated_line():
    f = sym2tf.compile(sp.Sum(X[i] * x, (i, 0, n - 1)), args=(x, X))
    import inspect

    assert "def f(" in inspect.getsource(f._program._python)
