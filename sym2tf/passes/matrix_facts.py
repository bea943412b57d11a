"""What is known about matrices: which are symmetric, positive definite, orthogonal, triangular, diagonal, invertible.

It follows from what the user assumes of inputs and from how values are made: `X.T*X` is positive semidefinite, the
inverse of a positive definite matrix is positive definite. A fact is about the last two core axes of a value, for
every matrix in front of these, and about its exact value where that is defined.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from sym2tf.ir.graph import Graph, Node
from sym2tf.ir.op import Op
from sym2tf.ops import arithmetic, assembly, contraction, decompositions, indexing, leaves, linalg
from sym2tf.passes.counting import constant_value
from sym2tf.passes.facts import NONNEGATIVE, NONZERO, Facts, facts_of, facts_of_number
from sym2tf.passes.matrix_chains import Chain, is_gram, matrix_chain
from sym2tf.passes.monomials import (
    MOVEMENTS,
    UNIT,
    Alphabet,
    Factor,
    Monomial,
    atom,
    diagonal,
    product,
    stretched,
    summed,
    unit_tensor,
)
from sym2tf.passes.monomials import contraction as contracted

LARGEST_TABLE = 400  # elements of a matrix of numbers that is looked at
LONGEST = 8  # factors of a product that is looked at as a whole; X.T*W*X has three


class Fact(enum.IntFlag):
    """What may be known of a matrix."""

    NOTHING = 0
    SYMMETRIC = 1
    SEMIDEFINITE = 2  # x.T*A*x >= 0, and symmetric
    POSITIVE_DEFINITE = 4
    ORTHOGONAL = 8
    LOWER = 16
    UPPER = 32
    DIAGONAL = 64
    INVERTIBLE = 128


SYMMETRIC, SEMIDEFINITE, DEFINITE = Fact.SYMMETRIC, Fact.SEMIDEFINITE, Fact.POSITIVE_DEFINITE
ORTHOGONAL, LOWER, UPPER = Fact.ORTHOGONAL, Fact.LOWER, Fact.UPPER
DIAGONAL, INVERTIBLE, NOTHING = Fact.DIAGONAL, Fact.INVERTIBLE, Fact.NOTHING
EVERYTHING = Fact(255)
WORDS: Mapping[str, Fact] = {
    "symmetric": SYMMETRIC,
    "positive_definite": DEFINITE,
    "orthogonal": ORTHOGONAL,
    "lower_triangular": LOWER,
    "upper_triangular": UPPER,
    "diagonal": DIAGONAL,
    "invertible": INVERTIBLE,
}
_IMPLIED = (
    (DEFINITE, SEMIDEFINITE | INVERTIBLE),
    (SEMIDEFINITE | INVERTIBLE, DEFINITE),
    (SEMIDEFINITE, SYMMETRIC),
    (ORTHOGONAL, INVERTIBLE),
    (LOWER | UPPER, DIAGONAL),
    (SYMMETRIC | LOWER, DIAGONAL),
    (SYMMETRIC | UPPER, DIAGONAL),
    (DIAGONAL, SYMMETRIC | LOWER | UPPER),
)


def closed(facts: Fact) -> Fact:
    """`facts` with what follows from them."""
    for have, also in _IMPLIED * 2:
        if facts & have == have:
            facts |= also
    return facts


def matrix_facts(graph: Graph, about: Iterable[int] | None = None) -> dict[int, Fact]:
    """The facts about nodes of core rank 2 at least; others are left out.

    Args:
        graph: any graph.
        about: the nodes that matter; all by default. Only they and what they are made of are looked at.
    """
    knowledge = _Knowledge(graph)
    needed = set(graph.order if about is None else about)
    if about is not None:
        for v in reversed(graph.order):
            if v in needed:
                needed.update(graph.operands(v))
    for v in graph.order:
        if v in needed:
            knowledge.learn(v)
    return knowledge.facts


class _Knowledge:
    """What is known so far of the nodes of a graph, operands first."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.alphabet = Alphabet()
        self.facts: dict[int, Fact] = {}
        self.elements: dict[int, Facts] = {}  # about every element of a value
        self.monomials: dict[int, Monomial] = {}

    def learn(self, v: int) -> None:
        graph, node = self.graph, self.graph[v]
        operands = graph.operands(v)
        constants = [constant_value(graph, u) for u in operands]
        number = constant_value(graph, v)
        known = facts_of(node, [self.elements[u] for u in operands], constants)
        self.elements[v] = known if number is None else known | facts_of_number(number)
        self.monomials[v] = self.monomial(v, node, operands)
        if node.type.rank < 2:
            return
        rule = _RULES.get(node.op) or (_elementwise if node.op.elementwise else None)
        found = NOTHING if rule is None else rule(_Place(self, v, node, operands))
        m = self.monomials[v]
        if m.factors != ((v, m.output),):
            found |= self.of_product(m)
        rows, columns = node.type.shape[-2:]
        if rows != columns:
            found &= LOWER | UPPER | DIAGONAL
        self.facts[v] = closed(found) if rows == columns else found

    def of(self, v: int) -> Fact:
        return self.facts.get(v, NOTHING)

    # Products

    def monomial(self, v: int, node: Node, operands: Sequence[int]) -> Monomial:
        """The value as a product of others, or as itself."""
        reader = _READERS.get(node.op)
        if reader is not None and node.type.rank:  # what a number is made of says no more than its sign
            found = reader(self, node, [self.monomials[u] for u in operands])
            if found is not None and len(found.factors) <= LONGEST:
                return found
        return atom(v, node.type.shape, self.alphabet)

    def of_product(self, m: Monomial) -> Fact:
        """The facts about a product, from its form."""
        row, column = m.output[-2:]
        front = frozenset(m.output[:-2])
        around = [f for f in m.factors if row not in f[1] and column not in f[1]]
        if row == column == UNIT:
            return DIAGONAL | self.scaled(m.factors, SEMIDEFINITE | DEFINITE | INVERTIBLE)
        if UNIT in (row, column) or any(not front.isdisjoint(pair) for pair in m.eyes):
            return NOTHING
        if m.eyes:  # a diagonal matrix: the factors are its diagonal
            return DIAGONAL | self.scaled(m.factors, EVERYTHING)
        inside = [f for f in m.factors if row in f[1] or column in f[1]]
        found = SYMMETRIC | self.scaled(around, SEMIDEFINITE) if is_gram(inside, row, column) else NOTHING
        chain = matrix_chain(m.factors, row, column, front)
        if chain is not None:
            return found | self.of_matrix_chain(chain)
        return found | self.of_hadamard(inside, around, row, column, front)

    def scaled(self, factors: Sequence[Factor], facts: Fact) -> Fact:
        """What is left of `facts` about a matrix that is multiplied by numbers."""
        if not factors:
            return facts
        left = facts & ~ORTHOGONAL
        if not all(self.elements[v] & NONNEGATIVE for v, _ in factors):
            left &= ~(SEMIDEFINITE | DEFINITE)
        if not all(self.elements[v] & NONZERO for v, _ in factors):
            left &= ~(DEFINITE | INVERTIBLE)
        return left

    def of_matrix_chain(self, chain: Chain) -> Fact:
        """A matrix product, with vectors that scale rows and columns on the way."""
        common = EVERYTHING
        for link in chain.links:
            facts = self.of(link.node)
            common &= facts if link.forward else swapped(facts)
        weights = [f for own in chain.weights.values() for f in own]
        exact = common & (LOWER | UPPER | DIAGONAL | ORTHOGONAL | INVERTIBLE)
        found = self.scaled([*weights, *chain.around], exact)
        if self.is_mirrored(chain):
            found |= SYMMETRIC | self.definite(chain, bool(common & INVERTIBLE))
        return found

    def is_mirrored(self, chain: Chain) -> bool:
        """Whether a product is the same when read from the other end."""
        mirror = dict(zip(chain.letters, reversed(chain.letters), strict=True))
        here = [
            *((link.node, link.letters) for link in chain.links),
            *(f for own in chain.weights.values() for f in own),
        ]
        there = [(v, tuple(mirror.get(x, x) for x in letters)) for v, letters in here]
        return sorted(map(self.unordered, here)) == sorted(map(self.unordered, there))

    def unordered(self, factor: Factor) -> Factor:
        """A factor; of a symmetric matrix with its last letters in order."""
        v, letters = factor
        if len(letters) > 1 and self.of(v) & SYMMETRIC:
            letters = (*letters[:-2], *sorted(letters[-2:]))
        return v, letters

    def definite(self, chain: Chain, invertible: bool) -> Fact:
        """Whether a product that is its own mirror image is (semi)definite: its middle decides."""
        count = len(chain.links)
        middle, signs = SEMIDEFINITE | DEFINITE, list(chain.around)
        if count % 2:
            middle = self.of(chain.links[count // 2].node)
        else:
            signs += chain.weights.get(chain.letters[count // 2], [])
        found = self.scaled(signs, middle & (SEMIDEFINITE | DEFINITE))
        weights = [f for own in chain.weights.values() for f in own]
        nonzero = all(self.elements[v] & NONZERO for v, _ in weights)
        return found if nonzero and (invertible or count == 1) else found & ~DEFINITE

    def of_hadamard(
        self, inside: Sequence[Factor], around: Sequence[Factor], row: int, column: int, front: frozenset[int]
    ) -> Fact:
        """An elementwise product of matrices, with vectors that scale rows and columns."""
        some, common = NOTHING, SYMMETRIC | SEMIDEFINITE | DEFINITE
        matrices = 0
        for v, letters in inside:
            own = tuple(x for x in letters if x not in front and x != UNIT)
            if own in ((row, column), (column, row)) and letters[-2:] == own:
                facts = self.of(v) if own == (row, column) else swapped(self.of(v))
                some, common, matrices = some | facts, common & facts, matrices + 1
            elif len(own) == 1:
                common = NOTHING
            else:
                return NOTHING
        found = some & (LOWER | UPPER | DIAGONAL)
        return found | (self.scaled(around, common) if matrices else NOTHING)


def _read_product(self: _Knowledge, node: Node, operands: Sequence[Monomial]) -> Monomial:
    return stretched(product(operands, self.alphabet), node.type.shape, self.alphabet)


def _read_einsum(self: _Knowledge, node: Node, operands: Sequence[Monomial]) -> Monomial:
    found = contracted(operands, node.attributes["inputs"], node.attributes["output"], self.alphabet)
    return stretched(found, node.type.shape, self.alphabet)


def _read_movement(self: _Knowledge, node: Node, operands: Sequence[Monomial]) -> Monomial:
    return MOVEMENTS[node.op](operands[0], node.attributes, self.alphabet)


_READERS: Mapping[Op, Callable[[_Knowledge, Node, Sequence[Monomial]], Monomial | None]] = {
    arithmetic.mul: _read_product,
    contraction.einsum: _read_einsum,
    **dict.fromkeys(MOVEMENTS, _read_movement),
    arithmetic.cast: lambda self, node, xs: xs[0],
    indexing.sum_: lambda self, node, xs: summed(xs[0], node.attributes["axes"], self.alphabet),
    assembly.eye: lambda self, node, xs: unit_tensor(node.type.shape[-1], self.alphabet),
    assembly.diag: lambda self, node, xs: diagonal(xs[0], self.alphabet),
}

# Other operations


class _Place(NamedTuple):
    """A node whose facts are asked for."""

    knowledge: _Knowledge
    v: int
    node: Node
    operands: Sequence[int]

    def of(self, k: int) -> Fact:
        """The facts about operand k."""
        return self.knowledge.of(self.operands[k])


Rule = Callable[[_Place], Fact]
_SWAP = {LOWER: UPPER, UPPER: LOWER}


def swapped(facts: Fact) -> Fact:
    """The facts about the transposed matrix."""
    turned = facts & ~(LOWER | UPPER)
    for one, other in _SWAP.items():
        if facts & one:
            turned |= other
    return turned


def _input(at: _Place) -> Fact:
    found = NOTHING
    for word in at.node.attributes.get("known", ()):
        found |= WORDS.get(word, NOTHING)
    return found


def _table(at: _Place) -> Fact:
    """A matrix of numbers: looked at."""
    values, shape = at.node.attributes["values"], at.node.attributes["shape"]
    if len(shape) != 2 or len(values) > LARGEST_TABLE or not all(isinstance(x, Fraction) for x in values):
        return NOTHING
    columns = shape[1]
    rows = [values[k : k + columns] for k in range(0, len(values), columns)]
    lower = all(x == 0 for i, row in enumerate(rows) for x in row[i + 1 :])
    upper = all(x == 0 for i, row in enumerate(rows) for x in row[:i])
    found = (LOWER if lower else NOTHING) | (UPPER if upper else NOTHING)
    if shape[0] == columns and all(rows[i][j] == rows[j][i] for i in range(columns) for j in range(i)):
        found |= SYMMETRIC | (DEFINITE if _has_positive_pivots(rows) else NOTHING)
    return found


def _has_positive_pivots(rows: Sequence[Sequence[Fraction]]) -> bool:
    """Whether a symmetric matrix is positive definite, by elimination in exact numbers."""
    left = [list(row) for row in rows]
    for k, pivot in enumerate(left):
        if pivot[k] <= 0:
            return False
        for row in left[k + 1 :]:
            ratio = row[k] / pivot[k]
            for j in range(k, len(row)):
                row[j] -= ratio * pivot[j]
    return True


def _add(at: _Place) -> Fact:
    graph, knowledge = at.knowledge.graph, at.knowledge
    shape = at.node.type.shape[-2:]
    common, definite = EVERYTHING & ~(ORTHOGONAL | INVERTIBLE | DEFINITE), False
    unpaired: dict[int, int] = {}  # matrices of which nothing is known, and how often they stand there transposed
    for u in at.operands:
        own = graph[u].type.shape[-2:]
        if own == (1, 1) != shape:  # the same number everywhere
            facts = SYMMETRIC | (SEMIDEFINITE if knowledge.elements[u] & NONNEGATIVE else NOTHING)
        elif own != shape:
            return NOTHING
        else:
            facts = knowledge.of(u)
        if not facts & SYMMETRIC:
            root, sign = u, 1
            if graph[u].op is indexing.transpose and graph[u].attributes["axes"] == (-1, -2):
                (root,), sign = graph.operands(u), -1
            unpaired[root] = unpaired.get(root, 0) + sign
            facts |= SYMMETRIC
        definite = definite or bool(facts & DEFINITE)
        common &= facts
    if any(unpaired.values()):
        common &= ~SYMMETRIC
    return common | (DEFINITE if definite and common & SEMIDEFINITE else NOTHING)


def _elementwise(at: _Place) -> Fact:
    """A function of each element, of symmetric matrices and of numbers."""
    shape = at.node.type.shape[-2:]
    for u in at.operands:
        own = at.knowledge.graph[u].type.shape[-2:]
        if own == shape and at.knowledge.of(u) & SYMMETRIC:
            continue
        if own not in ((1, 1), ()):
            return NOTHING
    return SYMMETRIC


def _keep(facts: Fact) -> Rule:
    return lambda at: at.of(0) & facts


def _always(facts: Fact) -> Rule:
    return lambda at: facts


def _inverse(at: _Place) -> Fact:
    facts = at.of(0)
    return facts | INVERTIBLE | (DEFINITE if facts & SEMIDEFINITE else NOTHING)


def _front_axes(at: _Place) -> Fact:
    """Movements and sums: the matrices stay as they are where only axes in front of them are concerned."""
    attributes = at.node.attributes
    axes = attributes["axes"] if "axes" in attributes else (attributes["axis"],)
    before = at.knowledge.graph[at.operands[0]].type.rank
    if before < 2 or any(axis >= -2 for axis in axes):
        return NOTHING
    kept = at.of(0)
    return kept & ~(ORTHOGONAL | INVERTIBLE | DEFINITE) if at.node.op is indexing.sum_ else kept


def _transpose(at: _Place) -> Fact:
    axes = at.node.attributes["axes"]
    if axes[-2:] == (-1, -2):
        return swapped(at.of(0))
    return at.of(0) if axes[-2:] == (-2, -1) else NOTHING


def _broadcast(at: _Place) -> Fact:
    (u,) = at.operands
    inner = at.knowledge.graph[u].type.shape[-2:]
    return at.of(0) if inner == at.node.type.shape[-2:] else NOTHING


def _solve(at: _Place) -> Fact:
    facts = swapped(at.of(0)) if at.node.attributes["adjoint"] else at.of(0)
    return facts & at.of(1) & (LOWER | UPPER | DIAGONAL | ORTHOGONAL | INVERTIBLE)


def _triangular_solve(at: _Place) -> Fact:
    lower, adjoint = at.node.attributes["lower"], at.node.attributes["adjoint"]
    factor = LOWER if lower != adjoint else UPPER
    return (at.of(0) & DIAGONAL | factor | INVERTIBLE) & at.of(1)


_RULES: Mapping[Op, Rule] = {
    leaves.input_: _input,
    assembly.eye: _always(EVERYTHING),
    assembly.diag: _always(DIAGONAL),
    assembly.table: _table,
    arithmetic.add: _add,
    arithmetic.mul: _always(NOTHING),  # by its monomial
    arithmetic.cast: _keep(EVERYTHING),
    indexing.expand: _front_axes,
    indexing.squeeze: _front_axes,
    indexing.sum_: _front_axes,
    indexing.slice_: _front_axes,
    indexing.transpose: _transpose,
    indexing.broadcast: _broadcast,
    linalg.inverse: _inverse,
    linalg.solve: _solve,
    linalg.triangular_solve: _triangular_solve,
    linalg.cholesky: _always(LOWER | INVERTIBLE),
    linalg.cofactor: _keep(SYMMETRIC | SEMIDEFINITE | DEFINITE | DIAGONAL | INVERTIBLE),
    decompositions.eigh_vectors: _always(ORTHOGONAL),
    decompositions.svd_left: _always(ORTHOGONAL),
    decompositions.svd_right: _always(ORTHOGONAL),
    decompositions.qr_q: _always(ORTHOGONAL),
    decompositions.qr_r: _always(UPPER),
    decompositions.expm: lambda at: (
        at.of(0) & (SYMMETRIC | LOWER | UPPER | DIAGONAL) | INVERTIBLE | (DEFINITE if at.of(0) & SYMMETRIC else NOTHING)
    ),
    decompositions.logm: _keep(SYMMETRIC | LOWER | UPPER | DIAGONAL),
    decompositions.sqrtm: _keep(SYMMETRIC | SEMIDEFINITE | DEFINITE | LOWER | UPPER | DIAGONAL | INVERTIBLE),
}
