"""What a fit returns: estimates with their uncertainty, how they were found, and what to do with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from sym2tf.errors import ArgumentError, FitError
from sym2tf.fit.evaluation.norms import length_of
from sym2tf.fit.inference import intervals, quality
from sym2tf.fit.inference.bootstrap import Bootstrap
from sym2tf.fit.inference.estimates import ByParameter, Tied, by_parameter, tied_estimates
from sym2tf.fit.inference.formula import fitted
from sym2tf.fit.inference.influence import Influence, influence_of, leverage_of
from sym2tf.fit.inference.intervals import Intervals, frame, require_level
from sym2tf.fit.inference.least_squares import Inference, Linearisation, count_held, linearised_again
from sym2tf.fit.inference.prediction import band, predict
from sym2tf.fit.inference.robust import robust_inference
from sym2tf.fit.inference.uncertainty import Fitted, profiles, resample
from sym2tf.fit.options import Options
from sym2tf.fit.process.monitor import Step
from sym2tf.fit.report import diagnostics, persistence, plotting, surface, tables
from sym2tf.fit.solvers.solution import Minimum, Solution
from sym2tf.fit.statement.classify import Class, Model, Structure
from sym2tf.fit.statement.problem import Problem

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, repr=False, eq=False)
class FitResult:
    """A fit.

    Numbers that do not exist are None, and `stderr_reason` (for all that follows from standard errors),
    `residuals_reason`, `r_squared_reason`, `log_likelihood_reason` (for AIC too) and `bic_reason` say why.

    Attributes:
        params, stderr, t_values, p_values: by symbol or name, arrays for indexed bases and matrices; fixed parameters
            have standard errors of 0, and tied ones those of the delta method.
        names: the free parameters, element by element: the order of `covariance` and of everything flat.
        covariance, correlation: (p, p).
        estimates, standard_errors: (p,), flat.
        tied: the parameters that are expressions in others.
        residuals, observed: observed - model, and observed, in the shape of the data.
        observations, degrees_of_freedom: how many observations there are, and how many more than parameters.
        residual_std: the residual standard deviation, in units of the observations (of sigma, where that is stated).
        leverage, influence: of every row.
        r_squared, adj_r_squared, log_likelihood, aic, bic: how well the model describes the data.
        cost, gradient_norm: at the estimates.
        success, message: whether and how the solver converged.
        iterations, evaluations: what it took.
        solver: its name with the reason for it.
        problem: the class of the problem.
        condition: ratio of extreme singular values (least squares) or eigenvalues (others), columns scaled to length 1.
        at_bounds: the parameters that stand at a bound.
        history: the steps of the solver.
        compile_seconds, run_seconds: for setting up, and for solving.
        model, no_model: the graphs of the model of an equation; why there is none.
        statement, structure, solution, inference, options: what all this comes from: the problem, its class, where the
            solver ended, what the minimum says, and the options of `fit`.
    """

    statement: Problem = field(repr=False)
    structure: Structure = field(repr=False)
    solution: Solution = field(repr=False)
    inference: Inference = field(repr=False)
    options: Options = field(repr=False)
    cost: float
    history: tuple[Step, ...]
    compile_seconds: float
    run_seconds: float

    @cached_property
    def tied(self) -> tuple[Tied, ...]:
        """The parameters that are expressions in others, with standard errors by the delta method."""
        return tied_estimates(self.statement, self.solution.theta, self.inference.covariance)

    @cached_property
    def params(self) -> ByParameter:
        return by_parameter(self.statement, self.solution.theta, {t.name: t.value for t in self.tied})

    @cached_property
    def stderr(self) -> ByParameter | None:
        errors = self.inference.stderr
        if errors is None:
            return None
        tied = {t.name: t.stderr for t in self.tied if t.stderr is not None}
        return by_parameter(self.statement, errors, tied, fixed=0.0)

    @property
    def stderr_reason(self) -> str:
        return self.inference.no_stderr

    @property
    def names(self) -> tuple[str, ...]:
        return self.statement.names

    @property
    def estimated(self) -> int:
        """How many parameters were estimated: those free, less the constraints that hold with equality."""
        return len(self.names) - count_held(self.solution.active)

    @property
    def estimates(self) -> Array:
        return self.solution.theta

    @property
    def standard_errors(self) -> Array | None:
        return self.inference.stderr

    @property
    def covariance(self) -> Array | None:
        return self.inference.covariance

    @cached_property
    def correlation(self) -> Array | None:
        return intervals.correlation(self.inference)

    @cached_property
    def t_values(self) -> ByParameter | None:
        """Estimates over standard errors: Student's t, or z where the variance is known and for likelihoods."""
        return self._judged(intervals.ratios)

    @cached_property
    def p_values(self) -> ByParameter | None:
        """The probability of a ratio as far from 0 if the parameter is 0 (two-sided)."""
        return self._judged(intervals.p_values)

    def _judged(self, judge: Callable[[Array, Array, Inference], Array]) -> ByParameter | None:
        inference = self.inference
        if inference.stderr is None:
            return None
        tied = {t.name: judge(t.value, t.stderr, inference) for t in self.tied if t.stderr is not None}
        return by_parameter(self.statement, judge(self.estimates, inference.stderr, inference), tied, fixed=np.nan)

    @cached_property
    def linearisation(self) -> Linearisation | None:
        """Residuals and Jacobian at the estimates; None where the cost is no sum of squares."""
        return self.inference.at or linearised_again(self.statement, self.structure, self.solution)

    @property
    def _kept(self) -> Linearisation | None:
        """The same, unless a solver that kept no rows has said all that there is to say about them."""
        return None if self.solution.sums is not None else self.linearisation

    @cached_property
    def _shown(self) -> tuple[Array | None, Array | None]:
        return quality.shown_residuals(self.statement, self.structure, self.estimates, self._kept)

    @property
    def residuals(self) -> Any:
        """Observed - model in the shape of the data; a dict by what is observed for several equations."""
        return self._shown[0]

    @property
    def residuals_reason(self) -> str:
        return quality.NO_ROWS if self.statement.stream is not None else quality.NO_SQUARES

    @property
    def observed(self) -> Any:
        return self._shown[1]

    @cached_property
    def influence(self) -> Influence:
        """Leverage, studentised residuals, Cook's distances and the Durbin-Watson statistic.

        Raises:
            FitError: the cost is no sum of squares, or there are no degrees of freedom.
        """
        at, freedom = self.linearisation, self.inference.degrees_of_freedom
        if at is None:
            raise FitError(f"influence needs residuals: {self.residuals_reason}")
        if freedom is None or freedom <= 0:
            reason = self.stderr_reason or "a likelihood estimates none"
            raise FitError(f"influence needs the variance of the residuals: {reason}")
        return influence_of(at, self.solution.active, freedom, 1 if self.model is None else self.model.sign)

    @cached_property
    def leverage(self) -> Array | None:
        """Of each row of the residuals; None where the cost is no sum of squares."""
        return None if self.linearisation is None else leverage_of(self.linearisation, self.solution.active)

    @property
    def residual_std(self) -> float | None:
        return self.inference.sigma

    @property
    def observations(self) -> int | None:
        return self.inference.observations

    @property
    def degrees_of_freedom(self) -> int | None:
        return self.inference.degrees_of_freedom

    @cached_property
    def _quality(self) -> quality.Quality:
        observed = self.observed if self.inference.total is None else None
        return quality.quality_of(self.statement, self.structure, self.inference, self._kept, observed, self.estimated)

    @property
    def r_squared(self) -> float | None:
        return self._quality.r_squared[0]

    @property
    def r_squared_reason(self) -> str:
        return self._quality.r_squared[1]

    @property
    def adj_r_squared(self) -> float | None:
        return self._quality.adjusted[0]

    @property
    def log_likelihood(self) -> float | None:
        return self._quality.log_likelihood[0]

    @property
    def log_likelihood_reason(self) -> str:
        return self._quality.log_likelihood[1]

    @property
    def aic(self) -> float | None:
        """2 k - 2 log L; k counts the estimated parameters, without the variance (as statsmodels does)."""
        return self._quality.aic[0]

    @property
    def bic(self) -> float | None:
        """`k log N - 2 log L`, counted in the same way."""
        return self._quality.bic[0]

    @property
    def bic_reason(self) -> str:
        return self._quality.bic[1]

    @property
    def condition(self) -> float | None:
        return self.inference.condition

    @property
    def success(self) -> bool:
        return self.solution.success

    @property
    def message(self) -> str:
        return self.solution.message

    @property
    def iterations(self) -> int:
        return self.solution.iterations

    @property
    def evaluations(self) -> int:
        return self.solution.evaluations

    @property
    def minima(self) -> tuple[Minimum, ...]:
        """The distinct minima that `multistart` has found, the lowest first: cost, parameters (flat), how often."""
        return self.solution.minima

    @property
    def multipliers(self) -> Mapping[str, float]:
        """Of the constraints that hold with equality: how much the cost would fall if they were loosened by one."""
        return self.solution.multipliers

    @property
    def solver(self) -> str:
        return self.solution.solver

    @property
    def problem(self) -> Class:
        return self.structure.kind

    @property
    def at_bounds(self) -> tuple[str, ...]:
        return self.solution.at_bounds

    @property
    def gradient_norm(self) -> float:
        """Of the cost at the estimates, over the parameters that no bound stops."""
        stopped = np.isin(self.names, self.at_bounds)
        return length_of(self.solution.gradient[~stopped])

    @property
    def model(self) -> Model | None:
        return self.structure.model

    @property
    def no_model(self) -> str:
        return self.structure.no_model

    def __repr__(self) -> str:
        values = ", ".join(
            f"{n}={tables.number(x)}" + (f" ± {tables.number(s, 3)}" if s is not None else "")
            for n, x, s in self.rows()
        )
        state = "" if self.success else "NOT CONVERGED, "
        return f"<FitResult {values}; {state}{self.problem}>"

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return tables.html_summary(self)

    def rows(self) -> list[tuple[str, float, float | None]]:
        """`(name, estimate, standard error)` of every free element."""
        errors: Any = [None] * len(self.names) if self.standard_errors is None else self.standard_errors
        return [
            (n, float(x), None if s is None else float(s))
            for n, x, s in zip(self.names, self.estimates, errors, strict=True)
        ]

    def summary(self, robust: str | None = None) -> str:
        """The fit as text: parameters, quality of the fit, the solver and how it converged.

        Args:
            robust: the kind of robust standard errors to show, as in `robust`.
        """
        return tables.text_summary(self if robust is None else self.robust(robust))

    @property
    def expr(self) -> Any:
        """The model of an equation (a dict of them for several), or the cost, with numbers for the parameters."""
        return fitted(self.statement, self.params)

    @property
    def _fitted(self) -> Fitted:
        return Fitted(self.statement, self.structure, self.solution, self.inference, self.linearisation)

    def conf_int(self, level: float = 0.95, method: str = "wald", **how: Any) -> Intervals:
        """An interval for each free parameter.

        Args:
            level: of confidence.
            method: `"wald"`: estimate +- quantile * standard error, Student's or, where the variance is known and for
                likelihoods, the normal one; `"profile"`: where the cost, minimised over all other parameters, is not
                too high (Bates and Watts, Nonlinear Regression Analysis, 1988, chapter 6); `"bootstrap"`.
            **how: further options of `bootstrap`.

        Raises:
            ArgumentError: another method, or a level that is not between 0 and 1.
            FitError: there are none; says why.
        """
        level = require_level(level)
        if method == "wald":
            return intervals.wald(self.names, self.estimates, self.inference, level)
        if method == "profile":
            return profiles(self._fitted, level)
        if method == "bootstrap":
            return self.bootstrap(**how).conf_int(level)
        raise ArgumentError(f"method is 'wald', 'profile' or 'bootstrap', got {method!r}")

    def bootstrap(self, samples: int = 1000, *, seed: int | None = None, kind: Any = None) -> Bootstrap:
        """The fit repeated on resampled data: estimates, standard errors, intervals, and how many samples failed.

        Args:
            samples: how many.
            seed: that of the fit where it is None; equal seeds give equal samples.
            kind: `"residuals"`: resampled residuals are added to the fitted values, the default; `"pairs"`: whole
                observations are resampled, the default for likelihoods, which holds for unequal variances as well.

        Raises:
            ArgumentError: samples, seed or kind that are none.
            FitError: there is nothing to resample; says why.
        """
        return resample(self._fitted, samples, self.options.seed if seed is None else seed, kind)

    def robust(self, kind: str = "HC3") -> FitResult:
        """The same fit with standard errors, and all that follows from them, that hold for unequal variances.

        Args:
            kind: `"HC0"` to `"HC3"` for sums of squares, as in statsmodels; `"HC0"` (Huber and White) or `"HC1"` for
                likelihoods.

        Raises:
            ArgumentError: another kind.
            FitError: there are none; says why.
        """
        found = robust_inference(self.statement, self.solution, self.inference, self.linearisation, kind)
        return replace(self, inference=found)

    def predict(self, data: Any = None, interval: Any = None, level: float = 0.95, *, sigma: Any = None) -> Any:
        """The fitted model at other data, or at those of the fit.

        Args:
            data: by symbol or name, arrays for what the model needs; scalars may be left out and are taken
                from the fit.
            interval: None for the values alone, as an array; `"confidence"` for a band about the model, or
                `"prediction"` for one about new observations: then a `Prediction`.
            level: of confidence, at each point by itself.
            sigma: standard deviations of new observations, on the scale of those that the fit was given, where these
                differ.

        Returns:
            The values or the band; for several equations a dict of them by what is observed.

        Raises:
            FitError: the model cannot be told from the cost, or there are no standard errors; says why.
            ArgumentError, DataError: missing, unknown or unfit data.
        """
        models = self.structure.models
        if not models:
            raise FitError(f"predict needs the model: {self.no_model}")
        found: dict[str, Any]
        if interval is None:
            found = {m.observed: predict(self.statement, m, self.estimates, data) for m in models}
        else:
            known = require_level(level), sigma
            found = {
                m.observed: band(self.statement, m, self.estimates, self.inference, data, interval, *known)
                for m in models
            }
        return found if len(models) > 1 else next(iter(found.values()))

    def to_frame(self, level: float = 0.95) -> Any:
        """A pandas DataFrame: for each free parameter estimate, standard error, t, p, and the ends of its interval."""
        return frame(self.names, self.estimates, self.inference, require_level(level), self.tied)

    def to_latex(self) -> str:
        r"""The summary as a `tabular` for a document with `\usepackage{booktabs}`."""
        return tables.latex_summary(self)

    def plot(self, path: Any = None) -> Any:
        """A matplotlib Figure: data, curve and bands over a single regressor, else fitted against observed values.

        Each equation has a panel of its own.

        Args:
            path: where to save it as well; the suffix says the format.

        Raises:
            FitError: the model cannot be told from the cost, or the file cannot be written.
            ArgumentError: a suffix that names no format of pictures.
        """
        return plotting.figure(self, path)

    def plot_residuals(self, path: Any = None) -> Any:
        """A Figure: residuals against fitted values, normal Q-Q, distribution, scale; outliers bear their rows."""
        return diagnostics.residual_figure(self, path)

    def plot_history(self, path: Any = None) -> Any:
        """A Figure: cost, gradient norm and cost on validation data, step by step."""
        return diagnostics.history_figure(self, path)

    def plot_surface(self, a: Any, b: Any, path: Any = None) -> Any:
        """A Figure: the cost over two parameters, the others held, with the path of the solver and the minimum.

        Args:
            a: a free parameter or an element of one, by symbol or name, such as `"w[0]"`.
            b: another.
            path: where to save it as well.
        """
        return surface.surface_figure(self, a, b, path)

    def save(self, path: Any, *, data: bool = True) -> None:
        """Write everything to a file, from which `FitResult.load` or `sym2tf.load_fit` makes an equal result.

        Args:
            path: where to.
            data: whether the data go with it; without them, what needs the data of the fit is not to be had any more.

        Raises:
            PersistenceError: something in it cannot be saved, or the file cannot be written.
        """
        persistence.save(self, path, data=data, derived=("_quality",))

    @classmethod
    def load(cls, path: Any) -> FitResult:
        """The fit in a file. Nothing in it is executed: a file from anywhere can be no more than refused.

        Raises:
            PersistenceError: no such file, or one that is no saved fit.
        """
        found: FitResult = persistence.load(path, {cls.__name__: cls})
        return found
