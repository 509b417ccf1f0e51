"""Leases: every video is given out until it is done, and who is to blame when workers die."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vidclip.pipeline.datasets import Video
from vidclip.pipeline.extraction.leases import Lease, LeaseBoard


def videos_of(n: int) -> list[Video]:
    return [Video(f"{number}.mp4", Path(f"/nowhere/{number}.mp4")) for number in range(n)]


@dataclass
class Run:
    """What a cluster does with a board, one step at a time, and what it saw."""

    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    deaths: list[tuple[str, ...]] = field(default_factory=list)
    """What the workers that died were busy with."""
    waiting: list[tuple[Lease, ...]] = field(default_factory=list)
    """What they had beside it."""


def simulate(n: int, size: int, workers: int, poisoned: set[str], kills: list[int]) -> Run:
    """Workers take turns: one reads the lease at the head of its queue, and dies of a poisoned video in it, or because it is
    this one's turn to be killed."""
    board, run = LeaseBoard(videos_of(n), {}, size), Run()
    queues: list[deque[Lease]] = [deque() for _ in range(workers)]
    turn = 0
    while board or any(queues):
        for held in (0, 1):
            for queue in queues:
                if len(queue) == held and not any(lease.alone for lease in queue):
                    lease = board.take(workers, busy=held > 0)
                    if lease is not None:
                        queue.append(lease)
        queue = queues[turn % workers]
        turn += 1
        if not queue:
            continue
        ids = tuple(video.id for video in queue[0].videos)
        if poisoned & set(ids) or turn in kills:
            run.deaths.append(ids)
            run.waiting.append(tuple(queue)[1:])
            failure = board.blame(queue.popleft())
            if failure is not None:
                run.failed.append(failure.id)
                assert failure.stage == "crash"
            while queue:
                board.give_back(queue.popleft())
        else:
            run.done.update(ids)
            queue.popleft()
        assert turn < 10_000
    return run


@given(
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(1, 4),
    st.sets(st.integers(0, 59), max_size=3),
    st.lists(st.integers(1, 60), max_size=20),
)
def test_every_video_is_done_once_or_has_killed_twice_alone(n, size, workers, poisoned, kills):
    names = {f"{number}.mp4" for number in poisoned if number < n}
    run = simulate(n, size, workers, names, kills)
    alone = Counter(ids[0] for ids in run.deaths if len(ids) == 1)
    assert sorted(run.failed) == sorted(id for id, deaths in alone.items() if deaths >= 2)
    assert names <= set(run.failed)
    assert run.done == Counter({video.id for video in videos_of(n)} - set(run.failed))


def test_a_poisoned_video_is_found_by_halving():
    run = simulate(512, 64, 2, {"300.mp4"}, [])
    assert run.failed == ["300.mp4"]
    assert all("300.mp4" in ids for ids in run.deaths), "no other lease is ever blamed"
    assert [len(ids) for ids in run.deaths] == [64, 64, 32, 16, 8, 4, 2, 1, 1]
    assert run.waiting[1:] == [()] * (len(run.deaths) - 1), "under suspicion, a lease has its worker alone"


def test_the_shard_of_a_lease_is_named_by_its_videos_and_their_generations():
    videos = tuple(videos_of(3))
    names = {
        Lease(videos, {}).shard_name,
        Lease(videos[:2], {}).shard_name,
        Lease(videos, {"1.mp4": 1}).shard_name,
        Lease((Video("0.mp41.mp4", Path()), videos[2]), {}).shard_name,
    }
    assert len(names) == 4
    assert Lease(videos, {}, deaths=1, alone=True).shard_name in names
    assert all(name.startswith("frames-") and name.endswith(".h5") for name in names)


def test_leases_become_smaller_towards_the_end():
    board, sizes = LeaseBoard(videos_of(1000), {}, 128), []
    while board:
        lease = board.take(4, busy=False)
        assert lease is not None
        sizes.append(len(lease.videos))
    assert sum(sizes) == 1000
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], min(sizes[:-1])) == (125, 16)


def test_a_lease_under_suspicion_goes_to_a_worker_that_has_nothing_else():
    board = LeaseBoard(videos_of(40), {}, 8)
    first = board.take(1, busy=False)
    assert first is not None
    assert board.blame(first) is None
    other = board.take(1, busy=True)
    assert other is not None
    assert not set(other.videos) & set(first.videos)
    board.give_back(other)
    again = board.take(1, busy=False)
    assert again is not None
    assert (again.videos, again.alone) == (first.videos, True)
