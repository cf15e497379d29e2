"""Search hyperparameters: publish trials, collect results, retry lost trials.

    {program}                           the study quickstart, in logs/
    {program} mine.toml --trials 100    a study of your own; see README.md
    {program} quickstart --logs /shared/me/lr --workers 0
    {worker} --logs /shared/me/lr       on any machine, as many as you like

Without --workers it starts one worker per GPU, or one per core if there is
none. You can stop it at any time (Ctrl-C, even kill -9). Start it again with
the same command, and the search continues: its whole state is in the folder.

The results: `{results}`, and results.csv in the folder.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType

from foldertune.commands.options import add_checkpoint_every, add_logs, seconds, whole_number
from foldertune.errors import StudyError, require
from foldertune.launch import Launcher
from foldertune.launch.local import STOP_SECONDS, LocalWorkers
from foldertune.launch.machine import choose_devices, count_cores, describe_devices
from foldertune.nesting import nest
from foldertune.protocol import DEFAULT_LEASE, Folder
from foldertune.reading.reader import Reader
from foldertune.reading.results import Results
from foldertune.reading.terminal.live import open_view
from foldertune.reading.terminal.table import print_best
from foldertune.running.master import Master
from foldertune.running.mastership import only_master, open_folder
from foldertune.shipped import DEFAULT_OBJECTIVE, command, shipped_studies
from foldertune.space import Categorical
from foldertune.strategies import load
from foldertune.study import Study
from foldertune.trainer.objective import shipped_check
from foldertune.trouble import Trouble

SHORTEST_WAIT, LONGEST_WAIT, LOOKS_PER_LEASE = 0.01, 1.0, 20  # seconds between two looks at the folder


class Terminated(BaseException):
    """SIGTERM came: end as on Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    group = parser.add_argument_group("what to search")
    group.add_argument(
        "study", nargs="?", default="quickstart", metavar="STUDY",
        help=f"a TOML file of yours, or one of {', '.join(shipped_studies())} (default: quickstart)",
    )  # fmt: skip
    add_logs(group)
    group.add_argument(
        "--trials", type=whole_number(1), metavar="N", help="the budget: N results (default: what the study says)"
    )
    group.add_argument(
        "--repeats", type=whole_number(1), metavar="N", help="try each combination of a grid N times, with new seeds"
    )
    group.add_argument(
        "--seed", type=whole_number(), metavar="N", help="another search in the same space (default: the study's)"
    )
    group = parser.add_argument_group("workers on this machine")
    group.add_argument(
        "--workers", type=whole_number(0), metavar="N",
        help="start N workers; 0: none, you start them yourself (default: one per GPU, or one per core if there is "
        "none)",
    )  # fmt: skip
    group.add_argument("--device", default="all", help="the workers' device: see worker --help (default: all)")
    group.add_argument(
        "--threads", type=whole_number(1), default=1, metavar="N", help="CPU threads of each worker (default: 1)"
    )
    add_checkpoint_every(group)
    group = parser.add_argument_group("lost workers")
    group.add_argument(
        "--lease", type=seconds(), default=DEFAULT_LEASE, metavar="SECONDS",
        help="give a worker's trial to another after this long without a heartbeat (default: %(default)g, long enough "
        "for NFS caches)",
    )  # fmt: skip
    group.add_argument(
        "--max-attempts", type=whole_number(1), default=3, metavar="N",
        help="record a trial as failed after N lost attempts (default: 3)",
    )  # fmt: skip
    group.add_argument(
        "--trial-timeout", type=seconds(), metavar="SECONDS",
        help="end an attempt that takes longer, and count it as lost (default: no limit)",
    )  # fmt: skip


def main(arguments: argparse.Namespace) -> int:
    """Search until the budget is spent.

    Returns the exit code: 0; 1 if no worker can be kept alive; 130 on Ctrl-C, 143 on SIGTERM.
    """
    study = load(arguments.study, trials=arguments.trials, seed=arguments.seed, repeats=arguments.repeats)
    check_settings(study, arguments.study)
    if study.objective == DEFAULT_OBJECTIVE and arguments.workers != 0:
        require("exercise")
    with only_master(arguments.logs):
        return search(open_folder(arguments.logs, study), study, arguments)


