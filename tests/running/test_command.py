"""Any command can be the training code: a shell script, an unchanged argparse script, a program that prints text."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from foldertune.errors import UserError
from foldertune.launch.gpus import AMD_HIDES
from foldertune.protocol import TrialName
from foldertune.rows import FAILED, SUCCEEDED
from foldertune.running.command import PAIRS, CommandTrainer, fill_in, read_pattern, read_values, split
from foldertune.running.devices import show
from foldertune.running.signals import StopSignals
from tests.conftest import ROOT, wait_for
from tests.running.test_trainer import is_gone

STUDY = """
strategy = "grid"
metric = "loss"
[fixed]
note = "two words; $HOME"
[space]
lr = [0.1, 0.5]
"""

# As in many labs: argparse, text for people, JSON for nobody.
ARGPARSE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--note")
options = parser.parse_args()
assert options.note == "two words; $HOME", options
for epoch in range(1, 4):
    print(f"epoch {epoch}: train loss = {options.lr / epoch:.4f}, lr={options.lr}")
print("done")
"""

# Saves what it has in {out}, and goes on from there. It takes TERM from its group, as its `sleep` does.
SHELL = """
out=$1 lr=$2 epoch=0
[ -f $out/epoch ] && epoch=$(cat $out/epoch) && echo "resumes after $epoch"
trap 'echo $epoch > $out/epoch; echo saved; exit 0' TERM
began=$epoch
while [ $epoch -lt $3 ]; do
    epoch=$((epoch + 1)); sleep 0.1
    echo "{\\"epoch\\": $epoch, \\"loss\\": $lr}"
done
echo "{\\"loss\\": 0.25, \\"began\\": $began, \\"notes\\": [1, 2]}"
"""


def start(bench, command, *options, study=STUDY, workers=0):
    file = bench.path / "mine.toml"
    file.write_text(study)
    own = ["--command", command, *(options if "--pattern" in options else ())]
    own_of_master = [] if "--pattern" in options else options
    master = bench.start(
        "master.py", file, "--logs", bench.logs, "--workers", workers, "--max-attempts", 1, *own, *own_of_master
    )
    return master, (lambda: bench.start("worker.py", "--logs", bench.logs, *own))


def test_an_unchanged_argparse_script_is_searched_by_one_command(bench):
    script = bench.path / "train.py"
    script.write_text(ARGPARSE)
    command = f"python3 {script} --lr={{lr}} --note {{note}}"
    pattern = r"epoch (?P<epoch>\d+): train loss = (?P<loss>[\d.]+)"
    master, _ = start(bench, command, "--pattern", pattern, workers=1)
    said = bench.finish(master)
    assert "lowest loss first" in said
    rows = bench.rows()
    assert [(row.status, row.metrics["loss"]) for row in rows] == [(SUCCEEDED, 0.0333), (SUCCEEDED, 0.1667)]
    epochs = bench.folder.read(TrialName(1, 1, "seen")).epochs
    assert epochs == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}, {"epoch": 3, "loss": 0.1667}]
    assert "done" in bench.folder.output_of(TrialName(1, 1)).read_text()
    assert str(script) not in "".join(path.read_text() for path in bench.logs.glob("study.json*")), "it stays out"


def test_epochs_may_be_fractions(bench):
    lines = "".join(f'{{"epoch": {epoch}, "loss": 1}}\n' for epoch in (0.25, 0.5, 1.0, 2))
    (bench.path / "lines").write_text(lines)
    master, worker = start(bench, f"cat {bench.path}/lines", study=STUDY.replace("[0.1, 0.5]", "[0.1]"))
    bench.finish(worker())
    bench.finish(master)
    epochs = [epoch["epoch"] for epoch in bench.folder.read(TrialName(0, 1, "seen")).epochs]
    assert epochs == [0.25, 0.5, 1, 2] and isinstance(epochs[2], int)


