"""The files of a cache: HDF5 for everybody, damage that is always found, and nothing that a file says is believed."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import a_record, an_identity, as_version1, read_with_hdf5
from vidclip.cache import (
    CacheError,
    CacheWriter,
    FeatureCache,
    StoredAttributes,
    TextEmbeddings,
    attributes_path,
    list_texts,
    read_attributes,
    read_texts,
    text_path,
    verify,
    write_attributes,
    write_texts,
)

ENCODER = an_identity().encoder_digest


@pytest.fixture
def folder(tmp_path) -> Path:
    """A cache with a shard of 40 videos, a text file and an attributes file, each of several pages."""
    rng = np.random.default_rng(0)
    with CacheWriter(tmp_path / "cache", an_identity()) as writer:
        for i in range(40):
            labels = ("naïve 打篮球", "x") if i % 2 else ()
            writer.add(a_record(f"{i:02}", rng, labels=labels, note="" if i else "odd"))
    folder = writer.folder
    phrases = tuple(f"phrase {i}" for i in range(50))
    texts = TextEmbeddings(
        phrases,
        ("{}", "a video of {}"),
        "name",
        rng.standard_normal((50, 16), np.float32),
        rng.standard_normal((90, 16), np.float32),
        np.sort(np.r_[0, rng.integers(0, 90, 49), 90]),
        phrases[:2],
    )
    path = text_path(folder, "lexicon", phrases, texts.prompts, "name", ENCODER)
    write_texts(path, texts, lexicon="lexicon", encoder_digest=ENCODER)
    settings = {"lexicon": "lexicon", "top": 5, "reader": ENCODER}
    stored = StoredAttributes(
        phrases,
        tuple(f"{i:02}" for i in range(40)),
        rng.integers(0, 50, (40, 5)),
        rng.random((40, 5), np.float32),
        rng.standard_normal((40, 16), np.float32),
        settings,
    )
    write_attributes(attributes_path(folder, "lexicon", settings), stored)
    return folder


def paths_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.h5"))


def read_all(folder: Path, path: Path) -> list[object]:
    """Everything that the package can tell of a file."""
    if path.name.startswith("text-"):
        list_texts(folder)
        return list(vars(read_texts(path, ENCODER)).values())
    if path.name.startswith("attributes-"):
        return list(vars(read_attributes(path)).values())
    cache = FeatureCache(folder)
    arrays = (cache.frames(), cache.frame_indices(), cache.timestamps(), cache.frames([7, 3]))
    return [cache.videos, cache.shards[0].precision, *arrays]


def same(one: list[object], other: list[object]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in zip(one, other, strict=True)
    )


def test_any_hdf5_library_reads_the_files(folder):
    columns, attributes = read_with_hdf5(folder / "frames-00000.h5")
    cache = FeatureCache(folder)
    np.testing.assert_array_equal(columns["frames"], cache.frames())
    np.testing.assert_array_equal(columns["timestamps"], cache.timestamps())
    assert columns["frames"].dtype == np.float16
    assert columns["repeated"].dtype == bool
    assert columns["id"] == cache.ids
    cuts = columns["label_offsets"]
    assert [tuple(columns["labels"][a:b]) for a, b in itertools.pairwise(cuts)] == cache.labels
    assert (attributes["format"], attributes["version"]) == ("vidclip-frames", 2)
    assert attributes["identity"] == cache.identity.digest
    (path,) = folder.glob("text-*.h5")
    columns, _ = read_with_hdf5(path)
    texts = read_texts(path, ENCODER)
    np.testing.assert_array_equal(columns["sentence"], texts.sentence)
    assert tuple(columns["phrases"]) == texts.phrases
    (path,) = folder.glob("attributes-*.h5")
    columns, _ = read_with_hdf5(path)
    np.testing.assert_array_equal(columns["top"], read_attributes(path).top)


def test_the_layout_is_as_the_documentation_says(folder):
    """Header and index read by the words of docs/cache.md, and the checksums by another implementation of the sum."""
    for path in paths_of(folder):
        raw = path.read_bytes()
        magic, version, block, image_end, index_bytes, digest = struct.unpack_from("<8sIIQQ32s", raw)
        assert (magic, version, image_end + index_bytes) == (b"vidclip\n", 2, len(raw))
        assert raw[480:512] == hashlib.sha256(raw[:480]).digest()
        assert hashlib.sha256(raw[image_end:]).digest() == digest
        index = json.loads(raw[image_end:])
        assert index["image_sha256"] == hashlib.sha256(raw[512:image_end]).hexdigest()
        with h5py.File(path) as file:
            for name, entry in index["columns"].items():
                assert tuple(entry["shape"]) == file[name].shape
                assert file[name].chunks is None
                size = file[name].size * file[name].dtype.itemsize
                if size:
                    assert entry["offset"] == file[name].id.get_offset()
                data = raw[entry["offset"] : entry["offset"] + size]
                sums = [zlib.crc32(data[start : start + block]) for start in range(0, size, block)]
                assert base64.b64decode(entry["crc32"]) == np.array(sums, "<u4").tobytes()


# Names on disk are bytes: what is no UTF-8 comes as lone surrogates.
texts = st.text(st.characters(codec="utf-8") | st.sampled_from("\udc80\udcff\n\0"), max_size=12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(texts, texts, st.lists(texts, max_size=3)), min_size=1, max_size=6))
def test_any_text_comes_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    with CacheWriter(folder, an_identity()) as writer:
        for number, (id, note, labels) in enumerate(rows):
            writer.add(a_record(f"{number}{id}", rng, note=note, labels=tuple(labels)))
    found = [(video.id[1:], video.note, list(video.labels)) for video in FeatureCache(folder).videos]
    assert found == [(id, note, labels) for id, note, labels in rows], "the first letter keeps their order"


def test_rows_of_any_size_from_many_blocks(tmp_path, rng):
    """Rows that begin and end in the middle of a block, enough of them for several threads."""
    with CacheWriter(tmp_path, an_identity(), shard_videos=400) as writer:
        for number in rng.permutation(600):
            writer.add(a_record(f"{number:03}", rng, views=3, frames=101))
    cache = FeatureCache(tmp_path)
    every = {}
    for shard in cache.shards:
        columns, _ = read_with_hdf5(shard.path)
        every |= dict(zip(columns["id"], columns["frames"], strict=True))
    expected = np.stack([every[id] for id in cache.ids])
    assert expected.nbytes > 5_000_000
    np.testing.assert_array_equal(cache.frames(), expected)
    np.testing.assert_array_equal(cache.single_view().frames(), expected[:, :1])
    for count in (1, 3, 50, 599):
        rows = rng.choice(600, count)
        np.testing.assert_array_equal(cache.frames(rows), expected[rows])


# --- damage


def harms(raw: bytes, rng: np.random.Generator):
    """The file with each page zeroed, and with each page's bits flipped, and cut at each page."""
    for start in range(0, len(raw), 4096):
        stop = min(start + 4096, len(raw))
        yield f"zeros at {start}", raw[:start] + bytes(stop - start) + raw[stop:]
        for _ in range(3):
            place = int(rng.integers(start, stop))
            flipped = bytes([raw[place] ^ (1 << int(rng.integers(8)))])
            yield f"bit flipped at {place}", raw[:place] + flipped + raw[place + 1 :]
        yield f"cut at {start}", raw[:start]
        yield f"one page again at {start}", raw[:start] + raw[start:stop] + raw[start:]
    for place in range(512):
        yield f"bit flipped at {place}", raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


