"""Video-Attribute Association: the phrases of a lexicon that are nearest to a video, and their sentence.

The mean frame embedding of a video is compared with all phrases; the top few, joined by "," in a prompt,
make its attributes sentence, which the text tower reads again. What retrieves and what reads may be two
encoders (in the paper ViT-L/14 retrieves, the text tower of ViT-B/32 reads).

N videos, P phrases, K attributes, D dimensions. Source: Wu et al. 2023 (BIKE), section 2.2 and A.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from ...cache import (
    FeatureCache,
    Identity,
    StoredAttributes,
    attributes_path,
    read_attributes,
    where_writable,
    write_attributes,
)
from ...cache.identity import digest_of
from ...lexicons import Lexicon
from ..choices import INDEXES
from ..encoders import EncoderLoader, text_embeddings
from .pooling import l2_normalize, mean_embeddings

if TYPE_CHECKING:
    from ..encoders import Encoder

LEAST_RECALL = 0.95
"""The recall of an approximate index below which a warning is given."""
PROMPT = "This is a video about {}"


class AttributesError(ValueError):
    """Attributes that cannot be had: an empty lexicon, two caches that do not fit."""


@dataclass(frozen=True)
class Found:
    """The nearest phrases of N videos."""

    top: np.ndarray
    """[N, K] int64 indices of phrases, best first."""
    similarity: np.ndarray
    """[N, K] float32 cosines."""
    recall: float | None
    """Share of the exact top K that an approximate index found, on a sample; None for the exact one."""


def retrieve(
    videos: np.ndarray, phrases: np.ndarray, top: int = 5, *, index: str = "exact", seed: int = 0
) -> Found:
    """Return the `top` phrases nearest to each video by cosine, with FAISS (on a GPU where it sees one).

    videos     [N, D] embeddings
    phrases    [P, D] embeddings
    index      `exact`; `ivf` (inverted lists) or `hnsw` (graph), for millions of phrases

    Raises AttributesError for no phrases, fewer than `top` of them, or two different D; ValueError for
    an unknown index.
    """
    if index not in INDEXES:
        raise ValueError(f"index must be one of {', '.join(INDEXES)}, got {index!r}")
    if not 1 <= top <= len(phrases):
        raise AttributesError(f"{top} attributes were asked for, and the lexicon has {len(phrases)} phrases")
    if videos.shape[1] != phrases.shape[1]:
        raise AttributesError(
            f"videos have {videos.shape[1]} dimensions, phrases {phrases.shape[1]}: they are of different encoders"
        )
    queries, known = l2_normalize(videos), l2_normalize(phrases)
    searcher = _index(known, index, seed)
    similarity, nearest = searcher.search(queries, top)
    recall = None
    if index != "exact":
        sample = np.random.default_rng(seed).permutation(len(queries))[:1000]
        exact = _index(known, "exact", seed).search(queries[sample], top)[1]
        hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, nearest[sample], strict=True)]
        recall = float(np.mean(hits) / top) if hits else 1.0
    return Found(nearest.astype(np.int64), similarity.astype(np.float32), recall)


def _index(phrases: np.ndarray, kind: str, seed: int) -> Any:
    n, dimensions = phrases.shape
    if kind == "hnsw":
        made: Any = faiss.IndexHNSWFlat(dimensions, 32, faiss.METRIC_INNER_PRODUCT)
        made.hnsw.efConstruction, made.hnsw.efSearch = 200, 128
    elif kind == "ivf":
        lists = max(1, min(int(4 * np.sqrt(n)), n // 39))  # FAISS wants 39 phrases to place a list
        made = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(dimensions), dimensions, lists, faiss.METRIC_INNER_PRODUCT
        )
        made.cp.seed = seed
        made.nprobe = max(1, lists // 8)
        made.train(phrases)
    else:
        made = faiss.IndexFlatIP(dimensions)
    if kind != "hnsw" and getattr(faiss, "get_num_gpus", lambda: 0)():
        made = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, made)
    made.add(phrases)
    return made


def attributes_sentence(phrases: Sequence[str]) -> str:
    """Return `ball,park,running`, which goes into the prompt: no space, no full stop, as in the released code."""
    return ",".join(phrases)


@dataclass(frozen=True)
class AttributeSettings:
    """How the attributes of videos are found and read. Raises ValueError for what cannot be."""

    top: int = 5
    """Phrases of a video."""
    index: str = "exact"
    """One of INDEXES: how the nearest phrases are searched."""
    prompt: str = PROMPT
    """Around the attributes sentence."""
    phrase_prompt: str = "{}"
    """Around each phrase when it is retrieved; released BIKE has none."""

    def __post_init__(self) -> None:
        if self.index not in INDEXES:
            raise ValueError(f"index must be one of {', '.join(INDEXES)}, got {self.index!r}")
        if self.top < 1:
            raise ValueError(f"top must be at least 1, got {self.top}")

    def of(self, lexicons: Sequence[Lexicon]) -> dict[str, Any]:
        """Return what shapes attributes whoever retrieves and reads them: see `attributes_key`."""
        return {
            "lexicon": "+".join(lexicon.name for lexicon in lexicons),
            "lexicon_sha256": [lexicon.digest for lexicon in lexicons],
            **asdict(self),
        }

    def key(
        self, cache: FeatureCache, lexicons: Sequence[Lexicon], retriever: FeatureCache
    ) -> dict[str, Any]:
        """Return all that shapes attributes: see `attributes_key`."""
        return attributes_key(self.of(lexicons), cache, retriever)


def attributes_key(
    settings: Mapping[str, Any], cache: FeatureCache, retriever: FeatureCache
) -> dict[str, Any]:
    """Return all that shapes attributes, of `AttributeSettings.of` and the caches: they are kept under its digest."""
    read_anew = {video.id: video.generation for video in retriever.videos if video.generation}
    precisions = sorted(set(retriever.precisions) - {"fp32"})
    return {
        **({"read_anew": digest_of(read_anew)} if read_anew else {}),  # other features under the same ids
        **({"precision": precisions} if precisions and retriever.folder != cache.folder else {}),
        **settings,
        "retriever": retriever.identity.digest,
        "reader": cache.identity.encoder_digest,
        # Only where it is so: attributes that were kept before this was asked are of all views.
        **({} if retriever.view is None else {"view": retriever.view}),
    }


@dataclass(frozen=True)
class VideoAttributes:
    """The attributes of videos, and how they were had."""

    stored: StoredAttributes
    computed: bool
    """Whether they were found now; else they were kept in the cache."""
    recall: float | None = None
    """Share of the exact top K that an approximate index found, on a sample; None for the exact one."""
    truncated: tuple[str, ...] = ()
    """Phrases and attributes sentences that were longer than the context, and have been cut."""
    without: tuple[str, ...] = ()
    """Ids of the cache's videos that files of attributes do not name."""
    unknown: int = 0
    """Videos of such files that the cache does not have."""

    def without_note(self, cache: FeatureCache) -> str:
        """Return a sentence on the videos without attributes; empty where all have some."""
        if not self.without:
            return ""
        named = ", ".join(self.without[:3]) + (", ..." if len(self.without) > 3 else "")
        videos = "video" if len(self.without) == 1 else "videos"
        lexicon = self.stored.settings["lexicon"]
        return f"{len(self.without):,} {videos} of {cache.folder} without attributes in {lexicon}: {named}."


