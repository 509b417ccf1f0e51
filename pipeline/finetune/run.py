"""Fine-tuning an encoder under a head, from videos to a model folder.

T frames of a clip, D dimensions, C classes, n videos.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..datasets import Video, file_id
from ..encoders import OpenClipEncoder, collapse_note, load_open_clip
from ..evaluation import bootstrap_interval, id_fingerprints
from ..extraction import ExtractSettings, cache_identity
from ..heads import (
    Epoch,
    StoredHead,
    Validation,
    XClipHead,
    save_head,
    some_examples,
    untrained_head,
)
from ..video import ClipSpec, DecodePool
from .checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from .clips import Batch, ClipReader, check_held_out
from .distributed import World
from .embedding import embed_videos
from .errors import FinetuneError
from .examples import TrainingVideos, readable_ids
from .kept_pixels import KeptReader
from .loop import TrainedEpoch, TrainingLoop
from .model import FinetuneModel
from .model_folder import HEAD_FILE, check_output, frozen_weights, write_encoder, write_training
from .precision import training_precision
from .prepare import prepare_encoder
from .reading import open_pool, training_reader
from .recipe import Recipe
from .text_branch import classes_of, text_branch


@dataclass(frozen=True)
class EpochReport:
    """What came of an epoch."""

    epoch: Epoch
    interval: tuple[float, float] | None
    """Of the top-1 on the videos held out: 95 % bootstrap, in percent."""
    rates: dict[str, float]
    """Learning rate of each parameter group at its end."""
    clips_per_second: float
    """Of training, over all processes; validation does not count."""
    waiting: float
    """Share of that time in which the first process waited for clips."""


@dataclass(frozen=True)
class Finetuned:
    """A training that has come to its end."""

    epochs: list[EpochReport]
    best_epoch: int
    unreadable: dict[str, str]
    """Ids of videos that could not be read, and why."""


class Finetuning:
    """A training of an encoder on labeled videos; everything is checked and built before the first step.

    The same arguments give the same weights on a CPU, in one go or resumed. Raises FinetuneError for an output that
    holds another model or training, and for videos that cannot be read; FitError where nothing is trained or
    classes lack what their classifier needs.
    """

    def __init__(
        self,
        videos: TrainingVideos,
        encoder: OpenClipEncoder,
        recipe: Recipe,
        output: Path,
        *,
        reading: ExtractSettings | None = None,
        world: World | None = None,
        self_contained: bool = False,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        """
        encoder    in fp32, on the device of `world`; it is trained in place
        output     the model folder; where it holds a checkpoint of the same training, that is continued
        reading    how many processes decode, within which limits
        self_contained    whether the folder has frozen towers too that are had by their name
        """
        if encoder.precision != "fp32":
            raise ValueError(f"weights are trained in fp32, got an encoder in {encoder.precision}")
        self.world = world or World(device=encoder.device)
        self.recipe = replace(recipe, precision=training_precision(recipe.precision, encoder.device))
        self.videos, self.encoder, self.output = videos, encoder, output
        self._reading, self._note = reading or ExtractSettings(), on_note or (lambda _: None)
        self._self_contained = self_contained
        self._checkpoint = output / CHECKPOINT_FILE
        if not self._checkpoint.exists():
            check_output(output)
        prepare_encoder(encoder, recipe)
        self.unreadable: dict[str, str] = {}
        self._still = ClipSpec(recipe.sampling, encoder.preprocess)
        self._drawn = ClipSpec(
            replace(recipe.sampling, position="random"), encoder.preprocess, recipe.augmentation
        )
        with self._pool(self._still) as pool:
            check_held_out(ClipReader(pool, self._shape), videos.held_out)
            model = self._build_model(pool).to(encoder.device)
        self.loop = TrainingLoop(model, self.recipe, videos, self.world)
        self._settings = {
            **self.recipe.to_dict(),
            "encoder": encoder.identity["weights_sha256"],
            "classes": videos.lexicon.digest,
            "videos": videos.digest,
        }
        self.epochs: list[EpochReport] = []
        self.best_epoch, self._best = 0, (-math.inf, -math.inf)
        self._best_weights: dict[str, torch.Tensor] = {}
        if self._checkpoint.exists():
            self._resume()

    def run(self, on_epoch: Callable[[EpochReport], None] | None = None) -> Finetuned:
        """Train to the end, and write the model folder.

        on_epoch    called after each epoch

        Raises FinetuneError for a loss that is not finite and for too many unreadable videos; OSError. What ends it
        before its time costs the epoch that was not complete: the same training goes on from there.
        """
        if self.world.rank == 0:
            self.output.mkdir(parents=True, exist_ok=True)
        self.loop.begin()
        devices = [self.world.device] if self.world.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices),
            training_reader(self._drawn, self.recipe, self._reading, self._own_clips) as reader,
            self._pool(self._still) as still,
        ):
            for number in range(len(self.epochs) + 1, self.recipe.epochs + 1):
                trained = self.loop.train_epoch(number, reader, self.unreadable)
                self.unreadable |= trained.failures
                self._end_epoch(number, trained, still)
                if self.world.rank == 0:
                    self._save()
                if on_epoch:
                    on_epoch(self.epochs[-1])
            self.loop.load_weights(self._best_weights)
            embed = partial(self._embed, still, self.videos.held_out)
            weight = self.loop.model.weigh_languages(embed, self.videos.held_out_labels)
            if weight is not None:
                self._note(f"The weight {weight:g} of the first language was chosen on the held-out videos.")
        if self.world.rank == 0:
            self._write()
        self.world.wait()
        return Finetuned(self.epochs, self.best_epoch, self.unreadable)

    def read_one_batch(self) -> tuple[Batch, float, float]:
        """Read the first micro-batch of this process as the training will; return it, how many seconds it took, and the
        bytes that would be kept of a video."""
        clips = self.loop.own_clips(1)[0]
        requests = [self.loop.request(clip, 1) for clip in clips]
        began = time.monotonic()
        with training_reader(self._drawn, self.recipe, self._reading, self._own_clips) as reader:
            batch = next(reader.batches(requests, [len(clips)]))
        kept = reader.bytes_per_video if isinstance(reader, KeptReader) else 0.0
        return batch, time.monotonic() - began, kept

    # --- before the first step

    @property
    def _shape(self) -> tuple[int, ...]:
        return self._still.shape[1:]

    def _pool(self, clip_spec: ClipSpec) -> DecodePool:
        return open_pool(clip_spec, self._reading, self._own_clips)

    @property
    def _own_clips(self) -> int:
        """How many clips a micro-batch of this process has."""
        return self.recipe.batch_size // (self.recipe.accumulate * self.world.size)

    def _build_model(self, pool: DecodePool) -> FinetuneModel:
        """Return the model as it is before the first step, the same in all processes."""
        recipe, config, videos = self.recipe, self.recipe.head_config, self.videos
        classes = classes_of(self.encoder, recipe, videos.lexicon, self._note)
        if classes.texts is not None and (note := collapse_note(classes.texts)):
            self._note(note)
        labels = videos.train_labels
        looked_at, frames = (
            np.zeros(0, np.int64),
            np.zeros((0, recipe.frames, self.encoder.dimension), np.float32),
        )
        if config.classifier == "lda" or config.temporal in ("transformer", "mit"):
            looked_at = np.arange(len(labels))
            if config.classifier != "lda":
                looked_at = some_examples(looked_at)
            shape = (recipe.frames, self.encoder.dimension)
            kept, frames = self._embed(pool, [videos.train[int(i)] for i in looked_at], self._encode, shape)
            looked_at = looked_at[kept]
            if not len(kept):
                name, reason = next(iter(self.unreadable.items()))
                raise FinetuneError(f"none of the first training videos can be read; {name}: {reason}.")
        how = {"seed": recipe.seed, "start": recipe.temporal_start}
        head = untrained_head(frames[:, None], labels[looked_at], classes, config, **how)
        if recipe.video_prompts == "on":
            _, width = self.encoder.patch_shape or (0, 0)
            head = XClipHead.over(head, width, seed=recipe.seed)
        return FinetuneModel(self.encoder, head, recipe, text_branch(self.encoder, recipe, classes))

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.encoder.encode_frames(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])

    def _embed(
        self,
        pool: DecodePool,
        videos: Sequence[Video],
        encode: Callable[[torch.Tensor], torch.Tensor],
        shape: tuple[int, ...],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (positions [m] of the videos that can be read, what `encode` makes of them, [m, *shape] float32); record
        the others."""
        reader = ClipReader(pool, self._shape)
        kept, found, failures = embed_videos(
            reader, videos, lambda pixels: encode(pixels.to(self.world.device)), shape
        )
        self.unreadable |= failures
        return kept, found

    # --- after an epoch

    def _end_epoch(self, number: int, trained: TrainedEpoch, pool: DecodePool) -> None:
        """Validate, report, and keep the weights where they are the best."""
        top1 = loss = interval = None
        scores, labels = self._val_scores(pool)
        n_held = len(labels)
        if n_held:
            config, temperature = (
                self.recipe.head_config,
                float(torch.as_tensor(self.loop.model.temperature).detach()),
            )
            top1, loss = Validation(lambda: scores, labels, temperature, config.view_average)()
            hits = 100.0 * (scores[:, 0].argmax(axis=1) == labels)
            low, high = bootstrap_interval(hits, np.random.default_rng(self.recipe.seed))
            interval = float(low), float(high)
        self.epochs.append(
            EpochReport(
                Epoch(number, trained.loss, top1, loss, trained.n_clips, n_held),
                interval,
                self.loop.rates,
                trained.n_clips / max(trained.seconds, 1e-9),
                trained.waited_seconds / max(trained.seconds, 1e-9),
            )
        )
        score = (math.inf, float(number)) if top1 is None or loss is None else (top1, -loss)
        if score > self._best:
            self._best, self.best_epoch, self._best_weights = score, number, self.loop.weights()

    def _val_scores(self, pool: DecodePool) -> tuple[np.ndarray, np.ndarray]:
        """Return (scores [n, 1, C], labels [n]) of the held-out videos that can be read, of all processes."""
        model, world = self.loop.model.eval(), self.world
        model.sync_text()
        own = np.arange(len(self.videos.held_out))[world.rank :: world.size]
        own = own[[self.videos.held_out[i].id not in self.unreadable for i in own]] if len(own) else own
        with torch.no_grad():
            held_out, shape = [self.videos.held_out[i] for i in own], model.head.class_embeddings.shape[:1]
            kept, scores = self._embed(pool, held_out, model.scores, shape)
        found = world.collect((own[kept], scores[:, None], self.unreadable))
        for _, _, failures in found:
            self.unreadable |= failures
        indices = np.concatenate([indices for indices, _, _ in found])
        order = np.argsort(indices)
        scores = np.concatenate([scores for _, scores, _ in found])[order]
        return scores, self.videos.held_out_labels[indices[order]]

    # --- what is kept

    def _save(self) -> None:
        state = {
            **self.loop.state(),
            "epochs": [asdict(report) for report in self.epochs],
            "best_epoch": self.best_epoch,
            "best": self._best,
            "best_weights": self._best_weights,
            "unreadable": self.unreadable,
        }
        save_checkpoint(self._checkpoint, self._settings, state)

    def _resume(self) -> None:
        state = load_checkpoint(self._checkpoint, self._settings)
        self.loop.load_state(state)
        self.epochs = [
            EpochReport(**{**report, "epoch": Epoch(**report["epoch"])}) for report in state["epochs"]
        ]
        self.best_epoch, self._best = state["best_epoch"], tuple(state["best"])
        self._best_weights, self.unreadable = state["best_weights"], state["unreadable"]
        self._note(f"{self._checkpoint} is continued after epoch {len(self.epochs)} of {self.recipe.epochs}.")

    def _write(self) -> None:
        """Write the model folder; `training.json` comes last."""
        model, recipe, videos = self.loop.model.eval(), self.recipe, self.videos
        frozen = None if self._self_contained else frozen_weights(self.encoder, recipe)
        write_encoder(self.output, self.encoder, model.network, frozen)
        trained = load_open_clip(f"local-dir:{self.output}", device="cpu", precision="fp32")
        settings: dict[str, Any] = {
            "finetuned": recipe.to_dict(),
            "prompts": list(recipe.prompts),
            "text_encoder": Path(recipe.text_encoder).name if recipe.text_encoder else "",
            "temperature": float(torch.as_tensor(model.temperature).detach()),
            "n_train": len(videos.train),
        }
        identity = cache_identity(trained, recipe.sampling)
        seen = {name for video in (*videos.train, *videos.held_out) for name in (video.id, file_id(video))}
        stored = StoredHead(
            model.head.cpu().eval(),
            identity,
            videos.lexicon.labels,
            settings,
            None if model.context is None else model.context.detach().cpu(),
            trained_on=id_fingerprints(sorted(seen)),
        )
        save_head(self.output / HEAD_FILE, stored)
        write_training(
            self.output,
            {
                "recipe": recipe.to_dict(),
                "encoder": {
                    "name": self.encoder.name,
                    "weights_sha256": self.encoder.identity["weights_sha256"],
                },
                "epochs": [asdict(report) for report in self.epochs],
                "best_epoch": self.best_epoch,
                "trained_on": readable_ids(videos.train, self.unreadable),
                "held_out": readable_ids(videos.held_out, self.unreadable),
                "unreadable": self.unreadable,
            },
        )
        self._checkpoint.unlink()
