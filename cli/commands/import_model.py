"""`vidclip import-model`: a released checkpoint becomes a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..conditions import with_option
from ..messages import say
from ..options import vidclip_command
from ..parameters import argument, option

if TYPE_CHECKING:
    from ...pipeline.released import Imported


@vidclip_command(
    epilog="Example:  vidclip import-model k400-vitb-16-f8.pt --text openai --lexicon kinetics400 --output text4vis-b16"
)
@argument("checkpoint", type=click.Path(path_type=Path))
@option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the model; it must not be there.",
)
@option(
    "--lexicon",
    help="Classes of the head, in the words it was trained with.  [default: the encoder is written alone]",
)
@option(
    "--text",
    help="For Text4Vis, whose files have no text tower, the CLIP it came from: openai, a checkpoint file, or "
    "local-dir:FOLDER.",
)
@option(
    "--frames", type=click.IntRange(1, 1000),
    help="Frames of a clip, where the weights do not say it.  [default: those in the file's name (-f16), or 8]",
)  # fmt: skip
@option(
    "--attributes", needs=with_option("--lexicon"),
    help="Of BIKE's attributes branch, the lexicon whose phrases it was trained on.  [default: kinetics400]",
)  # fmt: skip
def command(
    checkpoint: Path,
    output: Path,
    lexicon: str | None,
    text: str | None,
    frames: int | None,
    attributes: str | None,
) -> None:
    """Reads CHECKPOINT, a released file of BIKE, Text4Vis or X-CLIP or a folder of a Hugging Face X-CLIP, and writes a
    model folder: --model local-dir:OUTPUT of the other commands, with OUTPUT/head.safetensors for `eval --head` and
    `predict`.

    Weights are told by their names, and read as data: nothing that a file names is run.
    """
    from ...lexicons import load_lexicon
    from ...pipeline.released import import_model
    from ..messages import warn

    classes = load_lexicon(lexicon) if lexicon else None
    made = import_model(
        checkpoint, output, lexicon=classes, text=text, frames=frames, attributes=attributes, on_note=warn
    )
    _report(made)


def _report(made: Imported) -> None:
    """Print what was found, what was made, and the next two commands."""
    from ..messages import quoted
    from ..output import count, printable

    model, folder = made.model, str(made.folder)
    height, width = model.preprocess.size
    say(f"Found: {model.description}, clips of {model.sampling.frames} frames of {width} x {height}.")
    inside = f", with {model.tower.kind} inside" if model.tower else ""
    head = f" and {count(len(made.classes), 'class', 'classes')} in head.safetensors" if made.classes else ""
    say(
        f"Made:  {printable(folder)}: an encoder of {model.architecture['embed_dim']} dimensions{inside}{head}."
    )
    if not made.classes:
        say("       No head: --lexicon gives its classes.")
    cache, named = f"features-{made.folder.name}", ["--model", f"local-dir:{folder}"]
    reading = [
        *("--frames", str(model.sampling.frames), "--position", model.sampling.position),
        *(("--resize", str(model.preprocess.resize)) if model.preprocess.resize else ()),
    ]
    scoring = ["--head", str(made.folder / "head.safetensors")]
    if made.attributes:
        scoring = ["--attributes", made.attributes, *scoring]
    if not made.classes:
        scoring = ["--pool", "mean"]
    say("Next:")
    say("  " + quoted(["vidclip", "extract", "VIDEOS", *named, "--cache", cache, *reading]))
    say("  " + quoted(["vidclip", "eval", "--cache", cache, *named, *scoring]))
