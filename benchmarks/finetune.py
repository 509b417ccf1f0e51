"""How fast `vidclip finetune` trains, against what its parts could do alone, and against a plain PyTorch loop.

    python benchmarks/finetune.py                                    # rendered clips, the packaged encoder
    python benchmarks/finetune.py --model ViT-B-32 --pretrained openai --batch-size 32
    python benchmarks/finetune.py --device cuda --model ViT-B-16 --pretrained openai --precision bf16 --precision fp16

    bare step      forward, backward and optimizer step of the same model on pixels that are ready
    decode only    the frames, boxes and flips of an epoch; the start of the workers does not count
    side by side   both at once, neither waiting for the other: what this machine can do of the two, whose cores may share
                   caches, bandwidth and, as hyperthreads, what they compute with
    vidclip        an epoch of `Finetuning`, decoding and colors included
    DataLoader     what one would write by hand: decord, torchvision's random crops, flips and colors in worker
                   processes, the same model and optimizer

Efficiency on a CPU: CPU seconds of bare steps plus those of decoding, each measured alone, over cores x wall seconds of an
epoch; and wall seconds side by side over those of an epoch. On a GPU: wall seconds of bare steps over those of an epoch.
Figures are ratios within one run; machines are noisy.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # as `vidclip finetune` does; the other loop gains by it as well

import numpy as np
import torch

if TYPE_CHECKING:
    from vidclip.pipeline.encoders import OpenClipEncoder
    from vidclip.pipeline.finetune import Finetuning, TrainingLoop, TrainingVideos
    from vidclip.pipeline.video import DecodePool


@dataclass
class Measured:
    wall: float
    cpu: float
    """CPU seconds of this process and of children that have ended."""


def measure(run: Callable[[], object]) -> Measured:
    _synchronize()
    began = time.perf_counter(), _cpu_seconds()
    run()
    _synchronize()
    return Measured(time.perf_counter() - began[0], _cpu_seconds() - began[1])


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _cpu_seconds() -> float:
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rendered_videos(folder: Path, count: int) -> Path:
    """Clips of the demo's world, and the list of them."""
    from vidclip.demo.videos import first_clips, write_world

    for _ in write_world(folder, first_clips(count), workers=cores()):
        pass
    return folder / "videos.csv"


class Step:
    """A step of the optimizer as the loop does it, and nothing else."""

    def __init__(self, loop: TrainingLoop) -> None:
        recipe = loop.recipe
        self.parameters, self.clip = loop.parameters, recipe.clip_gradient or float("inf")
        self.optimizer = torch.optim.AdamW(loop.groups, betas=recipe.betas)
        self.scaler = torch.amp.GradScaler(loop.world.device.type, enabled=recipe.precision == "fp16")

    def __call__(self, loss: torch.Tensor) -> None:
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)


def bare_steps(training: Finetuning) -> Measured:
    """The steps of an epoch on one batch that is ready."""
    run = _steps(training)
    return measure(lambda: run(training.loop.steps))


def _steps(training: Finetuning) -> Callable[[int], None]:
    """Return what does so many steps on one batch, warm."""
    loop, recipe = training.loop, training.recipe
    step, model = Step(loop), loop.model.train()
    rng = np.random.default_rng(0)
    shape = (recipe.batch_size, recipe.frames, *training.encoder.preprocess.size, 3)
    pixels = torch.from_numpy(rng.integers(0, 256, shape, np.uint8)).to(loop.world.device)
    labels = torch.from_numpy(loop.labels(loop.own_clips(1)[0], 1)).to(loop.world.device)

    def run(steps: int) -> None:
        for _ in range(steps):
            step(model(pixels, labels))

    run(2)
    return run


def _pool(training: Finetuning, workers: int) -> DecodePool:
    from vidclip.pipeline.video import Augmentation, ClipSpec, DecodePool, Sampling

    recipe = training.recipe
    sampling = Sampling(recipe.frames, position="random")
    augmentation = Augmentation(recipe.crop, flip=recipe.flip)
    return DecodePool(ClipSpec(sampling, training.encoder.preprocess, augmentation), workers=workers)


