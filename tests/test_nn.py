"""`sym2tf.nn`: activations, losses and networks against Keras in float64, and against 40 digits where Keras rounds."""

from __future__ import annotations

import pickle

import keras
import mpmath
import numpy as np
import pytest
import sympy as sp
import tensorflow as tf

import sym2tf
from sym2tf import nn
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import ArgumentError, ShapeError
from sym2tf.nn.activations import ACTIVATIONS

x = sp.Symbol("x")
i, k, a, h = sp.symbols("i k a h", integer=True)
n, d, H, K = sp.symbols("n d H K", integer=True)
X, T, Y, P, W, b, V, c, M = map(sp.IndexedBase, ["X", "T", "Y", "P", "W", "b", "V", "c", "M"])
RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def _float64():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


def value(expr, data):
    """What the reference backend makes of an expression."""
    (answer,) = evaluate(sym2tf.compile(expr).graph, data).values()
    return answer


# Activations ------------------------------------------------------------------------------------


def gelu(e):
    """Keras's, whose square root of 2 is rounded to float32 (as tf.cast does with a Python float)."""
    return 0.5 * e * (1 + tf.math.erf(e / tf.constant(2**0.5, tf.float64)))


def gelu_by_tanh(e):
    """Keras's, whose constants are rounded to float32."""
    constants = tf.constant([(2 / np.pi) ** 0.5, 0.044715], tf.float64)
    return 0.5 * e * (1 + tf.tanh(constants[0] * (e + constants[1] * e**3)))


KERAS_ACTIVATIONS = {
    "sigmoid": (nn.sigmoid, keras.activations.sigmoid),
    "tanh": (nn.tanh, keras.activations.tanh),
    "relu": (nn.relu, keras.activations.relu),
    # the kernel takes its slope in float32
    "leaky_relu": (lambda e: nn.leaky_relu(e, 0.25), lambda e: keras.activations.leaky_relu(e, 0.25)),
    "elu": (nn.elu, keras.activations.elu),
    "silu": (nn.silu, keras.activations.silu),
    "softplus": (nn.softplus, keras.activations.softplus),
    "gelu": (nn.gelu, gelu),
    "gelu by tanh": (lambda e: nn.gelu(e, approximate=True), gelu_by_tanh),
}
POINTS = np.array([-1e3, -40, -3.7, -1, -0.2, 0, 1e-9, 0.3, 1, 4.2, 40, 1e3])


