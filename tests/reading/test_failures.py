"""Failed and collapsed trials are told of, with the place where their training's output is."""

from __future__ import annotations

import shutil

import pytest

from foldertune import cli
from foldertune.protocol import TrialName
from foldertune.reading.findings import setbacks_table
from foldertune.reading.page.tables import html_table
from foldertune.reading.reader import read_results
from tests.reading.test_facts import RECORD, write

TRACE = 'Traceback (most recent call last):\n  File "mine.py", line 3, in train\nValueError: <no data>\n'


@pytest.fixture
def failed(folder):
    """Trial 0 has failed after two attempts, trial 1 collapsed."""
    folder.prepare()
    folder.write_study({**RECORD, "trials": 2, "collapsed": "score"})
    folder.output.mkdir()
    for attempt in (1, 2):
        name = TrialName(0, attempt, "lost")
        error = {"error": "ValueError: <no data>", "traceback": TRACE, "time": "2026-01-01T00:00:01Z"}
        write(folder, name, [{"settings": {"rate": 0.5}}, {"claimed": "h-1-a"}, error])
        folder.output_of(name).write_text("".join(f"line {k} of attempt {attempt}\n" for k in range(50)))
    folder.record_failure(TrialName(0, 2), {"rate": 0.5}, ["ValueError: <no data>"] * 2)
    write(
        folder, TrialName(1, 1, "seen"), [{"settings": {"rate": 0.5}}, {"claimed": "h-1-a"}, {"result": {"score": 9}}]
    )
    return folder


def test_what_failed_is_told_with_its_output(failed, capsys):
    assert cli.run("results", ["--logs", str(failed.path)]) == 0
    said = capsys.readouterr().out
    assert (
        f"All 2 trials: 1 succeeded, 1 of them collapsed (score), 1 failed; with every column: {failed.results}" in said
    )
    printed = failed.output_of(TrialName(0, 2))
    assert "ValueError: <no data> (trial 0)" in said and f"what trial 0 printed: {printed}" in said
    assert cli.run("status", ["--logs", str(failed.path)]) == 0
    said = capsys.readouterr().out
    assert "1 succeeded (1 of them collapsed), 1 failed" in said
    assert f"trial 0 failed: ValueError: <no data>\n    what it printed: {printed}\n" in said


def test_the_page_shows_the_last_lines_and_leads_to_the_file_wherever_the_folder_is(failed, tmp_path):
    moved = tmp_path / "on a laptop"
    shutil.move(failed.path, moved)
    table = html_table("x", setbacks_table(read_results(moved)), moved / "report").body
    assert table.count('href="../output/trial-00000-2.txt"') == 2 and 'href="../output/trial-00000-1.txt"' in table
    assert (
        table.count('<pre tabindex="0">') == 1
        and "line 49 of attempt 2\nTraceback" in table
        and "line 40 of" not in table
    )
    assert "ValueError: &lt;no data&gt;</pre>" in table and str(tmp_path) not in table
    (moved / "output" / "trial-00000-2.txt").unlink()
    (moved / "output" / "trial-00000-2.txt").symlink_to("/etc/passwd")
    assert "root:" not in html_table("x", setbacks_table(read_results(moved)), moved / "report").body
