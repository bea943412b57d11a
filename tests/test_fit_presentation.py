"""Results of fits to read, to look at and to keep: tables, pictures, files; and expressions as JSON."""

from __future__ import annotations

import io
import json
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sympy as sp
from matplotlib.collections import PathCollection
from sympy.codegen.cfunctions import hypot, log1p
from sympy.sets import Contains

import sym2tf
from sym2tf import FitResult, Parameter, fit, load_fit
from sym2tf.errors import ArgumentError, DataError, FitError, PersistenceError, Sym2TFError
from sym2tf.expression_json import expression_from_json, expression_to_json
from sym2tf.fit.report import surface
from sym2tf.trees import leaves
from tests import matrix_corpus

x, y, z, W = (sp.IndexedBase(name) for name in ("x", "y", "z", "w"))
i, j, n, m = sp.symbols("i j n m", integer=True)
a, b, c, t, v = sp.symbols("a b c t v")
RNG = np.random.default_rng(11)
TIMES = np.linspace(0.0, 4.0, 40)
VOLTS = 2.5 * np.exp(-1.3 * TIMES) + 0.4 + 0.05 * RNG.standard_normal(40)
LINE = sp.Eq(v, a * t + b)
DECAY = sp.Eq(y[i], a * sp.exp(-b * x[i]) + c)
DATA = {x: TIMES, y: VOLTS}
START = {a: 1, b: 1, c: 0}


def decay(**options: Any) -> FitResult:
    return fit(DECAY, DATA, START, **options)


def line() -> FitResult:
    return fit(LINE, {t: TIMES, v: VOLTS})


def poisson() -> FitResult:
    mean = sp.exp(a * x[i] + b)
    counts = np.random.default_rng(5).poisson(np.exp(0.5 * TIMES))
    return fit(sp.Sum(mean - y[i] * sp.log(mean), (i, 0, n - 1)), {x: TIMES, y: counts}, [a, b], likelihood=True)


def matrices() -> FitResult:
    rows, columns = sp.symbols("rows columns", integer=True, positive=True)
    X, w, Y = (
        sp.MatrixSymbol(s, *shape) for s, shape in (("X", (rows, columns)), ("w", (columns, 1)), ("Y", (rows, 1)))
    )
    xs = np.random.default_rng(2).standard_normal((30, 2))
    return fit(sp.Eq(Y, X * w), {X: xs, Y: xs @ [[1.0], [-2.0]] + 0.1 * xs[:, :1] ** 2}, [w])


def several() -> FitResult:
    return fit({y[i]: a * sp.exp(-b * x[i]), z[i]: b * x[i]}, {**DATA, z: 1.3 * TIMES + 0.1}, {a: 1, b: 1})


FITS: dict[str, Callable[[], FitResult]] = {
    "line": line,
    "decay": decay,
    "likelihood": poisson,
    "matrices": matrices,
    "several equations": several,
    "sigma": lambda: decay(sigma=0.02 + 0.02 * TIMES),
    "sigma in data": lambda: fit(DECAY, {**DATA, z: 0.1 + TIMES}, START, sigma={y: z[i]}, absolute_sigma=True),
    "loss": lambda: decay(loss="cauchy"),
    "fixed": lambda: fit(DECAY, DATA, {a: 1, b: Parameter(1.3, fixed=True), c: 0}),
    "bound": lambda: fit(DECAY, DATA, {a: 1, b: Parameter(1, bounds=(0, 1.1)), c: 0}),
    "tie": lambda: fit(DECAY, DATA, {a: 1, b: 2 * c, c: 0.5}),
    "constraint": lambda: decay(constraints=[a + c <= 2.5]),
    "stream": lambda: fit(LINE, [{t: TIMES[:25], v: VOLTS[:25]}, {t: TIMES[25:], v: VOLTS[25:]}], [a, b]),
}


# Tables -------------------------------------------------------------------------------------------


def row_of(result: FitResult, name: str) -> list[str]:
    return next(text.split() for text in result.summary().splitlines() if text.startswith(f"{name} "))


