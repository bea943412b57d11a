"""Formulas in Keras models: layers, losses, training, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import sympy as sp
import tensorflow as tf

import sym2tf
from sym2tf.errors import ArgumentError, DataError, PersistenceError
from sym2tf.keras import ExpressionLayer, ExpressionLoss

a, b, x, z, delta = sp.symbols("a b x z delta")
y_true, y_pred = sp.symbols("y_true y_pred")
j, n = sp.symbols("j n", integer=True)
X, w, T, P = (sp.IndexedBase(name) for name in ("X", "w", "y_true", "y_pred"))
GRID = np.linspace(0, 2, 64, dtype=np.float32)[:, None]
ERROR = y_true - y_pred
TRUTH = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
GUESS = TRUTH + 1.7 * np.random.default_rng(2).normal(size=(7, 3)).astype(np.float32)


def decay_model() -> tuple[Any, Any]:
    layer = sym2tf.compile(a * sp.exp(-b * x), dtype="float32").to_keras({a: 1, b: 1})
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.Adam(0.05), loss=sym2tf.keras_loss(ERROR**2))
    return model, layer


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras hands variables to NumPy 2
def test_a_model_of_a_formula_learns_its_parameters_and_survives_a_file(tmp_path: Path) -> None:
    model, layer = decay_model()
    due = 2 * np.exp(-1.5 * GRID)
    model.fit(GRID, due, epochs=120, batch_size=64, verbose=0)
    assert layer.values["a"] == pytest.approx(2, abs=0.03)
    assert layer.values["b"] == pytest.approx(1.5, abs=0.05)
    found = model.predict(GRID, verbose=0)
    loss = model.evaluate(GRID, due, batch_size=64, verbose=0)
    assert loss == pytest.approx(float(keras.losses.MeanSquaredError()(due, found)), rel=1e-5)
    model.save(tmp_path / "decay.keras")
    again = keras.models.load_model(tmp_path / "decay.keras")
    np.testing.assert_array_equal(again.predict(GRID, verbose=0), found)
    assert again.evaluate(GRID, due, batch_size=64, verbose=0) == pytest.approx(loss)
    assert again.layers[-1].expression == a * sp.exp(-b * x)


def test_the_gradient_of_the_weights_is_the_one_of_calculus() -> None:
    layer = ExpressionLayer(a * sp.exp(-b * x), {a: 2.0, b: 0.5}, dtype="float64")
    points = tf.constant([0.0, 1.0, 3.0], tf.float64)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(points))
    slopes = tape.gradient(total, layer.trainable_weights)
    e = np.exp(-0.5 * points.numpy())
    np.testing.assert_allclose([float(s) for s in slopes], [e.sum(), (-2 * points.numpy() * e).sum()], rtol=1e-14)


def test_a_base_is_a_vector_of_weights_and_takes_a_batch_of_rows() -> None:
    layer = ExpressionLayer(sp.Sum(X[j] * w[j], (j, 0, n - 1)) + b, {w: [1.0, 2.0, 3.0], b: 0.5})
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None,)
    np.testing.assert_allclose(model.predict(TRUTH, verbose=0), TRUTH @ [1, 2, 3] + 0.5, rtol=1e-5)
    assert [tuple(q.shape) for q in model.trainable_weights] == [(3,), ()]


def test_several_inputs_come_in_their_order_or_by_name() -> None:
    layer = ExpressionLayer(a * x - z, {a: 2.0}, inputs=[z, x])
    one, three = tf.constant(1.0), tf.constant(3.0)
    assert float(layer([one, three])) == 5
    assert float(layer({"x": three, "z": one})) == 5
    with pytest.raises(DataError, match="takes 2 inputs"):
        layer([one])
    with pytest.raises(DataError, match="takes z, x"):
        layer({"x": one, "q": one})


@pytest.mark.parametrize(
    ("formula", "constants", "due"),
    [
        (ERROR**2, None, keras.losses.MeanSquaredError()),
        (abs(ERROR), None, keras.losses.MeanAbsoluteError()),
        (
            sp.Piecewise((ERROR**2 / 2, abs(ERROR) <= delta), (delta * abs(ERROR) - delta**2 / 2, True)),
            {delta: 0.7},
            keras.losses.Huber(0.7),
        ),
        (sp.log(sp.cosh(ERROR)), None, keras.losses.LogCosh()),
        (sp.Sum((T[j] - P[j]) ** 2, (j, 0, n - 1)) / n, None, keras.losses.MeanSquaredError()),
    ],
)
def test_losses_are_those_of_keras(formula: Any, constants: Any, due: Any) -> None:
    loss = sym2tf.keras_loss(formula, constants=constants)
    weights = np.arange(7.0)
    assert float(loss(TRUTH, GUESS)) == pytest.approx(float(due(TRUTH, GUESS)), rel=1e-6)
    found, expected = (float(q(TRUTH, GUESS, sample_weight=weights)) for q in (loss, due))
    assert found == pytest.approx(expected, rel=1e-6)
    again = ExpressionLoss.from_config(loss.get_config())
    assert float(again(TRUTH, GUESS)) == float(loss(TRUTH, GUESS))


@pytest.mark.parametrize("formula", [ERROR**2, abs(ERROR)])
def test_a_single_column_and_a_vector_are_the_same_numbers(formula: Any) -> None:
    loss = sym2tf.keras_loss(formula)
    due = float(loss(TRUTH[:, 0], GUESS[:, 0]))
    assert due == pytest.approx(float(np.mean(np.abs(TRUTH[:, 0] - GUESS[:, 0]) ** (2 if formula == ERROR**2 else 1))))
    assert float(loss(TRUTH[:, 0], GUESS[:, :1])) == pytest.approx(due)
    assert float(loss(TRUTH[:, :1], GUESS[:, 0])) == pytest.approx(due)
    with pytest.raises(DataError, match="give both the same axes"):
        loss(TRUTH[:, 0], GUESS)


def test_a_formula_without_weights_is_a_layer_too() -> None:
    layer = sym2tf.compile(sp.sin(x) ** 2, dtype="float32").to_keras()
    assert not layer.weights
    np.testing.assert_allclose(layer(GRID), np.sin(GRID) ** 2, rtol=1e-5)


def test_training_with_a_loss_is_training_with_that_of_keras() -> None:
    trained = []
    for loss in (sym2tf.keras_loss(ERROR**2), "mse"):
        keras.utils.set_random_seed(4)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", loss=loss)
        model.fit(TRUTH, GUESS[:, :1], epochs=3, verbose=0)
        trained.append(model.get_weights()[0])
    np.testing.assert_allclose(*trained, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ExpressionLayer(a * x, {b: 1}), "does not contain"),
        (lambda: ExpressionLayer(a * x, [a]), "symbols come with values"),
        (lambda: ExpressionLayer(a * x, {a: 1}, inputs=[z]), "inputs are x"),
        (lambda: ExpressionLayer("a*x", {a: 1}), "one expression"),
        (lambda: sym2tf.compile(a * x).gradient().to_keras({a: 1}), "a derivative"),
        (lambda: sym2tf.compile([a * x, a]).to_keras({a: 1}), "several outputs"),
        (lambda: sym2tf.keras_loss(y_true + 1), "formula in y_true and y_pred"),
        (lambda: sym2tf.keras_loss(ERROR * a), "constants"),
        (lambda: sym2tf.keras_loss(ERROR**2, constants={a: 1}), "does not contain"),
    ],
)
def test_what_does_not_fit_together_is_an_error(make: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make()


def test_a_config_is_read_and_never_executed() -> None:
    config = ExpressionLayer(a * x, {a: 1}).get_config()
    config["expression"]["nodes"].append(["__import__", 0])
    with pytest.raises(TypeError, match="is not known"):  # Keras' own error around ours
        ExpressionLayer.from_config(config)
    with pytest.raises(PersistenceError, match="is not known"):
        ExpressionLayer(config["expression"], {a: 1})
    with pytest.raises(ArgumentError, match="version 9"):
        ExpressionLayer({**config["expression"], "version": 9}, {a: 1})
