"""`vidclip export` and `vidclip import-features`: what other libraries read, and what of theirs is taken."""

from __future__ import annotations

import csv
import io
import itertools
import json
import tarfile
from dataclasses import replace

import h5py
import numpy as np
import pytest

from helpers import a_record, vidclip
from vidclip.cache import CacheWriter, FeatureCache
from vidclip.pipeline.exchange import ExchangeError, export_features, import_features

LABELS = (("run",), ("jump", "走"), ())


@pytest.fixture(scope="module")
def encoder(tiny_model):
    from vidclip.pipeline.encoders import load_encoder

    return load_encoder(tiny_model, device="cpu", precision="fp32")


@pytest.fixture
def folder(tmp_path, encoder):
    """300 videos in two views, more than a batch, under the identity of the tiny encoder."""
    from vidclip.pipeline.extraction import cache_identity
    from vidclip.pipeline.video import Sampling

    rng = np.random.default_rng(0)
    identity = cache_identity(encoder, Sampling(4, clips=2))
    with CacheWriter(tmp_path / "features", identity) as writer:
        for i in range(300):
            record = a_record(
                f"{i % 7}/v{i}", rng, views=2, labels=LABELS[i % 3], split="test", note="n" * (i == 5)
            )
            frames = rng.standard_normal((2, 4, 32)).astype(np.float32)
            times = np.full((2, 4), np.nan) if i == 3 else record.timestamps + i
            writer.add(replace(record, frames=frames, timestamps=times, duration_seconds=i / 3))
    return tmp_path / "features"


@pytest.fixture
def cache(folder):
    return FeatureCache(folder)


