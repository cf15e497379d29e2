"""Start workers on other machines through ssh.

    {program} --logs /shared/me/lr gpu01 gpu02   one per GPU, or per core
    {program} --logs /shared/me/lr --workers 2 gpu01
    {program} --logs /shared/me/lr --hosts FILE  each host with its options

Each machine must see the folder, have Python 3.11 and foldertune, and be
reached by `ssh HOST` without a password. Jump hosts, keys and all else are as
in your ~/.ssh/config. First all are asked whether workers can work there, then
workers start where they can. They outlive the connection, and write to
launch/HOST-K.log in the folder. Do it again, and only what is missing starts;
with more --workers, more start; with fewer and --exactly, the rest ends in good
order (all of them: --workers 0 --exactly).

FILE has one host a line, with any of these options as name=value; they are for
that host, in place of those on the command line. `~` is the home there:

    # host, options
    gpu01 device=all trials-per-gpu=2
    gpu02 workers=1 directory=~/project python=~/venv/bin/python
    me@cpu03 workers=8 logs=/mnt/shared/me/lr

The exit code is 0 if all workers work, 1 if not, 2 if something is wrong here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from foldertune.commands import worker
from foldertune.commands.options import path, whole_number
from foldertune.errors import UserError, did_you_mean
from foldertune.launch.remote import Request
from foldertune.launch.ssh import NoAnswer, Place, ask
from foldertune.protocol import share, temporary_name
from foldertune.text import printable

NOT_ALL = 1  # the exit code if a host failed
AT_ONCE = 64  # connections
OWN = (
    "host",
    "hosts",
    "workers",
    "exactly",
    "python",
    "directory",
    "logs",
    "device",
    "trials_per_gpu",
    "parent",
    "check",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command, and those of the workers that it starts."""
    parser.add_argument("host", nargs="*", metavar="HOST", help="as you type it after ssh")
    group = parser.add_argument_group("hosts")
    group.add_argument("--hosts", type=path, metavar="FILE", help="a file with one host a line, and its options")
    group.add_argument(
        "--workers", type=whole_number(0), metavar="N",
        help="workers on each host (default: as --device and --trials-per-gpu say)",
    )  # fmt: skip
    group.add_argument(
        "--exactly",
        action="store_true",
        help="end workers that are more than that: they save their trials, as when stopped",
    )
    group.add_argument("--python", metavar="PATH", help="the Python there (default: the same path as here)")
    group.add_argument("--directory", metavar="DIR", help="where workers start (default: the same path as here)")
    before = len(parser._actions)
    worker.add_arguments(parser, device="all")
    for action in parser._actions[before:]:
        if action.dest in ("check", "parent"):  # for a worker alone
            action.help = argparse.SUPPRESS
        elif action.dest not in OWN:
            action.help = str(action.help) % {"default": action.default}
            action.type, action.default = _as_typed(action.type), None


class Typed(str):
    """An option's value as it was typed, to be passed on."""


def _as_typed(read: Any) -> Callable[[str], Typed]:
    """The type of an option that is passed on, if it is right."""

    def check(text: str) -> Typed:
        if read:
            read(text)
        return Typed(text)

    return check


@dataclass
class Workers:
    """The workers that a person wants on one host.

    Attributes:
        exactly: are others to be ended?
        problem: why they don't work there.
        states: of each worker, its device, process and what became of it.
    """

    place: Place
    request: Request
    exactly: bool = False
    problem: str = ""
    states: dict[int, tuple[str, str, str]] = field(default_factory=dict)

    def note(self, number: int, process: int | str, what: str) -> None:
        """Note what became of a worker."""
        device = "".join(self.request.devices[number - 1 : number]) or "-"
        self.states[number] = device, str(process), what


def main(arguments: argparse.Namespace) -> int:
    """Start the workers that are missing, and end others with --exactly. Returns the exit code."""
    logs = absolute(arguments.logs)
    if not logs.is_dir():
        raise UserError(f"--logs {logs}: there is no such directory; start the master first, or make it")
    with token_in(logs) as token:
        wanted = [new_workers(each, token) for each in hosts(arguments)]
        count = len({workers.place.host for workers in wanted})
        print(f"asking {count} host{'s' * (count != 1)} whether workers can work there", flush=True)
        at_once(look, wanted)
    for workers in wanted:
        if workers.problem:
            print(f"{workers.place.host}: {printable(workers.problem)}", file=sys.stderr, flush=True)
    at_once(start, wanted)
    print(table(wanted))
    print(f"what they say: {logs}/launch/HOST-WORKER.log")
    return NOT_ALL if any(workers.problem for workers in wanted) else 0


def absolute(path: Path) -> Path:
    """The path by the names that the person uses: the same directory may have others on other machines."""
    here = os.environ.get("PWD", "")
    with contextlib.suppress(OSError):
        if os.path.isabs(here) and os.path.samefile(here, "."):
            return Path(here) / path
    return Path(os.path.abspath(path))


