"""The command line: `sym2tf render|source|gradient|check|fit EXPR`, where EXPR is text, and `sym2tf doctor`.

What programs read (source, SVG, DOT, JSON) goes to stdout in UTF-8 whatever the locale says; what people
read is escaped where their terminal cannot show it. Notices and errors go to stderr.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sympy as sp

import sym2tf
from sym2tf.backends.sympy import raise_shared, raise_to_sympy
from sym2tf.compiled import REAL_DTYPES, CompiledFunction
from sym2tf.console import discard_output, notice, showing_everything, write_data
from sym2tf.doctor import examine
from sym2tf.errors import ArgumentError, FitWarning, RenderError, ResourceLimitError, Sym2TFError
from sym2tf.fit_command import as_json, fitted, names_in, pair
from sym2tf.ir.types import Kind
from sym2tf.render.api import FORMATS, write_atomically

OK, NEGATIVE, FAILED = 0, 1, 2  # NEGATIVE: it worked, and the answer is no
INTERRUPTED, BROKEN_PIPE = 130, 141  # what shells report for SIGINT and SIGPIPE
MAX_STDIN = 200_000  # characters; more than `parse` reads, so that it says what is too long
EVERYTHING = ""  # of `--gradient` without names

EXAMPLES = {
    "render": """examples:
  sym2tf render "exp(-x**2)*sin(y)" -o graph.svg
  sym2tf render "x*log(x)" --gradient --stage lowered -o gradient.pdf
  sym2tf render "sin(x)*y" --format dot | dot -Tpng > graph.png""",
    "source": """examples:
  sym2tf source "exp(-x**2)*sin(y)" --args y,x
  sym2tf source "Sum((y[i]-w*x[i]-b)**2, (i, 0, n-1))/n" --gradient w,b -o cost.py
  echo "-x**2" | sym2tf source - --dtype float32""",
    "gradient": """examples:
  sym2tf gradient "exp(-x**2)*sin(y)"
  sym2tf gradient "Sum((y[i]-w*x[i]-b)**2, (i, 0, n-1))/n" --wrt w,b""",
    "check": """examples:
  sym2tf check "x*log(x)"
  sym2tf check "log(1+exp(x))" --dtype float32 --samples 500

exit status: 0 when everything agrees, 1 when something does not""",
    "fit": """examples:
  sym2tf fit "Sum((y[i]-w*x[i]-b)**2, (i, 0, n-1))/n" --data points.csv --params w=0,b=0
  sym2tf fit "Eq(y[i], a*exp(-k*t[i]))" --data decay.txt --params a=1,k=0.1 --plot decay.png
  sym2tf fit "Eq(y[i], w*x[i]+b)" --data people.csv --column y=life_expectancy --column x=income --json
  sym2tf fit "Eq(y, a*exp(-k*t))" --data decay.txt --params a=1,k=1 --bounds k=0: --loss huber --save decay.fit