def _decode(pool: DecodePool, training: Finetuning, passes: int = 1) -> None:
    loop = training.loop
    requests = [loop.request(clip, 2) for part in loop.own_clips(2) for clip in part]
    for _, result in pool.decode(requests * passes, ordered=False):
        result.release()


def decode_only(training: Finetuning, workers: int) -> Measured:
    """The clips of an epoch, without the start of the workers: what a second pass over them costs."""

    def run(passes: int) -> None:
        with _pool(training, workers) as pool:
            _decode(pool, training, passes)

    one, two = measure(lambda: run(1)), measure(lambda: run(2))
    return Measured(two.wall - one.wall, two.cpu - one.cpu)


def side_by_side(training: Finetuning, workers: int) -> Measured:
    """The steps of an epoch on one batch that is ready, while the clips of an epoch are decoded; until both are done."""
    steps = _steps(training)
    with _pool(training, workers) as pool:
        _decode(pool, training)  # the workers have started

        def run() -> None:
            decoding = threading.Thread(target=_decode, args=(pool, training))
            decoding.start()
            steps(training.loop.steps)
            decoding.join()

        wall = measure(run).wall
    return Measured(wall, float("nan"))


@dataclass
class Clips:
    """What a DataLoader reads: random frames by decord, and torchvision's transforms."""

    paths: list[str]
    labels: list[int]
    frames: int
    transform: Any

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, n: int) -> tuple[torch.Tensor, int]:
        import decord
        from torchvision import tv_tensors

        reader = decord.VideoReader(self.paths[n], num_threads=1)
        edges = np.arange(self.frames + 1) * len(reader) // self.frames
        offsets = (torch.rand(self.frames).numpy() * np.diff(edges)).astype(int)
        indices = edges[:-1] + offsets
        pixels = torch.from_numpy(reader.get_batch(indices).asnumpy())
        return self.transform(tv_tensors.Video(pixels.permute(0, 3, 1, 2))), self.labels[n]


def plain_loop(training: Finetuning, workers: int) -> Measured:
    """An epoch of a DataLoader and a loop over it, after one that warms both."""
    from torch.utils.data import DataLoader
    from torchvision.transforms import v2

    from vidclip.pipeline.heads import scores_loss

    loop, recipe, preprocess = training.loop, training.recipe, training.encoder.preprocess
    colors = [v2.RandAugment(*recipe.rand_augment)] if recipe.rand_augment[0] else []
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(preprocess.size, antialias=True),
            v2.RandomHorizontalFlip(recipe.flip),
            *colors,
            v2.RandomGrayscale(recipe.gray),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(preprocess.mean, preprocess.std),
        ]
    )
    videos = training.videos
    clips = Clips([str(v.path) for v in videos.train], videos.train_labels.tolist(), recipe.frames, transform)
    device, precision = loop.world.device, recipe.precision
    loader = DataLoader(
        clips,
        recipe.batch_size,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )
    step, model = Step(loop), loop.model.train()
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]

    def run() -> None:
        for pixels, labels in loader:
            pixels, labels = pixels.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            with torch.autocast(device.type, dtype, enabled=precision != "fp32"):
                frames = model.network.encode_image(pixels.flatten(0, 1))
            scores = model.head(frames.float().unflatten(0, pixels.shape[:2]))
            step(scores_loss(scores, labels, temperature=model.temperature, form=recipe.loss))

    run()
    return measure(run)


def labeled_videos(source: Path, split: str | None = None) -> TrainingVideos:
    from vidclip.pipeline.datasets import read_videos
    from vidclip.pipeline.finetune import training_videos

    return training_videos(read_videos(source), split=split, held_out=0)


def begin_training(
    videos: TrainingVideos, encoder: OpenClipEncoder, folder: Path, workers: int, recipe: str, **changes: Any
) -> Finetuning:
    """A training of two epochs: the first starts the workers, the second is measured."""
    from vidclip.pipeline.extraction import ExtractSettings
    from vidclip.pipeline.finetune import Finetuning, find_recipe

    output = Path(tempfile.mkdtemp(dir=folder)) / "model"
    found = find_recipe(recipe, held_out=0.0, epochs=2, **changes)
    return Finetuning(videos, encoder, found, output, reading=ExtractSettings(workers))


