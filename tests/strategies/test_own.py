"""A person's own strategy: the example in the documentation, and what is said when it is wrong."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT, wait_for

EXAMPLE = re.search(r"```python\n(# halving\.py.*?)```", (ROOT / "docs" / "search.md").read_text(), re.DOTALL)[1]
STUDY = """
objective = "tests.objectives:{objective}"
strategy = "{strategy}"
metric = "loss"
trials = 20
[space]
rate = {{ type = "float", low = 0.0, high = 1.0 }}
x = {{ type = "float", low = 0.0, high = 1.0 }}
"""


def study_of(bench, strategy="random", objective="valley"):
    file = bench.path / "mine.toml"
    file.write_text(STUDY.format(strategy=strategy, objective=objective))
    return file


def test_the_example_searches_and_goes_on_after_a_kill(bench):
    (bench.path / "halving.py").write_text(EXAMPLE)
    command = ("master.py", study_of(bench), "--logs", bench.logs, "--strategy", "halving.py:propose", "--workers", 0)
    options = {"cwd": bench.path, "env": {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}}
    master = bench.start(ROOT / command[0], *command[1:], **options)
    worker = bench.worker("valley")
    wait_for(lambda: len(bench.names("seen")) >= 2, "results")
    master.kill()
    master.wait()
    bench.finish(bench.start(ROOT / command[0], *command[1:], **options))
    bench.finish(worker)
    rates = [row.settings["rate"] for row in bench.rows()]
    assert rates == [
        0.9,
        0.45,
        0.225,
        0.1125,
        0.05625,
    ]  # the lowest loss is at 0.15: the fifth is worse than the fourth


def test_it_chooses_what_a_schedule_begins(bench):
    """It sees the results of one rung, and what it answers is promoted."""
    mine = bench.path / "mine.py"
    mine.write_text(
        "def propose(study, number, history):\n"
        "    assert len({trial.settings['epochs'] for trial in history.counted.values()}) <= 1\n"
        "    return {'x': 1 / (1 + number)}\n"
    )
    file = bench.path / "rungs.toml"
    file.write_text(
        'objective = "tests.objectives:climbing"\nstrategy = "random"\nmetric = "loss"\n[budget]\nepochs = 60\n'
        '[fidelity]\nsetting = "epochs"\nlowest = 1\nhighest = 9\n'
        '[space]\nx = { type = "float", low = 0.0, high = 1.0 }\n'
    )
    bench.search(file, "--strategy", f"{mine}:propose", "--workers", 1)
    rows = bench.rows()
    assert {row.settings["epochs"] for row in rows} == {1, 3, 9}
    assert all(row.settings["x"] == 1 / (1 + row.trial) for row in rows if row.parent is None)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("", "has no function 'propose'"),
        ("import nothing_of_that_name", "can't be loaded: ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def propose(study, number, history):\n    return 1 / 0", "trial 0: ZeroDivisionError: division by zero"),
        (
            "def propose(study, number, history): return None",
            "trial 0: waits for results, but no trial is left that could bring one",
        ),
        ("def propose(study, number, history): return 5", "must return a dict, None or Answer.EXHAUSTED, not 5"),
        (
            "def propose(study, number, history): return {'rate': 2.0, 'x': 0.5}",
            "{'rate': 2.0, 'x': 0.5} is not in the search space of mine: 'rate' can't be 2.0",
        ),
        (
            "def propose(study, number, history): return {'x': 0.5, 'rat': 0.1}",
            "'rat' is no hyperparameter (did you mean 'rate'?)",
        ),
        ("def propose(study, number, history): return {'x': 0.5}", "'rate' is missing"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_a_line(bench, code, says):
    file = bench.path / "mine.py"
    file.write_text(code)
    said = bench.finish(bench.master(study_of(bench), "--strategy", f"{file}:propose"), code=2)
    [error] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: --strategy {file}:propose: ") and says in error


def test_a_file_that_is_not_there_and_one_in_a_study_from_elsewhere(bench):
    said = bench.finish(bench.master(study_of(bench), "--strategy", "nowhere.py:propose"), code=2)
    assert "there is no file nowhere.py" in said
    said = bench.finish(bench.master(study_of(bench, strategy="mine.py:propose")), code=2)
    assert "your own stands on the command line: --strategy mine.py:propose" in said