exit status: 0 when the fit converged, 1 when it did not""",
    "doctor": """exit status: 0 when sym2tf can do its work here, 1 when something that it needs is missing""",
}
ABOUT_EXPRESSIONS = """EXPR is written as in SymPy: exp(-x**2)*sin(y), Sum(x[i]**2, (i, 0, n-1)),
Piecewise((x, x > 0), (0, True)). Names that are no functions are symbols.
A single - reads the expression from standard input. Nothing in it is executed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments without the program's name; those of the process by default.

    Returns:
        The exit status: 0, or 1 where a check found a disagreement, a fit did not converge or the doctor a fault,
        or 2 after an error, which is told on stderr in one message. A bug in sym2tf passes as the exception it is.
    """
    words = _with_leading_minus(sys.argv[1:] if argv is None else argv)
    with showing_everything(sys.stdout), showing_everything(sys.stderr):
        try:
            options = _parser().parse_args(words)
            status: int = options.run(options)
            sys.stdout.flush()
        except Sym2TFError as error:
            print(f"sym2tf: error: {error}", file=sys.stderr)
            return FAILED
        except ModuleNotFoundError as error:
            if (error.name or "sym2tf").startswith("sym2tf"):
                raise
            print(f"sym2tf: error: this needs {error.name}, which is not installed; see sym2tf doctor", file=sys.stderr)
            return FAILED
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            discard_output()
            return BROKEN_PIPE
        except KeyboardInterrupt:
            return INTERRUPTED
    return status


# The commands ------------------------------------------------------------------------------------


def render(options: argparse.Namespace) -> int:
    """`sym2tf render`: a picture in a file, or on stdout where that is no terminal."""
    function = _function(options)
    path, form = options.output, options.format
    if path is None and sys.stdout.isatty():
        path = _free_name("graph", form or "svg")
    if path in {None, "-"}:
        write_data(function.render(stage=options.stage, format=form).data)
        return OK
    function.render(path, stage=options.stage, format=form)
    notice(f"wrote {path}")
    return OK


def source(options: argparse.Namespace) -> int:
    """`sym2tf source`: the generated TensorFlow code."""
    text = _function(options).source
    if options.output in {None, "-"}:
        write_data(text)
        return OK
    write_atomically(Path(options.output), text)
    notice(f"wrote {options.output}")
    return OK


def gradient(options: argparse.Namespace) -> int:
    """`sym2tf gradient`: each derivative as mathematics, one to a line, before them the parts that they share."""
    function = sym2tf.compile(sym2tf.parse(_text(options.expression)))
    inputs = [function.lowered[v] for v in function.lowered.inputs]
    names = names_in(options.wrt) or [n.attributes["name"] for n in inputs if n.type.kind >= Kind.REAL]
    derived = function.gradient(tuple(map(_input, names))).lowered
    shared: list[tuple[Any, Any]] = []
    try:
        outputs = raise_to_sympy(derived)
    except ResourceLimitError:  # too long to read in one piece
        shared, outputs = raise_shared(derived)
    for symbol, part in shared:
        print(f"{symbol} = {part}")
    for name, expression in zip(names, outputs.values(), strict=True):
        print(f"d/d{name} = {expression}")
    return OK


def check(options: argparse.Namespace) -> int:
    """`sym2tf check`: the report of the verification."""
    given = {"samples": options.samples, "seed": options.seed}
    report = _compiled(options, options.expression).check(**{k: v for k, v in given.items() if v is not None})
    print(report)
    return OK if report.ok else NEGATIVE


def fit(options: argparse.Namespace) -> int:
    """`sym2tf fit`: the summary of a fit to the columns of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # the summary says it, and the status
        result = fitted(sym2tf.parse(_text(options.expression)), options)
    if options.json:
        print(json.dumps(as_json(result), indent=2))
    else:
        print(result.to_latex() if options.latex else result.summary())
    if options.plot is not None:
        _save(result.plot(), options.plot)
        notice(f"wrote {options.plot}")
    if options.save is not None:
        result.save(options.save)
        notice(f"wrote {options.save}")
    return OK if result.success else NEGATIVE


def doctor(options: argparse.Namespace) -> int:
    """`sym2tf doctor`: one line for everything that was looked at, then the verdict."""
    findings = []
    for finding in examine():
        print(finding, flush=True)
        findings.append(finding)
    fatal = sum(f.fatal for f in findings)
    warnings = sum(bool(f.problem) for f in findings) - fatal
    told = [f"{n} {noun}{'s' * (n > 1)}" for n, noun in ((fatal, "fault"), (warnings, "warning")) if n]
    print("sym2tf works here" if not fatal else "sym2tf does not work here", *told, sep=", ")
    return NEGATIVE if fatal else OK


# Expressions and names ---------------------------------------------------------------------------


def _function(options: argparse.Namespace) -> CompiledFunction:
    """What EXPR, --args, --dtype and --gradient ask for."""
    text, wrt = options.expression, options.gradient
    if text is None and wrt:  # `--gradient EXPR`: argparse took the expression for the names
        text, wrt = wrt, EVERYTHING
    function = _compiled(options, text)
    if wrt is None:
        return function
    names = [_input(name) for name in names_in(wrt)]
    return function.gradient(names[0] if len(names) == 1 else names or None)


def _compiled(options: argparse.Namespace, text: str | None) -> CompiledFunction:
    if text is None:
        raise ArgumentError("an expression is missing; see sym2tf --help")
    expression = sym2tf.parse(_text(text))
    args = None if options.args is None else _arguments(options.args, expression)
    return sym2tf.compile(expression, args, dtype=options.dtype)


def _text(argument: str) -> str:
    if argument != "-":
        return argument
    try:
        return sys.stdin.read(MAX_STDIN)
    except UnicodeDecodeError as error:
        raise ArgumentError(f"standard input is not {error.encoding} text (byte {error.start})") from error


def _input(name: str) -> Any:
    """What `wrt=` takes: the name of an input, or an element such as `w[0]`."""
    return sym2tf.parse(name) if "[" in name else name


def _arguments(text: str, expression: sp.Basic) -> tuple[Any, ...]:
    """The symbols, bases and elements that `--args` names, as they occur in the expression."""
    bases = {str(base): base for base in expression.atoms(sp.IndexedBase)}
    return tuple(bases[name] if name in bases else sym2tf.parse(name, symbols=bases) for name in names_in(text))


# Output ------------------------------------------------------------------------------------------


