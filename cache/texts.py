"""Text embeddings beside the features: `text-<lexicon>-<digest>.h5`.

    sentence   [C, D] float32      end-of-text embedding of each phrase in its prompt, projected
    words      [W, D] float32      embeddings of the phrases' words, through the same norm and projection
    offsets    [C + 1] int64       words of phrase c: words[offsets[c]:offsets[c + 1]]
    phrases, prompts, truncated_phrases    UTF-8 text

and the attributes `format`, `version`, `encoder` (digest), `lexicon`, `word_mode`, `precision` (of the text encoder) and
`name` (that of the file); where another text tower than the encoder's made them, `tower` (how it was asked for), and
`encoder` is then that tower's digest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import CacheError
from .files import write_whole
from .hdf5 import Contents, file_parts
from .identity import digest_of
from .layout import TEXT_FORMAT, check_digest
from .open_file import OpenFile, describe, describe_all


@dataclass(frozen=True)
class TextEmbeddings:
    """Embeddings of C phrases under one or several prompts."""

    phrases: tuple[str, ...]
    prompts: tuple[str, ...]
    """Each with one `{}` where the phrase goes."""
    word_mode: str
    """Which tokens are words: name, sentence, all; or none, for a text tower without token embeddings."""
    sentence: np.ndarray
    """[C, D] float32, not normalized for one prompt; for several, the L2-normalized mean of L2-normalized embeddings."""
    words: np.ndarray
    """[W, D] float32, not normalized; of several prompts, one prompt's words after the other's."""
    offsets: np.ndarray
    """[C + 1] int64: the words of phrase c are words[offsets[c]:offsets[c + 1]]."""
    truncated: tuple[str, ...] = ()
    """Phrases that were longer than the context and have been cut."""

    def __post_init__(self) -> None:
        count = len(self.phrases)
        if self.sentence.ndim != 2 or len(self.sentence) != count or len(self.offsets) != count + 1:
            raise ValueError(
                f"{count} phrases, but sentence {self.sentence.shape} and offsets {self.offsets.shape}"
            )
        if self.words.ndim != 2 or self.offsets[-1] != len(self.words):
            raise ValueError(f"offsets end at {self.offsets[-1]}, words are {self.words.shape}")

    def without_words(self) -> TextEmbeddings:
        """Return the sentences alone, as the word mode none has them."""
        words, offsets = self.words[:0], np.zeros(len(self.phrases) + 1, np.int64)
        return replace(self, word_mode="none", words=words, offsets=offsets)


def text_path(
    folder: Path,
    lexicon: str,
    phrases: Sequence[str],
    prompts: Sequence[str],
    word_mode: str,
    encoder_digest: str,
    precision: str = "fp32",
) -> Path:
    """Return where these embeddings are kept: a file for each set of phrases, prompts, word mode, encoder and precision.

    precision    in which the text encoder ran; "" for files from before it was part of the key
    """
    key = digest_of(
        [list(phrases), list(prompts), word_mode, encoder_digest, *([precision] if precision else [])]
    )
    return folder / f"text-{file_name_part(lexicon)}-{key[:12]}.h5"


def file_name_part(name: str) -> str:
    """Return a lexicon's name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", name)[:60]


def write_texts(
    path: Path,
    texts: TextEmbeddings,
    *,
    lexicon: str,
    encoder_digest: str,
    precision: str = "fp32",
    tower: str = "",
) -> None:
    """Write text embeddings to a file. Raises OSError with nothing left behind.

    encoder_digest    digest of the cache's encoder, or of the text tower that made them
    tower             name of that text tower; empty: they are those of the cache's encoder
    """
    columns = {
        "sentence": np.asarray(texts.sentence, np.float32),
        "words": np.asarray(texts.words, np.float32),
        "offsets": np.asarray(texts.offsets, np.int64),
        "phrases": list(texts.phrases),
        "prompts": list(texts.prompts),
        "truncated_phrases": list(texts.truncated),
    }
    attributes = {
        "format": TEXT_FORMAT,
        "encoder": encoder_digest,
        "lexicon": lexicon,
        "word_mode": texts.word_mode,
        "precision": precision,
        "name": path.name,
        **({"tower": tower} if tower else {}),
    }
    write_whole(path, *file_parts(columns, attributes))


