"""Ten expressions from science and engineering, with the domains that their points are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp


@dataclass(frozen=True)
class Case:
    """An expression to be timed.

    Attributes:
        name: for the tables.
        expr: a SymPy expression.
        domain: symbol name -> interval that values are drawn from.
    """

    name: str
    expr: Any
    domain: Mapping[str, tuple[float, float]]

    @cached_property
    def symbols(self) -> tuple[Any, ...]:
        """The arguments in order."""
        return tuple(_real(name) for name in self.domain)

    def points(self, batch: int) -> list[Any]:
        """One array of `batch` points for each argument; the same ones every time."""
        generator = np.random.default_rng(20260115)
        return [generator.uniform(low, high, batch) for low, high in self.domain.values()]


def _real(names: str) -> Any:
    """Real symbols, without which `sympy.diff` of `Abs` is nothing that lambdify can print."""
    return sp.symbols(names, real=True)


def _normal_cdf(x: Any) -> Any:
    return (1 + sp.erf(x / sp.sqrt(2))) / 2


def _black_scholes() -> Case:
    s, k, r, sigma, t = _real("S K r sigma t")
    d1 = (sp.log(s / k) + (r + sigma**2 / 2) * t) / (sigma * sp.sqrt(t))
    d2 = d1 - sigma * sp.sqrt(t)
    price = s * _normal_cdf(d1) - k * sp.exp(-r * t) * _normal_cdf(d2)
    domain = {"S": (80, 120), "K": (80, 120), "r": (0.01, 0.08), "sigma": (0.1, 0.5), "t": (0.2, 2)}
    return Case("Black-Scholes price", price, domain)


def _planck() -> Case:
    nu, temperature = _real("nu T")
    return Case("Planck's law", 2 * nu**3 / (sp.exp(nu / temperature) - 1), {"nu": (0.5, 8), "T": (0.5, 3)})


def _lennard_jones() -> Case:
    names = "x1 y1 z1 x2 y2 z2 epsilon sigma"
    x1, y1, z1, x2, y2, z2, epsilon, sigma = _real(names)
    r = sp.sqrt((x1 - x2) ** 2 + (y1 - y2) ** 2 + (z1 - z2) ** 2)
    domain = dict.fromkeys(("x1", "y1", "z1"), (0.0, 1.0)) | dict.fromkeys(("x2", "y2", "z2"), (1.5, 2.5))
    domain |= {"epsilon": (0.5, 2), "sigma": (0.8, 1.2)}
    return Case("Lennard-Jones pair", 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6), domain)


def _network() -> Case:
    x = _real("x")
    w, b, v = _real("w:3"), _real("b:3"), _real("v:3")
    hidden = [sp.tanh(wi * x + bi) for wi, bi in zip(w, b, strict=True)]
    u, c = _real("u c")
    output = u * sp.tanh(sum(vi * h for vi, h in zip(v, hidden, strict=True)) + c)
    names = ["x", *(str(s) for s in (*w, *b, *v)), "u", "c"]
    return Case("Two-layer network", output, dict.fromkeys(names, (-1.5, 1.5)))


def _logistic() -> Case:
    x1, x2, w1, w2, b, y = _real("x1 x2 w1 w2 b y")
    z = w1 * x1 + w2 * x2 + b
    domain = dict.fromkeys(("x1", "x2", "w1", "w2", "b"), (-3.0, 3.0)) | {"y": (0.0, 1.0)}
    return Case("Logistic loss", sp.log(1 + sp.exp(z)) - y * z, domain)


def _mixture() -> Case:
    x, a = _real("x a")
    means, scales = _real("mu:3"), _real("s:3")
    weights = (a / 2, a / 2, 1 - a)
    density = sum(
        weight * sp.exp(-((x - m) ** 2) / (2 * s**2)) / (s * sp.sqrt(2 * sp.pi))
        for weight, m, s in zip(weights, means, scales, strict=True)
    )
    domain = {"x": (-3.0, 3.0), "a": (0.1, 0.9)}
    domain |= dict.fromkeys((str(m) for m in means), (-2.0, 2.0)) | dict.fromkeys(map(str, scales), (0.5, 2.0))
    return Case("Gaussian mixture, log density", sp.log(density), domain)


def _robot_arm() -> Case:
    q1, q2, q3, a, b, c = _real("q1 q2 q3 a b c")
    reach = a * sp.cos(q2) + b * sp.cos(q2 + q3)
    x, y = reach * sp.cos(q1), reach * sp.sin(q1)
    z = c + a * sp.sin(q2) + b * sp.sin(q2 + q3)
    domain = dict.fromkeys(("q1", "q2", "q3"), (-3.0, 3.0)) | dict.fromkeys(("a", "b", "c"), (0.5, 1.5))
    return Case("Robot arm, distance to a target", sp.sqrt((x - 1) ** 2 + (y - 2) ** 2 + (z - 3) ** 2), domain)


def _breit_wigner() -> Case:
    e, m, gamma, k = _real("E M Gamma k")
    g = sp.sqrt(m**2 * (m**2 + gamma**2))
    height = 2 * sp.sqrt(2) * m * gamma * g / (sp.pi * sp.sqrt(m**2 + g))
    shape = k * height / ((e**2 - m**2) ** 2 + m**2 * gamma**2)
    return Case("Relativistic Breit-Wigner", shape, {"E": (80, 100), "M": (88, 92), "Gamma": (2, 3), "k": (1, 2)})


def _hill() -> Case:
    s, inhibitor, v, k, n, ki = _real("S I V K n Ki")
    rate = v * s**n / (k**n * (1 + inhibitor / ki) + s**n)
    domain = {"S": (0.1, 5), "I": (0.1, 2), "V": (1, 3), "K": (0.5, 2), "n": (1, 4), "Ki": (0.5, 2)}
    return Case("Hill kinetics with inhibition", rate, domain)


def _huber() -> Case:
    x, y, a, b = _real("x y a b")
    delta = sp.Rational(1, 2)  # a number: of a branch whose derivative is 0 lambdify makes an int32 that stops it
    r = y - a * sp.exp(-b * x)
    loss = sp.Piecewise((r**2 / 2, sp.Abs(r) <= delta), (delta * (sp.Abs(r) - delta / 2), True))
    domain = {"x": (0.0, 2.0), "y": (-2.0, 2.0), "a": (0.5, 2), "b": (0.5, 2)}
    return Case("Huber loss of a decay (Piecewise)", loss, domain)


CASES: Sequence[Case] = (
    _black_scholes(),
    _planck(),
    _lennard_jones(),
    _network(),
    _logistic(),
    _mixture(),
    _robot_arm(),
    _breit_wigner(),
    _hill(),
    _huber(),
)
