"""Logistic regression by mini-batches: checkpoint, early stopping and TensorBoard.

    python examples/minibatch.py [--out FOLDER] [--rows N]

The same command, after it was killed at any moment, goes on from the checkpoint in FOLDER and gives the same numbers;
`tensorboard --logdir FOLDER` shows the way.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import sympy as sp

import sym2tf
from sym2tf.lazy import lazy

keras = lazy("tensorflow.keras")  # imported when it is first used, and without its start-up messages

n, k = sp.symbols("n k", integer=True, positive=True)
i = sp.Symbol("i", integer=True)
X, w = sp.MatrixSymbol("X", n, k), sp.MatrixSymbol("w", k, 1)
label = sp.IndexedBase("label")  # 0 or 1
score = (X * w)[i, 0]
LOSS = sp.Sum(sp.log(1 + sp.exp(score)) - label[i] * score, (i, 0, n - 1)) / n
WEIGHTS = np.array([[1.0], [-2.0], [0.5], [0.0]])  # from which the labels are drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("output"))
    parser.add_argument("--rows", type=int, default=20_000)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(options.rows, len(WEIGHTS)))
    labels = (rng.random(options.rows) < 1 / (1 + np.exp(-(rows @ WEIGHTS)[:, 0]))) * 1.0

    steps = 40 * -(-options.rows * 4 // 5 // 64)  # of 40 epochs
    trained = sym2tf.fit(
        LOSS,
        data={X: rows, label: labels},
        params={w: np.zeros((len(WEIGHTS), 1))},
        method=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, steps)),
        batch_size=64,
        epochs=40,
        validation=0.2,  # a fifth of the rows, that no step sees
        patience=5,
        checkpoint=options.out / "checkpoint",
        tensorboard=options.out / "events",
    )
    print(trained.message)
    print("solver:", trained.solver)
    exact = sym2tf.fit(LOSS, data={X: rows, label: labels}, params=[w])
    print("weights:           ", np.round(trained.params[w].ravel(), 3))
    print("of all data at once:", np.round(exact.params[w].ravel(), 3))
    away = np.abs(trained.params[w] - exact.params[w]).max()
    print(f"largest difference {away:.3f}, with a fifth of the rows held back")

    path = options.out / "training.png"
    trained.plot_history(path)
    print(path)


if __name__ == "__main__":
    main()
