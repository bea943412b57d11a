"""Optimisers as formulas: trajectories, schedules and training steps against Keras in float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import sympy as sp
import tensorflow as tf

import sym2tf
from sym2tf import optimizers
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import ArgumentError, DataError, DifferentiationError, GraphError
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Builder
from sym2tf.ops.values import Value, constant
from sym2tf.optimizers import Optimizer, gradient, parameter, t
from sym2tf.passes.inlining import inline
from sym2tf.training import Training

i, n = sp.symbols("i n", integer=True)
w = sp.IndexedBase("w")
X, Y = sp.IndexedBase("X"), sp.IndexedBase("Y")
s = sp.Symbol("s")
LOSS = sp.Sum(sp.cos(w[i]) + w[i] ** 2 * s**2 / 4 + s * w[i], (i, 0, n - 1))  # curved, and coupled
START = {w: np.array([0.3, -1.2, 2.5]), s: 0.7}


@pytest.fixture(autouse=True)
def _float64():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


class Reference:
    """A training step on the NumPy backend, which needs no trace."""

    def __init__(self, step):
        self.step = step
        self.graph = step.function.graph

    def run(self, params, steps, data=None):
        """The parameters after each step, flattened, and the losses."""
        state = self.step.initial_state(params)
        path, losses = [], []
        slots = [k for k in state if k != "t"]
        for _ in range(steps):
            inputs = {str(p): v for p, v in {**params, **(data or {})}.items()} | {"t": state["t"]}
            inputs |= {f"{p}_{k}": state[k][p] for k in slots for p in params}
            found = evaluate(self.graph, inputs)
            params = {p: found[f"new {p}"] for p in params}
            state = {"t": found["t"], **{k: {p: found[f"new {p}_{k}"] for p in params} for k in slots}}
            path.append(np.concatenate([np.ravel(v) for v in params.values()]))
            losses.append(float(found["out"]))
        return np.array(path), np.array(losses)


# Keras rounds what it casts (beta, rho, weight decay) to float32 first, so float32 holds all constants here
RULES = {
    "gradient descent": (optimizers.gradient_descent(1 / 64), keras.optimizers.SGD(1 / 64)),
    "momentum": (optimizers.momentum(1 / 64, 7 / 8), keras.optimizers.SGD(1 / 64, momentum=7 / 8)),
    "nesterov": (optimizers.nesterov(1 / 64, 7 / 8), keras.optimizers.SGD(1 / 64, momentum=7 / 8, nesterov=True)),
    "adagrad": (
        optimizers.adagrad(1 / 8, epsilon=2**-20, initial_accumulator=0.125),
        keras.optimizers.Adagrad(1 / 8, initial_accumulator_value=0.125, epsilon=2**-20),
    ),
    "adadelta": (optimizers.adadelta(1.0, 15 / 16, 2**-20), keras.optimizers.Adadelta(1.0, 15 / 16, 2**-20)),
    "rmsprop": (optimizers.rmsprop(1 / 64, 7 / 8), keras.optimizers.RMSprop(1 / 64, 7 / 8)),
    "rmsprop with momentum, centred": (
        optimizers.rmsprop(1 / 64, 7 / 8, momentum=0.5, centered=True),
        keras.optimizers.RMSprop(1 / 64, 7 / 8, momentum=0.5, centered=True),
    ),
    "adam": (optimizers.adam(1 / 16, 7 / 8, 255 / 256), keras.optimizers.Adam(1 / 16, 7 / 8, 255 / 256)),
    "adam amsgrad": (
        optimizers.adam(1 / 16, 7 / 8, 255 / 256, amsgrad=True),
        keras.optimizers.Adam(1 / 16, 7 / 8, 255 / 256, amsgrad=True),
    ),
    "adamw": (
        optimizers.adamw(1 / 16, 1 / 32, beta_1=7 / 8, beta_2=255 / 256),
        keras.optimizers.AdamW(1 / 16, 1 / 32, 7 / 8, 255 / 256),
    ),
}


def keras_path(optimizer, steps):
    """The parameters after each step of a Keras optimiser on the same loss."""
    slopes = sym2tf.compile(LOSS, args=(w, s)).gradient([w, s]).graph
    variables = [keras.Variable(START[p], dtype="float64") for p in (w, s)]
    path = []
    for _ in range(steps):
        found = evaluate(slopes, {"w": variables[0].numpy(), "s": variables[1].numpy()})
        optimizer.apply(list(found.values()), variables)
        path.append(np.concatenate([np.ravel(v.numpy()) for v in variables]))
    return np.array(path)


@pytest.mark.parametrize("name", RULES)
def test_fifty_steps_of_every_optimiser_are_those_of_keras(name):
    ours, theirs = RULES[name]
    path, losses = Reference(sym2tf.training_step(LOSS, [w, s], ours)).run(START, 50)
    due = keras_path(theirs.__class__.from_config(theirs.get_config()), 50)
    np.testing.assert_allclose(path, due, rtol=1e-12, atol=1e-12)
    assert losses[-1] < losses[0]


def test_the_defaults_are_those_of_keras():
    for name in ("adagrad", "adadelta", "rmsprop", "adam", "adamw"):
        ours = getattr(optimizers, name)()
        classes = {"rmsprop": "RMSprop", "adamw": "AdamW"}
        theirs = getattr(keras.optimizers, classes.get(name, name.capitalize()))()
        path, _ = Reference(sym2tf.training_step(LOSS, [w, s], ours)).run(START, 5)
        np.testing.assert_allclose(path, keras_path(theirs, 5), rtol=1e-6)  # float32 holds 0.9 to 3e-8


decays = keras.optimizers.schedules
SCHEDULES = {
    "exponential": (optimizers.exponential_decay(0.125, 8, 0.75), decays.ExponentialDecay(0.125, 8, 0.75)),
    "staircase": (
        optimizers.exponential_decay(0.125, 8, 0.75, staircase=True),
        decays.ExponentialDecay(0.125, 8, 0.75, staircase=True),
    ),
    "inverse time": (optimizers.inverse_time_decay(0.125, 8, 0.5), decays.InverseTimeDecay(0.125, 8, 0.5)),
    "steps": (
        optimizers.step_decay([0.125, 0.0625, 0.25], [4, 20]),
        decays.PiecewiseConstantDecay([4, 20], [0.125, 0.0625, 0.25]),
    ),
    "cosine": (optimizers.cosine_decay(0.125, 30, 0.25), decays.CosineDecay(0.125, 30, 0.25)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_learning_rates_are_those_of_keras(name):
    ours, theirs = SCHEDULES[name]
    steps = np.arange(50.0)
    rates = np.broadcast_to(evaluate(sym2tf.compile(ours, args=(t,)).graph, {"t": steps})["out"], 50)
    np.testing.assert_allclose(rates, [float(theirs(int(k))) for k in steps], rtol=1e-6)  # Keras works in float32 here
    exact = [float(sp.sympify(ours).subs(t, int(k)).evalf()) for k in steps]
    np.testing.assert_allclose(rates, exact, rtol=1e-14)


def test_a_schedule_runs_in_the_step():
    rate = optimizers.inverse_time_decay(0.125, 1, 1)
    path, _ = Reference(sym2tf.training_step(s**2 / 2, [s], optimizers.gradient_descent(rate))).run({s: 1.0}, 4)
    due = np.cumprod([1 - 0.125 / (1 + k) for k in range(4)])
    np.testing.assert_allclose(path[:, 0], due, rtol=1e-14)


# Training steps -----------------------------------------------------------------------------------

a, b = sp.symbols("a b")
LINE = sp.Sum((Y[i] - a * X[i] - b) ** 2, (i, 0, n - 1)) / n
RNG = np.random.default_rng(5)
XS = RNG.normal(size=64)
YS = 2 * XS - 1


def test_a_step_takes_and_gives_nests_by_symbol_and_runs_in_one_trace():
    rate = sp.Symbol("rate")
    step = sym2tf.training_step(LINE, [a, b], optimizers.momentum(rate, 0.5))
    params, state = {a: 0.0, "b": 0.0}, None
    state = step.initial_state(params)
    assert state["t"] == 0
    assert set(state["velocity"]) == {a, "b"}
    for _ in range(60):
        params, state, loss = step(params, state, {X: XS, "Y": YS}, rate=0.2)
    assert float(loss) < 1e-12
    assert float(params[a]) == pytest.approx(2, abs=1e-6)
    assert float(state["t"]) == 60
    assert step.function.traces == 1
    assert step.optimizer.hyperparameters == (rate,)


def test_steps_run_inside_a_tf_function_in_float32():
    step = sym2tf.training_step(LINE, [a, b], optimizers.adam(0.1), dtype="float32")

    @tf.function(autograph=False)
    def twice(params, state):
        for _ in range(2):
            params, state, loss = step(params, state, X=XS, Y=YS)
        return params, state, loss

    params = {"a": 0.0, "b": 0.0}
    state = step.initial_state(params)
    inside, _, loss = twice(params, state)
    for _ in range(2):
        params, state, due = step(params, state, X=XS, Y=YS)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, due, rtol=1e-6)
    np.testing.assert_allclose(inside["a"], params["a"], rtol=1e-6)


def test_the_step_holds_one_graph_that_shares_the_forward_part():
    step = sym2tf.training_step(LINE, [a, b], optimizers.adam())
    counts = step.function.graph.counts()
    both = sym2tf.compile(LINE).value_and_gradient([a, b]).graph.counts()
    assert counts["sum"] == both["sum"]
    assert counts["sqrt"] == 3  # of two moments, and one correction that both parameters share
    assert "def step(" in step.function.source


def test_mini_batches_are_the_same_for_the_same_seed_and_go_through_all_of_the_data():
    step = sym2tf.training_step(LINE, [a, b], optimizers.gradient_descent(0.1))
    first, again, other = (
        sym2tf.train(step, {a: 0.0, b: 0.0}, {X: XS, Y: YS}, epochs=3, batch_size=24, seed=seed) for seed in (1, 1, 2)
    )
    assert first.losses.shape == (9,)
    assert first.epochs.shape == (3,)
    np.testing.assert_array_equal(first.losses, again.losses)
    assert (first.losses != other.losses).any()
    assert first.state["t"] == 9
    longer = sym2tf.train(step, first.params, {X: XS, Y: YS}, epochs=20, batch_size=24, state=first.state)
    assert longer.params[a] == pytest.approx(2, abs=1e-3)
    assert longer.epochs[-1] < first.epochs[-1] < first.epochs[0]
    seen = np.sort(np.concatenate(list(sym2tf.training._batches(np.random.default_rng(0), 64, 24))))
    np.testing.assert_array_equal(seen, np.arange(64))


def test_masks_are_drawn_anew_in_each_step_and_fixed_arguments_stay():
    mask, scale = sp.IndexedBase("mask"), sp.Symbol("scale")
    loss = sp.Sum(mask[i] * (Y[i] - scale * a * X[i]) ** 2, (i, 0, n - 1))
    step = sym2tf.training_step(loss, a, optimizers.gradient_descent(0.0))
    done = sym2tf.train(
        step,
        {a: 1.0},
        {X: XS, Y: YS},
        epochs=3,
        fixed={scale: 2.0},
        drawn={mask: lambda generator, size: generator.integers(0, 2, size).astype(float)},
    )
    assert len(set(done.losses)) == 3
    assert float(done.params[a]) == 1


def test_a_rule_of_ones_own_is_a_record():
    count = sp.Symbol("count")
    sign = Optimizer("sign descent", parameter - sp.sign(gradient) / (1 + count), {count: count + 1}, {count: 1.0})
    path, _ = Reference(sym2tf.training_step(s**2, [s], sign)).run({s: 3.0}, 3)
    np.testing.assert_allclose(path[:, 0], [3 - 1 / 2, 3 - 1 / 2 - 1 / 3, 3 - 1 / 2 - 1 / 3 - 1 / 4])


def test_a_hyperparameter_that_the_loss_has_too_is_one_argument():
    step = sym2tf.training_step(b * s**2, [s], optimizers.gradient_descent(b))
    path, _ = Reference(step).run({s: 1.0}, 1, {b: 0.25})
    assert path[0, 0] == 1 - 0.25 * 2 * 0.25


def test_a_loss_may_have_an_input_called_t():
    step = sym2tf.training_step((s - sp.Symbol("t")) ** 2, [s], optimizers.gradient_descent(0.5))
    found = evaluate(step.function.graph, {"s": 1.0, "t": 3.0, "t_": 0.0})
    assert found["new s"] == 3


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: sym2tf.training_step(LINE, [], optimizers.adam()), ArgumentError, "nothing to train"),
        (lambda: sym2tf.training_step(LINE, [s], optimizers.adam()), ArgumentError, "no input"),
        (lambda: sym2tf.training_step(LOSS, [w[0]], optimizers.adam()), ArgumentError, "whole inputs"),
        (lambda: sym2tf.training_step(w[i], [w], optimizers.adam()), DifferentiationError, "scalar"),
        (lambda: sym2tf.training_step(LOSS, [w], "adam"), ArgumentError, "'adam' is no optimiser"),
        (lambda: sym2tf.training_step(LOSS, [w], optimizers.adam), ArgumentError, "is no optimiser"),
        (lambda: optimizers.adam(gradient), ArgumentError, "learning rate"),
        (lambda: optimizers.adam("fast"), ArgumentError, "hyperparameter"),
        (lambda: optimizers.step_decay([1, 2], []), ArgumentError, "boundaries"),
        (lambda: optimizers.step_decay([1, 2, 3], [5, 4]), ArgumentError, "must grow"),
        (lambda: Optimizer("o", parameter, {}, {s: 1}), ArgumentError, "no slot"),
        (lambda: Optimizer("o", parameter, {t: t}), ArgumentError, "symbol of its own"),
    ],
)
def test_what_makes_no_sense_is_told(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_arguments_of_a_step_that_do_not_fit_are_told():
    step = sym2tf.training_step(LINE, [a, b], optimizers.gradient_descent())
    state = step.initial_state({a: 0, b: 0})
    with pytest.raises(ArgumentError, match=r"missing: b$"):
        step({a: 0}, state, {X: XS, Y: YS})
    with pytest.raises(ArgumentError, match="the state of gradient_descent"):
        step({a: 0, b: 0}, {"velocity": {}}, {X: XS, Y: YS})
    with pytest.raises(ArgumentError, match="twice"):
        step({a: 0, b: 0}, state, {X: XS, Y: YS}, X=XS)
    with pytest.raises(DataError, match="X has 64, Y has 3"):
        sym2tf.train(step, {a: 0, b: 0}, {X: XS, Y: YS[:3]})
    with pytest.raises(DataError, match="there are none"):
        sym2tf.train(step, {a: 0, b: 0}, {})
    with pytest.raises(ArgumentError, match="at least 1"):
        sym2tf.train(step, {a: 0, b: 0}, {X: XS, Y: YS}, epochs=0)


# Inlining ------------------------------------------------------------------------------------------


def test_inlining_broadcasts_scalars_over_tensors():
    rule = lower([parameter - gradient * s], args=[parameter, gradient, s])
    tensors = lower([w[i], X[i]], args=[w, X], indices=[i])
    builder = Builder()
    where = builder.include(tensors)
    big = [Value(builder, where[v]) for v in tensors.inputs]
    (answer,) = inline(builder, rule, dict(zip(rule.inputs, [*big, constant(builder, 0.5)], strict=True))).values()
    graph = builder.build([v.id for v in big], {"out": answer.id}).validate()
    np.testing.assert_array_equal(evaluate(graph, {"w": np.ones(3), "X": np.arange(3.0)})["out"], [1, 0.5, 0])


def test_only_graphs_of_scalars_with_every_input_bound_are_inlined():
    with pytest.raises(GraphError, match="only graphs of scalars"):
        inline(Builder(), lower(sp.Sum(w[i], (i, 0, n - 1))), {})
    with pytest.raises(GraphError, match="not bound"):
        inline(Builder(), lower(s + 1), {})
    builder = Builder()
    rule = lower(s + 1)
    with pytest.raises(GraphError, match="boolean"):
        inline(builder, rule, {rule.inputs[0]: constant(builder, True)})


def test_what_is_assumed_of_targets_shortens_the_step():
    m, k, c = sp.symbols("m k c", integer=True, positive=True)
    points, targets, weights = sp.MatrixSymbol("P", m, k), sp.MatrixSymbol("T", m, c), sp.MatrixSymbol("W", k, c)
    loss = sym2tf.nn.cce(targets, points * weights, from_logits=True)
    known, unknown = (
        sym2tf.training_step(loss, [weights], optimizers.gradient_descent(0.1), assume=assume)
        for assume in (sym2tf.OneHot(targets), ())
    )
    assert len(known.function.graph) < len(unknown.function.graph)


def test_steps_and_trainings_show_themselves_in_one_line():
    step = sym2tf.training_step(LOSS, [w], optimizers.adam(0.01))
    assert repr(step) == f"<sym2tf training step: one step of adam on {LOSS}; trains w, float64>"
    losses = np.array([4.0, 2.0, 1.0, 0.5])
    trained = Training({}, {}, losses, losses.reshape(2, 2).mean(1))
    assert repr(trained) == "<sym2tf training: 4 steps, 2 epochs, loss 3 to 0.75>"
