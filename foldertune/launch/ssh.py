"""Asks hosts something through OpenSSH, with the person's own configuration: jump hosts, keys, shared connections.

The command that a host gets is `sh`, which any login shell understands; everything else comes on its input.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from foldertune.errors import UserError
from foldertune.launch.remote import MARK, Answer, Request
from foldertune.shipped import HOME, INSTALLED
from foldertune.text import printable

# A person's configuration says the rest. Nobody is there to type a password, or to wait for a host that is down.
SSH = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
PATIENCE = 300.0  # seconds: to import a large library from a busy file server may take minutes
MOMENT = 2.0  # seconds in which a connection ends after the last answer
OLDEST = (3, 11)  # of Python

# Any Python reads this, also one that is too old. The directory is looked into last: a file there may be called
# `random.py`. A checkout may be there, or where ours is.
GREETING = f"""
import json, os, sys
if sys.version_info < {OLDEST}:
    print('{MARK}{{"error": "Python %d.%d is too old; 3.11 or newer is needed"}}' % sys.version_info[:2])
    sys.exit()
sys.path = [path for path in sys.path if path] + [os.getcwd(), *sys.argv[2:]]
try:
    from foldertune.launch.remote import answer
except ImportError as error:
    print('{MARK}' + json.dumps({{"error": "no foldertune there, or an older one: %s" % error}}))
    sys.exit()
answer(sys.argv[1])
"""


class NoAnswer(Exception):
    """The host did not do what it was asked for. The message says why."""


@dataclass(frozen=True)
class Place:
    """Where workers run.

    Attributes:
        host: as `ssh` takes it.
        directory: where they start; with `~` as the host understands it.
        python: the Python there: a path or a command.
    """

    host: str
    directory: str
    python: str

    @property
    def name(self) -> str:
        """The host's name as a part of file names."""
        return re.sub(r"[^\w.@-]", "_", self.host, flags=re.ASCII).lstrip(".")


def ask(place: Place, requests: Sequence[Request]) -> Iterator[Answer]:
    """Yield the answers to requests as they come. Raises NoAnswer, or UserError if there is no ssh here."""
    open_requests = len(requests)
    with tempfile.TemporaryFile() as said:
        try:
            ssh = subprocess.Popen(
                [*SSH, "--", place.host, "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
            )
        except FileNotFoundError:
            raise UserError("ssh is not installed here; install OpenSSH's client") from None
        out_of_patience = threading.Timer(PATIENCE, ssh.kill)
        out_of_patience.start()
        try:
            assert ssh.stdin and ssh.stdout
            with contextlib.suppress(BrokenPipeError):  # it has ended: it says why
                ssh.stdin.write(script(place, requests).encode())
                ssh.stdin.close()
            while open_requests and (line := ssh.stdout.readline()):
                if line.startswith(MARK.encode()):
                    open_requests -= 1
                    yield read(line.decode(errors="replace").removeprefix(MARK))
        finally:
            out_of_patience.cancel()
            end(ssh)
        if open_requests:
            said.seek(0)
            raise NoAnswer(why_silent(ssh.returncode, said.read().decode(errors="replace")))


def read(text: str) -> Answer:
    """What the host has answered. An "error" in it says why it did not do what it was asked for."""
    try:
        answer: Any = json.loads(text)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"error": f"it answered {text.strip()[:200]!r}"}


def end(ssh: subprocess.Popen[bytes]) -> None:
    """Let a connection end. In a container something may hold it open for as long as the worker lives."""
    try:
        ssh.wait(MOMENT)
    except subprocess.TimeoutExpired:
        ssh.terminate()
        ssh.wait()
    for stream in (ssh.stdin, ssh.stdout):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()


def why_silent(code: int | None, said: str) -> str:
    """Why a host gave no answer: by what ssh, or the host's shell, has said last."""
    last = printable(said.strip().rpartition("\n")[2].strip())
    if code is not None and code < 0:
        return f"no answer within {PATIENCE:g} s; does a file server hang there?"
    return last or f"ssh ended with exit code {code} and said nothing"


# ---------------------------------------------------------------- what the host is told


def script(place: Place, requests: Sequence[Request]) -> str:
    """The lines for `sh` on the host. Several requests are for workers, which go on when it has ended."""
    directory, python = for_shell(place.directory), for_shell(place.python)
    ours = [] if INSTALLED else [str(HOME)]
    calls = (shlex.join([GREETING, request.to_text(), *ours]) for request in requests)
    lines = [
        f"cd -- {directory} 2>/dev/null || {{ {complaint(f'{place.directory}: there is no such directory')}; exit; }}",
        f"command -v {python} >/dev/null 2>&1 || {{ {complaint(f'{place.python}: there is no such Python')}; exit; }}",
        *(f"{python} -c {call} </dev/null &" for call in calls),
    ]
    return "\n".join([*lines, ""])


def complaint(text: str) -> str:
    """The command by which `sh` answers that something is wrong."""
    return f"printf '%s\\n' {shlex.quote(MARK + json.dumps({'error': text}))}"


def for_shell(path: str) -> str:
    """A path as a word for `sh`, which is left to expand a `~` at its beginning."""
    home, slash, rest = path.partition("/")
    if not re.fullmatch(r"~[\w.-]*", home, re.ASCII):
        return shlex.quote(path)
    return home + slash + (shlex.quote(rest) if rest else "")
