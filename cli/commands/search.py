"""`vidclip search`: a text, a video or an image -> videos and moments of the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...pipeline.choices import DUPLICATES_BY, JOINS, SEARCH_INDEXES, SEARCH_POOLS
from ..conditions import Condition, with_option, without_option
from ..named_video import find_video, is_there
from ..options import (
    cache_option,
    decoding_options_of,
    device_option,
    encoder_loader,
    json_option,
    model_options,
    prompts_of,
    reading_settings,
    vidclip_command,
)
from ..parameters import FiniteRange, OutputFile, argument, option
from ..scoring_options import SPOTS, prompts_option, temperature_option, words_option

if TYPE_CHECKING:
    from ...cache import FeatureCache, TextEmbeddings
    from ...pipeline.search import CompressedIndex, Duplicates, Query

SEARCHES = without_option("--duplicates")
TEXTS = Condition(lambda call: bool(call.values("texts")), "a TEXT")


@vidclip_command(epilog='Example:  vidclip search "a person juggling" --moments --top 5 --csv found.csv')
@argument("texts", nargs=-1, metavar="[TEXT]...")
@cache_option
@option(
    "--like", "likes", multiple=True, metavar="VIDEO", needs=SEARCHES,
    help="Searches for what is like this video: an id of the cache, or a video file or image, which is read as the videos "
    "of the cache were.",
)  # fmt: skip
@option(
    "--join",
    type=click.Choice(JOINS),
    needs=SEARCHES,
    help="Makes one query of all that are given, the mean of their directions.",
)
@option(
    "--moments",
    is_flag=True,
    needs=SEARCHES,
    help="Finds when in the videos it happens: start, end and score.",
)
@option(
    "--level", type=FiniteRange(0, 1), default=0.7, show_default=True, needs=with_option("--moments"),
    help="Which frames belong to a moment: from this share of the way up from the background, the mean frame of the "
    "cache, to the best frame of the video.",
)  # fmt: skip
@option("--split", help="Searches the videos of this split alone.")
@option(
    "--top", type=click.IntRange(1, 10_000), default=20, show_default=True, needs=SEARCHES,
    help="Results of each query.",
)  # fmt: skip
@option(
    "--pool", type=click.Choice(SEARCH_POOLS), needs=SEARCHES,
    help="Compares a query with the mean embedding of a video, with its best frame, or with the frames that the words of "
    "a TEXT spot (concept spotting).  [default: mean; of --moments max]",
)  # fmt: skip
@option(
    "--index", type=click.Choice(SEARCH_INDEXES), default="exact", show_default=True,
    needs=SEARCHES & without_option("--split"),
    help="Reads all features, or few bytes of each vector, and the features of the best alone (compressed): for a million "
    "videos. These bytes are built once, kept in the cache, and built anew when it has changed; their recall is measured.",
)  # fmt: skip
@option(
    "--duplicates", is_flag=True,
    help="Finds the videos that show the same, in the place of searching: a copy of another quality, size, frame rate or "
    "codec, or without its beginning or end.",
)  # fmt: skip
@option(
    "--by", type=click.Choice(DUPLICATES_BY), default="pixels", show_default=True, needs=with_option("--duplicates"),
    help="What decides: pixels reads the files of the videos that features take for alike again; features opens none, and "
    "takes some for the same that are not.",
)  # fmt: skip
@option(
    "--threshold", type=FiniteRange(-1, 1), needs=with_option("--duplicates"),
    help="How alike two videos are that show the same. [default: by pixels 0.7, by features 0.93, where other encoders than "
    "the demo's may need another]",
)  # fmt: skip
@prompts_option(TEXTS & SEARCHES)
@words_option(SPOTS)
@temperature_option(SPOTS)
@json_option
@option(
    "--csv", "csv_file", type=OutputFile(dash=True), metavar="FILE",
    help="Write the result as CSV too; - for standard output, instead of the table.",
)  # fmt: skip
@model_options
@decoding_options_of(with_option("--duplicates") & with_option("--by", "pixels"))
@device_option
def command(
    texts: tuple[str, ...],
    cache: Path,
    likes: tuple[str, ...],
    json_file: Path | None,
    csv_file: Path | None,
    **options: Any,
) -> None:
    """Finds the videos of the cache that a TEXT fits best, or that are most like a video, by the cosine of their
    embeddings; with --moments, when in them.

    Several queries make a list each. No video of the cache is opened. With --duplicates, finds the pairs of videos that
    show the same, however they were encoded; the files of the likely ones are read again.
    """
    if options["duplicates"]:
        if texts:
            raise click.UsageError(
                "--duplicates compares the videos of the cache with each other: give no TEXT."
            )
        _duplicates(cache, json_file, csv_file, options)
        return
    if not texts and not likes:
        raise click.UsageError("There is nothing to search for: give a TEXT, or --like VIDEO.")
    pool = options["pool"] or ("max" if options["moments"] else "mean")
    if options["moments"] and pool == "mean":
        raise click.UsageError("--moments goes with --pool max or vcs: the mean of a video has no moments.")
    if pool == "vcs" and (likes or options["join"]):
        raise click.UsageError(
            f"--pool vcs goes with TEXTs alone: concept spotting needs the words of one, and "
            f"{'--like' if likes else '--join'} has none."
        )
    if pool == "vcs" and options["index"] != "exact":
        raise click.UsageError(
            f"--index {options['index']} goes with --pool mean or max: words have no index."
        )
    from ...cache import FeatureCache
    from ...pipeline.scoring import ConceptSpottingConfig
    from ...pipeline.search import SearchSettings, find_results, join_queries
    from ..output import write_json
    from ..search_output import found_csv, found_document, print_found, write_csv

    prompts = prompts_of(*options["prompts"])
    features = FeatureCache(cache)
    indices = _of_split(features, options["split"])
    embedded, queries = _queries(features, texts, likes, prompts, options["words"])
    if options["join"]:
        queries = [join_queries(queries)]
    spotting = ConceptSpottingConfig(temperature=options["temperature"])
    settings = SearchSettings(options["top"], pool, options["moments"], options["level"], spotting)
    index = _index(features, pool, options["device"]) if options["index"] != "exact" else None
    found = find_results(
        features, queries, settings, texts=embedded, indices=indices, index=index, device=options["device"]
    )
    shaped_by = {
        "cache": str(cache),
        "features": features.identity.digest,
        "encoder": features.identity.encoder_name,
        "pool": pool,
        "moments": settings.moments,
        "level": settings.level if settings.moments else None,
        "prompts": prompts if texts else [],
        "split": options["split"] or "",
        "index": options["index"],
        "recall": dict(index.facts.recall) if index else None,
    }
    document = found_document(features, queries, found, shaped_by)
    if "-" not in (str(json_file), str(csv_file)):
        print_found(document)
    if json_file:
        write_json(json_file, document)
    if csv_file:
        write_csv(csv_file, found_csv(document))


def _queries(
    features: FeatureCache,
    texts: tuple[str, ...],
    likes: tuple[str, ...],
    prompts: tuple[str, ...],
    words: str,
) -> tuple[TextEmbeddings | None, list[Query]]:
    """Return (the embedded texts, the queries): texts first, then videos, each once."""
    from ...pipeline.encoders import check_has_text
    from ...pipeline.search import Query, file_queries, text_queries, text_query_list, video_query

    load = encoder_loader()
    likes = tuple(dict.fromkeys(likes))
    files = [Path(name) for name in likes if _is_new_file(features, name)]
    own = [find_video(features, name, "--like") for name in likes if Path(name) not in files]
    embedded, queries = None, []
    if texts:
        check_has_text(features.identity)
        different = tuple(dict.fromkeys(texts))
        embedded = text_queries(load(features.identity), different, prompts, words=words)
        queries = text_query_list(embedded)
    for index in dict.fromkeys(own):
        queries.append(Query(features.ids[index], "video", video_query(features, index), own=index))
    if files:
        vectors = file_queries(features.identity, files, lambda identity: load(identity, "auto"))
        queries += [Query(str(file), "file", vector) for file, vector in zip(files, vectors, strict=True)]
    return embedded, queries


def _index(features: FeatureCache, pool: str, device: str) -> CompressedIndex:
    """Return the index of the cache, built where there is none or the cache has changed; warns where its recall is low."""
    from ...pipeline.encoders import has_text
    from ...pipeline.scoring import LEAST_RECALL
    from ...pipeline.search import CompressedIndex, StaleIndex, build_index, sample_texts
    from ..messages import note, warn

    reads_texts = has_text(features.identity)
    try:
        index = CompressedIndex(features, pool, measured=("text", "video") if reads_texts else ("video",))
    except (FileNotFoundError, StaleIndex):
        texts = {"text": sample_texts(features, encoder_loader())} if reads_texts else {}
        index = build_index(features, pool, texts, device=device)
        note(f"built an index of {index.facts.n_vectors:,} vectors, which the cache keeps.")
    worst = min(index.facts.recall, key=lambda kind: index.facts.recall[kind])
    recall = index.facts.recall[worst]
    if recall < LEAST_RECALL:
        warn(
            f"the index misses {100 * (1 - recall):.0f} % of the best ten of queries like {worst}s (measured on "
            f"{index.facts.n_queries[worst]}): use --index exact."
        )
    return index


def _duplicates(cache: Path, json_file: Path | None, csv_file: Path | None, options: dict[str, Any]) -> None:
    from ...cache import FeatureCache
    from ...pipeline.search import PIXELS_THRESHOLD, THRESHOLD, candidates_threshold, find_duplicates
    from ..duplicates_output import duplicates_csv, duplicates_document, print_duplicates
    from ..output import write_json
    from ..search_output import write_csv

    features = FeatureCache(cache)
    indices = _of_split(features, options["split"])
    by_pixels = options["by"] == "pixels"
    threshold = options["threshold"]
    if threshold is None:
        threshold = PIXELS_THRESHOLD if by_pixels else THRESHOLD
    least = candidates_threshold(len(features) if indices is None else len(indices))
    pairs = find_duplicates(
        features, least if by_pixels else threshold, indices=indices, device=options["device"]
    )
    if by_pixels:
        pairs = _confirmed(features, pairs, threshold, options)
    document = duplicates_document(features, pairs, options["by"], threshold, options["split"] or "")
    if "-" not in (str(json_file), str(csv_file)):
        print_duplicates(document)
    if json_file:
        write_json(json_file, document)
    if csv_file:
        write_csv(csv_file, duplicates_csv(document))


def _confirmed(
    features: FeatureCache, pairs: list[Duplicates], threshold: float, options: dict[str, Any]
) -> list[Duplicates]:
    """Return the pairs that pixels take for the same; says which videos could not be read again."""
    from ...pipeline.search import THRESHOLD, compare_pixels
    from ..messages import warn
    from ..output import count, printable, progress_bar

    reading = reading_settings(options)
    with progress_bar("reading videos") as advance:
        pairs, unread = compare_pixels(
            features, pairs, threshold, reading=reading, on_video=lambda done, total: advance(done, total, "")
        )
    if unread:
        first = next(iter(unread))
        warn(
            f"{count(len(unread), 'video')} could not be read again, first {printable(features.ids[first])} "
            f"({unread[first]}); there features decide, by {THRESHOLD:g}."
        )
    return pairs


def _is_new_file(features: FeatureCache, name: str) -> bool:
    """Return whether a name is that of a file, and no video of the cache was read from it."""
    path = str(Path(name).absolute())
    return name not in features and is_there(name) and not any(info.path == path for info in features.videos)


def _of_split(features: FeatureCache, split: str | None) -> list[int] | None:
    """Return the positions of the videos of a split; None for all. Raises click.BadParameter where no video is of it."""
    if split is None:
        return None
    found = [i for i, own in enumerate(features.splits) if split in own.split()]
    if not found:
        known = sorted({name for own in features.splits for name in own.split()})
        there = f"there are {', '.join(known[:10])}" if known else "its videos have no splits"
        raise click.BadParameter(
            f"{features.folder} has no video of the split {split!r}: {there}.", param_hint="--split"
        )
    return found
