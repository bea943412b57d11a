"""Fits with `tf.distribute`: replicas and workers come to what one device finds, and survive the death of a worker.

Devices and workers are set up before TensorFlow starts, so that every test has processes of its own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sym2tf
from sym2tf.errors import ArgumentError, FitWarning
from sym2tf.lazy import lazy

tf = lazy("tensorflow")

ROOT = Path(__file__).parent.parent
LIMIT = 300  # seconds until a process is taken for stuck

PROBLEM = """
import sys, time, warnings
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

MIRRORED = """
from sym2tf.lazy import lazy
tf = lazy("tensorflow")
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()]*2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
show("small", small(strategy=strategy))
show("full", full(strategy=strategy))
show("elsewhere", full(device="CPU:1"))
"""

WORKER = """
from sym2tf.lazy import lazy
tf = lazy("tensorflow")
strategy = tf.distribute.MultiWorkerMirroredStrategy()
assert strategy.num_replicas_in_sync == 2
folder, pause = sys.argv[1], float(sys.argv[2])
if not pause:
    show("full", full(strategy=strategy))
    try:
        full(strategy=strategy, checkpoint="nowhere")
    except sym2tf.errors.ArgumentError as error:
        print("refused", error, flush=True)
def slowly(step):
    print("epoch", step.iteration, flush=True)
    time.sleep(pause)
try:
    show("small", small(strategy=strategy, checkpoint=folder or None, callbacks=[slowly]))
except sym2tf.errors.FitError as error:
    print("FitError", error, flush=True)
"""

Process = subprocess.Popen[str]


@contextmanager
def running(*programs: tuple[str, list[str], dict[str, str]]) -> Iterator[list[Process]]:
    """Processes, none of which outlives the block; TensorFlow's workers do not mind SIGTERM."""
    started = []
    for program, arguments, further in programs:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **further}
        command = [sys.executable, "-c", PROBLEM + program, *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        started.append(subprocess.Popen(command, env=environment, **pipes))
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait(timeout=30)
            if process.stdout is not None:
                process.stdout.close()


def lines_of(process: Process) -> dict[str, list[str]]:
    """What it printed, the rest of each line by its first word."""
    out, _ = process.communicate(timeout=LIMIT)
    return {words[0]: words[1:] for words in map(str.split, out.splitlines()) if words}


def cluster(folder: str, pause: float) -> list[tuple[str, list[str], dict[str, str]]]:
    """Two workers on this machine."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("localhost", 0))
        two.bind(("localhost", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    workers = [f"localhost:{port}" for port in ports]
    return [
        (
            WORKER,
            [folder, str(pause)],
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


def test_mirrored_replicas_come_to_what_one_device_finds(alone: dict[str, Any]) -> None:
    with running((MIRRORED, [], {})) as (process,):
        shown = lines_of(process)
    agree(shown["small"], alone["small"], 1e-10)
    agree(shown["elsewhere"], alone["elsewhere"], 1e-9)
    agree(shown["full"], alone["full"], 1e-6)  # L-BFGS against Newton: as near as L-BFGS comes


@pytest.mark.slow  # six processes that start TensorFlow
def test_workers_come_to_what_one_device_finds_and_a_killed_one_can_be_started_again(
    alone: dict[str, Any], tmp_path: Path
) -> None:
    with running(*cluster("", 0)) as workers:
        undisturbed = [lines_of(worker) for worker in workers]
    for shown in undisturbed:
        agree(shown["small"], alone["small"], 1e-10)
        agree(shown["full"], alone["full"], 1e-6)
        assert "by mini-batches (batch_size)" in " ".join(shown["refused"])
    assert undisturbed[0]["small"] == undisturbed[1]["small"]

    folder = str(tmp_path / "kept")
    with running(*cluster(folder, 0.2)) as (survivor, victim):
        assert survivor.stdout is not None
        for line in survivor.stdout:
            if line.split()[:2] == ["epoch", "3"]:
                break
        victim.kill()
        told = survivor.stdout.read() if survivor.wait(timeout=LIMIT) is not None else ""
    assert "FitError another worker of the strategy is gone" in told
    assert "start all workers again" in told
    assert list(Path(folder).glob("state-*"))

    with running(*cluster(folder, 0)) as workers:
        again = [lines_of(worker) for worker in workers]
    assert [shown["small"] for shown in again] == [shown["small"] for shown in undisturbed]


def test_what_is_no_strategy_for_a_fit_is_refused() -> None:
    names: dict[str, Any] = {}
    exec(PROBLEM, names)
    one = tf.distribute.OneDeviceStrategy("CPU:0")
    with pytest.raises(ArgumentError, match="leave out device='CPU:0', or strategy"):
        names["full"](strategy=one, device="CPU:0")
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
