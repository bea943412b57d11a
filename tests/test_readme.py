"""The README and the example do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sym2tf

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = ROOT.parent / "shared" / "data" / "birth_life_2010.txt"


def test_every_python_block_of_the_readme_runs_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = [
        re.sub(r"(?m)^  ", "", b) if b.startswith("  ") else b
        for b in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    ]
    assert len(blocks) >= 4
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8").count("<path") > 3
    assert namespace["f"].check().ok
    second = namespace["sinc"].gradient("x").gradient("x")(np.array([0, 1e-8]))
    np.testing.assert_allclose(second, [-1 / 3] * 2, rtol=1e-12)
    assert "std" in capsys.readouterr().out


def test_files_that_the_readme_links_to_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def run_demo(tmp_path, *arguments):
    command = [sys.executable, str(ROOT / "examples" / "linear_regression.py"), "--out", str(tmp_path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stderr == ""
    return done.stdout


def test_the_demo_prints_and_writes_what_it_promises(tmp_path):
    text = run_demo(tmp_path)
    for part in ("142 observations", "d cost / d w", "fold and rewrite", "std. error", "R2", "solved in one step"):
        assert part in text, part
    differences = [float(v) for v in re.findall(r"relative difference (\S+)", text)]
    assert len(differences) == 2
    assert max(differences) < 1e-13
    written = [line for line in text.splitlines() if line.startswith(str(tmp_path))]
    assert len(written) == 6
    assert all(Path(name).stat().st_size > 500 for name in written)


@pytest.mark.skipif(not REFERENCE.exists(), reason="the course's data are in ../shared, which this checkout lacks")
def test_the_demo_gives_the_reference_of_the_course(tmp_path):
    text = run_demo(tmp_path, "--data", str(REFERENCE))
    for number in ("-5.71881564 +- 0.28330629", "85.71349893 +- 0.89258862", "0.684285"):
        assert number in text


def test_the_version_is_the_changelogs():
    assert f"## {sym2tf.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
