"""Compiled functions inside TensorFlow, in threads, in forks, and in numbers."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import threading

import numpy as np
import psutil
import pytest
import sympy as sp
import tensorflow as tf

import sym2tf
from sym2tf.errors import DtypeError, ForkedProcessError

x, y, w, b = sp.symbols("x y w b")
i, n = sp.symbols("i n", integer=True)
X, Y = sp.IndexedBase("x"), sp.IndexedBase("y")
SAFE = sp.Piecewise((x * sp.log(x), x > 0), (0, True))


class TestTraces:
    def test_one_trace_for_each_pattern_of_ranks(self):
        f = sym2tf.compile(x * y)
        for a, c in [(1.0, 2.0), (3, 4), (np.float32(1), 7.5), (tf.constant(1.0), 2)]:
            f(a, c)
        assert f.traces == 1
        for length in (1, 2, 50, 0):
            f(np.zeros(length), 1.0)
        assert f.traces == 2
        f(np.zeros((2, 3)), np.zeros(3))
        assert f.traces == 3

    def test_data_of_any_length_share_a_trace(self):
        f = sym2tf.compile(sp.Sum(X[i] ** 2, (i, 0, n - 1)))
        for length in (1, 10, 1000):
            assert float(f(np.ones(length))) == length
        assert f.traces == 1


class TestTapes:
    def test_the_tape_gets_our_derivative_to_second_order(self):
        f = sym2tf.compile(SAFE)
        v = tf.Variable([0.0, -1.0, 2.0], dtype=tf.float64)
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                answer = tf.reduce_sum(f(v))
            g = inner.gradient(answer, v)
        np.testing.assert_allclose(g, [0, 0, np.log(2) + 1])
        np.testing.assert_allclose(outer.gradient(g, v), [0, 0, 0.5])

    def test_the_same_inside_a_tf_function(self):
        f = sym2tf.compile(SAFE)

        @tf.function
        def both(v):
            with tf.GradientTape() as outer:
                outer.watch(v)
                with tf.GradientTape() as inner:
                    inner.watch(v)
                    answer = tf.reduce_sum(f.function(v))
                g = inner.gradient(answer, v)
            return g, outer.gradient(g, v)

        g, h = both(tf.constant([0.0, -1.0, 2.0], tf.float64))
        np.testing.assert_allclose(g, [0, 0, np.log(2) + 1])
        np.testing.assert_allclose(h, [0, 0, 0.5])

    def test_a_broadcast_operand_gets_a_gradient_of_its_own_shape(self):
        f = sym2tf.compile(x * y)
        a, c = tf.Variable([[1.0], [2.0]], dtype=tf.float64), tf.Variable([3.0, 4.0, 5.0], dtype=tf.float64)
        with tf.GradientTape() as tape:
            answer = f(a, c)
        ga, gc_ = tape.gradient(answer, [a, c])
        np.testing.assert_allclose(ga, [[12.0], [12.0]])
        np.testing.assert_allclose(gc_, [3.0, 3.0, 3.0])

    def test_data_and_several_outputs(self):
        f = sym2tf.compile({"loss": sp.Sum((Y[i] - w * X[i]) ** 2, (i, 0, n - 1)), "positive": w > 0})
        v = tf.Variable(2.0, dtype=tf.float64)
        with tf.GradientTape() as tape:
            answer = f(w=v, x=[1.0, 2.0], y=[1.0, 1.0])
        assert float(tape.gradient(answer["loss"], v)) == -2 * (1 * (1 - 2) + 2 * (1 - 4))

    def test_jit_with_a_tape(self):
        f = sym2tf.compile(sp.sin(x) ** 2, jit=True)
        v = tf.Variable(0.5, dtype=tf.float64)
        with tf.GradientTape() as tape:
            answer = f(v)
        assert float(tape.gradient(answer, v)) == pytest.approx(np.sin(1.0))


class TestInsideTensorFlow:
    def test_in_a_data_pipeline(self):
        f = sym2tf.compile(x**2 + 1)
        data = tf.data.Dataset.from_tensor_slices(np.arange(5.0)).batch(2).map(f.function)
        np.testing.assert_allclose(np.concatenate(list(data)), np.arange(5.0) ** 2 + 1)

    def test_in_a_keras_training_step(self):
        loss = sym2tf.compile(sp.Sum((Y[i] - w * X[i] - b) ** 2, (i, 0, n - 1)) / n, args=(w, b, X, Y), dtype="float32")
        weights = [tf.keras.Variable(0.0), tf.keras.Variable(0.0)]
        optimizer = tf.keras.optimizers.SGD(0.1)
        xs = np.linspace(-1, 1, 20, dtype=np.float32)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                value = loss.function(*(v.value for v in weights), xs, 3 * xs + 1)
            optimizer.apply(tape.gradient(value, [v.value for v in weights]), weights)
            return value

        for _ in range(200):
            step()
        assert [float(v.numpy()) for v in weights] == pytest.approx([3, 1], abs=1e-3)

    def test_lengths_unknown_while_tracing(self):
        f = sym2tf.compile(sp.Sum(X[i], (i, 0, n - 1)) / n)
        mean = tf.function(lambda v: f(v), input_signature=[tf.TensorSpec([None], tf.float64)])
        assert float(mean(tf.constant([1.0, 5.0], tf.float64))) == 3


def test_sixteen_threads_get_their_own_answers():
    f = sym2tf.compile(sp.exp(sp.sin(x)) * y)
    wrong = []

    def call(k):
        for rank in range(3):
            for value in np.linspace(0, 1, 20):
                a = np.full((2,) * rank, value)
                if not np.allclose(f(a, k), np.exp(np.sin(a)) * k, rtol=1e-12):
                    wrong.append((k, value))

    threads = [threading.Thread(target=call, args=(k,)) for k in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert f.traces == 3


def _call_in_child(f, connection):
    try:
        connection.send(repr(f(1.0)))
    except ForkedProcessError as error:
        connection.send(str(error))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*os.fork.*:RuntimeWarning")
def test_a_forked_child_gets_a_clear_error_at_once():
    f = sym2tf.compile(x + 1)
    f(1.0)
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    child = context.Process(target=_call_in_child, args=(f, theirs))
    child.start()
    try:
        assert mine.poll(20), "the child hangs"
        assert "spawn" in mine.recv()
    finally:
        child.kill()
        child.join()


def test_functions_that_are_dropped_leave_no_memory_behind():
    def rounds(count):
        for k in range(count):
            assert float(sym2tf.compile(x**2 + k)(2.0)) == 4 + k
        gc.collect()

    process = psutil.Process(os.getpid())
    rounds(50)
    before = process.memory_info().rss
    rounds(200)
    grown = (process.memory_info().rss - before) / 200
    # 2 000 functions may leave 100 MB: 50 kB each; benchmarks/memory.py runs all of them
    assert grown < 50e3


class TestIntegerData:
    f = sym2tf.compile(sp.Sum(X[sp.IndexedBase("g")[i]], (i, 0, n - 1)), args=("x", "g"))
    data = np.array([1.0, 10.0, 100.0])

    @pytest.mark.parametrize("g", [[0, 2], [0.0, 2.0], np.array([0, 2], np.uint8), tf.constant([0.0, 2.0])])
    def test_subscripts_may_come_as_floats_that_are_integers(self, g):
        assert float(self.f(self.data, g)) == 101.0

    @pytest.mark.parametrize("g", [[0, 1.5], [0, np.nan], [0, np.inf], tf.constant([0.0, 0.5])])
    def test_fractions_are_refused_and_not_cut_off(self, g):
        with pytest.raises(DtypeError, match="g is an integer, got"):
            self.f(self.data, g)

    def test_floats_of_unknown_value_are_refused(self):
        with pytest.raises(DtypeError, match="g is an integer, got float64: cast it"):
            tf.function(lambda g: self.f(self.data, g), autograph=False)(tf.constant([0.0, 1.0], tf.float64))


class TestDepthAndSize:
    def test_shared_sub_expressions_stay_shared(self):
        e = x
        for _ in range(60):
            e = sp.sin(e) * sp.cos(e)
        f = sym2tf.compile(e)
        assert len(f.lowered) < 250
        assert len(f.gradient().lowered) < 700

    def test_nested_300_deep(self):
        e = x
        for _ in range(300):
            e = sp.sin(e, evaluate=False)
        assert np.isfinite(float(sym2tf.compile(e)(1.0)))

    def test_a_piecewise_of_1000_branches(self):
        e = sp.Piecewise(*((k * x, x < k) for k in range(1000)), (0, True), evaluate=False)
        f = sym2tf.compile(e)
        np.testing.assert_allclose(f(np.array([-1.0, 10.5, 998.5, 5000.0])), [0, 11 * 10.5, 999 * 998.5, 0])
        np.testing.assert_allclose(f.gradient(x)(np.array([-1.0, 10.5, 998.5, 5000.0])), [0, 11, 999, 0])


class TestOrderOfContractions:
    """Where sizes are symbols, the order in which factors meet is that of the data, to a factor of two in each size."""

    def chain(self):
        n, k, m, p = sp.symbols("n k m p", integer=True, positive=True)
        a, b, c = (sp.MatrixSymbol(name, *shape) for name, shape in (("A", (n, k)), ("B", (k, m)), ("C", (m, p))))
        return sym2tf.compile(a * b * c)

    def operands(self, *lengths):
        rng = np.random.default_rng(0)
        return [rng.normal(size=shape) for shape in itertools.pairwise(lengths)]

    def test_each_shape_has_its_order_and_shapes_alike_share_one(self):
        f = self.chain()
        orders = {}
        for lengths in [(1, 50, 50, 50), (50, 50, 50, 1), (3, 200, 180, 100), (100, 200, 180, 2)]:
            xs = self.operands(*lengths)
            np.testing.assert_allclose(f(*xs), np.linalg.multi_dot(xs), rtol=1e-12, atol=1e-12)
            program = f._program._variant({"n": lengths[0], "k": lengths[1], "m": lengths[2], "p": lengths[3]})
            first = next(program.graph[v] for v in program.graph.order if program.graph[v].op.name == "einsum")
            orders[lengths] = tuple(map(str, first.type.shape))
        assert [set(shape) for shape in orders.values()] == [{"n", "m"}, {"k", "p"}, {"n", "m"}, {"k", "p"}]
        assert f.traces == 2

    def test_what_has_one_order_has_one_program(self):
        f = sym2tf.compile(sp.Sum(X[i] * Y[i], (i, 0, n - 1)))
        assert not f.report.ordered
        f(np.ones(3), np.ones(3))
        assert f._program._variants == {}

    def test_a_tape_and_a_surrounding_function_see_the_same_derivative(self):
        f, xs = self.chain(), [tf.constant(x) for x in self.operands(2, 40, 3, 30)]
        with tf.GradientTape() as tape:
            tape.watch(xs)
            y = tf.reduce_sum(f(*xs) ** 2)
        plain = [tf.constant(x) for x in xs]
        with tf.GradientTape() as other:
            other.watch(plain)
            z = tf.reduce_sum((plain[0] @ plain[1] @ plain[2]) ** 2)
        for ours, theirs in zip(tape.gradient(y, xs), other.gradient(z, plain), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-11)
        inside = tf.function(lambda *ts: f(*ts), autograph=False)
        np.testing.assert_allclose(inside(*xs), f(*xs), rtol=1e-12)
