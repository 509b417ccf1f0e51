"""Which classes and videos a protocol tests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from vidclip.pipeline.evaluation import half_classes, trials


def mersenne_twister(seed):
    """The 32-bit stream of MT19937, from its publication (Matsumoto and Nishimura 1998, 2002)."""
    state = [seed]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + i) & 0xFFFFFFFF)
    while True:
        for i in range(624):
            y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7FFFFFFF)
            state[i] = state[(i + 397) % 624] ^ y >> 1 ^ (0x9908B0DF if y & 1 else 0)
        for y in state:
            y ^= y >> 11
            y ^= y << 7 & 0x9D2C5680
            y ^= y << 15 & 0xEFC60000
            yield y ^ y >> 18


def shuffled(n, seed):
    """A Fisher-Yates shuffle from the end; numbers above the limit are drawn again."""
    stream, items = mersenne_twister(seed), list(range(n))
    for i in range(n - 1, 0, -1):
        mask = (1 << i.bit_length()) - 1
        j = next(value for draw in stream if (value := draw & mask) <= i)
        items[i], items[j] = items[j], items[i]
    return items


def test_halves_are_those_of_the_released_code():
    # np.random.seed(0); np.random.permutation(10) has been 2 8 4 9 1 6 7 3 0 5 in every numpy.
    assert half_classes(10, 1)[0].tolist() == [2, 8, 4, 9, 1]


@pytest.mark.parametrize(("n_classes", "n_half"), [(101, 50), (51, 25), (200, 100), (5, 2)])
def test_halves_equal_an_independent_generator(n_classes, n_half):
    halves = half_classes(n_classes)
    assert [half.tolist() for half in halves] == [shuffled(n_classes, seed)[:n_half] for seed in range(10)]


def test_the_draw_leaves_numpys_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (the one that must not move)
    half_classes(20)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@given(
    st.sampled_from(["full-classes", "half-classes"]),
    st.integers(4, 12),
    st.lists(st.integers(0, 11), min_size=1, max_size=40),
)
def test_laws_of_trials(protocol, n_classes, labels):
    labels = np.concatenate([np.array(labels) % n_classes, np.arange(0, n_classes, 2)])
    keep_absent = protocol == "full-classes"
    drawn = [np.arange(n_classes)] if keep_absent else half_classes(n_classes)
    if any(not np.isin(labels, candidates).any() for candidates in drawn):
        return
    if not keep_absent and any(np.isin(candidates, labels).sum() < 2 for candidates in drawn):
        with pytest.raises(ValueError, match="nothing to tell apart"):
            trials(protocol, labels, n_classes)
        return
    found = trials(protocol, labels, n_classes)
    assert len(found) == len(drawn)
    for trial, candidates in zip(found, drawn, strict=True):
        expected = sorted(c for c in candidates if keep_absent or c in labels)
        assert trial.classes.tolist() == expected
        assert trial.videos.tolist() == [row for row, label in enumerate(labels) if label in candidates]
        assert_array_equal(trial.classes[trial.labels], labels[trial.videos])


def test_halves_of_a_list_without_gaps_equal_the_released_selection():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(51), 3))
    for seed, trial in enumerate(trials("half-classes", labels, 51)):
        half = shuffled(51, seed)[:25]
        tested = [row for row, label in enumerate(labels) if label in half]
        assert trial.videos.tolist() == tested
        assert trial.labels.tolist() == [sorted(half).index(labels[row]) for row in tested]
        assert trial.name == f"half-classes {seed}"


def test_absent_classes_stay_under_full_and_drop_out_under_half_classes():
    labels = [1, 2, 2, 4]
    (full,) = trials("full-classes", labels, 6)
    assert (full.name, full.classes.tolist(), full.labels.tolist()) == (
        "full-classes",
        [0, 1, 2, 3, 4, 5],
        labels,
    )

    labels = np.arange(10)[1:]  # the first half is 2 8 4 9 1; without 4, four candidates are left
    labels = labels[labels != 4]
    (half,) = trials("half-classes", labels, 10, repeats=1)
    assert half.classes.tolist() == [1, 2, 8, 9]


def test_scores_are_cut_out_with_rows_and_classes():
    scores = np.arange(12).reshape(3, 4)
    (trial,) = trials("half-classes", [0, 3, 2], 4, repeats=1)  # seed 0 of 4: 2 3 1 0
    assert scores[np.ix_(trial.videos, trial.classes)].tolist() == [[6, 7], [10, 11]]
    assert trial.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (
            ("third-classes", [0], 3),
            {},
            "There is no protocol 'third-classes'; known: full-classes, half-classes",
        ),
        (("full-classes", [0, 3], 3), {}, "video 1 has the label 3, but the classes are 0 to 2"),
        (("full-classes", [-1, 0], 3), {}, "video 0 has the label -1"),
        (("full-classes", [], 3), {}, "labels must be a class index for each of one or more videos"),
        (("full-classes", [[0]], 3), {}, r"got int64 \(1, 1\)"),
        (("full-classes", [0.0], 3), {}, r"got float64 \(1,\)"),
        (
            ("half-classes", [0, 1], 2),
            {},
            "needs at least 4 classes, got 2: a half of one class is always right",
        ),
        (("half-classes", [0, 1], 3), {}, "needs at least 4 classes, got 3"),
        (("half-classes", [2, 2], 10), {}, "draws 5 of 10 classes, and only one of these has videos"),
        (("half-classes", [0], 4), {"repeats": 0}, "half-classes needs at least 1 repetition, got 0"),
        (
            ("half-classes", [0], 10),
            {},
            "half-classes 0 draws 5 of 10 classes, and none of the 1 videos is of one",
        ),
    ],
)
def test_what_cannot_be_tested_is_refused(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        trials(*arguments, **settings)
