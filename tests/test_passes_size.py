"""Large graphs: 100 000 operations, 100 000 deep or 60 000 wide, go through every pass without recursion."""

from __future__ import annotations

from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import REAL
from sym2tf.ops.arithmetic import add
from sym2tf.ops.elementary import cos, sin
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value
from sym2tf.passes.counting import operation_count
from sym2tf.passes.pipeline import optimize
from sym2tf.passes.sharing import share


def inputs(builder: Builder, count: int) -> list[Value]:
    return [Value(builder, builder.add(input_, (), {"name": f"x{k}", "symbol": k, "type": REAL})) for k in range(count)]


def chain(levels: int) -> Graph:
    """Four nodes a level: v -> sin(v)*cos(v) - x."""
    builder = Builder()
    (x,) = inputs(builder, 1)
    v = x
    for _ in range(levels):
        v = sin(v) * cos(v) - x
    return builder.build([x.id], {"out": v.id})


def test_100_000_nodes_in_a_chain_go_through_all_passes() -> None:
    before = chain(25_000)
    after, report = optimize(before)
    assert operation_count(after) == 100_000
    assert report.records[-1].nodes_after == len(after)
    assert report.fired["subtraction"] == 25_000


def test_sharing_in_chains_of_sums_goes_100_000_deep() -> None:
    builder = Builder()
    x, y = inputs(builder, 2)
    total, outputs = x, {}
    for _ in range(100_000):
        total = add(total, y)
    outputs["out"] = total.id
    after, fired = share(builder.build([x.id, y.id], outputs))
    assert fired["flatten"] == 99_999
    assert after.counts()["add"] == 1


def test_sums_of_50_000_terms_that_overlap_are_shared() -> None:
    builder = Builder()
    xs = inputs(builder, 60_000)
    first, second, third = add(*xs[:50_000]), add(*xs[10_000:]), add(*xs[::2])
    before = builder.build([x.id for x in xs], {"a": first.id, "b": second.id, "c": third.id})
    after, _ = share(before)
    assert operation_count(before) == 49_999 + 49_999 + 29_999
    assert operation_count(after) <= 60_001
