"""What a hostile reader of the first issue would try: claims, and failures that were found and repaired."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
import sympy as sp
import tensorflow as tf

import sym2tf
from sym2tf.errors import ArgumentError, DtypeError, SizeError, Sym2TFError, UnsupportedExpressionError

x, y, w = sp.symbols("x y w")
i, j, n, m = sp.symbols("i j n m", integer=True)
X, Y = sp.IndexedBase("x"), sp.IndexedBase("y")
XS, YS = np.arange(1.0, 6.0), np.array([0.5, 1.5, 2.5])
TOTAL = sp.Sum(X[i] * Y[i], (i, 0, n - 1))


def unevaluated(base, exponent):
    return sp.Pow(sp.sympify(base), sp.sympify(exponent), evaluate=False)


class TestArguments:
    @pytest.mark.parametrize(
        "value",
        [
            [1, [2, 3]],
            "a",
            None,
            {},
            [None],
            object(),
            tf.constant("a"),
            tf.ragged.constant([[1.0], [1.0, 2.0]]),
            tf.sparse.from_dense([[1.0, 0.0]]),
            np.datetime64("2020-01-01"),
            sp.Symbol("q"),
            {1},
        ],
        ids=lambda v: type(v).__name__,
    )
    def test_what_is_no_array_of_numbers_is_a_typed_error(self, value):
        with pytest.raises(ArgumentError, match="x must be"):
            sym2tf.compile(x + y)(value, 1.0)

    def test_an_integer_beyond_the_range_of_the_dtype(self):
        with pytest.raises(DtypeError):
            sym2tf.compile(x, dtype="float32")(10**39)
        with pytest.raises(DtypeError):
            sym2tf.compile(x, dtype="float16")(tf.constant(70000))

    def test_a_float_beyond_the_range_is_infinite_without_a_warning(self):
        assert np.isinf(sym2tf.compile(x, dtype="float32")(np.array(1e300)))

    def test_a_tape_sees_tensors_in_a_list(self):
        a, c = tf.Variable(2.0, dtype=tf.float64), tf.Variable(3.0, dtype=tf.float64)
        square = sym2tf.compile(x**2)
        with tf.GradientTape() as tape:
            answer = tf.reduce_sum(square([a, c]))
        assert [float(g) for g in tape.gradient(answer, [a, c])] == [4.0, 6.0]

    @pytest.mark.parametrize("wrt", [np.zeros(2), sp.Matrix([1]), 5, n, X[i], x**2, Y, [None]], ids=str)
    def test_wrt_that_is_no_input(self, wrt):
        with pytest.raises(Sym2TFError):
            sym2tf.compile(sp.Sum(X[i] ** 2, (i, 0, n - 1))).gradient(wrt)


class TestIndices:
    def test_one_name_free_and_bound(self):
        np.testing.assert_allclose(sym2tf.compile(X[i] * sp.Sum(Y[i], (i, 0, m - 1)))(XS, YS), XS * YS.sum())
        np.testing.assert_allclose(sym2tf.compile(X[i] * sp.Sum(X[i], (i, 0, m - 1)))(XS), XS * XS.sum())

    def test_one_name_bound_twice(self):
        body = sp.exp(X[i])
        f = sym2tf.compile(sp.Sum(body * sp.Sum(body * w, (i, 0, n - 1)), (i, 0, n - 1)), args=(w, X))
        assert float(f(2.0, XS)) == pytest.approx(2 * np.exp(XS).sum() ** 2)

    def test_idx_as_free_index_summation_index_and_value(self):
        index, shifted = sp.Idx("i", n), sp.Idx("i", (1, n))
        np.testing.assert_allclose(sym2tf.compile(2 * X[index] + index)(XS), 2 * XS + np.arange(5))
        assert float(sym2tf.compile(sp.Sum(X[index] ** 2, index))(XS)) == np.sum(XS**2)
        assert float(sym2tf.compile(sp.Sum(X[shifted - 1] * shifted, shifted))(XS)) == np.sum(XS * np.arange(1, 6))

    @pytest.mark.parametrize(
        "expr", [sp.Sum(w * i, (i, 4, 1)), sp.Sum(w * X[i], (i, 4, 1)), sp.Product(w + i, (i, 4, 1)), X[-1]], ids=str
    )
    def test_reversed_ranges_and_negative_subscripts_are_refused(self, expr):
        with pytest.raises(UnsupportedExpressionError):
            sym2tf.compile(expr)

    def test_a_negative_number_of_terms_is_an_error_and_none_is_the_neutral_element(self):
        f = sym2tf.compile(sp.Sum(x**i, (i, 3, n)))
        assert float(f(2.0, n=2)) == 0
        with pytest.raises(SizeError, match="negative number with n = 1"):
            f(2.0, n=1)
        with pytest.raises(SizeError, match="negative number with n = 1"):
            f.gradient(x)(2.0, n=1)

    def test_the_derivative_by_an_element_beyond_the_data(self):
        f = sym2tf.compile(sp.Sum(X[i] ** 2, (i, 0, n - 1)))
        assert float(f.gradient(X[4])(XS)) == 10
        for sizes, element in (({}, 10), ({"n": 2}, 3)):
            with pytest.raises(SizeError):
                f.gradient(X[element])(XS, **sizes)


class TestInsideTensorFlow:
    def unknown(self, call, count):
        return tf.function(call, input_signature=[tf.TensorSpec([None], tf.float64)] * count)

    def test_a_prefix_where_lengths_are_unknown_while_tracing(self):
        f = sym2tf.compile(TOTAL)
        prefix = self.unknown(lambda a, c: f(a, c, n=2), 2)
        assert float(prefix(tf.constant(XS), tf.constant(XS))) == 5

    def test_lengths_that_differ_do_not_broadcast_where_they_are_unknown_while_tracing(self):
        f = sym2tf.compile(TOTAL)
        both = self.unknown(lambda a, c: f(a, c), 2)
        assert float(both(tf.constant(XS), tf.constant(XS))) == np.sum(XS**2)
        with pytest.raises(tf.errors.InvalidArgumentError, match="y has the wrong length"):
            both(tf.constant(XS), tf.constant(XS[:1]))

    def test_autograph_has_nothing_to_complain_of(self, caplog):
        f = sym2tf.compile(sp.sin(x))

        @tf.function
        def thrice(v):
            for _ in tf.range(3):
                v = f(v)
            return v

        with caplog.at_level(logging.WARNING, logger="tensorflow"):
            assert float(thrice(tf.constant(0.5, tf.float64))) == pytest.approx(np.sin(np.sin(np.sin(0.5))))
        assert "AutoGraph" not in caplog.text

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_jacobian_of_the_tape_vectorised(self):
        f = sym2tf.compile(x**2 * y)
        a = tf.constant([1.0, 2.0, 3.0], tf.float64)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(a)
            answer = f(a, 2.0)
        np.testing.assert_allclose(tape.jacobian(answer, a), np.diag(4 * a.numpy()))

    def test_forward_over_reverse(self):
        f = sym2tf.compile(x**3)
        a = tf.constant([1.0, 2.0], tf.float64)
        with tf.autodiff.ForwardAccumulator(a, tf.ones_like(a)) as forward, tf.GradientTape() as tape:
            tape.watch(a)
            answer = f(a)
            gradient = tape.gradient(answer, a)
        np.testing.assert_allclose(forward.jvp(gradient), 6 * a.numpy())


class TestSource:
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_pasted_source_gives_the_same_bits_run_the_same_way(self, dtype):
        f = sym2tf.compile(sp.erf(x) * y, dtype=dtype)
        rng = np.random.default_rng(0)
        for g in (f, f.gradient(), f.hessian(), f.jvp()):
            namespace = {}
            exec(g.source, namespace)
            pasted = namespace[g.name]
            values = [tf.constant(rng.random(200).astype(dtype)) for _ in g.arguments]
            specs = [tf.TensorSpec([None], dtype) for _ in values]
            due = tf.function(pasted, autograph=False).get_concrete_function(*specs)(*values)
            for a, c in zip(tf.nest.flatten(due), tf.nest.flatten(g(*values)), strict=True):
                assert a.numpy().tobytes() == c.numpy().tobytes()

    def test_pasted_source_needs_only_tensorflow(self, tmp_path):
        f = sym2tf.compile(sp.Sum(sp.log(1 + sp.exp(w * X[i])), (i, 0, n - 1))).gradient()
        path = tmp_path / "pasted.py"
        path.write_text(
            f.source + "\nimport sys\nassert 'sym2tf' not in sys.modules\n"
            "print([v.numpy().tolist() for v in f_gradient(0.5, [1.0, 2.0, 3.0])])\n"
        )
        done = subprocess.run([sys.executable, "-I", path], capture_output=True, text=True, timeout=100, check=True)
        assert done.stdout.strip() == str([np.asarray(v).tolist() for v in f(0.5, [1.0, 2.0, 3.0])])

    def test_no_name_is_executed(self, tmp_path):
        mark = tmp_path / "executed"
        code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
        for template in ("%s", "x); %s #", 'x"""\n%s\n"""', "x\n    %s\n", "{%s}", "*,a=%s", "\\\n%s"):
            name = template % code
            symbol, base, index = sp.Symbol(name), sp.IndexedBase(sp.Symbol(name)), sp.Symbol(name, integer=True)
            for expr in (
                symbol**2,
                sp.Sum(base[i], (i, 0, n - 1)),
                sp.Sum(X[index], (index, 0, n - 1)),
                sp.Function(name)(x),
                {name: x},
                sp.Sum(x**i, (i, 0, index)),
                base[index],
            ):
                f = sym2tf.compile(expr, name=name)
                exec(f.source, {})
                repr(f), str(f.report), str(sym2tf.to_sympy(f)), sym2tf.render(f, format="dot")
        assert not mark.exists()


class TestBombs:
    @pytest.mark.parametrize(
        "bomb",
        [
            unevaluated(10, unevaluated(10, 10)),
            unevaluated(unevaluated(unevaluated(9, 99), 99), 99**9),
            x * sp.Rational(7**20000, 3**20000),
            x + sp.Integer(7) ** 20000,
            sp.factorial(10**7, evaluate=False),
            sp.Sum(x**i, (i, 0, 10**12)),
            sp.Product(x + i, (i, 1, 10**12)),
            x * sp.Float((0, 1, 10**30, 1)),
        ],
        ids=["power", "powers", "fraction", "integer", "factorial", "sum", "product", "float"],
    )
    def test_bombs_end_in_a_typed_error(self, bomb):
        with pytest.raises(Sym2TFError) as caught:
            sym2tf.compile(bomb).source  # noqa: B018
        assert len(str(caught.value)) < 1000

    def test_a_number_that_cannot_be_printed_does_not_stop_what_can_be_computed(self):
        assert -1 <= float(sym2tf.compile(x + sp.sin(unevaluated(10, 400), evaluate=False))(0.0)) <= 1


def test_the_gradient_of_a_piecewise_grows_linearly_with_its_branches():
    def edges(count):
        branches = [(k * x, x < k) for k in range(count)]
        gradient = sym2tf.compile(sp.Piecewise(*branches, (0, True), evaluate=False)).gradient(x)
        return sum(len(gradient.lowered.operands(v)) for v in gradient.lowered.order)  # edges

    assert edges(400) < 2.2 * edges(200)
