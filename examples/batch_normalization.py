"""Batch normalisation from its definition, and what it does for a network whose inputs are shifted.

    python examples/batch_normalization.py [--out FOLDER]

A network 8-16-16-1 with tanh learns which side of a curved surface points lie on, with and without normalisation in
its hidden layers, from inputs as they are and from inputs that are shifted and stretched.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp

import sym2tf
from sym2tf import nn, optimizers
from sym2tf.lazy import lazy

figures = lazy("matplotlib.figure")

POINTS, INPUTS, HIDDEN = 512, 8, 16
SHIFTS = (0.0, 3.0, 10.0)

# i runs over points, a over inputs, g and h over the units of the two hidden layers.
i, a, g, h = sp.symbols("i a g h", integer=True)
n, d, G, H = sp.symbols("n d G H", integer=True)
X, T, U, W, v = map(sp.IndexedBase, ("X", "T", "U", "W", "v"))
gammas, betas = map(sp.IndexedBase, (("gamma_1", "gamma_2"))), map(sp.IndexedBase, ("beta_1", "beta_2"))
(gamma_1, gamma_2), (beta_1, beta_2) = gammas, betas


def normalized(x: Any, gamma: Any, beta: Any) -> Any:
    """The definition: mean 0 and variance 1 over the batch, then a scale and a shift that are learnt."""
    mean = sp.Sum(x, (i, 0, n - 1)) / n
    variance = sp.Sum((x - mean) ** 2, (i, 0, n - 1)) / n
    return gamma * (x - mean) / sp.sqrt(variance + sp.Rational(1, 1000)) + beta


def network(*, batch_normalization: bool) -> tuple[Any, Any]:
    """What the first hidden layer gives to its activations, and the logit of each point."""
    first = sp.Sum(X[i, a] * U[a, g], (a, 0, d - 1))
    first = normalized(first, gamma_1[g], beta_1[g]) if batch_normalization else first + beta_1[g]
    second = sp.Sum(nn.tanh(first) * W[g, h], (g, 0, G - 1))
    second = normalized(second, gamma_2[h], beta_2[h]) if batch_normalization else second + beta_2[h]
    return first, sp.Sum(nn.tanh(second) * v[h], (h, 0, H - 1))


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def problem(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points, and 1 for those on one side of a curved surface."""
    points = generator.normal(size=(POINTS, INPUTS))
    height = points @ generator.normal(size=INPUTS) + np.sin(2 * points[:, 0]) * points[:, 1]
    return points, (height > 0).astype(float)


def start(generator: np.random.Generator, *, batch_normalization: bool) -> dict[Any, np.ndarray]:
    """Weights of variance 1/inputs, scales 1, shifts 0."""
    weights = {
        U: generator.normal(size=(INPUTS, HIDDEN)) / np.sqrt(INPUTS),
        W: generator.normal(size=(HIDDEN, HIDDEN)) / np.sqrt(HIDDEN),
        v: generator.normal(size=HIDDEN) / np.sqrt(HIDDEN),
        beta_1: np.zeros(HIDDEN),
        beta_2: np.zeros(HIDDEN),
    }
    return weights | ({gamma_1: np.ones(HIDDEN), gamma_2: np.ones(HIDDEN)} if batch_normalization else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("output"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    points, sides = problem(np.random.default_rng(0))

    heading("Compiled")
    steps, logits, hidden = {}, {}, {}
    for batch_normalization in (False, True):
        begin = time.perf_counter()
        hidden[batch_normalization], logit = network(batch_normalization=batch_normalization)
        loss = nn.bce(T[i], logit, (i, 0, n - 1), from_logits=True)
        params = list(start(np.random.default_rng(1), batch_normalization=batch_normalization))
        steps[batch_normalization] = sym2tf.training_step(loss, params, optimizers.momentum(0.05, 0.9))
        logits[batch_normalization] = sym2tf.compile(logit)
        name = "with normalisation" if batch_normalization else "without"
        nodes = len(steps[batch_normalization].function.graph)
        print(f"{name:18s} {nodes:4d} nodes in a step, {time.perf_counter() - begin:.2f} s")

    heading("After 20 epochs in batches of 64")
    print("inputs                        loss   accuracy")
    curves = {}
    for shift in SHIFTS:
        moved = points * (1 + shift / 3) + shift
        for batch_normalization, step in steps.items():
            weights = start(np.random.default_rng(1), batch_normalization=batch_normalization)
            trained = sym2tf.train(step, weights, {X: moved, T: sides}, epochs=20, batch_size=64)
            curves[shift, batch_normalization] = trained.epochs
            found = logits[batch_normalization](X=moved, **{str(p): x for p, x in trained.params.items()})
            accuracy = np.mean((np.asarray(found) > 0) == (sides > 0.5))
            name = f"shifted by {shift:g}, " + ("normalised" if batch_normalization else "as they are")
            print(f"{name:28s}  {trained.epochs[-1]:.3f}  {100 * accuracy:5.1f} %")

    heading("What reaches the activations of the first layer, inputs shifted by 10, before any training")
    moved = points * (1 + SHIFTS[-1] / 3) + SHIFTS[-1]
    weights = start(np.random.default_rng(1), batch_normalization=True)
    reached = {}
    for batch_normalization, name in ((False, "before"), (True, "after")):
        f = sym2tf.compile(hidden[batch_normalization], indices=[i, g])
        used = {str(p): x for p, x in weights.items() if str(p) in f.arguments}
        reached[name] = np.asarray(f(X=moved, **used))
        spread = f"mean {reached[name].mean():8.3f}, standard deviation {reached[name].std():7.3f}"
        print(f"{name:6s} {spread}, tanh flat (|x| > 2) for {100 * np.mean(np.abs(reached[name]) > 2):.0f} %")

    heading("Written")
    path = options.out / "batch_normalization.png"
    _picture(reached, curves).savefig(path, dpi=150)
    print(path)


def _picture(reached: dict[str, np.ndarray], curves: dict[tuple[float, bool], np.ndarray]) -> Any:
    """Histograms of the activations, and the losses."""
    figure = figures.Figure(figsize=(10, 5.6), layout="constrained")
    axes = figure.subplots(2, 3)
    for row, (name, values) in zip(axes, reached.items(), strict=True):
        row[0].hist(values.ravel(), bins=60, color="#0072b2")
        row[0].set(title=f"into tanh, {name} normalisation", ylabel="units x points")
        row[1].hist(np.tanh(values).ravel(), bins=60, range=(-1, 1), color="#009e73")
        row[1].set(title=f"out of tanh, {name} normalisation")
    for row, batch_normalization in zip(axes, (False, True), strict=True):
        for shift, color, line in zip(SHIFTS, ("#56b4e9", "#e69f00", "#d55e00"), ("-", "--", ":"), strict=True):
            row[2].plot(curves[shift, batch_normalization], line, color=color, label=f"shift {shift:g}")
        row[2].set(title="loss " + ("with" if batch_normalization else "without"), ylim=(0, 0.9), xlabel="epoch")
        row[2].legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
