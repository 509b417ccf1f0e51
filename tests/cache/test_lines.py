"""`failures.jsonl` and `missing.jsonl`: damage is never silent."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from helpers import a_record
from vidclip.cache import CacheError, CacheWriter, Failure, FeatureCache, MissingVideo, verify, write_missing
from vidclip.cache.failures import append_failure
from vidclip.cache.lines import _say_once

FAILURES = [
    Failure(f"yoga/{n}.mp4", f"/v/yoga/{n}.mp4", "decode", "0 readable frames ☹", n, 5) for n in range(3)
]
MISSING = [
    MissingVideo(f"gone/{n}.mp4", "test", ("a", "é"), f"list.csv, row {n}", "list.csv") for n in range(3)
]


@pytest.fixture
def folder(write_cache, rng):
    folder = write_cache([a_record("a", rng)])
    for failure in FAILURES:
        append_failure(folder, failure)
    write_missing(folder, MISSING)
    return folder


def read(folder):
    cache = FeatureCache(folder)
    return cache.failures(), cache.missing()


def problems(folder):
    return [problem for checked in verify(folder) for problem in checked.problems]


@pytest.mark.parametrize("name", ["failures.jsonl", "missing.jsonl"])
def test_every_flipped_bit_is_reported(folder, caplog, name, rng):
    expected = read(folder)
    assert expected == (FAILURES, MISSING)
    assert not problems(folder)
    assert not caplog.records
    data = (folder / name).read_bytes()
    said = 0
    for place in range(int(rng.integers(4)), len(data), 4):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        (folder / name).write_bytes(damaged)
        _say_once.cache_clear()
        caplog.clear()
        found = read(folder)
        if caplog.records:
            said += 1
            assert f"{name}: " in caplog.text
            assert " damaged and skipped" in caplog.text
            assert problems(folder)
        else:
            assert found == expected, place
    assert said > 0.2 * len(data)


def test_a_damaged_line_is_named_once_and_alone_skipped(folder, caplog):
    path = folder / "failures.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"yoga/1", b"yoga/7", 1) + lines[2])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert read(folder)[0] == [FAILURES[0], FAILURES[2]]
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path}: line 2 is damaged and skipped. Run `vidclip extract`")
    (problem,) = problems(folder)
    assert problem == record.getMessage()


def test_a_line_that_a_crash_cut_short_is_skipped(folder):
    with (folder / "failures.jsonl").open("ab") as file:
        file.write(b'{"id": "yoga/9.mp4", "pa')
    with CacheWriter(folder, FeatureCache(folder).identity) as writer:
        assert writer.failed_ids == {failure.id for failure in FAILURES}
        writer.add_failure(Failure("yoga/9.mp4", "/v", "open", "no such file"))
    assert [failure.id for failure in FeatureCache(folder).failures()][-1] == "yoga/9.mp4"


def test_lines_of_older_versions_have_no_checksum(folder, caplog):
    for name in ("failures.jsonl", "missing.jsonl"):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        old = [{key: value for key, value in row.items() if key != "sha256"} for row in rows]
        assert all(row.keys() - {"sha256"} < row.keys() for row in rows)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in old))
    assert read(folder) == (FAILURES, MISSING)
    assert not caplog.records


@pytest.mark.parametrize("name", ["failures.jsonl", "missing.jsonl", "labels.jsonl"])
@pytest.mark.parametrize(
    ("target", "message"),
    [("/dev/zero", "no regular file"), ("pipe", "no regular file"), ("gone", "a link that leads nowhere")],
)
def test_rejects_what_is_not_a_regular_file(folder, name, target, message):
    os.mkfifo(folder / "pipe")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    with pytest.raises(CacheError, match=f"it is {message}"):
        read(folder)
    assert any(f"it is {message}" in problem for problem in problems(folder))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file of Linux")
def test_rejects_a_file_of_the_system_that_calls_itself_empty(folder):
    (folder / "missing.jsonl").unlink()
    (folder / "missing.jsonl").symlink_to("/proc/self/mem")
    with pytest.raises(CacheError, match="missing.jsonl cannot be read"):
        FeatureCache(folder).missing()
