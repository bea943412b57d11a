"""A one-compartment model with first-order absorption, in closed form: a drug in the blood after an oral dose.

    python examples/compartment.py [--out FOLDER]

Theophylline in the plasma of the first of twelve subjects, mg/l over hours, after 4.02 mg per kg of body weight
(R. Upton; printed in Davidian and Giltinan, Nonlinear Models for Repeated Measurement Data, 1995).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import sympy as sp

import sym2tf

HOURS = np.array([0.25, 0.57, 1.12, 2.02, 3.82, 5.10, 7.03, 9.05, 12.12, 24.37])
CONCENTRATION = np.array([2.84, 6.57, 10.50, 9.66, 8.58, 8.36, 7.47, 6.89, 5.94, 3.28])
DOSE = 4.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("output"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    t, c = sp.symbols("t c")
    absorption, elimination, clearance, dose = sp.symbols("absorption elimination clearance dose", positive=True)
    rise_and_fall = sp.exp(-elimination * t) - sp.exp(-absorption * t)
    model = dose * absorption * elimination / (clearance * (absorption - elimination)) * rise_and_fall
    fit = sym2tf.fit(
        sp.Eq(c, model),
        data={t: HOURS, c: CONCENTRATION, dose: DOSE},
        params={absorption: 1, elimination: 0.1, clearance: 0.05},
        # without this, absorption and elimination may change places ("flip-flop"), with the same curve
        constraints=[absorption >= elimination],
        multistart=5,
    )
    print(fit.summary())
    print(f"half-life: {np.log(2) / fit.params[elimination]:.2f} h")
    bands = fit.predict({t: [1.0, 10.0]}, interval="confidence")
    for when, value, low, high in zip((1, 10), bands.value, bands.lower, bands.upper, strict=True):
        print(f"after {when} h: {value:.2f} mg/l, 95% confidence band {low:.2f} to {high:.2f}")
    path = options.out / "compartment.png"
    fit.plot(path)
    print(path)


if __name__ == "__main__":
    main()
