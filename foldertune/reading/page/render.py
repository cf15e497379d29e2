"""Writes the page's HTML: one file that needs no network and runs only its own script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from foldertune.reading.page.sections import Compared, Section
from foldertune.reading.samples import SIGNIFICANT

PAGE = Path(__file__).parent
SUBTITLE = "Hyperparameter search over a shared folder: answers computed from the trials' files."
FOOTNOTE = (
    f"± is the standard deviation over trials of equal settings (n − 1); trials that collapsed are left out of means. "
    f"Verdicts are two-sided Welch's t-tests at {SIGNIFICANT:g}, without correction for several tests."
)


def render(sections: Sequence[Section], made_with: str, compared: Compared | None = None) -> str:
    """The page, with its style and script inside. Its security policy allows only these two, by their hashes."""
    environment = Environment(loader=FileSystemLoader(PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    style, script = ((PAGE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return environment.get_template("page.html").render(
        title=sections[0].title if len(sections) == 1 else "What the searches found",
        subtitle=SUBTITLE,
        sections=sections,
        compared=compared,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        made_with=made_with,
        footnote=FOOTNOTE,
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