def test_the_summary_has_the_numbers_of_the_fit() -> None:
    result = line()
    fitted = scipy.stats.linregress(TIMES, VOLTS)
    row = row_of(result, "a")
    due = [fitted.slope, fitted.stderr, fitted.slope / fitted.stderr, fitted.pvalue]
    np.testing.assert_allclose([float(q) for q in row[1:5]], due, rtol=6e-3)
    half = scipy.stats.t.ppf(0.975, 38) * fitted.stderr
    np.testing.assert_allclose([float(q) for q in row[5:]], [fitted.slope - half, fitted.slope + half], rtol=1e-5)
    text = result.summary()
    for name, value in (("AIC", result.aic), ("BIC", result.bic), ("log-likelihood", result.log_likelihood)):
        found = re.search(rf"{name}: +(\S+)", text)
        assert found is not None
        assert float(found[1]) == pytest.approx(value, rel=1e-7)
    assert re.search(r"degrees of freedom: +38\b", text)
    assert re.search(rf"R²: +{fitted.rvalue**2:.8f}", text)


@pytest.mark.parametrize("name", FITS)
def test_every_summary_is_narrow_aligned_and_says_the_same_in_three_forms(name: str) -> None:
    result = FITS[name]()
    text, page, tex = result.summary(), result._repr_html_(), result.to_latex()
    assert max(map(len, text.splitlines())) <= 100
    assert "None" not in text + page + tex
    assert "nan" not in text
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 1
    rows = [r for r in tex.splitlines() if r.endswith(r"\\") and "multicolumn" not in r]
    assert {r.count("&") for r in rows} == {6}
    assert len(rows) == page.count("<tr><td>") + 1
    assert len(rows) >= len(result.names) + 1
    assert page.count("<table>") == page.count("</table>") == 3


def test_what_is_particular_stands_in_notes() -> None:
    assert "at a bound: b" in FITS["bound"]().summary()
    assert "b = 2*c" in FITS["tie"]().summary()
    assert "constraint: a + c <= 2.5" in FITS["constraint"]().summary()
    assert "HC3" in decay().robust("HC3").summary()
    assert "(fixed)" in FITS["fixed"]().summary()
    assert "cauchy(1) losses" in FITS["loss"]().summary()
    assert "/sigma" in FITS["sigma"]().summary()
    stamps = fit(LINE, {t: 1.7e9 + TIMES, v: VOLTS}, [a, b])
    assert "condition number is large" in stamps.summary()


def test_latex_escapes_text_and_sets_symbols_as_mathematics() -> None:
    alpha, evil = sp.Symbol("alpha_1"), sp.Symbol(r"\input{x}_%&")
    result = fit(sp.Eq(v, alpha * t + evil), {t: TIMES, v: VOLTS}, [alpha, evil])
    tex = result.to_latex()
    assert r"$\alpha_{1}$ &" in tex
    assert r"\input{" not in tex
    assert r"\textbackslash{}input\{x\}\_\%\&" in tex
    assert r"\times 10^{-" in tex
    indexed = matrices().to_latex()
    assert r"${w}_{0,0}$ &" in indexed


# Pictures -----------------------------------------------------------------------------------------


def ink(figure: Any) -> float:
    """The part of the picture that is not white."""
    figure.canvas.draw()
    return float((np.asarray(figure.canvas.buffer_rgba())[..., :3].min(axis=-1) < 250).mean())


def points_of(axes: Any) -> np.ndarray:
    return np.concatenate([q.get_offsets() for q in axes.collections if isinstance(q, PathCollection)])


def test_the_plot_has_the_data_the_curve_and_both_bands() -> None:
    result = decay()
    figure = result.plot()
    (axes,) = figure.axes
    np.testing.assert_allclose(points_of(axes), np.column_stack([TIMES, VOLTS]))
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["data", "fit", "95 % confidence", "95 % prediction"]
    curve = axes.lines[0].get_xydata()
    np.testing.assert_allclose(curve[:, 1], result.predict({x: curve[:, 0]}), rtol=1e-12)
    for kind in ("confidence", "prediction"):
        due = result.predict({x: curve[:, 0]}, interval=kind)
        patch = next(q for q in axes.collections if q.get_label() == f"95 % {kind}")
        corners = patch.get_paths()[0].vertices[:, 1]
        assert corners.max() == pytest.approx(due.upper.max())
        assert corners.min() == pytest.approx(due.lower.min())
    assert 0.03 < ink(figure) < 0.5


