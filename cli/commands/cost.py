"""`vidclip cost`: what models cost."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...pipeline.choices import PRECISIONS, TEMPORAL, TOWERS
from ..conditions import with_option, without_option
from ..options import json_option, vidclip_command
from ..parameters import Device, option
from ..prompt_options import PROMPT_GROUP, prompt_config, prompt_options

if TYPE_CHECKING:
    from ...pipeline.evaluation import ModelCost, Speed


@vidclip_command(
    epilog="Example:  vidclip cost --model ViT-B-32 --model ViT-B-16 --model ViT-L-14 --temporal transformer",
    groups={"Temporal prompts (default: as the paper has them)": PROMPT_GROUP},
)
@option(
    "--model", "models", multiple=True, required=True,
    help="An open_clip model, local-dir:FOLDER, demo or demo-vit; may be repeated. No weights are needed.",
)  # fmt: skip
@option(
    "--head", "heads", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
    help="The file of a trained head: one for each --model, in the same order.",
)  # fmt: skip
@option(
    "--temporal", type=click.Choice(TEMPORAL), default="mean", show_default=True, needs=without_option("--head"),
    help="An untrained temporal module instead of a head.",
)  # fmt: skip
@option(
    "--tower", type=click.Choice(TOWERS), default="none", show_default=True,
    help="Put this inside the visual towers, as `vidclip finetune` does.",
)  # fmt: skip
@prompt_options(with_option("--tower", "temporal-prompts"))
@option("--frames", type=click.IntRange(1, 4096), default=8, show_default=True, help="Frames of a clip.")
@option(
    "--size", type=click.IntRange(1, 10_000), help="Side of the square the model sees.  [default: its own]"
)
@option("--measure", is_flag=True, help="Clips a second and memory on this device too, with random weights.")
@option(
    "--videos", type=click.Path(path_type=Path), needs=with_option("--measure"),
    help="A folder, a list or a file: clips a second with decoding too.",
)  # fmt: skip
@option(
    "--device", type=Device(), default="auto", show_default=True, needs=with_option("--measure"),
    help="auto, cpu, cuda, cuda:1, mps.",
)  # fmt: skip
@option(
    "--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True, needs=with_option("--measure"),
    help="Of the measured encoder, as in `vidclip extract`.",
)  # fmt: skip
@json_option
def command(
    models: tuple[str, ...],
    heads: tuple[Path, ...],
    temporal: str,
    tower: str,
    frames: int,
    size: int | None,
    measure: bool,
    videos: Path | None,
    device: str,
    precision: str,
    json_file: Path | None,
    **of_prompts: Any,
) -> None:
    """Counts the parameters of models, and their multiply-adds for one clip in one view: of the visual tower and of
    what stands behind it.

    Papers call multiply-adds FLOPs. The last two columns count as Table 12 of Text4Vis does: without attention.
    """
    if heads and len(heads) != len(models):
        raise click.UsageError(
            f"{len(models)} --model and {len(heads)} --head: give one for each, in the same order."
        )
    from ...pipeline.datasets import read_videos
    from ...pipeline.evaluation import measure_speed, model_cost
    from ...pipeline.heads import AttributesHead, load_head
    from ..output import console, table, write_json

    listed = read_videos(videos) if videos else None
    prompts = prompt_config(of_prompts) if tower == "temporal-prompts" else None
    costs, speeds = [], []
    for place, model in enumerate(models):
        head = load_head(heads[place]).module if heads else None
        if isinstance(head, AttributesHead):
            raise click.UsageError(f"{heads[place]} is a head for attributes, which reads no videos.")
        try:
            cost = model_cost(
                model,
                frames=frames,
                image_size=size,
                tower=tower,
                prompts=prompts,
                head=head,
                temporal=temporal,
            )
        except ValueError as error:
            raise click.UsageError(f"{model}: {error}.") from error
        costs.append(cost)
        if measure:
            speeds.append(
                measure_speed(
                    model,
                    frames=frames,
                    image_size=size,
                    tower=tower,
                    prompts=prompts,
                    device=device,
                    precision=precision,
                    videos=listed,
                )
            )
    if str(json_file) != "-":
        columns = [
            "model",
            "head",
            "parameters",
            "multiply-adds",
            "of the head",
            "Table 12: parameters",
            "multiply-adds",
        ]
        rows = [
            (
                cost.model,
                cost.head,
                f"{cost.parameters / 1e6:.1f} M",
                f"{cost.multiply_adds / 1e9:.1f} G",
                f"{cost.head_multiply_adds / 1e9:.2f} G",
                f"{cost.table12_parameters / 1e6:.1f} M",
                f"{cost.table12_multiply_adds / 1e9:.1f} G",
            )
            for cost in costs
        ]
        console().print(table(f"one clip of {frames} frames, one view", columns, rows, left=2))
        if speeds:
            _print_speeds(costs, speeds)
    if json_file:
        write_json(
            json_file,
            [
                {
                    **asdict(cost),
                    "parameters": cost.parameters,
                    "multiply_adds": cost.multiply_adds,
                    **({"measured": asdict(speeds[place])} if speeds else {}),
                }
                for place, cost in enumerate(costs)
            ],
        )


def _print_speeds(costs: list[ModelCost], speeds: list[Speed]) -> None:
    from ..output import console, size, table

    rows = [
        (
            cost.model,
            f"{speed.device}, {speed.precision}",
            speed.batch,
            f"{speed.encode_clips_per_second:.1f}",
            "-" if speed.extract_clips_per_second is None else f"{speed.extract_clips_per_second:.1f}",
            size(speed.memory_bytes),
        )
        for cost, speed in zip(costs, speeds, strict=True)
    ]
    columns = ["model", "device", "clips at once", "clips/s", "with decoding", "memory"]
    console().print(table("measured here, without a head", columns, rows, left=2))
