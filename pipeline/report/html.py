"""A page as one HTML file: styles, program, data and pictures inside, nothing fetched.

Texts of files (labels, ids, notes) are escaped wherever they stand. The content security policy of the page allows
nothing from outside, and no program but its own, by its digest.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from ..evaluation import METRICS
from .page import Page
from .thumbnails import NoPicture, encode_within

MOST_BYTES = 5_000_000
"""Of a page."""
MOST_VIDEOS = 4_000
"""In the gallery of a page."""
LONGEST_TEXT = 300
"""Characters of a label or an id; longer ones are cut, with an ellipsis."""
_SLACK = 20_000
_SHARE_OF_STRIPS = 0.4
"""The frames of examples may take so much of the room for pictures."""
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of the text around them."""

Pictures = Sequence[np.ndarray | NoPicture]


def render_page(page: Page, thumbnails: Pictures = (), strips: Pictures = ()) -> str:
    """Return the page as HTML of at most MOST_BYTES in UTF-8.

    thumbnails    [n <= N] pictures [h, w, 3] of the videos of `gallery_videos`; none: no pictures
    strips        [E] frames [T, h, w, 3] of the examples; none: no pictures
    The pictures are as large as there is room for, and without any there is one placeholder a video.
    Raises ValueError where the texts alone need more room.
    """
    videos = gallery_videos(page)
    pictures = dict(zip(videos, thumbnails, strict=False))
    while True:
        room = MOST_BYTES - _SLACK - len(_render(page, videos, pictures, strips, {}, {}).encode())
        if room > 0:
            break
        if len(videos) <= 1:
            raise ValueError(f"the texts of the page alone are more than {MOST_BYTES / 1e6:g} MB")
        videos = videos[: len(videos) // 2]
    frames: dict[int, Sequence[str]] = {}
    filmed = {i: strip for i, strip in enumerate(strips) if not isinstance(strip, NoPicture)}
    uris = encode_within(
        [image for strip in filmed.values() for image in strip], int(_SHARE_OF_STRIPS * room)
    )
    room -= sum(map(len, uris))
    for number, strip in filmed.items():
        frames[number], uris = uris[: len(strip)], uris[len(strip) :]
    # The pictures of confused pairs stand on the page twice.
    twice = {i for pair in page.confused[0] for i in pair.examples}
    drawn: dict[int, np.ndarray] = {}
    for video in sorted(videos, key=lambda video: video not in twice):
        picture = pictures.get(video)
        if isinstance(picture, np.ndarray):
            drawn[video] = picture
    share = len(drawn) / max(1, len(drawn) + len(twice))
    uris = encode_within(list(drawn.values()), int(share * room))
    return _render(page, videos, pictures, strips, dict(zip(drawn, uris, strict=True)), frames)


def gallery_videos(page: Page) -> list[int]:
    """Return the positions of the videos of the gallery: all; of more than MOST_VIDEOS the wrong ones first."""
    every = np.arange(len(page.ids))
    if len(every) > MOST_VIDEOS:
        right = page.decisions[0].predicted == page.targets
        every = every[np.argsort(right, kind="stable")][:MOST_VIDEOS]
    return every.tolist()


def _render(
    page: Page,
    videos: Sequence[int],
    pictures: Mapping[int, np.ndarray | NoPicture],
    strips: Pictures,
    uris: Mapping[int, str],
    frames: Mapping[int, Sequence[str]],
) -> str:
    """Return the page with these data URIs: of videos, and of the frames of examples."""
    templates = resources.files("vidclip.pipeline.report") / "templates"
    names = ("page.html.j2", "page.css", "page.js")
    files = {name: (templates / name).read_text(encoding="utf-8") for name in names}
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: legible(value) if type(value) is str else value,
    )
    environment.filters["cut"] = cut
    digest = base64.b64encode(hashlib.sha256(files["page.js"].encode()).digest()).decode()
    reasons = {i: picture.reason for i, picture in pictures.items() if isinstance(picture, NoPicture)}
    first = page.results[0]
    return environment.from_string(files["page.html.j2"]).render(
        page=page,
        metrics={name: METRICS[name] for name in METRICS if name in first.figures},
        comparisons={each.name.removesuffix(f" - {first.scorer}"): each for each in page.comparisons},
        videos=videos,
        uris=uris,
        frames=frames,
        reasons=reasons,
        unfilmed={i: strip.reason for i, strip in enumerate(strips) if isinstance(strip, NoPicture)},
        drawn=bool(pictures),
        strips_asked=bool(strips),
        totals=page.totals().tolist(),
        hits=page.hits(0).tolist(),
        mistaken=_mistaken(page, 0),
        style=Markup(files["page.css"]),
        program=Markup(files["page.js"]),
        script_hash=f"'sha256-{digest}'",
        data=json_in_script(page_data(page, videos)),
    )


def page_data(page: Page, videos: Sequence[int]) -> dict[str, Any]:
    """Return what the program of the page reads: the results, and the decisions of every scorer on `videos`."""
    place = {video: number for number, video in enumerate(videos)}
    scorers = [
        {
            "name": decisions.scorer,
            "figures": page.results[number].to_dict()["figures"],
            "hits": page.hits(number).tolist(),
            "mistaken": _mistaken(page, number),
            "pairs": [
                [pair.label, pair.taken, pair.count, [place[i] for i in pair.examples if i in place]]
                for pair in page.confused[number]
            ],
            "predicted": decisions.predicted[videos].tolist(),
            "score": [_rounded(value) for value in decisions.score[videos]],
            "label_score": [_rounded(value) for value in decisions.label_score[videos]],
        }
        for number, decisions in enumerate(page.decisions)
    ]
    return {
        "labels": [cut(label) for label in page.labels],
        "totals": page.totals().tolist(),
        "targets": page.targets[videos].tolist(),
        "splits": [page.splits[i] for i in videos],
        "scorers": scorers,
    }


def _mistaken(page: Page, number: int) -> list[list[int] | None]:
    """Return for each class [what its videos are most often taken for, how many of them]; None where all are right."""
    wrong = page.decisions[number].predicted != page.targets
    counts: dict[int, dict[int, int]] = {}
    for label, taken in zip(page.targets[wrong], page.decisions[number].predicted[wrong], strict=True):
        own = counts.setdefault(int(label), {})
        own[int(taken)] = own.get(int(taken), 0) + 1
    return [
        list(max(counts[c].items(), key=lambda item: (item[1], -item[0]))) if c in counts else None
        for c in range(len(page.labels))
    ]


def json_in_script(value: Any) -> Markup:
    """Return JSON that can stand in a script element: nothing in it ends the element, begins a comment or breaks a line."""
    text = json.dumps(_legible(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def legible(text: str) -> str:
    """Return text as a browser can show it: control characters, those that turn the direction of text, and bytes that are
    no text as escapes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def cut(text: str) -> str:
    """Return a text of LONGEST_TEXT characters at most."""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _legible(value: Any) -> Any:
    if isinstance(value, str):
        return legible(value)
    if isinstance(value, dict):
        return {key: _legible(each) for key, each in value.items()}
    return [_legible(each) for each in value] if isinstance(value, (list, tuple)) else value


def _rounded(value: float) -> float | None:
    """Return a score to four decimals; None for an infinite one, which JSON does not have."""
    return round(float(value), 4) if math.isfinite(value) else None
