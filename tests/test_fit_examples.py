"""The examples of fits give known answers."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
COURSE = ROOT.parent / "shared" / "data" / "birth_life_2010.txt"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`run(name, *arguments)`: what an example prints; it writes the files that it names, and nothing on stderr."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, "--out", str(tmp_path), *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        said = capsys.readouterr()
        assert said.err == ""
        written = [Path(line) for line in said.out.splitlines() if line.startswith(str(tmp_path))]
        assert written
        assert all(path.stat().st_size > 300 for path in written)
        return said.out

    return run


def numbers(pattern: str, text: str) -> list[float]:
    return [float(v) for found in re.findall(pattern, text) for v in (found if isinstance(found, tuple) else [found])]


def test_the_course_example_against_least_squares_and_huber_references(run):
    if not COURSE.exists():
        pytest.skip("../shared/data is not there")
    text = run("robust_regression.py", "--data", COURSE)
    intercept, slope = (numbers(rf"{name}: least squares (\S+), Huber (\S+)", text) for name in ("intercept", "slope"))
    assert intercept[0] == pytest.approx(85.713499, abs=1e-6)
    assert slope[0] == pytest.approx(-5.718816, abs=1e-6)
    # statsmodels' RLM minimises the same cost when its scale is held at that of the first residuals
    birth, life = np.loadtxt(COURSE, delimiter="\t", skiprows=1, usecols=(1, 2)).T
    columns = sm.add_constant(birth)
    r = life - columns @ np.linalg.lstsq(columns, life, rcond=None)[0]
    sigma = np.median(np.abs(r - np.median(r))) / 0.6745
    weights, theta = np.ones(len(life)), np.zeros(2)
    for _ in range(200):  # iteratively reweighted least squares, to convergence
        theta = sm.WLS(life, columns, weights).fit().params
        weights = sm.robust.norms.HuberT(1.345).weights((life - columns @ theta) / sigma)
    np.testing.assert_allclose([intercept[1], slope[1]], theta, atol=1e-6)


def test_logistic_and_poisson_regression_agree_with_statsmodels_to_eight_digits(run):
    text = run("generalised_linear.py")
    far = numbers(r"largest relative difference to statsmodels: (\S+), of standard errors (\S+)", text)
    assert len(far) == 4
    assert max(far) < 1e-8


def test_the_growth_curve_has_bands_and_asymmetric_intervals(run):
    text = run("growth_curve.py")
    estimate, low, high = numbers(r"limit: (\S+) million, 95% profile-likelihood interval (\S+) to (\S+)", text)
    assert low < estimate < high
    assert high - estimate > 1.2 * (estimate - low)  # what the Wald interval cannot say
    value, lower, upper = numbers(r"2000: (\S+) million, 95% prediction interval (\S+) to (\S+)", text)
    assert lower < value < upper


def test_a_thousand_fits_have_standard_errors_that_are_right(run):
    text = run("many_fits.py")
    assert "1000 of 1000 fits converged" in text
    mean, deviation = numbers(r"has mean (\S+) and standard deviation (\S+)", text)
    assert abs(mean) < 0.12
    assert deviation == pytest.approx(1, abs=0.08)


def test_the_compartment_model_finds_the_half_life(run):
    text = run("compartment.py")
    assert numbers(r"half-life: (\S+) h", text)[0] == pytest.approx(12.85, abs=0.01)


def test_penalties_shrink_and_select(run):
    text = run("penalties.py")
    assert "ridge: QR" in text
    assert numbers(r"largest difference (\S+)", text)[0] < 1e-12


def test_the_mixture_is_found(run):
    text = run("mixture.py")
    found = {name: numbers(rf"(?m)^{name} +(\S+)", text)[0] for name in ("share", "first", "second")}
    assert found["share"] == pytest.approx(0.3, abs=0.05)
    assert found["first"] == pytest.approx(-1, abs=0.15)
    assert found["second"] == pytest.approx(2, abs=0.15)


def test_a_stream_of_rows_takes_little_memory(run):
    text = run("streams.py", "--rows", 800_000)
    assert numbers(r"largest error is (\S+) standard errors", text)[0] < 5
    peak, whole = numbers(r"at most (\S+) MB at once, of (\S+) MB", text)[:2]
    assert peak < whole / 2


def test_training_by_mini_batches_stops_early_near_the_minimum_and_goes_on_from_its_checkpoint(run):
    first = run("minibatch.py", "--rows", 4000)
    assert "stopped early: the cost on validation data" in first
    assert numbers(r"largest difference (\S+),", first)[0] < 0.25
    assert run("minibatch.py", "--rows", 4000) == first