@pytest.mark.parametrize("name", KERAS_ACTIVATIONS)
def test_activations_have_the_values_and_slopes_of_keras(name):
    ours, theirs = KERAS_ACTIVATIONS[name]
    f = sym2tf.compile(ours(x))
    at = tf.constant(POINTS)
    with tf.GradientTape() as tape:
        tape.watch(at)
        due = theirs(at)
    np.testing.assert_allclose(evaluate(f.graph, {"x": POINTS})["out"], due, rtol=1e-12, atol=1e-14)
    (slope,) = evaluate(f.gradient(x).graph, {"x": POINTS}).values()
    np.testing.assert_allclose(slope, tape.gradient(due, at), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (nn.leaky_relu, keras.activations.leaky_relu),
        (nn.gelu, keras.activations.gelu),
        (lambda e: nn.gelu(e, approximate=True), lambda e: keras.activations.gelu(e, approximate=True)),
    ],
    ids=["leaky_relu", "gelu", "gelu by tanh"],
)
def test_where_keras_rounds_constants_to_float32_the_values_agree_as_far(ours, theirs):
    answer = evaluate(sym2tf.compile(ours(x)).graph, {"x": POINTS})["out"]
    np.testing.assert_allclose(answer, theirs(tf.constant(POINTS)), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", KERAS_ACTIVATIONS)
def test_activations_and_two_derivatives_are_finite_far_out(name):
    f = sym2tf.compile(KERAS_ACTIVATIONS[name][0](x))
    far = np.array([-1e30, -1e5, 1e5, 1e30])
    for function in (f, f.gradient(x), f.gradient(x).gradient(x)):
        (values,) = evaluate(function.graph, {"x": far}).values()
        assert np.isfinite(values).all()


@pytest.mark.parametrize("cls", ACTIVATIONS)
def test_the_slope_that_sympy_takes_is_that_of_the_graph(cls):
    points = np.array([-2.5, -0.4, 0.6, 3.0])
    by_sympy = sym2tf.compile(cls(x).diff(x))
    by_graph = sym2tf.compile(cls(x)).gradient(x)
    (first,), (second,) = (evaluate(f.graph, {"x": points}).values() for f in (by_sympy, by_graph))
    np.testing.assert_allclose(first, second, rtol=1e-13)


@pytest.mark.parametrize("cls", [nn.leaky_relu, nn.elu])
def test_the_slope_by_alpha_is_a_difference(cls):
    alpha = sp.Symbol("alpha")
    for at in (-1.5, 2.0):
        slope = cls(x, alpha).diff(alpha).subs({x: at, alpha: 0.3}).evalf()
        secant = (cls(at, sp.Float(1.3)) - cls(at, sp.Float(0.3))).evalf()
        assert abs(slope - secant) < 1e-14


@pytest.mark.parametrize("cls", ACTIVATIONS)
@pytest.mark.parametrize("at", [-200, -1, 2])
def test_evalf_has_the_digits_that_are_asked_for(cls, at):
    written = sp.lambdify(x, sp.expand_func(cls(x)), "mpmath")
    with mpmath.workdps(150):
        due = sp.Float(written(mpmath.mpf(at)), 40)
    assert abs(cls(sp.Integer(at)).evalf(40) - due) <= abs(due) * sp.Float(10) ** -38


@pytest.mark.parametrize("cls", ACTIVATIONS)
def test_activations_are_ordinary_functions(cls):
    e = cls(x)
    assert e.func(*e.args) == e
    assert str(e).startswith(f"{cls.__name__}(x")
    assert not sp.expand_func(e).has(cls)
    assert pickle.loads(pickle.dumps(e)) == e
    assert e.subs(x, 2 * x) == cls(2 * x)
    assert cls(sp.Symbol("r", real=True)).is_real
    assert cls(x).is_real is None


@pytest.mark.parametrize("cls", ACTIVATIONS)
def test_check_finds_nothing_wrong_with_activations(cls):
    """Values against 50 digits, derivatives against differences and a tape over the generated code, 0 included."""
    assert sym2tf.compile(cls(x)).check().ok


def test_values_at_special_points_are_exact():
    assert nn.sigmoid(0) == sp.Rational(1, 2)
    assert (nn.sigmoid(sp.oo), nn.sigmoid(-sp.oo)) == (1, 0)
    assert nn.softplus(0) == sp.log(2)
    assert nn.relu(-3) == 0
    assert nn.relu(sp.Rational(7, 2)) == sp.Rational(7, 2)


def test_rewrite_writes_an_activation_in_what_it_is_made_of():
    assert nn.sigmoid(x).rewrite(sp.exp) == 1 / (1 + sp.exp(-x))
    assert nn.relu(x).rewrite(sp.Max) == sp.Max(x, 0)
    assert nn.relu(x).rewrite(sp.exp) == nn.relu(x)
    assert nn.silu(x).rewrite(nn.sigmoid) == x * nn.sigmoid(x)


def test_activations_act_on_each_element_of_matrices_and_arrays():
    y = sp.Symbol("y")
    assert nn.sigmoid(sp.Matrix([[x, y]])) == sp.Matrix([[nn.sigmoid(x), nn.sigmoid(y)]])
    assert nn.leaky_relu(sp.Array([x, y]), 0.1) == sp.Array([nn.leaky_relu(x, 0.1), nn.leaky_relu(y, 0.1)])
    A = sp.MatrixSymbol("A", 2, 3)
    assert nn.relu(A)[0, 1] == nn.relu(A[0, 1])
    assert nn.tanh(A).shape == (2, 3)
    assert nn.gelu(A, approximate=True)[1, 1] == nn.gelu(A[1, 1], approximate=True)


def test_softmax_of_an_index_sums_to_one_and_does_not_overflow():
    f = sym2tf.compile(nn.softmax(X[i, k], (k, 0, K - 1)), args=(X,))
    data = RNG.normal(size=(5, 4)) * 300
    answer = evaluate(f.graph, {"X": data})["out"]
    np.testing.assert_allclose(answer, tf.nn.softmax(data), rtol=1e-12, atol=1e-300)
    logarithm = sym2tf.compile(nn.log_softmax(X[i, k], (k, 0, K - 1)), args=(X,))
    answer = evaluate(logarithm.graph, {"X": data})["out"]
    # differences of numbers up to 800 are rounded to a unit of those
    np.testing.assert_allclose(answer, tf.nn.log_softmax(data), rtol=1e-12, atol=1e-12)


def test_softmax_of_an_explicit_matrix_divides_rows_or_columns():
    e = sp.Matrix(2, 3, lambda r, s: sp.Symbol(f"z{r}{s}"))
    assert all(sum(row).simplify() == 1 for row in nn.softmax(e).tolist())
    assert all(sum(column).simplify() == 1 for column in nn.softmax(e, axis=0).T.tolist())


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nn.sigmoid(X), "indexed base"),
        (lambda: nn.relu("x"), "expression or a matrix"),
        (lambda: nn.relu([x]), "expression or a matrix"),
        (lambda: nn.softmax(X[i, k]), "needs limits"),
        (lambda: nn.softmax(X[i, k], k), "is no limit"),
        (lambda: nn.softmax(X[i, k], (k, 0)), "is no limit"),
        (lambda: nn.softmax(sp.MatrixSymbol("A", 2, 2), (k, 0, 1)), "takes no limits"),
        (lambda: nn.softmax(sp.MatrixSymbol("A", 2, 2), axis=2), "axis=2"),
        (lambda: nn.mse(Y[i], P[i], (i, 0, n - 1), (i, 0, n - 1)), "an index twice"),
        (lambda: nn.mse(sp.MatrixSymbol("A", 2, 2), x), "both be matrices"),
        (lambda: nn.mse(sp.eye(2), sp.MatrixSymbol("A", 2, 2), (i, 0, 1)), "takes no limits"),
        (lambda: nn.cce(T[i, k], P[i, k]), "needs limits"),
        (lambda: nn.mean(X[i]), "needs limits"),
    ],
)
def test_what_makes_no_sense_is_told(call, text):
    with pytest.raises(ArgumentError, match=text):
        call()


