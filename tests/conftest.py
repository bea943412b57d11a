"""What all tests share: quiet TensorFlow, reproducible random examples, golden files."""

from __future__ import annotations

import difflib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# what a shell starts in the background ignores Ctrl-C, and some tests press it
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run: what fails here fails on the next machine too. No deadline, because the
# first example pays for imports and traces, and the machines are shared.
hypothesis.settings.register_profile(
    "reproducible",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("explore", parent=hypothesis.settings.get_profile("default"), deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "reproducible"))

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what the tests give into tests/golden")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)` compares with tests/golden/name; --update-golden writes it."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.exists(), f"{path} is missing; run pytest --update-golden and read what it writes"
        due = path.read_text(encoding="utf-8")
        difference = difflib.unified_diff(due.splitlines(), text.splitlines(), "golden", "now", lineterm="")
        if text != due:
            pytest.fail(f"{name} changed; --update-golden accepts it\n" + "\n".join(difference), pytrace=False)

    return compare
