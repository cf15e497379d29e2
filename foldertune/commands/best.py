"""Print the best settings of a study as JSON, ready for the final training.

    {program} --logs /shared/me/lr
    {program} --logs /shared/me/lr > best.json
    {program} --logs /shared/me/lr --front   with several metrics: a list

They are the settings as the objective got them, with [fixed] and the seed. If
the study has repeats, the best mean counts. If it confirms its best settings,
the best mean of the confirmations does, as soon as all have ended; it is told
beside the JSON, on stderr. The study may still be running.
With several metrics they are the best in the first one; --front prints all
settings that no others beat in all metrics, each with its trial and metrics.

In Python: from foldertune import best; best("logs") is a dict.
"""

from __future__ import annotations

import argparse
import json
import sys

from foldertune.commands.options import add_logs
from foldertune.protocol import printable
from foldertune.reading.alarms import nameless
from foldertune.reading.best import best_of, confirmed_line, front_of
from foldertune.reading.reader import read_results
from foldertune.reading.words import names_of_metrics, waiting
from foldertune.text import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_logs(parser)
    parser.add_argument("--front", action="store_true", help="all settings on the Pareto front, as a list")


def main(arguments: argparse.Namespace) -> int:
    """Print the best settings. Returns the exit code. Raises UserError if no trial has succeeded yet."""
    results = read_results(arguments.logs, epochs=False)
    for complaint in results.complaints:
        print(f"left out: {printable(complaint)}", file=sys.stderr)
    if missing := results.study.missing_library():
        print(missing, file=sys.stderr)
    for line in nameless(results):
        print(printable(line), file=sys.stderr)
    best = best_of(results, arguments.logs)
    if results.handed_in:
        print(f"left out: {waiting(len(results.handed_in))}", file=sys.stderr)
    if arguments.front:
        print(json.dumps(front_of(results, arguments.logs), indent=2))
        return 0
    if results.front:
        on_it = f"{counted(len(results.on_front), 'trial')} on the Pareto front of {names_of_metrics(results.study)}"
        print(f"{on_it}; --front prints all", file=sys.stderr)
    if what := confirmed_line(results):
        print(printable(what), file=sys.stderr)
    print(json.dumps(best, indent=2))
    return 0