def test_stated_deviations_are_error_bars() -> None:
    for name, due in (("sigma", 0.02 + 0.02 * TIMES), ("sigma in data", 0.1 + TIMES)):
        (axes,) = FITS[name]().plot().axes
        bars = axes.containers[0].lines[2][0].get_segments()
        np.testing.assert_allclose([s[1, 1] - s[0, 1] for s in bars], 2 * due, rtol=1e-9)
        assert "data ± sigma" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_each_equation_has_a_panel() -> None:
    axes = several().plot().axes
    assert [q.get_ylabel() for q in axes] == ["y", "z"]
    np.testing.assert_allclose(points_of(axes[1])[:, 1], 1.3 * TIMES + 0.1)


def test_many_regressors_are_shown_by_fitted_against_observed() -> None:
    result = matrices()
    (axes,) = result.plot().axes
    np.testing.assert_allclose(points_of(axes)[:, 1], result.predict().ravel())


@pytest.mark.parametrize("name", ["line", "matrices", "several equations", "sigma"])
def test_no_text_of_a_picture_leaves_it_or_hides_another(name: str) -> None:
    result = FITS[name]()
    figures = [result.plot(), result.plot_residuals()]
    for figure in figures + ([result.plot_history()] if result.history else []):
        figure.canvas.draw()
        boxes = [figure._suptitle.get_window_extent()]
        for axes in figure.axes:
            boxes += [axes.xaxis.label.get_window_extent(), axes.yaxis.label.get_window_extent()]
            boxes += [axes.title.get_window_extent()]
        boxes = [q for q in boxes if q.width and q.height]
        assert all(q.x0 >= 0 and q.y0 >= 0 and q.x1 <= figure.bbox.x1 and q.y1 <= figure.bbox.y1 for q in boxes)
        assert not any(p.overlaps(q) for k, p in enumerate(boxes) for q in boxes[:k])


def test_residuals_are_standardised_and_outliers_bear_their_rows() -> None:
    volts = VOLTS.copy()
    volts[[7, 30]] += 1.0, -0.8
    result = fit(DECAY, {x: TIMES, y: volts}, START)
    panels = result.plot_residuals().axes
    assert len(panels) == 4
    np.testing.assert_allclose(points_of(panels[0])[:, 1], result.influence.standardized)
    np.testing.assert_allclose(points_of(panels[0])[:, 0], result.predict())
    for k in (0, 1, 3):
        assert {text.get_text() for text in panels[k].texts} == {"7", "30"}
    quantiles = points_of(panels[1])
    order = np.argsort(quantiles[:, 0])
    assert (np.diff(quantiles[order, 1]) >= 0).all()
    due = scipy.stats.norm.ppf((np.arange(1, 41) - 0.375) / 40.25)
    np.testing.assert_allclose(quantiles[order, 0], due)
    assert sum(bar.get_height() * bar.get_width() for bar in panels[2].patches) == pytest.approx(1)


def test_residuals_of_a_cost_without_a_model_are_refused() -> None:
    with pytest.raises(FitError, match="no sum of squares"):
        poisson().plot_residuals()


def test_the_history_falls_on_log_axes() -> None:
    result = poisson()
    figure = result.plot_history()
    costs, norms = (q.lines[0].get_ydata() for q in figure.axes)
    np.testing.assert_allclose(norms[-1], result.history[-1].gradient_norm)
    assert (np.diff(costs[np.isfinite(costs)][:5]) < 0).all()
    assert [q.get_yscale() for q in figure.axes] == ["log", "log"]


def test_the_surface_is_the_cost_and_its_minimum_is_the_estimate() -> None:
    result = decay()
    xs, ys = np.linspace(2, 3, 5), np.linspace(1, 2, 4)
    found = surface.costs_over(result.statement, result.estimates, (0, 1), xs, ys)
    due = [[np.square(VOLTS - p * np.exp(-q * TIMES) - result.params[c]).sum() for p in xs] for q in ys]
    np.testing.assert_allclose(found, due, rtol=1e-12)


def test_the_surface_is_computed_in_parts_with_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    result, grid = decay(), np.linspace(1, 2, 7)
    whole = surface.costs_over(result.statement, result.estimates, (0, 2), grid, grid)
    monkeypatch.setattr(surface, "ELEMENTS", 40 * 5)
    parts = surface.costs_over(result.statement, result.estimates, (0, 2), grid, grid)
    np.testing.assert_allclose(parts, whole, rtol=1e-14)


