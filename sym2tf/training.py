"""A loss and an optimiser as one compiled function: loss, gradient and updates share one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sym2tf.autodiff import derivatives
from sym2tf.compiled import CompiledFunction
from sym2tf.errors import ArgumentError, DataError
from sym2tf.frontend.describe import describe
from sym2tf.frontend.lower import lower
from sym2tf.ir.graph import Builder, Graph
from sym2tf.ir.types import Kind, TensorType
from sym2tf.ops.leaves import input_
from sym2tf.ops.values import Value, with_shape
from sym2tf.optimizers import Optimizer, gradient, parameter, t
from sym2tf.passes.inlining import inline
from sym2tf.passes.pipeline import Level, stabilize
from sym2tf.trees import leaves
from sym2tf.wrt import input_name, resolve

Values = Mapping[Any, Any]  # by symbol or name
State = Mapping[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class TrainingStep:
    """One step of an optimiser: `step(params, state, data) -> (params, state, loss)`.

    Attributes:
        function: the compiled function behind it, with `graph`, `source`, `report` and `render`.
        optimizer: the rule.
        params: the parameters, as they were given.
        names: what they are called.
    """

    function: CompiledFunction
    optimizer: Optimizer
    params: tuple[Any, ...]
    names: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<sym2tf training step: {self.function.title}; trains {', '.join(self.names)}, {self.function.dtype}>"

    def initial_state(self, params: Values) -> dict[str, Any]:
        """What the optimiser keeps, as it is before the first step.

        Args:
            params: a number or an array for each parameter; the slots get their shapes.

        Returns:
            `"t"`, the number of finished steps, and for each slot its name, with an array for each key of `params`.
        """
        shapes = {p: np.shape(params[p]) for p in self._named(params).values()}
        starts = {str(slot): self.optimizer.initial.get(slot, 0.0) for slot in self.optimizer.slots}
        return {"t": 0.0, **{s: {p: np.full(d, x) for p, d in shapes.items()} for s, x in starts.items()}}

    def __call__(self, params: Values, state: State, data: Values | None = None, **named: Any) -> tuple[Any, Any, Any]:
        """The parameters and the state after one step, and the loss before it.

        Args:
            params: a value for each parameter, by symbol or name; the answer has the same keys. Inside a `tf.function`
                take names, because TensorFlow sorts keys.
            state: as `initial_state` or the step before gave it.
            data: the other arguments by symbol or name, hyperparameters that are symbols included.
            named: the same by name; sizes too.

        Raises:
            ArgumentError: parameters, slots or arguments that are missing or unknown.
            ShapeError, SizeError, DtypeError: values that do not fit.
        """
        slots = [str(slot) for slot in self.optimizer.slots]
        if set(state) != {"t", *slots}:
            raise ArgumentError(f"the state of {self.optimizer.name} has t, {', '.join(slots)}; got {', '.join(state)}")
        kept = {s: _renamed(state[s], self._named(state[s])) for s in slots}
        keys = self._named(params)
        given = _renamed(params, keys)
        new, kept, loss = self.function(given, {"t": state["t"], **kept}, **self._arguments(data or {}, named))
        back = {key: name for name, key in keys.items()}
        return _renamed(new, back), {"t": kept["t"], **{s: _renamed(kept[s], back) for s in slots}}, loss

    def _arguments(self, data: Values, named: Mapping[str, Any]) -> dict[str, Any]:
        """Data by symbol or name as keywords."""
        nodes = [self.function.lowered[v] for v in self.function.lowered.inputs]
        names = {node.attributes["symbol"]: input_name(node) for node in nodes}
        found = {key if isinstance(key, str) else names.get(key, str(key)): value for key, value in data.items()}
        repeated = [name for name in named if name in found]
        if repeated or len(found) < len(data):
            raise ArgumentError(f"{self.function.name} got an argument twice: {', '.join(repeated or found)}")
        return found | dict(named)

    def _named(self, values: Values) -> dict[str, Any]:
        """The key of each parameter in `values`, by its name."""
        found = {n: p if p in values else n for p, n in zip(self.params, self.names, strict=True)}
        missing = [n for n, key in found.items() if key not in values]
        if missing or len(values) != len(found):
            got = f"missing: {', '.join(missing)}" if missing else f"got {', '.join(map(str, values))}"
            raise ArgumentError(f"the parameters are {', '.join(self.names)}; {got}")
        return found


def _renamed(values: Values, keys: Mapping[Any, Any]) -> dict[Any, Any]:
    """The values under new keys; `keys` are the old ones by the new ones."""
    return {new: values[old] for new, old in keys.items()}


def training_step(
    loss: Any,
    params: Sequence[Any],
    optimizer: Optimizer,
    *,
    dtype: Any = "float64",
    jit: bool = False,
    level: Level = "stable",
    name: str = "step",
    assume: Any = (),
) -> TrainingStep:
    """Compiles a loss, its gradient and the updates of an optimiser into one function.

    Args:
        loss: a scalar expression.
        params: the inputs to train: symbols, indexed bases, matrix symbols, or names of these.
        optimizer: from `sym2tf.optimizers`, or a record of your own. Its symbols that are neither slots nor inputs of
            the loss become arguments.
        dtype: as for `compile`.
        jit: as for `compile`.
        level: as for `compile`.
        name: of the generated function.
        assume: as for `compile`; `sym2tf.OneHot(T)` says that targets are one-hot, for instance.

    Raises:
        UnsupportedExpressionError: the loss cannot be lowered.
        DifferentiationError: the loss is not scalar or has no derivative.
        ArgumentError: `params` names what is no input, or an input twice, or nothing; `optimizer` is none.

    Example:
        >>> step = training_step(loss, [W, b], optimizers.adam(0.01))
        >>> params = {W: w0, b: b0}
        >>> state = step.initial_state(params)
        >>> params, state, value = step(params, state, {X: xs, Y: ys})
    """
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"{optimizer!r} is no optimiser: use one of sym2tf.optimizers, such as adam(0.01)")
    lowered = lower(loss, assume=assume)
    params = (
        tuple(leaves(params)) if isinstance(params, Sequence | Mapping) and not isinstance(params, str) else (params,)
    )
    found, _ = resolve(params, lowered, tuple(leaves(lowered.info["args"])), "the loss")
    if not found:
        raise ArgumentError("there is nothing to train: params is empty")
    if any(subscripts for _, subscripts in found):
        raise ArgumentError("params are whole inputs: train the base, not one of its elements")
    places = [lowered.inputs.index(v) for v, _ in found]
    smooth = stabilize(lowered, level=level)
    both = derivatives.gradient(smooth, [smooth.inputs[k] for k in places], values=True)
    graph, names = _with_updates(both, places, optimizer)
    function = CompiledFunction(
        graph,
        dtype=dtype,
        jit=jit,
        level=level,
        name=name,
        title=f"one step of {optimizer.name} on {describe(loss, 80)}",
    )
    symbols = tuple(both[both.inputs[k]].attributes["symbol"] for k in places)
    return TrainingStep(function, optimizer, symbols, names)


def _with_updates(both: Graph, places: Sequence[int], optimizer: Optimizer) -> tuple[Graph, tuple[str, ...]]:
    """The graph of the step, from that of loss and gradient, and the names of the parameters.

    Inputs are the parameters, `t`, the slots of each parameter, and the data; outputs the new parameters, `t` and
    slots, and the loss.
    """
    builder = Builder()
    where = builder.include(both)
    builder.stage = "update"
    taken = {both[v].attributes["name"] for v in both.inputs}
    known = {both[v].attributes["symbol"]: Value(builder, where[v]) for v in both.inputs}
    slots, hyper = tuple(optimizer.slots), optimizer.hyperparameters
    rule = lower([optimizer.update, *optimizer.slots.values()], args=[parameter, gradient, t, *slots, *hyper])

    def new_input(wish: str, symbol: Any, shape: tuple[Any, ...] = ()) -> Value:
        name = wish
        while name in taken:
            name += "_"
        taken.add(name)
        attributes = {"name": name, "symbol": symbol, "type": TensorType(Kind.REAL, shape)}
        return Value(builder, builder.add(input_, (), attributes))

    time = new_input("t", None)
    constants = [known[h] if h in known else new_input(str(h), h) for h in hyper]
    loss = next(name for name in both.outputs if not name.startswith("d/"))
    outputs = {loss: where[both.outputs[loss]], "t": (time + 1).id}
    names, inputs = [], [where[v] for v in both.inputs]
    kept: dict[str, dict[str, tuple[str, str]]] = {str(s): {} for s in slots}
    news: dict[str, str] = {}
    for k, place in enumerate(places):
        value = Value(builder, where[both.inputs[place]])
        called: str = value.node.attributes["name"]
        slope = Value(builder, where[both.outputs[f"d/{derivatives.name_of(loss, k)}"]])
        own = [new_input(f"{called}_{s}", None, value.shape) for s in slots]
        given = dict(zip(rule.inputs, [value, slope, time, *own, *constants], strict=True))
        updated = [with_shape(u, value.shape) for u in inline(builder, rule, given).values()]
        names.append(called)
        inputs += [s.id for s in own]
        news[called] = f"new {called}"
        outputs[news[called]] = updated[0].id
        for slot, old, new in zip(slots, own, updated[1:], strict=True):
            label = f"new {old.node.attributes['name']}"
            kept[str(slot)][called] = (old.node.attributes["name"], label)
            outputs[label] = new.id
    inputs += [time.id, *(c.id for h, c in zip(hyper, constants, strict=True) if h not in known)]
    data = [n for n in leaves(both.info["args"]) if n not in names]
    data += [c.node.attributes["name"] for h, c in zip(hyper, constants, strict=True) if h not in known]
    before = {s: {p: old for p, (old, _) in pair.items()} for s, pair in kept.items()}
    after = {s: {p: new for p, (_, new) in pair.items()} for s, pair in kept.items()}
    info = {
        **both.info,
        "args": ({n: n for n in names}, {"t": time.node.attributes["name"], **before}, *data),
        "outputs": (news, {"t": "t", **after}, loss),
    }
    return builder.build(inputs, outputs, info), tuple(names)


@dataclass(frozen=True, eq=False, repr=False)
class Training:
    """What `train` made.

    Attributes:
        params: the parameters as NumPy arrays, by symbol.
        state: of the optimiser, to go on from.
        losses: of each mini-batch before its step, in order.
        epochs: the mean of these in each epoch.
    """

    params: dict[Any, Any]
    state: dict[str, Any]
    losses: Any
    epochs: Any

    def __repr__(self) -> str:
        first, last = self.epochs[0], self.epochs[-1]
        return f"<sym2tf training: {len(self.losses)} steps, {len(self.epochs)} epochs, loss {first:.6g} to {last:.6g}>"


def train(
    step: TrainingStep,
    params: Values,
    data: Values,
    *,
    epochs: int = 1,
    batch_size: int | None = None,
    seed: int = 0,
    state: State | None = None,
    fixed: Values | None = None,
    drawn: Mapping[Any, Callable[[np.random.Generator, int], Any]] | None = None,
) -> Training:
    """Steps over mini-batches of arrays.

    Args:
        step: from `training_step`.
        params: where to start, by symbol or name.
        data: arrays by symbol or name, whose first axis is the observations.
        epochs: how often all of the data are gone through.
        batch_size: observations in a step, fewer in the last one; by default all, in their order.
        seed: of the shuffling, which is new in each epoch, and of `drawn`.
        state: of the optimiser; by default as before the first step.
        fixed: other arguments, the same in every step.
        drawn: arguments that are new in each step, such as dropout masks: `function(generator, observations)`.

    Raises:
        DataError: no data, or arrays of different lengths.
        ArgumentError: as the step; epochs or a batch size below 1.
    """
    arrays = {key: np.asarray(value) for key, value in data.items()}
    lengths = {key: len(a) if a.ndim else 0 for key, a in arrays.items()}
    if not arrays or len(set(lengths.values())) > 1 or not min(lengths.values()):
        listed = ", ".join(f"{key} has {n}" for key, n in lengths.items()) or "there are none"
        raise DataError(f"data must be arrays of as many observations each: {listed}")
    (count,) = set(lengths.values())
    if epochs < 1 or (batch_size is not None and batch_size < 1):
        raise ArgumentError(f"epochs and batch_size are at least 1, got {epochs} and {batch_size}")
    generator = np.random.default_rng(seed)
    kept: State = step.initial_state(params) if state is None else state
    losses: list[list[Any]] = []
    for _ in range(epochs):
        losses.append([])
        for rows in _batches(generator, count, batch_size):
            batch = {key: a[rows] for key, a in arrays.items()} if batch_size else arrays
            masks = {key: draw(generator, len(rows)) for key, draw in (drawn or {}).items()}
            params, kept, loss = step(params, kept, {**batch, **(fixed or {}), **masks})
            losses[-1].append(loss)
    values = [np.array([float(x) for x in of_epoch]) for of_epoch in losses]
    return Training(
        {key: np.asarray(value) for key, value in params.items()},
        dict(kept),
        np.concatenate(values),
        np.array([v.mean() for v in values]),
    )


def _batches(generator: np.random.Generator, count: int, size: int | None) -> Iterator[Any]:
    """The rows of each mini-batch of one epoch."""
    order = np.arange(count) if size is None else generator.permutation(count)
    step = size or count
    yield from (order[k : k + step] for k in range(0, count, step))
