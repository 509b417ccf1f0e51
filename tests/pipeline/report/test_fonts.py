"""Any script is drawn with a font that has it, or what is missing is said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from vidclip.pipeline.report import advice, font_families

RARE = "\U000f0041\U000f0042"
"""Of the private use area: no font of a system has them."""


def a_font(path: Path, family: str, characters: str) -> Path:
    """A font with a black square for each of these characters."""
    pen = TTGlyphPen(None)
    for place in ((0, 0), (0, 800), (800, 800), (800, 0)):
        (pen.moveTo if place == (0, 0) else pen.lineTo)(place)
    pen.closePath()
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    names = [".notdef", *(f"u{ord(c):X}" for c in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"u{ord(c):X}" for c in characters})
    builder.setupGlyf({name: square if number else empty for number, name in enumerate(names)})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (900, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    builder.save(path)
    return path


def test_what_the_default_font_has_needs_no_other():
    assert font_families(["a kick", "удар", "العربية", "joined\u200d and wide\u3000space"]) == (
        ["DejaVu Sans"],
        "",
    )


def test_characters_that_no_font_has_are_returned_once():
    assert font_families([f"a{RARE}", RARE[0]]) == (["DejaVu Sans"], RARE)


def test_an_installed_font_is_found_and_drawn_with(tmp_path):
    """In a process of its own, whose user has a font that matplotlib has not listed."""
    fonts = tmp_path / "share" / "fonts"
    a_font(fonts / "Rare.ttf", "Rare", RARE)
    (fonts / "Broken.ttf").write_bytes(b"no font")
    program = f"""
import numpy as np
from pathlib import Path
from vidclip.pipeline.report import confusion_map, font_families, save_figure
print(font_families(["a", {RARE!r}]))
figure = confusion_map(np.eye(2, dtype=int), ("a", {RARE!r}), "title")
print([save_figure(figure, Path(name)) for name in ("a.png", "a.pdf")])
"""
    environment = {
        **os.environ,
        "XDG_DATA_HOME": str(tmp_path / "share"),
        "MPLCONFIGDIR": str(tmp_path / "config"),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["(['DejaVu Sans', 'Rare'], '')", "['', '']"]
    with Image.open(tmp_path / "a.png") as picture:
        black = np.asarray(picture.convert("L")) < 40
    squares = np.lib.stride_tricks.sliding_window_view(black, (8, 8)).all(axis=(2, 3))
    assert squares.any(), "no stroke of a letter and no box is so black and so wide"


@pytest.mark.parametrize(
    ("missing", "package"),
    [
        ("打拳", "fonts-noto-cjk"),
        ("ビデオ", "fonts-noto-cjk"),
        ("한국", "fonts-noto-cjk"),
        ("हि", "fonts-noto-core"),
        ("🤸", "fonts-symbola"),
    ],
)
def test_the_advice_names_the_characters_and_what_to_install(missing, package):
    said = advice(missing)
    assert f"no font here has {missing}: " in said
    assert re.search(rf"apt install {package}\)", said)


def test_the_advice_is_short():
    many = "".join(map(chr, range(0x4E00, 0x4F00)))
    assert len(advice(many)) < 400
    assert "fonts-noto-cjk fonts-noto-core)" in advice("打हि")
