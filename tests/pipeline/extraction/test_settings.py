"""The settings of an extraction are checked when they are made."""

from __future__ import annotations

import pickle

import pytest

from vidclip.pipeline.extraction import ExtractSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"workers": 0}, "workers must be above 0, got 0"),
        ({"timeout_seconds": -1.0}, "timeout_seconds must be above 0, got -1.0"),
        ({"memory_gib": float("nan")}, "memory_gib must be above 0, got nan"),
        ({"batch_size": 0}, "batch_size must be above 0, got 0"),
        ({"part": (2, 2)}, r"part must be \(i, n\) with 0 <= i < n, got \(2, 2\)"),
        ({"changed": "ask"}, "changed must be one of encode, replace, keep, error, got 'ask'"),
    ],
)
def test_rejects_values_that_cannot_be(values, message):
    with pytest.raises(ValueError, match=message):
        ExtractSettings(**values)


def test_settings_can_be_pickled():
    settings = ExtractSettings(workers=3, memory_gib=None, part=(1, 2), shard_seconds=0)
    assert pickle.loads(pickle.dumps(settings)) == settings