def main() -> None:
    from vidclip.pipeline.encoders import load_open_clip

    arguments = _arguments()
    workers = arguments.workers or cores()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = arguments.videos or rendered_videos(folder / "world", arguments.steps * arguments.batch_size)
        videos = labeled_videos(source, "all" if arguments.videos else None)

        def begin(precision: str) -> Finetuning:
            encoder = load_open_clip(
                arguments.model, arguments.pretrained, device=arguments.device, precision="fp32"
            )
            return begin_training(
                videos, encoder, folder, workers, arguments.recipe,
                frames=arguments.frames, batch_size=arguments.batch_size, precision=precision,
            )  # fmt: skip

        for precision in arguments.precision or ["auto"]:
            report(partial(begin, precision), workers, arguments.rounds)


def report(begin: Callable[[], Finetuning], workers: int, rounds: int) -> None:
    names = ("vidclip", "bare step", "decode only", "side by side", "DataLoader")
    seconds: dict[str, list[Measured]] = {name: [] for name in names}
    waiting, memory, training = [], "", begin()
    for _ in range(rounds):
        epoch = training.run().epochs[1]
        memory = memory or _memory(training)  # of the first training, before anything else has run
        waiting.append(epoch.waiting)
        seconds["vidclip"].append(Measured(epoch.epoch.n_examples / epoch.clips_per_second, float("nan")))
        seconds["bare step"].append(bare_steps(begin()))
        seconds["decode only"].append(decode_only(training, workers))
        seconds["side by side"].append(side_by_side(begin(), workers))
        seconds["DataLoader"].append(plain_loop(begin(), workers))
        training = begin()
    recipe, device = training.recipe, training.loop.world.device
    clips = training.loop.steps * recipe.batch_size
    print(
        f"{recipe.name} on {training.encoder.name.split(' ')[0]}, {device}, {recipe.precision}: {training.loop.steps} steps of "
        f"{recipe.batch_size} clips x {recipe.frames} frames; {cores()} cores, {torch.get_num_threads()} threads, "
        f"{workers} workers; medians of {rounds} rounds"
    )
    print(f"{'':12}{'clips/s':>10}{'steps/s':>10}{'wall s':>10}{'CPU s':>10}")
    for name, own in seconds.items():
        wall, cpu = np.median([m.wall for m in own]), np.median([m.cpu for m in own])
        print(f"{name:12}{clips / wall:10.1f}{training.loop.steps / wall:10.2f}{wall:10.2f}{cpu:10.2f}")
    parts = zip(*(seconds[name] for name in names), strict=True)
    ratios = [
        (
            bare.wall / own.wall if device.type == "cuda" else (bare.cpu + decode.cpu) / (cores() * own.wall),
            both.wall / own.wall,
            plain.wall / own.wall,
        )
        for own, bare, decode, both, plain in parts
    ]
    of = (
        "bare steps' wall s / wall s"
        if device.type == "cuda"
        else "(bare steps' + decoding's CPU s) / (cores x wall s)"
    )
    print(f"efficiency, {of}: {_spread(ratio[0] for ratio in ratios)}")
    print(f"efficiency, wall s side by side / wall s: {_spread(ratio[1] for ratio in ratios)}")
    print(f"times faster than the DataLoader loop: {_spread(ratio[2] for ratio in ratios)}")
    print(f"waiting for clips: {_spread(waiting)} of the time; {memory}")


def _memory(training: Finetuning) -> str:
    own, child = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    told = f"peak memory {own:,.0f} MiB, the largest worker {child:,.0f} MiB"
    if training.loop.world.device.type == "cuda":
        told += f", on the device {torch.cuda.max_memory_allocated() / 2**20:,.0f} MiB"
    return told


def _spread(values: Iterable[float]) -> str:
    found = list(values)
    if len(found) == 1:
        return f"{found[0]:.2f}"
    return f"{np.median(found):.2f} [{min(found):.2f}, {max(found):.2f}]"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--videos", type=Path, help="a folder ROOT/LABEL/VIDEO or a list; default: rendered clips"
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--pretrained", default="")
    parser.add_argument("--recipe", default="text4vis")
    parser.add_argument("--precision", action="append", help="may be given several times; default: auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20, help="of an epoch, where clips are rendered")
    parser.add_argument("--workers", type=int, help="default: one a core")
    parser.add_argument("--rounds", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
