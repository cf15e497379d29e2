"""The installed package: a wheel in environments of its own, used from a directory full of confusing names.

These tests are slow: they build the wheel and make three environments. A file's tests run in one process, so this happens once.

    core      what `pip install foldertune` brings
    worker    nothing but Python and foldertune itself
    extras    everything; to save a download it sees the libraries of the environment that runs the tests
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

import foldertune
from foldertune.errors import EXTRAS, UserError, missing_extra, require
from tests.conftest import ROOT
from training import data

pytestmark = pytest.mark.slow
PATIENCE = 300  # seconds
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODEL = """
from utils import square

def train(settings, report):
    for epoch in range(1, 4):
        report(epoch=epoch, loss=square(settings["x"]) + 1 / epoch)
    return {"loss": square(settings["x"]), "diverged": settings["x"] > 0.9}
"""
STUDY = """
objective = "search.model:train"
strategy = "random"
trials = 12
metric = "loss"
collapsed = "diverged"

[space]
x = { type = "float", low = -1.0, high = 1.0 }

[derived]
root = { value = "sqrt(loss)", label = "the root" }
"""
TELL = """
import atexit, json, pathlib, sys
atexit.register(lambda: pathlib.Path("imported.json").write_text(json.dumps(sorted(sys.modules))))
"""
POISON = 'raise RuntimeError("this file is a person\'s own and has nothing to do with the search")\n'


def call(*command, code=0, **options):
    """Run a program and return its stdout and its stderr."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MNIST", "XDG"))}
    environment |= {"COLUMNS": "200", **options.pop("env", {})}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE, env=environment, **options
    )
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout, done.stderr


def new_environment(path, *arguments):
    """A virtual environment with the wheel in it. Returns the folder of its programs."""
    call(sys.executable, "-m", "venv", "--without-pip", path)
    python = path / "bin" / "python"
    call(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "-q", *arguments)
    return python.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, and the three environments by name."""
    base = tmp_path_factory.mktemp("package")
    places = {name: base / name for name in ("wheel", "core", "worker", "extras")}
    call(sys.executable, "-m", "pip", "wheel", "-q", ROOT, "--no-deps", "-w", places["wheel"])
    [wheel] = places["wheel"].glob("*.whl")
    new_environment(places["core"], wheel)
    new_environment(places["worker"], "--no-deps", wheel)
    new_environment(places["extras"], "--no-deps", wheel)
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    [site] = places["extras"].glob("lib/python*/site-packages")
    (site / "libraries-of-the-tests.pth").write_text("\n".join(libraries) + "\n")
    return places


@pytest.fixture
def own(tmp_path):
    """A user's directory, with an objective and with files that have the same names as ours."""
    files = {
        "search/__init__.py": "",
        "search/model.py": MODEL,
        "utils/__init__.py": "from utils.maths import square\n",
    }
    files |= {"utils/maths.py": "def square(x):\n    return x * x\n", "mine.toml": STUDY}
    names = ("training", "analysis", "worker", "master", "study", "protocol", "strategies", "report", "rows", "cli")
    files |= {f"{name}.py": POISON for name in names}
    for name, text in files.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "own"


# ---------------------------------------------------------------- the wheel


def test_the_wheel_has_all_that_is_needed_and_nothing_else(installed):
    [wheel] = installed["wheel"].glob("*.whl")
    assert wheel.name == f"foldertune-{foldertune.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.check_output(["git", "ls-files", "foldertune"], cwd=ROOT, text=True).split()
    assert {name for name in tracked if (ROOT / name).exists()} <= names
    shipped = {"exercise3.py", *(f"training/{path.name}" for path in ROOT.glob("training/*.py"))}
    shipped |= {f"studies/{path.name}" for path in ROOT.glob("studies/*.toml")}
    assert {name.removeprefix("foldertune/exercise/") for name in names if "/exercise/" in name} == shipped
    assert {name.split("/")[0] for name in names} == {"foldertune", f"foldertune-{foldertune.__version__}.dist-info"}
    assert not [name for name in names if name.endswith(".pyc") or "test" in name]


def test_the_core_needs_one_library():
    project = PYPROJECT["project"]
    assert [re.split("[<>=~]", line)[0] for line in project["dependencies"]] == ["rich"]
    assert all(">=" in line for line in project["dependencies"])
    assert project["scripts"] == {"foldertune": "foldertune.cli:main"}


def test_the_extras_are_those_that_errors_knows_and_requirements_lists():
    modules = {"scikit-learn": "sklearn"}
    extras = {
        extra: [re.split("[<>=~]", line)[0] for line in lines]
        for extra, lines in PYPROJECT["project"]["optional-dependencies"].items()
    }
    assert extras.pop("all") == ["foldertune[report,model,exercise]"]
    assert {extra: sorted(modules.get(n, n) for n in names) for extra, names in extras.items()} == {
        extra: sorted(names) for extra, names in EXTRAS.items()
    }
    listed = (ROOT / "requirements.txt").read_text()
    optional = itertools.chain.from_iterable(PYPROJECT["project"]["optional-dependencies"].values())
    for line in itertools.chain(PYPROJECT["project"]["dependencies"], optional):
        assert line.startswith("foldertune[") or f"\n{line}\n" in listed, line


# ---------------------------------------------------------------- from a person's own directory


def test_a_search_without_extras(installed, own):
    program = installed["core"] / "bin" / "foldertune"
    said, complaints = call(program, "master", "mine.toml", "--workers", 2, cwd=own)
    assert "lowest loss first" in said, said + complaints
    assert (own / "logs" / "results.csv").read_text().count("\n") == 13
    said, _ = call(program, "status", cwd=own)
    assert "12" in said
    said, complaints = call(program, "results", cwd=own)
    assert "lowest loss first" in said
    said, _ = call(program, "results", "--all", "--format", "csv", cwd=own)
    assert said.count("\n") == 13
    said, complaints = call(program, "report", cwd=own, code=2)
    assert said == "" and complaints == (
        "error: jinja2 is not installed; install it with: pip install 'foldertune[report]'\n"
    )
    assert not (own / "logs" / "report").exists()


