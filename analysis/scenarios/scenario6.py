"""Scenario 6, the distributed search: whether each settings file is evaluated once, and one worker against several."""

from __future__ import annotations

from collections.abc import Mapping

from foldertune.reading import figures, findings
from foldertune.reading.findings import NOT_ENOUGH, Findings
from foldertune.reading.results import Results
from foldertune.reading.spans import elapsed, most_at_once
from foldertune.reading.words import duration, listed
from foldertune.study import SEED
from foldertune.text import counted


def answer(results: Results, others: Mapping[str, Results]) -> Findings:
    """The findings: whether each settings file was evaluated exactly once, the timeline, and the gain of more workers.

    Args:
        others: the searches to compare, by name, including this one.
    """
    same = {name: o for name, o in others.items() if _is_same_search(results, o) and o.counted_spans}
    if not same:
        return Findings([f"Who trained what when: {NOT_ENOUGH}; no trial has ended."])
    answers = [*(say_once(name, other) for name, other in same.items()), *findings.say_course(results)]
    pictures = [figures.timeline_picture(results)] if results.spans else []
    answers.append(say_gain(same))
    return Findings(answers, pictures, headline=findings.say_best(results)[0])


def _is_same_search(a: Results, b: Results) -> bool:
    return (a.study.space, a.study.fixed, a.study.seed) == (b.study.space, b.study.fixed, b.study.seed)


def _workers(results: Results) -> int:
    """The largest number of workers that trained at once."""
    return most_at_once(results.counted_spans)


def say_once(name: str, results: Results) -> str:
    """Tell whether each settings file was evaluated exactly once."""
    settings = {str(sorted((k, v) for k, v in trial.settings.items() if k != SEED)) for trial in results.trials}
    workers = {span.worker for span in results.counted_spans}
    text = (
        f"{name}: {counted(len(results.trials), 'settings file')}, {len(settings)} different settings, "
        f"{len(results.ended)} results by {counted(len(workers), 'worker')}"
    )
    if len(settings) == len(results.trials) and not results.lost and not results.surplus:
        return f"{text}: each evaluated exactly once."
    parts = [findings.say_lost(results)] if results.lost else []
    if results.surplus:
        numbers = listed(sorted({trial.name.number for trial in results.surplus}))
        parts.append(f"trial {numbers} was evaluated more than once")
    if len(settings) < len(results.trials):
        parts.append(f"{len(results.trials) - len(settings)} had settings that another had, too")
    return f"{text}; {listed(parts)}; each is counted once."


def are_comparable(searches: Mapping[str, Results]) -> bool:
    """Have two or more searches trained the same trials, with different numbers of workers?"""
    trained = {frozenset(span.number for span in results.counted_spans) for results in searches.values()}
    took_time = all(elapsed(results.counted_spans) > 0 for results in searches.values())
    return len(trained) == 1 and took_time and len({_workers(results) for results in searches.values()}) > 1


def say_gain(searches: Mapping[str, Results]) -> str:
    """Tell the gain of more workers over fewer, if they have trained the same trials."""
    if len(searches) < 2:
        return f"One worker against several: {NOT_ENOUGH}; it takes two searches."
    if not are_comparable(searches):
        each = listed(
            f"{name} trained {counted(len(results.counted_spans), 'trial')} by {counted(_workers(results), 'worker')}"
            for name, results in searches.items()
        )
        return (
            f"One worker against several: {NOT_ENOUGH}; {each}, and only searches that train the same trials by "
            f"different numbers of workers compare."
        )
    few, many = (choose(searches.values(), key=_workers) for choose in (min, max))
    seconds = [elapsed(results.counted_spans) for results in (few, many)]
    return (
        f"{counted(_workers(many), 'worker')} trained the same {counted(len(few.counted_spans), 'trial')} in "
        f"{duration(seconds[1])} that {counted(_workers(few), 'worker')} trained in {duration(seconds[0])}: "
        f"{seconds[0] / seconds[1]:.2f} times the throughput."
    )
