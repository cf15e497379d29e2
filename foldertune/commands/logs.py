"""Print what a worker or a trial said.

    {program} 7 --logs /shared/me/lr  what the attempts at trial 7 printed
    {program} 7-2  only the second attempt
    {program} gpu07-4711  the log of a worker, by any part of its name
    {program} 'slurm 4711_3' --follow  by its number at its launcher, as it grows

Of a trial it prints what the training printed, and the error in which it ended.
Of a worker it prints the log that its launcher keeps in the folder: one that
writes elsewhere says where. `{status}` shows the names.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from foldertune.commands.options import add_logs
from foldertune.errors import UserError
from foldertune.protocol import SAFE, opened, printable
from foldertune.reading.archive import open_study
from foldertune.reading.voices import Voice, find_voices
from foldertune.shipped import command
from foldertune.text import without_controls

LOOK_EVERY = 0.5  # seconds between two looks at a log that grows
CHUNK = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "name", nargs="?", metavar="WORKER|TRIAL", help="a trial's number, or any part of a worker's name"
    )
    add_logs(parser)
    parser.add_argument("--follow", action="store_true", help="print what comes, until it has ended")


def main(arguments: argparse.Namespace) -> int:
    """Print it. Returns the exit code. Raises UserError and OSError."""
    folder, _ = open_study(arguments.logs)
    if folder.is_kept():
        raise UserError(f"{arguments.logs}: a kept study has no output; ask in the folder where it was searched")
    if not arguments.name:
        shown = command("status", "--logs", arguments.logs)
        raise UserError(f"give a trial's number, or any part of a worker's name; they are shown by: {shown}")
    voices = find_voices(folder, arguments.name)
    for voice in voices:
        if len(voices) > 1:
            print(f"==> {printable(voice.title)}: {voice.file} <==", flush=True)
        printed = tell(voice, follow=arguments.follow and voice is voices[-1])
        if not printed and len(voices) == 1 and not voice.remark():
            raise UserError(f"{arguments.name}: {voice.title} has printed nothing")
    return 0


def tell(voice: Voice, *, follow: bool) -> bool:
    """Print what there is, and with `follow` what comes until it is over. Has it said anything?"""
    place = 0
    while True:
        is_over = voice.is_over()  # asked first: what it said before must still be printed
        place += show_from(voice, place)
        if is_over or not follow:
            break
        time.sleep(LOOK_EVERY)
    if remark := voice.remark():
        show(f"{remark.rstrip()}\n".encode())
    return place > 0


def show_from(voice: Voice, place: int) -> int:
    """Print the file from this place on. Returns how many bytes that were; 0 if it is not there, or no file."""
    before = place
    try:
        with opened(voice.file.parent) as inside:
            descriptor = os.open(voice.file.name, os.O_RDONLY | SAFE, dir_fd=inside)
    except OSError:
        return 0
    with open(descriptor, "rb", buffering=0) as file:
        while data := os.pread(file.fileno(), CHUNK, place):
            show(data)
            place += len(data)
    return place - before


def show(data: bytes) -> None:
    """Print bytes: as they are into a file or a pipe; on a terminal without what it may obey."""
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    parts = data.decode(errors="replace").splitlines(keepends=True)
    for part in parts:
        text = part.rstrip("\r\n")
        sys.stdout.write("\t".join(map(without_controls, text.split("\t"))) + part[len(text) :])
    sys.stdout.flush()
