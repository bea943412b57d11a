"""Fits by mini-batches: what a batch says about the whole, optimisers and schedules, streams, resuming, errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import sym2tf
from sym2tf import optimizers
from sym2tf.backends.numpy import evaluate
from sym2tf.errors import ArgumentError, DataError, FitError, FitWarning
from sym2tf.fit.evaluation.residuals import run
from sym2tf.fit.solvers.minibatch import KERAS
from sym2tf.fit.statement.separable import separate
from sym2tf.fit.statement.state import state
from sym2tf.lazy import lazy

keras = lazy("tensorflow.keras")

i, j, n, k = sp.symbols("i j n k", integer=True)
x, y, c, X, B, w = (sp.IndexedBase(name) for name in ("x", "y", "c", "X", "B", "w"))
a, b, lam, p, q = sp.symbols("a b lam p q")
XM, WM, YM = sp.MatrixSymbol("X", n, k), sp.MatrixSymbol("w", k, 1), sp.MatrixSymbol("y", n, 1)

N = 600
rng = np.random.default_rng(7)
XS = rng.normal(size=N)
YS = 2 * XS + 1 + 0.1 * rng.normal(size=N)
LABELS = (rng.uniform(size=N) < 1 / (1 + np.exp(-2 * XS - 1))) * 1.0
CLASSES = rng.integers(0, 3, N)
FEATURES = rng.normal(size=(N, 3))
LINE = {x: XS, y: YS}

SQUARES = sp.Sum((y[i] - a * x[i] - b) ** 2, (i, 0, n - 1))
LOGISTIC = sp.Sum(sp.log(1 + sp.exp(a * x[i] + b)) - y[i] * (a * x[i] + b), (i, 0, n - 1))
SOFTMAX = sp.Sum(sp.log(sp.Sum(sp.exp(a * X[i, j]), (j, 0, k - 1))) - a * X[i, c[i]], (i, 0, n - 1))

SEPARABLE: dict[str, tuple[Any, dict[Any, Any], Any]] = {
    "sum": (SQUARES, LINE, [a, b]),
    "mean and penalty": (SQUARES / n + lam * a**2, {**LINE, lam: 2}, [a, b]),
    "sum and penalty": (SQUARES + lam * a**2, {**LINE, lam: 2}, [a, b]),
    "equation": (sp.Eq(p, a * q + b), {q: XS, p: YS}, [a, b]),
    "numbers of rows": (sp.Eq(y[i], a * i + b), {y: YS}, [a, b]),
    "matrices": (
        (XM * WM - YM).T * (XM * WM - YM) / n + lam * WM.T * WM, {XM: FEATURES, YM: YS[:, None], lam: 1}, [WM]),
    "expanded": (WM.T * XM.T * XM * WM - 2 * YM.T * XM * WM, {XM: FEATURES, YM: YS[:, None]}, [WM]),
    "classes": (SOFTMAX, {X: FEATURES, c: CLASSES}, [a]),
    "groups": (sp.Sum((y[i] - B[c[i]]) ** 2, (i, 0, n - 1)), {y: YS, c: CLASSES}, {B: np.zeros(3)}),
    "scale": (SQUARES * sp.exp(-2 * lam) + n * lam + lam**2, LINE, {a: 0, b: 0, lam: 0.5}),
    "features first": (sp.Sum((y[i] - sp.Sum(w[j] * X[j, i], (j, 0, k - 1))) ** 2, (i, 0, n - 1)),
                       {X: FEATURES.T, y: YS}, {w: np.zeros(3)}),
}  # fmt: skip

COUPLED = {
    "function of a sum": (sp.sqrt(SQUARES), LINE, [a, b], "no sum over n but a function of one"),
    "log of a sum": (sp.log(sp.Sum(sp.exp(a * y[i]), (i, 0, n - 1))) + a**2, {y: YS}, [a], "but a function of one"),
    "sum in a sum": (sp.Sum((y[i] - a - sp.Sum(y[j], (j, 0, n - 1)) / n) ** 2, (i, 0, n - 1)), {y: YS}, [a],
                     "holds another sum over n"),
    "reversed": (
        sp.Sum((y[i] - a * y[n - 1 - i]) ** 2, (i, 0, n - 1)), {y: YS}, [a], "other observations than its own"),
    "neighbours": (sp.Sum((y[i + 1] - a * y[i]) ** 2, (i, 0, n - 1)), {y: YS}, [a], "neighbours are coupled"),
    "pairs": (sp.Sum((y[i] - a * x[j]) ** 2, (i, 0, n - 1), (j, 0, n - 1)), LINE, [a], "other observations"),
    "one observation": (SQUARES + (y[0] - a) ** 2, LINE, [a, b], "y is used outside of a sum over n"),
    "parameter by observation": (sp.Sum((y[i] - B[i]) ** 2, (i, 0, n - 1)), {y: YS}, {B: np.zeros(N)},
                                 "belongs to data alone"),
}  # fmt: skip


def at(separable: Any, graph: Any, values: dict[str, Any], **given: float) -> dict[str, Any]:
    inputs = {**values, **{name: np.asarray(value) for name, value in given.items()}}
    names = [graph[v].attributes["name"] for v in graph.inputs]
    return evaluate(graph, {name: inputs[name] for name in names}, {})


@pytest.mark.parametrize("name", SEPARABLE)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_sum_of_batches_is_the_whole(name: str, seed: int) -> None:
    problem = state(*SEPARABLE[name])
    own = separate(problem)
    random = np.random.default_rng(seed)
    theta = random.normal(size=len(problem.names))
    values = {**problem.data, **problem.fixed, **problem.unpacked(theta)}
    whole = float(run(problem.graph, problem, problem.unpacked(theta))["out"].reshape(()))
    cuts = np.sort(random.choice(np.arange(1, N), 3, replace=False))
    batches = np.split(random.permutation(N), cuts)
    given_ = {own.scale: 1.0, own.share: 1 / len(batches), own.total: N}
    parts = [float(at(own, own.graph, own.rows_of(values, rows), **given_)["out"]) for rows in batches]
    assert np.isclose(sum(parts), whole, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", SEPARABLE)
def test_a_batch_estimates_the_whole_without_bias(name: str) -> None:
    # every batch of one row, each as likely: the mean of the estimates is the cost
    problem = state(*SEPARABLE[name])
    own = separate(problem)
    theta = np.random.default_rng(0).normal(size=len(problem.names))
    values = {**problem.data, **problem.fixed, **problem.unpacked(theta)}
    whole = float(run(problem.graph, problem, problem.unpacked(theta))["out"].reshape(()))
    rows = np.arange(0, N)
    found = [
        float(
            at(own, own.graph, own.rows_of(values, rows[m : m + 1]), **{own.scale: N, own.share: 1, own.total: N})[
                "out"
            ]
        )
        for m in range(N)
    ]
    assert np.isclose(np.mean(found), whole, rtol=1e-11)


@pytest.mark.parametrize("name", COUPLED)
def test_a_cost_that_couples_observations_is_refused(name: str) -> None:
    cost, data, params, said = COUPLED[name]
    with pytest.raises(ArgumentError, match=said):
        sym2tf.fit(cost, data, params, batch_size=10)


def quietly(*args: Any, **options: Any) -> Any:
    """A fit that may be short of the minimum: that is not what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return sym2tf.fit(*args, **options)


