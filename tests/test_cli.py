"""The command `foldertune`: its commands, its help, and the one place that handles errors."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from foldertune import __version__, cli, shipped
from foldertune.errors import StudyError, UserError
from tests.conftest import ROOT


def complaint(capsys):
    """The one line on stderr. There must be no other output."""
    said = capsys.readouterr()
    assert not said.out and said.err.startswith("error: ") and said.err.count("\n") == 1, said
    return said.err


def test_without_arguments_it_says_what_there_is(capsys):
    assert cli.main([]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Search hyperparameters") and "python master.py" in said
    for name, what in cli.COMMANDS.items():
        assert any(line.strip().startswith(f"{name} ") and line.endswith(what) for line in said.splitlines())
    assert max(map(len, said.splitlines())) < 80
    for option in ("--help", "-h", "help"):
        assert cli.main([option]) == 0 and capsys.readouterr().out == said


def test_the_version(capsys):
    assert cli.main(["--version"]) == 0 and capsys.readouterr().out == f"foldertune {__version__}\n"


def test_an_unknown_command(capsys):
    assert cli.main(["mastr", "--logs", "x"]) == 2
    assert "mastr: no such command (did you mean 'master'?)" in complaint(capsys)


def test_a_command_that_is_named_can_be_typed_here(capsys):
    assert cli.run("drop", []) == 2
    assert complaint(capsys).endswith("by: python -m foldertune results --logs logs\n")
    assert cli.run("launch local", ["--check"]) == 2
    assert "python worker.py --check --logs logs" in complaint(capsys)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_an_option_that_there_is_not_is_one_line(capsys, name):
    with pytest.raises(SystemExit) as end:
        cli.run(name, ["--lgos"])
    assert end.value.code == 2
    said = complaint(capsys)
    assert "--lgos: unknown (did you mean '--logs'?)" in said and said.endswith("--help\n")


@pytest.mark.parametrize(
    ("argv", "takes"),
    [
        (["best", "--logs", "a", "b"], "one folder after --logs"),
        (["results", "b"], "folders after --logs"),
        (["master", "a", "b"], "one STUDY and one folder after --logs"),
    ],
)
def test_a_word_too_many_is_told_what_the_command_takes(capsys, argv, takes):
    with pytest.raises(SystemExit) as end:
        cli.main(argv)
    assert end.value.code == 2 and f"error: b: one word too many: this command takes {takes}; see " in complaint(capsys)


@pytest.mark.parametrize("name", ["master", "worker", "status", "best", "doctor"])
def test_a_folder_is_not_replaced_by_a_second_one_in_silence(capsys, name):
    with pytest.raises(SystemExit) as end:
        cli.run(name, ["--logs", "a", "--logs", "b"])
    assert end.value.code == 2 and "--logs: stands there twice, but this command takes one folder" in complaint(capsys)


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["master", "quikstart"], "no such study (did you mean 'quickstart'?)"),
        (["worker", "--objective", "mine"], "write MODULE:FUNCTION"),
        (["worker", "--logs", "HERE/file"], "is not a directory"),
        (["status", "--logs", "HERE"], "no study there"),
        (["results", "--logs", "HERE"], "no study there"),
        (["report", "--logs", "HERE"], "no study there (no study.json); give another folder with --logs, or start one"),
        (["best", "--logs", "HERE/nowhere"], "no study there, because there is no such folder; give another one with"),
        (["status", "--logs", "HERE/above"], "no study there, but below it; give one of these with --logs: "),
        (
            ["results", "--logs", "HERE/above/a", "HERE/above/a", "--best", "3"],
            "--best: is for the trials of one study",
        ),
        (["status", "--logs", "HERE/file"], "file: is not a directory; give a study's folder with --logs"),
        (["report", "--logs", "HERE/file"], "file: is not a directory; give a study's folder with --logs"),
        (["doctor", "--wait", "9999"], "must be 0 to 3600 seconds"),
    ],
)
def test_what_a_command_can_not_do_is_one_line(capsys, monkeypatch, tmp_path, argv, wanted):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "above" / "a").mkdir(parents=True)
    (tmp_path / "above" / "a" / "study.json").write_text("{}")
    assert cli.main([word.replace("HERE", str(tmp_path)) for word in argv]) == 2
    assert wanted in complaint(capsys)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("a.toml: no"), 2, "error: a.toml: no\n"),
        (
            ModuleNotFoundError(name="rich"),
            2,
            "error: rich is not installed; install it with: pip install rich\n",
        ),
        (StudyError("a.toml: no"), 2, "error: a.toml: no\n"),
        (OSError(errno.EACCES, "Permission denied", "/x"), 2, "error: /x: Permission denied\n"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "/x", None, "/y"), 2, "error: /y: Invalid cross-device"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: output: No space left on device\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_and_exit_codes(capsys, error, code, line):
    def main():
        raise error

    assert cli.guard(main) == code
    said = capsys.readouterr().err
    assert said.startswith(line) and said.count("\n") == bool(line)


def test_a_reader_that_went_away_is_no_error():
    code = "import sys; from foldertune import cli; sys.exit(cli.guard(lambda: print('x' * 10**6) or 3))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.wait(60) == 0 and process.stderr.read() == ""


@pytest.mark.parametrize(("must_print", "wanted"), [(True, 2), (False, 4)])
def test_who_works_on_while_the_disk_of_its_output_is_full_has_its_own_exit_code(must_print, wanted):
    code = "import sys; from foldertune import cli; "
    code += f"sys.exit(cli.guard(lambda: sys.stdout.write('x') and 4, must_print={must_print}))"
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
        )
    assert process.returncode == wanted and process.stderr.count("\n") == must_print, process.stderr


def test_a_mistake_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.guard(lambda: 1 // 0)


# ---- what to type


def test_commands_in_a_checkout_and_where_it_is_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["master.py"])
    assert shipped.command("worker", "--logs", "/a b") == "python worker.py --logs '/a b'"
    assert shipped.command("results") == "python -m foldertune results"
    monkeypatch.setattr(sys, "argv", [str(ROOT / "worker.py")])  # called from another directory
    assert shipped.command("master", "x.toml") == f"python {ROOT / 'master.py'} x.toml"
    monkeypatch.setattr(sys, "argv", ["/home/me/.venv/bin/foldertune"])  # installed from this checkout
    assert shipped.command("worker", "--logs", "/a b") == "foldertune worker --logs '/a b'"
    monkeypatch.setattr(sys, "argv", ["master.py"])
    monkeypatch.setattr(shipped, "HOME", tmp_path)
    assert shipped.command("worker") == "foldertune worker" and shipped.command("doctor") == "foldertune doctor"


def test_help_says_what_to_type_here(monkeypatch, tmp_path, capsys):
    for home, program in ((ROOT, "python worker.py"), (tmp_path, "foldertune worker")):
        monkeypatch.setattr(shipped, "HOME", home)
        with pytest.raises(SystemExit):
            cli.run("master", ["--help"])
        said = capsys.readouterr().out
        assert f"    {program} --logs /shared/me/lr" in said and "{" not in said.partition("usage:")[0]


def test_examples_stand_in_columns():
    lines = ["Text.  Two blanks.", "    a  one", "    a longer one  two", "", "    b    " + "x" * 80]
    assert cli.align(lines) == [
        "Text.  Two blanks.",
        "    a             one",
        "    a longer one  two",
        "",
        "    b",
        "        " + "x" * 80,
    ]


def test_a_worker_starts_without_any_library(bench):
    """With Python's option `-S` there are no site-packages."""
    options = ["--logs", str(bench.logs), "--objective", "tests.objectives:quick", "--idle-timeout", "0"]
    command, environment = [sys.executable, "-S", "worker.py", *options], {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0 and "0 trials trained" in done.stdout, done.stderr


# ---- how a program is started

EVERY = [
    ["master.py", "STUDY", "--logs", "LOGS", "--workers", "1"],
    ["worker.py", "--logs", "LOGS", "--objective", "tests.objectives:quick", "--idle-timeout", "0"],
    ["-m", "foldertune", "status", "--logs", "LOGS"],
    ["-m", "foldertune", "results", "--logs", "LOGS"],
    ["-m", "foldertune", "report", "--logs", "LOGS"],
    ["-m", "foldertune", "doctor", "--logs", "LOGS", "--wait", "0"],
    [
        "-m",
        "foldertune",
        "launch",
        "slurm",
        "--logs",
        "LOGS",
        "--objective",
        "tests.objectives:quick",
        "--workers",
        "2",
        "--print",
    ],
    ["-m", "foldertune", "results", "--help"],
    ["-m", "foldertune"],
    ["exercise3.py", "--epochs", "1", "--filters", "1", "--batch-size", "500"],
]


@pytest.mark.parametrize("way", ["closed", "ascii"])
def test_every_program_ends_as_it_should_however_it_is_started(bench, way):
    """With all streams closed, and with an output that can only be ASCII."""
    study = bench.study(trials=2, extra='description = "…"\n')
    ascii = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {**os.environ, **(ascii if way == "ascii" else {})}
    for words in EVERY:
        words = [{"STUDY": study, "LOGS": str(bench.logs)}.get(word, word) for word in words]
        command, options = [sys.executable, *words], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        if way == "closed":  # a file that the program opens must not become its output
            command, options = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], {}
        done = subprocess.run(command, cwd=ROOT, env=environment, timeout=60, **options)
        assert done.returncode == 0, (words, done.stderr)
        assert way == "closed" or (done.stdout.isascii() and not done.stderr), (words, done.stderr)
    bench.assert_complete(2)
    assert (bench.logs / ".master-00001.jsonl").read_bytes().endswith(b"}\n")  # no output went into it


def test_every_program_finds_a_home(bench, monkeypatch, capsys):
    """A shell leaves the ~ in `--logs=~/logs` as it is."""
    monkeypatch.setenv("HOME", str(bench.path))
    bench.study(trials=2)
    master = bench.start("master.py", "~/toy.toml", "--workers=0", "--logs=~/logs")
    bench.finish(bench.start("worker.py", "--objective=tests.objectives:quick", "--logs=~/logs"))
    bench.finish(master)
    bench.assert_complete(2)
    for name, *options in (
        ("status", "--logs=~/logs"),
        ("results", "--logs=~/logs", "--out=~/t.csv"),
        ("results", "--logs=~/logs", "--keep=~/kept"),
        ("report", "--logs=~/logs", "--out=~/page"),
    ):
        assert cli.run(name, options) == 0, capsys.readouterr()
    assert {"t.csv", "kept", "page"} <= {path.name for path in bench.path.iterdir()}
