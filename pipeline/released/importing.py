"""A checkpoint of BIKE, Text4Vis or X-CLIP becomes a model folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...lexicons import Lexicon, load_lexicon
from ..encoders import load_open_clip, remembered, resolve_prompts, write_model
from ..evaluation import RELEASED_FORMS
from ..extraction import cache_identity
from ..heads import HEAD_FILE, StoredHead, save_head
from .bike import read_bike
from .model import ReleasedModel
from .read import ReleasedError, read_checkpoint, weights_of
from .text4vis import read_text4vis
from .xclip import read_hugging_face, read_official

_FRAMES = 8
"""T where neither the user nor the name of the file says it."""
_ATTRIBUTES = "kinetics400"
"""The lexicon of attributes where the user names none: that of the released files."""


@dataclass(frozen=True)
class Imported:
    """What was found, and what was made of it."""

    model: ReleasedModel
    folder: Path
    classes: tuple[str, ...]
    """Those of the head; none, where there is no head."""
    attributes: str = ""
    """The lexicon of the attributes that the head reads; empty, where it reads frames."""


def import_model(
    path: Path,
    output: Path,
    *,
    lexicon: Lexicon | None = None,
    text: str | None = None,
    frames: int | None = None,
    attributes: str | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Imported:
    """Write the model folder `output`, whole or not at all, from a checkpoint file or a folder of Hugging Face.

    What a file is follows from the names of its weights; nothing that it names is run.

    lexicon    the classes of the head; None: the encoder alone is written
    text       for Text4Vis, whose files have no text tower: see `read_text4vis`
    frames     T of a clip, where the weights do not say it. None: what the name of the file says (`-f16`), else 8
    attributes    for BIKE's attributes branch, the lexicon whose phrases it was trained on. None: kinetics400

    Raises ReleasedError for what cannot be imported, and for an output that is there; EncoderError; OSError.
    """
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ReleasedError(f"{output} is there already: it is not overwritten. Use another --output.")
    model = _read(path, text, frames)
    if frames is not None and model.sampling.frames != frames:
        raise ReleasedError(
            f"{path} was trained on clips of {model.sampling.frames} frames, not {frames}: leave --frames out."
        )
    if attributes is not None and model.attributes is None:
        raise ReleasedError(
            f"{path} is not of BIKE's attributes branch, and reads no attributes: leave --attributes {attributes} out."
        )
    phrases = load_lexicon(attributes or _ATTRIBUTES) if model.attributes and lexicon else None
    for message in model.notes:
        if on_note:
            on_note(message)
    with _new_folder(output) as folder:
        write_model(
            folder, model.architecture, replace(model.preprocess, resize=None), model.weights, model.tower
        )
        if lexicon is not None:
            _write_head(folder, output, model, lexicon, phrases, path)
    source = attributes or _ATTRIBUTES if phrases else ""
    return Imported(model, output, lexicon.labels if lexicon else (), source)


def _read(path: Path, text: str | None, frames: int | None) -> ReleasedModel:
    if path.is_dir():
        model = read_hugging_face(path)
    else:
        model = _read_file(path, text, frames or _frames_in(path.name) or _FRAMES)
    if text is not None and model.paper != "text4vis":
        raise ReleasedError(f"{path} brings its own text tower: leave --text {text} out.")
    return model


def _frames_in(name: str) -> int | None:
    """Return 16 of `k400-vitb-16-f16.pt`."""
    found = re.findall(r"(?:^|[-_.])f(\d{1,3})(?=[-_.])", name)
    return int(found[-1]) if found else None


def _read_file(path: Path, text: str | None, frames: int) -> ReleasedModel:
    """Return the model of a file, by the names of its weights."""
    file, where = read_checkpoint(path), str(path)
    if "fusion_model_state_dict" in file:
        return read_bike(file, frames, where)
    inner = next(
        (file[key] for key in ("model_state_dict", "model", "state_dict") if _is_table(file.get(key))), file
    )
    weights = weights_of(inner, where)
    if _has(weights, r"visual\.transformer\.resblocks\.\d+\.message_fc\."):
        return read_official(weights, where)
    if _has(weights, r"vision_model\.encoder\.layers\.\d+\.message_fc\."):
        raise ReleasedError(
            f"{path} is of a Hugging Face X-CLIP, whose config.json says how many attention heads it has: give the "
            "folder that holds both."
        )
    if _has(weights, r"fusion_model\.") or (
        _has(weights, r"visual\.") and "token_embedding.weight" not in weights
    ):
        return read_text4vis(weights, text, frames, where)
    if _has(weights, r"visual\.") and "token_embedding.weight" in weights:
        raise ReleasedError(
            f"{path} holds a CLIP, with nothing of BIKE, Text4Vis or X-CLIP: use it as it is, with --model and "
            "--pretrained of the other commands."
        )
    first = next(iter(weights), "nothing")
    raise ReleasedError(
        f"{path} is not of BIKE, Text4Vis or X-CLIP: it has none of their weights (the first is {first!r})."
    )


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _has(weights: Mapping[str, torch.Tensor], pattern: str) -> bool:
    return any(re.match(pattern, name) for name in weights)


@contextlib.contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """Give a folder that becomes `output` where all goes well, and else disappears."""
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = output.parent / f".{output.name}.{os.getpid()}.part"
    folder.mkdir()
    try:
        yield folder
        folder.rename(output)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write_head(
    folder: Path, output: Path, model: ReleasedModel, lexicon: Lexicon, phrases: Lexicon | None, path: Path
) -> None:
    encoder = load_open_clip(f"local-dir:{folder}", device="cpu", precision="fp32")
    prompts = resolve_prompts([RELEASED_FORMS[model.paper].options["prompt"]])
    texts = encoder.encode_text(lexicon.phrases, prompts, words=model.head_words)
    identity = cache_identity(encoder, model.clip_spec)
    stored = StoredHead(
        model.head(texts),
        replace(identity, model=remembered(f"local-dir:{output}")),
        lexicon.labels,
        {
            "imported": {"paper": model.paper, "file": path.name},
            "prompts": list(prompts),
            "temperature": model.temperature,
            **({"attributes": model.attributes.of([phrases])} if model.attributes and phrases else {}),
        },
    )
    save_head(folder / HEAD_FILE, stored)
