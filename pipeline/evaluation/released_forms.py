"""What the papers' released code computes, where vidclip's default is another: one table, for every command.

The default is the form of the paper, or what is right where the paper says nothing; figures that released code
printed have the forms below. `--as-released PAPER` sets them all; each is an option of its own as well.

Sources: github.com/whwu95/BIKE (test.py, test_charades.py, modules/video_clip.py, datasets/video_attr.py,
train_attributes.py and fusion_acc in utils/utils.py), github.com/whwu95/Text4Vis (test.py, test_anet.py,
modules/video_clip.py), github.com/microsoft/VideoX, folder X-CLIP (datasets/build.py, main.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_HEAD_WIDTH = 64


@dataclass(frozen=True)
class ReleasedForm:
    """The forms of one paper's released code. None: the code has no such thing, and the option keeps its value."""

    name: str
    """As the paper calls it."""

    # extraction
    position: str
    """Which frame of each segment: `start` or `middle`."""
    crop_positions: str
    """Along which side three crops lie: `width`, or `longer-side`."""
    scaled: bool
    """Whether the short side is scaled to 256/224 of the crop at 224 pixels alone (True), or at every size (False)."""
    scaled_crops: bool
    """Whether it is so with three crops too; else the short side is the crop's."""

    # text
    prompt: str
    """Around class names: a name of `prompts.PROMPT_SETS`."""
    attributes_prompt: str | None
    """Around the attributes sentence."""

    # scores
    view_average: str
    """How several views become one score: see `video_head.VIEW_AVERAGES`."""
    words: str | None = None
    """Tokens that are words of concept spotting."""
    renormalize: bool | None = None
    """Whether concept spotting scores by the cosine."""
    fusion: float | None = None
    """Weight of the video against its attributes."""
    fusion_form: str | None = None
    """What is weighed: see `scorers.FUSION_FORMS`."""
    map_convention: str | None = None
    """Mean average precision: see `multi_label.CONVENTIONS`."""

    # heads
    text_width_heads: bool = False
    """Whether T-Trans has as many attention heads as 64 goes into the width of the text tower."""
    loss: str | None = None
    """What video heads are trained with: see `losses.LOSSES`."""

    def short_side(self, size: int, crops: int) -> int:
        """The length that the short side is scaled to, for crops of `size` pixels."""
        if crops > 1 and not self.scaled_crops:
            return size
        return size if self.scaled and size != 224 else int(256 / 224 * size)

    def temporal_heads(self, architecture: Mapping[str, Any]) -> int | None:
        """Attention heads of T-Trans over features of this architecture; None where it does not tell its text width."""
        width = architecture.get("text_cfg", {}).get("width") if self.text_width_heads else None
        return width // _HEAD_WIDTH or None if isinstance(width, int) else None


RELEASED_FORMS: dict[str, ReleasedForm] = {
    "bike": ReleasedForm(
        name="BIKE",
        position="start",
        crop_positions="width",
        scaled=True,
        scaled_crops=True,
        prompt="bike",
        attributes_prompt="bike",
        view_average="unscaled",
        words="all",
        renormalize=False,
        fusion=0.7,
        fusion_form="released",
        map_convention="released",
        text_width_heads=True,
        loss="released",
    ),
    "text4vis": ReleasedForm(
        name="Text4Vis",
        position="start",
        crop_positions="width",
        scaled=True,
        scaled_crops=True,
        prompt="text4vis",
        attributes_prompt=None,
        view_average="features",
        map_convention="released",
        text_width_heads=True,
        loss="cross-entropy",
    ),
    "x-clip": ReleasedForm(
        name="X-CLIP",
        position="middle",
        crop_positions="longer-side",
        scaled=False,
        scaled_crops=False,
        prompt="none",
        attributes_prompt=None,
        view_average="probabilities",
        loss="cross-entropy",
    ),
}
"""By the name that `--as-released` takes. X-CLIP's own model has no part in it."""