def check_settings(study: Study, source: str) -> None:
    """Raise StudyError if the shipped objective can't train with the study's settings, before a worker fails."""
    if study.objective != DEFAULT_OBJECTIVE:
        return
    check = shipped_check()
    values = {
        key: dimension.choices if isinstance(dimension, Categorical) else (dimension.low, dimension.high)
        for key, dimension in study.space.items()
    }
    first = {**study.fixed, **{key: options[0] for key, options in values.items()}}
    for key, options in values.items():
        for option in options:
            try:
                check(nest({**first, key: option}))
            except ValueError as error:
                raise StudyError(f"{source}: {error}") from None


def search(folder: Folder, study: Study, arguments: argparse.Namespace) -> int:
    """Publish, collect and follow up until the budget is spent, and show the progress. Returns the exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    with open_view() as view:
        master = Master(folder, study, arguments.lease, arguments.max_attempts, arguments.trial_timeout, view.say)
        reader = Reader(folder, study)

        def read() -> Results:
            return reader.read(master.ledger.in_order())

        workers: Launcher | None = None
        try:
            master.take_stock()
            if not master.is_done() or folder.read_study() != study.to_record():
                folder.write_study(study.to_record())
            if not master.is_done() and (workers := new_workers(folder, study, arguments, view.say)):
                workers.start()
            code = run(master, workers, lambda: view.update(read))
        except (KeyboardInterrupt, Terminated) as stop:
            code = 130 if isinstance(stop, KeyboardInterrupt) else 128 + signal.SIGTERM
            view.say("stopping" + (": local workers give their trials back" if workers else ""))
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if workers:
                workers.stop(STOP_SECONDS)
        if code:
            master.write_results()
        view.update(read, last=True)
    print_best(folder, read())
    if code:
        print(f"Not complete. Continue with: {command('master', *arguments.argv)}")
    return code


def new_workers(
    folder: Folder, study: Study, arguments: argparse.Namespace, say: Callable[[str], None]
) -> Launcher | None:
    """The workers of this machine, or None. Prints what they will do, and how to add more."""
    devices = [] if arguments.workers == 0 else choose_devices(arguments.device, workers=arguments.workers)
    say(hint(folder, study, devices, arguments.threads))
    options = ["--logs", str(folder.path), "--objective", study.objective]
    options += ["--threads", str(arguments.threads), "--checkpoint-every", str(arguments.checkpoint_every)]
    return LocalWorkers(devices, options, folder.path, say) if devices else None


def hint(folder: Folder, study: Study, devices: Sequence[str], threads: int) -> str:
    """A line that describes the search, its workers on this machine, and how to add more."""
    local, wanted, cores = "", len(devices) * threads, count_cores()
    if devices:
        crowd = f" (they want {wanted} cores, there are {cores})" if wanted > cores else ""
        local = f"workers here: {describe_devices(devices)}{crowd}; "
    extreme = "lowest" if study.direction == "minimize" else "highest"
    more = "more workers" if devices else "workers"
    own = () if study.objective == DEFAULT_OBJECTIVE else ("--objective", study.objective)
    return (
        f"{study.name}: {study.trials} trials, {study.strategy} search for the {extreme} {study.metric}; "
        f"{local}{more}, on any machine: {command('worker', '--logs', folder.path, *own)}"
    )


def run(master: Master, workers: Launcher | None, show: Callable[[], None]) -> int:
    """Take one step after another, with longer pauses while nothing happens. Returns the exit code, 0 or 1."""
    wait, trouble = SHORTEST_WAIT, Trouble(master.say)
    longest_wait = min(LONGEST_WAIT, master.lease / LOOKS_PER_LEASE)
    while True:
        moved = False
        try:
            moved = master.step()
            if master.is_done():
                master.conclude()
                return 0
            show()
            if workers:
                workers.look_after(lambda: master.ledger.ended)
            trouble.is_over()
        except OSError as error:  # a full disk or a restarting server: the step can be repeated
            trouble.is_there(error)
        quiet = not moved and wait >= longest_wait  # nothing has happened for some seconds
        if workers and quiet and workers.all_gone and not master.someone_works():
            master.say("no worker is left on this machine, and none works elsewhere")
            return 1
        wait = SHORTEST_WAIT if moved else min(1.5 * wait, longest_wait)
        time.sleep(wait)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
