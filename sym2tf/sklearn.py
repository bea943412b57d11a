"""An expression as a scikit-learn estimator: `from sym2tf.sklearn import ExpressionRegressor`.

Imported by users who have scikit-learn, never by sym2tf itself: its base classes must be there when the class is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from sym2tf.errors import ArgumentError, DataError
from sym2tf.fit.api import fit
from sym2tf.frontend.lower import lower

Array = np.ndarray[Any, Any]

_NESTED = ("start", "constants")  # dictionaries whose entries are parameters of the estimator, as start__a


class Entries(dict[Any, Any]):
    """A dictionary by symbol: scikit-learn sorts the keys of a plain one to print it, and symbols have no order."""

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{key}: {value!r}" for key, value in self.items()) + "}"


class ExpressionRegressor(RegressorMixin, BaseEstimator):
    """Least squares, or any other cost, with a formula for the model.

    Parameters are found by `sym2tf.fit`; everything that it reports is in `result_`.

    Args:
        model: an expression in the features and the parameters; or `Eq(y, model)`; or, with `target`, a cost.
        features: the symbols of the columns of X in their order, or one base (`IndexedBase`, `MatrixSymbol`) that takes
            X as a whole. By default the columns of a DataFrame have the names of the symbols.
        target: the symbol or base of what is observed, where `model` is a cost.
        start: parameters to start values or `Parameter`s, or the parameters alone; by default every symbol that is
            neither feature nor constant.
        constants: symbols of the model to numbers, such as the weight of a penalty.
        loss, method, max_iterations, seed: as of `sym2tf.fit`.

    Entries of `start` and `constants` are parameters of the estimator, as in
    `GridSearchCV(regressor, {"constants__penalty": [0, 1]})`.

    Attributes:
        result_: the `FitResult`.
        n_features_in_, feature_names_in_: as of every estimator.
        n_iter_: iterations of the solver.

    Example:
        >>> a, b, x = sp.symbols("a b x")
        >>> ExpressionRegressor(a * sp.exp(-b * x), features=[x], start={a: 1, b: 1}).fit(X, y).predict(X)
    """

    def __init__(
        self,
        model: Any,
        *,
        features: Any = None,
        target: Any = None,
        start: Any = None,
        constants: Any = None,
        loss: Any = None,
        method: Any = None,
        max_iterations: int = 1000,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.features = features
        self.target = target
        self.start = _entries(start)
        self.constants = _entries(constants)
        self.loss = loss
        self.method = method
        self.max_iterations = max_iterations
        self.seed = seed

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor; `deep` adds the entries of `start` and `constants`, as `start__a`."""
        found: dict[str, Any] = super().get_params(deep=deep)
        if deep:
            for group in _NESTED:
                entries = found[group]
                if isinstance(entries, Mapping):
                    found |= {f"{group}__{key}": value for key, value in entries.items()}
        return found

    def set_params(self, **params: Any) -> ExpressionRegressor:
        """Change arguments of the constructor, or entries of `start` and `constants` by `start__a=2`."""
        own = {k: v for k, v in params.items() if k.partition("__")[0] not in _NESTED or "__" not in k}
        super().set_params(**own)
        for group in _NESTED:
            changed = {k.partition("__")[2]: v for k, v in params.items() if k.startswith(f"{group}__")}
            if changed:
                setattr(self, group, _changed(group, getattr(self, group), changed))
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ExpressionRegressor:
        """Estimate the parameters.

        Args:
            X: (rows, features).
            y: (rows,).
            sample_weight: (rows,), 1/sigma^2 up to a factor; 0 leaves a row out.

        Raises:
            ArgumentError, DataError, FitError: as `sym2tf.fit`.
        """
        X, y = validate_data(self, X, y, y_numeric=True, dtype=np.float64)
        cost, target = self._statement()
        data = self._data(X, cost)
        data[target] = y[:, None] if isinstance(target, sp.MatrixSymbol) else y
        if sample_weight is not None:
            if not isinstance(cost, sp.Eq):
                raise ArgumentError("sample_weight needs a model; a cost says itself how its terms are weighted")
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
            if isinstance(target, sp.MatrixSymbol):
                sample_weight = sample_weight[:, None]
        constants = dict(self.constants or {})
        known = {str(k) for k in data} | {str(k) for k in constants}
        start = self.start if self.start is not None else [s for s in _inputs(cost) if str(s) not in known]
        options = {"loss": self.loss, "method": self.method, "max_iterations": self.max_iterations, "seed": self.seed}
        self.result_: Any = fit(cost, {**data, **constants}, start, weights=sample_weight, **options)
        self.n_iter_ = self.result_.iterations
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The model at X, (rows,); with `return_std` also its standard errors.

        Raises:
            FitError: there are no standard errors, or no model can be told from the cost.
        """
        check_is_fitted(self, "result_")
        X = validate_data(self, X, reset=False, dtype=np.float64)
        cost, _ = self._statement()
        data = self._data(X, cost)
        if not return_std:
            return _rows(self.result_.predict(data), len(X))
        found = self.result_.predict(data, interval="confidence")
        return _rows(found.value, len(X)), _rows(found.stderr, len(X))

    def _statement(self) -> tuple[Any, Any]:
        """What is fitted, and the symbol of what is observed."""
        if isinstance(self.model, sp.Eq):
            if self.target is not None:
                raise ArgumentError("an equation says itself what is observed: leave target out")
            return self.model, _base(self.model.lhs)
        try:
            model = sp.sympify(self.model, strict=True)
        except sp.SympifyError as error:
            raise ArgumentError(f"model is an expression or an equation, got {self.model!r}") from error
        if self.target is not None:
            return model, self.target
        if getattr(model, "is_Matrix", False):
            observed = sp.MatrixSymbol("y_observed", *model.shape)
            return sp.Eq(observed, model), observed
        free = sorted(_subscripts(model), key=str)
        if free:
            base = sp.IndexedBase("y_observed")
            return sp.Eq(base[tuple(free)], model), base
        observed_symbol = sp.Symbol("y_observed")
        return sp.Eq(observed_symbol, model), observed_symbol

    def _data(self, X: Array, cost: Any) -> dict[Any, Array]:
        """The columns of X by symbol."""
        features = self.features
        if features is None:
            names = getattr(self, "feature_names_in_", None)
            if names is None:
                raise ArgumentError("features are missing: the symbols of the columns of X, in their order")
            by_name = {str(s): s for s in _inputs(cost)}
            strange = [n for n in names if n not in by_name]
            if strange:
                raise ArgumentError(f"the model has no {strange[0]}; it has {', '.join(sorted(by_name))}")
            features = [by_name[n] for n in names]
        if isinstance(features, sp.Basic | str) or not isinstance(features, Sequence):
            return {features: X}
        if len(features) != X.shape[1]:
            raise DataError(
                f"X has {X.shape[1]} features, but {len(features)} are named: {', '.join(map(str, features))}"
            )
        return dict(zip(features, X.T, strict=True))


def _entries(given: Any) -> Any:
    return Entries(given) if type(given) is dict else given


def _changed(group: str, entries: Any, changed: Mapping[str, Any]) -> dict[Any, Any]:
    """A dictionary with other values for some of its keys, which are given by name."""
    if not isinstance(entries, Mapping):
        raise ArgumentError(f"{group} is no dictionary, so {group}__{next(iter(changed))} means nothing")
    by_name = {str(key): key for key in entries}
    unknown = [name for name in changed if name not in by_name]
    if unknown:
        raise ValueError(f"{group} has no {unknown[0]!r}; it has {', '.join(by_name)}")
    return Entries({**entries, **{by_name[name]: value for name, value in changed.items()}})


def _base(observed: Any) -> Any:
    return observed.base if isinstance(observed, sp.Indexed) else observed


def _inputs(cost: Any) -> list[Any]:
    """The symbols and bases that a formula needs values for."""
    graph = lower((cost.lhs, cost.rhs) if isinstance(cost, sp.Eq) else cost)
    return [graph[v].attributes["symbol"] for v in graph.inputs]


def _subscripts(model: Any) -> set[Any]:
    """The indices that no sum binds."""
    bound = {limit[0] for total in model.atoms(sp.Sum, sp.Product) for limit in total.limits}
    return {s for e in model.atoms(sp.Indexed) for k in e.indices for s in k.free_symbols} - bound


def _rows(values: Any, count: int) -> Array:
    """One number for each row, also of a model that is constant or a column."""
    flat = np.asarray(values, dtype=np.float64)
    return np.broadcast_to(flat, (count,)).copy() if flat.size == 1 else flat.reshape(count)
