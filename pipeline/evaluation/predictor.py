"""A predictor: what names the classes of videos, how sure it says it is, and when it names none.

predictor = zero_shot_predictor(cache, lexicon)          # or head_predictor(stored)
predictor = predictor.calibrated(cache, "val")           # probabilities that mean what they say
predictor = predictor.rejecting(cache, "val", rate=0.05) # `none of these`
predictor.predict(cache)                                 # or predict_files(videos, encoder)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...cache import Failure, FeatureCache, Identity
from ...lexicons import Lexicon, lexicon_of_labels
from ..datasets import VideoList
from ..encoders import Encoder, EncoderLoader
from ..extraction import ExtractSettings, Progress
from ..heads import StoredHead, VideoHead, XClipHead, head_over, scorer_of_head, sigmoid
from ..scoring import Scorer, scan_scores
from .build import ScoringSettings, build_scorers
from .calibration import Calibration, calibrate, scaled_softmax
from .labels import ALL, LabeledVideos, choose_split, select_videos
from .multi_label_calibration import calibrate_multi_label
from .prediction import check_readable, features_of
from .rejection import Rejection, choose_rejection, known_and_outside
from .results import EvaluationError
from .splits import leave_out_trained

MULTI_LABEL_THRESHOLD = 0.5
"""The probability above which a multi-label head names a class, where none is said."""
RATE = 0.05
"""The share of videos of no class that may be named, where none is said."""


class Guess(NamedTuple):
    """A class that a video may be of."""

    label: str
    score: float
    """As `evaluate` ranks by it; larger is likelier."""
    probability: float
    """Among all classes; calibrated, if the predictor is."""


@dataclass(frozen=True)
class VideoPrediction:
    """What is said of one video."""

    id: str
    path: str
    labels: tuple[str, ...]
    """Its own, where the cache has some."""
    best: tuple[Guess, ...]
    """The likeliest classes, best first; of equals, the first in the lexicon. Of a multi-label head those above the threshold,
    all of them; where there is none, the likeliest."""
    none_of_these: bool
    """Whether the best is not above the threshold of the predictor."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """Names the classes of videos."""

    lexicon: Lexicon
    """The classes."""
    identity: Identity
    """Whose features it reads: encoder and sampling."""
    scorer_of: Callable[[FeatureCache], Scorer]
    patches: bool = False
    """Whether it reads patch tokens."""
    trained_on: Mapping[str, np.ndarray | None] = field(default_factory=dict)
    """Of a head: its name, and fingerprints of its training videos. Nothing is chosen on them."""
    calibration: Calibration | None = None
    rejection: Rejection | None = None
    multi_label: bool = False
    """Whether each class has a probability of its own: then every class above the threshold is named."""
    notes: tuple[str, ...] = ()
    """What a reader should know of how it was calibrated, and of how its threshold was chosen."""

    def predict(
        self, cache: FeatureCache, split: str | None = None, *, top: int = 5
    ) -> list[VideoPrediction]:
        """Return predictions for the videos of a cache, in its order, with or without labels.

        split    None, or `all`: all of them
        top      classes of each
        Raises EvaluationError for features of another encoder, and a split that the cache does not have; NotFinite.
        """
        chosen, _, _ = choose_split(cache, split or ALL)
        self._check_features(cache)
        return self._predict(cache, np.array(chosen, np.int64), top)

    def predict_files(
        self,
        videos: VideoList,
        encoder: Encoder,
        settings: ExtractSettings | None = None,
        *,
        top: int = 5,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> tuple[list[VideoPrediction], list[Failure]]:
        """Return (predictions for videos that no cache has, in the order of the list; those that could not be read).

        encoder     that of `identity`
        settings    how the videos are read
        Raises EvaluationError for another encoder; what `extract` raises.
        """
        if replace(self.identity, encoder=encoder.identity).encoder_digest != self.identity.encoder_digest:
            raise EvaluationError(
                f"{encoder.name} is another encoder than {self.identity.encoder_name}, which this reads."
            )
        with features_of(
            videos, self.identity, encoder, settings, patches=self.patches, on_progress=on_progress
        ) as (cache, failures):
            found = {each.id: each for each in self._predict(cache, np.arange(len(cache)), top)}
        own = [replace(found[each.id], path=str(each.path), labels=()) for each in videos if each.id in found]
        return own, failures

    def calibrated(self, cache: FeatureCache, split: str) -> Predictor:
        """Return the predictor with the temperature that fits the labeled videos of a split, those of its classes.

        Raises EvaluationError for no such videos, and as `calibrate` does.
        """
        if self.multi_label:
            self._check_features(cache)
            labeled = self._without_trained(
                cache, select_videos(cache, self.lexicon, split, multi_label=True)
            )
            found = calibrate_multi_label(
                self._logits(cache, labeled.indices), labeled.targets, labeled.split or ALL
            )
            return replace(self, calibration=found, notes=(*self.notes, *labeled.notes))
        known, _, _ = self._known_and_outside(cache, split)
        if not len(known):
            raise EvaluationError(
                f"no video of {split} has one label that is among the {len(self.lexicon)} classes: there is nothing to "
                "calibrate on."
            )
        logits = self._logits(cache, known.indices)
        found = calibrate(logits, known.targets, known.split or ALL)
        return replace(self, calibration=found, notes=(*self.notes, *known.notes))

    def with_threshold(self, threshold: float) -> Predictor:
        """Return the predictor that names no class where the best has no more than this probability."""
        if not 0 <= threshold <= 1:
            raise EvaluationError(f"a probability lies between 0 and 1, and the threshold is {threshold}")
        return replace(self, rejection=Rejection(threshold))

    def rejecting(self, cache: FeatureCache, split: str, rate: float = RATE) -> Predictor:
        """Return the predictor with the threshold at which at most a share `rate` of videos of no class is named.

        The split's videos of classes outside the lexicon show it. Where there are none, each class is left out in turn, and
        its videos are scored among the others; these classes are closer to the lexicon than chance would have them, and
        the threshold is the higher for it. Calibrate before: the threshold is on the probabilities as they are then.
        Raises EvaluationError for too few such videos; see `rejection`.
        """
        if self.multi_label:
            raise EvaluationError(
                "a multi-label head names every class above the threshold: give it, and no split to choose it on."
            )
        known, outside, groups = self._known_and_outside(cache, split)
        split = known.split or ALL
        confidence = self.confidences(cache, known.indices)
        if len(outside):
            found = self.confidences(cache, outside)
            rule = "outside"
        elif len(self.lexicon) < 3:
            raise EvaluationError(
                f"every label of {split} is among the {len(self.lexicon)} classes, and without one of these nothing is left "
                "to choose from. Name a split with videos of other classes, or give the threshold."
            )
        else:
            found = self._confidence_without_own(cache, known)
            groups, rule = [self.lexicon.labels[i] for i in known.targets], "left-out"
        chosen = choose_rejection(found, groups, confidence, rate, rule=rule, split=split)
        return replace(self, rejection=chosen, notes=(*self.notes, *known.notes))

    def _predict(self, cache: FeatureCache, indices: np.ndarray, top: int) -> list[VideoPrediction]:
        scorer, every = self.scorer_of(cache), np.arange(len(self.lexicon))
        found: list[Any] = [None] * len(indices)
        threshold = MULTI_LABEL_THRESHOLD if self.multi_label else -1.0
        if self.rejection:
            threshold = self.rejection.threshold
        for places, (similarities,) in scan_scores(cache, [scorer], indices):
            scores = scorer.scores(similarities, every)
            probabilities = self._probabilities(scorer, similarities, every)
            best = np.argsort(-scores, axis=1, kind="stable")
            named = probabilities > threshold if self.multi_label else np.zeros(scores.shape, bool)
            n_named = named.sum(axis=1)
            for row, place in enumerate(places):
                guesses = tuple(
                    Guess(self.lexicon.labels[c], float(scores[row, c]), float(probabilities[row, c]))
                    for c in best[row, : n_named[row] or top]
                )
                video = cache.videos[indices[place]]
                none = guesses[0].probability <= threshold
                found[place] = VideoPrediction(video.id, str(video.path), video.labels, guesses, none)
        return found

    def _probabilities(self, scorer: Scorer, similarities: Any, classes: np.ndarray) -> np.ndarray:
        if self.multi_label:
            found = self.calibration or Calibration(1.0, "", 0, 0.0, 0.0)
            return sigmoid(scorer.scores(similarities, classes) / found.temperature + found.offset)
        logits = log_probabilities(scorer, similarities, classes)
        return scaled_softmax(logits, self.calibration.temperature if self.calibration else 1.0)

    def _logits(self, cache: FeatureCache, indices: np.ndarray) -> np.ndarray:
        scorer, every = self.scorer_of(cache), np.arange(len(self.lexicon))
        read = scorer.scores if self.multi_label else partial(log_probabilities, scorer)
        found = np.empty((len(indices), len(every)))
        for places, (similarities,) in scan_scores(cache, [scorer], indices):
            found[places] = read(similarities, every)
        return found

    def confidences(self, cache: FeatureCache, indices: np.ndarray) -> np.ndarray:
        """Return the probability [n] of the best class of the videos at `indices`: what a threshold is held against."""
        scorer, every = self.scorer_of(cache), np.arange(len(self.lexicon))
        found = np.empty(len(indices))
        for places, (similarities,) in scan_scores(cache, [scorer], indices):
            found[places] = self._probabilities(scorer, similarities, every).max(axis=1)
        return found

    def _confidence_without_own(self, cache: FeatureCache, known: LabeledVideos) -> np.ndarray:
        """Return the probability [n] of the best class of each video among all but its own."""
        scorer, every = self.scorer_of(cache), np.arange(len(self.lexicon))
        found = np.empty(len(known))
        for places, (similarities,) in scan_scores(cache, [scorer], known.indices):
            targets = known.targets[places]
            for target in np.unique(targets):
                rows = np.flatnonzero(targets == target)
                others = self._probabilities(scorer, similarities[rows], np.delete(every, target))
                found[places[rows]] = others.max(axis=1)
        return found

    def _known_and_outside(
        self, cache: FeatureCache, split: str
    ) -> tuple[LabeledVideos, np.ndarray, list[str]]:
        self._check_features(cache)
        known, outside, groups = known_and_outside(cache, self.lexicon, split)
        return self._without_trained(cache, known), outside, groups

    def _without_trained(self, cache: FeatureCache, known: LabeledVideos) -> LabeledVideos:
        for name, trained_on in self.trained_on.items():
            n = len(known)
            if n and trained_on is not None:
                left = leave_out_trained(cache, replace(known, notes=()), {name: trained_on}, asked_for=False)
                told = [f"{n - len(left)} of {n} videos are left out of it: {name} was trained on them."]
                known = replace(left, notes=[*known.notes, *(told if len(left) < n else ())])
        return known

    def _check_features(self, cache: FeatureCache) -> None:
        if cache.identity.encoder_digest != self.identity.encoder_digest:
            raise EvaluationError(
                f"{cache.folder} has features of {cache.identity.encoder_name}, and this reads those of "
                f"{self.identity.encoder_name}. Name the cache of that encoder."
            )


def log_probabilities(scorer: Scorer, similarities: Any, classes: np.ndarray) -> np.ndarray:
    """Return the logarithms [n, c] of a scorer's probabilities, finite."""
    found = scorer.probabilities(similarities, classes)
    return np.log(np.maximum(found, np.finfo(np.float64).tiny))


