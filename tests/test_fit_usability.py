"""What somebody meets who comes from curve_fit, lmfit or statsmodels: small tasks, slips, and what the answer says."""

import numpy as np
import pytest
import sympy as sp

import sym2tf

x, y, a, b, c = sp.symbols("x y a b c")
LINE = sp.Eq(y, a * x + b)


def points(count=40, seed=5):
    rng = np.random.default_rng(seed)
    xs = np.linspace(0, 10, count)
    return xs, 2 * xs + 1 + 0.3 * rng.normal(size=count)


def test_many_starts_survive_one_whose_curvature_overflows():
    height, decay, speed, phase, t = sp.symbols("height decay speed phase t")
    ts = np.linspace(0, 10, 100)
    observed = 3 * np.exp(-0.2 * ts) * np.cos(5 * ts + 0.3) + 0.1 * np.random.default_rng(5).normal(size=100)
    model = height * sp.exp(-decay * t) * sp.cos(speed * t + phase)
    params = {height: 1, decay: 0.1, speed: 3, phase: 0}
    found = sym2tf.fit(sp.Eq(y, model), {t: ts, y: observed}, params, multistart=40)
    assert found.success
    assert found.residual_std == pytest.approx(0.1, rel=0.2)  # speeds that differ by 2 pi/0.101 say the same of ts
    assert found.params[decay] == pytest.approx(0.2, abs=5 * found.stderr[decay])
