"""Handwritten digits, 64-H-10: a classifier as a formula in indices, with dropout, weight decay and softmax.

    python examples/digits.py [--activation relu|tanh] [--hidden H] [--epochs E] [--mnist FILE] [--out FOLDER]

By default the 1797 digits that come with scikit-learn, 8 x 8 pixels. `--mnist` takes an .npz file with the arrays
x_train, y_train, x_test, y_test, as Keras keeps MNIST, for a network 784-512-10.
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

datasets = lazy("sklearn.datasets")
figures = lazy("matplotlib.figure")

ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh}
RATE, DECAY = 0.2, 1e-4  # of dropout and of the weights

# The network as mathematics: i runs over images, a over pixels, h over hidden units, k over digits.
i, a, h, k = sp.symbols("i a h k", integer=True)
n, d, H, K = sp.symbols("n d H K", integer=True)
X, T, M = map(sp.IndexedBase, ("X", "T", "M"))  # images, one-hot digits, mask of the dropout
W, b, V, c = map(sp.IndexedBase, ("W", "b", "V", "c"))
rate, decay = sp.symbols("rate decay")


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def logits_of(activation: Any, *, masked: bool) -> Any:
    """What is given to the softmax, an element for each image and digit; the mask is for training only."""
    hidden = activation(sp.Sum(X[i, a] * W[a, h], (a, 0, d - 1)) + b[h])
    if masked:
        hidden = nn.dropout(hidden, M[i, h], rate)
    return sp.Sum(hidden * V[h, k], (h, 0, H - 1)) + c[k]


def loss_of(logits: Any) -> Any:
    """Mean cross-entropy, and the squares of the weights."""
    squares = sp.Sum(W[a, h] ** 2, (a, 0, d - 1), (h, 0, H - 1)) + sp.Sum(V[h, k] ** 2, (h, 0, H - 1), (k, 0, K - 1))
    return nn.cce(T[i, k], logits, (k, 0, K - 1), (i, 0, n - 1), from_logits=True) + decay * squares


def read(mnist: Path | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images with pixels from 0 to 1 and their digits, to train with and to test with."""
    if mnist is None:
        bundle = datasets.load_digits()
        order = np.random.default_rng(0).permutation(len(bundle.target))
        images, digits, cut = bundle.data[order] / 16, bundle.target[order], 1437  # four fifths
        return images[:cut], digits[:cut], images[cut:], digits[cut:]
    with np.load(mnist) as arrays:
        trained, tested = (arrays[name].reshape(len(arrays[name]), -1) / 255 for name in ("x_train", "x_test"))
        return trained, arrays["y_train"], tested, arrays["y_test"]


def initial(pixels: int, hidden: int) -> dict[Any, np.ndarray]:
    """Weights of variance 2/inputs (He, Zhang, Ren, Sun 2015), biases 0."""
    generator = np.random.default_rng(1)
    return {
        W: generator.normal(size=(pixels, hidden)) * np.sqrt(2 / pixels),
        b: np.zeros(hidden),
        V: generator.normal(size=(hidden, 10)) * np.sqrt(2 / hidden),
        c: np.zeros(10),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--activation", choices=ACTIVATIONS, default="relu")
    parser.add_argument("--hidden", type=int, help="units of the hidden layer; 64, or 512 for MNIST")
    parser.add_argument("--epochs", type=int, help="how often the images are gone through; 30, or 5 for MNIST")
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--out", type=Path, default=Path("output"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    hidden = options.hidden or (512 if options.mnist else 64)
    epochs = options.epochs or (5 if options.mnist else 30)

    images, digits, test_images, test_digits = read(options.mnist)
    pixels = images.shape[1]
    print(f"{len(images)} images to train with, {len(test_images)} to test with; network {pixels}-{hidden}-10")

    activation = ACTIVATIONS[options.activation]
    start = time.perf_counter()
    loss = loss_of(logits_of(activation, masked=True))
    learning_rate = optimizers.cosine_decay(0.005, epochs * -(-len(images) // 64))
    step = sym2tf.training_step(loss, [W, b, V, c], optimizers.adam(learning_rate))
    compiled = time.perf_counter() - start
    heading("What the compiler made of loss, gradient and updates")
    print(step.function.report)
    primal = sym2tf.compile(loss)
    both = primal.value_and_gradient([W, b, V, c])
    print(f"\nnodes: loss {len(primal.graph)}, loss and gradient {len(both.graph)}, step {len(step.function.graph)}")
    print(f"compiled in {compiled:.2f} s")

    start = time.perf_counter()
    trained = sym2tf.train(
        step,
        initial(pixels, hidden),
        {X: images, T: np.eye(10)[digits]},
        epochs=epochs,
        batch_size=64,
        fixed={rate: RATE, decay: DECAY},
        drawn={M: lambda generator, size: (generator.uniform(size=(size, hidden)) >= RATE).astype(float)},
    )
    heading("Training")
    print("epoch  mean loss")
    for e in sorted({0, epochs // 4, epochs // 2, epochs - 1}):
        print(f"{e + 1:5d}  {trained.epochs[e]:.5f}")
    print(f"{len(trained.losses)} steps in {time.perf_counter() - start:.1f} s")

    heading("Accuracy")
    network = sym2tf.compile(logits_of(activation, masked=False), indices=[i, k])
    weights = {str(p): v for p, v in trained.params.items()}
    for name, pictures, due in (("training", images, digits), ("test", test_images, test_digits)):
        found = np.argmax(network(X=pictures, **weights), axis=-1)
        print(f"{name:8s} {100 * np.mean(found == due):.2f} %")

    heading("Written")
    written = [options.out / "digits_step.png", options.out / "digits.png"]
    sym2tf.render(both, written[0])
    found = np.argmax(network(X=test_images, **weights), axis=-1)
    _picture(trained.epochs, test_images, test_digits, found).savefig(written[1], dpi=150)
    for path in written:
        print(path)


def _picture(epochs: np.ndarray, images: np.ndarray, due: np.ndarray, found: np.ndarray) -> Any:
    """The loss, and the first images, those in front that the network takes for another digit."""
    figure = figures.Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 3))
    axes = left.subplots()
    axes.semilogy(np.arange(1, len(epochs) + 1), epochs, color="#0072b2")
    axes.set(title="mean loss", xlabel="epoch")
    shown = np.argsort(found == due, kind="stable")[:18]
    side = int(np.sqrt(images.shape[1]))
    for axes, at in zip(right.subplots(3, 6).flat, shown, strict=True):
        axes.imshow(images[at].reshape(side, side), cmap="gray_r")
        axes.set_title(f"{found[at]}", fontsize=9, color="black" if found[at] == due[at] else "#d55e00", pad=2)
        axes.set_axis_off()
    right.suptitle("answers; wrong ones in front", fontsize=9)
    return figure


if __name__ == "__main__":
    main()
