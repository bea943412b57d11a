"""The layers: imports only go down, only one layer imports TensorFlow, and importing sym2tf is cheap."""

from __future__ import annotations

import ast
import compileall
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sym2tf"

# From the bottom up. Parts on one level know nothing of each other.
LAYERS = (
    {"errors"},
    {"lazy", "trees", "console", "collection", "notation", "nn", "optimizers", "losses", "datafile"},
    {"ir"},
    {"ops"},
    {"magnitude"},
    {"frontend", "autodiff", "passes"},
    {"backends"},
    {"render"},
    {"sampling", "check_report", "wrt", "structured", "expression_json"},
    {"arguments"},
    {"check"},
    {"compiled"},
    {"fit", "training"},
    {"adapters", "parse", "sklearn", "keras"},
    {"api"},
    {"__init__"},
    {"doctor", "fit_command"},
    {"cli"},
    {"__main__"},
)
# The same inside of `fit`.
LAYERS_OF_FIT = (
    {"wording"},
    {"options"},
    {"statement"},
    {"process"},
    {"evaluation"},
    {"solvers"},
    {"inference"},
    {"report"},
    {"batch_result", "result"},
    {"batched", "supervision", "warm_start"},
    {"api"},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
LEVEL_OF_FIT = {part: level for level, parts in enumerate(LAYERS_OF_FIT) for part in parts}
MAY_IMPORT_TENSORFLOW = ("backends/tensorflow/", "adapters/", "keras.py")
FOR_USERS_OF = {"sklearn.py": "sklearn.", "keras.py": "keras"}  # derive from classes there; imported when needed
HEAVY = ("tensorflow", "keras", "matplotlib", "pandas", "sklearn", "jax", "scipy.optimize")
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def part_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def tree_of(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_of(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Every import with the full name of what it imports; those for type checkers only are left out."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if is_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)
        pending += ast.iter_child_nodes(node)


def lazily_imported(tree: ast.AST) -> set[str]:
    """The names given to the lazy loader."""
    return {
        str(node.args[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "lazy"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


def upward(file: str, tree: ast.AST) -> list[str]:
    """The imports of `file` that do not go down."""
    here = part_of(file)
    found = []
    for _, name in imports_of(tree):
        if not name.startswith("sym2tf."):
            continue
        there = name.split(".")[1]
        if there not in LEVEL and "." not in name.removeprefix("sym2tf."):
            there = "__init__"  # `from sym2tf import compile`: a public name
        if there != here and LEVEL[there] >= LEVEL[here]:
            found.append(name)
        elif there == here == "fit" and (room := file.split("/")[1].removesuffix(".py")) != "__init__":
            inner = name.split(".")[2]
            if inner != room and LEVEL_OF_FIT[inner] >= LEVEL_OF_FIT[room]:
                found.append(name)
    return found


def test_the_documentation_shows_the_same_layers() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    _, listed = text.split("From the\nbottom up:\n\n")
    block = listed.split("\n\n")[0]
    assert [set(line.strip().split(", ")) for line in block.splitlines()] == list(LAYERS)
    _, listed = text.split("In the same way, inside of `fit`:\n\n")
    block = listed.split("\n\n")[0]
    assert [set(line.strip().split(", ")) for line in block.splitlines()] == list(LAYERS_OF_FIT)


@pytest.mark.parametrize("file", FILES)
def test_every_part_has_a_layer(file: str) -> None:
    assert part_of(file) in LEVEL, f"say in LAYERS where {part_of(file)} belongs"


@pytest.mark.parametrize("file", FILES)
def test_imports_only_go_down(file: str) -> None:
    assert upward(file, tree_of(file)) == []


def test_an_import_that_goes_up_or_sideways_is_found() -> None:
    assert upward("ir/graph.py", ast.parse("from sym2tf.ops import OPS")) == ["sym2tf.ops.OPS"]
    assert upward("passes/fold.py", ast.parse("import sym2tf.autodiff.reverse")) == ["sym2tf.autodiff.reverse"]
    assert upward("ops/logic.py", ast.parse("from sym2tf import compile")) == ["sym2tf.compile"]
    solver = "sym2tf.fit.solvers.choice.solve"
    assert upward("fit/statement/ties.py", ast.parse("from sym2tf.fit.solvers.choice import solve")) == [solver]
    assert upward("passes/fold.py", ast.parse("from sym2tf.passes.rules import Rule\nimport sympy")) == []


@pytest.mark.parametrize("file", FILES)
def test_no_import_stands_inside_a_function(file: str) -> None:
    tree = tree_of(file)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    assert [name for function in functions for _, name in imports_of(function)] == []


@pytest.mark.parametrize("file", FILES)
def test_only_the_tensorflow_layer_imports_tensorflow(file: str) -> None:
    if file.startswith(MAY_IMPORT_TENSORFLOW):
        return
    tree = tree_of(file)
    names = {name for _, name in imports_of(tree)} | lazily_imported(tree)
    assert [name for name in names if name.split(".")[0] in {"tensorflow", "keras"}] == []


@pytest.mark.parametrize("file", FILES)
def test_heavy_modules_come_through_the_lazy_loader(file: str) -> None:
    names = [name for _, name in imports_of(tree_of(file))]
    names = [n for n in names if not (file in FOR_USERS_OF and n.startswith(FOR_USERS_OF[file]))]
    assert [n for n in names if any(n == heavy or n.startswith(heavy + ".") for heavy in HEAVY)] == []


@pytest.mark.parametrize("file", [f for f in FILES if f.startswith("ir/")])
def test_the_ir_knows_neither_sympy_nor_tensorflow(file: str) -> None:
    names = {name.split(".")[0] for _, name in imports_of(tree_of(file))}
    assert not names & {"sympy", "tensorflow", "numpy", "mpmath"}


@pytest.mark.parametrize("file", FILES)
def test_importing_has_no_side_effect(file: str) -> None:
    """At module level stand definitions only: no bare call that would register something, no bare loop."""
    definitions = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    for node in tree_of(file).body:
        text = ast.unparse(node)
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        main = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
        # Python offers no other way to learn of a fork
        at_fork = text.startswith("os.register_at_fork(")
        assert isinstance(node, definitions) or docstring or main or at_fork or is_type_checking(node), text


# What importing costs ----------------------------------------------------------------------------


def run(program: str, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120, cwd=folder
    )
    return done.stdout.strip()


def test_importing_sym2tf_imports_nothing_heavy() -> None:
    loaded = run("import sym2tf, sys; print(*sys.modules)").split()
    assert "sympy" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_help_imports_no_tensorflow() -> None:
    program = (
        "import sys, contextlib, io\n"
        "from sym2tf.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main(['--help'])\n"
        "print(*sys.modules)"
    )
    assert not {"tensorflow", "scipy.optimize", "matplotlib"} & set(run(program).split())


def test_importing_sym2tf_adds_at_most_half_a_second_to_importing_sympy(tmp_path: Path) -> None:
    # with bytecode, as pip installs it: where PYTHONDONTWRITEBYTECODE is set, half of the time would be compilation
    shutil.copytree(PACKAGE, tmp_path / "sym2tf", ignore=shutil.ignore_patterns("__pycache__"))
    assert compileall.compile_dir(tmp_path / "sym2tf", quiet=2)
    program = "import time, sympy\nstart = time.process_time()\nimport sym2tf\nprint(time.process_time() - start)"
    # processor time, and the least of a few runs: what other programs do meanwhile only ever adds
    assert min(float(run(program, tmp_path)) for _ in range(5)) < 0.5


def test_the_version_stands_in_one_place() -> None:
    stated = run("import sym2tf; print(sym2tf.__version__)")
    assert f'"{stated}"' not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"## {stated}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
