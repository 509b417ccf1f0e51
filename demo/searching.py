"""What search finds in the demo's world: precision of texts, overlap of moments.

python -m vidclip.demo.searching FOLDER      # renders 2,100 videos there and extracts them, where they are not there
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..cache import FeatureCache
from ..pipeline.datasets import read_videos
from ..pipeline.encoders import load_encoder
from ..pipeline.extraction import ExtractSettings, extract
from ..pipeline.search import Query, SearchSettings, find_results, text_queries, text_query_list
from ..pipeline.video import Sampling
from .actions import ACTIONS, action_named
from .measure import PROMPT
from .videos import LIST_FILE, list_clips, write_world
from .world import FRAMES_PER_SECOND, video_scene

COUNTS = {"trimmed": {"validation": 4, "test": 10}, "idle": {"validation": 4, "test": 10}}
"""Videos per class: settings are chosen on those of validation."""


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


if __name__ == "__main__":
    main()
