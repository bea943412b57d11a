"""What SciPy's optimisers say to their own users, who chose them; ours have not, and read `FitResult.message`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from sym2tf.lazy import lazy

linalg = lazy("scipy.linalg")
optimize = lazy("scipy.optimize")

SAID = ("delta_grad == 0.0", "Singular Jacobian matrix")  # by trust-constr, as plain UserWarnings


@contextmanager
def quietly() -> Iterator[None]:
    """Within, SciPy does not warn of numbers on the way (overflow, steep lines, singular matrices), nor does NumPy.

    Only warnings that point into SciPy are kept back, and of its plain ones only those of `SAID`: what this package or
    the user's callbacks say is heard.
    """
    with np.errstate(all="ignore"), warnings.catch_warnings():
        for category in (RuntimeWarning, linalg.LinAlgWarning, optimize.OptimizeWarning):
            warnings.filterwarnings("ignore", category=category, module=r"scipy\.")
        for text in SAID:
            warnings.filterwarnings("ignore", message=text, category=UserWarning, module=r"scipy\.")
        yield
