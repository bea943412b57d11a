"""The command line: what each command prints and returns, and that text from outside is never more than text."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

import sym2tf
from sym2tf import cli, doctor, fit_command
from sym2tf.cli import main
from sym2tf.compiled import CompiledFunction
from sym2tf.datafile import read_data_file
from sym2tf.doctor import REQUIREMENTS, Finding, Requirement
from sym2tf.errors import DataError

ROOT = Path(__file__).parent.parent
GAPMINDER = ROOT / "examples" / "data" / "gapminder_2007.csv"
COURSE = ROOT.parent / "shared" / "data" / "birth_life_2010.txt"
COST = "Sum((y[i]-w*x[i]-b)**2, (i, 0, n-1))/n"
LINE = "x,y\n0,1\n1,3\n2,5\n3,7.5\n"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`run("source", "x")` gives the exit status, stdout and stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        try:
            status = main(words)
        except SystemExit as end:  # argparse's own way out
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def points(tmp_path: Path) -> Callable[..., str]:
    """`points(text)` writes a data file and gives its path."""

    def write(text: str | bytes, name: str = "points.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def process(*words: str, environment: dict[str, str] | None = None, **options: Any) -> Any:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True, timeout=120, cwd=ROOT, check=False, env={**os.environ, **(environment or {})}, **options,
    )  # fmt: skip


# Help, version, errors ---------------------------------------------------------------------------


def test_the_version_is_printed(run) -> None:
    assert run("--version") == (0, f"sym2tf {sym2tf.__version__}\n", "")


@pytest.mark.parametrize("command", ["render", "source", "gradient", "check", "fit", "doctor"])
def test_help_lists_every_command_and_each_explains_itself(run, command: str) -> None:
    assert re.search(rf"^    {command} ", run("--help")[1], re.MULTILINE)
    status, out, _ = run(command, "--help")
    assert status == 0
    assert f"usage: sym2tf {command}" in out
    assert f"sym2tf {command} " in out.split("options:")[1] or command == "doctor"


def test_both_spellings_of_help_are_known_everywhere(run) -> None:
    for words in ((), ("source",), ("fit", "x")):
        assert run(*words, "-h") == run(*words, "--help")
        assert run(*words, "-h")[0] == 0


def shell_words(line: str) -> list[str]:
    found = re.findall(r'"([^"]*)"|(\S+)', line)
    return [quoted or bare for quoted, bare in found]


EXAMPLES = [
    shell_words(line.strip().removeprefix("sym2tf "))
    for text in cli.EXAMPLES.values()
    for line in text.splitlines()
    if line.strip().startswith("sym2tf ") and "|" not in line
]


@pytest.mark.parametrize("words", [e for e in EXAMPLES if e[0] not in {"fit", "check"}], ids=" ".join)
def test_the_examples_in_the_help_run(run, words: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = run(*words)
    assert status == 0, err


@pytest.mark.parametrize("words", [[], ["nonsense"], ["source", "x", "--dtype", "int3"], ["fit", "x"]])
def test_wrong_usage_is_told_with_status_2(run, words: list[str]) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith("usage: ")
    assert "error: " in err


def test_a_parse_error_shows_the_place_with_a_caret(run) -> None:
    assert run("source", "x + sin(y") == (
        2,
        "",
        "sym2tf: error: not an expression: '(' was never closed\n    x + sin(y\n           ^\n",
    )


def test_an_error_of_the_library_is_one_message_without_a_traceback(run) -> None:
    status, out, err = run("source", "x", "--gradient", "q")
    assert (status, out) == (2, "")
    assert err == "sym2tf: error: wrt: q is no input of f; its inputs are x\n"


def test_a_bug_shows_its_traceback(monkeypatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sym2tf, "compile", broken)
    with pytest.raises(ZeroDivisionError):
        main(["source", "x"])


def test_a_package_that_is_not_installed_is_no_bug(run, monkeypatch) -> None:
    def missing(self: CompiledFunction, **_: Any) -> None:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    monkeypatch.setattr(CompiledFunction, "check", missing)
    status, out, err = run("check", "x")
    assert (status, out) == (2, "")
    assert err == "sym2tf: error: this needs tensorflow, which is not installed; see sym2tf doctor\n"


def test_an_interrupt_ends_quietly(run, monkeypatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sym2tf, "compile", interrupted)
    assert run("source", "x") == (130, "", "")


HOSTILE = [
    "__import__('os').system('touch {0}')",
    "(lambda: open('{0}', 'w'))()",
    "[open('{0}', 'w') for x in (1,)]",
    "exec(\"open('{0}', 'w')\")",
    "x.__class__.__mro__",
    'f\'{{open("{0}", "w")}}\'',
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("place", ["expression", "args", "gradient", "params", "column", "cell"])
def test_hostile_text_is_never_executed(run, points, tmp_path: Path, text: str, place: str) -> None:
    target = tmp_path / "pwned"
    text = text.format(target)
    if place == "cell":
        words = ["fit", "Eq(y, w*x)", "--data", points(f'x;y\n1;2\n"{text.replace(chr(34), chr(34) * 2)}";3\n')]
    elif place in {"params", "column"}:
        words = ["fit", "Eq(y, w*x)", "--data", points(LINE), f"--{place}", f"w={text}"]
    elif place == "expression":
        words = ["source", text]
    else:
        words = ["source", "x", f"--{place}", text]
    status, _, err = run(*words)
    assert status == 2
    assert err.startswith("sym2tf: error: ")
    assert not target.exists()


# source, render, gradient ------------------------------------------------------------------------


def test_source_prints_what_compile_generates(run) -> None:
    status, out, err = run("source", "exp(-x**2)*sin(y)", "--dtype", "float32")
    assert (status, err) == (0, "")
    assert out == sym2tf.compile(sym2tf.parse("exp(-x**2)*sin(y)"), dtype="float32").source
    assert "tf.float32" in out


def arguments_of(source: str) -> list[str]:
    function = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)][-1]
    return [a.arg for a in function.args.args]


def test_args_set_the_order_and_may_name_bases_and_what_is_not_used(run) -> None:
    assert arguments_of(run("source", "x*y", "--args", "y, x,z")[1]) == ["y", "x", "z"]
    assert arguments_of(run("source", COST, "--args", "y,w,x,b")[1]) == ["y", "w", "x", "b"]
    assert arguments_of(run("source", "w[0,1]*x", "--args", "x,w[0,1]")[1])[0] == "x"
    status, _, err = run("source", "x*y", "--args", "y")
    assert status == 2
    assert "x" in err


def test_gradient_is_by_everything_or_by_what_is_named(run) -> None:
    f = sym2tf.compile(sym2tf.parse("w[0]*x"))
    assert run("source", "w[0]*x", "--gradient", "w[0]")[1] == f.gradient(sp.IndexedBase("w")[0]).source
    f = sym2tf.compile(sym2tf.parse("x**2*y"))
    assert run("source", "x**2*y", "--gradient")[1] == f.gradient().source
    assert run("source", "x**2*y", "--gradient", "y")[1] == f.gradient("y").source
    assert run("source", "x**2*y", "--gradient=y,x")[1] == f.gradient(("y", "x")).source


def test_an_expression_behind_gradient_is_the_expression(run) -> None:
    assert run("source", "--gradient", "x**2*y") == run("source", "x**2*y", "--gradient")


@pytest.mark.parametrize("text", ["-x**2", "-x", "-sin(x)", "- x", "-2*x", "-(x)", "-h*x", "-4"])
def test_an_expression_may_start_with_a_minus(run, text: str) -> None:
    status, out, err = run("source", text)
    assert (status, err) == (0, "")
    assert out == sym2tf.compile(sym2tf.parse(text)).source
    assert run("source", "--", text) == (0, out, "")


def test_a_single_minus_reads_standard_input(run, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x\n + y\n"))
    assert run("source", "-")[1] == run("source", "x + y")[1]
    monkeypatch.setattr("sys.stdin", io.StringIO("x+" * 10**6))
    status, _, err = run("source", "-")
    assert status == 2
    assert "characters" in err


def test_source_writes_a_file_that_defines_the_function(run, tmp_path: Path) -> None:
    path = tmp_path / "cost.py"
    status, out, err = run("source", "x*α", "-o", str(path))
    assert (status, out, err) == (0, "", f"wrote {path}\n")
    text = path.read_text(encoding="utf-8")
    assert len(arguments_of(text)) == 2
    assert "x*α" in text


def test_a_file_that_cannot_be_written_is_an_error(run, tmp_path: Path) -> None:
    for words in (["source", "x"], ["render", "x"]):
        status, out, err = run(*words, "-o", str(tmp_path / "no" / "f.svg"))
        assert (status, out) == (2, "")
        assert "cannot write" in err


def test_render_writes_the_format_of_the_suffix(run, tmp_path: Path) -> None:
    for suffix, start in ((".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF"), (".dot", b"digraph")):
        path = tmp_path / f"graph{suffix}"
        status, out, err = run("render", "exp(-x**2)*sin(y)", "-o", str(path))
        assert (status, out, err) == (0, "", f"wrote {path}\n")
        assert path.read_bytes().startswith(start)


def test_render_puts_text_and_pictures_on_stdout_when_that_is_no_terminal(run) -> None:
    status, out, err = run("render", "sin(x)", "--format", "dot", "--stage", "lowered")
    assert (status, err) == (0, "")
    assert out == sym2tf.compile(sp.sin(sp.Symbol("x"))).render(format="dot", stage="lowered").data
    assert "<svg" in run("render", "sin(x)", "-o", "-")[1]


def test_render_on_a_terminal_writes_a_file_and_overwrites_none(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run("render", "x**2") == (0, "", "wrote graph.svg\n")
    assert run("render", "x**3")[2] == "wrote graph-2.svg\n"
    assert run("render", "x**3", "--format", "dot")[2] == "wrote graph.dot\n"
    assert "<svg" in (tmp_path / "graph.svg").read_text(encoding="utf-8")


def test_render_draws_the_gradient(run) -> None:
    plain, derived = (run("render", "sin(x)*y", "--format", "dot", *more)[1] for more in ((), ("--gradient", "x")))
    assert "cos" not in plain
    assert "cos" in derived


def test_gradient_prints_mathematics(run) -> None:
    assert run("gradient", "-sin(x)*y**2") == (0, "d/dx = -y**2*cos(x)\nd/dy = -2*y*sin(x)\n", "")
    assert run("gradient", "x**2*y", "--wrt", "y")[1] == "d/dy = x**2\n"
    assert run("gradient", "w[0,1]**2*x", "--wrt", "w[0,1],x")[1] == "d/dw[0,1] = 2*x*w[0, 1]\nd/dx = w[0, 1]**2\n"
    out = run("gradient", COST, "--wrt", "w,b")[1]
    w, b = (sym2tf.parse(line.split(" = ")[1]) for line in out.splitlines())
    assert w == sym2tf.parse("-2*Sum((-b - w*x[i] + y[i])*x[i], (i, 0, n-1))/n")
    assert b == sym2tf.parse("-2*Sum(-b - w*x[i] + y[i], (i, 0, n-1))/n")


def test_a_gradient_that_is_too_long_to_read_names_its_shared_parts(run) -> None:
    text = "x"
    for _ in range(12):
        text = f"sin({text})*cos({text})"
    status, out, err = run("gradient", text)
    assert (status, err) == (0, "")
    assert out.startswith("x0 = ")
    assert out.splitlines()[-1].startswith("d/dx = ")
    assert len(out) < 20_000


def test_a_gradient_of_a_vector_points_to_the_jacobian(run) -> None:
    status, _, err = run("gradient", "x[i]**2")
    assert status == 2
    assert "jacobian" in err


# check -------------------------------------------------------------------------------------------


class Report:
    """Stands for a report, so that the command line is tested apart from the verification."""

    def __init__(self, ok: bool) -> None:
        self.ok = ok

    def __str__(self) -> str:
        return f"the report: {self.ok}"


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_check_prints_the_report_and_its_status_says_whether_all_agrees(run, monkeypatch, ok, status) -> None:
    asked: dict[str, Any] = {}

    def check(self: CompiledFunction, **options: Any) -> Report:
        asked.update(options, dtype=self.dtype, expr=self.expr)
        return Report(ok)

    monkeypatch.setattr(CompiledFunction, "check", check)
    words = ("check", "x*log(x)", "--samples", "7", "--seed", "3", "--dtype", "float32")
    assert run(*words) == (status, f"the report: {ok}\n", "")
    assert asked == {"samples": 7, "seed": 3, "dtype": "float32", "expr": sym2tf.parse("x*log(x)")}


# fit ---------------------------------------------------------------------------------------------


def test_fit_prints_the_summary(run, points) -> None:
    status, out, err = run("fit", COST, "--data", points(LINE), "--params", "w=0,b=0")
    assert (status, err) == (0, "")
    rows = {line.split()[0]: line.split()[1] for line in out.splitlines() if line[:2] in {"w ", "b "}}
    w, b = np.polyfit([0, 1, 2, 3], [1, 3, 5, 7.5], 1)
    assert float(rows["w"]) == pytest.approx(w, rel=1e-7)
    assert float(rows["b"]) == pytest.approx(b, rel=1e-7)


@pytest.mark.skipif(not COURSE.exists(), reason="the course data are not part of the project")
def test_fit_gives_the_reference_of_the_course_data(run) -> None:
    for expression in ("Eq(y[i], w*x[i]+b)", "Eq(y, w*x+b)", COST):
        status, out, _ = run(
            "fit", expression, "--data", str(COURSE), "--json",
            "--column", "y=Life expectancy", "--column", "x=Birth rate",
        )  # fmt: skip
        result = json.loads(out)
        assert status == 0
        assert result["params"]["b"] == pytest.approx({"estimate": 85.71349893, "stderr": 0.89258862}, rel=1e-8)
        assert result["params"]["w"] == pytest.approx({"estimate": -5.71881564, "stderr": 0.28330629}, rel=1e-8)
        assert result["r_squared"] == pytest.approx(0.684285, abs=1e-6)


def test_fit_ignores_columns_of_text_that_it_does_not_use(run) -> None:
    words = ("fit", "Eq(life_expectancy, w*log(x)+b)", "--data", str(GAPMINDER), "--column", "x=gdp_per_capita")
    status, out, _ = run(*words, "--json")
    assert status == 0
    assert json.loads(out)["observations"] == 142


def test_fit_writes_the_plot(run, points, tmp_path: Path) -> None:
    path = tmp_path / "fit.png"
    status, _, err = run("fit", "Eq(y, w*x+b)", "--data", points(LINE), "--plot", str(path))
    assert (status, err) == (0, f"wrote {path}\n")
    assert path.read_bytes().startswith(b"\x89PNG")
    for bad in ("no/fit.png", "fit.nonsense"):
        status, _, err = run("fit", "Eq(y, w*x+b)", "--data", points(LINE), "--plot", str(tmp_path / bad))
        assert status == 2
        assert "cannot write" in err


def test_the_json_of_an_exact_fit_can_be_read(run, points) -> None:
    out = run("fit", "Eq(y, w*x+b)", "--data", points("x,y\n1,2\n2,5\n"), "--json")[1]

    def refuse(text: str) -> None:
        raise AssertionError(text)

    assert json.loads(out, parse_constant=refuse)["params"]["w"]["estimate"] == pytest.approx(3)


DECAY = "t,y,s\n" + "".join(f"{k / 4},{2 * 0.8 ** (k / 2) + 0.02 * (-1) ** k},{0.01 + 0.01 * k}\n" for k in range(12))
MODEL = "Eq(y, a*exp(-k*t))"


def decay(*words: str) -> tuple[str, ...]:
    return ("fit", MODEL, "--params", "a=1,k=1", *words)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ((), {}),
        (("--sigma", "s"), {"sigma": "s"}),
        (("--sigma", "s", "--absolute-sigma"), {"sigma": "s", "absolute_sigma": True}),
        (("--sigma", "0.1", "--absolute-sigma"), {"sigma": 0.1, "absolute_sigma": True}),
        (("--loss", "cauchy"), {"loss": "cauchy"}),
        (("--loss", "soft_l1(0.02)"), {"loss": sym2tf.losses.soft_l1(0.02)}),
        (("--method", "trf"), {"method": "trf"}),
    ],
)
def test_options_of_the_command_are_those_of_the_function(run, points, words, options) -> None:
    path = points(DECAY)
    table = np.genfromtxt(path, delimiter=",", names=True)
    options = {k: table[v] if v == "s" else v for k, v in options.items()}
    a, k, t, y = sp.symbols("a k t y")
    due = sym2tf.fit(sp.Eq(y, a * sp.exp(-k * t)), {t: table["t"], y: table["y"]}, {a: 1, k: 1}, **options)
    status, out, err = run(*decay("--data", path, "--json", *words))
    found = json.loads(out)["params"]
    assert (status, err) == (0, "")
    for name, estimate, error in due.rows():
        assert found[name]["estimate"] == pytest.approx(estimate, rel=1e-10)
        assert found[name]["stderr"] == (None if error is None else pytest.approx(error, rel=1e-8))


def test_bounds_and_fixed_values_hold(run, points) -> None:
    path = points(DECAY)
    params = json.loads(run(*decay("--data", path, "--bounds", "a=:1.5,k=0:", "--json"))[1])["params"]
    assert params["a"]["estimate"] == 1.5
    found = json.loads(run(*decay("--data", path, "--fixed", "a=2", "--json"))[1])
    assert list(found["params"]) == ["k"]
    out = run("fit", MODEL, "--data", path, "--params", "a=2,k=1", "--fixed", "a")[1]
    assert re.search(r"^a +2 +\(fixed\)", out, re.MULTILINE)
    unnamed = run("fit", "Eq(y, w*t+b)", "--data", path, "--bounds", "w=:-1", "--json")[1]
    assert json.loads(unnamed)["at_bounds"] == ["w"]


def test_a_likelihood_may_be_minimised_or_maximised(run, points) -> None:
    path = points("x,c\n0,3\n1,4\n2,9\n3,12\n4,25\n")
    term = "w*x[i]+b"
    cost = f"Sum(exp({term}) - c[i]*({term}), (i, 0, n-1))"
    words = ("--data", path, "--likelihood", "--json")
    least = json.loads(run("fit", cost, *words)[1])
    most = json.loads(run("fit", f"-({cost})", "--maximize", *words)[1])
    assert most["params"]["w"] == pytest.approx(least["params"]["w"], rel=1e-9)
    assert most["log_likelihood"] == pytest.approx(least["log_likelihood"])


def test_robust_errors_latex_and_a_file_of_the_fit(run, points, tmp_path: Path) -> None:
    path, saved = points(DECAY), tmp_path / "decay.fit"
    status, out, err = run(*decay("--data", path, "--robust", "HC3", "--latex", "--save", str(saved)))
    assert (status, err) == (0, f"wrote {saved}\n")
    loaded = sym2tf.load_fit(saved)
    assert out.rstrip("\n") == loaded.to_latex()
    assert "HC3" in out
    assert run(*decay("--data", path, "--latex", "--json"))[0] == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--bounds", "a=1"), "a=LOW:HIGH"),
        (("--bounds", "a=0:ten"), "'ten' is not a number"),
        (("--bounds", "a=0:1,a=0:2"), "--bounds gives a twice"),
        (("--bounds", "q=0:1"), "--bounds: q is no parameter; they are a, k"),
        (("--bounds", "a=3:5"), "outside its bounds"),
        (("--fixed", "q"), "--fixed: q is no parameter"),
        (("--fixed", "a=x"), "--fixed: 'x' is not a number"),
        (("--fixed", "a,k"), "nothing to fit"),
        (("--loss", "hubert"), "--loss: there is no 'hubert'"),
        (("--loss", "huber(x)"), "--loss: 'x' is not a number"),
        (("--sigma", "spread"), "--sigma: "),
        (("--method", "magic"), "magic"),
        (("--robust", "HC9"), "HC9"),
        (("--save", "no/such/folder.fit"), "cannot write"),
        (("--likelihood",), "likelihood"),
    ],
)
def test_options_that_do_not_fit_are_told_in_one_message(run, points, words, told: str) -> None:
    status, _, err = run(*decay("--data", points(DECAY), *words))
    assert status == 2
    assert told in err
    assert "Traceback" not in err


def test_what_json_cannot_write_becomes_null() -> None:
    facts = {"a": float("nan"), "b": [float("inf"), np.float64(1), None], "c": np.float64("nan"), "d": "nan"}
    assert fit_command.finite(facts) == {"a": None, "b": [None, 1.0, None], "c": None, "d": "nan"}


def test_a_fit_that_does_not_converge_has_status_1(run, points, monkeypatch) -> None:
    real = sym2tf.fit
    monkeypatch.setattr(sym2tf, "fit", lambda *words, **more: real(*words, **more, max_iterations=1))
    words = ("fit", "Eq(y, a*exp(k*x))", "--data", points(LINE), "--params", "a=1,k=0.1", "--json")
    status, out, _ = run(*words)
    assert status == 1
    assert json.loads(out)["success"] is False


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x,y\n0,1\n1,3\n", "comma"),
        ("x;y\r\n0;1\r\n1;3\r\n", "semicolon, Windows line ends"),
        ("x\ty\n0\t1\n1\t3\n", "tab"),
        ("x   y\n 0  1\n 1\t3\n", "white space"),
        ("x, y, note\n0, 1, a b\n\n1, 3,\n", "blanks behind commas, an empty line"),
        ("note;x;y\na, b;0;1\nc, d, e;1;3\n", "commas inside semicolons"),
        ('note,x,y\n"a, b",0,1\n"c\nd",1,3\n', "quoted commas and line ends"),
        ("\tx\ty\n0\t0\t1\n1\t1\t3\n", "an index column without a name"),
        ("x y,y,x\n9,1,0\n9,3,1\n", "blanks in a header"),
        ("\ufeffx,y\n0,1\n1,3\n", "byte order mark"),
    ],
)
def test_the_separator_is_found(points, text: str, name: str) -> None:
    file = read_data_file(points(text))
    assert file.column("x").tolist() == [0, 1]
    assert file.column("y").tolist() == [1, 3]


def test_a_first_line_of_numbers_is_data_and_columns_have_numbers(run, points) -> None:
    path = points("0 1\n1 3\n2 5\n", "points.txt")
    assert read_data_file(path).column("2").tolist() == [1, 3, 5]
    words = ("fit", "Eq(y, w*x+b)", "--data", path, "--column", "x=1", "--column", "y=2", "--json")
    assert json.loads(run(*words)[1])["params"]["w"]["estimate"] == pytest.approx(2)


@pytest.mark.parametrize("cell", ["n/a", "", "nan", "inf", "1,5", "1_000", "٣", "0x10"])
def test_a_bad_cell_that_is_used_is_named_by_row_and_column(run, points, cell: str) -> None:
    path = points(f"x;y\n0;1\n1;{cell}\n2;5\n")
    status, out, err = run("fit", "Eq(y, w*x+b)", "--data", path)
    assert (status, out) == (2, "")
    assert "column 'y'" in err
    assert "row 2 (line 3)" in err
    assert ("decimals" in err) == (cell == "1,5")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "no data in it"),
        (b"x,y\n", "a header and no rows"),
        (b"x,y\n1,2\n3\n", "line 3 has 1 cells, the first line has 2"),
        (b"x,y\n1,\xff\n", "not UTF-8"),
        (b"x,y\n1,\x00\n", "zero bytes"),
    ],
)
def test_a_file_that_is_no_table_is_an_error(points, text: bytes, told: str) -> None:
    with pytest.raises(DataError, match=re.escape(told)):
        read_data_file(points(text))


def test_a_file_that_is_not_there_is_an_error(run, tmp_path: Path) -> None:
    status, _, err = run("fit", "Eq(y, w*x)", "--data", str(tmp_path / "no.csv"))
    assert status == 2
    assert "cannot read" in err
    assert "No such file" in err


def test_a_name_that_two_columns_have_is_ambiguous(points) -> None:
    file = read_data_file(points("x,x\n1,2\n"))
    with pytest.raises(DataError, match="2 columns are named 'x'"):
        file.column("x")
    assert file.column("2").tolist() == [2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--column", "q=x"], "no symbol q"),
        (["--column", "x=nonsense"], "no column 'nonsense'; the columns are 'x', 'y'"),
        (["--column", "x=3"], "no column '3'"),
        (["--column", "w=x", "--params", "w=0"], "only one of them"),
        (["--params", "w=1"], "no column for b"),
        (["--params", "w=one"], "'one' is not a number"),
        (["--params", "w=0,w=1"], "gives w twice"),
        (["--params", "w=0,b=0,q=0"], "q"),
    ],
)
def test_data_and_parameters_that_do_not_fit_the_cost_are_errors(run, points, words, told: str) -> None:
    status, out, err = run("fit", COST, "--data", points(LINE), *words)
    assert (status, out) == (2, "")
    assert told in err


def test_a_cost_without_columns_is_an_error(run, points) -> None:
    path = points("u,v\n1,2\n")
    assert "no column for x, y" in run("fit", COST, "--data", path)[2]
    assert "no column has the name of a symbol in the cost" in run("fit", "Eq(y, w*x)", "--data", path)[2]


# doctor ------------------------------------------------------------------------------------------


def test_the_doctor_tells_versions_devices_and_the_engine_without_noise() -> None:
    quiet = {"TF_CPP_MIN_LOG_LEVEL"}  # which the tests set and users do not
    environment = {k: v for k, v in os.environ.items() if k not in quiet}
    done = subprocess.run(
        [sys.executable, "-m", "sym2tf", "doctor"],
        capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        f"sym2tf +{sym2tf.__version__}",
        f"sympy +{sp.__version__}",
        "devices .*CPU:0",
        "pictures .*Graphviz",
    ):
        assert re.search(words, done.stdout), words
    assert done.stdout.splitlines()[-1].startswith("sym2tf works here")


def test_the_doctor_warns_and_fails(run, monkeypatch) -> None:
    found = [Finding("numpy", "1.0", "too old"), Finding("sympy", "missing", "pip install sympy", fatal=True)]
    monkeypatch.setattr(cli, "examine", lambda: found[:1])
    status, out, _ = run("doctor")
    assert (status, out.splitlines()[-1]) == (0, "sym2tf works here, 1 warning")
    assert out.startswith("! numpy")
    monkeypatch.setattr(cli, "examine", lambda: found)
    status, out, _ = run("doctor")
    assert (status, out.splitlines()[-1]) == (1, "sym2tf does not work here, 1 fault, 1 warning")


def test_the_doctor_sees_what_is_missing_or_too_old(monkeypatch) -> None:
    assert doctor._release(Requirement("no-such-distribution")).fatal
    assert doctor._release(Requirement("sympy", "999.0")).fatal
    assert not doctor._release(Requirement("sympy", "999.0", essential=False)).fatal
    assert not doctor._release(Requirement("sympy", "1.2.3")).problem

    def broken() -> list[str]:
        raise ImportError("DLL load failed\nand more")

    monkeypatch.setattr(doctor, "devices", broken)
    assert [f.problem for f in doctor._tensorflow()] == ["DLL load failed"]


def test_the_doctor_misses_a_gpu_that_tensorflow_does_not_see(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_has_nvidia", lambda: True)
    monkeypatch.setattr(doctor, "devices", lambda: ["CPU:0"])
    assert "and-cuda" in next(doctor._tensorflow()).problem
    monkeypatch.setattr(doctor, "devices", lambda: ["CPU:0", "GPU:0 (NVIDIA H200)"])
    assert not next(doctor._tensorflow()).problem


def test_the_doctor_asks_for_what_the_project_declares() -> None:
    with open(ROOT / "pyproject.toml", "rb") as stream:
        declared = tomllib.load(stream)["project"]["dependencies"]
    asked = {r.name: r.oldest for r in REQUIREMENTS}
    for line in declared:
        name, _, oldest = re.sub(r"\[.*\]", "", line).partition(">=")
        assert asked[name] == oldest


# Real processes ----------------------------------------------------------------------------------


def test_nothing_but_check_and_doctor_imports_tensorflow(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom sym2tf.cli import main\n"
        "for words in (['render', 'x*y', '-o', 'graph.svg', '--gradient'], ['source', 'x*y', '-o', 'f.py'],\n"
        "              ['gradient', 'x*y'], ['fit', 'Eq(y, w*x)', '--data', 'points.csv']):\n"
        "    assert main(words) == 0\n"
        "assert 'tensorflow' not in sys.modules"
    )
    (tmp_path / "points.csv").write_text(LINE)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_an_ascii_terminal_gets_text_escaped_and_programs_get_utf8() -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    program = (
        "from sym2tf.cli import main; print(main(['gradient', '\\u03b1**2']), main(['source', '\\u03b1']), "
        "main(['source', '\\u03b1 \\u03b2']), sep='')"
    )
    done = process("-c", program, environment=ascii_only)
    assert done.returncode == 0, done.stderr
    out = done.stdout.decode()
    assert out.startswith("d/d\\u03b1 = 2*\\u03b1\n")
    assert '"""α"""' in out
    assert out.endswith("002\n")
    assert "\\u03b1 \\u03b2" in done.stderr.decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["gradient", "source"])
def test_a_reader_that_stops_early_is_no_error(command: str) -> None:
    words = [sys.executable, "-m", "sym2tf", command, "sin(x)*y"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.close()
        assert writer.stderr.read() == b""
        assert writer.wait(timeout=120) == 141
