"""Records, such as a fit with all that it holds, as what JSON can write, and back.

Tables say which records and values there are: nothing else is written, and nothing else is made of what is read.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from sym2tf.errors import DataError, PersistenceError
from sym2tf.expression_json import Expressions, at
from sym2tf.fit.inference.least_squares import Inference, Linearisation
from sym2tf.fit.inference.quality import Quality
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Step
from sym2tf.fit.solvers.sidebyside import Ends
from sym2tf.fit.solvers.solution import Solution, Sums
from sym2tf.fit.statement.classify import Model, Structure
from sym2tf.fit.statement.data import PastBatches, Stream
from sym2tf.fit.statement.equations import Spread
from sym2tf.fit.statement.parameters import Unknown
from sym2tf.fit.statement.problem import Problem
from sym2tf.fit.statement.relations import Constraint
from sym2tf.fit.statement.ties import Tie
from sym2tf.ir.dims import Dim
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.losses import Loss
from sym2tf.ops import OPS

Array = np.ndarray[Any, Any]

MAX_INTEGER = 2**63


@dataclass(frozen=True)
class LeftOut:
    """Stands for an array of a fit that was saved without its data: its shape is known, asking for more says why not.

    Attributes:
        name: of the input.
        shape, kind: of the array; `kind` is its dtype.
    """

    name: str
    shape: tuple[int, ...]
    kind: str

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> Any:
        """The type of the elements."""
        return np.dtype(self.kind)

    def __array__(self, *args: Any, **keywords: Any) -> Array:
        raise self._missing()

    def __getitem__(self, place: Any) -> Any:
        raise self._missing()

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise self._missing()

    def _missing(self) -> DataError:
        return DataError(
            f"{self.name} was left out when this fit was saved (data=False): predict takes other data, and what needs "
            "the data of the fit needs a file that has them"
        )


RECORDS: Mapping[str, Any] = {
    c.__name__: c
    for c in (
        Problem, Unknown, Tie, Constraint, Spread, Loss, Structure, Model, Solution, Sums, Inference, Linearisation,
        Quality, Options, Step, TensorType, LeftOut, PastBatches, Ends,
    )
}  # fmt: skip
# What belongs to the process that made a fit and not to the fit: a file leaves it at its default.
OF_THE_PROCESS = {
    "BatchFitResult": ("jacobians",),
    "Options": ("validation", "progress", "callbacks", "checkpoint", "tensorboard", "strategy", "device"),
}
# What is as large as the data and says what they were.
OF_THE_DATA = {"Inference": ("at",), "Solution": ("residual", "J"), "Spread": ("array",)}


class Writer:
    """Turns records into what JSON can write, beside it the arrays and the expressions in them.

    Attributes:
        data: whether what is as large as the data is written too.
        arrays: those that are met, in the order of their numbers.
        expressions: those that are met.
    """

    def __init__(self, data: bool) -> None:
        self.data = data
        self.arrays: list[Array] = []
        self.expressions = Expressions()

    def record(self, record: Any) -> Any:
        name = type(record).__name__
        skipped = OF_THE_PROCESS.get(name, ()) + (() if self.data else OF_THE_DATA.get(name, ()))
        fields = {}
        for f in dataclasses.fields(record):
            if f.name in skipped or not f.init:
                continue
            value = getattr(record, f.name)
            if name == "Problem" and f.name == "data":
                fields[f.name] = self._of_data(value)
                continue
            if name == "Options" and f.name == "method" and value is not None and not isinstance(value, str):
                value = str(getattr(value, "name", type(value).__name__))
            fields[f.name] = self.value(value, f"{name}.{f.name}")
        return {"record": name, "fields": fields}

    def _of_data(self, data: Mapping[str, Any]) -> Any:
        if self.data:
            return self.value(data, "data")
        return self.value({n: LeftOut(n, a.shape, str(a.dtype)) if a.ndim else a for n, a in data.items()}, "data")

    def value(self, value: Any, where: str) -> Any:
        """What stands for a value; `where` it is, for messages."""
        if value is None or isinstance(value, bool | str):
            return value
        for kind, write in _WRITERS:
            if isinstance(value, kind):
                return write(self, value, where)
        if dataclasses.is_dataclass(value) and type(value).__name__ in RECORDS:
            return self.record(value)
        raise PersistenceError(f"{where} cannot be saved: it is of the class {type(value).__name__}")

    def array(self, array: Array, where: str) -> Any:
        if array.dtype.kind not in "biufU":
            raise PersistenceError(f"{where} cannot be saved: its elements are of the type {array.dtype}")
        self.arrays.append(array)
        return {"array": len(self.arrays) - 1}

    def graph(self, graph: Graph, where: str) -> Any:
        places = {v: k for k, v in enumerate(graph.order)}
        nodes = []
        for v in graph.order:
            node = graph[v]
            origin = node.origin if node.origin is None or isinstance(node.origin, sp.Basic | str) else str(node.origin)
            operands = [places[u] for u in graph.operands(v)]
            attributes = {k: self.value(a, f"{where}, {node.op.name}") for k, a in node.attributes.items()}
            nodes.append([node.op.name, operands, attributes, self.value(origin, where), node.stage])
        outputs = [[name, places[v]] for name, v in graph.outputs.items()]
        info = self.value(graph.info, where)
        return {"graph": nodes, "inputs": [places[v] for v in graph.inputs], "outputs": outputs, "info": info}


def _float(writer: Writer, x: float, where: str) -> Any:
    return x if math.isfinite(x) else {"float": repr(x)}


def _integer(writer: Writer, n: int, where: str) -> Any:
    return n if abs(n) < MAX_INTEGER else {"integer": format(n, "x")}


def _items(writer: Writer, items: Any, where: str) -> list[Any]:
    return [writer.value(x, where) for x in items]


Write = Callable[[Writer, Any, str], Any]
_WRITERS: tuple[tuple[Any, Write], ...] = (
    (Kind, lambda w, x, at: {"kind": x.name}),
    (Stream, lambda w, x, at: w.record(PastBatches())),
    (np.ndarray, lambda w, x, at: w.array(x, at)),
    (np.generic, lambda w, x, at: {"scalar": w.array(np.asarray(x), at)["array"]}),
    (int, _integer),
    (float, _float),
    (Fraction, lambda w, x, at: {"fraction": [format(x.numerator, "x"), format(x.denominator, "x")]}),
    (Dim, lambda w, x, at: {"dim": [[list(monomial), c] for monomial, c in x.terms]}),
    (Graph, lambda w, x, at: w.graph(x, at)),
    (sp.Basic | sp.MatrixBase | sp.NDimArray, lambda w, x, at: {"expression": w.expressions.place(x)}),
    (Mapping, lambda w, x, at: {"mapping": [[w.value(k, at), w.value(v, at)] for k, v in x.items()]}),
    (tuple, lambda w, x, at: {"tuple": _items(w, x, at)}),
    (list, lambda w, x, at: {"list": _items(w, x, at)}),
    (frozenset, lambda w, x, at: {"frozenset": _items(w, sorted(x, key=str), at)}),
    (set, lambda w, x, at: {"set": _items(w, sorted(x, key=str), at)}),
)


class Reader:
    """Turns what JSON read into records, by the tables of this module alone."""

    def __init__(self, expressions: list[Any], arrays: Callable[[Any], Array], records: Mapping[str, Any]) -> None:
        self.expressions, self.arrays, self.records = expressions, arrays, records

    def root(self, written: Any, derived: Any, roots: Mapping[str, Any]) -> Any:
        if not isinstance(written, dict) or written.get("record") not in roots:
            raise PersistenceError(f"this is not a saved {' or '.join(roots)}")
        try:
            found = self.value(written)
            strange = [name for name in derived if not isinstance(vars(type(found)).get(name), cached_property)]
            if strange:
                raise PersistenceError(f"{str(strange[0])[:40]!r} is nothing that a fit computes")
            vars(found).update({name: self.value(x) for name, x in derived.items()})
            return found
        except PersistenceError:
            raise
        except Exception as error:  # whatever a constructor makes of values that nobody has saved
            raise PersistenceError(
                f"its content is inconsistent: {type(error).__name__}: {str(error)[:200]}"
            ) from error

    def value(self, written: Any) -> Any:
        if not isinstance(written, dict):
            if isinstance(written, list):
                raise PersistenceError("a list stands where a value is due")
            return written
        tag = next(iter(written), "")
        if tag not in _READERS:
            raise PersistenceError(f"{str(tag)[:40]!r} is no sort of value")
        return _READERS[tag](self, written)

    def items(self, written: Any) -> list[Any]:
        return [self.value(x) for x in written]

    def record(self, written: Mapping[str, Any]) -> Any:
        name = written["record"]
        if name not in self.records:
            raise PersistenceError(f"{str(name)[:40]!r} is no record of a fit")
        cls = self.records[name]
        known = {f.name for f in dataclasses.fields(cls) if f.init}
        unknown = [f for f in written["fields"] if f not in known]
        if unknown:
            raise PersistenceError(f"{name} has no field {unknown[0][:40]!r}")
        return cls(**{f: self.value(x) for f, x in written["fields"].items()})

    def graph(self, written: Mapping[str, Any]) -> Graph:
        builder = Builder()
        where: list[int] = []
        for name, operands, attributes, origin, stage in written["graph"]:
            if name not in OPS:
                raise PersistenceError(f"{str(name)[:40]!r} is no operation")
            found = {k: self.value(a) for k, a in attributes.items()}
            places = [at(where, u) for u in operands]
            where.append(builder.add(OPS[name], places, found, origin=self.value(origin), stage=stage))
        outputs = {name: at(where, v) for name, v in written["outputs"]}
        inputs = [at(where, v) for v in written["inputs"]]
        return builder.build(inputs, outputs, self.value(written["info"])).validate()


Read = Callable[[Reader, Mapping[str, Any]], Any]
_READERS: Mapping[str, Read] = {
    "array": lambda r, x: r.arrays(x["array"]),
    "scalar": lambda r, x: r.arrays(x["scalar"])[()],
    "float": lambda r, x: {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[x["float"]],
    "integer": lambda r, x: int(x["integer"], 16),
    "fraction": lambda r, x: Fraction(*(int(part, 16) for part in x["fraction"])),
    "kind": lambda r, x: Kind[x["kind"]],
    "dim": lambda r, x: Dim(tuple((tuple(monomial), c) for monomial, c in x["dim"])),
    "graph": lambda r, x: r.graph(x),
    "expression": lambda r, x: at(r.expressions, x["expression"]),
    "mapping": lambda r, x: {r.value(k): r.value(v) for k, v in x["mapping"]},
    "tuple": lambda r, x: tuple(r.items(x["tuple"])),
    "list": lambda r, x: r.items(x["list"]),
    "frozenset": lambda r, x: frozenset(r.items(x["frozenset"])),
    "set": lambda r, x: set(r.items(x["set"])),
    "record": lambda r, x: r.record(x),
}
