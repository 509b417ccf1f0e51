"""`vidclip push` and `vidclip pull`, against a hub of this machine that answers as the hub of datasets does."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers import a_record, an_identity, vidclip
from hub_server import READER, WRITER, Hub
from vidclip.cache import (
    CacheWriter,
    Failure,
    FeatureCache,
    TextEmbeddings,
    remove_videos,
    text_path,
    verify,
    write_texts,
)

huggingface_hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("huggingface_hub.constants")
SECRET = "/home/somebody/very/private"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    made = Hub()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", made.url)
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        made.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(
        huggingface_hub.constants, "HF_HUB_DISABLE_XET", True
    )  # a store of its own, beside the hub
    monkeypatch.setenv("HF_TOKEN", WRITER)
    yield made
    made.close()


@pytest.fixture
def source(tmp_path, rng) -> FeatureCache:
    """A cache with secrets in all places that know paths; three shards, a removed video, a failure, texts."""
    folder = tmp_path / "features"
    identity = replace(an_identity(), model=f"local-dir:{SECRET}/model", pretrained="")
    with CacheWriter(folder, identity) as writer:
        for i, id in enumerate(["yoga/1.mp4", "yoga/2.mp4", "swim/1.mp4", "swim/2.mp4", "swim/3.mp4"]):
            record = a_record(id, rng, labels=(id[:4],), split="test" if i % 2 else "train")
            writer.add(
                replace(
                    record,
                    path=f"{SECRET}/{id}",
                    root=SECRET,
                    note=f"decord could not read {SECRET}/{id}: odd",
                )
            )
            if i in (1, 2):
                writer.flush()
        writer.add_failure(Failure("swim/4.mp4", f"{SECRET}/swim/4.mp4", "open", "0 bytes"))
    remove_videos(folder, ["swim/2.mp4"])
    digest = identity.encoder_digest
    texts = TextEmbeddings(
        ("yoga", "swim"),
        ("a {}",),
        "name",
        np.ones((2, 16), np.float32),
        np.ones((2, 16), np.float32),
        np.arange(3),
    )
    for lexicon, tower in (("labels", ""), ("own", f"{SECRET}/tower")):
        path = text_path(
            folder, lexicon, texts.phrases, texts.prompts, "name", digest if not tower else "cd" * 32
        )
        write_texts(
            path, texts, lexicon=lexicon, encoder_digest=digest if not tower else "cd" * 32, tower=tower
        )
    return FeatureCache(folder)


def push(tmp_path, *more, cwd=None):
    return vidclip("push", "me/videos", "--yes", *more, cwd=cwd or tmp_path)


def pull(tmp_path, *more, cache="pulled"):
    return vidclip("pull", "me/videos", "--cache", cache, *more, cwd=tmp_path)


def pushed(tmp_path, hub, *more):
    done = push(tmp_path, *more)
    assert done.returncode == 0, done.stderr
    return hub.datasets["me/videos"]


def test_what_was_pushed_is_pulled_as_it_was(tmp_path, hub, source):
    dataset = pushed(tmp_path, hub, "--license", "cc-by-4.0")
    assert dataset.private
    done = pull(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 videos" in done.stdout
    assert "license: cc-by-4.0" in done.stdout
    cache = FeatureCache(tmp_path / "pulled")
    assert cache.ids == source.ids == ["swim/1.mp4", "swim/3.mp4", "yoga/1.mp4", "yoga/2.mp4"]
    assert (cache.labels, cache.splits) == (source.labels, source.splits)
    assert cache.identity.digest == source.identity.digest
    for name in ("frames", "frame_indices", "timestamps"):
        np.testing.assert_array_equal(getattr(cache, name)(), getattr(source, name)())
    assert [problem for each in verify(cache.folder) for problem in each.problems] == []
    names = {path.name for path in cache.folder.iterdir() if not path.name.startswith(".lock")}
    assert names == {name for name in dataset.files if name == "cache.json" or name.endswith(".h5")}
    assert not (tmp_path / ".pulled.pull").exists()


def test_no_path_of_the_machine_is_sent(tmp_path, hub, source):
    dataset = pushed(tmp_path, hub)
    for name, content in dataset.files.items():
        assert SECRET.encode() not in content, name
        assert b"somebody" not in content, name
        assert str(tmp_path).encode() not in content, name
    removed = source.frames()[0, 0, 0].tobytes()
    assert any(removed in content for content in dataset.files.values()), "so would this be found"
    everything = b"".join(path.read_bytes() for path in source.folder.glob("frames-*.h5"))
    hidden = FeatureCache(source.folder)
    vidclip("remove", "--undo", "--cache", source.folder)
    secret = FeatureCache(source.folder).frames()[1, 0, 0].tobytes()
    assert secret in everything
    assert all(secret not in content for content in dataset.files.values()), "a removed video's features"
    assert len(hidden) == 4
    done = pull(tmp_path)
    assert done.returncode == 0
    videos = FeatureCache(tmp_path / "pulled").videos
    assert [video.path for video in videos] == [video.id for video in videos]
    assert videos[0].note == "decord could not read ...: odd"
    assert FeatureCache(tmp_path / "pulled").identity.model == "local-dir:model"


def test_it_says_what_it_sends_and_asks(tmp_path, hub, source):
    done = vidclip("push", "me/videos", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("4 videos", "swim/1.mp4", "Labels: 2", "  yoga", "Text: labels, 2 phrases", "Nothing was sent.",
                 "the paths of the videos and the root of their list", "1 videos that could not be read",
                 "1 text files of text towers that are folders of this machine",
                 "1 videos that were removed or replaced"):  # fmt: skip
        assert text in done.stdout
    asked = vidclip("push", "me/videos", cwd=tmp_path)
    assert asked.returncode == 2
    assert "Send this to me/videos?" in asked.stderr
    assert hub.datasets == {}
    assert hub.uploads == []


def test_no_labels(tmp_path, hub, source):
    dataset = pushed(tmp_path, hub, "--no-labels")
    assert not [name for name in dataset.files if name.startswith("text-")]
    assert pull(tmp_path).returncode == 0
    cache = FeatureCache(tmp_path / "pulled")
    assert set(cache.labels) == {()}
    assert set(cache.splits) == {""}


def test_what_still_looks_like_a_path_is_named(tmp_path, hub, rng):
    encoder = {"architecture": {"text_cfg": {"hf_model_name": f"{SECRET}/bert"}}, "weights_sha256": "ab" * 32}
    with CacheWriter(tmp_path / "features", replace(an_identity(), encoder=encoder)) as writer:
        writer.add(a_record("/data/x.mp4", rng))
    done = vidclip("push", "me/videos", "--dry-run", cwd=tmp_path)
    assert f"encoder.architecture.text_cfg.hf_model_name of the identity: {SECRET}/bert" in done.stderr
    assert "ids that are whole paths: 1, the first is /data/x.mp4" in done.stderr


def front_matter(card: str) -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(card.split("---")[1])


def test_the_card(tmp_path, hub, source):
    card = pushed(tmp_path, hub).files["README.md"].decode()
    facts = front_matter(card)
    assert facts["size_categories"] == ["n<1K"]
    assert "vidclip" in facts["tags"]
    assert "license" not in facts
    assert "**Not stated.**" in card
    for text in (source.identity.digest, "ab" * 32, "| videos | 4 |", "1 views x 4 frames x 16", "`test` 1, `train` 3",
                 "vidclip pull me/videos --cache features", "`local-dir:model`"):  # fmt: skip
        assert text in card, text
    for name, content in hub.datasets["me/videos"].files.items():
        if name.endswith(".h5"):
            assert f"| `{name}` | {len(content):,} | `{hashlib.sha256(content).hexdigest()}` |" in card
    said = int(re.search(r"\| size \| ([\d,]+) bytes", card)[1].replace(",", ""))
    kept = [v for k, v in hub.datasets["me/videos"].files.items() if k.endswith(".h5") or k == "cache.json"]
    assert said == sum(map(len, kept))


def test_a_card_of_its_owner_is_kept(tmp_path, hub, source):
    dataset = pushed(tmp_path, hub)
    own = (
        dataset.files["README.md"].decode().replace("---\n", "---\nlicense: mit\n", 1) + "\nWritten by me.\n"
    )
    dataset.commits.append({**dataset.files, "README.md": own.encode(), "notes.txt": b"mine"})
    vidclip("remove", "yoga/1.mp4", "--yes", cwd=tmp_path)
    done = push(tmp_path)
    assert done.returncode == 0, done.stderr
    card = dataset.files["README.md"].decode()
    assert "license: mit" in card
    assert "Written by me." in card
    assert "| videos | 3 |" in card
    assert dataset.files["notes.txt"] == b"mine"
    assert "has a card: write the license there" in push(tmp_path, "--license", "mit").stderr
    dataset.commits.append({**dataset.files, "README.md": b"mine alone"})
    vidclip("remove", "yoga/2.mp4", "--yes", cwd=tmp_path)
    assert "is its owner's, and was left as it is" in push(tmp_path).stderr
    assert dataset.files["README.md"] == b"mine alone"


def test_pushed_again_nothing_is_sent(tmp_path, hub, source):
    dataset = pushed(tmp_path, hub)
    commits, uploads = len(dataset.commits), len(hub.uploads)
    assert "had all of this already" in push(tmp_path).stdout
    assert (len(dataset.commits), len(hub.uploads)) == (commits, uploads)


def test_a_push_that_breaks_off_goes_on(tmp_path, hub, source):
    hub.refuse_upload_after = 1
    done = push(tmp_path)
    assert done.returncode == 2
    assert "unexpected" not in done.stderr
    dataset = hub.datasets["me/videos"]
    assert list(dataset.files) == [".gitattributes"], "all or nothing"
    first = list(hub.uploads)
    assert len(first) == 1
    hub.refuse_upload_after = None
    assert push(tmp_path).returncode == 0
    assert hub.uploads.count(first[0]) == 1, "what was there is not sent again"
    assert pull(tmp_path).returncode == 0


def test_the_files_of_before_are_deleted(tmp_path, hub, source, rng, write_cache):
    dataset = pushed(tmp_path, hub)
    assert any(name.startswith("text-") for name in dataset.files)
    assert push(tmp_path, "--no-labels").returncode == 0
    assert not any(name.startswith("text-") for name in dataset.files)
    assert pull(tmp_path).returncode == 0
    other = write_cache([a_record("x", rng, frames=5)], name="other", identity=an_identity(frames=5))
    done = push(tmp_path, "--cache", other)
    assert done.returncode == 2
    assert "holds features of another encoder or sampling" in done.stderr


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        ("hf_wrong", "me/videos", "does not accept the token"),
        (READER, "me/videos", "may not do that, writing to me/videos"),
        (WRITER, "me//videos", "is no name of a dataset"),
    ],
)
def test_a_push_that_the_hub_refuses(tmp_path, hub, source, monkeypatch, token, name, message):
    monkeypatch.setenv("HF_TOKEN", token)
    done = vidclip("push", name, "--yes", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr, done.stderr
    assert hub.datasets == {}


def test_a_pull_that_the_hub_refuses(tmp_path, hub, source, monkeypatch):
    assert "there is no dataset me/videos" in pull(tmp_path).stderr
    dataset = pushed(tmp_path, hub)
    assert "has no such revision" in pull(tmp_path, "--revision", "ab" * 20).stderr
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not accept the token" in pull(tmp_path).stderr
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.utils, "get_token", lambda: None)
    assert "or your token does not show it" in pull(tmp_path).stderr
    monkeypatch.setenv("HF_TOKEN", READER)
    dataset.commits.append({"README.md": b"other things"})
    done = pull(tmp_path)
    assert "holds no cache that `vidclip push` has written" in done.stderr
    assert done.returncode == 2
    assert not (tmp_path / "pulled").exists()
    assert pull(tmp_path, "--revision", dataset.sha(-2)).returncode == 0, "the state of before is there"


def test_a_pull_that_breaks_off_goes_on(tmp_path, hub, source):
    dataset = pushed(tmp_path, hub)
    (frames,) = (name for name in dataset.files if name.startswith("frames-"))
    (text,) = (name for name in dataset.files if name.startswith("text-"))
    hub.refused = {text}
    done = pull(tmp_path)
    assert done.returncode == 2
    assert "Not now" in done.stderr, done.stderr
    assert not (tmp_path / "pulled").exists()
    hub.refused, hub.break_off, hub.downloads[:] = set(), {text: 1000}, []
    assert pull(tmp_path).returncode == 0
    assert frames not in [name for name, _ in hub.downloads], "whole files are not fetched again"
    assert [name for name, _ in hub.downloads].count(text) == 2, (
        "a connection that breaks is taken up by itself"
    )
    np.testing.assert_array_equal(FeatureCache(tmp_path / "pulled").frames(), source.frames())


def test_what_an_earlier_call_left_is_checked_too(tmp_path, hub, source):
    dataset = pushed(tmp_path, hub)
    (frames,) = (name for name in dataset.files if name.startswith("frames-"))
    (text,) = (name for name in dataset.files if name.startswith("text-"))
    hub.refused = {text}
    pull(tmp_path)
    left = tmp_path / ".pulled.pull" / frames
    raw = bytearray(left.read_bytes())
    raw[2000] ^= 1
    stamp = left.stat().st_mtime_ns
    left.write_bytes(raw)
    os.utime(left, ns=(stamp, stamp))
    hub.refused = set()
    done = pull(tmp_path)
    assert done.returncode == 0, "it is fetched anew"
    np.testing.assert_array_equal(FeatureCache(tmp_path / "pulled").frames(), source.frames())


def test_a_damaged_file_is_refused_and_fetched_again(tmp_path, hub, source):
    dataset = pushed(tmp_path, hub)
    name = next(name for name in dataset.files if name.startswith("frames-"))
    raw = bytearray(dataset.files[name])
    raw[len(raw) // 2] ^= 1
    hub.sent_instead = {name: bytes(raw)}
    done = pull(tmp_path)
    assert done.returncode == 2
    assert f"{name} of me/videos is not what its vidclip.json says: its SHA-256 differs" in done.stderr
    assert not (tmp_path / "pulled").exists()
    hub.sent_instead = {}
    assert pull(tmp_path).returncode == 0


def test_a_cache_that_is_there_is_not_written_over(tmp_path, hub, source):
    pushed(tmp_path, hub)
    before = {path: path.read_bytes() for path in source.folder.iterdir()}
    done = pull(tmp_path, cache="features")
    assert done.returncode == 2
    assert "nothing is written over" in done.stderr
    assert {path: path.read_bytes() for path in source.folder.iterdir()} == before
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert "nothing is written over" in pull(tmp_path, cache="link").stderr


def changed_manifest(dataset, change):
    files = dict(dataset.files)
    document = json.loads(files["vidclip.json"])
    change(SimpleNamespace(document=document, files=files))
    files["vidclip.json"] = json.dumps(document).encode()
    dataset.commits.append(files)


def added(m, name, content):
    m.files[name] = content
    m.document["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def swap_a_frame(m):
    """A shard that is what the manifest says, and not what its own checksums say."""
    name = next(name for name in m.files if name.startswith("frames-"))
    raw = bytearray(m.files[name])
    raw[1200] ^= 1
    added(m, name, bytes(raw))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: added(m, "../evil.h5", b"x"), "a cache has no file of the name '../evil.h5'"),
        (lambda m: added(m, "/tmp/evil.h5", b"x"), "a cache has no file of the name '/tmp/evil.h5'"),
        (lambda m: added(m, "sub/frames-1.h5", b"x"), "a cache has no file of the name"),
        (lambda m: added(m, "encoder.json", b"{}"), "a cache has no file of the name 'encoder.json'"),
        (lambda m: added(m, "vidclip.toml", b"x"), "a cache has no file of the name 'vidclip.toml'"),
        (lambda m: added(m, "frames-9.h5", b"\x89HDF\r\n\x1a\n" * 99), "no sound cache: frames-9.h5 is of another format"),
        (lambda m: added(m, "cache.json", b"{}"), "no sound cache"),
        (lambda m: m.document.update(videos=3), "it holds other videos"),
        (lambda m: m.document.update(identity="00"), "it holds other videos, or of another identity"),
        (lambda m: m.document.update(files={}), "it names no files of a cache"),
        (lambda m: m.document.update(version=9), "it has another format"),
        (lambda m: m.files.pop(next(n for n in m.files if n.startswith("frames-"))), "lacks frames-"),
        (lambda m: m.document["files"]["cache.json"].update(bytes=2**45), "its vidclip.json says"),
        (swap_a_frame, "no sound cache"),
    ],
)  # fmt: skip
def test_what_a_stranger_may_have_put_there(tmp_path, hub, source, change, message):
    changed_manifest(pushed(tmp_path, hub), change)
    before = sorted(tmp_path.iterdir())
    done = pull(tmp_path)
    assert done.returncode == 2
    assert message in done.stderr, done.stderr
    assert not (tmp_path / "pulled").exists()
    assert not (tmp_path / "evil.h5").exists()
    assert set(tmp_path.iterdir()) - set(before) <= {tmp_path / ".pulled.pull"}


def test_the_hub_of_the_environment_and_no_hub(tmp_path, hub, source):
    """HF_ENDPOINT in a process of its own; a hub that is gone is an error in words."""
    command = [sys.executable, "-m", "vidclip.cli"]
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": WRITER,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    for arguments in (["push", "me/videos", "--yes"], ["pull", "me/videos", "--cache", "pulled"]):
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    hub.close()
    done = subprocess.run(
        [*command, "pull", "me/videos", "--cache", "again"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "could not be reached, or broke off" in done.stderr


def test_without_the_package(tmp_path, source, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for done in (push(tmp_path), pull(tmp_path)):
        assert done.returncode == 2
        assert "pip install 'vidclip[hf]'" in done.stderr


def test_a_license_is_an_identifier(tmp_path, source):
    done = vidclip("push", "me/videos", "--license", "mine: all", "--dry-run", cwd=tmp_path)
    assert done.returncode == 2
    assert "is no identifier of a license" in done.stderr


def test_one_cache_makes_one_copy(tmp_path, source):
    from vidclip.pipeline.exchange import make_public_copy

    copies = [make_public_copy(source, tmp_path / name).manifest for name in ("one", "two")]
    assert copies[0] == copies[1]
    assert Path(tmp_path / "one" / "vidclip.json").read_bytes() == copies[1].encode()