def test_a_shell_script_that_is_stopped_saves_and_another_worker_resumes_it(bench):
    script = bench.path / "train.sh"
    script.write_text(SHELL)
    wrapper = bench.path / "wrapper.sh"  # its shell ends at once when told to stop, before what it has started
    wrapper.write_text(f'sh {script} "$@"\necho the wrapper goes on\n')
    master, worker = start(bench, f"sh {wrapper} {{out}} {{lr}} 20", study=STUDY.replace("[0.1, 0.5]", "[0.1]"))
    first = worker()
    [name] = wait_for(lambda: bench.names("taken"), "the claim")
    wait_for(lambda: len(bench.folder.read(name).epochs) > 2, "some epochs")
    first.send_signal(signal.SIGTERM)
    said = bench.finish(first, 143)
    assert "saved" in said and "given back" in said and "failed" not in said
    assert "resumes after" in bench.finish(worker())
    bench.finish(master)
    [row] = bench.rows()
    assert row.attempt == 2 and row.metrics["loss"] == 0.25 and row.metrics["began"] >= 2
    [out] = (bench.logs / "out").iterdir()
    assert out.name == "trial-00000"


def test_how_a_command_fails_is_the_reason(bench):
    """Exit code, signal, no metric, no such program. Its children end with it. A file may hold the result."""
    script = bench.path / "train.sh"
    deep = "[" * 100_000
    script.write_text(
        "case $1 in\n"
        "1) echo 'a line of mine' >&2; exit 3;;\n2) kill -SEGV $$;;\n3) echo '{\"other\": 1}';;\n"
        "4) sleep 600 & echo $! > $2/child; exit 1;;\n"
        '5) echo \'{"loss": 9, "a": 1}\'; echo \'{"loss": 0.5}\' > $2/result.json;;\n'
        f'6) echo \'{{"epoch": 1{"0" * 400}, "loss": 1}}\'; printf \'{{"epoch": 2, "loss": 1}}\'; echo \'{deep}\' > $2/result.json;;\n'
        "7) setsid yes loss=1 & echo $! > $2/child; sleep 0.2; exit 4;;\n8) yes loss=1;;\nesac\n"
    )
    study = STUDY.replace("lr = [0.1, 0.5]", "kind = [1, 2, 3, 4, 5, 6, 7, 8]")
    master, _ = start(bench, f"sh {script} {{kind}} {{out}}", "--trial-timeout", 3, study=study, workers=1)
    bench.finish(master)
    rows = bench.rows()
    assert [row.status for row in rows] == [FAILED] * 4 + [SUCCEEDED] * 2 + [FAILED] * 2
    assert bench.folder.read(TrialName(5, 1, "seen")).epochs == [{"epoch": 2, "loss": 1}]  # its line has no end
    assert rows[5].metrics["loss"] == 1 and rows[6].error.startswith("the training process ended with exit code 4")
    assert rows[7].error == "took longer than --trial-timeout 3 s"
    assert rows[0].error == "the training process ended with exit code 3; it last said: a line of mine"
    assert rows[1].error.startswith("the training process was killed by SIGSEGV")
    assert rows[2].error.startswith("the result lacks 'loss', the study's metric; it has other; print it as JSON")
    assert rows[4].metrics["loss"] == 0.5 and rows[4].metrics["a"] == 1
    assert is_gone(int((bench.logs / "out" / "trial-00003" / "child").read_text()))