def test_matrices_of_different_shapes_are_told_with_their_shapes():
    with pytest.raises(ShapeError, match=r"mse: the target has shape \(2, 3\), the prediction \(3, 2\)"):
        nn.mse(sp.MatrixSymbol("A", 2, 3), sp.MatrixSymbol("B", 3, 2))
    size = sp.Symbol("m")
    assert nn.mse(sp.MatrixSymbol("A", size, 3), sp.MatrixSymbol("B", 2, 3)) is not None  # m may be 2


# Losses -------------------------------------------------------------------------------------------

over_both = (k, 0, K - 1), (i, 0, n - 1)
targets = RNG.uniform(0.1, 0.9, (6, 4))
simplex = targets / targets.sum(1, keepdims=True)
probabilities = (lambda p: p / p.sum(1, keepdims=True))(RNG.uniform(0.05, 0.95, (6, 4)))
logits = RNG.normal(size=(6, 4)) * 3
signs = np.sign(RNG.normal(size=(6, 4)))


def log_cosh(t, p):
    """Keras's, whose log(2) is rounded to float32."""
    return tf.reduce_mean(p - t + tf.nn.softplus(-2 * (p - t)) - tf.constant(np.log(2)), -1)


KERAS_LOSSES = {
    "mse": (nn.mse, keras.losses.mean_squared_error, targets, logits),
    "mae": (nn.mae, keras.losses.mean_absolute_error, targets, logits),
    "msle": (nn.msle, keras.losses.mean_squared_logarithmic_error, targets, probabilities),
    "bce": (nn.bce, keras.losses.binary_crossentropy, targets, probabilities),
    "bce from logits": (
        lambda t, p, *over: nn.bce(t, p, *over, from_logits=True),
        lambda t, p: keras.losses.binary_crossentropy(t, p, from_logits=True),
        targets,
        logits * 30,
    ),
    "cce": (nn.cce, keras.losses.categorical_crossentropy, simplex, probabilities),
    "cce from logits": (
        lambda t, p, *over: nn.cce(t, p, *over, from_logits=True),
        lambda t, p: keras.losses.categorical_crossentropy(t, p, from_logits=True),
        simplex,
        logits * 30,
    ),
    "kl_divergence": (nn.kl_divergence, keras.losses.kl_divergence, simplex, probabilities),
    "huber": (nn.huber, keras.losses.huber, targets, logits),
    "huber 0.3": (
        lambda t, p, *over: nn.huber(t, p, *over, delta=0.3),
        lambda t, p: keras.losses.huber(t, p, delta=0.3),
        targets,
        logits,
    ),
    "log_cosh": (nn.log_cosh, log_cosh, targets, logits * 30),
    "hinge": (nn.hinge, keras.losses.hinge, signs, logits),
    "squared_hinge": (nn.squared_hinge, keras.losses.squared_hinge, signs, logits),
    "poisson": (nn.poisson, lambda t, p: tf.reduce_mean(p - t * tf.math.log(p), -1), targets, probabilities),
}


