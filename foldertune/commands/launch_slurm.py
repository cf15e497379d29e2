"""Start workers, or a master, as jobs of a cluster with Slurm.

    {program} --workers 8 --logs /shared/me/lr
    {program} --workers 8 --gpus-per-worker 1
    {program} --workers 8 --print    the script only
    {program} --master mine.toml --trials 300

It submits an array, one task a worker. Each runs with this Python, in this
directory and environment. All options of `{worker}` can be added. The
script and what the workers print are in DIR/launch/.

A worker that Slurm warns of its time limit saves its trial, gives it back and
queues itself again, until the study is complete. Slurm queues it again when it
is preempted or its node fails. `scancel` ends it for good. A job's exit code is
0 unless it needs a person, so --dependency=afterok works.

After --master come a study and the options of `{master}`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from foldertune.commands import master, worker
from foldertune.commands.options import add_logs, whole_number
from foldertune.commands.study import study_of
from foldertune.errors import UserError
from foldertune.launch.slurm import EARLY, Script, check_slurm, python_command
from foldertune.launch.slurm_job import read_duration
from foldertune.protocol import Folder
from foldertune.running.trainer import check_objective
from foldertune.shipped import COMMAND_OBJECTIVE, DEFAULT_OBJECTIVE, command
from foldertune.text import counted

A_MINUTE = 60.0  # seconds: so much earlier may a signal of Slurm's come


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command, and those of the worker."""
    add_own(parser.add_argument_group("jobs"))
    worker.add_arguments(parser)
    worker.hide_check(parser)


def add_own(group: argparse._ActionsContainer) -> None:
    """Add the options that are not the worker's."""
    group.add_argument("--workers", type=whole_number(1), metavar="N", help="submit an array of N workers")
    group.add_argument(
        "--max-running", type=whole_number(1), metavar="N", help="the most workers that work at once (default: all)"
    )
    group.add_argument(
        "--gpus-per-worker",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="GPUs of each worker, on each of its nodes (default: 0)",
    )
    group.add_argument(
        "--nodes-per-worker", type=whole_number(1), default=1, metavar="N",
        help="nodes of each worker; with several, let --command begin with srun, which starts it on all (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--time", type=duration, metavar="TIME",
        help="time limit of each job: minutes, 4:00:00 or 1-12 (days-hours) (default: the partition's)",
    )  # fmt: skip
    group.add_argument("--partition", metavar="NAME", help="where to queue (default: the cluster's)")
    group.add_argument(
        "--sbatch-option", dest="options", type=sbatch_option, action="append", default=[], metavar="NAME=VALUE",
        help="any other option of sbatch, such as mem=16G or account=lab; may be given several times",
    )  # fmt: skip
    group.add_argument("--print", dest="show", action="store_true", help="show the script, and submit nothing")
    group.add_argument(
        "--master", nargs=argparse.REMAINDER,
        help="submit a master, too (without --workers: only the master), for this study and with these options; the "
        "last option here",
    )  # fmt: skip


