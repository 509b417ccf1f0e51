"""The attributes branch of BIKE with a trained head, over the attributes that a cache keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ...cache import FeatureCache, StoredAttributes, attributes_path, read_attributes
from ...lexicons import Lexicon
from ..encoders import EncoderLoader, text_embeddings
from ..heads import AttributesHead, HeadError, StoredHead
from ..scoring import FROM_FILE, AttributesScorer, Scorer, attributes_key, sentences_by_row

_OF_FILES = {"top": "--top", "prompt": "--attributes-prompt"}
"""What a head asks of the attributes of files: the setting, and the option that says it."""


def trained_attributes(
    cache: FeatureCache,
    lexicon: Lexicon,
    name: str,
    head: StoredHead,
    load: EncoderLoader,
    *,
    retriever: FeatureCache | None = None,
    given: StoredAttributes | None = None,
) -> Scorer:
    """The attributes branch with a trained head, on the attributes and prompts it was trained with.

    An imported head says how its attributes are found, but no cache that found them. It reads those that `retriever`
    (default: `cache`) finds, or, where `given` are of a file, these.
    """
    settings = head.settings.get("attributes")
    if not isinstance(settings, dict) or not {"lexicon", "top"} <= settings.keys():
        raise HeadError(f"the head {name} does not say which attributes it was trained on. Train it again.")
    imported = "retriever" not in settings
    if imported and given is not None and given.settings.get("index") == FROM_FILE:
        for key, option in _OF_FILES.items():
            if given.settings.get(key) != settings.get(key):
                raise HeadError(
                    f"the head {name} reads attributes of {option} {settings.get(key)!r}, and is given those of "
                    f"{option} {given.settings.get(key)!r}."
                )
        stored = given
    else:
        stored = _kept(cache, settings, imported, cache if retriever is None else retriever)
    if not isinstance(head.module, AttributesHead):
        raise HeadError(f"the head {name} is no attributes head.")
    texts = text_embeddings(cache, lexicon, head.prompts, words="none", load=load)
    return AttributesScorer(
        *head.module.apply_to(sentences_by_row(stored, cache), texts.sentence),
        f"attributes, trained ({PurePath(name).stem})",
        temperature=head.temperature,
    )


def _kept(
    cache: FeatureCache, settings: Mapping[str, Any], imported: bool, retriever: FeatureCache
) -> StoredAttributes:
    """Return the attributes of a head's settings that the cache keeps. Raises HeadError where there are none."""
    settings = {key: value for key, value in settings.items() if key != "view"}
    from_file = settings.get("index") == FROM_FILE  # not retrieved here, so of no view
    if imported:
        settings = attributes_key(settings, cache, retriever)
    elif cache.view is not None and not from_file:
        settings["view"] = cache.view
    path = attributes_path(cache.folder, str(settings["lexicon"]), settings)
    if not path.exists():
        make = "`vidclip attributes`"
        if imported or cache.view is not None:
            single = "--single-view " if cache.view is not None else ""
            make = f"`vidclip eval {single}--attributes {settings['lexicon']}`"
        raise HeadError(
            f"{cache.folder} has no attributes like those the head was trained on (lexicon "
            f"{settings['lexicon']}, top {settings['top']}): make them with {make}."
        )
    stored = read_attributes(path)
    if cache.ids != stored.ids and not from_file:
        raise HeadError(
            f"{path} is of other videos than {cache.folder} now has; run `vidclip attributes` again."
        )
    return stored
