"""`foldertune launch slurm` without a Slurm: the script, and what is refused. tests/explorers/test_slurm.py has a real one."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time

import pytest

from foldertune import cli
from foldertune.launch.slurm_job import leave, own_job, read_duration, seconds_left
from foldertune.protocol import Folder


def words_of(script):
    """The command that a script ends with, as bash reads it."""
    return shlex.split(script.split("exec ")[1].replace("\\\n", ""))


@pytest.fixture
def logs(tmp_path):
    logs = tmp_path / "it's 100% #1"
    logs.mkdir()
    return logs


def launch(logs, *options):
    return cli.run("launch slurm", ["--logs", str(logs), *map(str, options)])


def test_the_script_can_be_read_and_keeps_what_was_typed(logs, capsys):
    command = "python train.py --lr {lr} --name 'it''s'"
    options = ("--workers", 8, "--max-running", 4, "--gpus-per-worker", 1, "--time", "4:00:00", "--threads", 2)
    more = ("--command", command, "--sbatch-option", "mem=8G", "--sbatch-option=--account=the lab", "--grace", 50)
    assert launch(logs, *options, *more, "--print") == 0
    script = capsys.readouterr().out
    asked = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    asked = dict(shlex.split(option)[0].partition("=")[::2] for option in asked)
    assert asked == {
        "--job-name": logs.name, "--array": "1-8%4", "--open-mode": "append", "--requeue": "", "--export": "ALL",
        "--output": f"{logs}/launch/slurm-%A_%a.out".replace("100%", "100%%"), "--chdir": os.getcwd(), "--time": "4:00:00",
        "--signal": "B:USR1@150", "--cpus-per-task": "2", "--gres": "gpu:1", "--mem": "8G", "--account": "the lab",
    }  # fmt: skip
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    words = words_of(script)
    assert words[0] == sys.executable and words[-8:-6] == ["--logs", str(logs)]
    assert words[-6:] == ["--threads", "2", "--command", command, "--grace", "50"]
    assert list(logs.iterdir()) == [], "nothing is submitted"


@pytest.mark.parametrize(
    ("options", "more"),
    [((), ["--gpus-per-trial", "2"]), (("--device", "all"), []), (("--gpus-per-trial", 1), ["--gpus-per-trial", "2"])],
)
def test_a_trial_has_all_gpus_of_its_worker(logs, capsys, options, more):
    assert launch(logs, "--workers", 1, "--gpus-per-worker", 2, *options, "--print") == 0
    words = words_of(capsys.readouterr().out)
    assert words[len(words) - len(more) :] == more and words.count("--gpus-per-trial") == len(more[:1]) + (
        "--gpus-per-trial" in options
    )


def test_a_master_is_patient_and_starts_no_workers_of_its_own(logs, bench, capsys):
    assert launch(logs, "--time", "1-0", "--print", "--master", bench.study(), "--trials", 9) == 0
    script = capsys.readouterr().out
    assert "--array" not in script
    words = words_of(script)
    assert words[3:] == ["--trials", "9", "--workers", "0", "--standby", "--logs", str(logs)]


@pytest.mark.parametrize("asked", [("--workers=4", "--standby"), ("--work", "4", "--stand")])
def test_a_master_has_the_workers_that_were_asked_for_however_they_were_typed(logs, bench, capsys, asked):
    assert launch(logs, "--print", "--master", bench.study(), *asked) == 0
    assert words_of(capsys.readouterr().out)[3:] == [*asked, "--logs", str(logs)]


def test_all_jobs_are_named_that_were_submitted(logs, bench, tmp_path, monkeypatch, capsys):
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat >>{tmp_path}/scripts\necho job >>{tmp_path}/jobs\nwc -l <{tmp_path}/jobs\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert launch(logs, "--workers", 2, "--master", bench.study()) == 0
    assert capsys.readouterr().out.endswith("; end them: scancel 1 2\n")
    assert "--dependency=after:1\n" in (tmp_path / "scripts").read_text()
    assert sorted(file.name for file in (logs / "launch").iterdir()) == ["slurm-1.sh", "slurm-2.sh"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2"], "sbatch: is not here"),
        ([], "--workers: say how many"),
        (["--workers", "2", "--check"], "--check: is for one worker"),
        (["--workers", "2", "--time", "3:00"], "--time 3:00: must be more than 180 s"),
        (["--workers", "2", "--objective", "mine:train"], "this study is for the objective 'tests.objectives:quick'"),
        (["--workers", "2", "--nodes-per-worker", "2"], "--nodes-per-worker: a Python function trains on one node"),
        (["--master", "nothing.toml"], "nothing.toml"),
        (["--master", "quickstart", "--trails", "3"], "--master: --trails: unknown"),
        (["--master", "quickstart", "--trials", "many"], "--master: argument --trials: must be a whole number"),
    ],
)
def test_what_would_fail_on_the_cluster_is_refused_here_in_one_line(folder, monkeypatch, capsys, options, message):
    folder.write_study({"metric": "loss", "objective": "tests.objectives:quick"})
    monkeypatch.setenv("PATH", "/nowhere")
    objective = () if "--objective" in options else ("--objective", "tests.objectives:quick")
    assert launch(folder.path, *objective, *options) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1


@pytest.mark.parametrize("options", [["--time", "4h"], ["--sbatch-option", "mem=1\n2"], ["--sbatch-option", "a b=1"]])
def test_what_sbatch_could_not_read_is_refused(logs, options):
    with pytest.raises(SystemExit) as end:
        launch(logs, "--workers", 1, *options)
    assert end.value.code == 2


def test_a_directory_that_is_not_there_is_no_folder(tmp_path, capsys):
    assert launch(tmp_path / "wrong", "--workers", 1) == 2
    assert "there is no such directory" in capsys.readouterr().err
    assert launch(tmp_path / "new", "--print", "--master", "quickstart") == 0, "which makes it"


def test_times_are_read_as_slurm_writes_them():
    texts = {"90": 5400, "90:30": 5430, "1:30:00": 5400, "1-0": 86400, "1-12:30": 131400, "2-00:00:01": 172801}
    assert {text: read_duration(text) for text in texts} == texts
    for text in ("", "UNLIMITED", "4h", "1:2:3:4", "-1", "1-", "1.5"):
        with pytest.raises(ValueError):
            read_duration(text)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A task of an array, and programs of Slurm's that write down how they were called."""
    for name, answer in (("squeue", "echo 1:00:05"), ("scontrol", "exit ${SCONTROL:-0}")):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$0 $*" >>{tmp_path}/calls\n{answer}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    for name, value in {"SLURM_JOB_ID": "4711", "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    monkeypatch.setenv("FOLDERTUNE_LAUNCHER", "slurm 4711_3")
    return tmp_path / "calls"