def numbers(result: Any) -> np.ndarray:
    return np.concatenate([np.ravel(v) for v in result.params.values()])


def falling(rate: float, epochs: int, batches: int) -> Any:
    return keras.optimizers.schedules.CosineDecay(rate, epochs * batches)


def test_linear_regression_comes_to_its_closed_form() -> None:
    method = keras.optimizers.SGD(falling(0.3, 120, 3))
    found = sym2tf.fit(sp.Eq(y[i], a * x[i] + b), LINE, [a, b], method=method, batch_size=200, epochs=120)
    closed = sym2tf.fit(sp.Eq(y[i], a * x[i] + b), LINE, [a, b])
    assert found.success
    assert "SGD (Keras) on mini-batches of 200 of 600 rows" in found.solver
    assert np.all(np.abs(numbers(found) - numbers(closed)) < 0.1 * np.array(list(closed.stderr.values())))
    assert np.isclose(found.cost, closed.cost, rtol=1e-4)
    assert all(np.isclose(found.stderr[s], closed.stderr[s], rtol=1e-4) for s in (a, b))
    assert len(found.history) >= 120


def test_logistic_regression_on_batches_comes_near_the_optimum() -> None:
    data = {x: XS, y: LABELS}
    method = keras.optimizers.Adam(falling(0.1, 80, 6))
    found = quietly(LOGISTIC / n, data, [a, b], method=method, batch_size=100, epochs=80)
    best = sym2tf.fit(LOGISTIC / n, data, [a, b])
    assert np.allclose(numbers(found), numbers(best), atol=0.02)
    assert best.cost <= found.cost <= best.cost * 1.0001


