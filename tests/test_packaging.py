"""The package as users get it: what it holds, what importing it costs, which layers it has."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
SOURCES = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}


def run(*command: str | Path, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=300,
    )


def python(code: str, cwd: Path = ROOT, **environ: str) -> str:
    result = run(sys.executable, "-c", code, cwd=cwd, **environ)
    assert result.returncode == 0, result.stderr
    return result.stdout


def modules() -> dict[str, Path]:
    """The modules of the three source folders, by the name under which they are installed."""
    found = {}
    for package, folder in SOURCES.items():
        for path in folder.rglob("*.py"):  # does not follow the links
            inner = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *inner)).removesuffix(".__init__")] = path
    return found


def copy_sources(to: Path) -> Path:
    """A copy of what is built, links included, to break or to build in."""
    for folder in SOURCES.values():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(folder, to / folder.name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, to)
    return to


# -- what it holds


def test_every_folder_is_a_listed_package():
    on_disk = {
        name if path.name == "__init__.py" else name.rpartition(".")[0]
        for name, path in modules().items()
    }
    assert sorted(on_disk) == SETUPTOOLS["packages"]


@pytest.mark.parametrize("name", ["compiler", "runtime"])
def test_links_lead_to_the_sources(name):
    link = ROOT / "graphgrad" / name
    assert os.readlink(link) == f"../{name}"


@pytest.mark.parametrize("name", ["compiler", "runtime"])
def test_a_source_folder_refuses_its_bare_name(name):
    result = run(sys.executable, "-c", f"import {name}")
    assert result.returncode == 1
    assert f"ImportError: import graphgrad.{name}, not {name}" in result.stderr


@pytest.mark.slow
def test_wheel_built_from_sdist_works_alone(tmp_path):
    tree = copy_sources(tmp_path)
    built = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", cwd=tree)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (tree / "dist").glob("*.whl")

    with zipfile.ZipFile(wheel) as archive:
        files = Counter(archive.namelist())
        archive.extractall(tmp_path / "site")
    info = "-".join(wheel.name.split("-")[:2]) + ".dist-info"
    assert {name.partition("/")[0] for name in files} == {"graphgrad", info}
    assert f"{info}/licenses/LICENSE" in files
    packaged = Counter(name for name in files.elements() if not name.startswith(info))
    suffix = {True: "/__init__.py", False: ".py"}
    assert packaged == Counter(
        [
            "graphgrad/py.typed",
            "graphgrad/runtime/entry.ll",
            "graphgrad/runtime/pool.ll",
            *(
                name.replace(".", "/") + suffix[path.name == "__init__.py"]
                for name, path in modules().items()
            ),
        ]
    )

    imported = python(
        "import importlib, pkgutil, graphgrad\n"
        "for m in pkgutil.walk_packages(graphgrad.__path__, 'graphgrad.'):\n"
        "    print(importlib.import_module(m.name).__file__)",
        cwd=tmp_path / "dist",
        PYTHONPATH=str(tmp_path / "site"),
    )
    assert imported
    assert all(Path(line).is_relative_to(tmp_path / "site") for line in imported.splitlines())


# -- what importing it costs


@pytest.mark.parametrize("library", ["numba", "llvmlite", "scipy"])
def test_import_leaves_out(library):
    loaded = python("import sys, graphgrad; print(*sys.modules)").split()
    assert library not in loaded


@pytest.mark.parametrize("module", ["losses", "optimizers", "timing", "numpy_linalg", "devices"])
def test_import_leaves_for_later(module):
    code = "import sys, graphgrad as gg; print(*sys.modules); import graphgrad.{0}; gg.{0}"
    assert f"graphgrad.{module}" not in python(code.format(module)).split()


@pytest.mark.parametrize("module", ["runtime.program", "compiler.passes.loops", "compiler.driver"])
def test_import_leaves_the_compile_side_out(module):
    loaded = python("import sys, graphgrad; print(*sys.modules)").split()
    assert f"graphgrad.{module}" not in loaded


def test_names_loaded_later_are_there():
    """`dir` has them before they are loaded; what type checkers read is what is loaded."""
    code = (
        "import graphgrad as gg; names = dir(gg); assert names == sorted({*names, *gg.__all__})\n"
        "from graphgrad import *\n"
        "import builtins; builtins.print(*(n for n in gg.__all__ if not hasattr(gg, n)))\n"
        "builtins.print(hasattr(gg, 'no_such_name'), *sorted(gg._LATER))"
    )
    missing, later = python(code).split("\n")[:2]
    tree = ast.parse((ROOT / "graphgrad" / "__init__.py").read_text())
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    typed = sorted(alias.name for line in block.body for alias in line.names)
    assert missing == ""
    assert later.split() == ["False", *typed]


def test_a_mistyped_name_gets_a_suggestion():
    code = "import graphgrad as gg\ngg.reduce_sun"
    result = run(sys.executable, "-c", code)
    assert "has no attribute 'reduce_sun'. Did you mean: 'reduce_sum'?" in result.stderr


def test_import_is_quick():
    """At most 0.15 s of CPU time beyond NumPy; a busy machine gets several tries."""
    code = (
        "import numpy, time; start = time.process_time()\n"
        "import graphgrad; print(time.process_time() - start)"
    )
    times = []
    while min(times, default=1) > 0.15 and len(times) < 10:
        times.append(float(python(code)))
    assert min(times) <= 0.15, f"import graphgrad took {times} s"


# -- which layers it has


def lint_imports(tree: Path) -> subprocess.CompletedProcess:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return run(sys.executable, "-c", command, "--no-logo", "--no-cache", cwd=tree, COLUMNS="200")


def test_layers_hold():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("runtime/planted.py", "import graphgrad.compiler.op", "runtime imports nothing else"),
        ("runtime/planted.py", "from graphgrad.user import x", "runtime imports nothing else"),
        ("runtime/planted.py", "import graphgrad as gg", "neither imports graphgrad itself"),
        ("compiler/ops/planted.py", "import graphgrad.user", "compiler imports only"),
        ("compiler/planted.py", "import graphgrad.runtime.engine", "compiler imports only"),
        ("compiler/ops/planted.py", "import graphgrad", "neither imports graphgrad itself"),
        ("compiler/planted.py", "import llvmlite.binding", "only runtime imports Numba"),
        ("graphgrad/planted.py", "def f():\n    import numba", "only runtime imports Numba"),
    ],
)
def test_contracts_see_a_violation(tmp_path, module, line, contract):
    tree = copy_sources(tmp_path)
    for name in ("graphgrad/user.py", "runtime/engine.py", "compiler/op.py"):
        (tree / name).write_text("", encoding="utf-8")
    (tree / module).write_text(line, encoding="utf-8")
    result = lint_imports(tree)
    assert result.returncode == 1, result.stdout + result.stderr
    broken = [text for text in result.stdout.splitlines() if " BROKEN" in text]
    assert any(text.startswith(contract) for text in broken)


def test_no_source_file_is_long():
    folders = [*SOURCES.values(), *(ROOT / name for name in ("tests", "examples", "benchmarks"))]
    lengths = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n")
        for folder in folders
        for path in folder.rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > 600} == {}
