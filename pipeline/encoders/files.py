"""`encoder.json` of a cache: which files its encoder was loaded from, so that it is recognized without reading them.

    {"format": "vidclip-encoder-files", "version": 1, "identity": "...", "asked": {"model": "...", ...},
     "programs": {"open_clip_torch": "3.2.0", ...}, "files": [[path, bytes, modified, changed, inode], ...]}

Nothing is concluded from names alone: where a file is not known to be the one that was loaded, or where a
tokenizer or a part of the model comes from somewhere else, the encoder is loaded. This module imports no torch.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.resources
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...cache import Identity, write_whole
from ...cache.files import read_regular
from .plugins import is_plugin
from .towers.config import FrozenWeights, read_tower

if TYPE_CHECKING:
    from .protocol import Encoder

ENCODER_FILE = "encoder.json"
FORMAT = "vidclip-encoder-files"
VERSION = 1
SETTLED_NS = 2 * 10**9
"""A file that was written so shortly before it was read may have been written again within the same time stamp."""
_MOST_FILES = 200
"""Files of a model folder; a folder that has more is none, and is not looked through."""
HUGGING_FACE = "hf"
"""`hf:FOLDER` or `hf:OWNER/NAME`: a model of transformers."""
PACKAGED = {"demo": "encoder", "demo-vit": "vit"}
"""Encoders that come with the package, and their folders in vidclip.demo."""
WEIGHTS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""How files of weights are called; of a folder in their place, one that is called so is suggested."""
DEMO_CHINESE = "demo-zh"
"""As a second text tower: the packaged one, with the tokens of Chinese."""
_PROGRAMS = ("vidclip", "open_clip_torch", "torch")
_OF_TRANSFORMERS = ("transformers", "tokenizers", "timm", "torchvision", "sentencepiece")


@dataclass(frozen=True)
class EncoderRequest:
    """How an encoder is asked for, as `load_encoder` takes it."""

    model: str
    pretrained: str = ""
    image_size: int | None = None

    def absolute(self) -> EncoderRequest:
        """Return it with absolute paths: in another working folder, the same words may mean another file."""
        pretrained = os.path.abspath(self.pretrained) if Path(self.pretrained).is_file() else self.pretrained  # noqa: PTH100
        return EncoderRequest(remembered(self.model), pretrained, self.image_size)


def remember_encoder(
    folder: Path, identity: Identity, asked: EncoderRequest, files: Iterable[Path], began_ns: int
) -> None:
    """Write `encoder.json`: from which files the encoder of a cache was loaded.

    files       all that shape it, beside the programs; none where that is not known
    began_ns    when loading began: files that were written after that, or right before it, are not trusted
    """
    files = sorted(files)
    stamps = [_stamp(path) for path in files]
    latest = began_ns - SETTLED_NS
    if not files or any(stamp is None or stamp[2] > latest or stamp[3] > latest for stamp in stamps):
        return
    document = {
        "format": FORMAT,
        "version": VERSION,
        "identity": identity.digest,
        "asked": asdict(asked.absolute()),
        "programs": _programs(asked.model),
        "files": stamps,
    }
    data = (json.dumps(document, indent=2) + "\n").encode()
    path = folder / ENCODER_FILE
    with contextlib.suppress(OSError):
        if path.exists() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return
    write_whole(path, data)


