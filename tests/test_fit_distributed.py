"""Fits with `tf.distribute`: replicas and workers come to what one device finds, and survive the death of a worker.

Devices and workers are set up before TensorFlow starts, so that every test has processes of its own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sym2tf
from sym2tf.errors import ArgumentError, FitWarning
from sym2tf.lazy import lazy

tf = lazy("tensorflow")

ROOT = Path(__file__).parent.parent
LIMIT = 300  # seconds until a process is taken for stuck, and killed

PROBLEM = """
import json, sys, warnings
import numpy as np, sympy as sp, sym2tf
warnings.simplefilter("ignore", sym2tf.errors.FitWarning)
i, n = sp.symbols("i n", integer=True)
x, y = sp.IndexedBase("x"), sp.IndexedBase("y")
a, b, penalty = sp.symbols("a b penalty")
rng = np.random.default_rng(0)
xs = rng.normal(size=1003)  # not a multiple of anything
ys = (rng.uniform(size=1003) < 1/(1 + np.exp(-2*xs - 1)))*1.0
cost = sp.Sum(sp.log(1 + sp.exp(a*x[i] + b)) - y[i]*(a*x[i] + b), (i, 0, n - 1)) + penalty*a**2
data = {x: xs, y: ys, penalty: 1.0}

def small(**options):
    return sym2tf.fit(cost, data, [a, b], method="adam", batch_size=64, epochs=12, **options)

def full(**options):
    return sym2tf.fit(cost, data, [a, b], **options)

def show(name, found):
    print(name, *(float(v).hex() for v in found.params.values()), float(found.cost).hex(), flush=True)
"""

CASES = """
from sym2tf import losses, optimizers
keras = lazy("tensorflow.keras")
p, q = sp.symbols("p q")
ps = 2*xs + 1 + 0.1*rng.standard_t(3, size=1003)
line, points = sp.Eq(p, a*q + b), {q: xs, p: ps}
mean = cost.subs(penalty, n*penalty)/n  # of the losses, with the penalty as it is
falls = keras.optimizers.schedules.CosineDecay(0.3, 33)
adam = keras.optimizers.Adam(0.1)
bounded = {a: sym2tf.Parameter(0, bounds=(0, 0.3)), b: 0}
held = {a: 0, b: 0, penalty: sym2tf.Parameter(1.0, fixed=True)}
def stream():
    return ({x: xs[m : m + 100], y: ys[m : m + 100]} for m in range(0, 1003, 100))
few = {"method": adam, "batch_size": 100, "epochs": 3}

CASES = {  # arguments and options, and to how many digits replicas must come to what one device finds
    "a last batch of one row": ((mean, data, [a, b]), {**few, "batch_size": 1002}, 1e-12),
    "batches of one row": ((mean, {x: xs[:40], y: ys[:40], penalty: 1.0}, [a, b]), {**few, "batch_size": 1}, 1e-12),
    "a penalty": ((mean, data, [a, b]), few, 1e-12),
    "single precision": ((mean, data, [a, b]), {**few, "dtype": "float32"}, 1e-5),
    "an equation": ((line, points, [a, b]), few, 1e-12),
    "a loss": ((line, points, [a, b]), {**few, "loss": "huber"}, 1e-12),
    "bounds": ((mean, data, bounded), few, 1e-12),
    "a schedule": ((mean, data, [a, b]), {**few, "method": keras.optimizers.SGD(falls)}, 1e-12),
    "a rule and a seed": ((mean, data, [a, b]), {**few, "method": optimizers.adam(0.1), "seed": 4}, 1e-12),
    "patience": ((mean, data, [a, b]), {**few, "epochs": 60, "validation": 0.2, "patience": 2}, 1e-9),
    "a stream": ((cost, stream, held), {"method": adam, "epochs": 2}, 1e-12),
    "numbers of rows": ((sp.Sum((y[i] - a*i/n - b)**2, (i, 0, n - 1)), {y: ys}, [a, b]), few, 1e-12),
    "all data": ((cost, data, [a, b]), {}, 1e-6),  # L-BFGS against Newton: as near as L-BFGS comes
    "a likelihood": ((-cost, data, [a, b]), {"likelihood": True, "maximize": True}, 1e-6),
    "an M-estimate": ((line, points, [a, b]), {"loss": "huber"}, 1e-6),
    "least squares": ((line, points, [a, b]), {}, 1e-6),
    "constraints": ((cost, data, {a: 0.1, b: 0.1}), {"constraints": [a + b <= 1]}, 1e-6),
    "bounds on all data": ((cost, data, bounded), {}, 1e-6),
}

