"""sym2tf: mathematics from SymPy to fast numerics.

A SymPy expression is lowered to a graph, differentiated symbolically, optimised, drawn, and generated as TensorFlow
code, checked against automatic differentiation and high-precision arithmetic.
"""

from sym2tf import nn
from sym2tf.api import check, differentiate, generate, optimize, render, to_sympy
from sym2tf.compiled import CompiledFunction, compile
from sym2tf.errors import Sym2TFError
from sym2tf.fit.api import fit
from sym2tf.fit.parameters import Parameter
from sym2tf.fit.result import FitResult
from sym2tf.frontend.lower import lower
from sym2tf.parse import parse

__version__ = "0.1.0"

__all__ = [
    "CompiledFunction",
    "FitResult",
    "Parameter",
    "Sym2TFError",
    "check",
    "compile",
    "differentiate",
    "fit",
    "generate",
    "lower",
    "nn",
    "optimize",
    "parse",
    "render",
    "to_sympy",
]


def __dir__() -> list[str]:
    return ["__version__", *__all__]
