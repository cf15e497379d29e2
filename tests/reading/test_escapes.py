"""Text from files can't send commands to a terminal, whichever program prints it."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys

from foldertune.protocol import TrialName, to_line
from foldertune.rows import Row, results_csv
from tests.conftest import METRIC, ROOT
from tests.pages import write_trial

EVIL = "a\x1b[2J\x9b31m\u202eb\x07c"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")  # a line feed ends a line


def test_no_program_passes_on_what_a_terminal_obeys(bench):
    file = bench.path / "mine.toml"
    file.write_text(
        f'objective = "tests.objectives:quick"\nstrategy = "random"\ntrials = 1\n{METRIC}'
        '[space]\nx = { type = "float", low = 0.0, high = 1.0 }\n[derived]\n"d\\u001b[2J" = "x + 1"\n'
    )
    bench.logs.mkdir()
    evil = {"settings": {"x": 0.5, EVIL: EVIL, "kind": EVIL}}
    (bench.logs / "trial-00500-1.jsonl").write_bytes(to_line(evil))
    (bench.logs / "trial-00501-1.jsonl").write_bytes(to_line({"settings": {EVIL: EVIL}}))  # fails
    printed = [bench.search(file, "--workers", 1, "--max-attempts", 1), (bench.logs / "worker-1.log").read_text()]
    write_trial(bench.folder, TrialName(502, 1, "seen"), {"x": 0.5}, [0.5], {"validation_error": 0.1, EVIL: EVIL})
    (bench.folder.seen / "trial-00502-2.jsonl.lost").write_bytes(to_line({"settings": {}}) + to_line({"error": EVIL}))

    def run(*command):
        done = subprocess.run(
            [sys.executable, "-m", "foldertune", *map(str, command)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        printed.append(done.stdout + done.stderr)
        return done.stdout

    for program in ("status", "results", "doctor", "report"):
        run(program, "--logs", bench.logs)
    for form in ("csv", "json", "markdown", "latex"):
        run("results", "--logs", bench.logs, "--all", "--format", form)
    run("results", "--logs", bench.logs, "--group", "kind")
    run("results", "--logs", bench.logs, "--where", "nothing<1")
    assert any(row.get(EVIL) == EVIL for row in json.loads(run("results", "--logs", bench.logs, "--format", "json")))
    file.write_text(file.read_text() + '["k\\u001b[2J"]\n')
    run("master", file, "--logs", bench.logs)
    assert "unknown key 'k\\x1b[2J'" in printed[-1]
    for text in (*printed, bench.folder.results.read_text()):
        assert not OBEYED.search(text), OBEYED.findall(text)
    assert sum(r"\x1b[2J" in text for text in printed) > 5, "it was there to be printed"


def test_a_table_keeps_all_other_characters():
    row = Row(1, "succeeded", {"x": 'κ\u3000ä\u00a0,"\n'}, {"note\t": 1})
    (cells,) = csv.DictReader(io.StringIO(results_csv([row])))
    assert cells["x"] == 'κ\u3000ä\u00a0,"\\n' and cells["note\\t"] == "1"