@contextlib.contextmanager
def token_in(logs: Path) -> Iterator[str]:
    """The name of a file in the folder, by which other machines tell whether they see the same one."""
    token = temporary_name("launch")
    try:
        with open(logs / token, "x", encoding="utf-8") as file:
            share(file.fileno(), str(logs))
            file.write(token)
        yield token
    finally:
        with contextlib.suppress(OSError):
            (logs / token).unlink()


# ---------------------------------------------------------------- what is wanted


def hosts(arguments: argparse.Namespace) -> list[argparse.Namespace]:
    """The options of each host. Raises UserError."""
    found = [_with(arguments, host=host) for host in arguments.host]
    if arguments.hosts:
        try:
            lines = arguments.hosts.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise UserError(f"--hosts {arguments.hosts}: is not a text file") from None
        except OSError as error:
            raise UserError(f"--hosts {arguments.hosts}: {error.strerror}") from None
        for number, line in enumerate(lines, start=1):
            found += read_line(line, f"{arguments.hosts}, line {number}", arguments)
    if not found:
        raise UserError("which hosts? name them, or a file with them: --hosts FILE")
    for each in found:
        if each.host.startswith("-") or not each.host.isprintable() or " " in each.host or not each.host:
            raise UserError(f"{each.host!r}: is no host")
        if [other.host for other in found].count(each.host) > 1:
            raise UserError(f"{each.host}: stands there twice; say how many workers it gets: workers=2")
    return found


def read_line(line: str, where: str, arguments: argparse.Namespace) -> list[argparse.Namespace]:
    """The options of the host in this line of the file; none if there is no host in it. Raises UserError."""
    try:
        host, *words = shlex.split(line, comments=True) or [""]
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    parser = Line(prog=where, add_help=False, allow_abbrev=False)
    add_arguments(parser)
    known = [
        option[2:]
        for option in parser._option_string_actions
        if option not in ("--hosts", "--exactly", "--check", "--parent")
    ]
    for word in words:
        name, equals, _ = word.partition("=")
        if not equals or name not in known:
            raise UserError(f"{where}: '{word}'{did_you_mean(name, known)}: a host's options look like workers=2")
    own = parser.parse_args([f"--{word}" for word in words if not word.startswith("logs=")], _with(arguments, host=[]))
    logs = [Path(word.removeprefix("logs=")) for word in words if word.startswith("logs=")]
    return [_with(own, host=host, logs=(logs or [own.logs])[-1])] if host else []


class Line(argparse.ArgumentParser):
    """Reads the options of a host in a file."""

    def error(self, message: str) -> NoReturn:
        """Say where in the file something is wrong."""
        raise UserError(f"{self.prog}: {message.removeprefix('argument ')}")


def _with(arguments: argparse.Namespace, **changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(arguments), **changes})


def new_workers(arguments: argparse.Namespace, token: str) -> Workers:
    """The workers that these options ask for."""
    place = Place(arguments.host, arguments.directory or str(absolute(Path())), arguments.python or sys.executable)
    typed = {name: value for name, value in vars(arguments).items() if isinstance(value, Typed)}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in typed.items()]
    logs = arguments.logs if str(arguments.logs).startswith("~") else absolute(arguments.logs)
    request = Request(
        str(logs), token, options, arguments.device, arguments.trials_per_gpu, int(arguments.gpus_per_trial or 1),
        int(arguments.cores or 0) or None, arguments.workers, place.name,
    )  # fmt: skip
    return Workers(place, request, arguments.exactly)


# ---------------------------------------------------------------- hosts are asked


def at_once(ask_one: Callable[[Workers], None], wanted: Sequence[Workers]) -> None:
    """Ask all hosts that have no problem yet. What goes wrong on one of them is noted there."""

    def ask_it(workers: Workers) -> None:
        try:
            ask_one(workers)
        except NoAnswer as error:
            workers.problem = workers.problem or str(error)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(ask_it, [workers for workers in wanted if not workers.problem]))


def look(workers: Workers) -> None:
    """Find out which workers run on the host, and whether others can. Raises NoAnswer."""
    (found,) = ask(workers.place, [workers.request])
    if "error" in found:
        raise NoAnswer(str(found["error"]))
    workers.request.devices = [str(device) for device in found["devices"]]
    for number, process in found["running"].items():
        workers.note(int(number), process, "was running")


def start(workers: Workers) -> None:
    """Start those that are missing, and end those that are too many, if asked for. Raises NoAnswer."""
    count = len(workers.request.devices)
    missing = [number for number in range(1, count + 1) if number not in workers.states]
    excess = [number for number in workers.states if number > count and workers.exactly]
    requests = [replace(workers.request, start=number) for number in missing]
    requests += [replace(workers.request, end=number) for number in excess]
    for answer in ask(workers.place, requests) if requests else ():
        if "error" in answer:
            workers.problem = str(answer["error"])
        else:
            workers.note(answer["worker"], answer["process"], answer["what"])


def table(wanted: Sequence[Workers]) -> str:
    """What works where, a line a worker."""
    rows = [("HOST", "WORKER", "DEVICE", "PROCESS", "")]
    for workers in wanted:
        rows += [(workers.place.host, str(number), *state) for number, state in sorted(workers.states.items())]
        if workers.problem:
            rows.append((workers.place.host, "", "", "", printable(workers.problem)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
