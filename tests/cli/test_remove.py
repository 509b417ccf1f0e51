"""`vidclip remove` and `vidclip prune`: what is taken out, what is asked, and what an extraction does afterwards."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from helpers import a_record, save_video, vidclip
from vidclip.cache import FeatureCache


@pytest.fixture
def folder(write_cache, rng):
    return write_cache([a_record(id, rng) for id in ("yoga/1.mp4", "yoga/2.mp4", "swim/3.mp4")])


def test_ids_patterns_and_lists(folder, tmp_path):
    (tmp_path / "l.csv").write_text("path,label\nyoga/1.mp4,x\nno.mp4,x\n")
    done = vidclip("remove", "swim/*", "--from", "l.csv", "--yes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 videos removed" in done.stdout
    assert "Not in the cache: 1 video" in done.stdout
    assert "vidclip remove --undo --cache features" in done.stdout
    assert FeatureCache(folder).ids == ["yoga/2.mp4"]
    assert re.search(r"removed +2; ", vidclip("info", cwd=tmp_path).stdout)
    assert vidclip("verify", cwd=tmp_path).returncode == 0
    assert "1 video given back, 2 in all" in vidclip("remove", "--undo", "yoga/*", cwd=tmp_path).stdout
    assert "1 video given back, 3 in all" in vidclip("remove", "--undo", cwd=tmp_path).stdout
    nothing = vidclip("remove", "--undo", cwd=tmp_path)
    assert nothing.returncode == 2
    assert "nothing to give back" in nothing.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("yoga/1.mp4",), "nobody answered: --yes does it without asking"),
        (("yoga/3.mp4", "--yes"), "No video of features is called 'yoga/3.mp4'. Did you mean"),
        (("--yes",), "no videos were named"),
        (("--undo", "yoga/1.mp4"), "No removed video of features is called 'yoga/1.mp4'"),
    ],
)
def test_nothing_is_removed_without_an_answer_or_a_video(folder, tmp_path, arguments, message):
    done = vidclip("remove", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(FeatureCache(folder)) == 3
    assert not (folder / "removed.jsonl").exists()


@pytest.mark.parametrize(("answer", "left"), [("y\n", 2), ("n\n", 3)])
def test_the_answer_counts(folder, tmp_path, monkeypatch, answer, left):
    from click.testing import CliRunner

    from vidclip.cli.main import main

    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["remove", "yoga/1.mp4"], input=answer)
    assert done.exit_code == (0 if left == 2 else 2)
    assert len(FeatureCache(folder)) == left


def test_prune_takes_what_is_gone_and_suspects_a_missing_disk(write_cache, rng, tmp_path):
    records = []
    for id in ("one/a.mp4", "one/b.mp4", "two/c.mp4", "two/d.mp4"):
        root = tmp_path / id.split("/")[0]
        root.mkdir(exist_ok=True)
        path = root / id.split("/")[1]
        path.write_bytes(b"x")
        records.append(replace(a_record(id, rng), path=str(path), root=str(root)))
    folder = write_cache([*records, replace(a_record("z", rng), path="")])
    assert "no video to take out" in vidclip("prune", "--yes", cwd=tmp_path).stdout
    (tmp_path / "one" / "a.mp4").unlink()
    shutil.rmtree(tmp_path / "two")
    done = vidclip("prune", "--yes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Left: 2 videos of folders where no file of any is left" in done.stdout
    assert "Left: 1 video whose files cannot be asked for" in done.stdout
    assert FeatureCache(folder).ids == ["one/b.mp4", "two/c.mp4", "two/d.mp4", "z"]
    vidclip("prune", "--yes", "--whole-folders", cwd=tmp_path)
    assert FeatureCache(folder).ids == ["one/b.mp4", "z"]


def test_an_extraction_encodes_a_removed_video_anew(tmp_path, tiny_model):
    for number, name in enumerate(("a.mp4", "b.mp4")):
        save_video(tmp_path / "videos" / name, frames=8, seed=number)
    (tmp_path / "vidclip.toml").write_text(
        f'model = "{tiny_model}"\ndevice = "cpu"\n[extract]\nsource = "videos"\nframes = 2\nworkers = 1\nprecision = "fp32"\n'
    )
    assert vidclip("extract", cwd=tmp_path).returncode == 0
    before = FeatureCache(tmp_path / "features").frames()
    assert vidclip("remove", "a.mp4", "--yes", cwd=tmp_path).returncode == 0
    done = vidclip("extract", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 video encoded" in done.stdout
    cache = FeatureCache(tmp_path / "features")
    assert [(video.id, video.generation) for video in cache.videos] == [("a.mp4", 1), ("b.mp4", 0)]
    np.testing.assert_array_equal(cache.frames(), before)
