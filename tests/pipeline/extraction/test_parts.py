"""`--part auto`: what schedulers say of a job, and where it is not clear."""

from __future__ import annotations

import pytest

from helpers import save_video, vidclip
from vidclip.pipeline.extraction.parts import PartUnknown, part_of_environment


def array(id: int, count: int, first: int, last: int, **more: str) -> dict[str, str]:
    return {
        "SLURM_ARRAY_TASK_ID": str(id),
        "SLURM_ARRAY_TASK_COUNT": str(count),
        "SLURM_ARRAY_TASK_MIN": str(first),
        "SLURM_ARRAY_TASK_MAX": str(last),
        **more,
    }


def step(rank: int, count: int) -> dict[str, str]:
    return {
        "SLURM_PROCID": str(rank),
        "SLURM_NTASKS": str(count),
        "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_STEP_ID": "0",
    }


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        (array(0, 16, 0, 15), (0, 16)),
        (array(16, 16, 1, 16), (15, 16)),
        (array(12, 4, 0, 12, SLURM_ARRAY_TASK_STEP="4"), (3, 4)),
        (array(7, 2, 3, 7), (1, 2)),
        (array(3, 1, 3, 3), (0, 1)),
        (step(2, 5), (2, 5)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (0, 1)),
        (array(2, 4, 0, 3) | {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (2, 4)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        (step(1, 2) | {"RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        ({"JOB_COMPLETION_INDEX": "4", "JOB_COMPLETIONS": "8"}, (4, 8)),
        ({"JOB_COMPLETION_INDEX": "4", "RANK": "0", "WORLD_SIZE": "2"}, (0, 2)),
    ],
)
def test_part_of_a_scheduler(environment, part):
    found, source = part_of_environment(environment)
    assert found == part
    assert any(f"{name}={value}" in source for name, value in environment.items())


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("first", [0, 1, 5])
@pytest.mark.parametrize("width", [1, 3])
def test_the_tasks_of_an_array_have_all_parts(count, first, width):
    ids = range(first, first + count * width, width)
    parts = [part_of_environment(array(id, count, ids[0], ids[-1]))[0] for id in ids]
    assert parts == [(i, count) for i in range(count)]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "nothing in the environment says which part"),
        (array(5, 3, 1, 7, SLURM_ARRAY_TASK_STEP="1"), "no range.*--array=0-15"),
        (array(5, 3, 1, 8), "no range"),
        (array(9, 4, 0, 3), "no range"),
        ({"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_COUNT is not"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "Put srun in front"),
        (array(1, 4, 0, 3) | step(1, 2), "two things say .*1/4 by SLURM_ARRAY_TASK_ID=1.* but 1/2 by SLURM_PROCID=1"),
        (step(1, 2) | {"RANK": "0", "WORLD_SIZE": "4"}, "two things say"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "there is no such part"),
        ({"RANK": "1"}, "RANK is set, and WORLD_SIZE is not"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK is '-1', which is no number"),
        ({"JOB_COMPLETION_INDEX": "4"}, "give the pods the variable JOB_COMPLETIONS"),
        ({"RANK": "1", "WORLD_SIZE": "1e9"}, "WORLD_SIZE is '1e9'"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_refused_by_name(environment, message):
    with pytest.raises(PartUnknown, match=message):
        part_of_environment(environment)


def test_jobs_of_an_array_make_the_whole(tmp_path):
    for number in range(6):
        save_video(tmp_path / "videos" / f"{number}.mp4", frames=4, seed=number)
    taken = []
    for id in (1, 2, 3):
        done = vidclip(
            "extract", "videos", "--model", "demo", "--part", "auto", "--frames", "2", "--workers", "1",
            cwd=tmp_path, **array(id, 3, 1, 3),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(f"Note: part {id - 1}/3 of the videos, by SLURM_ARRAY_TASK_ID={id}") == 1
        taken.append(int(done.stdout.split(" encoded")[0].split()[-2]))
    assert sum(taken) == 6
    refused = vidclip("extract", "videos", "--model", "demo", "--part", "auto", cwd=tmp_path)
    assert refused.returncode == 2
    assert "auto: nothing in the environment says which part this is" in refused.stderr
