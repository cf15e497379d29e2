"""Search hyperparameters: publish trials, collect results, retry lost trials.

    {program}                           the study quickstart, in logs/
    {program} mine.toml --try           train one trial here: does it work?
    {program} mine.toml --trials 100    a study of your own; see docs/objectives.md
    {program} quickstart --logs /shared/me/lr --workers 0
    {worker} --logs /shared/me/lr       on any machine, as many as you like

Without --workers it starts one worker per GPU, or one per core if there is
none. You can stop it at any time (Ctrl-C, even kill -9). Start it again with
the same command, and the search continues: its whole state is in the folder.
A second master is refused, or waits with --standby until it can take over.

If all trials fail in the same way, the search stops and shows where; the exit
code is then 3. Repair the code, and continue with --retry-failed. It is 4 if a
person has stopped all (`{stop}`).

Several users can work in one folder: let their group write it, chmod g+ws DIR.

The results: `{results}`, and results.csv in the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from foldertune.commands.first import add_first
from foldertune.commands.machine import add_machine, in_words, new_local_workers, place
from foldertune.commands.messages import Messages, add_notify
from foldertune.commands.options import (
    add_budget,
    add_checkpoint_every,
    add_logs,
    add_objective_command,
    add_stopping,
    number_after_study,
    seconds,
    whole_number,
)
from foldertune.commands.study import study_of
from foldertune.launch import Launcher
from foldertune.launch.local import BAD_USAGE, STOP_SECONDS
from foldertune.launch.machine import count_cores, describe_devices, limit_threads
from foldertune.launch.search import ALL_FAILED, NO_WORKER, STOPPED, run
from foldertune.launch.slurm_job import leave
from foldertune.protocol import DEFAULT_LEASE, SHORTEST_LEASE, STOP, Folder, LedFolder, printable
from foldertune.reading.reader import Reader
from foldertune.reading.results import Results
from foldertune.reading.terminal.live import open_view
from foldertune.reading.terminal.table import print_best
from foldertune.running.command import CommandTrainer
from foldertune.running.fault import Fault
from foldertune.running.first_try import try_trial
from foldertune.running.master import Master
from foldertune.running.mastership import continued, only_master, open_folder
from foldertune.running.remote import lift_end, request_to_end
from foldertune.running.saying import tell
from foldertune.running.signals import StopSignals
from foldertune.running.trainer import ObjectiveTrainer
from foldertune.running.waiting import Interrupted, once_reachable, outlast
from foldertune.shipped import COMMAND_OBJECTIVE, DEFAULT_OBJECTIVE, command, how_to_go_on, shipped_studies
from foldertune.strategies import STRATEGIES
from foldertune.strategies import in_words as strategy_in_words
from foldertune.study import Study

LINES_OF_TRACEBACK = 8
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    group = parser.add_argument_group("what to search")
    group.add_argument(
        "study", nargs="?", default="quickstart", type=os.path.expanduser, metavar="STUDY",
        help=f"a TOML file of yours, or one of {', '.join(shipped_studies())} (default: quickstart)",
    )  # fmt: skip
    group.add_argument(
        "--try", dest="try_trial", nargs="?", type=number_after_study, const=0, metavar="NUMBER",
        help="only train this one trial here, for few epochs if the study has a [fidelity]; no folder is needed "
        "(default: trial 0)",
    )  # fmt: skip
    add_logs(group)
    group.add_argument(
        "--strategy", metavar="NAME", help=f"how to search: auto, {', '.join(STRATEGIES)}; or FILE:FUNCTION"
    )
    group.add_argument("--repeats", type=whole_number(1), metavar="N", help="try a grid (or the same settings) N times")
    group.add_argument("--seed", type=whole_number(), metavar="N", help="another search (default: the study's)")
    group.add_argument(
        "--change", action="store_true",
        help="the folder's study becomes what its file says now, such as a wider space: see docs/objectives.md",
    )  # fmt: skip
    add_first(parser)
    add_stopping(group)
    add_budget(parser.add_argument_group("the budget: the first limit ends the study (default: what its file says)"))
    group = parser.add_argument_group("workers on this machine")
    add_objective_command(group)
    group.add_argument(
        "--workers", type=whole_number(0), metavar="N",
        help="start N workers; 0: none, you start them yourself (default: one per GPU, or one per core if there is "
        "none)",
    )  # fmt: skip
    add_machine(group, "all")
    add_checkpoint_every(group)
    add_notify(parser)
    group = parser.add_argument_group("lost workers, other masters, failed trials")
    group.add_argument(
        "--lease", type=seconds(), default=DEFAULT_LEASE, metavar="SECONDS",
        help="give a worker's trial to another after this long without a heartbeat, at least 1; after as long, another "
        "master may follow this one (default: %(default)g, long enough for NFS caches)",
    )  # fmt: skip
    group.add_argument(
        "--standby", action="store_true",
        help="if another master leads, wait, and take over when it ends, dies or falls silent",
    )  # fmt: skip
    group.add_argument(
        "--max-attempts", type=whole_number(1), default=3, metavar="N",
        help="record a trial as failed after N lost attempts (default: 3)",
    )  # fmt: skip
    group.add_argument(
        "--retry-failed", action="store_true",
        help="first give the trials that have failed their attempts back: the training code was repaired",
    )  # fmt: skip
    group.add_argument(
        "--trial-timeout", type=seconds(), metavar="SECONDS",
        help="end an attempt that takes longer, and count it as lost (default: no limit)",
    )  # fmt: skip


def main(arguments: argparse.Namespace) -> int:
    """Search until the budget is spent.

    Returns the exit code: 0; 1 if no worker can be kept alive; 3 if all trials have failed; 4 if a person has stopped
    all; 128 + the signal that stopped it, but 0 in a job of Slurm's.
    """
    study = study_of(arguments)
    if arguments.try_trial is not None:
        return try_first(study, arguments)
    logs, lease, say = arguments.logs, max(arguments.lease, SHORTEST_LEASE), tell
    there = Folder(logs)
    if (request := request_to_end(there, [STOP])) and not there.is_ended:
        say(f"{logs}: {request}, so no search begins; {how_to_go_on(logs)}")
        return STOPPED
    signals = StopSignals()
    signals.listen()

    def pause(seconds: float) -> None:
        if signals.wait(seconds):
            raise Interrupted

    def reach(action: Callable[[], T]) -> T:
        return once_reachable(logs, action, say, pause)

    with contextlib.ExitStack() as stack:

        def lead() -> LedFolder:
            return stack.enter_context(only_master(logs, lease, standby=arguments.standby, say=say, pause=pause))

        try:
            folder = reach(lead)
            reach(lambda: lift_end(folder, lambda: continued(folder, study).to_record(), say))
            opened = reach(lambda: open_folder(folder, study, lease, say, change=arguments.change, pause=pause))
            code = search(opened, reach(lambda: continued(opened, study)), arguments, signals)
        except Interrupted:  # while it waited to lead, or for the folder
            code = 128 + signals.number
    return leave(code, there, max(code - 128, 0), halts=[STOP])


def try_first(study: Study, arguments: argparse.Namespace) -> int:
    """Train one trial here, without a folder. Returns the exit code: 1 if the training failed."""
    device = place(arguments, workers=1)[0]
    limit_threads(arguments.threads)
    signals = StopSignals()
    signals.listen()
    trainer = (
        CommandTrainer(signals, arguments.command, device, arguments.pattern, arguments.memory)
        if study.objective == COMMAND_OBJECTIVE
        else ObjectiveTrainer(signals, study.objective, device, arguments.memory)
    )
    return try_trial(study, arguments.try_trial, trainer, signals, tell)


def search(folder: Folder, study: Study, arguments: argparse.Namespace, signals: StopSignals) -> int:
    """Publish, collect and follow up until the budget is spent, and show the progress. Returns the exit code."""
    with open_view() as view:
        lease = max(arguments.lease, SHORTEST_LEASE)
        if lease > arguments.lease:
            view.say(f"--lease {arguments.lease:g}: so short a lease loses live workers; it is {lease:g} second")
        master = Master(folder, study, lease, arguments.max_attempts, arguments.trial_timeout, view.say)
        reader = Reader(folder, study)

        messages = Messages(arguments.notify, folder.path, study, view.say)

        def read() -> Results:
            results = reader.read(master.ledger.in_order())
            messages.look(results)
            return results

        def patiently(action: Callable[[], T]) -> T:
            return outlast(folder, action, signals, view.say)

        workers: Launcher | None = None
        try:
            patiently(lambda: master.take_stock(retry_failed=arguments.retry_failed))
            fault = Fault(folder, master.ledger)
            patiently(lambda: open_study(master))
            if not master.is_done() and (workers := new_workers(folder, study, arguments, view.say)):
                patiently(workers.start)
            code = run(master, workers, fault, signals, lambda: view.update(read), messages.trouble)
            if signals.number:
                view.say("stopping" + (": local workers give their trials back" if workers else ""))
        except Interrupted:
            return 128 + signals.number  # and leave results.csv as it is
        finally:
            if workers:
                workers.stop(STOP_SECONDS, is_time_up=signals.is_time_up)
        if signals.is_time_up and workers and workers.needs_a_person:
            return BAD_USAGE

        def end() -> Results:
            if code:
                with contextlib.suppress(OSError) if code == STOPPED else contextlib.nullcontext():
                    master.write_results()
            view.update(read, last=True)
            return read()

        try:
            results = patiently(end)
        except Interrupted:  # who is told to stop does not wait until it works
            return 128 + signals.number
    if not signals.number and code != STOPPED:
        messages.end(results, {NO_WORKER: "no worker is left", ALL_FAILED: "all trials fail"}.get(code, ""))
    print_best(folder, results)
    if code == ALL_FAILED:
        print_fault(fault, arguments)
    elif code == STOPPED:
        print(f"Not complete: {how_to_go_on(folder.path)}, and then with: {command('master', *arguments.argv)}")
    elif code:
        print(f"Not complete. Continue with: {command('master', *arguments.argv)}")
    return code


def open_study(master: Master) -> None:
    """Write study.json if there are trials to train, or if it says anything else."""
    if not master.is_done() or master.folder.read_study() != master.study.to_record():
        master.folder.write_study(master.study.to_record())


def print_fault(fault: Fault, arguments: argparse.Namespace) -> None:
    """Say why all trials have failed, and what to do."""
    if (trial := fault.example()) is not None:
        _, *lines = trial.traceback.splitlines() if trial.traceback else ("", str(trial.error))
        for line in lines[-LINES_OF_TRACEBACK:]:
            print(f"    {printable(line)}")
        print(f"The whole story of this attempt: {fault.folder.locate(trial.name)}")
    again = [word for word in arguments.argv if word != "--retry-failed"]
    print(f"All trials have failed. Try one here: {command('master', *again, '--try')}")
    print(f"Continue after the repair with: {command('master', *again, '--retry-failed')}")


def new_workers(
    folder: Folder, study: Study, arguments: argparse.Namespace, say: Callable[[str], None]
) -> Launcher | None:
    """The workers of this machine, or None. Prints what they will do, and how to add more."""
    devices = [] if arguments.workers == 0 else place(arguments, arguments.workers)
    own = ["--objective", study.objective]
    if study.objective == COMMAND_OBJECTIVE:
        own = ["--command", arguments.command or "…", *(["--pattern", arguments.pattern] if arguments.pattern else [])]
    say(hint(folder, study, devices, arguments.threads, own))
    options = ["--logs", str(folder.path), *own]
    options += [*in_words(arguments), "--checkpoint-every", str(arguments.checkpoint_every)]
    return new_local_workers(devices, options, arguments, folder.path, say, "master") if devices else None


def hint(folder: Folder, study: Study, devices: Sequence[str], threads: int, own: Sequence[str]) -> str:
    """A line that describes the search, its workers on this machine, and how to add more, with these options."""
    local, wanted, cores = "", len(devices) * threads, count_cores()
    if devices:
        crowd = f" (they want {wanted} cores, there {'is' if cores == 1 else 'are'} {cores})" if wanted > cores else ""
        local = f"workers here: {describe_devices(devices)}{crowd}; "
    extremes = {"minimize": "lowest", "maximize": "highest"}
    sought = " and the ".join(f"{extremes[metric.direction]} {metric.name}" for metric in study.metrics)
    more, why = "more workers" if devices else "workers", f" (auto: {study.why})" if study.why else ""
    return (
        f"{study.name}: {study.budget_in_words}, {strategy_in_words(study)}{why} for the {sought}; "
        f"{local}{more}, on any machine: "
        f"{command('worker', '--logs', folder.path, *(() if study.objective == DEFAULT_OBJECTIVE else own))}"
    )
