"""A search with a schedule: its rungs, and the trainings that go on through several trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from foldertune.protocol import Record, Trial
from foldertune.tables import finite


@dataclass(frozen=True)
class Rung:
    """The trials that trained equally long.

    Attributes:
        level: their fidelity.
        trials: those with a result, the best first.
        running: the number of trials that are being trained to this rung.
        promoted: the number of trials with which others have gone on, or will.
    """

    level: float
    trials: Sequence[Trial]
    running: int
    promoted: int


def rungs_of(ranked: Iterable[Trial], running: Iterable[Trial], level_of: Callable[[Trial], float]) -> list[Rung]:
    """The rungs that trials have come to, the lowest first.

    Args:
        ranked: the trials of the search that have a result, the best first.
        running: those that are being trained.
    """
    ranked, running = list(ranked), list(running)
    parents = {trial.parent.number for trial in (*ranked, *running) if trial.parent}
    found = []
    for level in sorted({level_of(trial) for trial in (*ranked, *running)}):
        trials = [trial for trial in ranked if level_of(trial) == level]
        promoted = sum(trial.name.number in parents for trial in trials)
        found.append(Rung(level, trials, sum(level_of(trial) == level for trial in running), promoted))
    return found


def chain_of(trial: Trial, by_number: Mapping[int, Trial]) -> list[Trial]:
    """The trials through which a training went, the first one first. Their files may say anything: none comes twice."""
    chain = [trial]
    while (parent := chain[0].parent) and (before := by_number.get(parent.number)):
        if any(before is each for each in chain):
            break
        chain.insert(0, before)
    return chain


def epochs_of(chain: Sequence[Trial]) -> list[Record]:
    """What a training has reported over all of its trials. Epochs that were trained again count once, the last time."""
    found: list[Record] = []
    for trial in chain:
        begin = finite(trial.epochs[0].get("epoch")) if trial.epochs else None
        if begin is not None:
            found = [epoch for epoch in found if (known := finite(epoch.get("epoch"))) is not None and known < begin]
        found += trial.epochs
    return found


def epochs_trained(chain: Sequence[Trial]) -> float:
    """The epochs that the last trial of a chain has trained itself, as far as it has reported them."""
    *before, trial = chain
    reached = finite(trial.epochs[-1].get("epoch")) if trial.epochs else None
    if reached is None:
        return float(len(trial.epochs))
    begun = finite(before[-1].epochs[-1].get("epoch")) if before and trial.resumed and before[-1].epochs else None
    return max(reached - (begun or 0.0), 0.0)
