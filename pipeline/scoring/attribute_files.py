"""Attributes from files: the JSON files that BIKE publishes.

    {"abseiling/0347ZoDXyP0_000095_000105": {"classname_topk": ["abseiling", "rock climbing", ...]}, ...}

The phrases of a video stand best first; other lists of a video are left aside. Videos are named as in BIKE's lists,
and found again among the ids of a cache by the end of their path, without the suffix of a video file.

Source: Wu et al. 2023 (BIKE), released code (datasets/video_attr.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cache import FeatureCache, Identity, StoredAttributes
from ...lexicons import load_lexicon
from ..datasets.folders import stem_of
from .attributes import (
    PROMPT,
    AttributesError,
    AttributeSettings,
    VideoAttributes,
    attributes_of,
    keep_attributes,
    kept_attributes,
)

if TYPE_CHECKING:
    from ..encoders import Encoder

FIELD = "classname_topk"
FROM_FILE = "file"
"""In the settings of stored attributes, in the place of the index and of the cache that retrieved them."""

_MOST_BYTES = 512 * 2**20
_LONGEST_PHRASE = 1000
_MOST_PHRASES = 10_000
_PARTS = 8
"""How many parts of a path are compared, from its end."""


@dataclass(frozen=True)
class AttributeFile:
    """One such file."""

    path: Path
    digest: str
    """SHA-256 of its bytes."""
    phrases: Mapping[str, tuple[str, ...]]
    """{video as the file names it: its phrases, best first}."""


def read_attribute_file(path: Path) -> AttributeFile:
    """Read one file. Raises AttributesError for what is no such file, or is too large for one."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise AttributesError(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(data) > _MOST_BYTES:
        raise AttributesError(
            f"{path} is larger than {_MOST_BYTES >> 20} MiB: this is no file of attributes."
        )
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_each_once)
    except json.JSONDecodeError as error:
        raise AttributesError(f"{path}, row {error.lineno} is not JSON: {error.msg}.") from None
    except (ValueError, RecursionError) as error:
        raise AttributesError(f"{path} is not JSON that can be read: {error}.") from None
    if not isinstance(content, dict) or not content:
        raise AttributesError(f'{path} is not of the form {{video: {{"{FIELD}": [phrases]}}}}.')
    return AttributeFile(
        path,
        hashlib.sha256(data).hexdigest(),
        {video: _phrases(path, video, entry) for video, entry in content.items()},
    )


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:200]!r} stands in it twice")
        found[name] = value
    return found


def _phrases(path: Path, video: str, entry: Any) -> tuple[str, ...]:
    where = f"{path}, video {video[:200]!r}"
    phrases = entry.get(FIELD) if isinstance(entry, dict) else None
    if not isinstance(phrases, list) or not phrases:
        raise AttributesError(f'{where} has no list "{FIELD}" of phrases.')
    if len(phrases) > _MOST_PHRASES:
        raise AttributesError(f"{where} has {len(phrases):,} phrases; {_MOST_PHRASES:,} at most can be.")
    for phrase in phrases:
        if not isinstance(phrase, str) or not phrase.strip() or len(phrase) > _LONGEST_PHRASE:
            raise AttributesError(f"{where}: {str(phrase)[:50]!r} is not a phrase.")
        try:
            phrase.encode("utf-8")
        except UnicodeEncodeError:
            raise AttributesError(f"{where}: {phrase[:50]!r} is not a text.") from None
    return tuple(phrases)


def match_videos(ids: Iterable[str], names: Iterable[str], what: str = "the file") -> dict[str, str]:
    """Return which of the `names` each of the `ids` is: id -> name, without those that have none.

    A name that is the id itself is taken first; else that which has most of the end of the path in common with it, at
    least the file's name without the suffix of a video. Of several ids that one name would fit, it goes to that with
    most in common.
    Raises AttributesError where two names fit an id equally well, or two ids a name.
    """
    names = list(names)
    known = set(names)
    by_end: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        parts = _parts(name)
        for length in range(1, len(parts) + 1):
            several = by_end.setdefault(parts[-length:], [])
            if len(several) < 2:
                several.append(name)
    claims: dict[str, list[tuple[float, str]]] = {}
    for id in ids:
        if id in known:
            claims.setdefault(id, []).append((float("inf"), id))
            continue
        parts = _parts(id)
        for length in range(len(parts), 0, -1):
            several = by_end.get(parts[-length:], [])
            if len(several) > 1:
                raise AttributesError(
                    f"the video {id!r} may be {several[0]!r} or {several[1]!r} of {what}: leave one of them out of it."
                )
            if several:
                claims.setdefault(several[0], []).append((length, id))
                break
    found = {}
    for name, claimants in claims.items():
        claimants.sort(key=lambda claim: -claim[0])
        if len(claimants) > 1 and claimants[0][0] == claimants[1][0]:
            raise AttributesError(
                f"{name!r} of {what} may be the video {claimants[0][1]!r} or {claimants[1][1]!r}: give it a path that "
                "tells them apart."
            )
        found[claimants[0][1]] = name
    return found