def test_one_batch_of_all_rows_is_gradient_descent() -> None:
    theta = np.zeros(2)
    design = np.stack([XS, np.ones(N)], axis=1)
    for _ in range(5):
        theta = theta - 0.1 * 2 * design.T @ (design @ theta - YS) / N
    found = quietly(SQUARES / n, LINE, [a, b], method=keras.optimizers.SGD(0.1), batch_size=N, epochs=5)
    assert np.allclose(numbers(found), theta, rtol=1e-6)  # Keras keeps learning rates in single precision
    assert np.isclose(found.cost, np.mean((design @ numbers(found) - YS) ** 2), rtol=1e-12)


def test_a_sum_is_scaled_up_and_a_mean_stays_a_mean() -> None:
    rule = optimizers.gradient_descent(0.05)
    of_mean = quietly(SQUARES / n + lam * a**2, {**LINE, lam: 0.5}, [a, b], method=rule, batch_size=50, epochs=2)
    rule = optimizers.gradient_descent(0.05 / N)
    of_sum = quietly(SQUARES + lam * a**2, {**LINE, lam: 0.5 * N}, [a, b], method=rule, batch_size=50, epochs=2)
    assert np.allclose(numbers(of_mean), numbers(of_sum), rtol=1e-12)


def test_our_rules_step_like_those_of_keras() -> None:
    options: dict[str, Any] = {"batch_size": 64, "epochs": 3}
    ours = quietly(SQUARES / n, LINE, [a, b], method=optimizers.adam(0.05), **options)
    keras_ = quietly(SQUARES / n, LINE, [a, b], method=keras.optimizers.Adam(0.05), **options)
    assert np.allclose(numbers(ours), numbers(keras_), rtol=1e-5)
    with pytest.raises(ArgumentError, match="symbols rate"):
        sym2tf.fit(SQUARES, LINE, [a, b], method=optimizers.adam(sp.Symbol("rate")))


def test_the_optimiser_that_was_given_is_not_changed_and_serves_again() -> None:
    method = keras.optimizers.Adam(0.05)
    first = quietly(SQUARES / n, LINE, [a, b], method=method, batch_size=64)
    second = quietly(SQUARES / n, LINE, [a, b], method=method, batch_size=64)
    assert numbers(first).tobytes() == numbers(second).tobytes()
    assert not method.built


def test_the_seed_decides_the_order_of_the_rows() -> None:
    options: dict[str, Any] = {"method": "adam", "batch_size": 50, "epochs": 2}
    one, same, other = (numbers(quietly(SQUARES / n, LINE, [a, b], seed=s, **options)) for s in (1, 1, 2))
    assert one.tobytes() == same.tobytes()
    assert not np.array_equal(one, other)


def test_every_row_is_seen_once_in_an_epoch() -> None:
    # gradient descent on a linear cost adds up its slopes: the order and the batches do not matter
    found = quietly(-sp.Sum(y[i] * a, (i, 0, n - 1)) / n, {y: YS}, {a: sym2tf.Parameter(0, bounds=(-1e9, 1e9))},
                    method=optimizers.gradient_descent(1), batch_size=100, epochs=3)  # fmt: skip
    assert np.isclose(numbers(found)[0], 3 * 6 * YS.mean(), rtol=1e-12)


def test_memory_mapped_data_give_what_arrays_give(tmp_path: Path) -> None:
    files = {}
    for symbol, values in LINE.items():
        files[symbol] = tmp_path / f"{symbol}.npy"
        np.save(files[symbol], values)
    mapped = {symbol: np.load(path, mmap_mode="r") for symbol, path in files.items()}
    options: dict[str, Any] = {"method": "adam", "batch_size": 70, "epochs": 2}
    found = quietly(SQUARES / n, mapped, [a, b], **options)
    assert numbers(found).tobytes() == numbers(quietly(SQUARES / n, LINE, [a, b], **options)).tobytes()


