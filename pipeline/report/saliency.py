"""The saliency of the frames of a video, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_THUMB, _BAR, _HEADING, _GAP, _MARGIN = 144, 72, 44, 6, 16
_INK, _PAPER, _TRACK, _BARS = (32, 33, 36), (255, 255, 255), (236, 238, 241), (26, 115, 232)


def saliency_strip(
    frames: np.ndarray, shares: np.ndarray, phrases: Sequence[str], captions: Sequence[str]
) -> Image.Image:
    """Draw the frames of a video side by side, and under them, for each phrase, the share of each as a bar.

    frames     [T, h, w, 3] uint8
    shares     [P, T] saliency, each row sums to 1
    phrases    P
    captions   T, such as when each frame is shown

    The tallest bar of a phrase fills its row; its share is written over it.
    """
    count = len(frames)
    if shares.shape != (len(phrases), count) or len(captions) != count:
        raise ValueError(f"{count} frames, but shares {shares.shape} and {len(captions)} captions")
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    width = 2 * _MARGIN + count * (_THUMB + _GAP) - _GAP
    row_height = _HEADING + _BAR + 16
    picture = Image.new("RGB", (width, 2 * _MARGIN + _THUMB + 20 + len(phrases) * row_height), _PAPER)
    draw = ImageDraw.Draw(picture)
    lefts = [_MARGIN + t * (_THUMB + _GAP) for t in range(count)]
    for t, left in enumerate(lefts):
        thumb = Image.fromarray(frames[t]).resize((_THUMB, _THUMB), Image.Resampling.BICUBIC)
        picture.paste(thumb, (left, _MARGIN))
        draw.text((left + _THUMB / 2, _MARGIN + _THUMB + 3), captions[t], _INK, small, anchor="ma")
    top = _MARGIN + _THUMB + 20
    for phrase, row in zip(phrases, shares, strict=True):
        draw.text((_MARGIN, top + 4), phrase, _INK, font)
        floor = top + _HEADING + _BAR
        for left, share in zip(lefts, row, strict=True):
            height = round(_BAR * float(share) / max(float(row.max()), 1e-9))
            inset = _THUMB // 4
            draw.rectangle((left + inset, floor - _BAR, left + _THUMB - inset, floor), _TRACK)
            if height:
                draw.rectangle((left + inset, floor - height, left + _THUMB - inset, floor), _BARS)
            text = f"{100 * share:.0f} %"
            draw.text((left + _THUMB / 2, floor - height - 2), text, _INK, small, anchor="md")
        top += row_height
    return picture