@pytest.mark.parametrize("kind", ["frames", "text", "attributes"])
def test_damage_anywhere_is_found_or_harmless(folder, rng, kind):
    (path,) = folder.glob(f"{kind}-*.h5")
    for other in paths_of(folder):
        if other != path:
            other.unlink()
    raw = path.read_bytes()
    assert len(raw) > 4 * 4096
    expected = read_all(folder, path)
    tried = found = harmless = 0
    for what, damaged in harms(raw, rng):
        tried += 1
        path.write_bytes(damaged)
        try:
            assert same(read_all(folder, path), expected), what
            harmless += 1
        except CacheError as error:
            found += path.name in str(error)
        if damaged == raw:
            continue
        problems = [problem for checked in verify(folder) for problem in checked.problems]
        assert problems, f"verify passes {what}"
        assert path.name in problems[0]
    assert found + harmless == tried
    assert found > 500
    assert harmless > 0, "HDF5's own pages are read by nobody but HDF5, and verify"


# --- what a file says of itself


def seal(path: Path, change) -> None:
    """Changes a file's index, and makes all digests right again: a liar that no checksum gives away."""
    raw = path.read_bytes()
    header = list(struct.unpack_from("<8sIIQQ32s", raw))
    image, index = raw[512 : header[3]], json.loads(raw[header[3] :])
    index["header"] = header[1:4]  # version, block bytes, end of the image
    change(index)
    header[1:4] = index.pop("header")
    tail = index.pop("raw", "").encode() or json.dumps(index).encode()
    header[4:] = [len(tail), hashlib.sha256(tail).digest()]
    head = struct.pack("<8sIIQQ32s", *header).ljust(480, b"\0")
    path.write_bytes(head + hashlib.sha256(head).digest() + image + tail)


