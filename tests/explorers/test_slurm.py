"""Workers and a master as jobs of a real Slurm: see slurm.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Bench, wait_for
from tests.explorers.slurm import lack, slurm

LEASE = 6  # seconds after which a master that comes back follows itself


@pytest.fixture(scope="module")
def cluster():
    if text := lack():
        pytest.skip(text)
    with slurm() as cluster:
        yield cluster


class SlurmBench(Bench):
    """A folder whose workers and masters are Slurm's jobs. They train as long as there is a file `hold`."""

    def __init__(self, path, cluster):
        super().__init__(path)
        self.cluster, self.hold = cluster, path / "hold"
        self.hold.touch()
        self.logs.mkdir()

    def launch(self, *arguments):
        """Run `foldertune launch slurm`, and return the numbers of the jobs that it has submitted."""
        objective = (
            () if {"--objective", "--command"} & set(arguments) else ("--objective", "tests.objectives:enduring")
        )
        command = ("-m", "foldertune", "launch", "slurm", "--logs", self.logs, *objective, *arguments)
        said = self.finish(self.start(*command, env=self.cluster.environment | {"HOLD": str(self.hold)}))
        return [words.partition(":")[0] for words in said.split(" as job ")[1:]]

    def state(self, job):
        job = self.cluster.job(job)
        return job["JobState"], job["ExitCode"], int(job["Restarts"])

    def wait_for_state(self, task, is_right):
        """Wait until Slurm says what is right of a job: its state, its exit code, how often it was queued again."""
        try:
            wait_for(lambda: is_right(*self.state(task)))
        except AssertionError:
            raise AssertionError(f"{self.cluster('scontrol', 'show', 'job', task)}\n{self.said_by(task)}") from None

    def said_by(self, task):
        output = self.logs / "launch" / f"slurm-{task}.out"
        return output.read_text() if output.exists() else ""

    def trains(self, task):
        """The trial that this worker trains, once it has one that has saved something."""
        owners = [line.split()[1].rstrip(":") for line in self.said_by(task).splitlines() if ": trial " in line]
        return next((name for name in self.names("taken") if owners and name.owner == owners[-1]), None)


@pytest.fixture
def bench(tmp_path, cluster):
    path = tmp_path / "it's a 100% folder"  # sbatch reads %, quotes and spaces in its own way
    path.mkdir()
    bench = SlurmBench(path, cluster)
    yield bench
    cluster("scancel", "--me")
    bench.close()


def test_more_and_fewer_workers_by_one_command(bench, cluster):
    """Slurm is asked, not the folder; other jobs and the master stay as they are."""
    (master,) = bench.launch("--master", bench.study(trials=8, objective="enduring"))
    others = cluster("sbatch", "--parsable", "--array=1-2", "--output=/dev/null", "--wrap=sleep 60").strip()
    (array,) = bench.launch("--workers", 3, "--max-running", 2)
    wait_for(lambda: bench.trains(f"{array}_1") and bench.trains(f"{array}_2"), "two workers to train")

    def scale(*number, code=0):
        options = ("--logs", bench.logs, *number)
        return bench.finish(bench.start("-m", "foldertune", "scale", *options, env=cluster.environment), code)

    assert f"cancelled 2 workers, which give their trials back: {array}_2, {array}_3" in scale(1)
    wait_for(lambda: bench.state(f"{array}_2")[0] == "CANCELLED", "the worker to end")
    assert "given back" in bench.said_by(f"{array}_2") and bench.said_by(f"{array}_3") == ""
    more = scale(3).partition(" as job ")[2].split()[0]
    assert "--array=1-2%2\n" in (bench.logs / "launch" / f"slurm-{more}.sh").read_text()
    wait_for(lambda: bench.trains(f"{more}_2"), "the new ones to train")
    assert scale().startswith("Slurm has 3 workers")
    scale(0)
    assert bench.state(master)[0] == bench.state(others)[0] == "RUNNING"
    assert "has none of your workers for this folder" in scale(2, code=2)


def test_a_command_trains_on_two_nodes(bench, cluster):
    study = Path(bench.study(trials=2))
    study.write_text(study.read_text().replace("tests.objectives:quick", "command"))
    master = bench.master(study)
    wait_for(bench.folder.read_study, "the study")
    bench.hold.unlink()
    shell = "echo $SLURMD_NODENAME; test $SLURM_PROCID = 0 && echo validation_error={x} || sleep 0.1"
    command = ("--command", f"srun sh -c '{shell}'", "--pattern", "name=value")
    (job,) = bench.launch("--workers", 1, "--nodes-per-worker", 2, *command)
    wait_for(lambda: bench.state(f"{job}_1") == ("COMPLETED", "0:0", 0), "the worker to end")
    bench.finish(master)
    bench.assert_complete(2)
    for trial in bench.names("seen"):
        printed = bench.folder.output_of(trial).read_text()  # two nodes may print into one line
        assert len(set(re.findall(r"node\d", printed))) == 2, printed  # any two of three: one may still be cleaning up


