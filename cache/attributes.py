"""Attributes beside the features: `attributes-<lexicon>-<digest>.h5`.

    phrases       P    UTF-8 text: the lexicon, or the lexicons one after the other
    ids           n    UTF-8 text: the videos
    top           [n, K] int64      the K nearest phrases of each video, best first
    similarity    [n, K] float32    their cosines
    sentence      [n, D] float32    embedding of the attributes sentence in its prompt, not normalized

and the attributes `format`, `version` and `settings` (JSON: prompt, retriever, reader, index).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import CacheError
from .files import write_whole
from .hdf5 import Contents, file_parts
from .identity import digest_of
from .layout import check_digest
from .open_file import OpenFile
from .texts import file_name_part

ATTRIBUTES_FORMAT = "vidclip-attributes"


@dataclass(frozen=True)
class StoredAttributes:
    """The attributes of n videos."""

    phrases: tuple[str, ...]
    ids: tuple[str, ...]
    top: np.ndarray
    """[n, K] int64 indices of phrases, best first."""
    similarity: np.ndarray
    """[n, K] float32."""
    sentence: np.ndarray
    """[n, D] float32, not normalized."""
    settings: Mapping[str, Any]
    """What shaped them; JSON-able."""

    def of(self, index: int) -> list[str]:
        """Return the phrases of one video, best first."""
        return [self.phrases[i] for i in self.top[index]]


def attributes_path(folder: Path, lexicon: str, settings: Mapping[str, Any]) -> Path:
    """Return where attributes with these settings are kept."""
    return folder / f"attributes-{file_name_part(lexicon)}-{digest_of(dict(settings))[:12]}.h5"


def write_attributes(path: Path, attributes: StoredAttributes) -> None:
    """Write attributes to a file. Raises OSError with nothing left behind."""
    columns = {
        "phrases": list(attributes.phrases),
        "ids": list(attributes.ids),
        "top": np.asarray(attributes.top, np.int64),
        "similarity": np.asarray(attributes.similarity, np.float32),
        "sentence": np.asarray(attributes.sentence, np.float32),
    }
    settings = json.dumps(dict(attributes.settings))
    write_whole(path, *file_parts(columns, {"format": ATTRIBUTES_FORMAT, "settings": settings}))


def read_attributes(
    path: Path, *, whole: bool = False, contents: Contents | CacheError | None = None
) -> StoredAttributes:
    """Read attributes. Raises CacheError where the file is damaged or foreign.

    See `read_texts` for `whole` and `contents`.
    """
    with OpenFile(path, ATTRIBUTES_FORMAT, contents) as file:
        if whole:
            file.check_image()
        phrases, ids = file.read_strings("phrases"), file.read_strings("ids")
        top = file.read_numbers("top", np.int64, (len(ids), None))
        columns = {
            "phrases": phrases,
            "ids": ids,
            "top": top,
            "similarity": file.read_numbers("similarity", np.float32, top.shape),
            "sentence": file.read_numbers("sentence", np.float32, (len(ids), None)),
        }
        check_digest(file, columns)
        try:
            settings = json.loads(file.attributes["settings"])
            settings["lexicon"]
        except (KeyError, ValueError, TypeError, RecursionError):
            raise CacheError(f"{path} does not say how its attributes were made; delete it.") from None
        if attributes_path(path.parent, str(settings.get("lexicon", "")), settings).name != path.name:
            raise CacheError(f"{path} holds attributes of other settings than its name says; delete it.")
        if not (np.isfinite(columns["similarity"]).all() and np.isfinite(columns["sentence"]).all()):
            raise file.damaged("it has numbers that are not finite")
        if top.size and not 0 <= top.min() <= top.max() < len(phrases):
            raise file.damaged("its attributes are none of its phrases")
        return StoredAttributes(
            tuple(phrases), tuple(ids), top, columns["similarity"], columns["sentence"], settings
        )
