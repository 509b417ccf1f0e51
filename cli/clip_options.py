"""What is drawn for a training clip beside its frames."""

from __future__ import annotations

import click

from ..pipeline.choices import CROP_FORMS, NORMALIZATIONS
from .number_types import Numbers
from .parameters import Decorator, FiniteRange, option, options

PROBABILITY = FiniteRange(0, 1)
CLIP_GROUP = "--crop --crop-form --flip --gray --jitter --jitter-probability --mixup --cutmix --normalization --rand-augment --random-erasing"

clip_options: Decorator = options(
    option("--crop/--no-crop", default=None, help="Random crops, or the model's own preprocessing."),
    option(
        "--crop-form",
        type=click.Choice(CROP_FORMS),
        help="Boxes of random area and ratio (BIKE, Text4Vis), or of few sizes and places (X-CLIP).",
    ),
    option("--flip", type=PROBABILITY, help="Probability; 0 where left and right mean something."),
    option("--gray", type=PROBABILITY, help="Probability that a clip loses its color."),
    option(
        "--jitter",
        type=Numbers("B,C,S,H", float),
        help="Strength of changes in brightness, contrast, saturation, hue.",
    ),
    option("--jitter-probability", type=PROBABILITY, help="Probability that a clip has such changes."),
    option(
        "--mixup",
        type=FiniteRange(0, 1000),
        metavar="ALPHA",
        help="Blend clips, by shares of Beta(ALPHA, ALPHA); 0: none. With --cutmix, half of the steps have each.",
    ),
    option(
        "--cutmix", type=FiniteRange(0, 1000), metavar="ALPHA", help="Put a box of one clip into another."
    ),
    option(
        "--normalization",
        type=click.Choice(NORMALIZATIONS),
        help="Mean and standard deviation of colors: the encoder's, or ImageNet's (X-CLIP), which the trained encoder keeps.",
    ),
    option(
        "--rand-augment", type=Numbers("N,M", int), help="Number and magnitude of RandAugment's operations."
    ),
    option(
        "--random-erasing",
        type=PROBABILITY,
        help="Probability that a box of a clip is filled with the mean color.",
    ),
)