def test_the_surface_shows_path_region_and_estimate() -> None:
    result = decay()
    figure = result.plot_surface(a, "b")
    axes = figure.axes[0]
    shown = {q.get_label(): q.get_xydata() for q in axes.lines}
    np.testing.assert_allclose(shown["estimates"], [[result.params[a], result.params[b]]])
    np.testing.assert_allclose(shown["path of the solver"], [s.theta[:2] for s in result.history])
    inverse = np.linalg.inv(result.covariance[:2, :2])
    offsets = shown["95 % confidence region"] - [result.params[a], result.params[b]]
    radius = np.einsum("ki,ij,kj->k", offsets, inverse, offsets)
    np.testing.assert_allclose(radius, 2 * scipy.stats.f.ppf(0.95, 2, 37), rtol=1e-6)
    low, high = axes.get_xlim()
    assert low < result.params[a] - result.stderr[a] < result.params[a] + result.stderr[a] < high
    assert ink(figure) > 0.4
    assert len(figure.axes) == 2  # with the scale of colours


@pytest.mark.parametrize(("pair", "words"), [(("a", "a"), "twice"), (("a", "q"), "q is no free parameter")])
def test_a_surface_over_what_is_no_pair_of_parameters_is_refused(pair: tuple[str, str], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        decay().plot_surface(*pair)


@pytest.mark.parametrize("verb", ["plot", "plot_residuals", "plot_history"])
def test_pictures_are_saved_and_bad_paths_are_clear_errors(verb: str, tmp_path: Path) -> None:
    result = decay()
    getattr(result, verb)(tmp_path / "it.png")
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ArgumentError, match="no format of pictures"):
        getattr(result, verb)(tmp_path / "it.nonsense")
    with pytest.raises(FitError, match="cannot write"):
        getattr(result, verb)(tmp_path / "no" / "it.png")


# Files --------------------------------------------------------------------------------------------


def picture(figure: Any) -> bytes:
    figure.canvas.draw()
    return bytes(figure.canvas.buffer_rgba())


@pytest.mark.parametrize("name", FITS)
def test_a_loaded_fit_is_equal_to_the_last_bit(name: str, tmp_path: Path) -> None:
    result = FITS[name]()
    result.save(tmp_path / "it.fit")
    found = load_fit(tmp_path / "it.fit")
    assert found.summary() == result.summary()
    assert found.to_latex() == result.to_latex()
    assert repr(found) == repr(result)
    assert found.expr == result.expr
    assert list(found.params) == list(result.params)
    for attribute in ("estimates", "standard_errors", "covariance", "residuals", "leverage"):
        one, other = getattr(found, attribute), getattr(result, attribute)
        assert (one is None) == (other is None)
        for left, right in zip(leaves(one), leaves(other), strict=True):  # several equations give a dict
            assert left is None or (left.dtype == right.dtype and left.tobytes() == right.tobytes())
    assert [(s.cost, s.gradient_norm, s.theta.tobytes()) for s in found.history] == [
        (s.cost, s.gradient_norm, s.theta.tobytes()) for s in result.history
    ]
    if result.model is not None and name != "stream":
        assert found.predict().tobytes() == result.predict().tobytes()
    if name in {"decay", "several equations", "sigma"}:
        assert picture(found.plot()) == picture(result.plot())
    if name == "tie":
        assert picture(found.plot_surface(*result.names[:2])) == picture(result.plot_surface(*result.names[:2]))


def test_another_process_reads_the_same_bits(tmp_path: Path) -> None:
    result = decay()
    result.save(tmp_path / "it.fit")
    program = (
        "import sym2tf, sys\nfrom sympy import IndexedBase\n"
        "r = sym2tf.load_fit(sys.argv[1])\n"
        "print(r.estimates.tobytes().hex(), r.predict({IndexedBase('x'): [0.5, 1.5]}).tobytes().hex())\n"
        "print(r.summary())"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "it.fit")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=120, cwd=Path(__file__).parent.parent
    )
    first, _, rest = done.stdout.partition("\n")
    values = result.predict({x: [0.5, 1.5]})
    assert first.split() == [result.estimates.tobytes().hex(), values.tobytes().hex()]
    assert rest.rstrip("\n") == result.summary()


