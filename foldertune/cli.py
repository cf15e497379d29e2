"""The command `foldertune`, the parsers of all programs, and the one place where their errors are handled."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, NoReturn

from foldertune import __version__
from foldertune.errors import LIBRARIES, UserError, did_you_mean
from foldertune.shipped import command
from foldertune.text import printable

LASTING = ("worker", "master", "launch local", "end")  # go on if their output's disk is full
COMMANDS = {
    "master": "search: publish trials, collect results, retry lost trials",
    "worker": "take trials from a shared folder and train them",
    "launch local": "start workers on this machine, and look after them",
    "launch ssh": "start workers on other machines, through ssh",
    "launch slurm": "start workers, or a master, on a cluster with Slurm",
    "scale": "have more or fewer of the workers that launch slurm started",
    "status": "show how far a search is, who trains what, and what is best",
    "logs": "print what a worker or a trial said",
    "results": "show, filter, group and export the results of a study",
    "best": "print the best settings, for the final training",
    "report": "make a page with figures, answers and every trial",
    "pause": "let no worker take a trial, until resume",
    "drain": "let all workers end after the trial in hand",
    "stop": "let workers give their trials back and end; the master, too",
    "resume": "go on after pause, drain, stop or end",
    "drop": "take a trial out of the ranking; it is kept and marked",
    "end": "finish the study now, with the results that there are",
    "doctor": "find out whether a folder is fit for a search",
}
WIDTH = 79  # characters in a line of `--help`


def main(argv: Sequence[str] | None = None) -> int:
    """Run `foldertune COMMAND …`, or print which commands there are. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), "")
    return run(name, words[len(name.split()) :]) if name else guard(lambda: answer(words))


def answer(words: Sequence[str]) -> int:
    """Answer a command line that names no command. Returns the exit code."""
    first = words[0]
    if first in ("-h", "--help", "help"):
        print(overview())
    elif first == "--version":
        print(f"foldertune {__version__}")
    else:
        name = " ".join(words[:2]) if any(known.startswith(f"{first} ") for known in COMMANDS) else first
        raise UserError(f"{name}: no such command{did_you_mean(name, COMMANDS)}; there are {', '.join(COMMANDS)}")
    return 0


def overview() -> str:
    """The text of `foldertune --help`."""
    examples = [
        f"    {command('master')}  a first search: about a minute, in logs/",
        f"    {command('worker', '--logs', 'DIR')}  help it from any machine that mounts DIR",
    ]
    commands = [f"    {name}  {what}" for name, what in COMMANDS.items()]
    first = "Search hyperparameters with any number of machines that share a folder."
    last = f"Each command explains itself: {command('master', '--help')}"
    return "\n".join([first, "", *align(examples), "", "Commands:", *align(commands), "", last])


def run(
    name: str, argv: Sequence[str] | None = None, *, program: str | None = None, **options: Callable[..., Any]
) -> int:
    """Run one command and return its exit code.

    Args:
        name: a module in `foldertune.commands`, with `_` where the command has a space. It has a docstring,
            `add_arguments(parser)` and `main(arguments)`.
        argv: the command line. Messages that repeat it take it from `arguments.argv`.
        program: how the user called the command, if not as `foldertune NAME`. `arguments.program` keeps it.
        options: passed on to the command's `main`.
    """
    open_streams()
    argv = list(sys.argv[1:] if argv is None else argv)
    module = importlib.import_module(f"foldertune.commands.{name.replace(' ', '_')}")
    program = program or command(name)
    parser = new_parser(module.__doc__, program)
    module.add_arguments(parser)
    arguments = parser.parse_args(argv, argparse.Namespace(argv=argv, program=program))
    return guard(lambda: module.main(arguments, **options), must_print=name not in LASTING)