def claim(name, **values):
    return lambda index: index["columns"][name].update(values)


LIES = {
    "many rows": claim("frames", shape=[10**9, 1, 4, 16]),
    "many rows, small types": claim("repeated", shape=[10**12]),
    "large dimensions": claim("frames", shape=[40, 1, 4, 10**9]),
    "a side beside none": claim("frames", shape=[0, 10**18, 10**18, 10**18]),
    "more than a machine counts": claim("frames", shape=[2**63, 2, 2, 2]),
    "negative": claim("frames", shape=[-40, 1, -4, 16]),
    "no number": claim("frames", shape=[40, 1, 4, "16"]),
    "half a number": claim("frames", shape=[40, 1, 4, 16.5]),
    "before the image": claim("frames", offset=0),
    "behind the image": claim("frames", offset=10**15),
    "a negative place": claim("frames", offset=-1),
    "objects": claim("frames", type="|O"),
    "giant texts": claim("id/bytes", type="|S1000000000"),
    "no type": claim("frames", type="{'x': 1}"),
    "structures": claim("frames", type="f2,f2"),
    "no checksums": claim("frames", crc32=""),
    "odd checksums": claim("frames", crc32="!!!"),
    "texts that go back": claim("id/offsets", shape=[2]),
    "no columns": lambda index: index.pop("columns"),
    "columns in a list": lambda index: index.update(columns=[1, 2]),
    "attributes in a list": lambda index: index.update(attributes=[1]),
    "a deep index": lambda index: index.update(raw="[" * 100_000),
    "a number as index": lambda index: index.update(raw="1" * 100_000),
    "blocks of no bytes": lambda index: index["header"].__setitem__(1, 0),
    "a long image": lambda index: index["header"].__setitem__(2, 2**63),
    "another version": lambda index: index["header"].__setitem__(0, 99),
}

LIMITED = """
import json, resource, sys
from vidclip.cache import CacheError, FeatureCache, verify
pages = int(open("/proc/self/statm").read().split()[0])
room = pages * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (room, room))
for folder in sys.argv[2:]:
    try:
        FeatureCache(folder).frames()
        refused = ""
    except CacheError as error:
        refused = str(error)
    print(json.dumps([refused, [problem for checked in verify(folder) for problem in checked.problems]]))
"""


