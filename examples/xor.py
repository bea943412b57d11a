"""XOR with one hidden layer, 3-4-1: the network as a formula in matrices, trained until its answers are right.

    python examples/xor.py [--out FOLDER]

The third input is a constant 1, so that no bias is needed. Loss, gradient and the update of momentum are one graph.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import sympy as sp

import sym2tf
from sym2tf import nn, optimizers
from sym2tf.lazy import lazy

figures = lazy("matplotlib.figure")

INPUTS = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=float)
TARGETS = np.array([[0], [1], [1], [0]], dtype=float)
HIDDEN, STEPS = 4, 1000


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("output"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    # The network as mathematics: X and T are data with n rows, W and V the weights.
    n, d, h = sp.symbols("n d h", integer=True, positive=True)
    X, T = sp.MatrixSymbol("X", n, d), sp.MatrixSymbol("T", n, 1)
    W, V = sp.MatrixSymbol("W", d, h), sp.MatrixSymbol("V", h, 1)
    logits = nn.sigmoid(X * W) * V
    prediction = nn.sigmoid(logits)
    loss = nn.bce(T, logits, from_logits=True)

    heading("The network, and its loss")
    print(f"prediction = {prediction}\nloss = {loss}")

    step = sym2tf.training_step(loss, [W, V], optimizers.momentum(0.3, 0.9))
    heading("What the compiler made of loss, gradient and update")
    print(step.function.report)

    generator = np.random.default_rng(0)
    start = {W: generator.normal(size=(3, HIDDEN)), V: generator.normal(size=(HIDDEN, 1))}
    trained = sym2tf.train(step, start, {X: INPUTS, T: TARGETS}, epochs=STEPS)
    heading("Training")
    print(" step  loss")
    for k in (0, 10, 100, STEPS - 1):
        print(f"{k:5d}  {trained.losses[k]:.6f}")

    network = sym2tf.compile(prediction)
    answers = network(X=INPUTS, **{str(p): v for p, v in trained.params.items()})
    heading("Answers")
    for row, answer, target in zip(INPUTS, np.ravel(answers), np.ravel(TARGETS), strict=True):
        print(f"{row[0]:.0f} xor {row[1]:.0f} = {answer:.4f}, due {target:.0f}")
    right = int(((np.asarray(answers) > 0.5) == (TARGETS > 0.5)).sum())
    print(f"{right} of {len(TARGETS)} right")

    heading("Written")
    graph, picture = options.out / "xor_step.png", options.out / "xor.png"
    sym2tf.render(step.function, graph)
    side = np.linspace(-0.5, 1.5, 81)
    grid = np.stack([*np.meshgrid(side, side), np.ones((81, 81))], axis=-1)
    surface = network(X=grid.reshape(-1, 3), **{str(p): v for p, v in trained.params.items()})
    figure = figures.Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right_axes = figure.subplots(1, 2)
    left.semilogy(trained.losses, color="#0072b2")
    left.set(title="binary cross-entropy", xlabel="step")
    filled = right_axes.contourf(
        side, side, np.reshape(surface, (81, 81)), levels=np.linspace(0, 1, 11), cmap="cividis"
    )
    figure.colorbar(filled, ax=right_axes)
    right_axes.scatter(INPUTS[:, 0], INPUTS[:, 1], c=TARGETS[:, 0], cmap="cividis", edgecolors="white", s=80)
    right_axes.set(title="what the network answers", xlabel="first input", ylabel="second input")
    figure.savefig(picture, dpi=150)
    print(graph)
    print(picture)


if __name__ == "__main__":
    main()
