"""What `eval` scores videos with, from its options: pools, released forms, heads, attributes, fusions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import numpy as np

    from ..cache import FeatureCache
    from ..lexicons import Lexicon
    from ..pipeline.encoders import EncoderLoader
    from ..pipeline.heads import StoredHead
    from ..pipeline.scoring import Scorer


def zero_shot_scorers(features: FeatureCache, classes: Lexicon, options: dict[str, Any]) -> list[Scorer]:
    """One for each pool, released form, head and source of attributes that the options ask for, and fusions."""
    from ..pipeline.encoders import text_embeddings
    from ..pipeline.heads import HeadScorer, head_over
    from ..pipeline.scoring import (
        NO_FEATURES,
        AttributesScorer,
        FusionScorer,
        MaxScorer,
        MeanScorer,
        SpottingScorer,
        VoteScorer,
        default_fusion,
    )
    from .options import encoder_loader
    from .output import warn

    heads = stored_heads(options)
    for _, stored in heads:
        stored.check_encoder(features.identity.encoder_digest, str(features.folder))
        stored.check_features(features.shape, str(features.folder))
    load = encoder_loader(options)
    words = options["words"] if "vcs" in options["pools"] else "none"
    texts = text_embeddings(features, classes, options["prompts"], words=words, load=load)
    for phrase in texts.truncated[:3]:
        warn(f"{phrase!r} is longer than the text encoder's context, and was cut.")
    sentence = texts.sentence
    made: list[Scorer] = []
    view_average = options["view_average"]
    if view_average == "features" and features.shape[1] == 1:
        view_average = None  # one view is its own mean: concept spotting need not have features
    if view_average == "features" and "vcs" in options["pools"]:
        raise click.UsageError(f"--view-average features: {NO_FEATURES}.")
    for pool in dict.fromkeys(options["pools"]):
        if pool == "vcs":
            from ..pipeline.devices import choose_device
            from ..pipeline.scoring import ConceptSpotter, ConceptSpottingConfig

            settings = {
                key: options[key] for key in ("saliency", "recognition", "temperature", "renormalize")
            }
            device = choose_device(options["device"])
            spotter = ConceptSpotter(texts, ConceptSpottingConfig(**settings), device=device)
            made.append(SpottingScorer(spotter, view_average=view_average or "probabilities"))
        elif pool == "mean":
            made.append(MeanScorer(sentence, view_average=view_average or "features"))
        elif pool == "released-bike":
            made.append(VoteScorer(sentence, raw=True, name=pool))
        elif pool == "released-text4vis":
            made.append(MeanScorer(sentence, pool))
        else:
            made.append({"max": MaxScorer, "vote": VoteScorer}[pool](sentence))
    for path, stored in heads:
        if stored.kind == "video":
            head = head_over(stored, classes, load, features)
            name = f"{head.config.name} ({path.stem})"
            if view_average == "features" and head.config.pool == "vcs":
                raise click.UsageError(f"--view-average features, --head {path}: {NO_FEATURES}.")
            made.append(
                HeadScorer(head, temperature=stored.temperature, view_average=view_average, name=name)
            )
    videos = list(made)
    weight, form = options["fusion"], options["fusion_form"]
    if weight is None:
        weight = default_fusion(features.identity.encoder.get("architecture", {}))
    fuses = options["attributes"] or any(stored.kind == "attributes" for _, stored in heads)
    if options["fusion"] is not None and not fuses:
        raise click.UsageError(
            "--fusion goes with --attributes, or --head FILE of an attributes head alone: it has no part here."
        )
    if options["attributes"]:
        from ..pipeline.scoring import sentences_by_row
        from .attribute_sources import stored_attributes

        stored = stored_attributes(features, options, load)
        attributes = AttributesScorer(sentences_by_row(stored, features), sentence)
        made += [attributes, *(FusionScorer(video, attributes, weight, form=form) for video in videos)]
    for path, stored in heads:
        if stored.kind == "attributes":
            trained = _trained_attributes(features, classes, path, stored, load)
            made += [trained, *(FusionScorer(video, trained, weight, form=form) for video in videos)]
    names = [scorer.name for scorer in made]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise click.UsageError(
            f"two rows of the table would be called {twice!r}: give the heads other file names."
        )
    return made


def untrained_indices(
    features: FeatureCache, indices: np.ndarray, options: dict[str, Any]
) -> tuple[np.ndarray, list[str]]:
    """Which of the videos are tested, [n] booleans, and notes: those that a head was trained on are left out, unless
    --split names them."""
    import numpy as np

    if not options["heads"]:
        return np.ones(len(indices), bool), []
    from ..pipeline.evaluation import leave_out_trained

    trained_on = {f"the head {path.name}": stored.trained_on for path, stored in stored_heads(options)}
    return leave_out_trained(features, indices, trained_on, asked_for=options["split"] is not None)


def stored_heads(options: dict[str, Any]) -> list[tuple[Path, StoredHead]]:
    """The heads of --head, each read once."""
    from ..pipeline.heads import load_head

    if "stored_heads" not in options:
        options["stored_heads"] = [(path, load_head(path)) for path in options["heads"]]
    return options["stored_heads"]


def _trained_attributes(
    features: FeatureCache, classes: Lexicon, head_path: Path, head: StoredHead, load: EncoderLoader
) -> Scorer:
    """The attributes branch with the head of a file, on the attributes and prompts it was trained with."""
    from ..cache import attributes_path, read_attributes
    from ..pipeline.encoders import text_embeddings
    from ..pipeline.heads import AttributesHead, HeadError
    from ..pipeline.scoring import FROM_FILE, AttributesScorer, sentences_by_row

    settings = head.settings.get("attributes")
    if not isinstance(settings, dict) or not {"lexicon", "top"} <= settings.keys():
        raise HeadError(f"{head_path} does not say which attributes it was trained on. Train it again.")
    settings = {key: value for key, value in settings.items() if key != "view"}
    from_file = settings.get("index") == FROM_FILE  # found by nobody here, so of no view
    if features.view is not None and not from_file:
        settings["view"] = features.view
    path = attributes_path(features.folder, str(settings["lexicon"]), settings)
    if not path.exists():
        make = "`vidclip attributes`"
        if features.view is not None:
            make = f"`vidclip eval --single-view --attributes {settings['lexicon']}`"
        raise HeadError(
            f"{features.folder} has no attributes like those the head was trained on (lexicon "
            f"{settings['lexicon']}, top {settings['top']}): make them with {make}."
        )
    stored = read_attributes(path)
    if list(stored.ids) != features.ids and not from_file:
        raise HeadError(
            f"{path} is of other videos than {features.folder} now has; run `vidclip attributes` again."
        )
    texts = text_embeddings(features, classes, head.prompts, words="none", load=load)
    if not isinstance(head.module, AttributesHead):
        raise HeadError(f"{head_path} is no attributes head.")
    return AttributesScorer(
        *head.module.apply_to(sentences_by_row(stored, features), texts.sentence),
        f"attributes, trained ({head_path.stem})",
        temperature=head.temperature,
    )