def attributes_of(
    cache: FeatureCache,
    lexicons: Sequence[Lexicon],
    settings: AttributeSettings | None = None,
    *,
    retriever: FeatureCache | None = None,
    load: Callable[[Identity], Encoder] | None = None,
) -> VideoAttributes:
    """Return the attributes of all videos of `cache`, from where they are kept or computed and kept there.

    lexicons         their phrases together, each phrase once
    retriever        the cache whose features retrieve; default `cache`. It must hold the same videos

    Raises AttributesError where videos of `cache` are missing in `retriever`, EncoderError where an
    encoder is needed and cannot be had.
    """
    retriever = cache if retriever is None else retriever  # an empty cache is false
    settings = settings or AttributeSettings()
    phrases = tuple(dict.fromkeys(phrase for lexicon in lexicons for phrase in lexicon.phrases))
    key = settings.key(cache, lexicons, retriever)
    stored = kept_attributes(cache, key, cache.ids)
    if stored is not None:
        return VideoAttributes(stored, computed=False)
    if len(cache) == 0:
        raise AttributesError(f"{cache.folder} has no videos yet; run `vidclip extract` first.")
    missing = [id for id in cache.ids if id not in retriever]
    if missing:
        raise AttributesError(
            f"{len(missing)} videos of {cache.folder} are not in {retriever.folder}, the first is {missing[0]!r}; "
            "extract the same videos with both encoders."
        )
    load = load or EncoderLoader()
    texts = text_embeddings(
        retriever,
        Lexicon(key["lexicon"], phrases, phrases),
        [settings.phrase_prompt],
        words="none",
        load=load,
    )
    indices = np.array([retriever.index(id) for id in cache.ids])
    videos = np.empty((len(indices), retriever.shape[3]), np.float32)
    for places, _, frames in retriever.scan(1024, indices):
        videos[places] = mean_embeddings(frames)
    found = retrieve(videos, texts.sentence, settings.top, index=settings.index)
    stored, truncated = keep_attributes(cache, key, cache.ids, phrases, found.top, found.similarity, load)
    return VideoAttributes(stored, True, found.recall, (*texts.truncated, *truncated))


def kept_attributes(
    cache: FeatureCache, key: Mapping[str, Any], ids: Sequence[str]
) -> StoredAttributes | None:
    """Return the attributes of these videos that the cache keeps under `key`; None where it has none."""
    path = attributes_path(cache.folder, key["lexicon"], key)
    stored = read_attributes(path) if path.exists() else None
    return stored if stored is not None and list(stored.ids) == list(ids) else None


def keep_attributes(
    cache: FeatureCache,
    key: Mapping[str, Any],
    ids: Sequence[str],
    phrases: tuple[str, ...],
    top: np.ndarray,
    similarity: np.ndarray,
    load: Callable[[Identity], Encoder] | None,
) -> tuple[StoredAttributes, tuple[str, ...]]:
    """Embed the attributes sentences of n videos with the cache's encoder, and keep the attributes under `key`.

    top           [n, K] int64 indices of phrases, best first
    similarity    [n, K] float32
    Returns (the attributes, the prompted sentences that were cut).
    """
    sentences = [attributes_sentence([phrases[i] for i in own]) for own in top]
    different = list(dict.fromkeys(sentences))
    read = (load or EncoderLoader())(cache.identity).encode_text(different, [key["prompt"]], words="none")
    place = {sentence: i for i, sentence in enumerate(different)}
    embedded = read.sentence[[place[sentence] for sentence in sentences]]
    stored = StoredAttributes(phrases, tuple(ids), top, similarity, embedded, dict(key))
    path = attributes_path(cache.folder, key["lexicon"], key)
    with where_writable(path):
        write_attributes(path, stored)
    return stored, read.truncated


def released_form(attributes: StoredAttributes) -> dict[str, dict[str, list[str]]]:
    """Return what the released BIKE training code reads: {video id: {"classname_topk": [phrases, best first]}}."""
    return {id: {"classname_topk": attributes.of(row)} for row, id in enumerate(attributes.ids)}
