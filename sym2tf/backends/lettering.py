"""Reads products, sums over axes and movements of axes as one contraction: factors with letters on their axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sym2tf.backends.forms import NoMatrixFormError
from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Graph
from sym2tf.passes.axis_names import names_below
from sym2tf.passes.counting import constant_value

MOST_FACTORS = 40  # of one contraction

Letters = tuple[int | None, ...]  # None along axes of length 1
Spread = list[tuple[int, Sequence[int | None]]]  # operands and the letters that they would have if all axes were long
MOVES = frozenset(("expand", "squeeze", "broadcast", "transpose"))
PRODUCTS = frozenset(("mul", "sum", "einsum", "neg", "diag", "cast")) | MOVES


class Lettering:
    """Letters for the axes of the factors that make up a value, seen through products, sums and movements.

    Attributes:
        lengths: of the axes that carry a letter.
        eyes: pairs of letters that must be equal.
        output: the letters of the value itself.
        sign: 1 or -1.
    """

    def __init__(self, graph: Graph, whole: Callable[[int], bool]) -> None:
        """`whole` says which nodes are factors, although they are products or powers."""
        self.graph = graph
        self.whole = whole
        self.lengths: dict[int, Size] = {}
        self.eyes: list[tuple[int, int]] = []
        self.output: Letters = ()
        self.sign = 1

    def fresh(self, size: Size) -> int | None:
        """A letter for an axis of some length; none for length 1."""
        if size == 1:
            return None
        self.lengths[len(self.lengths)] = size
        return len(self.lengths) - 1

    def factors(self, root: int) -> list[tuple[int, Letters]]:
        """The factors of a node with the letters of their axes."""
        self.output = tuple(self.fresh(d) for d in self.graph[root].type.shape)
        found: list[tuple[int, Letters]] = []
        stack = [(root, self.output)]
        while stack:
            v, letters = stack.pop()
            if len(found) + len(stack) > MOST_FACTORS:
                raise NoMatrixFormError(f"a product of more than {MOST_FACTORS} factors")
            rule = Lettering.of_mask if is_masked(self.graph, v) else _SPREAD.get(self.graph[v].op.name)
            if self.graph[v].op.name == "eye":
                r, c = letters
                if r is not None and c is not None:
                    self.eyes.append((r, c))
            elif v != root and self.is_summed_square(v, letters):
                stack += 2 * [(self.graph.operands(v)[0], letters)]
            elif rule is None or (v != root and self.whole(v)):
                found.append((v, letters))
            else:
                stack += reversed([(u, self.clipped(u, held)) for u, held in rule(self, v, letters)])
        return found

    def is_summed_square(self, v: int, letters: Letters) -> bool:
        """Whether `v` is a square that is summed along all its axes: twice the same factor."""
        if self.whole(v) or not any(c is not None for c in letters):
            return False
        name, operands = self.graph[v].op.name, self.graph.operands(v)
        two = name == "square" or (name == "pow" and constant_value(self.graph, operands[1]) == 2)
        return two and not any(c is not None and c in self.output for c in letters)

    def clipped(self, v: int, letters: Sequence[int | None]) -> Letters:
        """Letters for a node: none along its axes of length 1."""
        return tuple(None if d == 1 else letter for d, letter in zip(self.graph[v].type.shape, letters, strict=True))

    def of_mul(self, v: int, letters: Letters) -> Spread:
        """Every operand has the letters of the product."""
        return [(u, letters) for u in self.graph.operands(v)]

    def of_neg(self, v: int, letters: Letters) -> Spread:
        """As a product with -1."""
        self.sign = -self.sign
        return self.of_mul(v, letters)

    def of_mask(self, v: int, letters: Letters) -> Spread:
        """The indicator of the condition times the value where it holds."""
        return [(u, letters) for u in self.graph.operands(v)[:2]]

    def of_sum(self, v: int, letters: Letters) -> Spread:
        """New letters for the axes that are summed."""
        (u,), axes = self.graph.operands(v), self.graph[v].attributes["axes"]
        shape, kept = self.graph[u].type.shape, iter(letters)
        return [(u, [self.fresh(d) if k - len(shape) in axes else next(kept) for k, d in enumerate(shape)])]

    def of_einsum(self, v: int, letters: Letters) -> Spread:
        """The letters of the output as given, new ones for the others."""
        attributes = self.graph[v].attributes
        known: dict[str, int | None] = dict(zip(attributes["output"], letters, strict=True))
        spread: Spread = []
        for u, named in zip(self.graph.operands(v), attributes["inputs"], strict=True):
            for c, d in zip(named, self.graph[u].type.shape, strict=True):
                if known.get(c) is None and (c not in known or d != 1) and c not in attributes["output"]:
                    known[c] = self.fresh(d)
        for u, named in zip(self.graph.operands(v), attributes["inputs"], strict=True):
            spread.append((u, [known.get(c) for c in named]))
        return spread

    def of_diag(self, v: int, letters: Letters) -> Spread:
        """The two letters of the diagonal must be equal."""
        *front, r, c = letters
        if r is not None and c is not None:
            self.eyes.append((r, c))
        return [(self.graph.operands(v)[0], [*front, r])]

    def of_movement(self, v: int, letters: Letters) -> Spread:
        """The same letters in other places."""
        (u,) = self.graph.operands(v)
        return [(u, names_below(self.graph[v], self.graph[u], letters))]


_SPREAD: dict[str, Callable[[Lettering, int, Letters], Spread]] = {
    "mul": Lettering.of_mul,
    "cast": Lettering.of_mul,
    "neg": Lettering.of_neg,
    "sum": Lettering.of_sum,
    "einsum": Lettering.of_einsum,
    "diag": Lettering.of_diag,
    **dict.fromkeys(MOVES, Lettering.of_movement),
}


def is_masked(graph: Graph, v: int) -> bool:
    """Whether `v` is a tensor where a condition on elements holds, and 0 elsewhere."""
    if graph[v].op.name != "select":
        return False
    condition, _, otherwise = graph.operands(v)
    return constant_value(graph, otherwise) == 0 and any(d != 1 for d in graph[condition].type.shape)
