"""The same for every strategy: real master, real workers, kill -9, and exactly the trials that were asked for."""

from __future__ import annotations

import random
import time

import pytest

from foldertune.reading.page.sections import progress
from foldertune.reading.reader import read_results
from foldertune.space import identity
from foldertune.strategies import STRATEGIES, History, load, new_strategy
from tests.conftest import METRIC, Bench, wait_for

TRIALS = 24
SPACE = {
    "grid": "x = { type = 'float', low = 0.1, high = 0.2, step = 0.1 }\ny = { type = 'int', low = 1, high = 2, step = 1 }\nkind = ['a', 'b']\n"
    "layers = [{ null = true }, [64, 64], 'none']\n",
    "": "x = { type = 'float', low = 0.01, high = 1.0, log = true }\n"
    "y = { type = 'int', low = 1, high = 10 }\nkind = ['a', 'b']\n"
    "momentum = { type = 'float', low = 0.0, high = 0.9, step = 0.1, when = { kind = 'a' } }\n"
    "depth = { type = 'categorical', choices = [1, 2, 4], ordered = true }\n"
    "layers = [{ null = true }, [64, 64], 'none']\n",
}


CONSTRAINT = 'constraints = ["depth * y <= 36"]\n'
REPEATED = """
objective = "{objective}"
strategy = "{strategy}"
metric = "loss"
{fidelity}
[space]
x = {{ type = "float", low = 0.0, high = 1.0 }}
y = {{ type = "float", low = 0.0, high = 1.0 }}
"""
WHOLE = "trials = 26\n[fixed]\nepochs = 1\n"
RUNGS = '[budget]\nepochs = 75\n[fidelity]\nsetting = "epochs"\nlowest = 1\nhighest = 4\nfactor = 2\nschedule = "{schedule}"\n'


def write_study(bench, strategy):
    file = bench.path / "toy.toml"
    file.write_text(
        f'objective = "tests.objectives:brief"\nstrategy = "random"\ntrials = {TRIALS}\n{METRIC}\n'
        f"{'' if strategy == 'grid' else CONSTRAINT}[space]\n{SPACE.get(strategy, SPACE[''])}"
    )
    return file


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_whose_master_and_workers_are_killed_has_exactly_its_trials(bench, strategy):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance, file = random.Random(seed), write_study(bench, strategy)
    command = (file, "--strategy", strategy, "--max-attempts", 100)
    master, workers = bench.master(*command), [bench.worker("brief") for _ in range(3)]
    for _ in range(2):
        goal = len(bench.names("seen")) + chance.randrange(1, 7)
        wait_for(lambda goal=goal: len(bench.names("seen")) >= goal, "results")
        time.sleep(chance.random() / 10)
        master.kill()
        master.wait()
        victim = workers.pop(chance.randrange(3))
        victim.kill()
        victim.wait()
        master = bench.master(*command)
        workers.append(bench.worker("brief"))
    bench.finish(master)
    for worker in workers:
        bench.finish(worker)
    bench.assert_complete(TRIALS)
    study = load(str(file), strategy=strategy)
    rows = bench.rows()
    assert all(row.status == "succeeded" and study.contains(row.settings) for row in rows)
    assert len({identity(row.settings) for row in rows}) == TRIALS
    assert {trial.why.get("strategy") for trial in read_results(bench.logs, epochs=False).trials} == {strategy}
    if (same := new_strategy(study)).is_reproducible:
        for row in rows:
            assert row.settings == same.propose(row.trial, History()).settings
    if strategy != "random":  # the file's
        assert "it differs in strategy" in bench.finish(bench.master(file), code=2)


@pytest.mark.parametrize(
    "strategy", ["tpe", "gp", "nsga-ii", "cma-es", "tpe, asha", "tpe, screening", "tpe, hyperband"]
)
def test_the_search_of_one_worker_repeats_itself(tmp_path, strategy):
    """The first one's trainings take time; those of the second take none, and its master is killed."""
    found, (strategy, _, schedule) = [], strategy.partition(", ")
    for objective in ("tests.objectives:ambling", "tests.objectives:climbing"):
        bench = Bench(tmp_path / objective[-5:])
        bench.path.mkdir()
        file = bench.path / "toy.toml"
        fidelity = RUNGS.format(schedule=schedule) if schedule else WHOLE
        file.write_text(REPEATED.format(objective=objective, strategy=strategy, fidelity=fidelity))
        master = bench.master(file)
        worker = bench.worker(objective.partition(":")[2])
        for goal in (8, 16) if objective.endswith("climbing") else ():
            wait_for(lambda goal=goal, bench=bench: len(bench.names("seen")) >= goal, "results")
            master.kill()
            master.wait()
            master = bench.master(file)
        bench.finish(master)
        bench.finish(worker)
        found.append([(row.settings, row.parent) for row in bench.rows()])
        chosen_by_model = [path for path in bench.folder.seen.iterdir() if '"learnt":' in path.read_text()]
        assert not schedule or len(chosen_by_model) > 1
        bench.close()
    assert len(found[0]) == len(found[1]) > 16
    differing = [number for number, (one, other) in enumerate(zip(*found, strict=True)) if one != other]
    assert not differing


def test_a_strategy_on_the_command_line_is_checked(bench):
    said = bench.finish(bench.master(write_study(bench, ""), "--strategy", "grid"), code=2)
    assert said.startswith("error: ") and "--strategy grid: space.x: a grid needs the values themselves" in said
    said = bench.finish(bench.master(write_study(bench, ""), "--strategy", "tpf"), code=2)
    assert "did you mean 'tpe'?" in said


def test_a_search_that_has_tried_everything_ends_and_says_so(bench):
    file = bench.path / "toy.toml"
    file.write_text(
        f'objective = "tests.objectives:quick"\nstrategy = "random"\ntrials = {TRIALS}\n{METRIC}[space]\nx = [0.1, 0.2, 0.3]\n'
    )
    said = bench.search(file, "--workers", 1)
    assert "no more trials begin: the search is exhausted: nothing is left to try" in said
    bench.assert_complete(3)
    assert sorted(row.settings["x"] for row in bench.rows()) == [0.1, 0.2, 0.3]
    status = bench.finish(bench.start("-m", "foldertune", "status", "--logs", bench.logs))
    assert f"3 of {TRIALS} trials" in status and "complete: the search is exhausted" in status
    told = progress(read_results(bench.logs))
    assert told == "All 3 trials have ended: the search is exhausted: nothing is left to try."
    assert "the search is exhausted" in bench.search(file)  # it knows at once
