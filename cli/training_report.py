"""What `vidclip finetune` prints: its plan, a line an epoch, and what came of it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .messages import say

if TYPE_CHECKING:
    from ..pipeline.finetune import EpochReport, Finetuned, Finetuning, Recipe


def print_beginning(training: Finetuning) -> None:
    from .output import count

    videos, recipe = training.videos, training.recipe
    held = f", {count(len(videos.held_out), 'video')} held out" if len(videos.held_out) else ""
    say(
        f"{count(len(videos.train), 'video')} of {count(len(videos.lexicon), 'class', 'classes')}{held}; "
        f"{count(training.loop.steps, 'step')} of {recipe.batch_size} clips in each of {count(recipe.epochs, 'epoch')}."
    )


def print_plan(training: Finetuning) -> None:
    """What `--dry-run` says."""
    from .output import console, count, duration, echo_some, printable, size, table

    recipe, loop = training.recipe, training.loop
    rows = [(key, _shown(recipe, key, value)) for key, value in recipe.to_dict().items() if key != "name"]
    console().print(table(f"recipe {recipe.name}", ["setting", "value"], rows, left=2))
    groups = [
        (
            group["name"],
            f"{len(group['params']):,}",
            f"{sum(parameter.numel() for parameter in group['params']):,}",
            f"{group['base_lr']:g}",
            f"{group['weight_decay']:g}",
        )
        for group in loop.groups
    ]
    console().print(table("parameters", ["group", "tensors", "numbers", "rate", "decay"], groups))
    print_beginning(training)
    clips = len(training.videos.train) * training.videos.copies
    if clips % recipe.batch_size and clips > recipe.batch_size:
        click.echo(f"An epoch leaves out {clips % recipe.batch_size} of {clips:,} clips, others each time.")
    held = sum(p.numel() * p.element_size() for p in loop.model.parameters())
    trained = sum(p.numel() * p.element_size() for p in loop.parameters)
    click.echo(
        f"Memory of weights, gradients and optimizer on each device: {size(held + 3 * trained)}; activations come on top."
    )
    batch, seconds, kept = training.read_one_batch()
    click.echo(
        f"One batch: {count(len(batch.indices), 'clip')} of {' x '.join(map(str, batch.pixels.shape[1:]))} read in "
        f"{duration(seconds)}, the start of the workers included."
    )
    if recipe.keep_pixels:
        n_videos = len(training.videos.train)
        click.echo(
            f"Memory of kept pixels on each process: about {size(round(kept * n_videos))} for {count(n_videos, 'video')}, "
            f"{recipe.keep_pixels} of each segment."
        )
    if batch.failures:
        clips_of = loop.own_clips(1)[0]
        echo_some([f"{printable(loop.video(clips_of[i]).id)}: {why}" for i, why in batch.failures.items()])


def _shown(recipe: Recipe, name: str, value: object) -> str:
    if value is None:
        return "trained" if name == "temperature" else "none"
    if name == "warm_up_epochs" and recipe.warm_up != value:
        return f"{recipe.warm_up:.2g}, a sixth of the epochs"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def print_epoch(report: EpochReport, recipe: Recipe) -> None:
    epoch, held = report.epoch, ""
    if epoch.held_out_top1 is not None and report.interval is not None:
        low, high = report.interval
        held = f"held out {epoch.held_out_top1:.1f} % [{low:.1f}, {high:.1f}], "
    rates = ", ".join(f"{rate:.1e}" for rate in dict.fromkeys(report.rates.values()))
    say(
        f"epoch {epoch.number} of {recipe.epochs}: loss {epoch.loss:.3f}, {held}rate {rates}, "
        f"{report.clips_per_second:.1f} clips/s, {100 * report.waiting:.0f} % of the time waiting for clips"
    )


def print_result(training: Finetuning, done: Finetuned, output: Path, plot: Path | None) -> None:
    from .output import count, echo_some, printable, save_picture

    best = done.epochs[done.best_epoch - 1].epoch
    held = "" if best.held_out_top1 is None else f", {best.held_out_top1:.1f} % of the held-out videos right"
    say(f"{printable(output)}: epoch {best.number} of {len(done.epochs)} kept, loss {best.loss:.3f}{held}.")
    if done.unreadable:
        n_videos = len(training.videos.train) + len(training.videos.held_out)
        click.echo(
            f"{len(done.unreadable):,} of {count(n_videos, 'video')} could not be read, and were left out:"
        )
        echo_some([f"{name}: {reason}" for name, reason in done.unreadable.items()])
    if plot:
        from ..pipeline.report import loss_curve

        title = f"{training.recipe.name}, {training.recipe.head_config.name}"
        epochs = [report.epoch for report in done.epochs]
        save_picture(loss_curve(epochs, done.best_epoch, title), plot)
    model, head = shlex.quote(f"local-dir:{output}"), shlex.quote(str(output / "head.safetensors"))
    mode = f" --mode {training.recipe.mode}" if training.recipe.mode != "uniform" else ""
    mode += f" --position {training.recipe.position}" if training.recipe.position != "start" else ""
    say(f"Next: vidclip extract VIDEOS --model {printable(model)} --frames {training.recipe.frames}{mode}")
    say(f"      vidclip eval --model {printable(model)} --head {printable(head)}")
