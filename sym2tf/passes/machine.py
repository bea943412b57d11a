"""The last pass: chooses the operations that the machine has, and the order in which it does them.

Everything before it speaks `add`, `mul` and `pow` alone. Here powers become products with shared squares,
negative powers denominators, negative terms subtractions, and the operands of long sums and products are
grouped so that small tensors meet each other before they meet a large one.

Measured on the CPU in float64 on 10^6 elements (TensorFlow 2.21, `tf.function`): a product 1.8 ms, a
division 1.7, a square root 1.9, `x**7` by `pow` 22, `x**63` by `pow` 22 and as ten products 5.5. So a
division is never avoided, a product of powers always pays, and `x/3` is taken for `x*(1/3)` because it
rounds once instead of twice (Grappler may turn it back; that costs nothing).

How the roots differ from `pow` (IEEE 754, where the real line gives no reason to tell them apart):
`sqrt(-0.0)` is -0.0 where `pow` gives 0.0, hence `1/sqrt(-0.0)` is -inf where `pow` gives inf, and at -inf
they are NaN where `pow` gives inf or 0. `x*sqrt(x)` and the other half-integers agree with `pow` at 0,
-0.0, inf, NaN and for negative x; at -inf they are NaN.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from sym2tf.ir.dims import Size
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.op import Op
from sym2tf.ir.types import broadcast_shapes
from sym2tf.ops.arithmetic import add, div, mul, neg, pow_, reciprocal, sqrt, square, sub
from sym2tf.ops.contraction import einsum
from sym2tf.ops.elementary import exp
from sym2tf.ops.indexing import expand, transpose
from sym2tf.ops.leaves import NUMBERS, const, euler
from sym2tf.ops.values import constant, with_rank
from sym2tf.passes.counting import constant_value, use_counts

LARGEST_POWER = 64  # eleven products at most: quicker than pow, and off by 32 units in the last place at worst


def choose_machine_operations(graph: Graph, *, exact: bool = False) -> tuple[Graph, Counter[str]]:
    """`graph` in the operations that the machine has; how often each was chosen.

    Args:
        graph: any valid graph.
        exact: only what equals the original for every float: no new order of summation, no roots for `pow`.
    """
    chooser = _Chooser(graph, exact)
    where = chooser.where
    for v in graph.order:
        chooser.place(v)
    result = chooser.builder.build(
        [where[v] for v in graph.inputs], {name: where[v] for name, v in graph.outputs.items()}, graph.info
    )
    return result, chooser.fired


@dataclass
class _Chooser:
    graph: Graph
    exact: bool
    builder: Builder = field(default_factory=Builder)
    where: dict[int, int] = field(default_factory=dict)
    fired: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        graph = self.graph
        self.uses = use_counts(graph)
        self.constants: set[int] = set()  # nodes that generation evaluates and rounds once: left as they are
        self.needed: defaultdict[int, set[int]] = defaultdict(set)  # base -> its integer powers that are needed
        self.subtracted = dict.fromkeys(graph.order, not self.exact)  # whether only sums use a node
        self.powers: dict[tuple[int, int], int] = {}
        self.magnitudes: dict[int, int] = {}  # product with a negative coefficient -> the same with a positive one
        for v in graph.order:
            node, operands = graph[v], graph.operands(v)
            if node.op is const or node.op in NUMBERS or (operands and self.constants.issuperset(operands)):
                self.constants.add(v)
            if node.op is pow_ and v not in self.constants:
                exponent = self.exponent(v)
                if exponent is not None:
                    self.needed[operands[0]].add(abs(exponent.numerator) // exponent.denominator)
        for v in graph.outputs.values():
            self.subtracted[v] = False
        for v in reversed(graph.order):
            op = graph[v].op
            if op is not add and not (op is expand and self.subtracted[v]):
                for u in graph.operands(v):
                    self.subtracted[u] = False

    def place(self, v: int) -> None:
        """Add `v` to the new graph, as the operations chosen for it."""
        node, builder = self.graph[v], self.builder
        choose = None if v in self.constants else _CHOICES.get(node.op)
        builder.stage = node.stage
        made = choose(self, v) if choose is not None else None
        if made is None:
            if v not in self.magnitudes or not self.subtracted[v]:
                self.where[v] = builder.copy_node(self.graph, v, [self.where[u] for u in self.graph.operands(v)])
            return
        if builder.nodes[made].origin is None and node.origin is not None:
            builder.nodes[made] = replace(builder.nodes[made], origin=node.origin)
        self.where[v] = made

    # Powers

    def exponent(self, v: int) -> Fraction | None:
        """The exponent of the power `v` where products, square roots and divisions make it, else None."""
        base, exponent = self.graph.operands(v)
        e = constant_value(self.graph, exponent)
        if not isinstance(e, Fraction) or isinstance(e, bool) or self.graph[base].type != self.graph[v].type:
            return None
        if self.exact:
            return e if e in (2, -1) else None
        return e if e != 0 and e.denominator in (1, 2) and abs(e) <= LARGEST_POWER else None

    def power(self, v: int) -> int | None:
        """`x**e` for integers and half-integers; `e**x` is `exp(x)`."""
        base, exponent = self.graph.operands(v)
        e = self.exponent(v)
        if e is None:
            while self.graph[base].op is expand:
                base = self.graph.operands(base)[0]
            if self.graph[base].op is not euler or self.graph[exponent].type != self.graph[v].type:
                return None
            self.fired["exp"] += 1
            return self.builder.add(exp, [self.where[exponent]])
        self.fired["power"] += 1
        positive = self.positive_power(base, abs(e))
        return positive if e > 0 else self.builder.add(reciprocal, [positive])

    def positive_power(self, base: int, e: Fraction) -> int:
        """`base**e` for a positive integer or half-integer."""
        whole, half = divmod(e, 1)
        factors = [self.integer_power(base, int(whole))] if whole else []
        if half:
            factors.append(self.builder.add(sqrt, [self.where[base]]))
        return factors[0] if len(factors) == 1 else self.builder.add(mul, factors)

    def integer_power(self, base: int, n: int) -> int:
        """`base**n` from powers that are needed anyway where two of them multiply to it, else by squaring."""
        if n == 1:
            return self.where[base]
        made = self.powers.get((base, n))
        if made is None:
            needed = {1, *self.needed[base]}
            halves = [a for a in needed if a < n and n - a in needed and 2 * a >= n]
            a = min(halves) if halves else n // 2 if n % 2 == 0 else n - 1
            if 2 * a == n:
                made = self.builder.add(square, [self.integer_power(base, a)])
            else:
                made = self.builder.add(mul, [self.integer_power(base, a), self.integer_power(base, n - a)])
            self.powers[base, n] = made
        return made

    # Products

    def product(self, v: int) -> int | None:
        """`c * a * b / d`: one coefficient, one division, small tensors first."""
        coefficient, fixed, numerator, denominator = self.factors(v)
        if self.exact:
            return self.exact_product(v, coefficient, numerator)
        if coefficient > 0 or fixed:
            return self.quotient(v, coefficient, fixed, numerator, denominator)
        if (coefficient == -1 and numerator) or self.subtracted[v]:
            self.magnitudes[v] = self.quotient(v, -coefficient, fixed, numerator, denominator)
            return None if self.subtracted[v] else self.builder.add(neg, [self.magnitudes[v]])
        return self.quotient(v, coefficient, fixed, numerator, denominator)

    def factors(self, v: int) -> tuple[Fraction, list[int], list[int], list[int]]:
        """Coefficient, other constants, numerator and denominator; the lists hold nodes of the new graph."""
        coefficient = Fraction(1)
        fixed: list[int] = []
        numerator: list[int] = []
        denominator: list[int] = []
        for u, copies in Counter(self.graph.operands(v)).items():
            number = constant_value(self.graph, u)
            if isinstance(number, Fraction) and number != 0:
                coefficient *= number**copies
            elif u in self.constants:
                fixed += [self.where[u]] * copies
            elif copies > 1:
                same = not self.exact and copies <= LARGEST_POWER
                numerator += [self.integer_power(u, copies)] if same else [self.where[u]] * copies
            else:
                below = None if self.exact else self.inverse(u)
                if below is None:
                    numerator.append(self.where[u])
                else:
                    denominator.append(below)
        return coefficient, fixed, numerator, denominator

    def inverse(self, v: int) -> int | None:
        """The node for 1/v where `v` is a negative power, new axes of length 1 or not; else None."""
        axes = []
        while self.graph[v].op is expand:
            axes.append(self.graph[v].attributes["axis"])
            (v,) = self.graph.operands(v)
        e = self.exponent(v) if self.graph[v].op is pow_ and v not in self.constants else None
        if e is None or e > 0:
            return None
        made = self.positive_power(self.graph.operands(v)[0], -e)
        for axis in reversed(axes):
            made = self.builder.add(expand, [made], {"axis": axis})
        return made

    def exact_product(self, v: int, coefficient: Fraction, numerator: list[int]) -> int | None:
        operands = self.graph.operands(v)
        if len(operands) == 2 and operands[0] == operands[1] and self.graph[operands[0]].type == self.graph[v].type:
            return self.builder.add(square, [self.where[operands[0]]])
        if len(operands) == 2 and coefficient == -1 and len(numerator) == 1:
            self.magnitudes[v] = numerator[0]
            return self.builder.add(neg, numerator)
        return None

    def quotient(self, v: int, c: Fraction, fixed: list[int], numerator: list[int], denominator: list[int]) -> int:
        """The node for c * fixed * numerator / denominator."""
        p, q = abs(c.numerator), c.denominator
        numerator, denominator = list(numerator), list(denominator)
        if fixed:
            fixed = fixed if c == 1 else [self.number(c, v), *fixed]
            numerator.append(self.group(mul, fixed))
        elif p == 1 and q & (q - 1) and numerator:  # x/3 rounds once, x*(1/3) twice
            denominator.append(self.number(q if c > 0 else -q, v))
        elif c != 1 and (c != -1 or not numerator):
            numerator.append(self.number(c, v))
        elif c == -1:
            return self.builder.add(neg, [self.quotient(v, Fraction(1), [], numerator, denominator)])
        if not denominator:
            return self.group(mul, numerator)
        self.fired["division"] += 1
        full = self.graph[v].type.shape
        small, large = self.by_size(numerator, full)
        small_below, large_below = self.by_size(denominator, full)
        if large and small and small_below:  # A*(s/t): one large product
            self.fired["small operands first"] += 1
            ratio = self.narrow(div, [self.group(mul, small), self.group(mul, small_below)])
            numerator, denominator = [*large, ratio], large_below
            if not denominator:
                return self.group(mul, numerator)
        below = self.group(mul, denominator)
        if not numerator:
            return self.builder.add(reciprocal, [below])
        return self.narrow(div, [self.group(mul, numerator), below])

    # Sums

    def new_axis(self, v: int) -> int | None:
        """An axis on what is subtracted in the end: the sign stays outside."""
        (u,) = self.graph.operands(v)
        if u in self.magnitudes:
            self.magnitudes[v] = self.builder.add(expand, [self.magnitudes[u]], self.graph[v].attributes)
        return None

    def transposed(self, v: int) -> int | None:
        """An einsum that is only used transposed gives its axes in that order: no copy."""
        (u,) = self.graph.operands(v)
        node, axes = self.graph[u], self.graph[v].attributes["axes"]
        if self.exact or node.op is not einsum or self.uses[u] > 1:
            return None
        inputs, output = node.attributes["inputs"], node.attributes["output"]
        operands = [self.where[w] for w in self.graph.operands(u)]
        letters = output[: len(output) - len(axes)] + "".join(output[a] for a in axes)
        if len(inputs) == 2:  # TensorFlow multiplies without copies where the first operand's letters come first
            first = next((k for c in letters for k in (0, 1) if c in inputs[k] and c not in inputs[1 - k]), 0)
            if first == 1:
                inputs, operands = inputs[::-1], operands[::-1]
        self.fired["einsum in the order of its use"] += 1
        return self.builder.add(einsum, operands, {"inputs": inputs, "output": letters}, origin=node.origin)

    def sum(self, v: int) -> int | None:
        """`(a + b) - (c + d)`, small tensors first."""
        plus: list[int] = []
        minus: list[int] = []
        fixed: list[int] = []
        negative: Fraction | None = None
        operands = self.graph.operands(v)
        for u in operands:
            number = constant_value(self.graph, u)
            if u in self.magnitudes:
                minus.append(self.magnitudes[u])
            elif u not in self.constants:
                plus.append(self.where[u])
            elif isinstance(number, Fraction) and number < 0 and negative is None:
                negative = number
            else:
                fixed.append(self.where[u])
        if self.exact and (len(operands) != 2 or len(minus) != 1):
            return None
        if negative is not None and plus and not fixed:
            minus.append(self.number(-negative, v))
        elif negative is not None:
            fixed.append(self.number(negative, v))
        if fixed:
            plus.append(self.group(add, fixed))
        if not minus:
            return None if self.exact else self.group(add, plus)
        self.fired["subtraction"] += 1
        if not plus:
            return self.builder.add(neg, [self.group(add, minus)])
        full = self.graph[v].type.shape
        small, large = self.by_size(plus, full)
        small_below, large_below = self.by_size(minus, full)
        if small and small_below and (large or large_below):  # A + (s - t): one large sum
            self.fired["small operands first"] += 1
            plus = [*large, self.narrow(sub, [self.group(add, small), self.group(add, small_below)])]
            minus = large_below
            if not minus:
                return self.group(add, plus)
        return self.narrow(sub, [self.group(add, plus), self.group(add, minus)])

    # Operands

    def number(self, value: Fraction | int, v: int) -> int:
        """A constant of the kind and the rank of `v`."""
        type_ = self.graph[v].type
        return with_rank(constant(self.builder, value, type_.kind), type_.rank).id

    def by_size(self, operands: Sequence[int], full: tuple[Size, ...]) -> tuple[list[int], list[int]]:
        """Those that have fewer elements than the result, and those of its full core shape."""
        shapes = [self.builder.nodes[u].type.shape for u in operands]
        small = [u for u, shape in zip(operands, shapes, strict=True) if shape != full]
        return small, [u for u, shape in zip(operands, shapes, strict=True) if shape == full]

    def group(self, op: Op, operands: Sequence[int]) -> int:
        """`op` of all operands, those of equal core shape first, and at the lowest rank that holds them."""
        groups: defaultdict[tuple[Size, ...], list[int]] = defaultdict(list)
        for u in operands:
            groups[self.builder.nodes[u].type.shape].append(u)
        if len(groups) == 1:
            return self.narrow(op, operands)
        full = broadcast_shapes(groups)
        top = groups.pop(full, [])
        if any(len(same) > 1 for same in groups.values()):
            self.fired["small operands first"] += 1
        return self.builder.add(op, [*top, *(self.narrow(op, same) for same in groups.values())])

    def narrow(self, op: Op, operands: Sequence[int]) -> int:
        """`op` of operands, taken before the axes of length 1 that all of them were given."""
        if len(operands) == 1:
            return operands[0]
        axes = []
        nodes = [self.builder.nodes[u] for u in operands]
        while all(n.op is expand and n.attributes["axis"] == nodes[0].attributes["axis"] for n in nodes):
            axes.append(nodes[0].attributes["axis"])
            operands = [self.builder.operands[u][0] for u in operands]
            nodes = [self.builder.nodes[u] for u in operands]
        made = self.builder.add(op, operands)
        for axis in reversed(axes):
            made = self.builder.add(expand, [made], {"axis": axis})
        return made


_CHOICES: dict[Op, Callable[[_Chooser, int], int | None]] = {
    add: _Chooser.sum,
    mul: _Chooser.product,
    pow_: _Chooser.power,
    expand: _Chooser.new_axis,
    transpose: _Chooser.transposed,
}
