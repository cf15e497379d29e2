"""A folder that holds anything: damages by chance, and what every program says to them.

    python -m tests.explorers.damage --seeds 300       seeds 0 to 299
    python -m tests.explorers.damage --seed 17         one of them, with all that was said

A real study's folder, at one of several stages, gets one to four damages (`damages.py`). Then the real programs come: every
reader, the doctor, a master, workers. None may show a traceback, hang, take much memory or end with an exit code that is
not documented. What lies outside the folder stays as it was, what a person put into it is still there, and trials that were
not damaged are counted with their results. At last the person repairs what no program may decide about; then the study ends.
In the stage `live`, directories are exchanged for links while the programs work.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import importlib
import io
import json
import os
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from foldertune import cli
from foldertune.doctor import checkup
from foldertune.protocol import Folder, TrialName, own_host
from foldertune.reading.reader import read_results
from foldertune.running.master import Master
from foldertune.running.mastership import open_folder
from foldertune.study_file import load_study
from tests.conftest import ROOT, settings_of, wait_for
from tests.explorers.damages import (
    PARTS,
    Damage,
    Vandal,
    belongings,
    furnish,
    is_inside,
    is_unchanged,
    is_vital,
    look,
    touched,
)

TRIALS = 8
STUDY = f"""objective = "tests.objectives:steadfast"
strategy = "random"
trials = {TRIALS}
metric = "validation_error"
[space]
x = {{ type = "float", low = 0.0, high = 1.0 }}
"""
LEASE = 1.0
DEADLINE = 60.0  # seconds after which a program hangs
ENOUGH = 4.0  # seconds after which one that says what it waits for has waited long enough
MEMORY = 400 * 2**20  # bytes that a program may take beyond what it has when it starts
CODES = {"master": {0, 1, 2, 3}, "worker": {0, 2}, "doctor": {0, 1, 2}}  # all others: 0 and 2
STAGES = ("fresh", "running", "running", "complete", "kept", "live")
PROBES = (
    "claims",
    "hand-ins",
    "replacing",
    "lines",
    "storage",
    "times",
    "locks",
    "echo",
)  # they touch only their own trials
WAITING = ("waiting for work", "in trouble", "trying again")


class Fault(Exception):
    """A program did what it must not do."""


# ---------------------------------------------------------------- programs


@dataclass
class Program:
    """A command of foldertune in a forked process: all of it but the start of Python."""

    argv: list[str]
    output: Path
    pid: int = 0
    code: int | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def said(self) -> str:
        """All of its output so far."""
        return self.output.read_text(errors="replace")

    def poll(self) -> int | None:
        """The exit code; None while it runs. A signal that killed it is negative."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> int | None:
        """Wait for its end, for at most these seconds or until something else has happened."""
        deadline = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < deadline and not until():
            time.sleep(0.01)
        return self.code

    def end(self) -> None:
        """Ask it to end. Raises Fault if it doesn't."""
        with contextlib.suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, signal.SIGTERM)
        if self.wait(DEADLINE) is None:
            self.kill()
            raise Fault(f"{self.argv}: SIGTERM does not end it")

    def kill(self) -> None:
        """End it and its children in any case."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(DEADLINE)

    def check(self, *, stopped: bool = False) -> None:
        """Raise Fault if it said or did what no program may."""
        said, codes = self.said, CODES.get(self.argv[0], {0, 2})
        if "Traceback" in said or "Exception ignored" in said:
            raise Fault(f"{self.argv}: a traceback:\n{said}")
        if self.code not in codes | ({128 + signal.SIGTERM, -signal.SIGTERM} if stopped else set()):
            raise Fault(f"{self.argv}: exit code {self.code}:\n{said}")
        if self.code == 2 and said.count("error: ") != 1:
            raise Fault(f"{self.argv}: not one error:\n{said}")


def start(argv: list[str], output: Path, *, limited: bool = True, whole: bool = True) -> Program:
    """Start a command of foldertune. Without `whole`, the doctor leaves out what it does with trials of its own."""
    output.touch()
    pid = os.fork()
    if pid:
        return Program(argv, output, pid)
    code = 70
    try:
        os.setsid()
        for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY | os.O_CREAT), (2, os.O_WRONLY | os.O_CREAT)):
            path = os.devnull if number == 0 else output
            if number < 2:
                os.dup2(os.open(path, flags | os.O_APPEND * number, 0o666), number)
            else:
                os.dup2(1, 2)
        sys.stdin, sys.stdout, sys.stderr = open(0), io.TextIOWrapper(open(1, "wb"), line_buffering=True), open(2, "w")
        respect_permissions()
        if limited:
            limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        if not whole:
            checkup.CHECKS[:] = [check for check in checkup.CHECKS if check[0] not in PROBES]
        sys.argv = ["foldertune", *argv]
        code = cli.main(argv)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def respect_permissions() -> None:
    """Make permissions count for root, too: give up the capabilities that override them, here and in what we start."""
    libc, ours = ctypes.CDLL(None), ~0b1110  # all but CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
    for capability in (1, 2, 3):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; fails, and need not, for other users
    header, now = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, now)
    libc.capset(header, (ctypes.c_uint32 * 6)(now[0] & ours, now[1] & ours, now[2] & ours, *now[3:]))


# ---------------------------------------------------------------- the folders


@functools.cache
def templates() -> Path:
    """A directory with a folder of each stage, made by real programs. The caller removes it: see `close`."""
    for name in cli.COMMANDS:  # so that not every fork has to import them
        importlib.import_module(f"foldertune.commands.{name.replace(' ', '_')}")
    for name in ("filelock", "rich.console", "rich.live", "rich.progress", "rich.table"):
        importlib.import_module(name)
    place = Path(tempfile.mkdtemp(prefix="damage-"))
    place.chmod(0o755)
    (place / "toy.toml").write_text(STUDY)
    study = load_study(str(place / "toy.toml"))
    said = place / "said"
    folder = open_folder(Folder(place / "running"), study)
    folder.write_study(study.to_record())
    master = Master(folder, study, LEASE, 3, say=lambda text: None)
    master.step()
    shutil.copytree(folder.path, place / "fresh")
    names = sorted(folder.names(), key=lambda name: name.number)

    def work(*numbers: int, hold: bool = False) -> None:
        """Have a worker train these trials; with `hold`, kill it in the middle of the first."""
        hidden = [name for name in folder.names() if name.state == "pending" and name.number not in numbers]
        for name in hidden:
            os.rename(folder.locate(name), place / str(name))
        os.environ.pop("HOLD", None)
        if hold:
            os.environ["HOLD"] = "600"
        worker = start(
            ["worker", "--logs", str(folder.path), "--objective", study.objective, "--idle-timeout", "0"], said
        )
        if hold:
            wait_for(
                lambda: list(folder.checkpoints.glob(f"trial-0000{numbers[0]}*")) and list(folder.output.glob("*"))
            )
            worker.kill()
        elif worker.wait(DEADLINE) != 0:
            raise Fault(worker.said)
        os.environ.pop("HOLD", None)
        for name in hidden:
            os.rename(place / str(name), folder.locate(name))

    work(0, 1, 2)
    master.step()
    work(5, hold=True)
    master._next_check = 0.0
    wait_for(lambda: master.step() or [name for name in folder.settled() if name.state == "lost"])
    master.step()
    work(6, hold=True)
    work(3)
    assert len(names) == TRIALS and Counter(n.state for n in folder.names()) == {"pending": 3, "done": 1, "taken": 1}
    shutil.copytree(folder.path, place / "complete")
    argv = ["master", str(place / "toy.toml"), "--logs", str(place / "complete"), "--workers", "1", "--lease", "1"]
    if (program := start(argv, said)).wait(DEADLINE) != 0:
        raise Fault(program.said)
    argv = ["results", "--logs", str(place / "complete"), "--keep", str(place / "kept")]
    if (program := start(argv, said)).wait(DEADLINE) != 0:
        raise Fault(program.said)
    shutil.copytree(place / "fresh", place / "live")
    return place


def close() -> None:
    """Remove the templates."""
    shutil.rmtree(templates())
    templates.cache_clear()


# ---------------------------------------------------------------- one seed


class Scene:
    """One damaged folder, and the programs that come to it."""

    def __init__(self, place: Path, seed: int, stage: str | None = None) -> None:
        self.place, self.chance = place, Random(seed)
        self.stage = stage or self.chance.choice(STAGES)
        self.logs, self.outside = place / "logs", place / "outside"
        shutil.copytree(templates() / self.stage, self.logs)
        furnish(self.outside, TRIALS)
        self.study = shutil.copy(templates() / "toy.toml", place / "toy.toml")
        (place / "said").mkdir()
        self.right = self._results()
        self.vandal = Vandal(self.logs, self.outside, place / "taken-away", own_host(), self.chance)
        self.damages: list[Damage] = []
        self.programs: list[Program] = []
        self._number = 0

    def _results(self) -> dict[int, float]:
        """The trials that are counted before the damage, with their values."""
        with contextlib.suppress(Exception):
            return {trial.name.number: trial.result["validation_error"] for trial in read_results(self.logs).trials}
        return {}

    # ---- programs

    @property
    def said(self) -> str:
        """What the last programs have said, and the workers of the master."""
        logs = [path for path in self.logs.glob("worker-*.log") if path.is_file() and path.stat().st_size < 2**20]
        return "\n".join(
            [path.read_text(errors="replace") for path in logs] + [each.said for each in self.programs[-2:]]
        )

    def start(self, name: str, *options: object, **how: bool) -> Program:
        self._number += 1
        argv = [name, *map(str, options), "--logs", str(self.logs)]
        self.programs.append(start(argv, self.place / "said" / f"{self._number:02d}-{name}", **how))
        return self.programs[-1]

    def run(self, name: str, *options: object, **how: bool) -> Program:
        """Run a program that must come to its end."""
        program = self.start(name, *options, **how)
        if program.wait(DEADLINE) is None:
            program.kill()
            raise Fault(f"{name}: hangs:\n{program.said}")
        program.check()
        return program

    def search(self) -> list[Program]:
        """Start a master and a worker."""
        if self.chance.random() < 0.5 or self.stage == "complete":  # then a worker alone would find nothing to do
            return [self.start("master", self.study, "--workers", 1, "--lease", LEASE)]
        worker = self.start("worker", "--objective", "tests.objectives:steadfast")
        return [self.start("master", self.study, "--workers", 0, "--lease", LEASE), worker]

    def finish(self, programs: list[Program]) -> bool:
        """Wait until all have ended, or say what they wait for; then end those. True if the search came to its end."""
        master, *workers = programs

        def waits() -> bool:
            """Have they waited for long enough, and said so?"""
            return time.monotonic() - master.started > ENOUGH and any(words in self.said for words in WAITING)

        if master.wait(DEADLINE, waits) is None:
            waited = waits()
            master.end()
            master.check(stopped=True)
            if not waited:
                raise Fault(f"master and worker wait without a word:\n{self.said}")
        else:
            master.check()
            self.check_that_it_is_named(master)
        for worker in workers:
            if master.code != 0 or worker.wait(DEADLINE) is None:
                if master.code == 0:
                    worker.kill()
                    raise Fault(f"the search is over, and the worker still there:\n{worker.said}")
                worker.end()
            worker.check(stopped=True)
        return master.code == 0

    # ---- what happens

    def survive(self) -> None:
        """Damage the folder, and check everything. Raises Fault."""
        for _ in range(self.chance.randint(1, 4) if self.stage != "live" else 0):
            self.damages.append(self.vandal.damage())
        before, finished = look(self.outside), False
        if self.stage == "live":
            self.exchange_while_they_work()
        else:
            there = [damage for damage in self.damages if damage.mode is None and is_inside(damage.path, self.logs)]
            mine = [(damage, list(belongings(damage.path))) for damage in there]
            self.read()
            self.check_outside(before)
            finished = self.finish(self.search())
            self.check_outside(before)
            self.check_belongings(mine)
            if not finished and self.stage != "kept" and not self.is_blocked():
                raise Fault(f"the search does not come to its end although nothing vital is damaged:\n{self.said}")
        if not finished:
            self.repair()
        if self.stage == "kept":
            self.check_kept()
        else:
            if not self.finish(self.search()):
                raise Fault(f"the search does not come to its end after the repair:\n{self.said}")
            self.check_complete()
        self.check_outside(before)

    def is_blocked(self) -> bool:
        """Is something damaged about which no program may decide?"""
        return any(is_vital(damage, self.logs) or self._is_locked(damage) for damage in self.damages)

    def _is_locked(self, damage: Damage) -> bool:
        """Are rights missing for a directory, or for what a worker should write?"""
        name = TrialName.parse(damage.path.name)
        return damage.mode is not None and (name is None or name.state == "pending")

    def check_that_it_is_named(self, program: Program) -> None:
        """A program that refuses to begin names something that is damaged."""
        names = [damage.path.name for damage in self.damages if damage.kind != "nothing"] or ["seen"]
        if program.code == 2 and not any(name in program.said for name in [*names, "kept study"]):
            raise Fault(f"{program.argv} does not say what is damaged:\n{program.said}")

    def read(self) -> None:
        """Run all readers and the doctor."""
        table = self.run("results", "--all", "--out", self.place / "table.json")
        if table.code == 0:
            self.check_table()
        elif self.is_blocked():
            self.check_that_it_is_named(table)
        else:
            raise Fault(f"results ends with an error although nothing vital is damaged:\n{table.said}")
        self.run("status")
        self.run("best")
        self.run("doctor", "--wait", 0, whole=self.chance.random() < 0.1)
        if self.chance.random() < 0.1:
            self.run("report", limited=False)  # its libraries take as much as they like

    def exchange_while_they_work(self) -> None:
        """Exchange directories and files for links and other things, and back, while master and worker work."""
        os.environ["HOLD"] = "0.1"
        programs = self.search()
        del os.environ["HOLD"]
        for _ in range(self.chance.randint(1, 5)):
            time.sleep(self.chance.random() / 2)
            running = sorted(self.logs.glob("trial-*.taken"))
            path = self.logs / self.chance.choice(PARTS * 2 + ("study.json", "results.csv"))
            if running and self.chance.random() < 0.3:
                path = self.chance.choice(running)
            self.exchange(path, self.chance.choice([0.02, 0.2, 2.0]))
        self.finish(programs)

    def exchange(self, path: Path, seconds: float) -> None:
        """Exchange one path for something else for a while. What programs have moved meanwhile stays where it is."""
        put = self.chance.choice([*[self.vandal.put_link_to_a_directory_like_ours] * 3, *self.vandal.kinds])
        if path.name in PARTS and "_directory" in put.__name__ and "link" not in put.__name__:
            put = self.vandal.put_fifo  # a directory like any other: nobody could tell that it is not ours
        hidden = self.place / "hidden" / f"{len(self.damages)}"
        hidden.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, hidden)
        try:
            put(path)
        except OSError:  # it was made again just now
            put = self.vandal.put_nothing
        self.damages.append(Damage(f"{put.__name__.removeprefix('put_')} for {seconds} s", path))
        mine = path.lstat().st_ino if is_inside(path, self.logs) and put != self.vandal.put_nothing else None
        time.sleep(seconds)
        if is_inside(path, self.logs) and path.lstat().st_ino == mine:
            os.rename(path, f"{hidden}-mine")
        if os.path.lexists(hidden) and not os.path.lexists(path):
            os.rename(hidden, path)

    def repair(self) -> None:
        """Do what a person does who has read the messages: put back what is vital, and give rights back."""
        for damage in reversed(self.damages):
            if damage.mode is not None:
                give_rights_back(self.logs)
            elif is_vital(damage, self.logs) and self.stage != "live":
                if os.path.lexists(damage.path):
                    away = self.place / "away"
                    away.mkdir(exist_ok=True)
                    os.rename(damage.path, away / f"{len(os.listdir(away))}")
                if damage.kept:
                    os.rename(damage.kept, damage.path)

    # ---- what must hold

    def check_outside(self, before: dict[str, tuple[object, ...]]) -> None:
        after = look(self.outside)
        for name in {*before, *after}:
            if not is_unchanged(before.get(name), after.get(name)):
                raise Fault(f"outside/{name} was {before.get(name)}, now {after.get(name)}")

    def check_belongings(self, mine: list[tuple[Damage, list[tuple[object, ...]]]]) -> None:
        """What a person has put into the folder is still there, perhaps elsewhere in it."""
        there = list(self._belongings_now())
        texts = [thing[1] for thing in there if thing[0] == "file"]
        for damage, things in mine:
            if _is_rewritten(damage, self.logs):
                continue
            for thing in things:
                if thing[0] != "file" and thing not in there:
                    raise Fault(f"{damage}: {thing} is gone")
                whole = thing[1] if thing[0] == "file" else b""
                lines = whole[: whole.rfind(b"\n") + 1]
                if thing[0] == "file" and not any(
                    text == whole or (lines and text.startswith(lines)) for text in texts
                ):
                    raise Fault(f"{damage}: its contents are gone: {whole[:100]!r}")

    def _belongings_now(self) -> Iterator[tuple[object, ...]]:
        for path in self.logs.iterdir():
            yield from belongings(path)

    def check_table(self) -> None:
        """Each trial counted before is in the table, with its value, unless it was damaged."""
        rows = {row["trial"]: row for row in json.loads((self.place / "table.json").read_text())}
        hurt = {touched(damage) for damage in self.damages}
        if self.is_blocked():
            return
        for number, value in self.right.items():
            if number not in hurt and (number not in rows or rows[number]["validation_error"] != value):
                raise Fault(f"results: trial {number} is not there with {value}: {rows.get(number)}")

    def check_complete(self) -> None:
        """Each trial is counted once; those that were not damaged, with the right value."""
        folder, study = Folder(self.logs), load_study(self.study)
        seen = Counter(name.number for name in folder.settled() if name.state == "seen")
        if wrong := [number for number in range(TRIALS) if seen[number] != 1]:
            raise Fault(f"trials {wrong} are not counted once: {seen}")
        hurt = {touched(damage) for damage in self.damages}
        results = {trial.name.number: trial for trial in read_results(self.logs).trials}
        for number in {*range(TRIALS)} - hurt:
            trial, x = results.get(number), settings_of(study, number)["x"]
            if trial is None or trial.settings["x"] != x or (trial.result or {}).get("validation_error") != x:
                raise Fault(f"trial {number} has not its own result: {trial}")
        for number, value in self.right.items():
            if number not in hurt and results[number].result["validation_error"] != value:
                raise Fault(f"trial {number} was counted with {value}")

    def check_kept(self) -> None:
        table = self.run("results", "--all", "--out", self.place / "table.json")
        if table.code != 0:
            raise Fault(f"a kept study can't be read after the repair:\n{table.said}")
        rows = {row["trial"]: row["validation_error"] for row in json.loads((self.place / "table.json").read_text())}
        if rows != self.right:
            raise Fault(f"a kept study has other results after the repair: {rows}, not {self.right}")

    def close(self) -> None:
        for program in self.programs:
            if program.poll() is None:
                program.kill()


def _is_rewritten(damage: Damage, logs: Path) -> bool:
    """Is this a file that programs write again, or remove when it is not needed any more?"""
    if damage.path.parent == logs:
        return damage.path.name in ("results.csv", "study.json", "study.json.done") or ".master-" in damage.path.name
    return damage.path.parent == logs / "checkpoints" and touched(damage) is not None


def give_rights_back(place: Path) -> None:
    """What `chmod -R u+rwX` does."""
    for directory, _, files in os.walk(place):
        os.chmod(directory, stat.S_IMODE(os.stat(directory).st_mode) | 0o700)
        for file in files:
            if not os.path.islink(path := f"{directory}/{file}"):
                os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | 0o600)


def explore(seed: int, stage: str | None = None, *, verbose: bool = False) -> str:
    """One seed. Returns a line about it. Raises Fault."""
    with tempfile.TemporaryDirectory(prefix="damage-") as path:
        scene = Scene(Path(path), seed, stage)
        try:
            scene.survive()
        except Fault as fault:
            raise Fault(f"seed {seed}, {scene.stage}, {', '.join(map(str, scene.damages))}: {fault}") from None
        finally:
            scene.close()
            if verbose:
                for program in scene.programs:
                    print(f"---- {' '.join(program.argv)}: {program.code}\n{program.said}")
            give_rights_back(Path(path))
    return f"seed {seed}, {scene.stage}: {', '.join(map(str, scene.damages))}"


def main() -> int:
    """Explore many seeds, and list the faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="the number of seeds (default: 100)")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="the first seed (default: 0)")
    parser.add_argument("--seed", type=int, metavar="K", help="only this seed, with everything that was said")
    parser.add_argument("--stage", choices=sorted({*STAGES}), help="only this stage (default: by chance)")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    faults, seeds = 0, range(arguments.first, arguments.first + arguments.seeds)
    for seed in [arguments.seed] if arguments.seed is not None else seeds:
        try:
            print(explore(seed, arguments.stage, verbose=arguments.seed is not None), file=sys.stderr)
        except Fault as fault:
            faults += 1
            print(f"FAULT {fault}\n", flush=True)
    print(f"{faults} faults in {1 if arguments.seed is not None else arguments.seeds} folders", flush=True)
    close()
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