@pytest.mark.parametrize("name", KERAS_LOSSES)
def test_losses_have_the_values_and_gradients_of_keras(name):
    ours, theirs, t, p = KERAS_LOSSES[name]
    f = sym2tf.compile(ours(T[i, k], P[i, k], *over_both), args=(T, P))
    at = tf.constant(p)
    with tf.GradientTape() as tape:
        tape.watch(at)
        due = tf.reduce_mean(theirs(tf.constant(t), at))
    both = evaluate(f.value_and_gradient(P).graph, {"T": t, "P": p})
    found, slope = both.values()
    np.testing.assert_allclose(found, due, rtol=1e-12)
    expected = tape.gradient(due, at).numpy()
    if name == "cce":  # Keras divides by the sum of the probabilities, which is 1, and differentiates that too
        expected = -t / p / len(t)
    np.testing.assert_allclose(slope, expected, rtol=1e-12, atol=1e-14)


def test_a_loss_without_limits_is_that_of_one_element():
    y, p = sp.symbols("y p")
    assert nn.mse(y, p) == (p - y) ** 2
    assert nn.bce(y, p, from_logits=True) == nn.softplus(p) - y * p
    assert nn.hinge(1, p) == nn.relu(1 - p)
    assert nn.mse(Y[i], 3, (i, 0, n - 1)) == sp.Sum((3 - Y[i]) ** 2, (i, 0, n - 1)) / n


def test_cross_entropies_from_logits_are_finite_and_right_where_probabilities_are_0_and_1():
    z = np.array([[1e4, -1e4, 0.0]])
    one = np.array([[0.0, 1.0, 0.0]])
    f = sym2tf.compile(nn.cce(T[i, k], P[i, k], *over_both, from_logits=True), args=(T, P))
    assert evaluate(f.graph, {"T": one, "P": z})["out"] == 2e4
    f = sym2tf.compile(nn.bce(T[i, k], P[i, k], *over_both, from_logits=True), args=(T, P))
    assert evaluate(f.graph, {"T": one, "P": z})["out"] == pytest.approx((2e4 + np.log(2)) / 3, rel=1e-14)


@pytest.mark.parametrize(
    "name", ["mse", "mae", "huber", "bce from logits", "cce from logits", "kl_divergence", "hinge"]
)
def test_losses_of_matrices_are_those_of_their_elements(name):
    ours, _, t, p = KERAS_LOSSES[name]
    A, B = sp.MatrixSymbol("A", n, K), sp.MatrixSymbol("B", n, K)
    data = {"A": t, "B": p}
    due = evaluate(sym2tf.compile(ours(T[i, k], P[i, k], *over_both), args=(T, P)).graph, {"T": t, "P": p})["out"]
    np.testing.assert_allclose(evaluate(sym2tf.compile(ours(A, B)).graph, data)["out"], due, rtol=1e-14)
    explicit = ours(sp.Matrix(t), B)  # numbers against symbols
    assert evaluate(sym2tf.compile(explicit).graph, {"B": p})["out"] == pytest.approx(float(due), rel=1e-13)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_softmax_of_a_matrix_expression_is_one_operation(axis):
    A = sp.MatrixSymbol("A", n, K)
    f = sym2tf.compile(nn.softmax(2 * A, axis=axis))
    np.testing.assert_allclose(
        evaluate(f.graph, {"A": logits})["out"], tf.nn.softmax(2 * logits, axis=axis), rtol=1e-13
    )
    assert "exp" not in f.graph.counts()


