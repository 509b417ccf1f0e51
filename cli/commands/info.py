"""`vidclip info`: what is in a cache."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import json_option, vidclip_command
from ..parameters import argument

_SHOWN = 5
"""How many videos that were read with damage are named on the screen."""

if TYPE_CHECKING:
    from ...cache import FeatureCache, VideoInfo


@vidclip_command(epilog="Example:  vidclip info features\n\n          vidclip info features-b16 features-l14")
@argument("cache", nargs=-1, type=click.Path(path_type=Path), envvar="VIDCLIP_CACHE")
@json_option
def command(cache: tuple[Path, ...], json_file: Path | None) -> None:
    """Says what a CACHE holds (default: features); with two caches, where they differ."""
    from ...cache import FeatureCache
    from ..output import write_json

    folders = cache or (Path("features"),)
    if len(folders) > 2:
        raise click.UsageError(f"info takes one cache, or two to compare; got {len(folders)}.")
    caches = [FeatureCache(folder) for folder in folders]
    documents = [describe(each) for each in caches]
    if str(json_file) != "-":
        if len(caches) == 1:
            _print_one(documents[0])
        else:
            _print_differences(caches, documents)
    if json_file:
        write_json(json_file, documents[0] if len(documents) == 1 else documents)


def describe(cache: FeatureCache) -> dict[str, Any]:
    """All that `vidclip info` prints, for JSON."""
    from ...cache import list_texts
    from ...pipeline.video import DAMAGED

    videos = cache.videos
    texts = list_texts(cache.folder)
    failures = cache.failures()
    n, views, times, dimensions = cache.shape
    return {
        "cache": str(cache.folder),
        "videos": n,
        "hours": _hours(videos),
        "labels": len({label for video in videos for label in video.labels}),
        "unlabeled": sum(not video.labels for video in videos),
        "splits": dict(sorted(Counter(video.split for video in videos if video.split).items())),
        "shape": [n, views, times, dimensions],
        "bytes": sum(path.stat().st_size for path in cache.folder.iterdir() if path.is_file()),
        "shards": len(cache.shards),
        "precisions": sorted({shard.precision for shard in cache.shards}),
        "identity": cache.identity.to_dict(),
        "digest": cache.identity.digest,
        "decoders": dict(Counter(video.decoder for video in videos).most_common()),
        "damaged": [
            {"id": video.id, "note": video.note} for video in videos if video.note.startswith(DAMAGED)
        ],
        "replaced": cache.replaced,
        "removed": len(cache.removed),
        "not_wholly_readable": sum(video.readable_frames < video.n_frames for video in videos),
        "with_repeated_frames": sum(video.repeated for video in videos),
        "failures": len(failures),
        "missing": len(cache.missing()),
        "failure_stages": dict(Counter(failure.stage for failure in failures).most_common()),
        "texts": [
            {
                "file": text.path.name,
                "lexicon": text.lexicon,
                "phrases": text.phrases,
                "prompts": list(text.prompts),
                "words": text.word_mode,
                "tower": text.tower,
            }
            for text in texts
        ],
    }


def _hours(videos: Sequence[VideoInfo]) -> float | None:
    """Return the hours of the files, each once: a segment has the duration of its whole file. None where one is not
    finite."""
    hours = sum({video.path: video.duration_seconds for video in videos}.values()) / 3600
    return hours if math.isfinite(hours) else None


def _print_one(facts: dict[str, Any]) -> None:
    from ...cache import Identity
    from ..output import count, printable, size

    identity = Identity.from_dict(facts["identity"])
    encoder = identity.encoder
    labels = count(facts["labels"], "label") if facts["labels"] else "no labels"
    if facts["labels"] and facts["unlabeled"]:
        labels += f" ({facts['unlabeled']:,} videos without)"
    _, views, times, dimensions = facts["shape"]
    hours = "an unknown number of hours" if facts["hours"] is None else f"{facts['hours']:.2f} hours"
    rows = [
        ("videos", f"{facts['videos']:,}, {hours}, {labels}"),
        ("splits", _tally(facts["splits"]) or "none"),
        ("features", f"{views} views x {times} frames x {dimensions}, {' and '.join(facts['precisions'])}"),
        ("encoder", identity.encoder_name),
        ("activation", encoder.get("activation", "?")),
        ("weights", f"sha256 {encoder.get('weights_sha256', '?')}"),
        ("image", _image(encoder.get("preprocess", {}), identity.sampling)),
        ("sampling", ", ".join(f"{key} {value}" for key, value in identity.sampling.items() if value is not None)),
        ("decoders", _tally(facts["decoders"]) or "-"),
        *_damaged(facts),
        ("short", f"{facts['with_repeated_frames']:,} videos with fewer frames than were asked for"),
        ("failures", f"{facts['failures']:,} ({_tally(facts['failure_stages'])}); see failures.jsonl" if facts["failures"] else "none"),
        *([("missing", f"{facts['missing']:,} listed; see missing.jsonl")] if facts["missing"] else []),
        *([("replaced", f"features of {count(facts['replaced'], 'video')} from before it was read again; `vidclip compact` drops them")] if facts["replaced"] else []),
        *([("removed", f"{facts['removed']:,}; `vidclip remove --undo` gives them back, `vidclip compact` drops their features")] if facts["removed"] else []),
        ("size", f"{size(facts['bytes'])} in {count(facts['shards'], 'shard')}"),
    ]  # fmt: skip
    for text in facts["texts"]:
        prompts = f"{' | '.join(text['prompts'][:2])}{' ...' if len(text['prompts']) > 2 else ''}"
        phrases = count(text["phrases"], "phrase")
        tower = f", by {text['tower']}" if text["tower"] else ""
        rows.append(
            ("text", f"{text['lexicon']}, {phrases}, words: {text['words']}, prompt {prompts}{tower}")
        )
    click.echo(printable(facts["cache"]))
    for name, value in rows:
        click.echo(f"  {name:11}{printable(value)}")


def _image(preprocess: Mapping[str, Any], sampling: Mapping[str, Any]) -> str:
    size = "x".join(str(side) for side in preprocess.get("size", []))
    resize = f" from short side {sampling['resize']}" if sampling.get("resize") else ""
    return f"{size}{resize}, {preprocess.get('interpolation', '?')}, {preprocess.get('resize_mode', '?')}"


def _damaged(facts: dict[str, Any]) -> list[tuple[str, str]]:
    noted = facts["damaged"]
    rows = [("damaged", f"{facts['not_wholly_readable']:,} videos with frames that cannot be read")]
    if noted:
        rows.append(("", f"{len(noted):,} in all were read with damage:"))
        rows += [("", f"  {video['id']}: {video['note']}") for video in noted[:_SHOWN]]
        if len(noted) > _SHOWN:
            rows.append(("", f"  ... and {len(noted) - _SHOWN:,} more; --json has all"))
    return rows


def _tally(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items())


def _print_differences(caches: list[FeatureCache], documents: list[dict[str, Any]]) -> None:
    from ..output import console, table

    first, second = caches
    rows = [list(difference) for difference in first.identity.differences(second.identity)]
    if first.identity.encoder_name != second.identity.encoder_name:
        rows.insert(0, ["encoder", first.identity.encoder_name, second.identity.encoder_name])
    for name in ("videos", "labels", "splits", "decoders", "failures", "missing", "precisions"):
        if documents[0][name] != documents[1][name]:
            rows.append([name, documents[0][name], documents[1][name]])
    only_first, only_second = set(first.ids) - set(second.ids), set(second.ids) - set(first.ids)
    if only_first or only_second:
        rows.append(["videos only here", f"{len(only_first):,}", f"{len(only_second):,}"])
    if not rows:
        click.echo("The two caches have the same encoder, sampling and videos.")
        return
    same = first.identity.digest == second.identity.digest
    title = f"What differs ({'one encoder and sampling' if same else 'not to be mixed'})"
    console().print(table(title, ["", str(first.folder), str(second.folder)], rows, left=3))