def found(name, **further):
    (args, options, _) = CASES[name]
    result = sym2tf.fit(*args, **options, **further)
    errors = [] if result.stderr is None else [float(v) for v in result.stderr.values() if v is not None]
    return [*(float(v) for v in result.params.values()), result.cost, *errors, result.history[0].cost]
"""

MIRRORED = (
    """
from sym2tf.lazy import lazy
tf = lazy("tensorflow")
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()]*2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
"""
    + CASES
    + """
for name in CASES:
    print(json.dumps([name, found(name), found(name, strategy=strategy), CASES[name][-1]]), flush=True)
for name in ("a penalty", "single precision", "an M-estimate", "all data"):
    print(json.dumps([name, found(name), found(name, device="CPU:1"), 1e-12]), flush=True)
"""
)

# Small trainings are made one after another: undisturbed, then with a checkpoint, at the pace of one epoch for each
# line of standard input, so that the moment of a death does not depend on any clock. A worker whose test is gone, and
# with it its standard input, ends; nobody waits for TensorFlow to say goodbye to the others.
WORKER = """
import os, threading
from sym2tf.lazy import lazy
tf = lazy("tensorflow")
strategy = tf.distribute.MultiWorkerMirroredStrategy()
assert strategy.num_replicas_in_sync == 2
folder, paced = sys.argv[1], sys.argv[2] == "paced"
if paced:
    show("full", full(strategy=strategy))
    show("small", small(strategy=strategy))
    try:
        full(strategy=strategy, checkpoint="nowhere")
    except sym2tf.errors.ArgumentError as error:
        print("refused", error, flush=True)
else:
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
def told(step):
    print("epoch", step.iteration, flush=True)
    if paced and not sys.stdin.readline():
        os._exit(1)
try:
    show("again", small(strategy=strategy, checkpoint=folder, callbacks=[told]))
except sym2tf.errors.FitError as error:
    print("FitError", error, flush=True)
print("END", flush=True)
sys.stdin.read()
os._exit(0)
"""

Process = subprocess.Popen[str]


@contextmanager
def running(*programs: tuple[str, list[str], dict[str, str]]) -> Iterator[list[Process]]:
    """Processes, none of which outlives the block, nor the limit; TensorFlow's workers do not mind SIGTERM."""
    started = []
    for program, arguments, further in programs:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **further}
        command = [sys.executable, "-c", PROBLEM + program, *arguments]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    limits = [threading.Timer(LIMIT, process.kill) for process in started]
    for limit in limits:
        limit.start()
    try:
        yield started
    finally:
        for process, limit in zip(started, limits, strict=True):
            limit.cancel()
            process.kill()
            process.wait(timeout=30)
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):
                    pipe.close()


def lines_of(process: Process, last: str = "END") -> dict[str, list[str]]:
    """What it prints up to a line that begins with `last`: the rest of each line by its first word."""
    assert process.stdout is not None
    found = {}
    for line in process.stdout:
        words = line.split()
        found[words[0]] = words[1:]
        if line.startswith(last):
            return found
    raise AssertionError(f"the process ended, or was stuck, before it printed {last!r}, after {found}")


