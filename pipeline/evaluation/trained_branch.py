"""The attributes branch of BIKE with a trained head, over the attributes that a cache keeps."""

from __future__ import annotations

from pathlib import PurePath

from ...cache import FeatureCache, attributes_path, read_attributes
from ...lexicons import Lexicon
from ..encoders import EncoderLoader, text_embeddings
from ..heads import AttributesHead, HeadError, StoredHead
from ..scoring import FROM_FILE, AttributesScorer, Scorer, sentences_by_row


def trained_attributes(
    cache: FeatureCache, lexicon: Lexicon, name: str, head: StoredHead, load: EncoderLoader
) -> Scorer:
    """The attributes branch with a trained head, on the attributes and prompts it was trained with."""
    settings = head.settings.get("attributes")
    if not isinstance(settings, dict) or not {"lexicon", "top"} <= settings.keys():
        raise HeadError(f"the head {name} does not say which attributes it was trained on. Train it again.")
    settings = {key: value for key, value in settings.items() if key != "view"}
    from_file = settings.get("index") == FROM_FILE  # not retrieved here, so of no view
    if cache.view is not None and not from_file:
        settings["view"] = cache.view
    path = attributes_path(cache.folder, str(settings["lexicon"]), settings)
    if not path.exists():
        make = "`vidclip attributes`"
        if cache.view is not None:
            make = f"`vidclip eval --single-view --attributes {settings['lexicon']}`"
        raise HeadError(
            f"{cache.folder} has no attributes like those the head was trained on (lexicon "
            f"{settings['lexicon']}, top {settings['top']}): make them with {make}."
        )
    stored = read_attributes(path)
    if list(stored.ids) != cache.ids and not from_file:
        raise HeadError(
            f"{path} is of other videos than {cache.folder} now has; run `vidclip attributes` again."
        )
    if not isinstance(head.module, AttributesHead):
        raise HeadError(f"the head {name} is no attributes head.")
    texts = text_embeddings(cache, lexicon, head.prompts, words="none", load=load)
    return AttributesScorer(
        *head.module.apply_to(sentences_by_row(stored, cache), texts.sentence),
        f"attributes, trained ({PurePath(name).stem})",
        temperature=head.temperature,
    )
