"""An objective is found, whatever else is in the current directory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from foldertune.errors import UserError
from foldertune.trainer import objective
from tests.conftest import ROOT, wait_for

# A person's directory: modules of their own with the names that the checkout has.
OWN = ("training", "analysis", "utils", "worker", "master", "bench", "tests", "foldertune_notes")
LOAD = """
import json, sys
sys.path[:] = {path!r} + sys.path[1:]
from foldertune.trainer.objective import load_objective
function = load_objective({name!r}, "cpu")
modules = {{name: getattr(sys.modules.get(name), "__file__", None) for name in {modules!r}}}
print(json.dumps([function({{}}, None) if {call!r} else None, modules]))
"""


@pytest.fixture
def own(tmp_path):
    for name in OWN:
        (tmp_path / f"{name}.py").write_text(f"WHOSE = 'mine: {name}'\n")
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "__init__.py").write_text("")
    (tmp_path / "search" / "model.py").write_text(
        "import analysis, training, utils\n\ndef train(settings, report):\n"
        "    return [analysis.WHOSE, training.WHOSE, utils.WHOSE]\n"
    )
    (tmp_path / "notes").mkdir()
    (tmp_path / "worker.py").write_text("def train(settings, report):\n    return 'my worker'\n")
    return tmp_path


def load(directory, name, *modules, call=True, path=(str(ROOT),)):
    """Start a process in that directory. Returns the objective's result, and the files of these modules."""
    code = LOAD.format(name=name, modules=modules, call=call, path=list(path))
    done = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("path", [(str(ROOT),), ("", str(ROOT))], ids=["python worker.py", "python -m foldertune"])
def test_ones_own_objective_finds_ones_own_modules(own, path):
    returned, files = load(own, "search.model:train", "training", "analysis", path=path)
    assert returned == ["mine: analysis", "mine: training", "mine: utils"]
    assert files["training"] == str(own / "training.py")


@pytest.mark.parametrize("path", [(str(ROOT),), ("", str(ROOT))], ids=["python worker.py", "python -m foldertune"])
def test_the_shipped_objective_finds_its_own(own, path):
    code = f"import sys; sys.path[:] = {list(path)!r} + sys.path[1:]; "
    code += "from foldertune.trainer.objective import shipped_check; shipped_check()({'filters': 0})"
    done = subprocess.run([sys.executable, "-c", code], cwd=own, capture_output=True, text=True, timeout=60)
    assert "filters: must be at least 1" in done.stderr


def test_a_module_of_the_name_of_a_program(own):
    assert load(own, "worker:train")[0] == "my worker"


def test_a_directory_of_that_name_is_no_module(own):
    (own / "exercise3").mkdir()
    _, files = load(own, "exercise3:check", "exercise3", call=False)
    assert files["exercise3"] == str(ROOT / "exercise3.py")


def test_an_installed_objective_is_found_and_the_directory_comes_last(own, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "theirs.py").write_text("import utils\n\ndef train(settings, report):\n    return utils.WHOSE\n")
    (site / "utils.py").write_text("WHOSE = 'theirs'\n")
    assert load(own, "theirs:train", path=(str(ROOT), str(site)))[0] == "theirs"


def test_a_namespace_package(own):
    (own / "deep" / "down").mkdir(parents=True)
    (own / "deep" / "down" / "net.py").write_text("def train(settings, report):\n    return 'deep'\n")
    assert load(own, "deep.down.net:train")[0] == "deep"


def test_a_preparation_that_says_what_to_do_is_quoted_as_it_is(monkeypatch, tmp_path):
    (tmp_path / "fussy.py").write_text(
        "from foldertune.errors import UserError\n\ndef train(settings, report):\n    return {}\n\n"
        "def prepare(device):\n    raise UserError(f'no {device} here; buy one')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(UserError, match=r"^fussy can't train here: no cuda:9 here; buy one$"):
        objective.load_objective("fussy:train", "cuda:9")


def test_a_study_for_another_objective_is_named_before_one_is_loaded(bench):
    """The default objective needs torch, which a person with code of their own may not have."""
    bench.master(bench.study(trials=1))
    wait_for(lambda: bench.names("pending"), "the trial")
    said = bench.finish(bench.start("worker.py", "--logs", bench.logs, "--objective", "not.there:train"), 2)
    assert "is for the objective 'tests.objectives:quick'" in said and "can't import" not in said


def test_a_search_among_ones_own_modules(bench, own):
    """The real programs search with the study and the objective in that directory."""
    (own / "mine.toml").write_text(
        'objective = "search.model:train"\nstrategy = "random"\ntrials = 2\nmetric = "loss"\n'
        "[space]\nx = { type = 'float', low = 0.0, high = 1.0 }\n"
    )
    (own / "search" / "model.py").write_text(
        "import analysis, training, utils\n\ndef train(settings, report):\n"
        "    return {'loss': settings['x'], 'whose': training.WHOSE}\n"
    )
    bench.finish(bench.start(ROOT / "master.py", "mine.toml", "--logs", bench.logs, "--workers", 1, cwd=own))
    assert [row.metrics["whose"] for row in bench.rows()] == ["mine: training"] * 2
