"""Imports, forbidden words, lengths of files, quick answers of programs, and the checks of style and types."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PACKAGES = ("foldertune", "training", "analysis")
SCRIPTS = ("master", "worker", "exercise3")
PROGRAMS = [
    "master.py",
    "worker.py",
    "exercise3.py",
    "-m foldertune",
    "-m foldertune results",
    "-m foldertune status",
    "-m foldertune logs",
    "-m foldertune report",
    "-m foldertune best",
    "-m foldertune doctor",
    "-m foldertune launch slurm",
    "-m foldertune scale",
    "-m foldertune launch ssh",
    "-m foldertune launch local",
    *(f"-m foldertune {name}" for name in ("pause", "drain", "stop", "resume", "end", "drop")),
]

# What each part of foldertune may import, from the bottom to the top. A part is a file or a folder of the package;
# within reading/ the files that hold facts come first, then what draws them, then what says them.
STUDY = {
    "errors", "shipped", "text", "nesting", "space", "derived", "protocol", "budget", "stopping", "fidelity", "metrics", "confirm",
    "study", "space_file", "study_file", "warm_start", "changes", "changing", "definitions",
}  # fmt: skip
TABLES = {*STUDY, "spending", "tables", "formats", "rows", "finalists"}
FACTS = {*TABLES, "trouble", "reading"}
COMMANDS = {*FACTS, "strategies", "trainer", "running", "launch", "figures", "terminal", "findings", "page", "doctor"}
ARROWS = {
    "errors": set(),
    "nesting": set(),
    "shipped": set(),
    "space": set(),
    "text": set(),
    "trouble": {"errors", "text"},
    "derived": {"errors"},
    "protocol": {"errors", "text", "nesting"},
    "budget": {"errors", "text"},
    "stopping": {"errors", "text"},
    "fidelity": set(),
    "changes": set(),
    "definitions": {"study", "space"},
    "changing": {"definitions", "study_file", "study", "changes", "space", "errors"},
    "confirm": {"errors"},
    "metrics": {"nesting"},
    "study": {
        "changes",
        "confirm",
        "budget",
        "stopping",
        "fidelity",
        "metrics",
        "space",
        "derived",
        "nesting",
        "shipped",
        "errors",
        "text",
    },
    "space_file": {"space", "derived", "nesting", "errors"},
    "warm_start": {"study", "metrics", "space_file", "space", "nesting", "errors"},
    "study_file": {
        "study",
        "changes",
        "warm_start",
        "confirm",
        "budget",
        "stopping",
        "fidelity",
        "metrics",
        "space_file",
        "space",
        "derived",
        "nesting",
        "shipped",
        "errors",
        "text",
    },
    "spending": {"study", "stopping", "confirm", "protocol", "text"},
    "finalists": {"study", "stopping", "confirm", "space", "protocol", "tables"},
    "tables": {"errors", "text", "protocol"},
    "formats": {"tables", "errors", "text", "protocol"},
    "rows": {"tables", "formats", "study", "confirm", "space", "protocol", "text"},
    "strategies": {*STUDY, "tables"},
    "trainer": {"errors", "text", "shipped"},
    "running": {*TABLES, "trouble", "strategies", "trainer"},
    "launch": {"errors", "text", "shipped", "trouble", "protocol", "trainer", "running"},
    "reading": {*TABLES, "trouble"},
    "figures": FACTS,
    "terminal": FACTS,
    "findings": {*FACTS, "figures"},
    "page": {*FACTS, "figures", "findings"},
    "doctor": {"changes", "errors", "text", "shipped", "protocol", "tables"},
    "commands": COMMANDS,
    "cli": {"commands", "errors", "text", "shipped"},
}
# What the exercise's own code may import of foldertune.
EXERCISE = {
    "training": {"errors", "shipped", "text", "trainer"},
    "exercise3": {"errors", "text", "trainer", "launch", "commands", "cli"},
    "analysis": {*FACTS, "figures", "findings", "page", "cli"},
    "master": {"cli"},
    "worker": {"cli"},
}
READING = ("figures", "terminal", "findings", "page")  # the parts of reading/ that hold no facts

# Said in the exercise's studies, in training/ and analysis/, and nowhere in foldertune/.
WORDS = re.compile(
    r"momentum|learning[ _-]rate|mnist|batch[ _-]size|dropout|convolution|time_limit|effective[ _-]rate"
    r"|(validation|test)[ _-](error|accuracy)|[\"']diverged[\"']|(?-i:\bLR\b|1\s*[−-]\s*M\b)"
    r"|(?<![-.\w])filters(?=\s*[<>=\d]| --|[\"'`,}])",  # the setting, not the verb
    re.IGNORECASE,
)


def modules(*packages):
    """Every module of these packages by its dotted name, with its file."""
    for package in packages:
        for path in sorted((ROOT / package).glob("**/*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules(*PACKAGES)) | {name: ROOT / f"{name}.py" for name in SCRIPTS}


def imported_by(path):
    """The dotted names that a file imports, anywhere in it; for names inside our modules, the module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield longer if longer in MODULES else str(node.module)