# Networks -----------------------------------------------------------------------------------------


def dense(inputs, weights, bias, limit):
    """The logits of a dense layer: `inputs` is a function of the summed index."""
    index = limit[0]
    return sp.Sum(inputs(index) * weights(index), limit) + bias


def two_layers(activation, mask=None, rate=0):
    """Logits z[i, k] of d inputs, H hidden units and K outputs."""
    hidden = activation(dense(lambda s: X[i, s], lambda s: W[s, h], b[h], (a, 0, d - 1)))
    if mask is not None:
        hidden = nn.dropout(hidden, mask, rate)
    return dense(lambda s: hidden, lambda s: V[s, k], c[k], (h, 0, H - 1))


def weights(d, H, K, seed=3):
    rng = np.random.default_rng(seed)
    shapes = {W: (d, H), b: (H,), V: (H, K), c: (K,)}
    return {s: rng.normal(size=shape) for s, shape in shapes.items()}


def keras_network(values, activation, *, dropout=False, l2=0.0):
    """The same network as a `keras.Model`, on the same weights."""
    regularizer = keras.regularizers.L2(l2) if l2 else None
    inputs = keras.Input((values[W].shape[0],))
    layer = keras.layers.Dense(values[W].shape[1], activation=activation, kernel_regularizer=regularizer)
    hidden = layer(inputs)
    mask = keras.Input((values[W].shape[1],))
    if dropout:
        hidden = hidden * mask / (1 - 0.25)
    outputs = keras.layers.Dense(values[V].shape[1], kernel_regularizer=regularizer)(hidden)
    model = keras.Model([inputs, mask] if dropout else inputs, outputs)
    model.set_weights([values[W], values[b], values[V], values[c]])
    return model


def assert_same_as_keras(loss, values, data, model, inputs, keras_loss):
    """Loss and the gradient by every parameter agree with `GradientTape` on the Keras model."""
    f = sym2tf.compile(loss, args=(*values, *data)).value_and_gradient(list(values))
    found = list(evaluate(f.graph, {str(s): v for s, v in {**values, **data}.items()}).values())
    with tf.GradientTape() as tape:
        due = keras_loss(model(inputs, training=True)) + sum(model.losses)
    slopes = tape.gradient(due, model.trainable_variables)
    np.testing.assert_allclose(found[0], due, rtol=1e-12)
    for ours, theirs in zip(found[1:], slopes, strict=True):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12 * scale)


def softmax_loss(z):
    return nn.cce(T[i, k], z, (k, 0, K - 1), (i, 0, n - 1), from_logits=True)


XS = RNG.normal(size=(12, 5))
ONE_HOT = np.eye(3)[RNG.integers(0, 3, 12)]


def test_back_propagation_through_the_xor_net_is_that_of_keras():
    values = weights(2, 4, 1)
    xs = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    ts = np.array([[0.0], [1], [1], [0]])
    loss = nn.bce(T[i, k], nn.sigmoid(two_layers(nn.sigmoid)), (k, 0, K - 1), (i, 0, n - 1))
    model = keras_network(values, "sigmoid")
    assert_same_as_keras(
        loss,
        values,
        {X: xs, T: ts},
        model,
        xs,
        lambda z: tf.reduce_mean(keras.losses.binary_crossentropy(ts, z, from_logits=True)),
    )


