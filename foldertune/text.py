"""Writes values and counts in messages, and makes text from files safe to print."""

from __future__ import annotations

import json
import re
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with control characters escaped, so that a file's contents can't send commands to a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def without_controls(text: str) -> str:
    """The text with those characters escaped that a terminal may obey; for files, which keep all other characters."""
    if text.isprintable():
        return text
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def clipped(text: Any, most: int) -> str:
    """A text of at most so many characters: its beginning and its end."""
    text = str(text)
    return text if len(text) <= most else f"{text[: most // 2]} … {text[len(text) - most // 2 + 3 :]}"


def amount(number: float) -> str:
    """How much of the fidelity, in epochs or whatever it is: a million examples are `1000000`, not `1e+06`."""
    return f"{number:.0f}" if float(number).is_integer() else f"{number:g}"


def counted(number: int, noun: str) -> str:
    """A number with a noun: `1 trial`, `3 trials`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def in_a_line(error: BaseException) -> str:
    """An error as `ValueError: its message`, without line breaks."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # a person's own exception may raise another when it is printed
        text = ""
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind


def short_names(hosts: Iterable[str]) -> dict[str, str]:
    """What to call each host: the first part of its name, or all of it where several begin alike."""
    names = set(hosts)
    alike = Counter(name.split(".")[0] for name in names)
    return {name: first if alike[first := name.split(".")[0]] == 1 and first else name for name in names}


def ending(code: int) -> str:
    """How a process ended, from its exit code (below 0: a signal's number): `was killed by SIGTERM`."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = next((member.name for member in signal.Signals if member == -code), f"signal {-code}")
    return f"was killed by {name}" + (", perhaps because memory ran out" if -code == signal.SIGKILL else "")


def moment(seconds: float) -> str:
    """A time of day, with the date if it is not today's. Files may have times that no calendar has."""
    try:
        then, today = time.localtime(seconds), time.localtime()
    except (OSError, OverflowError, ValueError):
        return "an unknown time"
    form = "%H:%M" if then[:3] == today[:3] else "%a %d %b %H:%M" if then[0] == today[0] else "%d %b %Y %H:%M"
    return time.strftime(form, then)


def settings_in_a_line(settings: Mapping[str, Any]) -> str:
    """Settings as `rate 0.1, width 32`."""
    return ", ".join(f"{key} {_in_words(value)}" for key, value in settings.items())


def _in_words(value: Any) -> str:
    if value is None or isinstance(value, list | dict):
        return json.dumps(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