def guard(main: Callable[[], int], *, must_print: bool = True) -> int:
    """Call a program's `main` and turn its errors into one line and an exit code.

    Args:
        must_print: has it failed if its last lines can't be printed?
    """
    open_streams()
    code = 0
    try:
        code = main()
        try:
            sys.stdout.flush()
        except OSError as error:
            print_nowhere()
            if must_print and not isinstance(error, BrokenPipeError):
                raise
    except UserError as error:
        return complain(str(error))
    except ModuleNotFoundError as error:
        if error.name not in LIBRARIES:
            raise
        return complain(f"{error.name} is not installed; install it with: pip install {' '.join(LIBRARIES)}")
    except BrokenPipeError:  # `| head`
        print_nowhere()
    except OSError as error:
        return complain(f"{error.filename2 or error.filename or 'output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        return 130
    return code


def print_nowhere() -> None:
    """Let Python flush to /dev/null what is left to print: it does so at its end, too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_streams() -> None:
    """Make stdin, stdout and stderr usable, however the program was started.

    One that is closed is opened on /dev/null; otherwise the next file that we open would get its number, and our own
    output, or that of a process we start, would go there. A character that an output can't encode is escaped: it may be
    ASCII, and names come from files.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
        elif mode == "w" and isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(message: str) -> int:
    """Print an error message and return the exit code for bad usage, 2."""
    with contextlib.suppress(OSError):  # nobody may read it
        print(f"error: {printable(message)}", file=sys.stderr, flush=True)
    return 2


# ---------------------------------------------------------------- help


class Parser(argparse.ArgumentParser):
    """A parser with help that begins with a description and a first command, and error messages of one line."""

    def format_help(self) -> str:
        """The help text: description, usage, options, epilog."""
        formatter = self._get_formatter()
        formatter.add_text(self.description)
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def error(self, message: str) -> NoReturn:
        """Print one line and end the program with exit code 2."""
        _, unknown, rest = message.partition("unrecognized arguments: ")
        if unknown:
            guess = did_you_mean(rest.split()[0], self._option_string_actions)
            message = f"{rest}: unknown{guess}" if guess or rest.startswith("-") else f"{rest}: {self._what_it_takes()}"
        self.exit(complain(f"{message.removeprefix('argument ')}; see {self.prog} --help"))

    def _what_it_takes(self) -> str:
        """What this command takes besides options, for a user who typed one word more."""
        takes = [f"one {action.metavar}" for action in self._get_positional_actions()]
        if logs := self._option_string_actions.get("--logs"):
            takes.append(f"{'folders' if logs.nargs else 'one folder'} after --logs")
        return f"one word too many: this command takes {' and '.join(takes) or 'options only'}"


def new_parser(doc: str | None, program: str | None = None) -> Parser:
    """A parser that shows a program's docstring as its help.

    The first two paragraphs (what the program does and how to call it) stand above the options, the rest below.
    `{program}` becomes the way in which the user called the program; `{worker}`, `{status}` … become the commands
    that call those programs.
    """
    doc = str(doc).replace("{program}", program or "{program}")
    for name in COMMANDS:
        doc = doc.replace(f"{{{name}}}", command(name))
    paragraphs = "\n".join(align(doc.split("\n"))).split("\n\n", 2)
    return Parser(
        prog=program,
        description="\n\n".join(paragraphs[:2]),
        epilog="".join(paragraphs[2:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def align(lines: Iterable[str]) -> list[str]:
    """The lines, with each block of indented lines `    command  what it does` aligned in two columns."""
    aligned: list[str] = []
    for is_example, block in groupby(lines, lambda line: line.startswith("    ")):
        if not is_example:
            aligned += block
            continue
        pairs = [re.split(r"(?<=\S) {2,}(?=\S)", line, maxsplit=1) for line in block]
        width = max(len(pair[0]) for pair in pairs)
        for example, *what in pairs:
            line = "  ".join([example.ljust(width), *what]).rstrip()
            aligned += [line] if len(line) <= WIDTH else [example, f"        {what[0]}"] if what else [example]
    return aligned