def duration(text: str) -> str:
    """The type of an option that takes a time in one of Slurm's forms."""
    try:
        read_duration(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be minutes, 4:00:00 or 1-12 (days-hours), not {text!r}") from None
    return text


def sbatch_option(text: str) -> str:
    """The type of an option that takes one of sbatch's: `mem=16G`, or `--mem=16G`."""
    name, _, value = text.removeprefix("--").partition("=")
    if not name.replace("-", "").isalnum() or not value.isprintable():
        raise argparse.ArgumentTypeError(f"must be an option of sbatch such as mem=16G, not {text!r}")
    return text if text.startswith("--") else f"--{text}"


def main(arguments: argparse.Namespace) -> int:
    """Submit the jobs, or show their scripts."""
    worker.refuse_check(arguments)
    own = argparse.ArgumentParser(add_help=False)
    add_logs(own)
    add_own(own)
    scripts = new_scripts(arguments, own.parse_known_args(arguments.argv)[1])
    if arguments.show:
        print("\n".join(map(str, scripts)), end="")
        return 0
    check_slurm()
    logs, jobs = arguments.logs.resolve(), list[str]()
    kept = Folder(logs).launch
    for script in scripts:
        if jobs:  # workers wait for ten minutes, a master may be queued for longer
            script.options = [*script.options, f"--dependency=after:{jobs[0]}"]
        jobs.append(job := script.submit())
        what = f"{counted(script.tasks, 'worker')}" if script.tasks else "a master"
        print(f"submitted {what} as job {job}: the script and what it prints are {kept}/slurm-{job}*")
    print(f"See them: squeue --me; {command('status', '--logs', logs)}; end them: scancel {' '.join(jobs)}")
    return 0


def new_scripts(arguments: argparse.Namespace, words: Sequence[str]) -> list[Script]:
    """The scripts that the command line asks for; `words` are those of it that go to the worker. Raises UserError."""
    logs = arguments.logs.resolve()
    if arguments.master is None and not logs.is_dir():
        raise UserError(
            f"--logs {arguments.logs}: there is no such directory; start the master first, or: mkdir -p {logs}"
        )
    if not str(logs).isprintable():
        raise UserError(f"--logs {logs!s}: has a control character in its name, which sbatch can't read")
    if arguments.workers is None and arguments.master is None:
        raise UserError("--workers: say how many; or say --master STUDY")
    warning = arguments.grace + EARLY
    if arguments.nodes_per_worker > 1 and not arguments.command:
        raise UserError("--nodes-per-worker: a Python function trains on one node; add --command 'srun …'")
    if arguments.time and read_duration(arguments.time) <= warning + A_MINUTE:
        raise UserError(
            f"--time {arguments.time}: must be more than {warning + A_MINUTE:.0f} s, for Slurm warns {warning:.0f} s "
            "before its end (see --grace), or up to a minute earlier"
        )
    limits = [f"--time={arguments.time}"] if arguments.time else []
    limits += [f"--partition={arguments.partition}"] if arguments.partition else []
    scripts = []
    if arguments.master is not None:
        own = own_words(check_master(arguments.master))
        scripts.append(Script(
            logs, [*python_command("master"), *arguments.master, *own, "--logs", str(logs)],
            warning=warning, options=[*limits, *arguments.options],
        ))  # fmt: skip
    if arguments.workers is not None:
        check_study(arguments)
        shares = [f"--cpus-per-task={max(arguments.threads or 1, arguments.cores or 1)}"]
        shares += [f"--nodes={arguments.nodes_per_worker}"] if arguments.nodes_per_worker > 1 else []
        shares += [f"--gres=gpu:{arguments.gpus_per_worker}"] if arguments.gpus_per_worker else []
        words = [*words, *gpu_words(arguments)]
        scripts.append(Script(
            logs, [*python_command("worker"), "--logs", str(logs), *words], arguments.workers,
            arguments.max_running, warning, [*limits, *shares, *arguments.options],
        ))  # fmt: skip
    return scripts


def gpu_words(arguments: argparse.Namespace) -> list[str]:
    """Have a trial train on all GPUs of its worker, unless a person says otherwise: it would take the first alone."""
    is_told = arguments.device != "auto" or arguments.gpus_per_trial != 1 or arguments.trials_per_gpu != 1
    return [] if is_told or arguments.gpus_per_worker < 2 else ["--gpus-per-trial", str(arguments.gpus_per_worker)]


def check_study(arguments: argparse.Namespace) -> None:
    """Raise UserError if these workers can't train the study that the folder has. There may be none yet."""
    study = Folder(arguments.logs).read_study()
    if study is not None:
        mine = COMMAND_OBJECTIVE if arguments.command else arguments.objective or DEFAULT_OBJECTIVE
        check_objective(arguments.logs, study, mine)


def check_master(words: Sequence[str]) -> argparse.Namespace:
    """The master's options. Raises UserError if these are none of its, or its study can't be searched."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    master.add_arguments(parser)
    try:
        arguments, unknown = parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise UserError(f"--master: {error}") from None
    if unknown or not words:
        lack = f"{unknown[0]}: unknown" if unknown else "name a study"
        raise UserError(f"--master: {lack}; see {command('master', '--help')}")
    study_of(arguments)
    return arguments


def own_words(arguments: argparse.Namespace) -> list[str]:
    """What a master is told besides: to start no workers unless they are asked for, and to be patient with another."""
    workers = ["--workers", "0"] if arguments.workers is None else []
    return [*workers, *([] if arguments.standby else ["--standby"])]