def test_a_program_that_is_not_there_is_named(bench):
    master, _ = start(bench, "trian {lr}", study=STUDY, workers=1)
    bench.finish(master, 3)
    assert all("trian: No such file or directory" in row.error for row in bench.rows())


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare (util-linux)")
def test_a_worker_that_is_process_1_of_a_container_leaves_no_zombies(bench):
    """There, nobody else waits for the guardians. Each command counts the zombies that it sees."""
    script = bench.path / "train.sh"
    script.write_text('echo "{\\"loss\\": $(grep -l \'^State:.Z\' /proc/[0-9]*/status 2>/dev/null | wc -l)}"')
    study = STUDY.replace("lr = [0.1, 0.5]", "kind = [1, 2, 3, 4, 5, 6]")
    master, _ = start(bench, f"sh {script} {{kind}}", study=study)
    worker = [*["unshare", "--pid", "--fork", "--mount-proc"], sys.executable, "worker.py", "--logs", str(bench.logs)]
    done = subprocess.run([*worker, "--command", f"sh {script} {{kind}}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    bench.finish(master)
    assert max(row.metrics["loss"] for row in bench.rows()) <= 1  # the latest one may be on its way out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--command", "train {learning}"], "{learning} is no setting of this study"),
        (["--command", "train 'x"], "--command: No closing quotation"),
        (["--command", " "], "--command: is empty"),
        (["--command", "train", "--pattern", "("], "--pattern (: is no regular expression"),
        (["--command", "train", "--pattern", "x"], "has no named group"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_written(bench, options, message):
    file = bench.path / "mine.toml"
    file.write_text(STUDY)
    said = bench.search(file, *options, code=2)
    assert said.startswith("error: ") and message in said and said.count("\n") == 1, said
    assert not bench.logs.exists()


def test_a_command_and_its_study_belong_together(bench):
    file = bench.path / "mine.toml"
    file.write_text(STUDY + "")
    other = bench.study(objective="quick")
    assert "has the objective 'tests.objectives:quick'" in bench.search(other, "--command", "train", code=2)
    file.write_text('objective = "command"\n' + STUDY)
    assert "add --command '…'" in bench.search(file, "--workers", 1, code=2)
    bench.master(file)
    wait_for(lambda: bench.names("pending"), "the trials")
    assert "--command '…'" in bench.finish(bench.worker("quick"), 2)
    wrong = bench.start("worker.py", "--logs", bench.logs, "--command", "train {rate}")
    assert "{rate} is no setting of this study" in bench.finish(wrong, 2)
    assert len(bench.names("pending")) == 2 and not bench.names("lost")


def test_words_take_values_and_nothing_is_read_by_a_shell():
    words = split("train --lr={lr} '{model.width} wide' {{lr}} {flag} {none} $HOME;rm")
    values = {"lr": 1e-5, "model.width": 64, "flag": True, "none": None}
    assert [fill_in(word, values) for word in words] == [
        "train", "--lr=1e-05", "64 wide", "{lr}", "true", "null", "$HOME;rm",
    ]  # fmt: skip
    assert fill_in("{lr}", {"lr": "{out}; rm -r /"}) == "{out}; rm -r /"
    trainer = CommandTrainer(StopSignals(), "train {model.width} {out} {seed}", "cpu")
    trainer.check({"space": {"model": {"width": [1, 2], "deep": {"er": {"type": "int", "low": 1, "high": 2}}}}})
    trainer = CommandTrainer(StopSignals(), "train {model.wdith}", "cpu")
    with pytest.raises(UserError, match=r"did you mean 'model.width'"):
        trainer.check({"space": {"model": {"width": [1, 2]}}})


def test_values_are_found_in_printed_lines():
    pairs = read_pattern("name=value")
    assert pairs.pattern == PAIRS
    line = "epoch=3 train/loss: 1.5e-3, acc = .97 lr=nan (took 3 s) name=x"
    assert read_values(line, pairs) | {"lr": 0} == {"epoch": 3, "train/loss": 0.0015, "acc": 0.97, "lr": 0}
    assert read_values('{"epoch": 1, "loss": 0.5}', pairs) == {"epoch": 1, "loss": 0.5}
    assert read_values("a" * 1_000_000, pairs) == {} and read_values("x" * 10**6 + " loss=1", pairs) == {"loss": 1}
    assert read_values("{not json", None) == read_values("[1]", None) == read_values("loss=1", None) == {}
    named = read_pattern(r"step (?P<epoch>\d+).*?loss (?P<loss>\S+)( acc (?P<acc>\S+))?")
    assert read_values("step 7 loss 0.5", named) == {"epoch": 7, "loss": 0.5}
    assert json.dumps(read_values("step 7 loss low", named)) == '{"epoch": 7, "loss": "low"}'


def test_a_gpu_is_the_only_one_that_its_command_sees(monkeypatch):
    for name in AMD_HIDES:
        monkeypatch.delenv(name, raising=False)
    assert show("cpu", alone=True) == ("cpu", 0, None) and show("cuda", alone=True) == ("cuda", 1, None)
    assert show("cuda:1") == ("cuda:1", 1, None)  # a Python function may see the others
    assert show("cuda:1", alone=True).environment["CUDA_VISIBLE_DEVICES"] == "1"
    several = show("cuda:1,3")
    assert several[:2] == ("cuda", 2) and several.environment["CUDA_VISIBLE_DEVICES"] == "1,3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    assert show("cuda:1", alone=True).environment["CUDA_VISIBLE_DEVICES"] == "GPU-b"
    assert show("cuda:0,1").environment["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "2,3")  # AMD's, which goes before the other
    environment = show("cuda:1", alone=True).environment
    assert environment["HIP_VISIBLE_DEVICES"] == environment["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.delenv("HIP_VISIBLE_DEVICES")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b")  # of these a process uses the first that it sees
    assert show("cuda:1")[:2] == ("cuda", 1) and show("cuda:1").environment["CUDA_VISIBLE_DEVICES"] == "MIG-b"