def zero_shot_predictor(
    cache: FeatureCache,
    lexicon: Lexicon,
    settings: ScoringSettings | None = None,
    *,
    load: EncoderLoader | None = None,
    device: str = "auto",
) -> Predictor:
    """Return what names the classes of videos without training, for features like those of `cache`, which keeps the texts.

    settings    with one pool, and no attributes
    Raises as `build_scorers` does.
    """
    settings = settings or ScoringSettings()
    if len(settings.pools) != 1 or settings.attributes:
        raise EvaluationError("a predictor has one pool, and no attributes.")
    (scorer,) = build_scorers(cache, lexicon, settings, load=load, device=device)
    return Predictor(lexicon, cache.identity, lambda _: scorer)


def head_predictor(
    stored: StoredHead,
    lexicon: Lexicon | None = None,
    *,
    cache: FeatureCache | None = None,
    name: str = "",
    load: EncoderLoader | None = None,
    video_prompts: bool = True,
    view_average: str | None = None,
    device: str = "auto",
) -> Predictor:
    """Return what names the classes of videos by a trained head.

    lexicon          other classes, for a head of texts; None: its own
    cache            keeps the texts of other classes; None: they are encoded anew
    name             of the head's file
    video_prompts    of X-CLIP's head; see `head_over`
    view_average     None: the head's own
    Raises HeadError as `head_over` does, and for a cache with other features.
    """
    if cache is not None:
        stored.check_encoder(cache.identity.encoder_digest, str(cache.folder))
        stored.check_features(cache.shape, str(cache.folder))
    check_readable(stored)
    head = head_over(stored, lexicon, load or EncoderLoader(), cache, video_prompts=video_prompts)

    def scorer_of(features: FeatureCache) -> Scorer:
        stored.check_features(features.shape, str(features.folder))
        # One view is its own mean, as in `build_scorers`.
        average = None if view_average == "features" and features.shape[1] == 1 else view_average
        try:
            return scorer_of_head(
                head, features, temperature=stored.temperature, view_average=average, device=device
            )
        except ValueError as error:
            if view_average is None:
                raise
            raise EvaluationError(f"view average {view_average!r}: {error}.") from error

    classes = lexicon or _lexicon_of(stored.classes)
    trained = {f"the head {name}".strip(): stored.trained_on}
    several = isinstance(head, VideoHead) and head.multi_label is not None
    patches = isinstance(head, XClipHead)
    return Predictor(classes, stored.identity, scorer_of, patches, trained, multi_label=several)


def _lexicon_of(classes: tuple[str, ...]) -> Lexicon:
    """Return the classes of a head in their order."""
    own = lexicon_of_labels(classes)
    phrase = dict(zip(own.labels, own.phrases, strict=True))
    return Lexicon("head", tuple(phrase[label] for label in classes), classes, "the classes of a head")