def test_what_needs_a_person_ends_with_another_code_and_stays_away(bench, cluster):
    """No study comes; the objective can't be loaded; no trial ends within the time, and none can be saved."""
    (idle,) = bench.launch("--workers", 1, "--start-timeout", 1)
    wait_for(lambda: bench.state(f"{idle}_1") == ("FAILED", "2:0", 0), "the worker to give up")
    assert "is the path right?" in bench.said_by(f"{idle}_1")
    bench.master(bench.study(objective="stuck"))
    wait_for(bench.folder.read_study, "the study")
    (unable,) = bench.launch("--workers", 1, "--objective", "tests.objectives:stuck", "--time-left", 17, "--grace", 1)
    wait_for(lambda: bench.state(f"{unable}_1") == ("FAILED", "2:0", 0), "the worker to give up")
    assert "its training saves no state" in bench.said_by(f"{unable}_1")
    assert bench.names("pending") and not bench.names("taken")


def test_each_trial_is_counted_once_whatever_slurm_does(bench, cluster):
    """Requeue, scancel, preemption, time limits, a node that is drained and one that dies, in one search.

    It comes last: two of three nodes are gone then.
    """
    study = bench.study(trials=12, objective="enduring")
    limits = ("--grace", 5, "--sbatch-option", "time=1", "--sbatch-option", "signal=B:USR1@20")  # the shortest there is
    master, limited = bench.launch("--workers", 1, *limits, "--master", study, "--lease", LEASE)
    (three,) = bench.launch("--workers", 3)
    (lost,) = bench.launch("--workers", 1, "--sbatch-option", "exclude=node1", "--checkpoint-every", 1)
    (preempted,) = bench.launch("--workers", 1, "--sbatch-option=--nodelist=node3")
    requeued, cancelled, steady = (f"{three}_{k}" for k in (1, 2, 3))
    limited, lost, preempted = (f"{job}_1" for job in (limited, lost, preempted))
    tasks = requeued, cancelled, steady, lost, preempted
    trials = {task: wait_for(lambda task=task: bench.trains(task), f"{task} to train") for task in tasks}
    assert [cluster.job(task)["NodeList"] for task in (steady, requeued, lost)] == ["node1", "node1", "node2"]

    wait_for(Path(bench.folder.checkpoint(trials[lost])).exists, "a checkpoint")
    cluster("scontrol", "update", "NodeName=node1", "State=DRAIN", "Reason=test")
    cluster("scontrol", "requeue", requeued)
    cluster("scancel", cancelled)
    cluster.kill_node("node2")
    urgent = ("--partition=urgent", "--nodelist=node3", "--exclusive", "--output=/dev/null", "--wrap=true")
    cluster("sbatch", *urgent)
    comers_back = requeued, preempted, lost, limited, master
    for task in comers_back:  # those with a time limit perhaps more than once
        bench.wait_for_state(task, lambda state, code, restarts: state == "RUNNING" and restarts >= 1)
    assert bench.state(steady) == ("RUNNING", "0:0", 0)
    assert (cluster.job(requeued)["NodeList"], cluster.job(lost)["NodeList"]) == ("node3", "node3")
    (follower,) = cluster(
        "sbatch", "--parsable", f"--dependency=afterok:{limited}", "--output=/dev/null", "--wrap=true"
    ).split()

    bench.hold.unlink()
    for task in (*comers_back, steady, follower):
        bench.wait_for_state(task, lambda state, code, restarts: (state, code) == ("COMPLETED", "0:0"))
    assert bench.state(cancelled) == ("CANCELLED", "0:0", 0)
    bench.assert_complete(12)
    stories = {name.number: (name.attempt, Path(bench.folder.locate(name)).read_text()) for name in bench.names("seen")}
    for task in tasks:
        attempt, story = stories[trials[task].number]
        assert (attempt > 1, '"resumed"' in story) == (2 * (task != steady,)), f"{task}: {story}"
    assert [name.number for name in bench.names("lost")] == [trials[lost].number], "the others were given back"
