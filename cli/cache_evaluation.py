"""What `vidclip eval` does over one cache: its plans, its scorers, its trainings, and the JSON of their results."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..pipeline.choices import MULTI_LABEL, TRAINING_PROTOCOLS
from .head_options import head_configs, texts_for_heads, train_settings
from .language_options import language_settings, validation_videos
from .options import open_cache
from .scoring_options import scoring_settings

if TYPE_CHECKING:
    from ..pipeline.encoders import EncoderLoader
    from ..pipeline.evaluation import (
        CacheTest,
        ClassFigures,
        Comparison,
        Languages,
        PredictionRow,
        Result,
        Run,
        TrainingPlan,
        ZeroShotPlan,
    )
    from ..pipeline.evaluation.build import Heads
    from ..pipeline.scoring import Scorer
    from .released import AsReleased


@dataclass(frozen=True)
class Evaluated:
    """What one protocol gave over one cache."""

    name: str
    """What tables call the cache; empty where there is one."""
    sampling: str
    """Of the cache, as `describe_sampling` has it."""
    results: Sequence[Result]
    comparisons: Sequence[tuple[int | str | None, Comparison]]
    classes: Mapping[str, Sequence[ClassFigures]]

    def to_json(self) -> dict[str, Any]:
        """Return results, comparisons and classes; where the cache has a name, it stands before that of each scorer."""
        prefix, own = (f"{self.name}: ", {"cache": self.name}) if self.name else ("", {})
        per_class = {prefix + k: [asdict(c) for c in v] for k, v in self.classes.items()}
        return {
            "results": [
                {**document, "scorer": prefix + document["scorer"]}
                for document in (each.to_dict() for each in self.results)
            ],
            "comparisons": [
                {**own, **vars(comparison), **({} if k is None else {"shots": k})}
                for k, comparison in self.comparisons
            ],
            **({"per_class": per_class} if per_class else {}),
        }


class CacheEvaluation:
    """One cache of a call of `vidclip eval`, with the options of that call: `plan`, then `run`.

    name    what tables call the cache; empty where the call has one
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        load: EncoderLoader,
        heads: Heads,
        as_released: AsReleased,
        options: Mapping[str, Any],
    ) -> None:
        self.name, self._load, self._heads = name, load, heads
        self.features, self.lexicon = open_cache(
            folder, options["lexicon"], single_view=options["single_view"]
        )
        self._options = {**options, "temporal_heads": as_released.temporal_heads(self.features)}
        self._device = options["device"]
        self._scoring = scoring_settings(**self._options)
        self._check_encoder()
        self._second = language_settings(self.lexicon, **self._options)
        self._languages: dict[bool, Languages] = {}
        self._zero_shot: list[ZeroShotPlan] = []
        self._scored: dict[str, list[Result]] = {}
        self._shaped_by: dict[str, Any] = {
            "cache": str(self.features.folder),
            "features": self.features.identity.digest,
            "encoder": self.features.identity.encoder_name,
            "lexicon": self.lexicon.name,
            "lexicon_sha256": self.lexicon.digest,
            "views": self.features.shape[1],
            "prompts": self._scoring.prompts,
            "as_released": copy.deepcopy(as_released.to_dict()),  # of this cache: the next may set others
            **(self._second.to_dict() if self._second else {}),
        }

    def _check_encoder(self) -> None:
        """Raise EncoderError where the encoder of the cache lacks texts, or several embeddings a video, that are asked for."""
        from ..pipeline.encoders import check_has_text, check_has_time

        identity, source = self.features.identity, click.get_current_context().get_parameter_source("pools")
        typed = source is click.core.ParameterSource.COMMANDLINE
        if set(self._options["protocols"]) - set(TRAINING_PROTOCOLS) and (typed or not self._heads):
            check_has_text(identity)
        if "vcs" in self._options["pools"]:
            check_has_time(identity, self.features.shape[2], "Concept spotting (--pool vcs)")

    def plan(self, protocol: str, keep: int) -> CacheTest:
        """Return what a protocol tests, after checks of all that it needs.

        keep    so many of the likeliest classes of a video are kept
        """
        from ..pipeline.evaluation import CacheTest, plan_training, plan_zero_shot

        options = self._options
        if protocol in TRAINING_PROTOCOLS:
            from ..pipeline.evaluation import FEW_SHOT_SETTINGS

            few = protocol == "few-shot"
            defaults = {name: getattr(FEW_SHOT_SETTINGS, name) for name in ("epochs", "held_out") if few}
            data = {name: options[name] for name in ("train_split", "split", "test_share", "shots", "seeds")}
            settings = train_settings(defaults, **options)
            configs = head_configs(**options)
            if found := self._languages_of(trains=True):
                configs = [each for config in configs for each in found.configs(config)]
            plan = plan_training(self.features, self.lexicon, configs, settings, protocol=protocol, **data)
        else:
            plan = plan_zero_shot(
                self.features,
                self.lexicon,
                protocol,
                options["split"],
                heads=self._heads,
                repeats=options["repeats"],
                map_convention=options["map_convention"],
            )
            if protocol != MULTI_LABEL:
                plan = replace(plan, options={**plan.options, "keep": keep})
                self._zero_shot.append(plan)
        return CacheTest(self.name, self.features, self.lexicon, plan)

    def run(self, test: CacheTest) -> Evaluated:
        """Return the results of a plan of this cache."""
        from ..cache.identity import describe_sampling
        from ..pipeline.evaluation import (
            TrainingPlan,
            class_figures,
            compare_with_first,
        )

        plan, trains = test.plan, isinstance(test.plan, TrainingPlan)
        results = self._train(plan) if isinstance(plan, TrainingPlan) else self._score(plan)
        comparisons = compare_with_first(results)
        if found := self._languages_of(trains=trains):
            from ..pipeline.evaluation import compare_with_controls

            comparisons += compare_with_controls(found, results)
        classes = {}
        if self._options["per_class"]:
            classes = {each.scorer: class_figures(each, self.lexicon) for each in results if each.predictions}
        return Evaluated(
            self.name, describe_sampling(self.features.identity.sampling), results, comparisons, classes
        )

    def prediction_rows(self, test: CacheTest, done: Evaluated) -> list[PredictionRow]:
        """Return what was said of every video; the name of the cache, where it has one, stands before the scorer's."""
        from ..pipeline.evaluation import prediction_rows

        rows = prediction_rows(self.features, self.lexicon, test.test, done.results)
        return [replace(row, scorer=f"{self.name}: {row.scorer}") if self.name else row for row in rows]

    def _languages_of(self, *, trains: bool) -> Languages | None:
        if self._second is None:
            return None
        from ..pipeline.evaluation import find_languages

        if trains not in self._languages:
            self._languages[trains] = find_languages(
                self.features,
                self.lexicon,
                self._second,
                prompts=self._scoring.prompts,
                trains=trains,
                load=self._load,
            )
        return self._languages[trains]

    @cached_property
    def _scorers(self) -> list[Scorer]:
        from ..cache import FeatureCache
        from ..pipeline.evaluation import build_scorers

        options = self._options
        retriever = FeatureCache(options["retriever"]) if options["retriever"] else None
        if retriever and options["single_view"]:
            retriever = retriever.single_view()
        validation = None
        if self._second is not None and self._second.weight is None:
            validation = validation_videos(
                self.features, self.lexicon, options["validation_split"], options["split"]
            )
        return build_scorers(
            self.features,
            self.lexicon,
            self._scoring,
            heads=self._heads,
            retriever=retriever,
            languages=self._languages_of(trains=False),
            validation=validation,
            load=self._load,
            device=self._device,
        )

    def _score(self, plan: ZeroShotPlan) -> list[Result]:
        settings = {
            **self._shaped_by,
            **self._scoring.to_dict(),
            "heads": [str(path) for path in self._options["heads"]],
            "retriever": str(self._options["retriever"] or ""),
            "repeats": self._options["repeats"],
        }
        if self._zero_shot and plan.protocol != MULTI_LABEL:
            from ..pipeline.evaluation import run_plans
            from ..pipeline.scoring import MissingAttributes, NotFinite

            # One pass for all that is asked for, tried once; where one protocol cannot be done, each by itself, up to that one.
            together, self._zero_shot = self._zero_shot, []
            with contextlib.suppress(MissingAttributes, NotFinite):
                done = run_plans(together, self._scorers, settings)
                self._scored = {of.protocol: found for of, found in zip(together, done, strict=True)}
        return self._scored.pop(plan.protocol, None) or plan.run(self._scorers, settings)

    def _train(self, plan: TrainingPlan) -> list[Result]:
        from .output import progress_bar

        folder = self._options["text_encoder"]
        classes = texts_for_heads(
            self.features,
            self.lexicon,
            plan.configs,
            prompts=self._scoring.prompts,
            text_encoder=folder,
            load=self._load,
        )
        if found := self._languages_of(trains=True):
            classes = replace(classes, seconds={each.name: each for each in found.seconds})
        settings = {**self._shaped_by, "text_encoder": folder.name if folder else ""}
        with progress_bar(f"training {self.name}".rstrip()) as advance:

            def show(run: Run) -> None:
                shots = "all" if run.shots is None else run.shots
                advance(run.number - 1, run.of, f"{run.head}, {shots} a class")

            return plan.run(classes, settings, device=self._device, on_run=show)


def cache_names(folders: Sequence[Path]) -> list[str]:
    """Return what tables call several caches: the ends of their paths, as long as it takes to tell them apart; an empty
    name for one alone. Raises UsageError for one that is given twice."""
    if len(folders) == 1:
        return [""]
    real = [Path(os.path.realpath(folder)) for folder in folders]
    for folder, place in zip(folders, real, strict=True):
        if real.count(place) > 1:
            raise click.UsageError(f"--cache {folder} is given twice: a cache stands beside others.")
    for n in range(1, max(len(path.parts) for path in real)):
        names = ["/".join(path.parts[-n:]) for path in real]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in real]


def joined(done: Sequence[Evaluated]) -> dict[str, Any]:
    """Return for JSON what a protocol gave over one cache or several."""
    documents = [each.to_json() for each in done]
    classes = {name: own for document in documents for name, own in document.get("per_class", {}).items()}
    return {
        **{
            key: [each for document in documents for each in document[key]]
            for key in ("results", "comparisons")
        },
        **({"per_class": classes} if classes else {}),
    }
