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


_OPTIONS: dict[str, tuple[Any, Any, Any]] = {
    #                    BIKE        Text4Vis         X-CLIP
    "prompt":            ("bike",     "text4vis",      "none"),  # around class names
    "attributes_prompt": ("bike",     None,            None),
    "words":             ("all",      None,            None),
    "renormalize":       (False,      None,            None),
    "view_average":      ("unscaled", "features",      "probabilities"),
    "fusion":            (0.7,        None,            None),
    "fusion_form":       ("released", None,            None),
    "map_convention":    ("released", "released",      None),
    "loss":              ("released", "cross-entropy", "cross-entropy"),
    "position":          ("start",    "start",         "middle"),
    "crop_positions":    ("width",    "width",         "longer-side"),
}  # fmt: skip
"""What options of these names stand at. None: the code has no such thing, and the option keeps its value."""


@dataclass(frozen=True)
class ReleasedForm:
    """The forms of one paper's released code."""

    name: str
    """As the paper calls it."""
    options: Mapping[str, Any]
    """The values of options; see `_OPTIONS`."""
    scaled: bool = True
    """Whether the short side is scaled to 256/224 of the crop at 224 pixels alone (True), or at every size (False)."""
    scaled_crops: bool = True
    """Whether it is so with three crops too; else the short side is the crop's."""
    text_width_heads: bool = True
    """Whether T-Trans has as many attention heads as 64 goes into the width of the text tower."""

    def short_side(self, size: int, crops: int) -> int:
        """Return the length that the short side is scaled to, for crops of `size` pixels."""
        if crops > 1 and not self.scaled_crops:
            return size
        return size if self.scaled and size != 224 else int(256 / 224 * size)

    def temporal_heads(self, architecture: Mapping[str, Any]) -> int | None:
        """Return the attention heads of T-Trans over features of this architecture; None where it does not say its
        text width."""
        width = architecture.get("text_cfg", {}).get("width") if self.text_width_heads else None
        return width // _HEAD_WIDTH or None if isinstance(width, int) else None


_BIKE, _TEXT4VIS, _X_CLIP = ({name: values[i] for name, values in _OPTIONS.items()} for i in range(3))
RELEASED_FORMS: dict[str, ReleasedForm] = {
    "bike": ReleasedForm("BIKE", _BIKE),
    "text4vis": ReleasedForm("Text4Vis", _TEXT4VIS),
    "x-clip": ReleasedForm("X-CLIP", _X_CLIP, scaled=False, scaled_crops=False, text_width_heads=False),
}
"""By the name that `--as-released` takes. X-CLIP's own model has no part in it."""
