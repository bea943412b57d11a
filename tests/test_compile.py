"""`compile`: what goes in, what comes out, and what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
import tensorflow as tf

import sym2tf
from sym2tf.errors import (
    ArgumentError,
    DifferentiationError,
    DtypeError,
    JitError,
    ShapeError,
    SizeError,
    UnsupportedExpressionError,
)

x, y, z, w, b = sp.symbols("x y z w b")
i, j, n, m = sp.symbols("i j n m", integer=True)
X, Y, A = sp.IndexedBase("x"), sp.IndexedBase("y"), sp.IndexedBase("A")
LOSS = sp.Sum((Y[i] - w * X[i] - b) ** 2, (i, 0, n - 1)) / n


def value(answer):
    return np.asarray(answer)


class TestCalls:
    f = sym2tf.compile(x - 2 * y)

    def test_positional_arguments_are_the_free_symbols_sorted_by_name(self):
        assert value(self.f(5, 1)) == 3

    def test_keywords(self):
        assert value(self.f(y=1, x=5)) == 3
        assert value(self.f(5, y=1)) == 3

    def test_args_sets_the_order_and_may_hold_unused_symbols(self):
        f = sym2tf.compile(x - 2 * y, args=(y, z, x))
        assert value(f(1, 100, 5)) == 3

    def test_nests_as_arguments(self):
        f = sym2tf.compile(x - 2 * y + z, args=({"a": x, "b": [y]}, z))
        assert value(f({"b": [1], "a": 5}, 0.5)) == 3.5
        with pytest.raises(ArgumentError, match="keys"):
            f({"a": 5}, 0.5)

    @pytest.mark.parametrize(
        "make", [float, int, np.float64, np.float32, np.int32, np.array, lambda v: [v], sp.Rational]
    )
    def test_numbers_of_every_make(self, make):
        assert np.ravel(value(self.f(make(5), 1)))[0] == 3

    def test_any_batch_shape_broadcasts(self):
        assert self.f(np.zeros((3, 1)), np.zeros(4)).shape == (3, 4)
        assert self.f(np.zeros((0, 2)), 1.0).shape == (0, 2)

    def test_tensors_and_variables(self):
        assert value(self.f(tf.Variable(5.0), tf.constant(1))) == 3

    def test_missing_unknown_repeated_and_surplus_arguments(self):
        with pytest.raises(ArgumentError, match="lacks y"):
            self.f(1)
        with pytest.raises(ArgumentError, match="no argument 'q'"):
            self.f(1, 2, q=3)
        with pytest.raises(ArgumentError, match="by position and by name"):
            self.f(1, 2, x=3)
        with pytest.raises(ArgumentError, match="2 positional"):
            self.f(1, 2, 3)

    def test_values_that_are_no_real_numbers(self):
        with pytest.raises(DtypeError, match="x is real"):
            self.f(1j, 1)
        with pytest.raises(ArgumentError, match="x must be numbers"):
            self.f("5", 1)
        with pytest.raises(ArgumentError, match="x must be numbers"):
            self.f(None, 1)
        with pytest.raises(DtypeError, match="cannot hold"):
            self.f(10**400, 1)
        with pytest.raises(DtypeError, match="cannot hold"):
            sym2tf.compile(x, dtype="float16")(70000)

    def test_batch_shapes_that_do_not_broadcast_are_named(self):
        with pytest.raises(ShapeError, match=r"x \(3,\).*y \(4,\)"):
            self.f(np.zeros(3), np.zeros(4))


class TestStructures:
    @pytest.mark.parametrize(
        "nest", [[x, y], (x, [y, {"k": x * y}]), {"loss": x, 3: (y,)}, sp.Tuple(x, y), [], {}], ids=str
    )
    def test_the_same_structure_comes_out(self, nest):
        f = sym2tf.compile(nest, args=(x, y))
        got = f(2.0, 3.0)

        def compare(expr, answer):
            if isinstance(expr, dict):
                assert list(expr) == list(answer)
                for k in expr:
                    compare(expr[k], answer[k])
            elif isinstance(expr, list | tuple | sp.Tuple):
                assert len(expr) == len(answer)
                for e, a in zip(expr, answer, strict=True):
                    compare(e, a)
            else:
                assert value(answer) == float(expr.subs({x: 2, y: 3}))

        compare(nest, got)

    def test_constants_have_the_full_batch_shape(self):
        f = sym2tf.compile([x + y, sp.pi, 3, y], args=(x, y))
        answers = f(np.zeros((2, 1)), np.zeros(3))
        assert [a.shape for a in answers] == [(2, 3)] * 4
        np.testing.assert_array_equal(answers[1], np.full((2, 3), np.pi))

    def test_a_constant_without_arguments(self):
        assert value(sym2tf.compile(sp.sqrt(2))()) == np.sqrt(2)
        assert value(sym2tf.compile(7)()) == 7

    def test_derivatives_have_the_full_batch_shape(self):
        f = sym2tf.compile(3 * x + y**2).gradient()
        gx, gy = f(np.zeros((2, 1)), np.ones(3))
        np.testing.assert_array_equal(gx, np.full((2, 3), 3.0))
        np.testing.assert_array_equal(gy, np.full((2, 3), 2.0))

    def test_conditions_come_out_as_booleans(self):
        assert value(sym2tf.compile(sp.And(x > 0, x < 1))(np.array([-1, 0.5, 2]))).tolist() == [False, True, False]


class TestDtypes:
    @pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
    @pytest.mark.parametrize(
        "expr",
        [sp.Max(x, 0), sp.sqrt(2) * x, 2**x, sp.Max(x, y, sp.Rational(1, 2)), sp.Piecewise((1, x > 0), (x, True))],
        ids=str,
    )
    def test_constants_work_in_every_dtype_eager_and_in_graphs(self, dtype, expr):
        f = sym2tf.compile(expr, args=(x, y), dtype=dtype)
        eager = f(0.75, 0.25)
        graph = tf.function(lambda a, c: f(a, c))(tf.constant(0.75, dtype), tf.constant(0.25, dtype))
        due = float(expr.subs({x: 0.75, y: 0.25}))
        assert eager.dtype.name == graph.dtype.name == dtype
        assert float(eager) == float(graph) == pytest.approx(due, rel=4e-3 if dtype != "float64" else 1e-15)

    @pytest.mark.parametrize("dtype", [np.float32, np.dtype("float32"), "float32"], ids=str)
    def test_dtypes_by_any_name(self, dtype):
        assert sym2tf.compile(x, dtype=dtype).dtype == "float32"

    @pytest.mark.parametrize("dtype", ["complex128", "int32", "float128", 3])
    def test_unknown_dtypes(self, dtype):
        with pytest.raises(DtypeError):
            sym2tf.compile(x, dtype=dtype)


class TestData:
    xs, ys = np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0, 8.0])
    f = sym2tf.compile(LOSS)

    def due(self, xs, ys, w, b):
        return np.mean((ys - w * xs - b) ** 2)

    def test_signature(self):
        assert self.f.signature == "(),(),(n),(n)->()"

    def test_a_sum_over_data(self):
        assert value(self.f(x=self.xs, y=self.ys, w=2.0, b=0.5)) == pytest.approx(self.due(self.xs, self.ys, 2, 0.5))

    def test_batches_of_parameters_and_of_data(self):
        ws = np.linspace(0, 1, 5)
        got = self.f(x=self.xs, y=self.ys, w=ws, b=0.5)
        np.testing.assert_allclose(got, [self.due(self.xs, self.ys, w, 0.5) for w in ws], rtol=1e-14)
        stacked = np.stack([self.xs, 2 * self.xs])
        got = self.f(x=stacked, y=self.ys, w=1.0, b=0.0)
        np.testing.assert_allclose(got, [self.due(s, self.ys, 1, 0) for s in stacked], rtol=1e-14)

    def test_a_smaller_size_is_a_prefix(self):
        assert value(self.f(x=self.xs, y=self.ys, w=2.0, b=0.0, n=2)) == pytest.approx(
            self.due(self.xs[:2], self.ys[:2], 2, 0)
        )

    def test_lengths_that_contradict_each_other_or_the_size(self):
        with pytest.raises(SizeError, match=r"y has length 2.*3 from the length 3 of x"):
            self.f(x=self.xs, y=self.ys[:2], w=1, b=0)
        with pytest.raises(SizeError, match=r"x has length 3.*n = 4 was given"):
            self.f(x=self.xs, y=self.ys, w=1, b=0, n=4)
        with pytest.raises(SizeError, match="integer"):
            self.f(x=self.xs, y=self.ys, w=1, b=0, n=2.5)

    def test_too_few_core_axes(self):
        with pytest.raises(ShapeError, match="x needs 1 core axis of length n, got a number"):
            self.f(x=1.0, y=self.ys, w=1, b=0)

    def test_shifted_subscripts_are_slices(self):
        f = sym2tf.compile(sp.Sum((X[i + 1] - X[i]) ** 2, (i, 0, n - 2)))
        assert value(f(self.xs)) == pytest.approx(np.sum(np.diff(self.xs) ** 2))

    def test_a_fixed_element(self):
        f = sym2tf.compile(X[0] + 10 * X[n - 1] + sp.Sum(X[i], (i, 0, n - 1)))
        assert value(f(self.xs)) == pytest.approx(1 + 40 + 7)

    def test_a_free_index_is_an_output_axis(self):
        f = sym2tf.compile(w * X[i] + b)
        assert f.signature == "(),(),(n_i)->(n_i)"
        np.testing.assert_allclose(f(b=1.0, w=2.0, x=self.xs), 2 * self.xs + 1)

    def test_free_indices_are_sorted_by_name_or_as_asked(self):
        U, V = sp.IndexedBase("u"), sp.IndexedBase("v")
        u, v = np.arange(2.0), np.arange(3.0)
        np.testing.assert_array_equal(sym2tf.compile(U[j] + 10 * V[i])(u, v), u[None, :] + 10 * v[:, None])
        np.testing.assert_array_equal(
            sym2tf.compile(U[j] + 10 * V[i], indices=(j, i))(u, v), u[:, None] + 10 * v[None, :]
        )

    def test_matrix_times_vector(self):
        f = sym2tf.compile(sp.Sum(A[i, j] * X[j], (j, 0, m - 1)))
        a = np.arange(6.0).reshape(2, 3)
        np.testing.assert_allclose(f(a, self.xs), a @ self.xs)

    def test_transposed_use_of_the_same_matrix(self):
        f = sym2tf.compile(sp.Sum(A[j, i] * A[i, j], (i, 0, n - 1), (j, 0, n - 1)))
        a = np.arange(9.0).reshape(3, 3)
        assert value(f(a)) == np.trace(a @ a)

    def test_product_and_index_as_value(self):
        f = sym2tf.compile(sp.Product(1 + i * X[i], (i, 0, n - 1)))
        assert value(f(self.xs)) == pytest.approx(np.prod(1 + np.arange(3) * self.xs))

    def test_a_sum_without_data_needs_its_size(self):
        f = sym2tf.compile(sp.Sum(x**i, (i, 0, n)))
        assert value(f(0.5, n=3)) == pytest.approx(1.875)
        with pytest.raises(SizeError, match="pass n="):
            f(0.5)

    def test_sizes_from_declared_shapes(self):
        D = sp.IndexedBase("d", shape=(n,))
        f = sym2tf.compile(sp.Sum(D[i], (i, 0, 1)))
        assert value(f(np.array([1.0, 2.0, 4.0]))) == 3

    def test_gradient_by_data(self):
        g = self.f.gradient(X)(x=self.xs, y=self.ys, w=2.0, b=0.5)
        np.testing.assert_allclose(g, -2 * 2 * (self.ys - 2 * self.xs - 0.5) / 3)


class TestDerivatives:
    f = sym2tf.compile(sp.exp(x) * sp.sin(y))

    def test_wrt_one_symbol_gives_one_output_and_a_sequence_a_tuple(self):
        assert value(self.f.gradient(x)(0.0, 1.0)) == pytest.approx(np.sin(1))
        assert value(self.f.gradient("y")(0.0, 1.0)) == pytest.approx(np.cos(1))
        both = self.f.gradient([y, x])(0.0, 1.0)
        assert isinstance(both, tuple)
        np.testing.assert_allclose(both, [np.cos(1), np.sin(1)])

    def test_every_order_composes(self):
        third = self.f.gradient(x).gradient(y).gradient(y)
        assert value(third(0.0, 1.0)) == pytest.approx(-np.sin(1))

    def test_hessian_nest(self):
        ((xx, xy), (yx, yy)) = self.f.hessian()(0.0, 1.0)
        np.testing.assert_allclose([xx, xy, yx, yy], [np.sin(1), np.cos(1), np.cos(1), -np.sin(1)])

    def test_products_with_vectors(self):
        assert value(self.f.jvp()(0.0, 1.0, 2.0, 3.0)) == pytest.approx(2 * np.sin(1) + 3 * np.cos(1))
        np.testing.assert_allclose(self.f.vjp()(0.0, 1.0, 2.0), [2 * np.sin(1), 2 * np.cos(1)])
        hx, hy = self.f.hvp()(0.0, 1.0, 2.0, 3.0)
        np.testing.assert_allclose([hx, hy], [2 * np.sin(1) + 3 * np.cos(1), 2 * np.cos(1) - 3 * np.sin(1)])

    def test_elements_of_an_indexed_base(self):
        f = sym2tf.compile(sp.Sum(X[i] ** 3, (i, 0, n - 1)) * w)
        data = np.array([1.0, 2.0, 3.0])
        assert value(f.gradient(X[1])(2.0, data)) == 24
        np.testing.assert_allclose(f.hessian([X[0], X[2], w])(2.0, data)[1], [0, 36, 27])
        assert value(f.hvp(X[2])(2.0, data, 0.5)) == 18
        assert f.gradient(X[1]).graph.counts().get("pad", 0) <= 1
        with pytest.raises(ShapeError):
            f.gradient(X[-1])

    def test_value_and_gradient_share_one_graph(self):
        both = self.f.value_and_gradient(x)
        assert [float(a) for a in both(0.0, 1.0)] == pytest.approx([np.sin(1), np.sin(1)])
        assert len(both.graph) < len(self.f.graph) + len(self.f.gradient(x).graph)

    def test_jacobian_of_a_vector(self):
        f = sym2tf.compile(X[i] ** 2 * w)
        jx, jw = f.jacobian([X, w])(w=3.0, x=np.array([1.0, 2.0]))
        np.testing.assert_allclose(jx, np.diag([6.0, 12.0]))
        np.testing.assert_allclose(jw, [1.0, 4.0])

    def test_gradient_of_a_vector_points_to_jacobian(self):
        with pytest.raises(DifferentiationError, match="jacobian"):
            sym2tf.compile(X[i] * w).gradient()

    def test_structures_nest_outputs_outside(self):
        g = sym2tf.compile({"s": x + y, "p": x * y}).gradient([x, y])(2.0, 3.0)
        assert {k: tuple(map(float, v)) for k, v in g.items()} == {"s": (1, 1), "p": (3, 2)}

    def test_wrt_that_is_no_input(self):
        with pytest.raises(ArgumentError, match="no input"):
            self.f.gradient(z)
        with pytest.raises(ArgumentError, match="twice"):
            self.f.gradient([x, x])

    def test_conditions_have_no_derivative(self):
        with pytest.raises(DifferentiationError, match="boolean"):
            sym2tf.compile(x > 0).gradient()


class TestErrors:
    def test_everything_unsupported_is_listed_at_once(self):
        expr = sp.Integral(x, x) + sp.zeta(x) + sp.Sum(1 / i**2, (i, 1, 10**12)) + sp.Sum(1 / i, (i, 1, sp.oo))
        with pytest.raises(UnsupportedExpressionError) as caught:
            sym2tf.compile(expr)
        text = str(caught.value)
        assert all(part in text for part in ("Integral", "zeta", "1000000000000 terms", "infinite"))
        assert len(caught.value.items) == 4

    @pytest.mark.parametrize("thing", ["x + 1", None, object(), [x, "y"]], ids=["text", "None", "object", "list"])
    def test_what_is_no_expression(self, thing):
        with pytest.raises((ArgumentError, UnsupportedExpressionError)):
            sym2tf.compile(thing)

    def test_text_points_to_the_parser(self):
        with pytest.raises(ArgumentError, match=r"sym2tf\.parse"):
            sym2tf.compile("x + 1")

    def test_args_that_lack_an_input(self):
        with pytest.raises(ArgumentError, match="lacks x, y"):
            sym2tf.compile(x + y + z, args=[z])
        with pytest.raises(ArgumentError, match="more than once"):
            sym2tf.compile(x, args=[x, x])

    def test_bounds_and_subscripts_out_of_scope(self):
        for expr in (sp.Sum(X[i / 2], (i, 0, n)), sp.Sum(X[sp.sin(i)], (i, 0, n)), sp.Sum(X[j], (j, 0, n), (i, 0, j))):
            with pytest.raises(UnsupportedExpressionError):
                sym2tf.compile(expr)

    def test_jit_is_refused_with_the_reason(self):
        with pytest.raises(JitError, match="lgamma"):
            sym2tf.compile(sp.loggamma(x), jit=True)

    def test_unknown_level(self):
        with pytest.raises(ArgumentError, match="level"):
            sym2tf.compile(x, level="fast")


def test_the_course_example():
    f = sym2tf.compile((x + y) ** (x * y))
    assert value(f(2, 3)) == 15625
    g = sym2tf.lower([(x + y) ** (x * y), x * (x + y)])
    first = next(iter(g.outputs))
    pruned = sym2tf.optimize(type(g)(g.nx, g.inputs, {first: g.outputs[first]}, {**g.info, "outputs": first}))
    # one product, x*y, is left: x*(x + y) is gone
    assert {name: pruned.counts().get(name) for name in ("mul", "add")} == {"mul": 1, "add": 1}
    traced = f.function.get_concrete_function(2.0, 3.0).graph
    assert sum(op.type == "Mul" for op in traced.get_operations()) <= 1


def test_repr_names_arguments_and_signature():
    text = repr(sym2tf.compile(LOSS))
    assert all(part in text for part in ("f(b, w, x, y)", "(),(),(n),(n)->()", "float64"))


def test_opaque_functions_are_leaves():
    t = sp.Symbol("t")
    q = sp.Function("q")(t)
    f = sym2tf.compile(q.diff(t) ** 2 + q, args=(q, q.diff(t)))
    assert value(f(1.0, 3.0)) == 10
    assert value(sym2tf.compile(q + 1)(2.0)) == 3


def test_symbols_that_print_alike_are_different_arguments():
    other = sp.Symbol("x", real=True)
    f = sym2tf.compile(x - 10 * other, args=(x, other))
    assert value(f(1.0, 2.0)) == -19


class TestStability:
    """Derivatives start from the stable form, so they do not overflow where the function does not."""

    far = np.array([-1000.0, -30.0, 0.0, 30.0, 1000.0])

    @pytest.mark.parametrize(
        "expr", [sp.log(1 + sp.exp(x)), 1 / (1 + sp.exp(-x)), sp.log(sp.exp(x) + sp.exp(-2 * x)), sp.tanh(x)], ids=str
    )
    def test_value_and_two_derivatives_are_finite_and_right_far_out(self, expr):
        f = sym2tf.compile(expr)
        for k, function in enumerate([f, f.gradient(x), f.gradient(x).gradient(x)]):
            exact = [float(expr.diff(x, k).evalf(1800, subs={x: int(v)})) for v in self.far]
            np.testing.assert_allclose(function(self.far), exact, rtol=1e-13, atol=1e-300)

    def test_logsumexp_over_data(self):
        f = sym2tf.compile(sp.log(sp.Sum(sp.exp(X[i]), (i, 0, n - 1))))
        data = np.array([1000.0, 1001.0, -1000.0])
        np.testing.assert_allclose(f.gradient(X)(data), [0.2689414213699951, 0.7310585786300049, 0], rtol=1e-13)
        hessian = value(f.hessian(X)(data))
        np.testing.assert_allclose(hessian[:2, :2], 0.19661193324148185 * np.array([[1, -1], [-1, 1]]), rtol=1e-12)


def test_a_dtype_without_a_kernel_is_refused_by_name():
    with pytest.raises(DtypeError, match="no bfloat16 kernel for lgamma"):
        sym2tf.compile(sp.loggamma(x), dtype="bfloat16")(1.0)