def read_texts(
    path: Path,
    encoder_digest: str,
    *,
    towers: bool = False,
    whole: bool = False,
    contents: Contents | CacheError | None = None,
) -> TextEmbeddings:
    """Read text embeddings. Raises CacheError where the file is damaged, of another encoder, or renamed.

    towers      whether a file may also be that of any other text tower, which a cache keeps beside its encoder's own
    whole       whether the bytes are checked too that are neither embeddings nor text, but HDF5's own
    contents    what `describe_all` says of the file
    """
    with OpenFile(path, TEXT_FORMAT, contents) as file:
        if whole:
            file.check_image()
        of_tower = towers and bool(file.attributes.get("tower"))
        if file.attributes.get("encoder") != encoder_digest and not of_tower:
            raise CacheError(f"{path} holds text embeddings of another encoder; delete it.")
        _check_name(file)
        phrases = file.read_strings("phrases")
        sentence = file.read_numbers("sentence", np.float32, (len(phrases), None))
        columns = {
            "sentence": sentence,
            "words": file.read_numbers("words", np.float32, (None, sentence.shape[1])),
            "offsets": file.read_numbers("offsets", np.int64, (len(phrases) + 1,)),
            "phrases": phrases,
            "prompts": file.read_strings("prompts"),
            "truncated_phrases": file.read_strings("truncated_phrases"),
        }
        check_digest(file, columns)
        offsets = columns["offsets"]
        if offsets[0] != 0 or offsets[-1] != len(columns["words"]) or (np.diff(offsets) < 0).any():
            raise file.damaged("the offsets of its words do not fit")
        if not (np.isfinite(sentence).all() and np.isfinite(columns["words"]).all()):
            raise file.damaged("it has embeddings that are not finite")
        return TextEmbeddings(
            phrases=tuple(phrases),
            prompts=tuple(columns["prompts"]),
            word_mode=str(file.attributes.get("word_mode", "")),
            sentence=sentence,
            words=columns["words"],
            offsets=columns["offsets"],
            truncated=tuple(columns["truncated_phrases"]),
        )


def _check_name(file: OpenFile) -> None:
    """Raise CacheError for a file that was renamed: the name says which phrases and prompts are inside. Older files
    do not store theirs."""
    name = file.attributes.get("name", file.path.name)
    if name != file.path.name:
        raise CacheError(
            f"{file.path} was written under the name {name!r}, so it may hold other phrases or prompts than its name "
            "says. Give it its name back, or delete it: it is computed again when it is needed."
        )


def copy_texts(source: Path, target: Path, encoder_digest: str) -> None:
    """Write the embeddings of one file to another, after checking every byte. Raises CacheError, OSError.

    encoder_digest    that of the cache's encoder; a file of another text tower keeps its own
    """
    contents = describe(source)
    texts = read_texts(source, encoder_digest, towers=True, whole=True, contents=contents)
    keys = ("lexicon", "encoder", "precision", "tower")
    lexicon, digest, precision, tower = (str(contents.attributes.get(key, "")) for key in keys)
    write_texts(target, texts, lexicon=lexicon, encoder_digest=digest, precision=precision, tower=tower)


@dataclass(frozen=True)
class TextFileInfo:
    """One text file of a cache, at a glance."""

    path: Path
    lexicon: str
    phrases: int
    prompts: tuple[str, ...]
    word_mode: str
    tower: str = ""
    """Which text tower made them; empty: the cache's encoder."""


def list_texts(folder: Path) -> list[TextFileInfo]:
    """Return what each text file of a cache holds. Raises CacheError for a damaged or renamed one."""
    infos = []
    for path, found in describe_all(sorted(folder.glob("text-*.h5"))).items():
        with OpenFile(path, TEXT_FORMAT, found) as file:
            _check_name(file)
            infos.append(
                TextFileInfo(
                    path,
                    str(file.attributes.get("lexicon", "")),
                    len(file.read_strings("phrases")),
                    tuple(file.read_strings("prompts")),
                    str(file.attributes.get("word_mode", "")),
                    str(file.attributes.get("tower", "")),
                )
            )
    return infos