def is_known_encoder(folder: Path, identity: Identity, asked: EncoderRequest) -> bool:
    """Return whether the encoder asked for is certainly the one whose features the cache holds.

    Its files are then those that were loaded for the cache: by path, size, modification, change of state
    (which no program can set) and inode.
    """
    try:
        document = json.loads(read_regular(folder / ENCODER_FILE, 2**20))
        asked = asked.absolute()
        expected = {"format": FORMAT, "version": VERSION, "identity": identity.digest, "asked": asdict(asked)}
        files, own = document["files"], _files_of_folder(asked.model)
        listed = {entry[0] for entry in files}
        # Weights that open_clip has fetched are outside of the folder.
        fetched = _frozen_weights(asked.model, packaged=False) is not None
        return (
            all(document.get(key) == value for key, value in expected.items())
            and document.get("programs") == _programs(asked.model)
            and 0 < len(files) <= 2 * _MOST_FILES
            and all(_stamp(Path(entry[0])) == entry for entry in files)
            # A new file in a model folder may be loaded in the place of another.
            and (own is None or _are_files_of(own, listed, fetched))
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return False


def _are_files_of(folder: list[Path], listed: set[str], fetched: bool) -> bool:
    own = {str(path) for path in folder}
    return own < listed if fetched else own == listed


def remembered(model: str) -> str:
    """Return `--model` as a cache keeps it: with the absolute path of a folder."""
    schema, _, place = model.partition(":")
    of_folder = schema == "local-dir" or (schema == HUGGING_FACE and Path(place).is_dir())
    return f"{schema}:{os.path.abspath(place)}" if of_folder else model  # noqa: PTH100


def model_folder(model: str) -> Path | None:
    """Return the folder that a model is loaded from, where its name says it."""
    if model in PACKAGED:
        return Path(str(importlib.resources.files("vidclip.demo"))) / PACKAGED[model]
    schema, _, place = remembered(model).partition(":")
    return Path(place) if schema == "local-dir" or (schema == HUGGING_FACE and Path(place).is_dir()) else None


def brings_its_weights(model: str) -> bool:
    """Return whether a model's name says where its weights are, so that no `--pretrained` goes with it."""
    if model in PACKAGED or model.partition(":")[0] in ("local-dir", "hf-hub", HUGGING_FACE):
        return True
    return is_plugin(model)


def weights_of_demo_vit() -> tuple[Path, Path]:
    """Return (its visual tower, the packaged encoder, whose text tower it shares)."""
    demo = Path(str(importlib.resources.files("vidclip.demo")))
    return demo / PACKAGED["demo-vit"] / "visual.safetensors", demo / PACKAGED[
        "demo"
    ] / "open_clip_model.safetensors"


def chinese_of_demo() -> Path:
    """Return the rows of Chinese tokens for the packaged text tower."""
    return Path(str(importlib.resources.files("vidclip.demo"))) / "chinese.safetensors"


def _files_of_folder(model: str) -> list[Path] | None:
    """Return all files that shape a model which is loaded from a folder; None for another model."""
    folder = model_folder(model)
    if folder is None:
        return None
    shared = list(weights_of_demo_vit()[1:]) if model == "demo-vit" else []
    frozen = _frozen_weights(model, packaged=True)
    shared += _files_of_folder(frozen.model) or [] if frozen else []
    return files_below(folder) + shared


def _frozen_weights(model: str, *, packaged: bool) -> FrozenWeights | None:
    """Return whose weights the towers of a model folder have, where these come with the package, or else are fetched."""
    schema, _, place = model.partition(":")
    try:
        frozen = read_tower(Path(place))[1] if schema == "local-dir" else None
    except (OSError, ValueError, TypeError):
        return None
    return frozen if frozen and (frozen.model in PACKAGED) == packaged else None


def files_below(folder: Path) -> list[Path]:
    """Return all files of a model folder; none where there are too many for one."""
    found: list[Path] = []
    for top, _, names in os.walk(folder):
        found += [Path(top) / name for name in names]
        if len(found) > _MOST_FILES:
            return []
    return found


def _stamp(path: Path) -> list[Any] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _programs(model: str) -> dict[str, str]:
    of_transformers = model.partition(":")[0] == HUGGING_FACE
    names = (*_PROGRAMS, *(_OF_TRANSFORMERS if of_transformers else ()))
    found: dict[str, str] = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def files_of(encoder: Encoder) -> list[Path]:
    """Return the files that shape an encoder that has been loaded; none where they are not all known."""
    if "plugin" in encoder.identity:
        return []
    if encoder.model.partition(":")[0] == HUGGING_FACE:
        return _files_of_folder(encoder.model) or []
    text = encoder.identity["architecture"].get("text_cfg", {})
    elsewhere = [key for key in text if key.startswith("hf_")]  # a tokenizer or tower of transformers
    if elsewhere or encoder.identity["tokenizer"]["kind"] != "SimpleTokenizer":
        return []
    files = _files_of_folder(encoder.model)
    if files is not None:
        frozen = _frozen_weights(encoder.model, packaged=False)
        fetched = _fetched(frozen.model, frozen.pretrained) if frozen else []
        return files + fetched if fetched or not frozen else []
    if ":" in encoder.model:
        return []
    if os.path.isabs(encoder.pretrained):  # noqa: PTH117
        return [Path(encoder.pretrained)]
    return _fetched(encoder.model, encoder.pretrained)


def _fetched(model: str, tag: str) -> list[Path]:
    """Return where open_clip keeps published weights that it has fetched."""
    import huggingface_hub
    from open_clip.pretrained import get_pretrained_cfg

    settings = get_pretrained_cfg(model.replace("/", "-"), tag) or {}
    found: list[Path] = []
    repository, _, name = str(settings.get("hf_hub", "")).rpartition("/")
    if repository:
        name = name or "open_clip_pytorch_model.bin"
        safe = "open_clip_model" if name == "open_clip_pytorch_model.bin" else name.rpartition(".")[0]
        for each in (f"{safe}.safetensors", name):
            path = huggingface_hub.try_to_load_from_cache(repository, each)
            if isinstance(path, str):
                found.append(Path(path))
    if url := settings.get("url"):
        fetched = Path.home() / ".cache/clip" / str(url).rpartition("/")[2]
        found += [fetched] if fetched.is_file() else []
    return found


def weights_folder_help(name: str, folder: str) -> str:
    """Return what is said where --pretrained is a folder: to name it as a model, or which file in it."""
    said = f"--pretrained {folder} is a folder; it takes a file of weights."
    if (Path(folder) / "open_clip_config.json").is_file():
        return f"{said} This one says which model it is: --model local-dir:{folder}, without --pretrained."
    files = sorted(file for file in Path(folder).iterdir() if file.suffix in WEIGHTS_SUFFIXES)
    if files:
        return f"{said} Name one in it, such as --model {name} --pretrained {files[0]}."
    return f"{said} There is none in it ({', '.join(WEIGHTS_SUFFIXES)})."