def test_data_may_be_left_out_and_what_needs_them_says_so(tmp_path: Path) -> None:
    result = decay()
    result.save(tmp_path / "small.fit", data=False)
    result.save(tmp_path / "whole.fit")
    found = load_fit(tmp_path / "small.fit")
    assert found.summary() == result.summary()
    assert found.covariance.tobytes() == result.covariance.tobytes()
    np.testing.assert_array_equal(found.predict({x: [0.0, 2.0]}), result.predict({x: [0.0, 2.0]}))
    band, due = (r.predict({x: [0.0, 2.0]}, interval="confidence") for r in (found, result))
    np.testing.assert_array_equal(band.upper, due.upper)
    for needs in (found.predict, found.plot, found.plot_residuals, lambda: found.residuals, lambda: found.leverage):
        with pytest.raises(DataError, match="left out when this fit was saved"):
            needs()
    assert VOLTS[3].tobytes() in (tmp_path / "whole.fit").read_bytes()
    assert VOLTS[3].tobytes() not in (tmp_path / "small.fit").read_bytes()


def test_a_robust_fit_and_a_file_of_a_file_are_kept(tmp_path: Path) -> None:
    result = decay().robust("HC2")
    result.save(tmp_path / "one.fit")
    load_fit(tmp_path / "one.fit").save(tmp_path / "two.fit")
    assert load_fit(tmp_path / "two.fit").summary() == result.summary()


@pytest.mark.parametrize("way", ["file", "pickle"])
def test_a_fit_of_a_stream_travels_without_its_rows(way: str, tmp_path: Path) -> None:
    batches = ({t: TIMES[k : k + 10], v: VOLTS[k : k + 10]} for k in range(0, 40, 10))  # a generator is no value
    result = fit(LINE, batches, [a, b])
    if way == "file":
        result.save(tmp_path / "it.fit")
        found = load_fit(tmp_path / "it.fit")
    else:
        found = pickle.loads(pickle.dumps(result))
    assert found.residuals is None
    assert found.summary() == result.summary()
    np.testing.assert_array_equal(found.predict({t: [1.0]}), result.predict({t: [1.0]}))
    with pytest.raises(ArgumentError, match="predict needs data"):
        found.predict()


def test_callbacks_do_not_travel(tmp_path: Path) -> None:
    result = decay(callbacks=[lambda step: False])
    result.save(tmp_path / "it.fit")
    assert load_fit(tmp_path / "it.fit").options.callbacks == ()


def test_a_file_that_exists_survives_a_save_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, path = decay(), tmp_path / "it.fit"
    result.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *args, **options: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(PersistenceError, match="disk full"):
        result.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(PersistenceError, match="cannot write"):
        result.save(tmp_path / "no" / "it.fit")


# Files that nobody has saved ----------------------------------------------------------------------


