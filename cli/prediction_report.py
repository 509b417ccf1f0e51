"""What `vidclip predict` prints, and writes as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .output import console, count, printable, table

if TYPE_CHECKING:
    from ..pipeline.evaluation import Predictor, Rejection, VideoPrediction


def print_predictions(predictor: Predictor, predictions: Sequence[VideoPrediction]) -> None:
    """Print the classes of each video, and how far the probabilities can be believed."""
    rows = []
    for each in predictions:
        if each.none_of_these:
            rows.append([each.id, "none of these; the nearest:", ""])
        for place, guess in enumerate(each.best):
            first = place == 0 and not each.none_of_these
            rows.append([each.id if first else "", guess.label, f"{100 * guess.probability:.1f}"])
    if not rows:
        return
    console().print(table("", ["video", "class", "%"], rows, left=2))
    none = sum(each.none_of_these for each in predictions)
    if predictor.rejection is not None or predictor.multi_label:
        click.echo(f"None of these: {none:,} of {count(len(predictions), 'video')}.")
    for line in explanations(predictor):
        click.echo(printable(line))


def explanations(predictor: Predictor) -> list[str]:
    """Return how the probabilities and the threshold were made, a sentence or two each."""
    found = predictor.calibration
    if predictor.multi_label:
        return [_of_several(predictor)]
    if found is None:
        lines = [
            "%: a softmax at the temperature of the scorer, not calibrated. --calibrate SPLIT fits it on labeled videos."
        ]
    else:
        lines = [
            f"%: calibrated on {count(found.n_videos, 'video')} of {found.split}: logarithms of probabilities over "
            f"{found.temperature:.3g}; expected calibration error {found.error_before:.1f} % before, "
            f"{found.error_after:.1f} % after (each half by the other)."
        ]
    if predictor.rejection is not None:
        lines.append(_of_threshold(predictor.rejection))
    return lines


def _of_several(predictor: Predictor) -> str:
    """Return how the probabilities of a multi-label head were made, and which classes are shown."""
    from ..pipeline.evaluation import MULTI_LABEL_THRESHOLD

    found = predictor.calibration
    threshold = predictor.rejection.threshold if predictor.rejection else MULTI_LABEL_THRESHOLD
    shown = f"Every class above {100 * threshold:.4g} % is named (--threshold)."
    if found is None:
        return (
            f"%: each class by itself, as the head was trained, not calibrated (--calibrate SPLIT). {shown}"
        )
    return (
        f"%: each class by itself, calibrated on {count(found.n_videos, 'video')} of {found.split}: logits over "
        f"{found.temperature:.3g} plus {found.offset:.3g}; expected calibration error over all classes "
        f"{found.error_before:.2f} % before, {found.error_after:.2f} % after (each half by the other). {shown}"
    )


def _of_threshold(found: Rejection) -> str:
    if found.rate is None:
        return f"None of these: no class above {_below_all(found.threshold)} %, as asked."
    what = {
        "outside": "whose labels are not in the lexicon",
        "left-out": "each with its own class left out",
    }[found.rule]
    text = (
        f"None of these: no class above {_below_all(found.threshold)} %, chosen so that at most {100 * found.rate:g} % of videos like "
        f"the {count(found.n_outside, 'video')} of {found.split} {what}, are given a class"
    )
    if found.new_class is not None:
        mean, least, most = (100 * share for share in found.new_class)
        text += (
            f"; of videos of a class that the threshold was not chosen on, {mean:.1f} % ({least:.0f} to {most:.0f} % over "
            f"{count(found.n_outside_classes, 'class', 'classes')}, each at the threshold of the others)"
        )
    if found.known_named is not None:
        text += f". Of {count(found.n_known, 'video')} of the classes, {100 * found.known_named:.1f} % are given one"
    return f"{text}."


def _below_all(probability: float) -> str:
    """Return a probability in percent; one below 1 is not rounded to all."""
    digits = next((n for n in range(4, 16) if float(f"{100 * probability:.{n}g}") < 100), 4)
    return f"{100 * probability:.{digits}g}"


def to_json(predictor: Predictor, predictions: Sequence[VideoPrediction]) -> dict[str, Any]:
    """Return the predictions and what shaped them."""
    return {
        "lexicon": predictor.lexicon.name,
        "multi_label": predictor.multi_label,
        "calibration": asdict(predictor.calibration) if predictor.calibration else None,
        "rejection": asdict(predictor.rejection) if predictor.rejection else None,
        "notes": list(predictor.notes),
        "predictions": [
            {
                "video": each.id,
                "path": each.path,
                "labels": list(each.labels),
                "none_of_these": each.none_of_these,
                "classes": [guess._asdict() for guess in each.best],
            }
            for each in predictions
        ],
    }