def test_bounds_are_kept_and_fixed_parameters_stay() -> None:
    params = {a: sym2tf.Parameter(0, bounds=(None, 1.5)), b: sym2tf.Parameter(0.5, fixed=True)}
    found = quietly(SQUARES / n, LINE, params, method=keras.optimizers.Adam(0.05), batch_size=100, epochs=20)
    assert found.params[a] == 1.5
    assert found.params[b] == 0.5
    assert found.at_bounds == ("a",)
    assert all(step.theta[0] <= 1.5 for step in found.history)


def test_training_stops_early_on_validation_data_with_the_best_parameters() -> None:
    held = {x: XS[:100], y: YS[:100]}
    data = {x: XS[100:], y: YS[100:]}
    found = quietly(SQUARES / n, data, [a, b], method=keras.optimizers.Adam(0.2), batch_size=25, epochs=500,
                    validation=held, patience=3)  # fmt: skip
    assert len(found.history) < 500
    best = min(found.history, key=lambda step: step.validation)
    assert np.array_equal(numbers(found), best.theta)
    assert np.isclose(best.validation, np.mean((held[y] - best.theta[0] * held[x] - best.theta[1]) ** 2))


def test_callbacks_see_every_epoch_and_may_stop() -> None:
    seen: list[Any] = []

    def callback(step: Any) -> bool:
        seen.append(step)
        return len(seen) == 4

    found = quietly(SQUARES / n, LINE, [a, b], method="adam", batch_size=100, epochs=50, callbacks=[callback])
    assert [step.iteration for step in seen] == [0, 1, 2, 3]
    assert not found.success
    assert [step.cost for step in found.history[:4]] == [step.cost for step in seen]


def test_ctrl_c_ends_a_training_where_it_stands() -> None:
    def press(step: Any) -> None:
        if step.iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)

    found = quietly(LOGISTIC / n, {x: XS, y: LABELS}, [a, b], method="adam", batch_size=100, epochs=50, callbacks=press)
    assert not found.success
    assert "interrupted (Ctrl-C)" in found.message
    assert np.array_equal(numbers(found), found.history[2].theta)


def test_the_integers_of_a_batch_stay_integers() -> None:
    cost = sp.Sum((y[i] - B[c[i]]) ** 2, (i, 0, n - 1)) / n
    found = quietly(cost, {y: YS, c: CLASSES}, {B: np.zeros(3)}, method=keras.optimizers.Adam(falling(0.2, 30, 6)),
                    batch_size=100, epochs=30)  # fmt: skip
    assert np.allclose(numbers(found), [YS[np.equal(CLASSES, m)].mean() for m in range(3)], atol=0.02)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_precisions_come_to_the_same(dtype: str) -> None:
    options: dict[str, Any] = {"method": "adam", "batch_size": 100, "epochs": 3}
    found = quietly(SQUARES / n, LINE, [a, b], dtype=dtype, device="CPU:0", **options)
    double = quietly(SQUARES / n, LINE, [a, b], **options)
    assert np.allclose(numbers(found), numbers(double), rtol=1e-4 if dtype == "float32" else 0, atol=0)


def test_the_cost_of_a_full_batch_is_evaluated_in_single_precision_and_on_a_device() -> None:
    data = {x: XS, y: LABELS}
    exact = sym2tf.fit(LOGISTIC, data, [a, b])
    single = sym2tf.fit(LOGISTIC, data, [a, b], dtype="float32")
    placed = sym2tf.fit(LOGISTIC, data, [a, b], device="CPU:0")
    assert single.success
    assert np.allclose(numbers(single), numbers(exact), rtol=1e-3)
    assert np.allclose(numbers(placed), numbers(exact), rtol=1e-8)
    assert "TensorFlow" in single.solver
    assert "TensorFlow" in placed.solver


# Streams ----------------------------------------------------------------------------------------------------------


def batches_of(data: dict[Any, Any], size: int) -> Any:
    return lambda: ({key: v[m : m + size] for key, v in data.items()} for m in range(0, N, size))