@pytest.mark.parametrize("name", KERAS_ACTIVATIONS)
def test_back_propagation_through_every_activation_is_that_of_keras(name):
    ours, theirs = KERAS_ACTIVATIONS[name]
    values = weights(5, 7, 3)
    assert_same_as_keras(
        softmax_loss(two_layers(ours)),
        values,
        {X: XS, T: ONE_HOT},
        keras_network(values, theirs),
        XS,
        lambda z: tf.reduce_mean(keras.losses.categorical_crossentropy(ONE_HOT, z, from_logits=True)),
    )


@pytest.mark.parametrize("name", ["mse", "mae", "bce from logits", "cce from logits", "huber", "log_cosh", "hinge"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_back_propagation_from_every_loss_is_that_of_keras(name, activation):
    ours, theirs, *_ = KERAS_LOSSES[name]
    values = weights(5, 7, 3)
    ts = 2 * ONE_HOT - 1 if name == "hinge" else ONE_HOT
    loss = ours(T[i, k], two_layers(KERAS_ACTIVATIONS[activation][0]), *over_both)
    model = keras_network(values, activation)
    assert_same_as_keras(loss, values, {X: XS, T: ts}, model, XS, lambda z: tf.reduce_mean(theirs(tf.constant(ts), z)))


def test_dropout_masks_and_weight_decay_are_those_of_keras():
    values = weights(5, 7, 3)
    mask = (RNG.uniform(size=(12, 7)) > 0.25).astype(float)
    squares = sp.Sum(W[a, h] ** 2, (a, 0, d - 1), (h, 0, H - 1)) + sp.Sum(V[h, k] ** 2, (h, 0, H - 1), (k, 0, K - 1))
    loss = softmax_loss(two_layers(nn.tanh, M[i, h], sp.Rational(1, 4))) + squares / 64
    assert_same_as_keras(
        loss,
        values,
        {X: XS, T: ONE_HOT, M: mask},
        keras_network(values, "tanh", dropout=True, l2=1 / 64),  # which float32 holds: Keras rounds to it
        [XS, mask],
        lambda z: tf.reduce_mean(keras.losses.categorical_crossentropy(ONE_HOT, z, from_logits=True)),
    )


def test_batch_normalization_is_that_of_keras():
    gamma, beta = sp.IndexedBase("gamma"), sp.IndexedBase("beta")
    xs = RNG.normal(size=(12, 5)) * 3 + 2
    values = {gamma: RNG.uniform(0.5, 2, 5), beta: RNG.normal(size=5)}
    y = nn.batch_normalization(X[i, k], (i, 0, n - 1), gamma=gamma[k], beta=beta[k])
    layer = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((5,)), layer])
    layer.gamma.assign(values[gamma])
    layer.beta.assign(values[beta])
    loss = nn.mse(T[i, k], nn.sigmoid(y), (k, 0, K - 1), (i, 0, n - 1))
    ts = RNG.uniform(size=(12, 5))
    assert_same_as_keras(
        loss,
        values,
        {X: xs, T: ts},
        model,
        xs,
        lambda p: tf.reduce_mean(keras.losses.mean_squared_error(ts, tf.sigmoid(p))),
    )


def test_the_gradient_by_the_input_of_batch_normalization_is_that_of_keras():
    xs = RNG.normal(size=(12, 5)) * 3 + 2
    probe = RNG.normal(size=(12, 5))
    y = nn.batch_normalization(X[i, k], (i, 0, n - 1))
    f = sym2tf.compile(sp.Sum(M[i, k] * y**2, *over_both), args=(X, M)).gradient(X)
    layer = keras.layers.BatchNormalization()
    at = tf.constant(xs)
    with tf.GradientTape() as tape:
        tape.watch(at)
        due = tf.reduce_sum(probe * layer(at, training=True) ** 2)
    (found,) = evaluate(f.graph, {"X": xs, "M": probe}).values()
    np.testing.assert_allclose(found, tape.gradient(due, at), rtol=1e-11, atol=1e-12 * np.abs(found).max())


