"""What may import what, how quick a program answers, and the checks of style and types."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PACKAGES = ("foldertune", "training", "analysis")
SCRIPTS = ("master", "worker", "exercise3")
ALLOWED = {"foldertune": {"foldertune"}, "training": {"training", "foldertune"}, "analysis": {"analysis", "foldertune"}}
PROGRAMS = [
    "master.py",
    "worker.py",
    "exercise3.py",
    "-m foldertune results",
    "-m foldertune status",
    "-m foldertune report",
    "-m foldertune doctor",
]


def imports(path):
    """The top-level names that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module).split(".")[0]


def test_arrows_run_one_way():
    for package in PACKAGES:
        for path in (ROOT / package).glob("**/*.py"):
            own = {name for name in imports(path) if name in (*PACKAGES, *SCRIPTS, "tests", "bench")}
            assert own <= ALLOWED[package], f"{path} imports {own}"
    assert "training" not in set(imports(ROOT / "worker.py"))


def test_search_and_analysis_never_import_torch():
    for package in ("foldertune", "analysis"):
        for path in (ROOT / package).glob("**/*.py"):
            assert not {"torch", "torchvision"} & set(imports(path)), path


def test_files_are_data():
    for path in [*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).glob("**/*.py"))]:
        assert not {"pickle", "marshal", "shelve", "dill", "joblib", "yaml"} & set(imports(path)), path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile"), path


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_teaches_and_needs_no_torch(program):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *program.split(), "--help"], cwd=ROOT, capture_output=True, text=True
    )
    purpose, example = done.stdout.split("usage:")[0].strip().split("\n\n")
    assert done.returncode == 0 and purpose and example.startswith("    python ")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "numpy", "matplotlib", "rich"} & loaded
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("tool", [["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"]])
def test_style_and_types(tool):
    if importlib.util.find_spec(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed: pip install -r requirements-dev.txt")
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_coordination_benchmark_runs(tmp_path):
    if importlib.util.find_spec("optuna") is None:
        pytest.skip("optuna is not installed: pip install -r requirements-dev.txt")
    from bench.coordination import time_optuna, time_ours

    for name, measure in (("ours", time_ours), ("optuna", time_optuna)):
        (tmp_path / name).mkdir()
        assert measure(tmp_path / name, 2, 40) > 0
