"""What a file of predictions says, as results over a cache: checked against it, for a page or a table.

N videos, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ...cache import FeatureCache
from ...lexicons import Lexicon, LexiconError
from .labels import ALL, LabeledVideos
from .predictions import PredictionRow
from .results import EvaluationError, Result
from .run import plan_trials, result_of_ranks

_PROTOCOLS = ("full-classes", "general")
"""Those whose single trial is all classes."""


def results_of_predictions(
    cache: FeatureCache,
    lexicon: Lexicon,
    rows: Sequence[PredictionRow],
    settings: Mapping[str, Any] | None = None,
) -> tuple[LabeledVideos, list[Result], list[list[PredictionRow]]]:
    """Return (the videos tested, in the order of the cache; a result for each scorer; its rows in that order).

    rows    of `read_predictions`: of the protocol full-classes, or else of a single training of general
    The figures are those of `evaluate`, for they rest on the ranks alone. Raises EvaluationError where the file does not fit
    the cache: videos that it does not have, other labels, other classes, ranks that contradict the classes.
    """
    own = _one_trial(rows)
    by_scorer: dict[str, dict[str, PredictionRow]] = {}
    for row in own:
        of_scorer = by_scorer.setdefault(row.scorer, {})
        if row.id in of_scorer:
            raise EvaluationError(f"the predictions of {row.scorer} have {row.id!r} twice.")
        of_scorer[row.id] = row
    ids = set(next(iter(by_scorer.values())))
    for scorer, of_scorer in by_scorer.items():
        if of_scorer.keys() != ids:
            raise EvaluationError(
                f"the scorers of the predictions do not have the same videos: {scorer} has others."
            )
    absent = sorted(id for id in ids if id not in cache)
    if absent:
        raise EvaluationError(
            f"{len(absent):,} of the {len(ids):,} videos of the predictions are not in {cache.folder}, such as "
            f"{absent[0]!r}: name the cache that they are of, with --cache."
        )
    indices = np.array(sorted(cache.index(id) for id in ids), np.int64)
    ordered = [[of_scorer[cache.ids[i]] for i in indices] for of_scorer in by_scorer.values()]
    place = {label: c for c, label in enumerate(lexicon.labels)}
    targets = np.array([_target(cache, lexicon, place, row) for row in ordered[0]], np.int64)
    splits = {cache.splits[i] for i in indices}
    test = LabeledVideos(indices, targets, splits.pop() if len(splits) == 1 else ALL)
    runs = plan_trials("full-classes", test, len(lexicon))
    results = []
    for scorer, of_scorer in zip(by_scorer, ordered, strict=True):
        for row in of_scorer:
            _check(row, place)
        ranks = np.array([row.rank - 1 for row in of_scorer], np.int64)
        results.append(
            result_of_ranks(scorer, own[0].protocol, runs, [ranks], test, len(lexicon), dict(settings or {}))
        )
    return test, results, ordered


def _one_trial(rows: Sequence[PredictionRow]) -> list[PredictionRow]:
    """Return the rows of the one trial that tests all classes."""
    for protocol in _PROTOCOLS:
        own = [row for row in rows if row.protocol == protocol]
        if own and len({row.trial for row in own}) == 1:
            return own
    found = sorted({f"{row.protocol} ({row.trial})" for row in rows})
    shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    raise EvaluationError(
        f"the predictions have {shown or 'no rows'}: what is shown is full-classes, or one training of general. Make such a "
        "file with `vidclip eval --predictions`."
    )


def _target(cache: FeatureCache, lexicon: Lexicon, place: Mapping[str, int], row: PredictionRow) -> int:
    """Return the class of a video. Raises EvaluationError where the cache has another label for it."""
    labels = cache.labels[cache.index(row.id)]
    try:
        known = lexicon.resolve(labels)
    except LexiconError as error:
        raise EvaluationError(f"{error} The labels of {cache.folder} and --lexicon must fit.") from error
    target = place.get(row.label)
    if target is None or target not in known:
        raise EvaluationError(
            f"the label of {row.id!r} is {row.label!r} in the predictions, and {', '.join(map(repr, labels)) or 'none'} in "
            f"{cache.folder}: it was changed since, or --lexicon is another."
        )
    return target


def _check(row: PredictionRow, place: Mapping[str, int]) -> None:
    """Raise EvaluationError for a row that cannot be what a scorer said."""
    if not row.best:
        raise EvaluationError(f"the predictions have no class for {row.id!r}.")
    classes = [name for name, _ in row.best]
    unknown = next((name for name in classes if name not in place), None)
    if unknown is not None:
        raise EvaluationError(
            f"the predictions have the class {unknown!r}, which is not in the list of classes: give the --lexicon that they "
            "were made with."
        )
    scores = [score for _, score in row.best]
    sound = np.isfinite(scores).all() and all(a >= b for a, b in pairwise(scores))
    rank = classes.index(row.label) + 1 if row.label in classes else None
    listed = rank == row.rank if rank is not None else row.rank > len(classes)
    if not (sound and listed and 1 <= row.rank <= len(place) and len(set(classes)) == len(classes)):
        raise EvaluationError(
            f"the predictions of {row.scorer} contradict themselves about {row.id!r}: its label is of rank {row.rank}, and "
            f"the classes are {', '.join(map(repr, classes[:3]))}. Make the file again with `vidclip eval --predictions`."
        )