def _free_name(stem: str, suffix: str) -> str:
    """`graph.svg`, or `graph-2.svg` where that exists: a file that nobody named is not overwritten."""
    names = (f"{stem}{'' if k == 1 else f'-{k}'}.{suffix}" for k in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def _save(figure: Any, path: str) -> None:
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:  # ValueError: a suffix that names no format
        raise RenderError(f"cannot write {path!r}: {getattr(error, 'strerror', None) or error}") from error


# The grammar -------------------------------------------------------------------------------------


def _with_leading_minus(words: Sequence[str]) -> list[str]:
    """`words` where an expression such as `-x**2` is told from an option by a blank in front."""
    end = words.index("--") if "--" in words else len(words)
    expressions = re.compile(r"-(?![-o]|h$).")
    return [f" {w}" if k < end and expressions.match(w) else w for k, w in enumerate(words)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sym2tf",
        description="Compiles mathematics to TensorFlow: draws it, prints its code and derivatives, verifies it, "
        "and fits it to data.",
        epilog=f'example:\n  sym2tf source "exp(-x**2)*sin(y)"\n\n{ABOUT_EXPRESSIONS}\n\n'
        "exit status: 0, or 1 where the answer is no, or 2 after an error",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sym2tf {sym2tf.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    one = _command(commands, render, "draw the graph of an expression")
    _compiling(one)
    one.add_argument("-o", "--output", metavar="FILE", help="what to write: .svg, .png, .pdf, .dot or .gv")
    one.add_argument("--format", choices=FORMATS, help="by default from FILE, else svg")
    one.add_argument(
        "--stage", choices=("lowered", "optimized"), default="optimized", help="before or after the passes"
    )
    _differentiating(one)

    one = _command(commands, source, "print the TensorFlow code of an expression")
    _compiling(one)
    _differentiating(one)
    one.add_argument("-o", "--output", metavar="FILE", help="write it there")

    one = _command(commands, gradient, "print the derivatives of an expression as mathematics")
    one.add_argument("expression", metavar="EXPR", help="the expression, or - for standard input")
    one.add_argument("--wrt", metavar="X,Y", default=EVERYTHING, help="by what to differentiate; by default all inputs")

    one = _command(commands, check, "verify values and derivatives of an expression")
    _compiling(one)
    one.add_argument("--samples", type=int, metavar="N", help="how many points to try")
    one.add_argument("--seed", type=int, metavar="K", help="other points for other numbers")

    one = _command(commands, fit, "fit the parameters of a cost, or of Eq(y, model), to a data file")
    one.add_argument("expression", metavar="EXPR", help="a cost to minimise, or Eq(observed, model)")
    one.add_argument(
        "--data", required=True, metavar="FILE", help="columns separated by commas, semicolons, tabs or blanks"
    )
    one.add_argument(
        "--column", action="append", type=pair, default=[], metavar="SYMBOL=NAME",
        help="the column of a symbol, by name or number, where it is not called like it; repeatable",
    )  # fmt: skip
    one.add_argument(
        "--params", metavar="W=0,B=0", help="start values; by default every symbol without a column starts at 0"
    )
    one.add_argument("--bounds", metavar="W=0:1,B=:5", help="lower and upper bounds; either may be left out")
    one.add_argument("--fixed", metavar="W=1,B", help="parameters that keep the value given here, or their start value")
    one.add_argument("--loss", metavar="NAME", help="of each residual of an equation: huber, cauchy, soft_l1(2), ...")
    one.add_argument("--sigma", metavar="COLUMN", help="the column, or the number, of standard deviations")
    one.add_argument("--absolute-sigma", action="store_true", help="--sigma is meant literally, not up to a factor")
    one.add_argument("--likelihood", action="store_true", help="EXPR is a negative log-likelihood")
    one.add_argument("--maximize", action="store_true", help="EXPR is to be as large as possible")
    one.add_argument("--method", metavar="NAME", help="of the solver, instead of the one that EXPR asks for")
    one.add_argument("--robust", metavar="HC3", help="standard errors for unequal variances: HC0 to HC3")
    one.add_argument("--save", metavar="FILE", help="write the fit, for sym2tf.load_fit")
    one.add_argument("--plot", metavar="FILE", help="draw the fit")
    shown = one.add_mutually_exclusive_group()
    shown.add_argument("--latex", action="store_true", help="print the result as a LaTeX table")
    shown.add_argument("--json", action="store_true", help="print the result as JSON")

    _command(commands, doctor, "show versions and devices, and what is missing")
    return parser


def _command(commands: Any, run: Any, summary: str) -> argparse.ArgumentParser:
    name = run.__name__
    takes_expression = "" if name == "doctor" else f"\n\n{ABOUT_EXPRESSIONS}"
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=EXAMPLES[name] + takes_expression,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _compiling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("expression", nargs="?", metavar="EXPR", help="the expression, or - for standard input")
    parser.add_argument("--args", metavar="X,Y", help="the order of the arguments; by default sorted by name")
    parser.add_argument("--dtype", choices=REAL_DTYPES, default="float64", help="of real values")


def _differentiating(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gradient", nargs="?", const=EVERYTHING, metavar="X,Y",
        help="of the gradient instead, by everything or by these",
    )  # fmt: skip
