"""A model folder, a hub page, a cache and a head are data: nothing in them runs code.

open_clip hands most of `open_clip_config.json` on to transformers and timm, and these read files of their own beside
it. `check_model_config` refuses what could choose code or a place outside the folder; inside `without_code`,
transformers trusts no code, whatever a file or the environment says.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Keys of a config whose value may be a string: everything else that open_clip reads of it is numbers.
_WORDS = {
    "vision_cfg": {"pos_embed_type", "pool_type", "block_type", "timm_model_name", "timm_pool", "timm_proj"},
    "text_cfg": {
        "pool_type",
        "proj_type",
        "block_type",
        "tokenizer_mode",
        "hf_model_name",
        "hf_tokenizer_name",
        "hf_proj_type",
        "hf_pooler_type",
    },
    "multimodal_cfg": {"pool_type", "proj_type", "block_type", "hf_tokenizer_name", "tokenizer_mode"},
}
_OPTIONS = {
    "act_kwargs": {"approximate"},
    "norm_kwargs": {"eps", "elementwise_affine", "bias"},
    "tokenizer_kwargs": {"clean", "strip_sep_token", "language", "reduction_mask"},
}
_NAMES = {"hf_model_name", "hf_tokenizer_name"}
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_.\-]*")
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*(/[A-Za-z0-9][A-Za-z0-9_.\-]*)?")
# Variables that lift a safeguard of torch or transformers for files that are pickles.
_LIFTING_VARIABLES = ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TRUST_REMOTE_CODE")


def check_model_config(config: Any, folder: Path | None = None) -> None:
    """Raise ValueError, by the name of the key, for a `model_cfg` that holds more than the shape of a model.

    config    `model_cfg` of an open_clip_config.json
    folder    where it lies; None for a hub page. Text towers and tokenizers come from there, or from the hub
    """
    if not isinstance(config, Mapping):
        raise ValueError("model_cfg is no table")
    for section, value in config.items():
        if isinstance(value, Mapping):
            if section not in _WORDS:
                raise _refused(section, value)
            for key, setting in value.items():
                _check_setting(f"{section}.{key}", key, setting, _WORDS[section], folder)
        elif not _is_plain(value):
            raise _refused(section, value)


def _check_setting(where: str, key: str, value: Any, words: set[str], folder: Path | None) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            allowed = name in _OPTIONS.get(key, ())
            word = isinstance(inner, str) and bool(_PLAIN_WORD.fullmatch(inner))
            if not allowed or not (word or _is_plain(inner)):
                raise _refused(f"{where}.{name}", inner)
    elif isinstance(value, str):
        if key in _NAMES and key in words:
            _check_name(where, value, folder)
        elif key not in words or not _PLAIN_WORD.fullmatch(value):
            raise _refused(where, value)
    elif not _is_plain(value):
        raise _refused(where, value)


def _check_name(where: str, name: str, folder: Path | None) -> None:
    """Accept the folder itself, or a name of the hub; no path to anywhere else."""
    if folder is not None and name and Path(name).resolve() == folder.resolve():
        return
    if not _HUB_NAME.fullmatch(name) or ".." in name or Path(name).exists():
        raise ValueError(
            f"{where} is {name!r}, a path outside the model's folder; put those files into the folder itself"
        )


def _is_plain(value: Any) -> bool:
    """Return whether a value is made of numbers, which cannot name anything."""
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float)


def _refused(where: str, value: Any) -> ValueError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return ValueError(f"{where} is {shown}, which a model's description may not say; take it out")


@contextlib.contextmanager
def without_code() -> Iterator[None]:
    """Run no code of models and tokenizers while they are loaded, and read no pickle of more than tensors.

    open_clip asks transformers for configs and towers without saying whether their code may run; transformers would
    then ask at the terminal. Here the answer is no.
    """
    import open_clip.hf_model

    module: Any = open_clip.hf_model
    auto = {name: getattr(module, name, None) for name in ("AutoConfig", "AutoModel", "AutoTokenizer")}
    lifted = {name: os.environ.pop(name) for name in _LIFTING_VARIABLES if name in os.environ}
    for name, found in auto.items():
        if found is not None:
            setattr(module, name, _Untrusting(found))
    try:
        yield
    finally:
        os.environ.update(lifted)
        for name, found in auto.items():
            if found is not None:
                setattr(module, name, found)


class _Untrusting:
    """A transformers Auto class that never runs code of what it loads."""

    def __init__(self, auto: Any) -> None:
        self._auto = auto

    def from_pretrained(self, *arguments: Any, **options: Any) -> Any:
        return without_kernels(
            self._auto.from_pretrained(*arguments, **{**options, "trust_remote_code": False})
        )

    def from_config(self, config: Any, **options: Any) -> Any:
        return self._auto.from_config(without_kernels(config), **{**options, "trust_remote_code": False})


def without_kernels(loaded: Any) -> Any:
    """Return a config that chooses no implementation of attention: such a name may be that of compiled code on the hub."""
    if hasattr(loaded, "model_type") and hasattr(loaded, "_attn_implementation"):
        loaded._attn_implementation = None
    return loaded
