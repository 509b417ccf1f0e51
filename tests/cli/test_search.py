"""`vidclip search` as its user types it, on a cache of the tiny model."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import a_record, save_video, vidclip
from vidclip.cache import CacheWriter, FeatureCache
from vidclip.cli.search_output import csv_text, time_stamp

HOSTILE = "=cmd|'x'!A1\x1b[2J[b]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model) -> Path:
    """Six videos of two labels, extracted with the tiny model."""
    folder = tmp_path_factory.mktemp("search")
    for label in ("juggling", HOSTILE):
        for number in range(3):
            save_video(folder / "videos" / label / f"{number}.mp4", frames=24, seed=len(label) + number)
    (folder / "vidclip.toml").write_text(
        f"model = {json.dumps(tiny_model)}\ndevice = 'cpu'\n[extract]\nframes = 4\nprecision = 'fp32'\n"
    )
    done = vidclip("extract", "videos", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def found(folder: Path, *arguments: object) -> list[dict]:
    done = vidclip("search", *arguments, "--json", "-", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["queries"]


def test_texts_are_found_by_the_cosine_with_the_mean_of_each_video(folder, tiny_model):
    from vidclip.pipeline.encoders import load_encoder

    cache = FeatureCache(folder / "features")
    text = load_encoder(tiny_model, device="cpu").encode_text(["a dog", "a cat"], ["a {}!", "{}"]).sentence
    means = cache.frames().astype(np.float64).mean(axis=(1, 2))
    cosines = means @ text.T / np.linalg.norm(means, axis=1)[:, None] / np.linalg.norm(text, axis=1)
    queries = found(folder, "a dog", "a cat", "--prompt", "a {}!", "--prompt", "{}", "--top", "4")
    assert [query["query"] for query in queries] == ["a dog", "a cat"]
    for query, expected in zip(queries, cosines.T, strict=True):
        best = np.argsort(-expected)[:4]
        assert [row["video"] for row in query["results"]] == [cache.ids[i] for i in best]
        np.testing.assert_allclose([row["score"] for row in query["results"]], expected[best], atol=1e-5)
        assert all(Path(row["path"]).is_file() for row in query["results"])


def test_a_video_of_the_cache_and_its_file_find_the_same(folder):
    cache = FeatureCache(folder / "features")
    (folder / "elsewhere").mkdir()
    copied = folder / "elsewhere" / "clip.mp4"
    copied.write_bytes((folder / "videos" / "juggling" / "1.mp4").read_bytes())
    by_id = found(folder, "--like", "juggling/1.mp4")[0]
    by_path = found(folder, "--like", folder / "videos" / "juggling" / "1.mp4")[0]
    by_file = found(folder, "--like", copied)[0]
    assert by_id["kind"] == by_path["kind"] == "video"
    assert by_id["results"] == by_path["results"]
    assert len(by_id["results"]) == len(cache) - 1, "all but itself"
    assert by_file["results"][0]["video"] == "juggling/1.mp4"
    assert by_file["results"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert [row["video"] for row in by_file["results"][1:]] == [row["video"] for row in by_id["results"]]


def test_an_image_finds_the_video_that_it_is_of(folder):
    import av

    with av.open(str(folder / "videos" / "juggling" / "2.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    Image.fromarray(frames[6]).save(folder / "still.png")
    moments = found(folder, "--like", "still.png", "--moments", "--top", "1")[0]["results"]
    assert moments[0]["video"] == "juggling/2.mp4"
    assert moments[0]["start_seconds"] <= 0.6 < moments[0]["end_seconds"]


def test_several_queries_are_joined(folder):
    queries = found(folder, "a dog", "--like", "juggling/1.mp4", "--join", "mean")
    assert [query["query"] for query in queries] == ["a dog + juggling/1.mp4"]
    assert len(queries[0]["results"]) == 6


def test_moments_have_times_within_their_videos(folder):
    for pool in ("max", "vcs"):
        rows = found(folder, "a dog", "--moments", "--pool", pool)[0]["results"]
        assert rows
        for row in rows:
            assert 0 <= row["start_seconds"] < row["end_seconds"] <= 2.4
            assert row["frames"][0] <= row["frames"][1] <= 18
            assert ("share" in row) == (pool == "vcs")


def test_csv_has_what_json_has_and_no_formulas(folder):
    rows = found(folder, "=1+1", "--moments")[0]["results"]
    done = vidclip("search", "=1+1", "--moments", "--csv", "found.csv", cwd=folder)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    table = list(csv.DictReader(io.StringIO((folder / "found.csv").read_text())))
    assert len(table) == len(rows)
    for cells, row in zip(table, rows, strict=True):
        assert cells["query"] == "'=1+1"
        assert cells["video"].removeprefix("'") == row["video"]
        assert cells["path"] == row["path"]
        assert float(cells["start_seconds"]) == pytest.approx(row["start_seconds"], abs=1e-3)
        assert cells["start"] == time_stamp(row["start_seconds"])
        assert not any(cell.startswith(("=", "@", "\t")) for cell in cells.values())
    assert any(row["video"].startswith("=") for row in rows)


def test_times_are_written_as_players_read_them():
    assert [time_stamp(s) for s in (0, 62.5, 3599.9996, 36_000.25)] == [
        "0:00:00.000", "0:01:02.500", "1:00:00.000", "10:00:00.250",
    ]  # fmt: skip
    assert csv_text(["video", "score"], [['a,"b"\n', "-0.1"], ["\udcff", "1"]]) == (
        'video,score\n"a,""b""\n",-0.1\n\\udcff,1\n'
    )


def test_an_index_is_built_once_and_anew_when_the_cache_has_grown(tmp_path, tiny_model, rng):
    a_cache(tmp_path, tiny_model, rng, 90)
    exact = found(tmp_path, "a dog")
    first = vidclip("search", "a dog", "--index", "compressed", "--json", "-", cwd=tmp_path)
    assert "built an index of 90 vectors" in first.stderr
    document = json.loads(first.stdout)
    assert set(document["settings"]["recall"]) == {"text", "video"}
    missed = {row["video"] for row in exact[0]["results"]} - {
        row["video"] for row in document["queries"][0]["results"]
    }
    assert not missed or "the index misses" in first.stderr
    again = vidclip("search", "a dog", "--index", "compressed", "--json", "-", cwd=tmp_path)
    assert "built" not in again.stderr
    assert again.stdout == first.stdout
    a_cache(tmp_path, tiny_model, rng, 100)
    grown = vidclip("search", "a dog", "--index", "compressed", cwd=tmp_path)
    assert "built an index of 100 vectors" in grown.stderr
    refused = vidclip("search", "a dog", "--index", "compressed", "--pool", "vcs", cwd=tmp_path)
    assert "--index compressed goes with --pool mean or max" in refused.stderr


def a_cache(folder: Path, model: str, rng: np.random.Generator, n: int) -> None:
    """Brings the videos v0, v1, ... to n."""
    from vidclip.pipeline.encoders import load_encoder
    from vidclip.pipeline.extraction import cache_identity
    from vidclip.pipeline.video import Sampling

    (folder / "vidclip.toml").write_text(f"model = {json.dumps(model)}\n")
    identity = cache_identity(load_encoder(model, device="cpu"), Sampling(4))
    with CacheWriter(folder / "features", identity) as writer:
        for i in range(len(writer.stored), n):
            frames = rng.standard_normal((1, 4, 32)).astype(np.float32)
            writer.add(replace(a_record(f"v{i}", rng, split="test val" if i % 3 else "train"), frames=frames))


def test_the_split_alone_is_searched(tmp_path, tiny_model, rng):
    a_cache(tmp_path, tiny_model, rng, 8)
    videos = {row["video"] for row in found(tmp_path, "a dog", "--split", "train")[0]["results"]}
    assert videos == {"v0", "v3", "v6"}
    done = vidclip("search", "a dog", "--split", "tset", cwd=tmp_path)
    assert "has no video of the split 'tset': there are test, train, val" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "There is nothing to search for: give a TEXT, or --like VIDEO."),
        ([" "], "the value is empty"),
        (["x" * 3000], "has 3,000 characters; 2,000 are the most"),
        (["a\udcffb"], "is not a text that can be read"),
        (["a", "--moments", "--pool", "mean"], "--moments goes with --pool max or vcs"),
        (["a", "--like", "juggling/1.mp4", "--pool", "vcs"], "--pool vcs goes with TEXTs alone"),
        (["a", "--join", "mean", "--pool", "vcs"], "--pool vcs goes with TEXTs alone"),
        (["--like", "juggling/9.mp4"], "is not in features; bring it in with `vidclip extract`. Closest: juggling"),
        (["--like", "1.mp4"], "may be any of"),
        (["--like", "vidclip.toml"], "vidclip.toml cannot be read"),
        (["--like", "videos"], "videos holds 6 videos: name one of them"),
        pytest.param(["--like", "x" * 5000], "is not in features", id="long"),
        (["a", "--cache", "nowhere"], "Make one with `vidclip extract`"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_in_words(folder, arguments, message):
    done = vidclip("search", *arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr, done.stderr
    assert all(character.isprintable() or character == "\n" for character in done.stdout + done.stderr)