def test_a_task_asks_and_queues_for_itself_not_for_its_array(folder, cluster):
    assert own_job() == "4711_3" and seconds_left() == 3605
    assert leave(128 + 10, Folder(folder.path), 10) == 0
    calls = [line.rpartition("/")[2] for line in cluster.read_text().splitlines()]
    assert calls == ["squeue -h -j 4711_3 -o %L", "scontrol requeue 4711_3"]


def test_newer_versions_of_slurm_say_themselves_when_the_job_ends(cluster, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 500))
    assert 300 < seconds_left() <= 500
    assert not cluster.exists()


def test_only_who_is_out_of_time_comes_back(folder, cluster, monkeypatch):
    assert leave(128 + 15, Folder(folder.path), 15) == 0
    assert leave(2, Folder(folder.path)) == 2
    assert leave(128 + 2, Folder(folder.path), 2) == 130  # Ctrl-C, in a shell that Slurm has started
    for request in (folder.path / "drain", folder.path / "stop"):
        request.touch()
        assert leave(128 + 10, Folder(folder.path), 10) == 0
        request.unlink()
    monkeypatch.setenv("FOLDERTUNE_LAUNCHER", "slurm 4711_3.2")  # one of several in this task
    assert leave(128 + 10, Folder(folder.path), 10) == 138
    monkeypatch.delenv("FOLDERTUNE_LAUNCHER")  # a person's own script
    assert leave(128 + 10, Folder(folder.path), 10) == 0
    folder.write_study({"metric": "loss"})
    folder.study.rename(folder.study_done)
    monkeypatch.setenv("FOLDERTUNE_LAUNCHER", "slurm 4711_3")
    assert leave(0, Folder(folder.path), time_is_up=True) == 0
    assert not cluster.exists(), "nobody asked Slurm for anything"


def test_outside_of_slurm_nothing_changes(folder):
    assert own_job() is None and seconds_left() is None
    assert leave(128 + 10, Folder(folder.path), 10) == 138
