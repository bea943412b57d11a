"""sym2tf: mathematics from SymPy to fast numerics.

A SymPy expression is lowered to a graph, differentiated symbolically, optimised, drawn, and generated as TensorFlow
code, checked against automatic differentiation and high-precision arithmetic.
"""

from sym2tf import losses, nn, optimizers
from sym2tf.api import check, differentiate, generate, keras_loss, load_fit, optimize, render, to_sympy
from sym2tf.compiled import CompiledFunction, compile
from sym2tf.errors import Sym2TFError
from sym2tf.fit.api import fit
from sym2tf.fit.batch_result import BatchFitResult
from sym2tf.fit.inference.prediction import Prediction
from sym2tf.fit.process.monitor import Step
from sym2tf.fit.result import FitResult
from sym2tf.fit.statement.parameters import Parameter
from sym2tf.frontend.lower import lower
from sym2tf.notation import MaxOver, MinOver, OneHot, Simplex
from sym2tf.parse import parse
from sym2tf.training import Training, TrainingStep, train, training_step

__version__ = "0.1.0"

__all__ = [
    "BatchFitResult",
    "CompiledFunction",
    "FitResult",
    "MaxOver",
    "MinOver",
    "OneHot",
    "Parameter",
    "Prediction",
    "Simplex",
    "Step",
    "Sym2TFError",
    "Training",
    "TrainingStep",
    "check",
    "compile",
    "differentiate",
    "fit",
    "generate",
    "keras_loss",
    "load_fit",
    "losses",
    "lower",
    "nn",
    "optimize",
    "optimizers",
    "parse",
    "render",
    "to_sympy",
    "train",
    "training_step",
]


def __dir__() -> list[str]:
    return ["__version__", *__all__]
