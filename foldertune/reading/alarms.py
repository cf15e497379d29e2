"""Notices what a person should mend, and says how: idle machines, and names in the study that mean nothing."""

from __future__ import annotations

import itertools

from foldertune.derived import names_in
from foldertune.errors import did_you_mean
from foldertune.reading.results import Results
from foldertune.shipped import command
from foldertune.text import counted

FOR_LONG = 30.0  # seconds: for less, workers wait between two trials, or between two looks for work


def alarms(results: Results) -> list[str]:
    """A line about machines or work that stand idle, with what to do; none if all is well."""
    if results.complete or results.kept or results.halted or results.path is None:
        return []
    living = [worker for worker in results.workers if not worker.end]
    idle = [worker for worker in living if worker.is_idle and (worker.waits or 0) >= FOR_LONG]
    pending, leader = len(results.pending), results.leader
    if leader and leader.is_gone and not pending and (idle or results.handed_in):
        last = f"the last, {leader.who}, {leader.how}; " if leader.who else ""
        return [f"{_they_wait(len(idle), len(results.handed_in))}, and no master leads: {last}start it again"]
    if pending and not living:
        start = command("worker", "--logs", results.path)
        return [f"{_wait(pending, 'trial')}, but no worker is there; start one on any machine: {start}"]
    if pending and len(idle) == len(living) and results.pending_for >= FOR_LONG:
        ask = command("logs", idle[0].owner, "--logs", results.path)
        return [f"{_wait(pending, 'trial')}, but so do all workers; see what one says: {ask}"]
    if idle and not pending and results.running and not _is_ending(results):
        why = f"the strategy ({results.study.strategy}) must see results of the trials that run before it goes on"
        return [f"{_wait(len(idle), 'worker')}: {why}; more workers would not help"]
    return []


def nameless(results: Results) -> list[str]:
    """A line about each expression of the study that names what no trial has; none before a trial has succeeded.

    What a derived quantity is made of may be reported after each epoch only, so it takes the learning curves.
    """
    study, lines = results.study, list[str]()
    derived = study.derived if results.has_curves else {}
    expressions = {**derived, **({"collapsed": study.collapsed} if study.collapsed else {})}
    named = {what: names_in(expression) - study.derived.keys() for what, expression in expressions.items()}
    lacking = set().union(*named.values())
    known: set[str] = set()
    for trial in results.ended:
        if not lacking - known:
            break
        known |= {*study.space, *trial.settings, *(trial.result or {}), *itertools.chain(*trial.epochs)}
    for what, names in named.items() if known else ():
        for name in sorted(names - known):
            hint = did_you_mean(name, known)
            mend = "if it is misspelt, correct the study's file and start the master again"
            lines.append(f"{what}: no trial has {name!r} yet{hint}; {mend}")
    return lines


def _they_wait(workers: int, trials: int) -> str:
    return _wait(workers, "worker") if workers else _wait(trials, "finished trial")


def _wait(number: int, noun: str) -> str:
    return f"{counted(number, noun)} wait{'s' * (number == 1)}"


def _is_ending(results: Results) -> bool:
    """Are all trials published that the study will have?"""
    return not results.is_open_ended and len(results.trials) + len(results.in_hand) >= results.asked