def test_networks_of_matrices_back_propagate_as_those_of_indices():
    values = weights(5, 7, 3)
    A, B = sp.MatrixSymbol("A", d, H), sp.MatrixSymbol("B", H, K)
    Q, R = sp.MatrixSymbol("Q", n, d), sp.MatrixSymbol("R", n, K)
    f = sym2tf.compile(nn.cce(R, nn.relu(Q * A) * B, from_logits=True)).value_and_gradient([A, B])
    due = sym2tf.compile(softmax_loss(two_layers(nn.relu))).value_and_gradient([W, V])
    found = evaluate(f.graph, {"A": values[W], "B": values[V], "Q": XS, "R": ONE_HOT}).values()
    data = {"W": values[W], "V": values[V], "b": np.zeros(7), "c": np.zeros(3), "X": XS, "T": ONE_HOT}
    expected = evaluate(due.graph, data).values()
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    assert f.graph.counts()["einsum"] == 5


@pytest.mark.parametrize("function", [nn.silu, nn.gelu, sp.sec, sp.sinc])
def test_definitions_do_not_mind_what_sympy_has_cached(function):
    """SymPy's cache puts an equal argument, whose sums are other objects, into what a definition makes of one."""
    sums = [sp.Sum(X[i] * Y[i], (i, 0, n - 1)) for _ in range(2)]
    written = [nn.sigmoid(sums[0]), sp.erfc(-sums[0] / sp.sqrt(2), evaluate=False), sp.cos(sums[0]), sp.sin(sums[0])]
    answer = value(function(sums[1]), {"X": [1.0, 2], "Y": [0.3, 0.2]})
    assert answer == pytest.approx(value(function(x), {"x": 0.7}), rel=1e-14)
    assert len(written) == 4


def test_what_tensorflow_runs_is_what_the_reference_gives():
    values = weights(5, 7, 3)
    f = sym2tf.compile(softmax_loss(two_layers(nn.gelu)), args=(*values, X, T)).value_and_gradient(list(values))
    data = [*values.values(), XS, ONE_HOT]
    due = evaluate(f.graph, dict(zip((*map(str, values), "X", "T"), data, strict=True)))
    loss, slopes = f(*data)
    for ours, theirs in zip((loss, *slopes), due.values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-15)


# What the graphs are ------------------------------------------------------------------------------


def test_the_graph_of_a_network_is_what_one_would_write():
    f = sym2tf.compile(softmax_loss(two_layers(nn.relu)))
    counts = f.graph.counts()
    assert counts["einsum"] == 2  # X W and H V
    assert counts["logsumexp"] == 1
    assert "exp" not in counts
    assert counts["relu"] == 1


def test_what_stands_inside_and_outside_of_a_mean_is_computed_once():
    hidden = nn.tanh(sp.Sum(X[i, a] * W[a, h], (a, 0, d - 1)))
    normal = nn.batch_normalization(sp.Sum(hidden * V[h, k], (h, 0, H - 1)), (i, 0, n - 1))
    f = sym2tf.compile(nn.mse(T[i, k], normal, *over_both))
    assert f.graph.counts()["tanh"] == 1


@pytest.mark.parametrize("name", KERAS_ACTIVATIONS)
def test_the_gradient_of_a_network_is_matrix_products_and_nothing_larger_than_its_layers(name):
    f = sym2tf.compile(softmax_loss(two_layers(KERAS_ACTIVATIONS[name][0])))
    both = f.value_and_gradient([W, b, V, c]).graph
    assert both.counts()["einsum"] == 5  # X W, H V, and back: to H, V and W
    assert max(both[v].type.rank for v in both.order) == 2


@pytest.mark.parametrize(
    "loss",
    [
        nn.bce(T[i, k], two_layers(nn.sigmoid), *over_both, from_logits=True),
        softmax_loss(two_layers(nn.tanh)),
        softmax_loss(two_layers(nn.relu, M[i, h], sp.Symbol("rate"))),
        softmax_loss(nn.batch_normalization(X[i, k], (i, 0, n - 1), gamma=c[k], beta=b[k])),
    ],
    ids=["xor", "digits", "dropout", "batch normalization"],
)
def test_loss_and_gradient_have_at_most_four_times_the_nodes_of_the_loss(loss):
    f = sym2tf.compile(loss)
    both = f.value_and_gradient([s for s in (W, b, V, c) if str(s) in f.arguments])
    assert len(both.graph) <= 4 * len(f.graph)