def cluster(folder: str, pace: str) -> list[tuple[str, list[str], dict[str, str]]]:
    """Two workers on this machine."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("localhost", 0))
        two.bind(("localhost", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    workers = [f"localhost:{port}" for port in ports]
    return [
        (
            WORKER,
            [folder, pace],
            {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})},
        )
        for index in (0, 1)
    ]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """What one device finds."""
    names: dict[str, Any] = {}
    exec(PROBLEM, names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        found = {"small": names["small"](), "full": names["full"](), "elsewhere": names["full"]()}
    return {name: np.array([*result.params.values(), result.cost]) for name, result in found.items()}


def agree(shown: list[str], expected: Any, rtol: float) -> None:
    assert np.allclose([float.fromhex(word) for word in shown], expected, rtol=rtol, atol=0)


def test_mirrored_replicas_and_other_devices_come_to_what_one_device_finds() -> None:
    with running((MIRRORED, [], {})) as (process,):
        assert process.stdout is not None
        shown = [json.loads(line) for line in process.stdout]
    assert len(shown) == 18 + 4
    for name, one, other, digits in shown:
        assert np.allclose(other, one, rtol=digits, atol=0), (name, one, other)


def test_workers_come_to_what_one_device_finds_and_a_killed_one_can_be_started_again(
    alone: dict[str, Any], tmp_path: Path
) -> None:
    folder = str(tmp_path / "kept")
    with running(*cluster(folder, "paced")) as workers:
        undisturbed = [lines_of(worker, "epoch 0") for worker in workers]
        survivor, victim = workers
        for epoch in range(1, 4):
            for worker in workers:
                assert worker.stdin is not None
                print(file=worker.stdin, flush=True)
            for worker in workers:
                lines_of(worker, f"epoch {epoch}")
        victim.kill()
        assert survivor.stdin is not None
        print("\n" * 12, file=survivor.stdin, flush=True)
        told = lines_of(survivor)["FitError"]
    for shown in undisturbed:
        agree(shown["small"], alone["small"], 1e-10)
        agree(shown["full"], alone["full"], 1e-6)
        assert "by mini-batches (batch_size)" in " ".join(shown["refused"])
    assert undisturbed[0]["small"] == undisturbed[1]["small"]
    assert " ".join(told).startswith("another worker of the strategy is gone")
    assert "start all workers again" in " ".join(told)
    assert list(Path(folder).glob("state-*"))

    with running(*cluster(folder, "free")) as workers:
        again = [lines_of(worker) for worker in workers]
    assert [shown["again"] for shown in again] == [shown["small"] for shown in undisturbed]


def test_what_is_no_strategy_for_a_fit_is_refused() -> None:
    names: dict[str, Any] = {}
    exec(PROBLEM, names)
    one = tf.distribute.OneDeviceStrategy("CPU:0")
    with pytest.raises(ArgumentError, match="leave out device='CPU:0', or strategy"):
        names["full"](strategy=one, device="CPU:0")
    with pytest.raises(ArgumentError, match="strategy= computes the cost and its gradient on replicas, and nothing"):
        names["full"](strategy=one, method="trust-exact")
    u, v = names["sp"].symbols("u v")
    line = names["sp"].Eq(v, names["a"] * u + names["b"])
    with pytest.raises(ArgumentError, match="takes a Jacobian, which NumPy computes, and device= asks for TensorFlow"):
        sym2tf.fit(line, {u: [1, 2, 3], v: [1, 2, 2]}, method="lm", device="CPU:0")
    with pytest.raises(ArgumentError, match="must be a tf"):
        names["full"](strategy="mirrored")
    sp_ = names["sp"]
    with pytest.raises(ArgumentError, match="no sum over n"):
        sym2tf.fit(sp_.sqrt(names["cost"]), names["data"], [names["a"], names["b"]], strategy=one)


def test_a_strategy_of_one_device_changes_nothing(alone: dict[str, Any]) -> None:
    names: dict[str, Any] = {}
    exec(PROBLEM, names)
    found = names["full"](strategy=tf.distribute.OneDeviceStrategy("CPU:0"))
    assert "replicas" in found.solver
    assert np.allclose([*found.params.values(), found.cost], alone["full"], rtol=1e-6)
