"""How pictures look, and how they are written: styles that differ in gray print too, fonts, files."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.text import Text

from ...cache import write_whole
from .fonts import font_families

FORMATS = (".png", ".svg", ".pdf")
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart by people with any kind of color vision.

Source: Okabe and Ito 2008, *Color Universal Design*; without its yellow, which is too light for lines on white.
"""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (7, 2, 1, 2)), (0, (4, 1, 1, 1, 1, 1)))
_STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "font.size": 10,
    "text.parse_math": False,
    "svg.hashsalt": "vidclip",  # the same picture is the same file
    "svg.fonttype": "none",  # text stays text: it can be searched, and the reader's fonts have all scripts
}
_NO_DATE: dict[str, dict[str, Any]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def style(**more: Any) -> dict[Any, Any]:
    """Return the settings of matplotlib that pictures are made with, and some more."""
    return {**_STYLE, **more}


def line_style(index: int) -> dict[str, Any]:
    """Return color, marker and dashes of the line of this number.

    No two of the first 35 have color and dashes in common, and no two of the first 40 marker and dashes: lines are told
    apart without colors.
    """
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _DASHES[index % len(_DASHES)],
    }


def save_figure(figure: Figure, path: Path) -> str:
    """Write a .png, .svg or .pdf, whole or not at all. Raises ValueError for another suffix, OSError.

    Texts are drawn with the installed fonts that have their characters. Returns those that no font here has, drawn as
    boxes (see `advice`): of a .png or .pdf, as a .svg leaves them to its reader.
    """
    suffix, picture = path.suffix.lower(), io.BytesIO()
    if suffix not in FORMATS:
        raise ValueError(f"{path}: pictures end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    texts = [each for each in figure.findobj(Text) if isinstance(each, Text)]
    families, missing = font_families(each.get_text() for each in texts)
    for text in texts:
        text.set_fontfamily(families)
    with warnings.catch_warnings(record=True) as caught, mpl.rc_context(style(**{"font.family": families})):
        warnings.simplefilter("always")
        figure.savefig(
            picture,
            format=suffix[1:],
            dpi=150,
            metadata=_NO_DATE[suffix],
            bbox_inches="tight",
            pad_inches=0.15,
        )
    write_whole(path, picture.getvalue())
    boxes = set(missing)
    for warning in caught:
        glyph = re.match(r"Glyph (\d+) .*missing from", str(warning.message))
        if glyph:
            boxes.add(chr(int(glyph[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return "" if suffix == ".svg" else "".join(sorted(boxes))
