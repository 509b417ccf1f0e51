"""From settings to what scores, and from a protocol to what it tests: the composition of the methods.

What needs torch (concept spotting, heads, training) is imported where it is used: mean pooling and attributes do not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ...cache import FeatureCache
from ...lexicons import Lexicon, load_lexicon
from ..choices import FUSION_FORMS, MULTI_LABEL, POOLS, VIDEO_PROMPTS
from ..encoders import EncoderLoader, check_has_time, has_text, text_embeddings
from ..scoring import (
    NO_FEATURES,
    PROMPT,
    AttributeSettings,
    AttributesScorer,
    ConceptSpottingConfig,
    FusionScorer,
    Scorer,
    check_view_average,
    default_fusion,
    find_attributes,
    sentences_by_row,
)
from .labels import LabeledVideos, select_videos
from .multi_label import evaluate_multi_label, released_convention
from .pools import pool_scorer
from .results import EvaluationError, Result
from .run import ProtocolTest, evaluate_all, plan_trials
from .splits import TrainTest, leave_out_trained, train_and_test

if TYPE_CHECKING:
    from ..heads import ClassTexts, HeadConfig, StoredHead, TrainSettings
    from .few_shot import Run
    from .languages import Languages

Heads = Sequence[tuple[str, "StoredHead"]]
"""Trained heads, each with the name of its file; tables call it so, without the suffix."""


@dataclass(frozen=True)
class ScoringSettings:
    """Which scores are made of the frames of a video, and how. Raises EvaluationError for what cannot be."""

    prompts: tuple[str, ...] = (PROMPT,)
    """Sentences with `{}` for the class name; the embeddings of several are averaged."""
    pools: tuple[str, ...] = ("mean",)
    """How frames make a score, each a row of the table: some of POOLS."""
    words: str = "name"
    """Concept spotting: which tokens are words, `name`, `sentence` or `all`."""
    spotting: ConceptSpottingConfig = field(default_factory=ConceptSpottingConfig)
    view_average: str | None = None
    """How several views become one score, one of VIEW_AVERAGES; None: each scorer's own way."""
    video_prompts: tuple[str, ...] = ("on",)
    """Whether the class embeddings of X-CLIP's heads look at the video: on, off, or a row of the table for each."""
    attributes: tuple[str, ...] = ()
    """Lexicons of attributes, or .json files that name each video's; none: no attributes."""
    attribute_settings: AttributeSettings = field(default_factory=AttributeSettings)
    fusion: float | None = None
    """Weight of the video against its attributes, in 0..1; None: the paper's for the architecture."""
    fusion_form: str = "paper"
    """What is weighed, one of FUSION_FORMS."""

    def __post_init__(self) -> None:
        unknown = [pool for pool in self.pools if pool not in POOLS]
        if unknown:
            raise EvaluationError(f"there is no pool {unknown[0]!r}; known: {', '.join(POOLS)}")
        if not self.video_prompts or not set(self.video_prompts) <= set(VIDEO_PROMPTS):
            raise EvaluationError(
                f"video_prompts must be some of {', '.join(VIDEO_PROMPTS)}, got {self.video_prompts!r}"
            )
        if self.view_average is not None:
            check_view_average(self.view_average)
        if self.fusion is not None and not 0 <= self.fusion <= 1:
            raise EvaluationError(f"the weight of fusion lies between 0 and 1, got {self.fusion}")
        if self.fusion_form not in FUSION_FORMS:
            raise EvaluationError(
                f"fusion_form must be one of {', '.join(FUSION_FORMS)}, got {self.fusion_form!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings for JSON, flat."""
        nested = vars(self).copy()
        spotting, attributes = nested.pop("spotting"), nested.pop("attribute_settings")
        return {**nested, **vars(spotting), "top": attributes.top, "attributes_prompt": attributes.prompt}


def build_scorers(
    cache: FeatureCache,
    lexicon: Lexicon,
    settings: ScoringSettings,
    *,
    heads: Heads = (),
    retriever: FeatureCache | None = None,
    languages: Languages | None = None,
    validation: LabeledVideos | None = None,
    load: EncoderLoader | None = None,
    device: str = "auto",
) -> list[Scorer]:
    """Return a scorer for each pool, video head, source of attributes and attributes head, and every fusion of them.

    heads        trained heads
    retriever    the cache that retrieves attributes; None: `cache`
    languages    a second language of the classes, whose rows stand behind each pool
    validation   videos that the weight of the languages is chosen on, where it is not given
    load         gets the encoder where texts are not yet in the cache

    Raises HeadError for heads of other features; EvaluationError for settings that do not go together, and for two
    scorers of one name; what `text_embeddings` and `find_attributes` raise.
    """
    load = load or EncoderLoader()
    for _, stored in heads:
        stored.check_encoder(cache.identity.encoder_digest, str(cache.folder))
        stored.check_features(cache.shape, str(cache.folder))
    spots, texts = "vcs" in settings.pools, None
    if spots:
        check_has_time(cache.identity, cache.shape[2], "Concept spotting (the pool vcs)")
    if has_text(cache.identity) or not heads or settings.attributes or settings.pools != ("mean",):
        texts = text_embeddings(
            cache, lexicon, settings.prompts, words=settings.words if spots else "none", load=load
        )
        for phrase in texts.truncated[:3]:
            load.note(f"{phrase!r} is longer than the text encoder's context, and was cut.")
    else:  # of the row that nobody asked for, there is none
        load.note(f"{cache.identity.encoder_name} embeds no texts: no row is without training.")
    view_average = settings.view_average
    if view_average == "features" and cache.shape[1] == 1:
        view_average = None  # one view is its own mean: concept spotting need not have features
    if view_average == "features" and spots:
        raise EvaluationError(f"view average 'features': {NO_FEATURES}.")
    videos: list[Scorer] = []
    for pool in dict.fromkeys(settings.pools):
        if texts is None:
            break
        make = partial(pool_scorer, pool, config=settings.spotting, view_average=view_average, device=device)
        videos.append(make(texts))
        if languages is not None:
            from .languages import language_rows, weight_chooser

            choose = weight_chooser(cache, validation, len(lexicon), languages.settings.form)
            videos += language_rows(languages, videos[-1], texts, make, choose)
    if settings.video_prompts != ("on",) and all(stored.kind != "x-clip" for _, stored in heads):
        raise EvaluationError("video prompts are those of x-clip heads, and none is given.")
    for name, stored in heads:
        if stored.kind == "attributes":
            continue
        from ..heads import head_over, scorer_of_head

        for prompts in dict.fromkeys(settings.video_prompts if stored.kind == "x-clip" else ("on",)):
            head = head_over(stored, lexicon, load, cache, video_prompts=prompts == "on")
            try:
                scorer = scorer_of_head(
                    head,
                    cache,
                    temperature=stored.temperature,
                    view_average=view_average,
                    name=f"({PurePath(name).stem})",
                    device=device,
                )
            except ValueError as error:
                raise EvaluationError(f"view average {view_average!r}, head {name}: {error}.") from error
            videos.append(scorer)
    read: list[Scorer] = []
    found = None
    if texts is not None and settings.attributes:
        found = find_attributes(
            cache, settings.attributes, settings.attribute_settings, retriever=retriever, load=load
        )
        load.note(found.without_note(cache))
        read.append(AttributesScorer(sentences_by_row(found.stored, cache), texts.sentence))
    given = found.stored if found else None
    for name, stored in heads:
        if stored.kind == "attributes":
            from .trained_branch import trained_attributes

            read.append(
                trained_attributes(cache, lexicon, name, stored, load, retriever=retriever, given=given)
            )
    if settings.fusion is not None and not read:
        raise EvaluationError(
            "fusion goes with attributes, or a head of attributes alone: it has no part here."
        )
    weight, made = settings.fusion, list(videos)
    if weight is None:
        weight = default_fusion(cache.identity.encoder.get("architecture", {}))
    for attributes in read:
        made += [
            attributes,
            *(FusionScorer(video, attributes, weight, form=settings.fusion_form) for video in videos),
        ]
    names = [scorer.name for scorer in made]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise EvaluationError(
            f"two rows of the table would be called {twice!r}: give the heads other file names."
        )
    return made


# --- protocols


@dataclass(frozen=True)
class ZeroShotPlan:
    """A protocol that trains nothing, its videos chosen and its trials known to be possible."""

    cache: FeatureCache
    protocol: str
    n_classes: int
    test: LabeledVideos
    options: Mapping[str, Any]
    """Keyword arguments of `evaluate`, or of `evaluate_multi_label`."""

    def run(self, scorers: Sequence[Scorer], settings: Mapping[str, Any] | None = None) -> list[Result]:
        """Return the result of every scorer; `settings` are kept in it."""
        if self.protocol == MULTI_LABEL:
            return evaluate_multi_label(self.cache, self.test, scorers, settings=settings, **self.options)
        return run_plans([self], scorers, settings)[0]


def run_plans(
    plans: Sequence[ZeroShotPlan], scorers: Sequence[Scorer], settings: Mapping[str, Any] | None = None
) -> list[list[Result]]:
    """Return the results of each of several plans of one cache, none of them multi-label, after one pass over its features."""
    tests = []
    for plan in plans:
        options = dict(plan.options)
        keep = options.pop("keep", 0)
        tests.append(ProtocolTest(plan.test, plan.protocol, plan.n_classes, options, keep))
    return evaluate_all(plans[0].cache, tests, scorers, settings=settings)


def plan_zero_shot(
    cache: FeatureCache,
    lexicon: Lexicon,
    protocol: str = "full-classes",
    split: str | None = None,
    *,
    heads: Heads = (),
    repeats: int = 10,
    map_convention: str = "standard",
) -> ZeroShotPlan:
    """Choose what a protocol tests, and check that it can be tested, before any work.

    split             see `select_videos`
    heads             their training videos are left out, unless `split` names them
    repeats           halves of half-classes
    map_convention    of multi-label: one of MAP_CONVENTIONS, or `released`: that of the lexicon's data set

    Raises EvaluationError as `select_videos`, `leave_out_trained` and `plan_trials` do.
    """
    multi_label = protocol == MULTI_LABEL
    test = select_videos(cache, lexicon, split, multi_label=multi_label, by_split_sets=protocol == "splits")
    trained_on = {f"the head {name}": stored.trained_on for name, stored in heads}
    test = leave_out_trained(cache, test, trained_on, asked_for=split is not None)
    options: dict[str, Any] = {"repeats": repeats}
    if multi_label:
        convention = released_convention(lexicon.name) if map_convention == "released" else map_convention
        return ZeroShotPlan(cache, protocol, len(lexicon), test, {"convention": convention})
    if protocol == "kinetics600":
        names = [f"kinetics600-zeroshot-{number}" for number in (1, 2, 3)]
        options["class_sets"] = {name: lexicon.resolve(load_lexicon(name).labels) for name in names}
    if protocol == "splits":
        options["video_sets"] = test.split_sets
    plan_trials(protocol, test, len(lexicon), **options)
    return ZeroShotPlan(cache, protocol, len(lexicon), test, options)


@dataclass(frozen=True)
class TrainingPlan:
    """A protocol that trains heads before it tests them, known to be possible."""

    cache: FeatureCache
    protocol: str
    configs: Sequence[HeadConfig]
    sides: TrainTest
    shots: Sequence[int | None]
    seeds: int
    train: TrainSettings

    def run(
        self,
        classes: ClassTexts,
        settings: Mapping[str, Any] | None = None,
        *,
        device: str = "auto",
        on_run: Callable[[Run], None] | None = None,
    ) -> list[Result]:
        """Return the results of every head and number of shots; `settings` are kept in them."""
        from ..devices import choose_device
        from .few_shot import train_and_evaluate

        return train_and_evaluate(
            self.cache,
            self.sides.train,
            self.sides.test,
            classes,
            self.configs,
            protocol=self.protocol,
            shots=self.shots,
            seeds=self.seeds,
            fit=self.train,
            settings={**(settings or {}), **self.sides.settings, "seed": self.train.seed},
            device=choose_device(device),
            on_run=on_run,
        )


def plan_training(
    cache: FeatureCache,
    lexicon: Lexicon,
    configs: Sequence[HeadConfig],
    train: TrainSettings,
    *,
    protocol: str = "few-shot",
    train_split: str | None = None,
    split: str | None = None,
    test_share: float | None = None,
    shots: Sequence[int | None] = (),
    seeds: int | None = None,
) -> TrainingPlan:
    """Choose what is trained on and tested, and check that every head can be had from it.

    train_split, split, test_share    see `train_and_test`; the split is drawn with the seed of `train`
    shots                             of few-shot; none: FEW_SHOT_SHOTS, as far as every class has so many
    seeds                             trainings of each head; None: 3 of few-shot, else 1

    Raises EvaluationError and FitError as `train_and_test` and `plan_runs` do.
    """
    from .few_shot import default_shots, plan_runs

    sides = train_and_test(cache, lexicon, train_split, split, test_share, seed=train.seed)
    few = protocol == "few-shot"
    if not few:
        shots = (None,)
    elif not shots:
        shots, notes = default_shots(sides.train.targets, lexicon.labels)
        sides = replace(sides, test=replace(sides.test, notes=[*sides.test.notes, *notes]))
    plan_runs(sides.train.targets, lexicon.labels, configs, shots, cache.shape[3])
    return TrainingPlan(cache, protocol, configs, sides, shots, seeds or (3 if few else 1), train)