def top(name):
    return name.partition(".")[0]


def part(name):
    """The part of foldertune to which a module belongs."""
    parts = name.split(".")[1:]
    if parts[0] == "reading":
        return next((each for each in READING if len(parts) > 1 and parts[1] == each), "reading")
    return "cli" if parts[0] == "__main__" else parts[0]


def test_every_part_of_the_package_has_its_arrows_and_they_run_down():
    assert {part(name) for name in MODULES if name.startswith("foldertune.")} <= set(ARROWS)
    tuple(graphlib.TopologicalSorter(ARROWS).static_order())  # raises CycleError


def test_arrows_run_down():
    wrong = []
    for name, path in MODULES.items():
        for other in set(imported_by(path)):
            if top(other) not in (*PACKAGES, *SCRIPTS, "tests", "bench"):
                continue
            if top(name) == "foldertune":
                allowed = top(other) == "foldertune" and (
                    other == "foldertune" or part(other) == part(name) or part(other) in ARROWS[part(name)]
                )
            elif top(other) == "foldertune":
                allowed = other != "foldertune" and part(other) in EXERCISE[top(name)]
            else:
                allowed = top(other) == top(name) or (name, top(other)) == ("exercise3", "training")
            if not allowed:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others():
    graph = {name: {other for other in imported_by(path) if other in MODULES} for name, path in MODULES.items()}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_the_protocol_is_imported_by_its_public_names():
    wrong = [
        f"{path.relative_to(ROOT)} imports {other}"
        for name, path in MODULES.items()
        if not name.startswith("foldertune.protocol")
        for other in imported_by(path)
        if other.startswith("foldertune.protocol.")
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_exercise_imports_torch():
    for name, path in MODULES.items():
        if top(name) in ("foldertune", "analysis", "master", "worker"):
            assert not {"torch", "torchvision"} & set(map(top, imported_by(path))), path


def test_only_strategies_know_strategies():
    """A new strategy touches one file and one line."""
    for name, path in MODULES.items():
        if not name.startswith("foldertune.strategies"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Compare):
                    values = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
                    assert not {"grid", "random"} & {v for v in values if isinstance(v, str)}, f"{path}:{node.lineno}"


def reachable(start):
    """Our modules that are imported with this one, or while it runs."""
    found, ahead = set(), [start]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            packages = name.split(".")[:-1]
            parents = [".".join(packages[:k]) for k in range(1, len(packages) + 1)]
            ahead += [other for other in (*parents, *imported_by(MODULES[name])) if other in MODULES]
    return found


def test_a_worker_needs_the_standard_library_alone():
    """No module of foldertune that a worker's process may import needs a library."""
    for name in reachable("foldertune.commands.worker") | reachable("foldertune.cli"):
        others = {top(other) for other in imported_by(MODULES[name])} - {"foldertune"}
        assert others <= sys.stdlib_module_names, MODULES[name]


def test_a_worker_imports_little():
    code = "import sys; before = set(sys.modules); import foldertune.cli, foldertune.commands.worker; "
    code += "print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split()
    assert {top(name) for name in loaded} <= {"foldertune", *sys.stdlib_module_names}
    parts = {part(name) for name in loaded if name.startswith("foldertune.")}
    assert not parts & {"reading", "figures", "terminal", "findings", "page", "strategies", "study", "doctor", "rows"}


def test_nothing_in_the_package_speaks_of_the_exercise():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in sorted((ROOT / "foldertune").rglob("*"))
        if path.suffix in (".py", ".html", ".css", ".js")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if (match := WORDS.search(line))
    ]
    assert not found, "\n".join(found)


def test_files_are_data():
    for name, path in MODULES.items():
        assert not {"pickle", "marshal", "shelve", "dill", "joblib", "yaml"} & set(map(top, imported_by(path))), path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile"), f"{name}: {node.func.id}"


def test_files_are_short():
    """A file has at most 300 lines. Longer files are named here, with the reason."""
    long = {
        "foldertune.protocol.folder": "every rename, and why it is safe",
        "foldertune.reading.results": "one object, one fact after another",
        "training.cnn": "one training from its settings to its result",
    }
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > 300 and name not in long} == {}


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_teaches_and_needs_no_library(program):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *program.split(), "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    first, _, second = done.stdout.partition("\n\n")
    assert first.endswith((".", "?")) and second.startswith("    python"), "what it does, then a first command"
    assert "usage:" in done.stdout or program == "-m foldertune"
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "numpy", "matplotlib", "rich", "filelock", "loky", "simpleeval"} & loaded
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("tool", [["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"]])
def test_style_and_types(tool):
    if importlib.util.find_spec(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed: pip install -r requirements-dev.txt")
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
