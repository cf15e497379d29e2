"""Saves each figure as PNG and SVG beside the page, and puts one of the two into it."""

from __future__ import annotations

import base64
import io
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldertune.protocol import printable, write_whole
from foldertune.reading.content import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200
LARGEST_SVG = 300_000  # bytes; if the SVG is larger, the page shows the PNG
HALF_A_PAGE = 620  # CSS pixels


@dataclass(frozen=True)
class Image:
    """A figure as the page contains it."""

    name: str
    stem: str  # of its files
    caption: str
    alt: str
    width: int  # CSS pixels
    height: int
    data: str  # a data: URL

    @property
    def is_wide(self) -> bool:
        """Does the figure take the page's whole width?"""
        return self.width > HALF_A_PAGE


def save(picture: Picture, out: Path, stem: str) -> Image | None:
    """Draw a figure and write it as PNG and SVG. Raises OSError.

    If the data can't be drawn, for example a value near the largest float, print a line and return None.
    """
    import matplotlib

    style = {"svg.hashsalt": stem, "savefig.facecolor": "white"}  # the same bytes for the same data
    try:
        with matplotlib.rc_context(style), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numpy warns about such values
            figure = picture.draw()
            figure.set_dpi(DPI)
            figure.get_layout_engine().execute(figure)
            figure.set_layout_engine(None)  # once for both files; with an engine, each would be drawn twice
            png = _render(figure, format="png", dpi=DPI, metadata={"Software": None})
            svg = _render(figure, format="svg", dpi=DPI, metadata={"Date": None, "Creator": None})
    except (ValueError, ArithmeticError) as error:
        print(f"left out: the figure {stem} can't be drawn ({printable(str(error))})", file=sys.stderr)
        return None
    write_whole(out / f"{stem}.png", png)
    write_whole(out / f"{stem}.svg", svg)
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    kind, content = ("svg+xml", svg) if len(svg) <= LARGEST_SVG else ("png", png)
    data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    alt = f"Figure: {picture.name.replace('-', ' ')}"
    return Image(picture.name, stem, picture.caption, alt, width, height, data)


def _render(figure: Figure, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()
