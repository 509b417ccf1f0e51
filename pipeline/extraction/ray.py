"""An extraction on a Ray cluster: gives out leases, keeps the accounts, and replaces workers that die.

this process          lock, plan, leases, failures, the check at the end
actors, one a GPU     decode, encode, and write a shard for each lease (`ray_worker`)

An actor that has died is replaced by a new one. Ray could restart it in place, but fails the calls to it meanwhile as if it
were dead again: a lease would be blamed for deaths that were none.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...cache import Failure, FeatureCache, Identity, write_whole
from ...cache.files import check_folder_writable, remove_abandoned_files
from ...cache.leased import ids_of_shard
from ..datasets import VideoList
from ..encoders import EncoderError, EncoderRequest
from ..video import ClipSpec, is_remote
from .accounts import ExtractionError, Job, cache_identity, created_by, extract_by, run_file
from .leases import SMALLEST, LeaseBoard
from .progress import Progress, Summary
from .ray_cluster import Member, connection, no_room, wanted_workers
from .ray_worker import Done, LoadedEncoder, Trouble, Worker, WorkerTask
from .settings import ExtractSettings, RaySettings
from .stamps import stamp_of

LEASES_AT_ONCE = 2
"""Of a worker: while one is read, the next one waits there."""
FAILED_STARTS = 5
"""The run ends after this many workers in a row that end before they have loaded the encoder, where no other works."""
PATIENCE_SECONDS = 120.0
"""After how long without any worker a user is told of it."""
STOP_SECONDS = 20.0
"""How long workers may take, after Ctrl-C, to write what they have encoded."""
LOOK_SECONDS = 5.0
"""How often it is looked whether the cluster has room for other workers than there are."""
NO_ROOM_SECONDS = 300.0
"""How long it is waited for a machine when the last one has gone."""


def extract_on_ray(
    videos: VideoList,
    request: EncoderRequest,
    folder: Path,
    clip_of: Callable[[LoadedEncoder], ClipSpec],
    settings: ExtractSettings,
    cluster: RaySettings,
    *,
    frames: int,
    precision: str = "auto",
    stored: FeatureCache | None = None,
    on_warning: Callable[[str], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Do as `extract`, by workers on a cluster; this process loads no encoder. A connection to Ray that there is
    already is used as it is.

    folder     of the cache: on a file system that all machines share, as the videos and the model are
    clip_of    which frames and pixels are read, once it is known what the encoder sees
    frames     of a clip
    stored     the cache, where it is open already

    Raises what `extract` does; ExtractionError where Ray is not installed, cannot be reached or has no room, where workers
    do not start, and where their machines differ in what they have loaded or see.
    """
    settings = replace(settings, workers=cluster.cpus_per_worker)
    folder = Path(os.path.realpath(folder))
    with connection(cluster) as ray, _Team(ray, cluster, request, precision, frames, len(videos)) as team:
        encoder = team.first(on_warning)
        if on_warning:
            for message in encoder.warnings:
                on_warning(message)
        clip = clip_of(encoder)
        return extract_by(
            team.work, videos, encoder, folder, clip, settings, stored=stored, on_progress=on_progress
        )


@dataclass
class _Work:
    """What is to be read, and by whom."""

    job: Job
    board: LeaseBoard
    task: WorkerTask


