"""Read a study again and again, as a person does who waits for it: `status` and `results`, until all trials are shown.

    python -m tests.explorers.reader LOGS TRIALS

What was shown once must be shown again, unchanged, and each row must have the result of its own settings. A program that
ends with one line about trouble is counted; a traceback ends this one.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections import Counter

from foldertune.cli import run


def look(command: str, *arguments: str) -> tuple[int, str]:
    """The exit code and output of a command."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()) as trouble:
        code = run(command, arguments)
    if code:
        print(f"{command}: {trouble.getvalue().strip()}", flush=True)
    return code, said.getvalue()


def main(logs: str, trials: int) -> None:
    """Read until all trials have succeeded."""
    shown: dict[int, float] = {}
    looks = Counter[str]()
    while len(shown) < trials:
        looks["status" if look("status", "--logs", logs)[0] == 0 else "status in trouble"] += 1
        code, text = look("results", "--logs", logs, "--all", "--format", "json")
        looks["results in trouble" if code else "results"] += 1
        if code == 0:
            rows = [row for row in json.loads(text) if row["status"] == "succeeded"]
            now = {row["trial"]: row["validation_error"] for row in rows}
            assert len(now) == len(rows), f"a trial is shown twice: {rows}"
            assert all(row["validation_error"] == row["x"] for row in rows), rows
            assert shown.items() <= now.items(), f"shown before, and gone or changed: {shown.items() - now.items()}"
            shown = now
        time.sleep(0.5)
    print(dict(looks))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
