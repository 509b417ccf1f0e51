"""What search finds in the demo's world: precision of texts, overlap of moments, copies of videos.

python -m vidclip.demo.searching FOLDER      # renders 2,100 videos there and extracts them, where they are not there
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..cache import FeatureCache
from ..cache.files import write_whole
from ..pipeline.datasets import read_videos
from ..pipeline.encoders import load_encoder
from ..pipeline.extraction import ExtractSettings, extract
from ..pipeline.search import (
    PIXELS_THRESHOLD,
    THRESHOLD,
    Query,
    SearchSettings,
    candidates_threshold,
    compare_pixels,
    find_duplicates,
    find_results,
    text_queries,
    text_query_list,
)
from ..pipeline.video import Sampling
from .actions import ACTIONS, action_named
from .copies import write_copies
from .measure import PROMPT
from .videos import LIST_FILE, Clip, list_clips, write_world
from .world import FRAMES_PER_SECOND, video_scene

COUNTS = {"trimmed": {"validation": 4, "test": 10}, "idle": {"validation": 4, "test": 10}}
"""Videos per class: settings are chosen on those of validation."""
COPIED = 60
"""Videos of each split that are copied."""


def precision_at(cache: FeatureCache, queries: list[Query], split: str, top: int = 10) -> np.ndarray:
    """Return, for each class, the share [C] of the best `top` videos of a split that are of the class."""
    indices = [i for i, own in enumerate(cache.splits) if own == split]
    found = find_results(cache, queries, SearchSettings(top), indices=indices)
    hits = [
        [cache.labels[each.video] == (query.name,) for each in results]
        for query, results in zip(queries, found, strict=True)
    ]
    return np.array(hits).mean(axis=1)


def overlaps(cache: FeatureCache, queries: list[Query], split: str, level: float) -> tuple[float, float]:
    """Return the mean intersection over union of the best moment of each video with its action, and that of the whole video."""
    settings = SearchSettings(10_000, "max", moments=True, level=level)
    moments, whole = [], []
    for query in queries:
        own = [i for i, of in enumerate(cache.splits) if of == split and cache.labels[i] == (query.name,)]
        (found,) = find_results(cache, [query], settings, indices=own)
        for video in own:
            truth, length = action_seconds(cache.ids[video])
            best = next(each.moment for each in found if each.video == video)
            if best is not None and best.start_seconds is not None and best.end_seconds is not None:
                moments.append(intersection_over_union((best.start_seconds, best.end_seconds), truth))
            whole.append(intersection_over_union((0, length), truth))
    return float(np.mean(moments)), float(np.mean(whole))


def write_copied(folder: Path) -> Path:
    """Write copies of COPIED videos of each split, and the list of them; return its path."""
    lines = ["path,label,split"]
    for split, clips in split_clips().items():
        for clip in clips[:: len(clips) // COPIED][:COPIED]:
            own = Path("copies") / split / Path(clip.path).relative_to("videos").with_suffix("")
            lines += [
                f"{path.relative_to(folder)},copy,copies-{split}"
                for path in write_copies(folder / clip.path, folder / own)
            ]
    write_whole(folder / "copies.csv", ("\n".join(lines) + "\n").encode())
    return folder / "copies.csv"


def split_clips() -> dict[str, list[Clip]]:
    """Return the trimmed videos of validation and test, in the order of their paths."""
    trimmed = [clip for clip in list_clips(COUNTS) if clip.kind == "trimmed"]
    return {
        split: sorted((clip for clip in trimmed if clip.listed_split == split), key=lambda clip: clip.path)
        for split in ("validation", "test")
    }


def original(id: str) -> str:
    """Return the name of the video that a video is, or is a copy of."""
    path = Path(id)
    return str(
        Path(*path.parts[2:-1]) if path.parts[0] == "copies" else Path(*path.parts[1:]).with_suffix("")
    )


def report_copies(cache: FeatureCache, name: str, indices: list[int]) -> None:
    """Print which pairs of copies are found among some videos, and how far they and all other pairs are from the threshold."""
    names = [original(cache.ids[i]) for i in indices]
    counts = {own: names.count(own) for own in set(names)}
    there = sum(count * (count - 1) // 2 for count in counts.values())
    candidates = find_duplicates(cache, candidates_threshold(len(indices)), indices=indices)
    by_pixels, unread = compare_pixels(cache, candidates, -1)
    if unread:
        raise SystemExit(f"{cache.ids[next(iter(unread))]} cannot be read: {next(iter(unread.values()))}")
    print(f"{name}, {len(indices)} videos, {there} pairs of copies:")
    for what, pairs, threshold in (
        ("features", candidates, THRESHOLD),
        ("pixels", by_pixels, PIXELS_THRESHOLD),
    ):
        scores: dict[bool, list[float]] = {True: [], False: []}
        for pair in pairs:
            same = original(cache.ids[pair.first]) == original(cache.ids[pair.second])
            scores[same].append(pair.similarity)
        found, wrong = (sum(score >= threshold for score in scores[same]) for same in (True, False))
        print(
            f"  {what}: {found} found and {wrong} others at {threshold:g}; copies from {min(scores[True]):.3f} on, others "
            f"up to {max(scores[False], default=-1):.3f}; of {len(pairs)} candidates, {there - len(scores[True])} copies are none"
        )


def action_seconds(id: str) -> tuple[tuple[float, float], float]:
    """Return when an untrimmed video shows its action, and how long it is: as it was rendered."""
    _, folder, name = id.split("/")
    kind, seed = name.removesuffix(".mp4").split("_")
    _, timeline = video_scene(action_named(folder.replace("_", " ")), int(seed), kind)
    active = [i for i, moment in enumerate(timeline) if moment.doing == "action"]
    rate = FRAMES_PER_SECOND
    return (active[0] / rate, (active[-1] + 1) / rate), len(timeline) / rate


def intersection_over_union(one: tuple[float, float], other: tuple[float, float]) -> float:
    both = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return both / (max(one[1], other[1]) - min(one[0], other[0])) if both else 0.0


def small(cache: FeatureCache, indices: list[int], size: int, *, seed: int = 0) -> list[int]:
    """Return `size` of the videos, a tenth of them with their copies, and these copies."""
    rng = np.random.default_rng(seed)
    copied = sorted({original(cache.ids[i]) for i in indices if cache.ids[i].startswith("copies/")})
    chosen = {copied[i] for i in rng.permutation(len(copied))[: size // 10]}
    own = [i for i in indices if original(cache.ids[i]) in chosen]
    rest = [i for i in indices if original(cache.ids[i]) not in copied]
    return sorted([*own, *(rest[i] for i in rng.permutation(len(rest))[: size - len(chosen)])])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    for _ in write_world(folder, list_clips(COUNTS)):
        pass
    encoder = load_encoder("demo")
    extract(read_videos(folder / LIST_FILE), encoder, folder / "features", Sampling(8), ExtractSettings())
    extract(read_videos(write_copied(folder)), encoder, folder / "features", Sampling(8), ExtractSettings())
    cache = FeatureCache(folder / "features")
    queries = text_query_list(text_queries(encoder, [action.name for action in ACTIONS], [PROMPT]))
    precision = precision_at(cache, queries, "test")
    worst = int(precision.argmin())
    print(
        f"precision at 10 over the trimmed test videos: {precision.mean():.3f}, mean of {len(queries)} classes; "
        f"lowest {precision[worst]:.1f} ({queries[worst].name})"
    )
    for split in ("validation-idle", "test-idle"):
        for level in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8) if split.startswith("val") else (SearchSettings().level,):
            own, whole = overlaps(cache, queries, split, level)
            print(f"{split}, level {level}: IoU of the best moment {own:.3f}; whole video {whole:.3f}")
    for split in ("validation", "test"):
        own = [i for i, of in enumerate(cache.splits) if of in (split, f"copies-{split}")]
        report_copies(cache, split, own)
        for size in (100, 40):  # of the covariance of few videos less is known
            report_copies(cache, f"{split}, a small cache", small(cache, own, size))


if __name__ == "__main__":
    main()