def export(tmp_path, *arguments):
    done = vidclip("export", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "300 videos" in done.stdout


def unit_means(cache):
    """In float64, and by hand."""
    means = cache.frames().astype(np.float64).mean(axis=(1, 2))
    return means / np.sqrt((means**2).sum(axis=1, keepdims=True))


def test_npz(tmp_path, cache):
    export(tmp_path, "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["frames"], cache.frames())
        assert file["frames"].dtype == np.float16
        np.testing.assert_array_equal(file["frame_indices"], cache.frame_indices())
        np.testing.assert_array_equal(file["timestamps"], cache.timestamps())
        assert file["id"].tolist() == cache.ids
        assert file["split"].tolist() == cache.splits
        cuts = file["label_offsets"]
        labels = [tuple(file["labels"][a:b].tolist()) for a, b in itertools.pairwise(cuts)]
        assert labels == cache.labels
        said = json.loads(str(file["metadata"]))
        assert said["identity"] == cache.identity.to_dict()
    export(tmp_path, "mean.npz", "--features", "mean")
    with np.load(tmp_path / "mean.npz") as file:
        np.testing.assert_allclose(file["mean"], unit_means(cache), atol=1e-6)


def test_safetensors(tmp_path, cache):
    from safetensors import safe_open

    export(tmp_path, "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        for name, rows in (
            ("frames", cache.frames()),
            ("timestamps", cache.timestamps()),
            ("frame_indices", cache.frame_indices()),
        ):
            np.testing.assert_array_equal(file.get_tensor(name), rows)
            assert file.get_tensor(name).dtype == rows.dtype
        videos = json.loads(file.metadata()["videos"])
        assert [video["id"] for video in videos] == cache.ids
        assert [tuple(video["labels"]) for video in videos] == cache.labels
        assert json.loads(file.metadata()["vidclip"])["digest"] == cache.identity.digest


def test_csv(tmp_path, cache):
    export(tmp_path, "x.csv")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    frames = np.array([[row[f"f{d}"] for d in range(32)] for row in rows], np.float32)
    np.testing.assert_array_equal(frames.astype(np.float16).reshape(cache.shape), cache.frames())
    assert [row["id"] for row in rows[::8]] == cache.ids
    assert [tuple(filter(None, row["labels"].split(";"))) for row in rows[::8]] == cache.labels
    np.testing.assert_array_equal(
        np.array([float(row["seconds"]) for row in rows]).reshape(300, 2, 4), cache.timestamps()
    )
    assert {row["identity"] for row in rows} == {cache.identity.digest}
    export(tmp_path, "mean.csv", "--features", "mean")
    with (tmp_path / "mean.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    means = np.array([[row[f"f{d}"] for d in range(32)] for row in rows], np.float32)
    np.testing.assert_allclose(means, unit_means(cache), atol=1e-6)


def test_webdataset(tmp_path, cache):
    export(tmp_path, "x.tar")
    with tarfile.open(tmp_path / "x.tar") as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}
    assert json.loads(members.pop("__vidclip__/metadata.json"))["identity"] == cache.identity.to_dict()
    assert list(members) == [f"{i:08}.{end}" for i in range(300) for end in ("npy", "json")]
    for index in (0, 3, 299):
        array = np.load(io.BytesIO(members[f"{index:08}.npy"]), allow_pickle=False)
        np.testing.assert_array_equal(array, cache.frames([index])[0])
        said = json.loads(members[f"{index:08}.json"], parse_constant=pytest.fail)
        assert (said["id"], tuple(said["labels"])) == (cache.ids[index], cache.labels[index])
        times = np.array(said["timestamps"], float)
        np.testing.assert_array_equal(times, cache.timestamps([index])[0])


def test_parquet(tmp_path, cache):
    parquet = pytest.importorskip("pyarrow.parquet")
    export(tmp_path, "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet")
    frames = np.array(table["frames"].to_pylist(), np.float32).reshape(cache.shape)
    np.testing.assert_array_equal(frames, cache.frames().astype(np.float32))
    assert table["id"].to_pylist() == cache.ids
    assert [tuple(each) for each in table["labels"].to_pylist()] == cache.labels
    assert json.loads(table.schema.metadata[b"vidclip"])["identity"] == cache.identity.to_dict()


def test_parquet_without_pyarrow_is_refused_in_words(tmp_path, folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    done = vidclip("export", "x.parquet", cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'vidclip[parquet]'" in done.stderr
    assert not (tmp_path / "x.parquet").exists()


def test_an_export_that_fails_leaves_the_file_of_before(tmp_path, cache):
    (tmp_path / "x.csv").write_text("before")
    path = next(iter(cache.folder.glob("frames-*.h5")))
    raw = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        raw[file["frames"].id.get_offset() + 299 * 512] ^= 1
    path.write_bytes(raw)
    done = vidclip("export", "x.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "has changed since it was written" in done.stderr
    assert (tmp_path / "x.csv").read_text() == "before"
    assert not list(tmp_path.glob(".x.csv*"))


def test_no_form_is_guessed_and_no_label_is_split(tmp_path, write_cache, rng):
    write_cache([a_record("a", rng, labels=("x;y",))])
    assert "--to says in which form" in vidclip("export", "x.bin", cwd=tmp_path).stderr
    done = vidclip("export", "x.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "the label 'x;y' of 'a' holds ';'" in done.stderr
    assert not (tmp_path / "x.csv").exists()


# --- and back


def test_what_was_exported_is_imported_as_it_was(tmp_path, cache, tiny_model):
    export(tmp_path, "x.npz")
    done = vidclip("import-features", "x.npz", "--model", tiny_model, "--cache", "back", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    back = FeatureCache(tmp_path / "back")
    assert back.identity.digest == cache.identity.digest
    assert repr(back.videos) == repr(cache.videos)
    np.testing.assert_array_equal(back.frames(), cache.frames())
    np.testing.assert_array_equal(back.timestamps(), cache.timestamps())
    assert back.precisions == cache.precisions
    assert vidclip("verify", "--cache", "back", cwd=tmp_path).returncode == 0
    again = vidclip("import-features", "x.npz", "--model", tiny_model, "--cache", "back", cwd=tmp_path)
    assert "0 videos taken in, 300 were there already" in again.stdout


def test_an_export_of_another_encoder_is_refused(tmp_path, cache, other_tiny_model):
    export(tmp_path, "x.npz")
    done = vidclip("import-features", "x.npz", "--model", other_tiny_model, "--cache", "back", cwd=tmp_path)
    assert done.returncode == 2
    assert "another encoder" in done.stderr
    assert "weights_sha256" in done.stderr
    assert not (tmp_path / "back").exists()


def arrays(dimensions=32, lengths=(4, 4, 4)):
    rng = np.random.default_rng(1)
    names = ("run/a", "run/b", "jump/c")
    return {
        name: rng.standard_normal((n, dimensions)).astype(np.float32)
        for name, n in zip(names, lengths, strict=True)
    }


def save_npy(folder, features):
    for name, array in features.items():
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)
    return folder


def save_npz(path, features):
    np.savez_compressed(path, ids=np.array(list(features)), features=np.stack(list(features.values())))
    return path


def save_h5(path, features):
    with h5py.File(path, "w") as file:
        for name, array in features.items():
            file.create_dataset(f"{name}/emb", data=array, compression="gzip")
            file[f"{name}/fps"] = 25
    return path


@pytest.mark.parametrize("kind", ["npy", "npz", "h5"])
def test_features_of_other_tools(tmp_path, tiny_model, kind):
    features = arrays()
    source = {"npy": save_npy, "npz": save_npz, "h5": save_h5}[kind](tmp_path / f"theirs.{kind}", features)
    key = ["--key", "emb"] if kind == "h5" else []
    done = vidclip("import-features", source, "--model", tiny_model, *key, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "was not checked beyond their 32 dimensions" in done.stderr
    cache = FeatureCache(tmp_path / "features")
    assert cache.ids == sorted(features)
    for id in cache.ids:
        np.testing.assert_array_equal(cache.frames([cache.index(id)])[0, 0], features[id].astype(np.float16))
    assert vidclip("verify", cwd=tmp_path).returncode == 0
    if kind == "npy":
        assert cache.labels == [("jump",), ("run",), ("run",)]
    else:
        vidclip("label", "--set", "run/*=run", "--set", "jump/c=jump", cwd=tmp_path)
    done = vidclip("eval", "--model", tiny_model, "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 videos" in done.stdout


def test_videos_cannot_be_read_as_imported_features_were(tmp_path, tiny_model):
    save_npy(tmp_path / "theirs", arrays())
    given = ["--model", tiny_model]
    assert vidclip("import-features", "theirs", *given, cwd=tmp_path).returncode == 0
    (tmp_path / "clip.mp4").write_bytes(b"")
    for call in (
        ["predict", "clip.mp4", "--device", "cpu"],
        ["saliency", "run/a", "a dog", "--output", "x.png"],
        ["search", "--like", "clip.mp4"],
    ):
        done = vidclip(*call, *given, cwd=tmp_path)
        assert done.returncode == 2
        assert "were imported from another tool, and do not say which frames" in done.stderr, done.stderr
        assert "with the same encoder into a cache" in done.stderr
        assert "damaged" not in done.stderr
        assert "fault of vidclip" not in done.stderr
    for call in (["predict", "--device", "cpu"], ["saliency", "run/a", "a dog"], ["search", "a dog"]):
        done = vidclip(*call, *given, cwd=tmp_path)
        assert done.returncode == 0, "what the error says that works does"


def test_so_many_frames_of_each(tmp_path, encoder):
    features = arrays(lengths=(8, 2, 5))
    source = save_npy(tmp_path / "theirs", features)
    with pytest.raises(ExchangeError, match=r"--frames N takes N of each"):
        import_features(source, tmp_path / "one", encoder)
    made = import_features(source, tmp_path / "two", encoder, frames=4)
    assert made.shape == (1, 4, 32)
    cache = FeatureCache(tmp_path / "two")
    for id, rows in (("run/a", [0, 2, 4, 6]), ("run/b", [0, 0, 1, 1])):
        index = cache.index(id)
        assert cache.frame_indices([index])[0, 0].tolist() == rows
        np.testing.assert_array_equal(cache.frames([index])[0, 0], features[id][rows].astype(np.float16))
    assert [video.repeated for video in cache.videos] == [False, False, True]


def pickled(folder):
    np.save(folder / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    return folder


def pickled_npz(folder):
    np.savez(folder / "a.npz", a=np.array([{"a": 1}], object))
    return folder / "a.npz"


def external(folder):
    with h5py.File(folder / "other.hidden", "w") as file:
        file["x"] = np.ones((4, 32), np.float32)
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("other.hidden", "x")
    return folder / "a.h5"


def virtual(folder):
    layout = h5py.VirtualLayout((4, 32), np.float32)
    layout[:] = h5py.VirtualSource("other.hidden", "x", (4, 32))
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    return folder / "a.h5"


def outside(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("x", (4, 32), np.float32, external=[("/etc/passwd", 0, 512)])
    return folder / "a.h5"


def circle(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["g/back"] = file["/"]
    return folder / "a.h5"


def promising(folder):
    """A header that says a terabyte, and 128 bytes behind it."""
    with (folder / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (2**33, 32)}
        )
        file.write(bytes(128))
    return folder


def promising_npz(folder):
    import zipfile

    with zipfile.ZipFile(folder / "a.npz", "w") as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (2**20, 32)}
        )
        file.write(bytes(128))
    return folder / "a.npz"


def not_finite(folder):
    np.save(folder / "a.npy", np.full((4, 32), np.nan, np.float32))
    return folder


def wrong_dimensions(folder):
    return save_npy(folder, arrays(dimensions=48))


def rubbish(folder):
    (folder / "a.npz").write_bytes(b"rubbish")
    return folder / "a.npz"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (pickled, "without pickles"),
        (pickled_npz, "pickles are never loaded"),
        (external, "is a link, and links are not followed"),
        (virtual, "lie in another file"),
        (outside, "lie in another file"),
        (circle, "leads back to itself"),
        (promising, "cannot be read"),
        (promising_npz, "which is not what follows"),
        (not_finite, "not finite"),
        (wrong_dimensions, "has 48 dimensions, and .* gives 32"),
        (rubbish, r"no \.npz file"),
        (lambda folder: folder, "no feature file below"),
        (lambda folder: folder / "none", "There is no file or folder"),
    ],
)
def test_what_is_refused(tmp_path, encoder, make, message):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    with pytest.raises(ExchangeError, match=message):
        import_features(make(theirs), tmp_path / "features", encoder)
    assert not list((tmp_path / "features").glob("*.h5"))


def test_an_empty_cache_is_not_exported(tmp_path, encoder):
    from vidclip.pipeline.extraction import cache_identity
    from vidclip.pipeline.video import Sampling

    with CacheWriter(tmp_path / "features", cache_identity(encoder, Sampling(4))):
        pass
    with pytest.raises(ExchangeError, match="no videos to export"):
        export_features(FeatureCache(tmp_path / "features"), tmp_path / "x.npz", "npz")
