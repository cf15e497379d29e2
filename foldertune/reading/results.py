"""The results of a study so far: one object holds all trials and computes every fact once.

Tables, views, sentences and figures are handed these facts as values. `facts.py`, `samples.py` and `spans.py` hold
their types.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from foldertune.confirm import confirmed_by
from foldertune.finalists import is_whole, settings_key
from foldertune.metrics import front_of
from foldertune.protocol import SECONDS, YEAR, Record, Request, Trial, TrialName, parse_time
from foldertune.reading.confirmed import Confirmation, confirmation_of, is_confirming
from foldertune.reading.facts import (
    Column,
    Course,
    Curve,
    Grid,
    Host,
    Point,
    Runs,
    Scores,
    Setback,
    Silence,
    Trade,
    find_hosts,
    pair_reasons,
    why_lost,
)
from foldertune.reading.importance import Importance, measure_importance
from foldertune.reading.leader import Leader
from foldertune.reading.rungs import Rung, chain_of, epochs_of, epochs_trained, rungs_of
from foldertune.reading.samples import Sample
from foldertune.reading.spans import Work
from foldertune.reading.workers import Noted, Worker, find_workers
from foldertune.space import Categorical, identity
from foldertune.spending import HOUR, USED_UP, hours_of, spans_at_work, spent, why_over
from foldertune.stopping import is_cut_short
from foldertune.study import Quantity, Study
from foldertune.tables import as_cell, cell_of, finite
from foldertune.text import amount, counted

ALIVE = 60.0  # seconds without a heartbeat after which a worker does not count as at work; one comes every 15 s
NOT_MEASURES = ("epoch", SECONDS)


@dataclass(frozen=True)
class Group:
    """Trials with equal values of some settings; `key` holds these values."""

    key: tuple[Any, ...]
    trials: list[Trial]
    results: Results = field(repr=False)

    @cached_property
    def trained(self) -> list[Trial]:
        """The trials that did not collapse."""
        return [trial for trial in self.trials if not self.results.has_collapsed(trial)]

    @property
    def collapsed(self) -> int:
        """The number of trials that collapsed."""
        return len(self.trials) - len(self.trained)

    def sample(self, measure: str) -> Sample:
        """A measure after the last epoch. Trials that collapsed say little about the others, and are left out."""
        values = [self.results.at_end(trial, measure) for trial in self.trained]
        return Sample.of([*values, *[None] * self.collapsed])

    def sample_of_all(self, measure: str) -> Sample:
        """A measure after the last epoch, of all trials, including those that collapsed."""
        return Sample.of(self.results.at_end(trial, measure) for trial in self.trials)

    def sample_of_results(self, metric: str) -> Sample:
        """A metric of the results of the trials that did not collapse."""
        return Sample.of(self.results.value(trial, metric) for trial in self.trained)

    def runs(self, measure: str, over: str = "epoch") -> Runs:
        """A measure over the epochs of each trial, or over another measure."""
        return Runs(self.key, [self.results.curve(trial, measure, over) for trial in self.trials])

    @cached_property
    def seconds(self) -> float:
        """The mean training time; infinite if no trial has one."""
        return Sample.of((trial.result or {}).get(SECONDS) for trial in self.trials).mean


@dataclass(frozen=True)
class Results:
    """A study and what its trials have reported so far. Each list is in the order of trials and attempts."""

    study: Study
    trials: list[Trial]  # the counted trials, including those that failed
    in_hand: list[Trial] = field(default_factory=list)  # being trained, or waiting to be counted
    lost: list[Trial] = field(default_factory=list)  # attempts that ended without a result
    retried: list[Trial] = field(default_factory=list)  # verdicts on failed trials that are tried again
    given_back: list[Trial] = field(default_factory=list)  # trials that were begun, and wait for another worker
    surplus: list[Trial] = field(default_factory=list)  # attempts at a trial that is counted already
    complaints: list[str] = field(default_factory=list)  # a line about each file that could not be read
    listed: frozenset[int] = (
        frozenset()
    )  # the numbers of all trials in hand, including those with a file that can't be read
    pending: frozenset[int] = frozenset()  # the numbers of the trials that wait for a worker
    pending_for: float = 0.0  # seconds since the first of them was published
    complete: bool = False
    halted: str = ""  # by a person, in words that say how to go on
    ended_by: Request | None = None  # by a person, before all trials had begun
    kept: bool = False  # read from a kept study, so nobody works there
    has_curves: bool = True  # have the learning curves of ended trials been read?
    heard: Mapping[TrialName, float] = field(default_factory=dict)  # when lost and running ones last gave a heartbeat
    silences: Mapping[TrialName, Silence] = field(default_factory=dict)  # of running trials, if a reader watches them
    outputs: Mapping[tuple[int, int], Path] = field(
        default_factory=dict
    )  # what lost attempts printed, by trial, attempt
    noted: Mapping[str, Noted] = field(default_factory=dict)  # what workers say of themselves
    path: Path | None = None  # of the folder, if it is that of a search
    leader: Leader | None = None  # the last master, if a reader has looked for it
    met: Sequence[TrialName] = ()  # setbacks, in the order in which the reader has met them

    @classmethod
    def of(cls, study: Study, attempts: Iterable[Trial], **facts: Any) -> Results:
        """The results of these attempts, in any order. If a trial has two `.seen` files, the first counts."""
        ordered = sorted(attempts, key=lambda trial: (trial.name.number, trial.name.attempt))
        counted = {trial.name.number: trial for trial in reversed(ordered) if trial.name.state == "seen"}
        return cls(
            study=study,
            trials=[counted[number] for number in sorted(counted)],
            in_hand=[t for t in ordered if t.name.state in ("taken", "done") and t.name.number not in counted],
            lost=[t for t in ordered if t.name.state == "lost" and not t.is_verdict],
            retried=[t for t in ordered if t.name.state == "lost" and t.is_verdict],
            given_back=[t for t in ordered if t.name.state == "pending" and t.claim],
            surplus=[
                t for t in ordered if t.name.state not in ("lost", "pending") and t is not counted.get(t.name.number, t)
            ],
            **facts,
        )

    # ---- progress

    @cached_property
    def asked(self) -> int:
        """The number of trials asked for, including those queued by hand; of those known so far, if none was named."""
        return self.asked_of_search + self.confirmation.asked

    @cached_property
    def asked_of_search(self) -> int:
        """The same without confirmations."""
        numbers = self._numbers - self._confirming
        if self.is_open_ended or (self.complete and (self.study.budget or self.ended_by)):  # it may have ended early
            return len(numbers)
        return self.study.trials + sum(number >= self.study.trials for number in numbers)

    @cached_property
    def _numbers(self) -> frozenset[int]:
        return frozenset(trial.name.number for trial in (*self.trials, *self.in_hand)) | self.listed

    @cached_property
    def _confirming(self) -> frozenset[int]:
        """The numbers of confirmations."""
        read = {trial.name.number: trial for trial in (*self.trials, *self.in_hand)}
        unread = {number for number in self.listed - read.keys() if is_confirming(self.study, number)}
        return frozenset(n for n, trial in read.items() if confirmed_by(trial.why) is not None) | unread

    @property
    def is_open_ended(self) -> bool:
        """Does another limit than the number of trials end the study?"""
        return not self.study.trials

    @property
    def has_all(self) -> bool:
        """Are all trials counted that the study will have?"""
        return self.complete or (not self.is_open_ended and len(self.trials) >= self.asked)

    @cached_property
    def progress(self) -> str:
        """How much of the budget is spent, and of what follows: `5 of 16 trials`, `5 trials, 45 of 500 epochs`."""
        ended, limit = len(self.search), self.study.budget.epochs
        parts = [counted(ended, "trial") if self.is_open_ended else f"{ended} of {self.asked_of_search} trials"]
        if limit is not None and self.study.fidelity is not None:
            parts.append(f"{amount(spent(self.study, self.trials))} of {amount(limit)} {self.study.fidelity.setting}")
        if self.confirmation.asked:
            parts.append(f"{len(self.trials) - ended} of {counted(self.confirmation.asked, 'confirmation')}")
        return ", ".join(parts)

    @cached_property
    def share(self) -> float:
        """The share of the budget that is spent, from 0 to 1: of trials or of epochs, whichever is further.

        Confirmations count, each as much as a trial of the search.
        """
        limit, ended, of = self.study.budget.epochs, len(self.search), self.asked_of_search
        trials = 0.0 if self.is_open_ended else ended / max(of, 1)
        searched = max(trials, spent(self.study, self.trials) / limit if limit else 0.0)
        whole = max(of + self.confirmation.asked, 1)
        return 1.0 if self.complete else (searched * of + len(self.trials) - ended) / whole

    @cached_property
    def why_over(self) -> str:
        """Why the study has ended before all trials that it might have had; empty if it hasn't."""
        if self.ended_by:
            return str(self.ended_by) if self.complete else ""
        hours = self.study.budget.hours
        is_late = hours is not None and hours_of(spans_at_work(self.trials)) >= hours
        why = why_over(self.study, self.trials, is_late=is_late)
        is_early = self.complete and not self.study.budget and len(self.search) < self.study.trials
        return why or (USED_UP if is_early else "")

    @cached_property
    def search(self) -> list[Trial]:
        """The counted trials without the confirmations that follow a search."""
        return [trial for trial in self.trials if confirmed_by(trial.why) is None]

    @cached_property
    def tried(self) -> list[Trial]:
        """The trials of the search that have a result, without those that were dropped."""
        return [trial for trial in self.search if trial.result is not None and not trial.dropped]

    @cached_property
    def confirmation(self) -> Confirmation:
        """The settings that were trained again, and which of them win."""
        return confirmation_of(self.study, self.trials, self._confirming, is_over=self.complete)

    @cached_property
    def ended(self) -> list[Trial]:
        """The counted trials that have a result, without those that were dropped."""
        return [trial for trial in self.trials if trial.result is not None and not trial.dropped]

    @cached_property
    def dropped(self) -> list[Trial]:
        """The counted trials that persons have taken out of the ranking."""
        return [trial for trial in self.trials if trial.dropped]

    @cached_property
    def failed(self) -> list[Trial]:
        """The counted trials without a result: they used up their attempts."""
        return [trial for trial in self.trials if trial.result is None and not trial.dropped]

    @cached_property
    def collapsed(self) -> list[Trial]:
        """The trials that collapsed, as the study defines it."""
        return [trial for trial in self.ended if self.has_collapsed(trial)]

    @cached_property
    def valueless(self) -> list[Trial]:
        """The ended trials whose metric is not a finite number, without those that are told as collapsed."""
        return [t for t in self.ended if self.value(t) is None and t.name not in self._collapsed_names]

    @cached_property
    def stopped(self) -> list[Trial]:
        """The counted trials that were stopped early."""
        return [trial for trial in self.trials if trial.stopped is not None and not trial.dropped]

    @cached_property
    def surplus_numbers(self) -> list[int]:
        """The numbers of the trials that have another attempt than the counted one."""
        return sorted({trial.name.number for trial in self.surplus})

    @cached_property
    def running(self) -> list[Trial]:
        """The trials that are being trained."""
        return [trial for trial in (*self.in_hand, *self.surplus) if trial.name.state == "taken"]

    @cached_property
    def handed_in(self) -> list[Trial]:
        """The trials that are finished and wait for the master: only it counts them."""
        return [trial for trial in self.in_hand if trial.name.state == "done"]

    # ---- values

    def value(self, trial: Trial, metric: str | None = None) -> float | None:
        """A trial's value of a metric; None if it has no finite value.

        By default it is the study's first metric, and None if the value of any of them is missing, or if the trial was
        dropped.
        """
        if metric is None and (trial.dropped or self.study.losses(trial.result) is None):
            return None
        return finite((trial.result or {}).get(metric or self.study.metric))

    def has_collapsed(self, trial: Trial) -> bool:
        """Did this trial's training collapse, as the study defines it?"""
        return trial.result is not None and self.study.has_collapsed(trial.settings, trial.result)

    def setting(self, trial: Trial, name: str) -> Any:
        """The value of a setting, or of a quantity that is derived from settings."""
        if name in self.study.derived:
            return self.study.derive_one(name, trial.settings, trial.result or {})
        return cell_of(trial.settings, name)

    def quantity(self, name: str) -> Quantity:
        """The quantity of a setting or measure on an axis. Without a scale in the study, it has the search space's."""
        if name == "epoch":
            return self.study.quantities.get(name) or Quantity("epoch", scale="linear")
        quantity, dimension = self.study.quantity(name), self.study.space.get(name)
        if quantity.scale != "auto" or dimension is None or isinstance(dimension, Categorical):
            return quantity
        return Quantity(quantity.label, quantity.unit, "log" if dimension.log else "linear")

    def order(self, name: str) -> list[Any]:
        """The order of a setting's values, if its choices are ordered; otherwise empty."""
        dimension = self.study.space.get(name)
        if isinstance(dimension, Categorical) and dimension.ordered:
            return list(map(as_cell, dimension.choices))
        return []

    @cached_property
    def varied(self) -> list[str]:
        """The settings of the search space that differ between the ended trials."""
        return [
            name
            for name in self.study.space
            if len({identity(cell_of(trial.settings, name)) for trial in self.tried}) > 1
        ]

    # ---- the ranking

    @cached_property
    def ranking(self) -> list[Trial]:
        """The counted trials, best first: whole trainings, those cut short, collapsed ones, those without a value.

        A value after three epochs is no better than one after thirty, although it may be lower: see `is_cut_short`. So
        one of a higher rung comes before all of lower ones. Confirmations follow the trials of the search.
        Dropped trials have no rank, and come last.
        """
        return sorted(self.trials, key=lambda trial: (self._class(trial), -self.level(trial), self._loss(trial)))

    def _class(self, trial: Trial) -> tuple[bool, ...]:
        """A trial of a lower class is better than all of a higher one, whatever the values."""
        has_none, again = self.value(trial) is None, confirmed_by(trial.why) is not None
        return (
            trial.dropped is not None,
            has_none,
            again,
            trial.name in self._collapsed_names,
            is_cut_short(trial.stopped),
        )

    @cached_property
    def _collapsed_names(self) -> frozenset[TrialName]:
        return frozenset(trial.name for trial in self.collapsed)

    def _loss(self, trial: Trial) -> tuple[float, int]:
        """The less the better: the value, or with equal ones the number."""
        value = self.value(trial)
        return 0.0 if value is None else self.study.sign * value, trial.name.number

    @cached_property
    def scored(self) -> list[tuple[Trial, float]]:
        """The trials of the search that have a value, each with its value, best first.

        Settings that were promoted appear once, with their longest training.
        """
        shown = (trial for trial in self.ranking if confirmed_by(trial.why) is None and trial.name not in self.gone_on)
        pairs = ((trial, self.value(trial)) for trial in shown)
        return [(trial, value) for trial, value in pairs if value is not None]

    # ---- rungs, and trainings that go on through several trials

    @cached_property
    def rungs(self) -> list[Rung]:
        """The rungs of a schedule that trials have come to, the lowest first; empty without a schedule."""
        if not self.study.is_scheduled:
            return []
        known = (trial for trial in self.ranking if trial.result is not None and not trial.dropped)
        ranked = [trial for trial in known if confirmed_by(trial.why) is None]
        return rungs_of(ranked, (t for t in self.running if confirmed_by(t.why) is None), self.level)

    @cached_property
    def gone_on(self) -> frozenset[TrialName]:
        """The counted trials with whose training another one that has ended has gone on, even if it diverged."""
        parents = {trial.parent.number for trial in self.tried if trial.parent}
        return frozenset(trial.name for trial in self.trials if trial.name.number in parents)

    def chain(self, trial: Trial) -> list[Trial]:
        """The trials through which this training went, the first one first."""
        return chain_of(trial, self._by_number) if trial.parent else [trial]

    def epochs_trained(self, trial: Trial) -> float:
        """The epochs that this trial has trained itself."""
        return epochs_trained(self.chain(trial))

    @cached_property
    def _by_number(self) -> dict[int, Trial]:
        return {trial.name.number: trial for trial in self.trials}

    def level(self, trial: Trial) -> float:
        """How long a schedule let this trial train: its fidelity; 0 without a schedule."""
        setting = self.study.fidelity.setting if self.study.fidelity and self.study.is_scheduled else None
        return finite(trial.settings.get(setting)) or 0.0 if setting else 0.0

    @cached_property
    def scores(self) -> Scores:
        """The same trials, column by column."""
        trials = [trial for trial, _ in self.scored]
        derived = [name for name in self.study.derived if self.study.parts(name) <= {*self.varied}]

        def columns(names: Iterable[str]) -> dict[str, Column]:
            return {
                name: Column(self.quantity(name), [self.setting(trial, name) for trial in trials], self.order(name))
                for name in names
            }

        return Scores(
            numbers=[trial.name.number for trial in trials],
            collapsed=[self.has_collapsed(trial) for trial in trials],
            metric=Column(self.study.quantity(self.study.metric), [value for _, value in self.scored]),
            settings=columns(self.varied),
            derived=columns(derived),
        )

    @cached_property
    def best(self) -> tuple[list[Trial], Sample] | None:
        """The trials of the best settings, best first, and the sample of their metric: several values for repeats.

        Settings with a trial that collapsed or was cut short rank after those without. None if no trial has a value.
        If settings were confirmed, the sample is that of the winner's confirmations, and they follow its trial.
        """
        if winner := self.confirmation.winner:
            return [winner.trial, *winner.confirmations], winner.sample
        if self.study.repeats == 1:
            found = ((trial, value) for trial, value in self.scored if trial.name not in self._collapsed_names)
            return next((([trial], Sample.of([value])) for trial, value in found), None)
        sign, place = self.study.sign, {t.name: k for k, t in enumerate(self.ranking)}
        goes_on = {t.parent.number for t in self.tried if t.parent and self.value(t) is not None}
        diverged = {name for name in self.gone_on if name.number not in goes_on}
        values = {t.name: None if self.has_collapsed(t) or t.name in diverged else self.value(t) for t in self.search}
        samples = [
            (sorted(ts, key=lambda t: place[t.name]), Sample.of(values[t.name] for t in ts)) for ts in self.alike
        ]
        known = [(trials, sample) for trials, sample in samples if sample.values]

        def key(pair: tuple[list[Trial], Sample]) -> tuple[bool, bool, float, float]:
            trials, sample = pair
            cut = any(is_cut_short(trial.stopped) for trial in trials)
            return sample.left_out > 0, cut, -max(map(self.level, trials)), sign * sample.mean

        return min(known, key=key, default=None)

    @cached_property
    def alike(self) -> list[list[Trial]]:
        """The ended trials of the search; with repeats those with equal settings together, also those that failed."""
        if self.study.repeats > 1:
            same: dict[Hashable, list[Trial]] = {}
            for trial in (trial for trial in self.search if not trial.dropped):
                same.setdefault(settings_key(self.study, trial.settings), []).append(trial)
            return [*same.values()]
        return [[trial] for trial in self.tried]

    @cached_property
    def front(self) -> list[Point]:
        """The Pareto front: settings that no others beat in all metrics, best in the first one first.

        Empty if there is only one metric. Only whole trainings count: what is stopped early saves time in any case.
        """
        whole = [trials for trials in self.alike if self.study.others and all(is_whole(self.study, t) for t in trials)]
        means = [
            [Sample.of(self.value(t, name) for t in trials).mean for name in self.study.metric_names]
            for trials in whole
        ]
        signs = [metric.sign for metric in self.study.metrics]
        losses = {k: tuple(s * mean for s, mean in zip(signs, of, strict=True)) for k, of in enumerate(means)}
        return [Point(whole[k], means[k]) for k in front_of(losses)]

    @cached_property
    def on_front(self) -> frozenset[int]:
        """The numbers of the trials on the Pareto front."""
        return frozenset(trial.name.number for point in self.front for trial in point.trials)

    @cached_property
    def trade(self) -> Trade | None:
        """What figures need of the first two metrics; None if there is only one, or no trial has a value."""
        if not self.front:
            return None
        (first, second), trials = self.study.metric_names[:2], [trial for trial, _ in self.scored]
        return Trade(
            x=Column(self.study.quantity(first), [self.value(trial, first) for trial in trials]),
            y=Column(self.study.quantity(second), [self.value(trial, second) for trial in trials]),
            is_on_front=[trial.name.number in self.on_front for trial in trials],
            front=[(point.trials[0].name.number, *point.values[:2]) for point in self.front],  # type: ignore[misc]
            is_flat=len(self.study.metrics) == 2,
        )

    @cached_property
    def in_time(self) -> list[Trial]:
        """The trials of the search that have a result, in the order in which they ended."""
        return sorted(self.tried, key=lambda trial: parse_time(trial.finished) or 0.0)

    @cached_property
    def best_after(self) -> int:
        """The number of trials with a value that had ended when the best was found; 0 if there is none."""
        known = [trial.name for trial in self.in_time if self.value(trial) is not None]
        name = self.best[0][0].name if self.best else None
        return known.index(name) + 1 if name in known else 0

    @cached_property
    def course(self) -> Course:
        """The metric, and the best so far, as trials of the search ended: the best value, at whatever rung."""
        ended = self.in_time
        pairs = [(trial, value) for trial in ended if (value := self.value(trial)) is not None]
        times = [parse_time(trial.finished) for trial, _ in pairs]
        began = self.work.began

        def better(a: Trial, b: Trial) -> Trial:
            return min(a, b, key=lambda trial: (self._class(trial), self._loss(trial)))

        epochs = dict(zip((t.name for t in ended), itertools.accumulate(map(self.epochs_trained, ended)), strict=True))
        return Course(
            values=[value for _, value in pairs],
            best=[self.value(t) or 0.0 for t in itertools.accumulate((trial for trial, _ in pairs), better)],
            epochs=[epochs[trial.name] for trial, _ in pairs],
            seconds=[None if time is None or began is None else max(time - began, 0.0) for time in times],
        )

    def best_so_far(self, values: Iterable[float]) -> list[float]:
        """The best of the first value, of the first two values, …"""
        found: list[float] = []
        for value in values:
            found.append(value if not found or self.study.is_better(value, found[-1]) else found[-1])
        return found

    @cached_property
    def importance(self) -> Importance | None:
        """The importance of hyperparameters; None if the data can't tell. Needs the extra `report` and some seconds.

        With a schedule, the trials of one rung are compared: each settings is there once at most.
        """
        trials = [trial for trial in self.compared if self._lies_inside(trial)]
        return measure_importance(
            self.study, self.varied, trials, [self.value(trial) for trial in trials], self.setting
        )

    @cached_property
    def compared(self) -> list[Trial]:
        """The ended trials that trained equally long: with a schedule, those of the rung that has most."""
        return list(max(self.rungs, key=lambda rung: len(rung.trials)).trials) if self.rungs else self.tried

    @property
    def compared_level(self) -> float:
        """How long a schedule let these train."""
        return self.level(self.compared[0])

    # ---- groups of equal settings

    def _lies_inside(self, trial: Trial) -> bool:
        """Does it lie in the study's space? Trials from before a change may not say what is fixed since."""
        is_old = any(trial.name.number < change.trial for change in self.study.changes)
        return self.study.contains({**self.study.fixed, **trial.settings} if is_old else trial.settings)

    def groups(self, *names: str, among: Sequence[Trial] | None = None) -> list[Group]:
        """The ended trials of the search in the study's own space, by these settings, in the order of their values."""
        found: dict[tuple[Any, ...], list[Trial]] = {}
        for trial in self.tried if among is None else among:
            if self._lies_inside(trial):
                key = identity([cell_of(trial.settings, name) for name in names])
                found.setdefault(key, []).append(trial)
        groups = [Group(tuple(cell_of(ts[0].settings, name) for name in names), ts, self) for ts in found.values()]
        orders = [list(map(identity, self.order(name))) for name in names]

        def places(group: Group) -> list[Any]:
            return [
                order.index(identity(value)) if identity(value) in order else value
                for value, order in zip(group.key, orders, strict=True)
            ]

        with contextlib.suppress(TypeError):  # numbers among texts keep their order
            groups = sorted(groups, key=places)
        return groups

    def grid(self, *names: str) -> Grid | None:
        """The mean of the metric over two settings, for a table; None unless both are choices. See `compared`."""
        x, y = (
            dimension if isinstance(dimension := self.study.space.get(name), Categorical) else None for name in names
        )
        if x is None or y is None:
            return None
        groups = self.groups(*names, among=self.compared)
        samples = {identity(g.key): g.sample_of_results(self.study.metric) for g in groups}
        return Grid(
            x=Column(self.quantity(names[0]), list(map(as_cell, x.choices))),
            y=Column(self.quantity(names[1]), list(map(as_cell, y.choices))),
            metric=self.study.quantity(self.study.metric),
            direction=self.study.direction,
            means={key: sample.mean if sample.values else None for key, sample in samples.items()},
        )

    # ---- learning curves

    @cached_property
    def begun(self) -> list[Trial]:
        """The trials of the search that have reported an epoch, counted or in hand. Of one training, the last one."""
        reported = [
            t for t in (*self.trials, *self.in_hand) if t.epochs and not t.dropped and confirmed_by(t.why) is None
        ]
        parents = {trial.parent.number for trial in reported if trial.parent}
        return [trial for trial in reported if trial.name.number not in parents]

    @cached_property
    def measures(self) -> list[str]:
        """The measures of learning curves: numbers that trials report after an epoch, and quantities derived from them.

        If a measure is part of a derived one, only the derived one is included.
        """
        reported: dict[str, None] = {}
        for trial in self.begun:
            for epoch in trial.epochs:
                if not epoch.keys() <= reported.keys():
                    reported.update((key, None) for key, value in epoch.items() if finite(value) is not None)
        parts = {name: self.study.parts(name) & reported.keys() for name in self.study.derived if name not in reported}
        derived = {name: used for name, used in parts.items() if used}
        hidden = {*NOT_MEASURES, *(part for used in derived.values() for part in used)}
        return [name for name in (*reported, *derived) if name not in hidden]

    def main_measures(self, most: int) -> list[str]:
        """The first measures, so many at most; the study's metrics are among them if there are curves of them."""
        metrics = [name for name in self.measures if name in self.study.metric_names]
        chosen = list(dict.fromkeys([*metrics, *self.measures]))[:most]
        return [name for name in self.measures if name in chosen]

    def epochs_of(self, trial: Trial) -> list[Record]:
        """What a training has reported, also in the trials with which this one has gone on."""
        return epochs_of(self.chain(trial)) if trial.parent else trial.epochs

    def measure(self, trial: Trial, epoch: Record, name: str) -> float | None:
        """A measure of one epoch; None if it is not finite or missing."""
        value = finite(epoch.get(name))
        if value is None and name in self.study.derived:
            return self.study.derive_one(name, trial.settings, epoch)
        return value

    def at_end(self, trial: Trial, name: str) -> float | None:
        """A measure after the last epoch."""
        return self.measure(trial, trial.epochs[-1], name) if trial.epochs else None

    def curve(self, trial: Trial, name: str, over: str = "epoch") -> Curve:
        """A measure over the epochs, or over another measure such as the seconds. Points lack no coordinate.

        The curve is that of the whole training, through all of its trials.
        """
        points = [(self.measure(trial, e, over), self.measure(trial, e, name)) for e in self.epochs_of(trial)]
        known = [(x, y) for x, y in points if x is not None and y is not None]
        return Curve([x for x, _ in known], [y for _, y in known])

    # ---- workers and times

    @cached_property
    def work(self) -> Work:
        """All attempts that left a trace, with the times at which workers worked on them."""
        begun = *self.lost, *self.in_hand, *self.given_back, *self.surplus
        return Work.of((*self.trials, *self.retried, *begun), self.heard)

    def worked(self, now: float) -> float | None:
        """Seconds during which anyone trained, until `now` where somebody still does; None before a claim."""
        at_work = {trial.name.number for trial in self.at_work(now)}
        return self.work.until(now, at_work).at_work if self.work.spans else None

    def at_work(self, now: float) -> list[Trial]:
        """The running trials without those of workers that have been silent for long."""
        return [trial for trial in self.running if now - self.heard.get(trial.name, now) < ALIVE]

    @cached_property
    def per_hour(self) -> float | None:
        """Counted trials per hour of work, over the whole search; None before it has taken any time."""
        return 3600 * len(self.trials) / self.work.at_work if self.work.at_work else None

    def remaining(self, now: float) -> float | None:
        """Expected seconds to the end, if the trials left take the mean duration and no worker comes or goes.

        None if no trial runs, none is left, no duration is known, or only a target or patience ends the study.
        """
        again = self.confirmation.asked - (len(self.trials) - len(self.search))
        mean, whole = self._duration_of(self.search), self._duration_of_confirmation if again else 0.0
        left = 0.0 if self._confirming else self._left  # confirmations come when the search is over
        running, hours = self.at_work(now), self.study.budget.hours
        if not mean or not running or left + again <= 0 or (math.isinf(left) and hours is None):
            return None
        begun = sum(min(self.age(trial, now) or 0.0, mean if left else whole) for trial in running)
        until_late = math.inf if hours is None else max(hours * HOUR - (self.worked(now) or 0.0), 0.0) + mean
        search = min((left * mean - begun) / len(running), until_late)
        return min(search + again * whole / len(running), 10 * YEAR)

    @staticmethod
    def _duration_of(trials: Iterable[Trial]) -> float:
        """The mean time at work on these trials; 0 if it is not known."""
        durations = [seconds for trial in trials if (seconds := trial.seconds_at_work)]
        return math.fsum(durations) / len(durations) if durations else 0.0

    @cached_property
    def _duration_of_confirmation(self) -> float:
        """That of a confirmation; until one has ended, that of the whole trainings, through all of their trials."""
        if known := self._duration_of(trial for trial in self.trials if confirmed_by(trial.why) is not None):
            return known
        whole = [trial for trial in self.tried if not is_cut_short(trial.stopped)] or self.tried
        highest = max(map(self.level, whole), default=0.0)
        trainings = [self.chain(trial) for trial in whole if self.level(trial) == highest]
        return math.fsum(self._duration_of(chain) * len(chain) for chain in trainings) / max(len(trainings), 1)

    @property
    def _left(self) -> float:
        """The trials of the search that are still to be counted, as far as their number and the epochs tell."""
        search = math.inf if self.is_open_ended else self.asked_of_search - len(self.search)
        limit, had = self.study.budget.epochs, spent(self.study, self.search)
        if limit is not None and had > 0:
            search = min(search, (limit - had) / had * len(self.search))
        return max(search, 0.0)

    def age(self, trial: Trial, now: float) -> float | None:
        """Seconds since a trial was claimed, if its worker's clock is right; None if the time is unknown."""
        start = parse_time(trial.claim.get("time"))
        return max(now - start, 0.0) if start else None

    @cached_property
    def hosts(self) -> list[Host]:
        """The machines that take part. Those at work come first."""
        return find_hosts(self.trials, self.running, self.silences)

    @cached_property
    def workers(self) -> list[Worker]:
        """The workers, the worst first."""
        ended, now = (*self.trials, *self.handed_in), time.time()
        return find_workers(self.noted, ended, self.lost, self.running, self.silences, self.heard, self.setbacks, now)

    # ---- what went wrong

    @cached_property
    def setbacks(self) -> list[Setback]:
        """Failed trials and lost attempts, with their reasons, in the order of trials and attempts."""
        told = {trial.name.number: trial.lost for trial in (*self.in_hand, *self.trials)}
        attempts = itertools.groupby(self.lost, key=lambda trial: trial.name.number)
        reasons = {
            name: text for number, lost in attempts for name, text in pair_reasons(list(lost), told.get(number, ()))
        }
        lost = [self._setback(trial, why_lost(trial, reasons.get(trial.name), self.study)) for trial in self.lost]
        last = {setback.name.number: setback for setback in lost}  # that of a failed trial tells the same story
        failed = [self._setback(trial, trial.error or "", last.get(trial.name.number)) for trial in self.failed]
        return sorted((*lost, *failed), key=lambda setback: (setback.name.number, setback.name.attempt))

    def latest_setbacks(self, most: int) -> list[Setback]:
        """The `most` latest setbacks, latest first. A failed trial appears once, without its lost attempts."""
        failed = {trial.name.number for trial in self.failed}
        place = {name: k for k, name in enumerate(self.met)}
        told = [setback for setback in self.setbacks if setback.is_final or setback.name.number not in failed]
        return sorted(told, key=lambda setback: place.get(setback.name, -1))[::-1][:most]

    def _setback(self, trial: Trial, reason: str, last: Setback | None = None) -> Setback:
        epochs = trial.epochs[-1]["epoch"] if trial.epochs else 0
        output = self.outputs.get((trial.name.number, trial.name.attempt)) or (last.output if last else None)
        traceback = trial.traceback or (last.traceback if last else None)
        return Setback(trial.name, reason, trial.claim.get("claimed"), epochs, output, traceback)