def read_in_limits(folders, megabytes: int) -> list[tuple[str, list[str]]]:
    """What reading each cache says, and verifying it, in a process that may take so much memory and no more."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(megabytes << 20), *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def copies(folder: Path, names) -> list[Path]:
    """A cache of the shard alone for each name."""
    made = []
    for number, _ in enumerate(names):
        copy = folder.parent / f"{number}"
        copy.mkdir()
        for name in ("cache.json", "frames-00000.h5"):
            (copy / name).write_bytes((folder / name).read_bytes())
        made.append(copy)
    return made


def test_rejects_columns_larger_than_the_file(folder):
    folders = copies(folder, LIES)
    for copy, lie in zip(folders, LIES.values(), strict=True):
        seal(copy / "frames-00000.h5", lie)
    for name, (refused, problems) in zip(LIES, read_in_limits(folders, 100), strict=True):
        assert "frames-00000.h5" in refused, name
        assert "frames-00000.h5" in problems[0], name


# --- version 1


def old(folder: Path) -> Path:
    for path in paths_of(folder):
        as_version1(path)
    return folder


def test_version_1_is_read(folder):
    expected = {path: read_all(folder, path) for path in paths_of(folder)}
    old(folder)
    assert (folder / "frames-00000.h5").read_bytes().startswith(b"\x89HDF")
    for path in paths_of(folder):
        assert same(read_all(folder, path), expected[path])
    assert [problem for checked in verify(folder) for problem in checked.problems] == []
    with CacheWriter(folder, an_identity()) as writer:
        writer.add(a_record("zz", np.random.default_rng(1)))
    cache = FeatureCache(folder)
    assert (len(cache), [shard.contents.version for shard in cache.shards]) == (41, [1, 2])
    np.testing.assert_array_equal(cache.frames(slice(40)), expected[folder / "frames-00000.h5"][2])


def test_version_1_checks_the_digest_before_it_returns_features(folder):
    old(folder)
    with h5py.File(folder / "frames-00000.h5", "r+") as file:
        file["split"][3] = "elsewhere"
    cache = FeatureCache(folder)
    assert cache.splits[3] == "elsewhere", "opening reads no features, and so cannot tell"
    for _ in range(2):
        with pytest.raises(CacheError, match=r"frames-00000\.h5 has changed since it was written"):
            cache.timestamps([0])


def test_a_shard_of_version_1_cannot_hang_its_reader(folder):
    """Zeros in the middle of its texts make HDF5 look for the end of them for ever."""
    old(folder)
    path = folder / "frames-00000.h5"
    raw = path.read_bytes()
    start = raw.index(b"GCOL") + 2048
    (folder / "frames-00001.h5").write_bytes(raw[:start] + bytes(2048) + raw[start + 2048 :])
    (folder / "frames-00002.h5").write_bytes(raw)
    checked = list(verify(folder))
    assert [len(each.problems) for each in checked] == [0, 1, 0, 0, 0], "the files behind it are read"
    assert "frames-00001.h5 is damaged" in checked[1].problems[0]
    assert "reading it came to no end" in checked[1].problems[0]


def test_version_2_is_not_read_as_version_1(folder):
    path = folder / "frames-00000.h5"
    path.write_bytes(path.read_bytes()[512:])
    with pytest.raises(CacheError, match="its header is missing"):
        FeatureCache(folder)


def chunked(name, shape, dtype):
    def change(file):
        del file[name]
        file.create_dataset(name, shape=shape, dtype=dtype, chunks=tuple(min(side, 1024) for side in shape))

    return change


def replaced(name, **values):
    def change(file):
        del file[name]
        file.create_dataset(name, **values)

    return change


def linked(link):
    def change(file):
        file["real"] = file["frames"]
        del file["frames"]
        file["frames"] = link

    return change


def virtual(file):
    layout = h5py.VirtualLayout(shape=(40, 1, 4, 16), dtype="f2")
    layout[:] = h5py.VirtualSource("/etc/passwd", "frames", shape=(40, 1, 4, 16))
    del file["frames"]
    file.create_virtual_dataset("frames", layout)


def one_text_for_all(file):
    """Every label refers to the same megabytes: 16 bytes in the file are as many in memory."""
    del file["labels"]
    file.create_dataset("labels", data=["x" * 4_000_000] + [""] * 999, dtype=h5py.string_dtype())
    place = file["labels"].id.get_offset()
    file.flush()
    with open(file.filename, "r+b") as raw:
        raw.seek(place)
        reference = raw.read(16)
        raw.seek(place)
        raw.write(reference * 1000)


text = h5py.string_dtype()
OLD_LIES = {
    "chunks never written": chunked("frames", (10**9, 1, 4, 16), "f2"),
    "texts in chunks never written": chunked("labels", (10**9,), text),
    "one text for all": one_text_for_all,
    "giant texts": replaced("labels", shape=(200,), dtype=h5py.string_dtype("utf-8", 10**8), chunks=(1,)),
    "compressed": replaced("frames", shape=(40, 1, 4, 10**7), dtype="f2", compression="gzip", fillvalue=1),
    "never written": replaced("frames", shape=(10**6, 10**6, 10, 16), dtype="f2"),
    "soft link": linked(h5py.SoftLink("/real")),
    "link to another file": linked(h5py.ExternalLink("/etc/passwd", "/frames")),
    "bytes of another file": replaced(
        "frames", shape=(40, 1, 4, 16), dtype="f2", external=[("/etc/passwd", 0, 5120)]
    ),
    "virtual": virtual,
    "a group": lambda file: (file.__delitem__("frames"), file.create_group("frames")),
    "structures": replaced("frames", data=np.zeros((40, 1, 4, 16), [("a", "f2")])),
    "references": replaced("id", shape=(40,), dtype=h5py.ref_dtype),
    "no version": lambda file: file.attrs.__delitem__("version"),
    "another version": lambda file: file.attrs.__setitem__("version", 99),
    "several attributes in one": lambda file: file.attrs.__setitem__("format", np.zeros(1000)),
    "fewer ids": replaced("id", data=["a"], dtype=text),
    "numbers as ids": replaced("id", data=np.arange(40)),
}


def test_version_1_rejects_columns_larger_than_the_file(folder):
    old(folder)
    for path in folder.glob("text-*.h5"):
        path.unlink()
    raw = (folder / "frames-00000.h5").read_bytes()
    for number, lie in enumerate(OLD_LIES.values()):
        path = folder / f"frames-{number:05}.h5"
        path.write_bytes(raw)
        with h5py.File(path, "r+") as file:
            lie(file)
    ((refused, problems),) = read_in_limits([folder], 300)
    assert "frames-00000.h5" in refused
    assert len(problems) == len(OLD_LIES)
    for number, (name, problem) in enumerate(zip(OLD_LIES, problems, strict=True)):
        assert f"frames-{number:05}.h5" in problem, name