def _parts(name: str) -> tuple[str, ...]:
    parts = [part for part in stem_of(name).replace("\\", "/").split("/") if part not in ("", ".")]
    return tuple(parts[-_PARTS:]) or ("",)


def attributes_from_files(
    cache: FeatureCache,
    files: Sequence[AttributeFile],
    *,
    top: int = 5,
    prompt: str = PROMPT,
    load: Callable[[Identity], Encoder] | None = None,
) -> VideoAttributes:
    """Return the attributes that the files give the videos of `cache`, their sentences embedded, from where they are
    kept or computed and kept there.

    files     of different videos: the published ones are those of training and those of validation
    top       how many phrases of a video make its sentence
    prompt    around the attributes sentence

    Raises AttributesError where no video of the cache is in a file, one is in two, or one has fewer phrases than
    `top`; EncoderError where the encoder is needed and cannot be had.
    """
    what = " and ".join(str(file.path) for file in files)
    phrases: dict[str, tuple[str, ...]] = {}
    for file in files:
        both = next((video for video in file.phrases if video in phrases), None)
        if both is not None:
            raise AttributesError(f"the video {both[:200]!r} is in two of {what}: leave it out of one.")
        phrases.update(file.phrases)
    name_of = match_videos(cache.ids, phrases, what)
    if not name_of:
        raise AttributesError(
            f"no video of {cache.folder} is in {what}: the cache has {cache.ids[0]!r} and the like, the file "
            f"{next(iter(phrases))[:200]!r}."
            if len(cache)
            else f"{cache.folder} has no videos yet; run `vidclip extract` first."
        )
    ids = tuple(id for id in cache.ids if id in name_of)
    for id in ids:
        if len(phrases[name_of[id]]) < top:
            raise AttributesError(
                f"the video {id!r} has {len(phrases[name_of[id]])} phrases in {what}, and {top} are asked for: give a "
                "smaller --top."
            )
    of_video = [phrases[name_of[id]][:top] for id in ids]
    key = {
        "lexicon": "+".join(file.path.stem for file in files),
        "lexicon_sha256": [file.digest for file in files],
        "top": top,
        "index": FROM_FILE,
        "prompt": prompt,
        "phrase_prompt": "",
        "retriever": FROM_FILE,
        "reader": cache.identity.encoder_digest,
    }
    coverage = {
        "without": tuple(id for id in cache.ids if id not in name_of),
        "unknown": len(phrases) - len(name_of),
    }
    stored = kept_attributes(cache, key, ids)
    if stored is not None:
        return VideoAttributes(stored, computed=False, **coverage)
    lexicon = tuple(dict.fromkeys(phrase for own in of_video for phrase in own))
    place = {phrase: i for i, phrase in enumerate(lexicon)}
    indices = np.array([[place[phrase] for phrase in own] for own in of_video], np.int64)
    unknown = np.zeros(indices.shape, np.float32)  # the files do not say how near a phrase is
    stored, truncated = keep_attributes(cache, key, ids, lexicon, indices, unknown, load)
    return VideoAttributes(stored, True, truncated=truncated, **coverage)


def find_attributes(
    cache: FeatureCache,
    sources: Sequence[str],
    settings: AttributeSettings | None = None,
    *,
    retriever: FeatureCache | None = None,
    load: Callable[[Identity], Encoder] | None = None,
) -> VideoAttributes:
    """Return the attributes from lexicons (names or text files), or from .json files such as BIKE publishes.

    Raises AttributesError for lexicons and files together, or for a retriever beside files: nothing is retrieved;
    what `attributes_of` and `attributes_from_files` raise.
    """
    settings = settings or AttributeSettings()
    files = [Path(source) for source in dict.fromkeys(sources) if source.lower().endswith(".json")]
    if not files:
        lexicons = [load_lexicon(source) for source in sources]
        return attributes_of(cache, lexicons, settings, retriever=retriever, load=load)
    if len(files) < len(set(sources)):
        raise AttributesError(
            "--attributes takes lexicons, or .json files that name each video's attributes; not both at once."
        )
    if retriever is not None:
        raise AttributesError(
            "--retriever has no part where files name the attributes: nothing is retrieved."
        )
    read = [read_attribute_file(path) for path in files]
    return attributes_from_files(cache, read, top=settings.top, prompt=settings.prompt, load=load)


def sentences_by_row(stored: StoredAttributes, cache: FeatureCache) -> np.ndarray:
    """Return the embeddings [N, D] of the attributes sentences, by position in the cache; NaN where a video has none."""
    place = {id: i for i, id in enumerate(stored.ids)}
    found = np.full((len(cache), stored.sentence.shape[1]), np.nan, np.float32)
    indices = [index for index, id in enumerate(cache.ids) if id in place]
    found[indices] = stored.sentence[[place[cache.ids[index]] for index in indices]]
    return found
