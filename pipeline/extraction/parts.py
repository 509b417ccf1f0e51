"""Which part of a list is this job's, as the scheduler that started it says: `part_of_environment`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class PartUnknown(ValueError):
    """The environment does not say, or not clearly, which part of the work this job is to do."""


@dataclass(frozen=True)
class _Found:
    part: tuple[int, int]
    source: str
    """The variables that say so, with their values."""


def part_of_environment(environment: Mapping[str, str]) -> tuple[tuple[int, int], str]:
    """Return ((i, n), the variables that say so): this job is the i-th of n, counted from 0.

    Read are the arrays and the steps of Slurm, torchrun (or whatever else sets RANK and WORLD_SIZE), and indexed jobs of
    Kubernetes, whose manifest has to give JOB_COMPLETIONS to its pods. Sources that say 0 of 1 do not contradict others.
    Raises PartUnknown where nothing is said, where it cannot be, and where two sources say different things.
    """
    found: list[_Found] = []
    lacking: list[str] = []
    for read in (_slurm_array, _slurm_step, _ranks, _completions):
        try:
            source = read(environment)
        except KeyError as missing:
            lacking.append(str(missing.args[0]))
            continue
        if source is not None:
            found.append(source)
    several = [each for each in found if each.part != (0, 1)]
    if len({each.part for each in several}) > 1:
        said = " but ".join(f"{i}/{n} by {each.source}" for each in several for i, n in [each.part])
        raise PartUnknown(f"two things say which part this is: {said}. Say it with --part i/n.")
    chosen = next(iter(several or found), None)
    if chosen is not None:
        return chosen.part, chosen.source
    if lacking:
        raise PartUnknown("; ".join(lacking))
    raise PartUnknown(
        "nothing in the environment says which part this is: neither SLURM_ARRAY_TASK_ID (a job array), nor SLURM_PROCID in a "
        "step of srun, nor RANK and WORLD_SIZE, nor JOB_COMPLETION_INDEX. Say it with --part i/n."
    )


def _slurm_array(environment: Mapping[str, str]) -> _Found | None:
    id = _number(environment, "SLURM_ARRAY_TASK_ID")
    if id is None:
        return None
    count, first, last = (
        _needed(environment, f"SLURM_ARRAY_TASK_{name}", "SLURM_ARRAY_TASK_ID")
        for name in ("COUNT", "MIN", "MAX")
    )
    source = f"SLURM_ARRAY_TASK_ID={id}, the tasks being {first} to {last}"
    # Slurm gives the step of a list that is a range; a list with gaps, such as 1,5,7, has none.
    step = (last - first) // (count - 1) if count > 1 else 1
    regular = count >= 1 and step >= 1 and first + step * (count - 1) == last
    said = _number(environment, "SLURM_ARRAY_TASK_STEP")
    if count > 2 and said is not None and said != step:
        regular = False
    if not regular or (id - first) % step or not first <= id <= last:
        raise PartUnknown(
            f"the tasks of this job array ({source}, {count} of them) are no range, so that it cannot be told which of them "
            "this is. Submit a range (--array=0-15), or say it with --part i/n."
        )
    return _Found(((id - first) // step, count), source)


def _slurm_step(environment: Mapping[str, str]) -> _Found | None:
    rank = _number(environment, "SLURM_PROCID")
    if rank is None:
        return None
    count = _number(environment, "SLURM_STEP_NUM_TASKS")
    asked = _number(environment, "SLURM_NTASKS")
    if count is None:
        # A batch script itself, without srun, is process 0 too, however many tasks were asked for.
        if asked is not None and asked > 1:
            raise PartUnknown(
                f"this job has {asked} tasks (SLURM_NTASKS), and the command runs once, in the batch script: the other parts "
                "would not be done. Put srun in front of it, or say it with --part i/n."
            )
        count = asked
    if count is None:
        return None
    return _checked(rank, count, f"SLURM_PROCID={rank} of {count} tasks of the step")


def _ranks(environment: Mapping[str, str]) -> _Found | None:
    rank = _number(environment, "RANK")
    if rank is None:
        return None
    count = _needed(environment, "WORLD_SIZE", "RANK")
    return _checked(rank, count, f"RANK={rank}, WORLD_SIZE={count}")


def _completions(environment: Mapping[str, str]) -> _Found | None:
    index = _number(environment, "JOB_COMPLETION_INDEX")
    if index is None:
        return None
    if not environment.get("JOB_COMPLETIONS"):
        raise KeyError(
            "JOB_COMPLETION_INDEX is set, and Kubernetes does not tell a pod how many there are: give the pods the variable "
            "JOB_COMPLETIONS, with the `completions` of the job, or say it with --part i/n"
        )
    count = _needed(environment, "JOB_COMPLETIONS", "JOB_COMPLETION_INDEX")
    return _checked(index, count, f"JOB_COMPLETION_INDEX={index}, JOB_COMPLETIONS={count}")


def _checked(index: int, count: int, source: str) -> _Found:
    if not index < count:
        raise PartUnknown(
            f"{source}: there is no such part, as they are counted from 0. Say it with --part i/n."
        )
    return _Found((index, count), source)


def _needed(environment: Mapping[str, str], name: str, beside: str) -> int:
    number = _number(environment, name)
    if number is None:
        raise KeyError(f"{beside} is set, and {name} is not: say the part with --part i/n")
    return number


def _number(environment: Mapping[str, str], name: str) -> int | None:
    """Return a number of the environment; None where it is not set. Raises PartUnknown for anything else."""
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise PartUnknown(f"{name} is {text!r}, which is no number from 0 on. Say the part with --part i/n.")
    return int(text)