class _Team:
    """The workers of a run."""

    def __init__(
        self,
        ray: Any,
        cluster: RaySettings,
        request: EncoderRequest,
        precision: str,
        frames: int,
        n_videos: int,
    ) -> None:
        self._ray, self._cluster, self._precision, self._frames = ray, cluster, precision, frames
        self._request = request.absolute()
        self._most = -(-n_videos // -(-cluster.lease // SMALLEST)) or 1
        self._members: list[Member] = []
        self._encoder: LoadedEncoder | None = None
        self._work: _Work | None = None
        self._wanted = 0
        self._looked = self._had_room = -math.inf
        self._failed_starts = 0
        self._next_start = 0.0
        self._actor = ray.remote(
            num_cpus=cluster.cpus_per_worker,
            num_gpus=cluster.gpus_per_worker,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
            concurrency_groups={"control": 1},
        )(Worker)

    def __enter__(self) -> _Team:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            with contextlib.suppress(Exception):  # Ray itself may be gone
                self._ray.kill(member.actor, no_restart=True)

    def first(self, on_warning: Callable[[str], None] | None = None) -> LoadedEncoder:
        """Wait until a worker has loaded the encoder, and return what it says of it."""
        until = time.monotonic() + PATIENCE_SECONDS
        while self._encoder is None:
            self._staff()
            self._listen()
            if on_warning and time.monotonic() > until:
                until = math.inf
                on_warning(
                    f"no worker has loaded the encoder for {PATIENCE_SECONDS:g} s: the cluster may be busy, or its machines are "
                    "still to come. `ray status` says what it waits for. Going on waiting."
                )
        return self._encoder

    def work(self, job: Job) -> None:
        """Have everything read that is to be read; see `accounts.Work`."""
        folder, name = job.writer.folder, run_file(job.settings.part)
        token = secrets.token_hex(16)
        write_whole(folder / name, token.encode())
        identity = cache_identity(self.first(), job.clip).digest
        task = WorkerTask(
            folder, name, token, job.clip, job.settings, job.patches, identity, self._request, remember=True
        )
        board = LeaseBoard(job.plan.todo, job.plan.generations, self._cluster.lease)
        self._work = work = _Work(job, board, task)
        try:
            while board or any(member.leases for member in self._members):
                self._staff()
                self._hand_out(work)
                job.report.progress.workers = (sum(member.ready for member in self._members), self._wanted)
                self._listen()
                job.report()
        except KeyboardInterrupt:
            self._wind_up()
            raise
        finally:
            (folder / name).unlink(missing_ok=True)  # a worker that was given up writes nothing from now on
            remove_abandoned_files(folder)
            # Writing makes a network file system look at the folder anew: the shards of others are seen then.
            check_folder_writable(folder / name)
        job.writer.take_in_shards()

    def _staff(self) -> None:
        """Start workers where some are wanted and there is something left to give out."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            self._wanted = min(self._most, wanted_workers(self._ray, self._cluster))
            if self._wanted or self._members:
                self._had_room = now
            elif self._encoder is None or now - self._had_room > NO_ROOM_SECONDS:
                raise no_room(self._ray, self._cluster)
        if now < self._next_start or (self._work and not self._work.board):
            return
        for _ in range(self._wanted - len(self._members)):
            actor = self._actor.remote()
            load = actor.load.remote(
                self._request, self._precision, self._frames, self._cluster.gpus_per_worker > 0
            )
            self._members.append(Member(actor, load))

    def _hand_out(self, work: _Work) -> None:
        """Give every worker what it can take, the first lease to each before the second to any."""
        for member in self._members:
            if member.encoder and not member.ready and member.answer is None:
                member.answer = member.actor.begin.remote(work.task)
                work.task = replace(work.task, remember=False)  # one worker does
        for held in range(LEASES_AT_ONCE):
            for member in self._members:
                if not member.ready or len(member.leases) != held or any(x.alone for x, _ in member.leases):
                    continue
                if lease := work.board.take(self._wanted, busy=held > 0):
                    member.leases.append((lease, member.actor.encode.remote(lease)))

    def _listen(self) -> None:
        """Wait for an answer of a worker, half a second at most, and do what it asks for."""
        asked = {member.answer: member for member in self._members if member.answer is not None}
        asked |= {ref: member for member in self._members for _, ref in member.leases}
        if not asked:
            time.sleep(0.1)
            return
        answered, _ = self._ray.wait(list(asked), num_returns=1, timeout=0.5)
        for ref in answered:
            member = asked[ref]
            try:
                answer = self._answer(ref)
            except self._ray.exceptions.RayError:
                self._on_death(member)
                continue
            if ref != member.answer:
                self._account(member, ref, answer)
                continue
            member.answer = None
            if isinstance(answer, LoadedEncoder):
                self._meet(member, answer)
            else:
                member.ready = True
                self._failed_starts = 0

    def _answer(self, ref: Any, timeout: float | None = None) -> Any:
        """Return what a worker has answered. Raises RayError where it has died; ExtractionError or EncoderError where it
        cannot go on, and what is no fault of a video."""
        try:
            answer = self._ray.get(ref, timeout=timeout)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause or error from error
        if isinstance(answer, Trouble):
            error = answer.error
            kind = EncoderError if isinstance(error, EncoderError) else ExtractionError
            reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else error
            raise kind(
                f"the worker on {answer.node} cannot go on: {reason}\nWhat was written before is kept, and the same command "
                "goes on from there."
            )
        return answer

    def _meet(self, member: Member, encoder: LoadedEncoder) -> None:
        """Take a worker in, if it has loaded what the others have. Raises ExtractionError, EncoderError."""
        if encoder.program != created_by():
            raise ExtractionError(
                f"{encoder.node} has {encoder.program}, and this machine {created_by()}. Install one version everywhere."
            )
        first = self._encoder = self._encoder or encoder
        if encoder.precision != first.precision:
            raise EncoderError(
                f"{encoder.node} computes in {encoder.precision}, and {first.node} in {first.precision}. Use --precision "
                f"{first.precision}."
            )
        one, other = (Identity(each.identity, {}, each.model, each.pretrained) for each in (first, encoder))
        if one.digest != other.digest:
            key, here, there = one.differences(other)[0]
            raise EncoderError(
                f"{encoder.node} has loaded another encoder than {first.node}: {key} is {there!s:.20} there, and {here!s:.20} "
                "here. Give both the same model files and the same versions of what reads them."
            )
        member.encoder = encoder

    def _account(self, member: Member, ref: Any, done: Done) -> None:
        """Write down what a worker has done with a lease."""
        if self._work is None:
            return
        member.leases = deque(each for each in member.leases if each[1] != ref)
        progress = self._work.job.report.progress
        progress.encoded += done.videos
        progress.frames += done.frames
        progress.damaged += done.damaged
        ready = max(1, sum(each.ready for each in self._members))
        for stage, seconds in done.waited_seconds.items():
            progress.waited_seconds[stage] += seconds / ready
        for failure in done.failures:
            lost = failure.source_bytes < 0 and not is_remote(failure.path)
            if lost and member.encoder and stamp_of(failure.path).known:
                raise ExtractionError(
                    f"{failure.path} is there on this machine, and not on {member.encoder.node}. Videos must lie on a file "
                    "system that all machines share, under the same path."
                )
            self._fail(failure)

    def _fail(self, failure: Failure) -> None:
        if self._work:
            self._work.job.writer.add_failure(failure)
            self._work.job.report.progress.failed += 1

    def _on_death(self, member: Member) -> None:
        """Take back what a worker had that has died, and blame the lease that it was busy with."""
        self._members.remove(member)
        with contextlib.suppress(self._ray.exceptions.RayError):  # where it only cannot be reached
            self._ray.kill(member.actor, no_restart=True)
        if not member.ready:
            self._failed_starts += 1
            self._next_start = time.monotonic() + min(2.0**self._failed_starts, 30.0)
            if self._failed_starts >= FAILED_STARTS and not any(each.ready for each in self._members):
                raise ExtractionError(
                    f"{self._failed_starts} workers in a row have ended before they had loaded the encoder. Have the machines "
                    "enough memory for it? The logs of Ray say how they ended."
                )
        blamed = False
        for lease, ref in list(member.leases):
            try:
                self._account(member, ref, self._answer(ref, timeout=0))
                continue
            except self._ray.exceptions.RayError:
                pass
            work = self._work
            if work is None:
                return
            # It may have died after it had written, and before it said so.
            written = ids_of_shard(work.task.folder / lease.shard_name, work.task.identity)
            if written:
                work.job.report.progress.encoded += len(written)
                work.job.report.progress.frames += len(written) * math.prod(work.job.clip.shape[:2])
                work.board.give_back(lease.without(written))
            elif blamed:
                work.board.give_back(lease)
            else:
                blamed = True
                if failure := work.board.blame(lease):
                    self._fail(failure)

    def _wind_up(self) -> None:
        """Have workers write what they have encoded, and end; a second Ctrl-C does not wait for it."""
        until = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(KeyboardInterrupt, ExtractionError, EncoderError):
            for member in self._members:
                if member.leases:
                    member.actor.stop.options(concurrency_group="control").remote()
            while any(member.leases for member in self._members) and time.monotonic() < until:
                self._listen()