@pytest.mark.parametrize("cost", [LOGISTIC, LOGISTIC / n, LOGISTIC + a**2], ids=["sum", "mean", "penalty"])
def test_a_stream_is_trained_batch_by_batch(cost: Any) -> None:
    data = {x: XS, y: LABELS}
    method = keras.optimizers.Adam(falling(0.1, 60, 6))
    found = quietly(cost, batches_of(data, 100), [a, b], method=method, epochs=60)
    best = sym2tf.fit(cost, data, [a, b])
    assert np.allclose(numbers(found), numbers(best), atol=0.03)
    assert best.cost * (1 - 1e-9) <= found.cost <= best.cost * 1.0005


def test_a_dataset_and_a_generator_are_streams() -> None:
    tf = lazy("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices({"x": XS, "y": LABELS}).batch(100)
    options: dict[str, Any] = {"method": "adam", "epochs": 1}
    of_dataset = quietly(LOGISTIC / n, dataset, [a, b], **options)
    of_generator = quietly(LOGISTIC / n, batches_of({x: XS, y: LABELS}, 100)(), [a, b], **options)
    assert np.allclose(numbers(of_dataset), numbers(of_generator), rtol=1e-12)


@pytest.mark.parametrize("cost", [LOGISTIC, LOGISTIC / n, sp.Eq(p, a * q + b)], ids=["sum", "mean", "equation"])
def test_the_cost_of_an_epoch_of_a_stream_is_that_of_all_rows(cost: Any) -> None:
    data = {x: XS, y: LABELS} if cost.has(x) else {q: XS, p: YS}
    still = optimizers.gradient_descent(1e-12)  # so that the cost is the same for all batches
    whole = quietly(cost, data, [a, b], method=still, batch_size=70).cost
    repeated = quietly(cost, batches_of(data, 70), [a, b], method=still, epochs=2)
    once = quietly(cost, batches_of(data, 70)(), [a, b], method=still)
    assert np.allclose([repeated.cost, once.cost, *(s.cost for s in repeated.history)], whole, rtol=1e-7)


def test_what_a_stream_that_is_gone_cannot_do_is_said() -> None:
    data = {x: XS, y: LABELS}
    with pytest.raises(DataError, match="only once, and epochs asks for more"):
        sym2tf.fit(LOGISTIC / n, batches_of(data, 100)(), [a, b], method="adam", epochs=2)
    with pytest.raises(DataError, match="their number must be known"):
        sym2tf.fit(LOGISTIC + a**2, batches_of(data, 100)(), [a, b], method="adam")
    with pytest.raises(ArgumentError, match="batch_size is for data at hand"):
        sym2tf.fit(LOGISTIC, batches_of(data, 100), [a, b], method="adam", batch_size=10)


# Errors -----------------------------------------------------------------------------------------------------------


def test_the_names_of_optimisers_are_those_of_keras() -> None:
    known = {name.lower() for name in dir(keras.optimizers)}
    assert set(KERAS) - {"muon", "schedulefreeadamw"} <= known  # these two are new in Keras


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": 3}, "no solver: give a name"),
        ({"method": "adamm"}, "adamm"),
        ({"device": "GPU:9"}, "no device 'GPU:9'; this machine has CPU:0"),
        ({"device": "toaster"}, "no device"),
        ({"strategy": "mirrored"}, "must be a tf.distribute.Strategy"),
        ({"batch_size": 0}, "batch_size"),
        ({"epochs": 1.5}, "epochs"),
        ({"dtype": "float16"}, "dtype"),
        ({"constraints": [a + b <= 1]}, "constraints need all data"),
        ({"multistart": 3}, "multistart needs all data"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        sym2tf.fit(SQUARES, LINE, [a, b], **{"batch_size": 10, **options})


@pytest.mark.parametrize("loss", ["huber", "absolute"])
def test_an_m_estimate_that_is_far_from_its_minimum_has_no_errors(loss: str) -> None:
    equation, data = sp.Eq(p, a * q + b), {q: XS, p: YS}
    with pytest.warns(FitWarning, match="more epochs"):
        early = sym2tf.fit(equation, data, [a, b], loss=loss, method="adam", batch_size=100)
    assert not early.success
    assert early.stderr is None or early.stderr[a] is None


def test_an_m_estimate_that_is_near_its_minimum_has_those_of_a_fit_to_all_rows() -> None:
    equation, data = sp.Eq(p, a * q + b), {q: XS, p: YS}
    due = sym2tf.fit(equation, data, [a, b], loss="huber")
    falling = optimizers.adam(optimizers.exponential_decay(0.1, 60, 0.7))
    late = sym2tf.fit(equation, data, [a, b], loss="huber", method=falling, batch_size=100, epochs=200)
    assert late.success
    assert abs(late.params[a] - due.params[a]) < 0.2 * due.stderr[a]
    assert late.stderr[a] == pytest.approx(due.stderr[a], rel=0.01)


def test_a_cost_that_is_not_finite_ends_the_training_and_is_named() -> None:
    cost = sp.Sum(sp.log(a - x[i]) ** 2, (i, 0, n - 1)) / n
    with pytest.raises(FitError, match=r"log\(a - x\[i\]\) is NaN"):
        sym2tf.fit(cost, {x: XS}, {a: 0.0}, method="adam", batch_size=50)


def test_a_learning_rate_that_is_too_large_is_said_to_be() -> None:
    with pytest.raises(FitError, match=r"not finite in batch .* smaller learning rate"):
        sym2tf.fit(SQUARES, LINE, [a, b], method=keras.optimizers.SGD(1e3), batch_size=50, epochs=200)


# Checkpoints ------------------------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys, warnings
import numpy as np, sympy as sp, sym2tf
from sym2tf.fit.process.checkpoint import Checkpoint
from sym2tf.fit.solvers import epochs

i, n = sp.symbols("i n", integer=True)
x, y = sp.IndexedBase("x"), sp.IndexedBase("y")
a, b = sp.symbols("a b")
xs = np.linspace(-1, 1, 500)
ys = np.tanh(3*xs + 0.5)
cost = sp.Sum((y[i] - sp.tanh(a*x[i] + b))**2, (i, 0, n - 1))/n

def train(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sym2tf.errors.FitWarning)
        found = sym2tf.fit(cost, {x: xs, y: ys}, [a, b], method="adam", batch_size=16, epochs=20, seed=5,
                           checkpoint=folder)
    return [*found.params.values(), found.cost, *(step.cost for step in found.history)]

def die_after(saves):
    # each batch is saved, and the last of so many savings is the last that this process does
    epochs.INTERVAL, save, count = 0.0, Checkpoint.save_state, [0]
    def saving(self, arrays, meta):
        save(self, arrays, meta)
        count[0] += 1
        if count[0] == saves:
            print(meta["epoch"], meta["position"], flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    Checkpoint.save_state = saving
"""


def test_a_training_that_is_killed_within_an_epoch_and_resumed_gives_the_same_bits(tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")
    program = f"{PROGRAM}\ndie_after(5*33 + 10)\ntrain({folder!r})"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", program]
    died = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert died.stdout.split() == ["5", "10"]  # of 32 batches in an epoch
    names: dict[str, Any] = {}
    exec(PROGRAM, names)
    assert names["train"](folder) == names["train"](None)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    quietly(SQUARES / n, LINE, [a, b], method="adam", batch_size=50, checkpoint=tmp_path)
    with pytest.raises(FitError, match="belongs to another fit"):
        sym2tf.fit(SQUARES / n, LINE, [a, b], method="adam", batch_size=60, checkpoint=tmp_path)


def test_an_optimiser_that_is_made_anew_goes_on_from_the_checkpoint_of_its_like(tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_size": 50, "checkpoint": tmp_path}
    first = quietly(SQUARES / n, LINE, [a, b], method=keras.optimizers.Adam(0.1), **options)
    again = quietly(SQUARES / n, LINE, [a, b], method=keras.optimizers.Adam(0.1), **options)
    assert numbers(first).tobytes() == numbers(again).tobytes()
    with pytest.raises(FitError, match=r"another fit \(method differ\)"):
        quietly(SQUARES / n, LINE, [a, b], method=keras.optimizers.Adam(0.2), **options)


def test_more_epochs_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "adam", "batch_size": 50}
    quietly(SQUARES / n, LINE, [a, b], checkpoint=tmp_path, epochs=2, **options)
    further = quietly(SQUARES / n, LINE, [a, b], checkpoint=tmp_path, epochs=5, **options)
    at_once = quietly(SQUARES / n, LINE, [a, b], epochs=5, **options)
    assert numbers(further).tobytes() == numbers(at_once).tobytes()
    assert [s.cost for s in further.history] == [s.cost for s in at_once.history]
