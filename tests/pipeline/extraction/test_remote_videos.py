"""Extraction from lists of addresses: the features of the same files, read again when an object has changed."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import save_video
from object_stores import faulty, web_server
from vidclip.cache import FeatureCache
from vidclip.pipeline.datasets import DatasetError, read_videos
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import ExtractSettings, extract, find_gone
from vidclip.pipeline.video import Sampling

for package in ("fsspec", "aiohttp"):
    pytest.importorskip(package)


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A folder with three videos, and the address under which they are served."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "web"
    for number in range(3):
        save_video(folder / "some" / f"{number}.mp4", frames=8 + number, seed=number)
    save_video(folder / "broken" / "3.mp4", frames=8)
    with web_server(str(folder)) as upstream, faulty(upstream) as (address, asked):
        yield folder, address, asked


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return load_encoder(tiny_model, device="cpu")


def listed(tmp_path, paths):
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *(f"{path},a" for path in paths)]))
    return read_videos(tmp_path / "list.csv")


def run(videos, encoder, folder):
    return extract(videos, encoder, folder, Sampling(frames=4), ExtractSettings(batch_size=8, workers=1))


def test_the_same_features_as_from_files_and_no_secret_kept(web, encoder, tmp_path):
    folder, address, asked = web
    names = [f"some/{number}.mp4" for number in range(3)]
    addresses = [f"http://user:s3cret@{address}/{name}?sig=s3cret" for name in [*names, "broken/3.mp4"]]
    videos = listed(tmp_path, [*addresses, *(f"web/{name}" for name in names)])
    assert {f"http://{address}/{name}" for name in names} <= {video.id for video in videos}
    assert "s3cret" not in repr(videos.videos)
    [failure] = run(videos, encoder, tmp_path / "cache").failures
    assert (failure.stage, failure.path) == ("network", f"http://{address}/broken/3.mp4")
    cache = FeatureCache(tmp_path / "cache")
    remote, local = (
        [cache.index(f"{base}/{name}") for name in names] for base in (f"http://{address}", "web")
    )
    assert np.array_equal(cache.frames(remote), cache.frames(local))
    assert not np.array_equal(cache.frames(remote[:1]), cache.frames(local[1:2]))
    kept = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert b"broken/3.mp4" in kept
    assert b"s3cret" not in kept

    asked.clear()  # what has changed is read again, and the one whose server failed
    save_video(folder / "some" / "1.mp4", frames=20, seed=9)
    again = run(videos, encoder, tmp_path / "cache")
    assert [change.video.id for change in again.changed] == [
        "web/some/1.mp4",
        f"http://{address}/some/1.mp4",
    ][::-1]
    assert (again.progress.encoded, again.progress.failed) == (2, 1)
    assert {line.partition("?")[0] for line in asked if line.startswith("GET")} == {
        "GET /some/1.mp4",
        "GET /broken/3.mp4",
    }


def test_prune_asks_the_store(web, encoder, tmp_path):
    folder, address, _ = web
    run(
        listed(tmp_path, [f"http://{address}/some/{number}.mp4" for number in range(3)]),
        encoder,
        tmp_path / "c",
    )
    gone = find_gone(FeatureCache(tmp_path / "c"))
    assert (gone.ids, gone.roots, gone.unknown) == ([], {}, [])
    (folder / "some" / "2.mp4").unlink()
    gone = find_gone(FeatureCache(tmp_path / "c"))
    assert (gone.ids, gone.unknown) == ([f"http://{address}/some/2.mp4"], [])


def test_two_rows_that_differ_in_what_is_not_kept_are_one_video(tmp_path):
    with pytest.raises(
        DatasetError, match=r"Videos listed twice: 'http://host/a.mp4' \(.*row 2 and .*row 3\)"
    ) as error:
        listed(tmp_path, ["http://host/a.mp4?key=s3cret", "http://host/a.mp4?key=other"])
    assert "s3cret" not in str(error.value)


def test_names_the_package_that_an_address_needs(tmp_path, monkeypatch):
    monkeypatch.setattr("vidclip.pipeline.video.remote.PACKAGES", {"s3": "no_such_package"})
    with pytest.raises(
        DatasetError, match=r"row 2 is an address, and no_such_package is not installed: pip install"
    ):
        listed(tmp_path, ["s3://bucket/a.mp4"])
