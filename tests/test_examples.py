"""The examples do what they say, quickly and quietly."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`run(name, *arguments)`: what an example prints; the files that it names must be written."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, "--out", str(tmp_path), *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        text = capsys.readouterr().out
        written = [Path(line) for line in text.splitlines() if line.startswith(str(tmp_path))]
        assert written
        assert all(path.stat().st_size > 500 for path in written)
        return text

    return run


def numbers(pattern, text):
    return [float(v) for v in re.findall(pattern, text)]


def test_the_network_learns_xor(tmp_path):
    """As a program of its own, which must not say anything on stderr."""
    command = [sys.executable, str(EXAMPLES / "xor.py"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stderr == ""
    text = done.stdout
    assert "4 of 4 right" in text
    answers = numbers(r"xor \d = (\S+),", text)
    np.testing.assert_allclose(answers, [0, 1, 1, 0], atol=0.05)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_classifier_reads_at_least_97_of_100_digits_after_less_than_a_minute(run, activation):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, which the extra `test` installs")
    start = time.perf_counter()
    text = run("digits.py", "--activation", activation)
    assert time.perf_counter() - start < 60
    training, test = numbers(r"(?m)^(?:training|test) +(\S+) %", text)
    assert training >= 98
    assert test >= 97
    loss, both, step = map(int, re.search(r"loss (\d+), loss and gradient (\d+), step (\d+)", text).groups())
    assert both <= 4 * loss
    assert step > both


def test_the_classifier_takes_mnist_as_keras_keeps_it(run, tmp_path):
    generator = np.random.default_rng(0)
    digits = np.arange(60) % 10
    patterns = generator.integers(0, 256, (10, 28, 28))
    images = np.clip(patterns[digits] + generator.integers(-20, 20, (60, 28, 28)), 0, 255).astype(np.uint8)
    file = tmp_path / "mnist.npz"
    np.savez(file, x_train=images[:40], y_train=digits[:40], x_test=images[40:], y_test=digits[40:])
    text = run("digits.py", "--mnist", file, "--epochs", 20, "--hidden", 32)
    assert "40 images to train with, 20 to test with; network 784-32-10" in text
    assert numbers(r"test +(\S+) %", text) == [100.0]


def test_normalised_networks_do_not_mind_shifted_inputs(run):
    text = run("batch_normalization.py")
    accuracy = dict(
        zip(("plain 0", "0", "plain 3", "3", "plain 10", "10"), numbers(r"  (\S+) %\n", text), strict=False)
    )
    assert accuracy["10"] > accuracy["plain 10"] + 5
    assert accuracy["10"] == accuracy["0"] > 95
    before, after = (
        re.search(rf"{name} +mean +(\S+), standard deviation +(\S+),", text) for name in ("before", "after")
    )
    assert float(before[2]) > 5
    assert float(after[1]) == pytest.approx(0, abs=1e-3)
    assert float(after[2]) == pytest.approx(1, abs=1e-3)


def test_every_block_of_the_page_on_networks_runs_in_order():
    page = (EXAMPLES.parent / "docs" / "neural_networks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 8
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, "neural_networks.md", "exec"), namespace)
