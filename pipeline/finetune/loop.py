"""The training loop: an epoch over clips, with accumulated gradients, on one process or several."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from ..datasets import Video
from ..heads import lr_factor
from ..video import VideoRequest
from .clips import Batch, ClipReader, epoch_order, epoch_steps, request_of
from .color import ColorAugmentation
from .distributed import World
from .errors import FinetuneError
from .examples import TrainingVideos, mirrored_classes
from .groups import parameter_groups
from .kept_pixels import KeptReader
from .model import FinetuneModel
from .recipe import Recipe

MAX_UNREADABLE = 0.05
"""So large a share of the training videos, or a single one, may be unreadable; more of them stop the training."""


@dataclass(frozen=True)
class TrainedEpoch:
    """What came of the training of an epoch."""

    loss: float
    """Mean over its clips."""
    n_clips: int
    seconds: float
    waited_seconds: float
    """Of these, how long this process waited for clips."""
    failures: dict[str, str]
    """Id of each video that could not be read, and why; of all processes."""


class TrainingLoop:
    """Trains a model in place, epoch by epoch. Raises FitError where nothing of it is trained."""

    def __init__(self, model: FinetuneModel, recipe: Recipe, videos: TrainingVideos, world: World) -> None:
        self.model, self.recipe, self.videos, self.world = model, recipe, videos, world
        self.groups = parameter_groups(model.parts(), recipe)
        self.parameters = [parameter for group in self.groups for parameter in group["params"]]
        self.steps = epoch_steps(len(videos.train) * videos.copies, recipe.batch_size)
        self._optimizer = torch.optim.AdamW(self.groups, betas=recipe.betas, eps=1e-8)
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=recipe.precision == "fp16")
        self._color, self._augmentation = (
            ColorAugmentation(recipe, model.mean.flatten().tolist()),
            recipe.augmentation,
        )
        self._mirrored = mirrored_classes(videos.lexicon)
        self._module: Any = model

    def begin(self) -> None:
        """Give all processes the same weights."""
        self.world.share([parameter.detach() for parameter in self.parameters])
        self.world.share(list(self.model.head.buffers()))
        if self.world.size > 1:
            self._module = DistributedDataParallel(self.model, broadcast_buffers=False)

    # --- what is drawn

    def own_clips(self, epoch: int) -> list[list[int]]:
        """Return the clips of this process in each micro-batch of an epoch, in order: see `epoch_order`."""
        recipe, world = self.recipe, self.world
        order = epoch_order(len(self.videos.train), self.videos.copies, recipe.batch_size, recipe.seed, epoch)
        parts = [part for step in order for part in np.array_split(step, recipe.accumulate)]
        return [part[world.rank :: world.size].tolist() for part in parts]

    def draw(self, clip: int, epoch: int) -> tuple[int, int, int]:
        """Return the draw of a clip: (seed, pass over the videos, video)."""
        copy, video = divmod(clip, len(self.videos.train))
        return self.recipe.seed, (epoch - 1) * self.videos.copies + copy, video

    def video(self, clip: int) -> Video:
        """Return the video of a clip."""
        return self.videos.train[clip % len(self.videos.train)]

    def request(self, clip: int, epoch: int) -> VideoRequest:
        """Return what is asked of the decoder for a clip."""
        return request_of(self.video(clip), self.draw(clip, epoch))

    def labels(self, clips: list[int], epoch: int) -> np.ndarray:
        """Return [B] int64, the classes of clips; of mirrored ones, those that a mirror makes of them."""
        labels = self.videos.train_labels[np.array(clips, np.int64) % len(self.videos.train)]
        flips = np.array([self._augmentation.flips(self.draw(clip, epoch)) for clip in clips], bool)
        return np.where(flips, self._mirrored[labels], labels)

    def draw_prompt(self, step: int) -> int | None:
        """Return which prompt a step of the whole training has, on all processes; None: all of them."""
        if not self.recipe.prompt_draw:
            return None
        # Epochs, which have draws of their own, begin at 1.
        rng = np.random.default_rng(np.random.SeedSequence(self.recipe.seed, spawn_key=(0, step)))
        return int(rng.integers(len(self.recipe.prompts)))

    # --- an epoch

    def train_epoch(
        self, epoch: int, reader: ClipReader | KeptReader, unreadable: Mapping[str, str]
    ) -> TrainedEpoch:
        """Train one epoch.

        epoch         counted from 1
        unreadable    ids of videos that are left out, because they could not be read before

        Raises FinetuneError for a loss that is not finite, and for too many unreadable videos.
        """
        began, waited = time.monotonic(), reader.waited_seconds
        seed = np.random.SeedSequence(self.recipe.seed, spawn_key=(epoch, self.world.rank))
        torch.manual_seed(int(seed.generate_state(1)[0]))  # for mixing, and for towers with dropout
        self.model.train()
        planned = self.own_clips(epoch)
        clips = [[clip for clip in part if self.video(clip).id not in unreadable] for part in planned]
        requests = (self.request(clip, epoch) for part in clips for clip in part)
        batches = zip(clips, reader.batches(requests, [len(part) for part in clips]), strict=True)
        loss, n_clips, failures = 0.0, 0, {}
        for step in range(self.steps):
            self._set_rates((epoch - 1) * self.steps + step)
            prompt = self.draw_prompt((epoch - 1) * self.steps + step)
            step_loss, step_clips = self._step(epoch, prompt, batches, failures)
            loss, n_clips = loss + step_loss, n_clips + step_clips
            if len(failures) * self.world.size > max(1, MAX_UNREADABLE * len(self.videos.train)):
                name, reason = next(iter(failures.items()))
                raise FinetuneError(
                    f"{len(failures)} of {len(self.videos.train)} training videos could not be read so far, the first "
                    f"is {name}: {reason}. Take such videos out of the list."
                )
        if not n_clips:
            raise FinetuneError("none of the training videos could be read.")
        every = {name: why for found in self.world.collect(failures) for name, why in found.items()}
        seconds = time.monotonic() - began
        return TrainedEpoch(
            self.world.sum(loss)[0] / n_clips, n_clips, seconds, reader.waited_seconds - waited, every
        )

    def _step(
        self,
        epoch: int,
        prompt: int | None,
        batches: Iterator[tuple[list[int], Batch]],
        failures: dict[str, str],
    ) -> tuple[float, int]:
        """Do a step of the optimizer; return (sum of the losses of the own clips, clips of all processes)."""
        recipe, world = self.recipe, self.world
        loss_sum, n_clips = 0.0, 0
        for micro in range(recipe.accumulate):
            clips, batch = next(batches)
            failures |= {self.video(clips[i]).id: why for i, why in batch.failures.items()}
            clips = [clips[i] for i in batch.indices]
            n_own, n_all = len(clips), int(world.sum(len(clips))[0])
            n_clips += n_all
            if not n_all and world.size == 1:
                continue
            last = micro == recipe.accumulate - 1
            together = contextlib.nullcontext() if last or world.size == 1 else self._module.no_sync()
            with together, self._naming_the_batch(n_own):
                loss = self._loss(epoch, prompt, clips, batch.pixels)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise FinetuneError(
                        f"the loss of epoch {epoch} is {value}: the training has diverged. Use smaller rates than "
                        f"--learning-rate {recipe.learning_rate:g} and --backbone-rate {recipe.backbone_rate:g}."
                    )
                # Gradients are averaged over processes: what each computes of its own clips counts G times.
                gathers = self.model.gathers
                share = n_all if gathers else n_own * world.size
                self._scaler.scale(loss * (share / recipe.batch_size)).backward()
            loss_sum += value * (n_all / world.size if gathers else n_own)
        if n_clips:
            self._apply_gradients(recipe.batch_size / n_clips)
        return loss_sum, n_clips

    @contextlib.contextmanager
    def _naming_the_batch(self, n_clips: int) -> Iterator[None]:
        """Raise FinetuneError, by the size of the batch, where the device has too little memory for it."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise FinetuneError(
                f"{self.world.device} has too little memory for {n_clips} clips of {self.recipe.frames} frames at once. "
                f"Use --checkpointing, or --accumulate {2 * self.recipe.accumulate} or more."
            ) from None

    def _loss(self, epoch: int, prompt: int | None, clips: list[int], pixels: torch.Tensor) -> torch.Tensor:
        device = self.world.device
        draws = [self.draw(clip, epoch) for clip in clips]
        labels = torch.from_numpy(self.labels(clips, epoch))
        colored = self._color(pixels.to(device, non_blocking=True), draws)
        return self._module(colored, labels.to(device), prompt)

    def _apply_gradients(self, factor: float) -> None:
        """Step with the gradients times `factor`, which makes up for clips that a batch lacks."""
        self._scaler.unscale_(self._optimizer)
        if factor != 1:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        if self.recipe.clip_gradient:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_gradient)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self.model.bound_temperature()

    def _set_rates(self, step: int) -> None:
        recipe = self.recipe
        factor = lr_factor(
            step,
            recipe.warm_up * self.steps,
            recipe.epochs * self.steps,
            minimum=recipe.min_rate,
            cosine=recipe.cosine,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    @property
    def rates(self) -> dict[str, float]:
        """The learning rate of each group, as it was in the last step."""
        return {group["name"]: group["lr"] for group in self._optimizer.param_groups}

    # --- what a checkpoint keeps

    def weights(self) -> dict[str, torch.Tensor]:
        """Return copies, on the CPU, of what training changes."""
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        return {
            name: tensor.detach().cpu().clone()
            for name, tensor in self.model.state_dict().items()
            if name in trained or name.startswith("head.")
        }

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Put back what `weights` gave."""
        self.model.load_state_dict(weights, strict=False)

    def state(self) -> dict[str, Any]:
        """Return weights, optimizer and scaler, for `load_state`."""
        return {
            "weights": self.weights(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.load_weights(state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