def altered(path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], Any]) -> Path:
    """A saved fit where `change(document, members)` has been at work."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(members.pop("fit.json"))
    written = change(document, members)
    target = path.with_name("altered.fit")
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("fit.json", written if isinstance(written, str | bytes) else json.dumps(document))
        for name, content in members.items():
            archive.writestr(name, content)
    return target


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def huge_header() -> bytes:
    """An array that says it has 10^18 elements, and has none."""
    return npy(np.zeros(1)).replace(b"(1,)", b"(1000000000000000000,)")[:128]


def node(document: dict[str, Any], content: list[Any]) -> None:
    document["expressions"].append(content)


HOSTILE: dict[str, tuple[Callable[[dict[str, Any], dict[str, bytes]], Any], str]] = {
    "unknown class": (lambda d, ms: node(d, ["Popen", 0]), "'Popen' is not known"),
    "private class": (lambda d, ms: node(d, ["__import__", 0]), "is not known"),
    "huge integer": (lambda d, ms: node(d, ["Integer", "f" * 10**6]), "1000000 digits"),
    "huge exponent": (lambda d, ms: node(d, ["Float", "1", 10**12, 53]), "no integer of at most"),
    "huge precision": (lambda d, ms: node(d, ["Float", "1", 0, 10**12]), "no integer of at most"),
    "digits that are none": (lambda d, ms: node(d, ["Integer", "os.system"]), "no valid Integer"),
    "a place to come": (lambda d, ms: node(d, ["sin", 10**6]), "no earlier expression"),
    "a negative place": (lambda d, ms: node(d, ["sin", -1]), "no earlier expression"),
    "wrong arguments": (lambda d, ms: node(d, ["Indexed", 0]), "no valid Indexed"),
    "text for a symbol's name": (lambda d, ms: node(d, ["Symbol", 3, {}]), "is no text"),
    "assumptions that are none": (lambda d, ms: node(d, ["Symbol", "q", {"exec": True}]), "no assumptions"),
    "no list": (lambda d, ms: node(d, "exp(1)"), "no list"),  # type: ignore[arg-type]
    "no expressions": (lambda d, ms: d.pop("expressions"), "must be a list"),
    "unknown record": (lambda d, ms: d["root"]["fields"]["solution"].update(record="os.system"), "no record of a fit"),
    "another root": (lambda d, ms: d["root"].update(record="Options"), "not a saved FitResult"),
    "unknown field": (lambda d, ms: d["root"]["fields"].update(evil=1), "no field 'evil'"),
    "missing field": (lambda d, ms: d["root"]["fields"].pop("solution"), "inconsistent"),
    "unknown value": (lambda d, ms: d["root"]["fields"].update(cost={"eval": "1"}), "no sort of value"),
    "unknown derived": (lambda d, ms: d.update(derived={"__class__": 1}), "nothing that a fit computes"),
    "missing array": (lambda d, ms: ms.clear(), "no array"),
    "pickled array": (lambda d, ms: ms.update({"arrays/0.npy": npy(np.array([{}]), allow_pickle=True)}), "array 0"),
    "huge array": (lambda d, ms: ms.update({"arrays/0.npy": huge_header()}), "0 bytes, but says"),
    "no array": (lambda d, ms: ms.update({"arrays/0.npy": b"MZ"}), "no .npy"),
    "path traversal": (lambda d, ms: ms.update({"../../evil": b"x"}), "no saved fit: it has '../../evil'"),
    "a later version": (lambda d, ms: d.update(version=99), "version 99"),
    "another format": (lambda d, ms: d.update(format="tar"), "does not say that it is"),
    "no JSON": (lambda d, ms: "{", "no JSON"),
    "deep JSON": (lambda d, ms: "[" * 10**5 + "]" * 10**5, "no JSON"),
    "a long number": (lambda d, ms: '{"format": ' + "1" * 10**5 + "}", "no JSON"),
    "a list": (lambda d, ms: "[]", "no saved fit"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fits") / "it.fit"
    decay().save(path)
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_a_reason(name: str, saved: Path) -> None:
    change, words = HOSTILE[name]
    with pytest.raises(PersistenceError, match=re.escape(words)):
        load_fit(altered(saved, change))


def test_graphs_from_files_are_checked(saved: Path) -> None:
    def graph_of(document: dict[str, Any]) -> list[Any]:
        nodes: list[Any] = document["root"]["fields"]["statement"]["fields"]["graph"]["graph"]
        return nodes

    def operation(document: dict[str, Any], members: Any) -> None:
        graph_of(document)[-1][0] = "system"

    def operands(document: dict[str, Any], members: Any) -> None:
        next(q for q in graph_of(document) if q[0] == "exp")[1].append(0)

    for change, words in ((operation, "no operation"), (operands, "inconsistent")):
        with pytest.raises(PersistenceError, match=words):
            load_fit(altered(saved, change))


def test_truncated_files_and_no_files_are_refused(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    for length in range(0, len(whole), 501):
        (tmp_path / "part.fit").write_bytes(whole[:length])
        with pytest.raises(PersistenceError):
            load_fit(tmp_path / "part.fit")
    with pytest.raises(PersistenceError, match="no file"):
        load_fit(tmp_path / "nothing.fit")
    with pytest.raises(PersistenceError, match="cannot read"):
        load_fit(tmp_path)
    with pytest.raises(PersistenceError, match="path"):
        load_fit(3)


def test_flipped_bytes_never_raise_anything_else(saved: Path, tmp_path: Path) -> None:
    whole = bytearray(saved.read_bytes())
    rng = np.random.default_rng(3)
    for place in rng.choice(len(whole), 40, replace=False):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "flipped.fit").write_bytes(changed)
        try:
            load_fit(tmp_path / "flipped.fit")
        except Sym2TFError:
            continue


# Expressions --------------------------------------------------------------------------------------

r, s = sp.symbols("r s", real=True)
A, B = sp.MatrixSymbol("A", 3, 3), sp.IndexedBase("B", shape=(3, n))
p, q = sp.symbols("p q")
EXPRESSIONS = [
    sp.Integer(10) ** 400, sp.Rational(-7, 3), sp.Float("1.2345678901234567890123456789", 40), sp.Float(0.1),
    sp.Float(0), -sp.Float(5e-324), sp.pi * sp.E + sp.EulerGamma, sp.oo, -sp.oo, sp.zoo, sp.I, sp.true, sp.false,
    sp.Symbol("k", positive=True) + sp.Symbol("k"), sp.Dummy("d", real=True) + 1, sp.Function("f")(r, s),
    sp.Lambda((r, s), r + s), sp.Derivative(sp.Function("f")(r), (r, 2)), sp.Eq(r, s), sp.Ne(r, 1), r <= 2,
    sp.Eq(r, 1) & (s > 2) | ~(r < 3), sp.Piecewise((r, r > 1), (s, (s < 2) & (r < 0)), (0, True)),
    B[i, 2] + sp.IndexedBase("R", real=True)[i], sp.Sum(x[i], (i, 0, n)), x[sp.Idx("e", 5)],
    sp.Sum(sp.Piecewise((x[j], x[j] > 0), (0, True)), (j, 0, n - 1)), sp.Product(x[j], (j, 0, n)), A[1, 2], A[0:2, 1:3],
    sp.Matrix([[r, 1], [2, s]]), sp.ImmutableSparseMatrix(3, 3, {(0, 1): r}), sp.Array([[r, s], [1, 2]]),
    sp.Max(r, s, 3), sp.Mod(r, 3), Contains(r, sp.Interval(0, 1)), Contains(r, sp.S.Reals), sp.LeviCivita(i, j, 1),
    sp.Add(r, r, evaluate=False), sp.Mul(2, sp.Add(r, s, evaluate=False), evaluate=False), sp.Pow(2, 3, evaluate=False),
    sp.exp(sp.log(r), evaluate=False), log1p(r), hypot(r, s), sym2tf.nn.gelu(r), sym2tf.nn.leaky_relu(r),
    sp.UnevaluatedExpr(r) + 1, sp.Identity(n), A.I * A.T, sp.BlockMatrix([[A, A], [A, A]]), sp.polygamma(1, r),
    sp.FunctionMatrix(3, 3, sp.Lambda((i, j), i + j)), sym2tf.MaxOver(x[j], (j, 0, n - 1)), sp.Implies(p, q),
    sp.ITE(r > 1, s > 1, r > 3), sp.Heaviside(r, 1), sp.KroneckerDelta(i, j),
]  # fmt: skip


def through_text(expression: Any) -> Any:
    return expression_from_json(json.loads(json.dumps(expression_to_json(expression))))


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda e: type(e).__name__)
def test_expressions_survive_json_as_they_are(expression: Any) -> None:
    found = through_text(expression)
    due = expression if isinstance(expression, sp.Basic) else sp.ImmutableMatrix(expression)
    assert type(found) is type(due)
    assert found == due
    assert sp.srepr(found) == sp.srepr(due)


def test_every_formula_of_the_matrix_corpus_survives_json() -> None:
    for case in matrix_corpus.CASES:
        assert through_text(case.expr) == case.expr, case.name


def test_deep_expressions_need_no_recursion_and_shared_parts_are_written_once() -> None:
    deep: Any = r
    for _ in range(1500):
        deep = sp.sin(deep, evaluate=False) + r
    document = expression_to_json(deep)
    assert len(document["nodes"]) == 1 + 2 * 1500
    again = expression_to_json(expression_from_json(document))
    assert again == document


class Homemade(sp.Function):
    """A class that no table knows."""


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (Homemade(r), "Homemade"),
        (sp.Integral(r, r), "Integral"),
        (sp.Function("g", positive=True)(r), "assumptions"),
        (sp.IndexedBase("S", offset=3)[i], "offset"),
    ],
)
def test_an_expression_that_cannot_be_saved_is_named(expression: Any, words: str) -> None:
    with pytest.raises(PersistenceError, match=words):
        expression_to_json(expression)


@pytest.mark.parametrize("document", [None, [], {}, {"root": 0}, {"root": 5, "nodes": []}, {"root": "0", "nodes": []}])
def test_what_is_no_expression_is_refused(document: Any) -> None:
    with pytest.raises(PersistenceError):
        expression_from_json(document)
