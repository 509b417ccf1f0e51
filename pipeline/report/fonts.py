"""Fonts for any script: which installed ones have the characters of a picture, and what to install where none has."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

DEFAULT = "DejaVu Sans"
"""Comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew and others."""
_INVISIBLE = ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")
"""Categories of characters that need no glyph."""
_PREFERRED = (
    "noto sans",
    "noto",
    "source han",
    "wenquanyi",
    "pingfang",
    "hiragino",
    "yahei",
    "malgun",
    "arial",
)
_PLAIN = ("regular", "book", "normal", "medium", "roman", "")
_PACKAGES = {
    "CJK": ("Noto Sans CJK", "fonts-noto-cjk"),
    "HIRAGANA": ("Noto Sans CJK", "fonts-noto-cjk"),
    "KATAKANA": ("Noto Sans CJK", "fonts-noto-cjk"),
    "HANGUL": ("Noto Sans CJK", "fonts-noto-cjk"),
    "IDEOGRAPHIC": ("Noto Sans CJK", "fonts-noto-cjk"),
    "FULLWIDTH": ("Noto Sans CJK", "fonts-noto-cjk"),
}
"""What names of characters begin with -> (fonts that have them, their package for Debian and Ubuntu)."""
_SYMBOLS = ("Symbola", "fonts-symbola")
_LETTERS = ("Noto Sans", "fonts-noto-core")
_MOST_SHOWN = 20


def font_families(texts: Iterable[str]) -> tuple[list[str], str]:
    """Return (names of font families, characters that none of them has) for texts of any scripts.

    The first family is DEFAULT; each other one is an installed font that adds characters, and there are only as many
    as are needed. Where the default has everything, no other font is opened. Fonts that were installed since
    matplotlib listed them are found too.
    """
    wanted = {c for text in texts for c in text if _is_drawn(c)}
    families = [DEFAULT]
    wanted -= _characters(font_manager.findfont(DEFAULT))
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    files = _installed() if wanted else []
    while wanted:
        gains = [len(wanted & _characters(file)) for file in files]
        best = max(
            range(len(files)), key=gains.__getitem__, default=None
        )  # the first of the best: by preference
        if best is None or not gains[best]:
            break
        file = files[best]
        if file not in known:
            font_manager.fontManager.addfont(file)
        families.append(FT2Font(file).family_name)
        wanted -= _characters(file)
    return families, "".join(sorted(wanted))


def advice(missing: str) -> str:
    """Return what to do about characters that no installed font has, as a sentence."""
    found = dict.fromkeys(_package(c) for c in missing)
    fonts = " and ".join(name for name, _ in found)
    packages = " ".join(package for _, package in found)
    shown = missing if len(missing) <= _MOST_SHOWN else f"{missing[:_MOST_SHOWN]} ..."
    return (
        f"no font here has {shown}: boxes stand in their places. Install {fonts} (Debian, Ubuntu: apt install "
        f"{packages}), or put a font file that has them into ~/.local/share/fonts; or write a .svg, which is drawn "
        "with the fonts of its reader."
    )


def drawable(text: str) -> str:
    """Return a text as a font takes it: labels that were folders may hold bytes that are no text, and control characters
    have no shape; both become escapes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(repr(c)[1:-1] if unicodedata.category(c) == "Cc" else c for c in text)


def _is_drawn(character: str) -> bool:
    variation = "\ufe00" <= character <= "\ufe0f"
    return not variation and unicodedata.category(character) not in _INVISIBLE


def _package(character: str) -> tuple[str, str]:
    name = unicodedata.name(character, "")
    if unicodedata.category(character) in ("So", "Sk", "Sm", "Co", "Cn"):
        return _SYMBOLS
    return _PACKAGES.get(name.split(" ")[0].split("-")[0], _LETTERS)


def _installed() -> list[str]:
    """Return the font files that can be drawn with, the preferred first."""
    ranked = []
    for file in font_manager.findSystemFonts():
        family, style = _names(str(file))
        if family:
            place = next((i for i, each in enumerate(_PREFERRED) if each in family.lower()), len(_PREFERRED))
            plain = _PLAIN.index(style.lower()) if style.lower() in _PLAIN else len(_PLAIN)
            ranked.append((place, plain, Path(file).name, str(file)))
    return [file for *_, file in sorted(ranked)]


@cache
def _names(file: str) -> tuple[str, str]:
    """Return (family, style) of a font file; empty for one that cannot be read or scaled."""
    try:
        font = FT2Font(file)
    except (RuntimeError, OSError, ValueError):
        return "", ""
    return (font.family_name, font.style_name) if font.scalable else ("", "")


@cache
def _characters(file: str) -> frozenset[str]:
    return frozenset(map(chr, FT2Font(str(file)).get_charmap()))
