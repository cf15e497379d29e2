"""Runs real processes in a folder of their own, and makes sure that CI skips nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foldertune.confirm import FIRST
from foldertune.protocol import Folder, TrialName, new_owner
from foldertune.reading.reader import read_results
from foldertune.rows import Row
from foldertune.strategies import History, new_strategy
from foldertune.trainer.report import Listener

ROOT = Path(__file__).resolve().parent.parent
METRIC = 'metric = "validation_error"\n'
for name in [name for name in os.environ if name.startswith("SLURM_")]:
    del os.environ[name]  # of a job in which the tests may run: programs would behave as Slurm's
PATIENCE = 60  # seconds after which something that should have happened has not; never a measure of speed


def settings_of(study, number):
    """The settings that the study's strategy proposes for this trial, before there is any result."""
    return new_strategy(study).propose(number, History()).settings


def pytest_sessionfinish(session, exitstatus):
    """In CI a skipped test is a failed one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("NOTHING_SKIPPED") and reporter and reporter.stats.get("skipped"):
        reporter.write_line("NOTHING_SKIPPED is set, and tests were skipped", red=True)
        session.exitstatus = 1


def token_of(pid):
    """The token of another process of this host."""
    return new_owner().replace(f"-{os.getpid()}-", f"-{pid}-")


class Bench:
    """A shared folder and the programs that work in it."""

    def __init__(self, path: Path):
        self.path = path
        self.logs = path / "logs"
        self.folder = Folder(self.logs)
        self.processes: list[subprocess.Popen] = []

    def study(self, trials=40, objective="quick", seed=0, extra="", name="toy"):
        """A study of one hyperparameter, trained by a function of tests/objectives.py."""
        file = self.path / f"{name}.toml"
        file.write_text(
            f'objective = "tests.objectives:{objective}"\nstrategy = "random"\ntrials = {trials}\nseed = {seed}\n'
            f"{extra if 'metric = ' in extra else METRIC + extra}\n"
            '[space]\nx = { type = "float", low = 0.0, high = 1.0 }\n'
        )
        return str(file)

    def start(self, *command, **options):
        """Start a program in the background, and keep its output."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT} | options
        process = subprocess.Popen([sys.executable, *map(str, command)], **options)
        self.processes.append(process)
        return process

    def master(self, *arguments, **options):
        """Start a master, without workers unless the arguments give a number."""
        if "--workers" not in arguments:
            arguments = (*arguments, "--workers", 0)
        return self.start("master.py", *arguments, "--logs", self.logs, **options)

    def worker(self, objective="quick", *arguments, **options):
        command = ("worker.py", "--logs", self.logs, "--objective", f"tests.objectives:{objective}", *arguments)
        return self.start(*command, **options)

    def finish(self, process, code=0):
        """Wait until the program ends with the expected exit code, and return its output."""
        said = process.communicate(timeout=PATIENCE)[0] or ""
        assert process.returncode == code, f"exit code {process.returncode}, not {code}:\n{said}"
        assert "Traceback" not in said, said
        return said

    def search(self, *arguments, code=0, **options):
        """Run a master from start to end."""
        return self.finish(self.master(*arguments, **options), code)

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()

    # ---- what is in the folder

    def names(self, state):
        if not self.folder.seen.is_dir():
            return []  # no master has come yet
        return [name for name in (*self.folder.names(), *self.folder.settled()) if name.state == state]

    def running(self, epochs=0):
        """The trials that workers hold and that have reported so many epochs; a file may move on while it is read."""
        trials = []
        for name in self.names("taken"):
            with contextlib.suppress(FileNotFoundError):
                trials.append(self.folder.read(name))
        return [trial for trial in trials if len(trial.epochs) >= epochs]

    def wait_for_training(self, trials=1, epochs=1):
        """Wait until so many running trials have reported so many epochs, and return them."""
        return wait_for(lambda: (running := self.running(epochs))[trials - 1 :] and running, "trials that train")

    def rows(self):
        results = read_results(self.logs, epochs=False)
        assert len(results.trials) == len(self.names("seen")), results.complaints
        return [Row.from_trial(trial) for trial in results.trials]

    def assert_complete(self, trials, confirmations=0):
        """Every trial asked for is counted once, no file is left over, and results.csv agrees."""
        there = sorted(name.number for name in self.names("seen"))
        assert there[:trials] == list(range(trials)) and len(there) == trials + confirmations
        assert all(number > FIRST for number in there[trials:])
        assert self.folder.names() == []
        assert (self.logs / "study.json.done").exists() and not (self.logs / "study.json").exists()
        table = self.folder.results.read_text().splitlines()
        assert [int(line.split(",")[0]) for line in table[1:]] == there
        assert [*self.logs.glob(".*[.-]tmp"), *self.folder.seen.glob(".*.tmp")] == []


@pytest.fixture(autouse=True)
def environment():
    """Undo changes of environment variables after each test: a program in the tests' own process may make some."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def bench(tmp_path):
    """A folder. Every process started in it is ended after the test."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def folder(tmp_path):
    """An empty shared folder, as a master makes it."""
    folder = Folder(tmp_path / "logs")
    folder.seen.mkdir(parents=True)
    return folder


@pytest.fixture
def pending(folder):
    """The folder's one pending trial."""
    name = TrialName(7, 1)
    folder.publish(name, {"x": 0.5}, lease=5.0)
    return name


class Curve(Listener):
    """Keeps what an objective reports."""

    def __init__(self):
        self.epochs = []

    def epoch(self, record):
        self.epochs.append(record)


def children_of(pid):
    """The numbers of the processes that the main thread of this process has started."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(number) for number in file.read().split()]


def count(folder, number, proposal, result):
    """A trial is published, trained by somebody with this result, and collected."""
    name, owner = TrialName(number, 1), "w-1-abcd"
    folder.publish(name, proposal, lease=60.0)
    claim = folder.claim(owner, iter([name]))
    claim.append({"claimed": owner})
    claim.append({"result": result})
    claim.hand_in()
    folder.collect(name.to("done"))


def wait_for(condition, what=""):
    """Wait until `condition` returns something true, and return that."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {PATIENCE} s for {what or condition}")
