"""A Jacobian or Hessian as the factors that it is made of, which are all that a call computes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from functools import cached_property
from itertools import product
from typing import Any, Literal, NamedTuple

from sym2tf.autodiff.derivatives import hessian, jacobian, name_of
from sym2tf.backends.tensorflow.factored import FactoredMatrix, FactoredTerm
from sym2tf.ir.dims import evaluate_size
from sym2tf.ir.graph import Graph
from sym2tf.ops.leaves import input_
from sym2tf.passes.monomials import UNIT
from sym2tf.passes.terms import Factored, Term, factored, simplified
from sym2tf.structured.source import Function, Sizing, Source
from sym2tf.trees import map_nest


class _Prepared(NamedTuple):
    """What is computed at some sizes: the program of the factors, their names for people, the terms of each block."""

    program: Any
    names: Mapping[str, str]
    terms: Mapping[str, tuple[Term, ...]]
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    sizes: Mapping[str, int]


class CompressedDerivative:
    """A derivative whose value is a `FactoredMatrix`: `f.hessian(compressed=True)`, `f.jacobian(compressed=True)`.

    Call it with the arguments of the function. Which factors there are depends on the sizes: a product is multiplied
    out where the result is no larger than its factors.
    """

    def __init__(self, function: Function, source: Source, nest: Any, kind: Literal["jacobian", "hessian"]) -> None:
        self._function, self._source, self._nest, self.kind = function, source, nest, kind
        self._sizing = Sizing(function.lowered, source.info(function.lowered))
        self._programs: dict[Hashable, Any] = {}
        self._prepared: dict[Hashable, _Prepared] = {}

    def __copy__(self) -> CompressedDerivative:
        return self

    def __deepcopy__(self, memo: Any) -> CompressedDerivative:
        return self  # nothing in it changes once it is made, but for what it remembers

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_programs": {}, "_prepared": {}}

    def __repr__(self) -> str:
        return f"<sym2tf compressed {self.kind} of {self._function.name}: {self._function.title}>"

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The derivative at each point of the batch: a `FactoredMatrix`, or the nest of those of all blocks.

        Raises:
            ArgumentError, ShapeError, SizeError, DtypeError: arguments that do not fit.
        """
        values, given = self._function.bound(args, kwargs)
        found = self._at(self._sizing.of_values(values, given).sizes)
        tensors = found.program(**values, **given)
        dtype = self._function.dtype

        def matrix(name: str, path: str) -> FactoredMatrix:
            rows, columns = found.shapes[name]
            terms = [_numbered(t, len(rows), tensors, found.names, found.sizes) for t in found.terms[name]]
            return FactoredMatrix(terms, rows, columns, dtype)

        return map_nest(matrix, self._nest)

    @cached_property
    def _simplified(self) -> Graph:
        """The graph of the dense derivative, in which contraction has left the unit tensors as they are."""
        source = self._source
        return simplified(source.finished(_DENSE[self.kind](source.graph, source.wrt)), level=self._function.level)

    def _at(self, sizes: Mapping[str, int]) -> _Prepared:
        key = tuple(sorted(sizes.items()))
        found = self._prepared.get(key)
        if found is None:
            found = self._prepared[key] = self._prepare(factored(self._simplified, sizes), sizes)
        return found

    def _prepare(self, parts: Factored, sizes: Mapping[str, int]) -> _Prepared:
        kind = repr(parts.terms)  # the same factors at other sizes are the same program
        if kind not in self._programs:
            nest = {name: name for name in parts.graph.outputs}
            self._programs[kind] = self._function.derived(parts.graph, nest, f"compressed_{self.kind}")
        names, count = {}, 0
        for name, v in parts.graph.outputs.items():
            node = parts.graph[v]
            known = node.attributes.get("name") if node.op is input_ else _text(node.attributes.get("value"))
            count += known is None
            names[name] = f"F{count}" if known is None else known
        cores = [self._core(v, sizes) for v in self._source.wrt]
        shapes = {}
        for output, v in self._source.graph.outputs.items():
            rows = cores if self.kind == "hessian" else [self._core(v, sizes)]
            for j, k in product(range(len(rows)), range(len(cores))):
                shapes[name_of(output, j, k) if self.kind == "hessian" else name_of(output, k)] = rows[j], cores[k]
        return _Prepared(self._programs[kind], names, parts.terms, shapes, dict(sizes))

    def _core(self, v: int, sizes: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(evaluate_size(d, sizes) for d in self._source.graph[v].type.shape)


_DENSE = {"jacobian": jacobian, "hessian": hessian}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _numbered(
    term: Term, rank: int, tensors: Mapping[str, Any], names: Mapping[str, str], sizes: Mapping[str, int]
) -> FactoredTerm:
    """A term with its tensors, where axes of length 1 have letters too."""
    lengths = {letter: evaluate_size(size, sizes) for letter, size in term.lengths.items()}
    fresh = _fresh(lengths)
    output = []
    for letter in term.output:
        named = next(fresh) if letter == UNIT else letter
        lengths.setdefault(named, 1)
        output.append(named)
    return FactoredTerm(
        factors=tuple((tensors[name], letters) for name, letters in term.factors),
        names=tuple(names[name] for name, _ in term.factors),
        rows=tuple(output[:rank]),
        columns=tuple(output[rank:]),
        units=term.units,
        lengths=lengths,
    )


def _fresh(taken: Mapping[int, int]) -> Iterator[int]:
    letter = max(taken, default=0)
    while True:
        letter += 1
        yield letter