def test_the_default_objective_without_its_extra_is_one_line(installed, own):
    program = installed["worker"] / "bin" / "foldertune"
    said, complaints = call(program, "worker", cwd=own, code=2)
    assert said == "" and complaints.count("\n") == 1
    assert "pip install 'foldertune[exercise]'" in complaints


def test_a_worker_imports_the_standard_library_and_its_objective_alone(installed, own):
    """The worker runs in an environment without rich, isolated from everything else."""
    logs, model = own / "logs", own / "search" / "model.py"
    model.write_text(MODEL + TELL)
    master = subprocess.Popen(
        [installed["core"] / "bin" / "foldertune", "master", "mine.toml", "--workers", "0"],
        cwd=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        command = [installed["worker"] / "bin" / "python", "-I", "-X", "importtime", "-m", "foldertune", "worker"]
        _, times = call(*command, "--logs", logs, "--objective", "search.model:train", cwd=own)
        said = master.communicate(timeout=PATIENCE)[0]
    finally:
        master.kill()
        master.wait()
    assert master.returncode == 0 and "lowest loss first" in said, said
    in_trainer = set(json.loads((own / "imported.json").read_text()))
    in_worker = set(re.findall(r"^import time:.*\| +(\S+)$", times, re.MULTILINE))
    assert "foldertune.running.worker" in in_worker and "foldertune.trainer.main" in in_trainer
    assert foreign(in_worker) == {"foldertune"} and foreign(in_trainer) == {"foldertune", "search", "utils"}
    unneeded = r"foldertune\.(reading|strategies|study|doctor|rows|tables)"
    assert not [name for name in in_worker | in_trainer if re.match(unneeded, name)]
    assert not [name for name in in_trainer if re.match(r"foldertune\.(protocol|running|commands)", name)]


def foreign(modules):
    """The packages of these modules that don't come with Python."""
    tops = {name.partition(".")[0] for name in modules} - {"__main__", "sitecustomize", "usercustomize"}
    return tops - sys.stdlib_module_names - {"org"}  # `copy` looks for Jython


def test_a_report_with_the_extras(installed, own):
    program = installed["extras"] / "bin" / "foldertune"
    call(program, "master", "mine.toml", "--workers", 2, cwd=own)
    said, complaints = call(program, "report", cwd=own)
    assert said.strip().endswith("report.html") and "pip install" not in complaints
    page = (own / "logs" / "report" / "report.html").read_text()
    assert "Best" in page and "the root" in page
    assert list((own / "logs" / "report").glob("*.png"))


def test_the_shipped_objective_and_its_studies(installed, own):
    program = installed["extras"] / "bin" / "foldertune"
    fetched = {"MNIST_DIR": str(data.directory())}
    call(program, "master", "quickstart", "--workers", 1, "--trials", 1, cwd=own, env=fetched)
    rows = (own / "logs" / "results.csv").read_text().splitlines()
    assert len(rows) == 2 and "validation_error" in rows[0]
    study = json.loads((own / "logs" / "study.json.done").read_text())
    assert study["objective"] == "exercise3:train" and study["collapsed"] == "diverged"


def test_a_study_that_the_shipped_objective_cannot_train_is_refused_at_once(installed, own):
    text = 'strategy = "grid"\nmetric = "validation_error"\n[space]\nlearning_rat = [0.1]\n'
    (own / "bad.toml").write_text(text)
    said, complaints = call(installed["core"] / "bin" / "foldertune", "master", "bad.toml", cwd=own, code=2)
    assert said == "" and "bad.toml: unknown setting 'learning_rat' (did you mean 'learning_rate'?)" in complaints


def test_a_message_says_what_to_type_where_it_is_installed(installed, own):
    said, _ = call(installed["core"] / "bin" / "foldertune", "master", "--help", cwd=own)
    assert "foldertune worker" in said and "python worker.py" not in said
    said, _ = call(installed["core"] / "bin" / "foldertune", "--version", cwd=own)
    assert said == f"foldertune {foldertune.__version__}\n"


# ---------------------------------------------------------------- where MNIST is


def test_mnist_is_not_kept_among_the_libraries(installed, own):
    python = installed["core"] / "bin" / "python"
    code = "import sys; from foldertune.shipped import HOME; sys.path.insert(0, str(HOME)); "
    code += "from training.data import directory; print(directory())"

    def place(**environment):
        return call(python, "-P", "-c", code, cwd=own, env=environment)[0].strip()

    assert place(HOME="/home/me") == "/home/me/.cache/foldertune"
    assert place(HOME="/home/me", XDG_CACHE_HOME="/scratch/me") == "/scratch/me/foldertune"
    assert place(HOME="/home/me", XDG_CACHE_HOME="/scratch/me", MNIST_DIR="/data") == "/data"


def test_in_a_checkout_mnist_is_in_data(monkeypatch):
    monkeypatch.delenv("MNIST_DIR", raising=False)
    assert data.directory() == Path(ROOT / "data")


# ---------------------------------------------------------------- a missing extra


def test_a_missing_extra_is_one_line_with_the_command(monkeypatch):
    require("report")
    monkeypatch.setitem(EXTRAS, "report", ("json", "no_such_library"))
    with pytest.raises(UserError, match=r"^no_such_library is not installed; .*: pip install 'foldertune\[report\]'$"):
        require("report")
    assert isinstance(missing_extra("report", ImportError("cannot import name 'x'")), UserError)
