"""Models of open_clip by name, file, folder or hub page, with help where there is no network."""

from __future__ import annotations

import difflib
import logging
import math
import os
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import resize_pos_embed
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from safetensors.torch import load_file

from ..choices import PRECISIONS, check_choice
from ..devices import DeviceError, choose_device
from .encoder import OpenClipEncoder
from .files import HUGGING_FACE, PACKAGED, model_folder, remembered, weights_folder_help, weights_of_demo_vit
from .frozen import add_trained_prompts, check_frozen
from .hub import OFFLINE_HELP, first_line, hub_client
from .identity import activation_of
from .preprocessing import preprocess_of, preprocessing_of_folder, preprocessing_of_tags
from .protocol import EncoderError, full_name
from .safety import check_model_config, without_code
from .towers.build import change_tower
from .towers.config import FrozenWeights, TowerConfig, read_tower

_log = logging.getLogger(__name__)


def load_open_clip(
    model: str,
    pretrained: str = "",
    *,
    device: str = "auto",
    precision: str = "auto",
    image_size: int | None = None,
    weights: bool = True,
) -> OpenClipEncoder:
    """Load an open_clip model with its weights; weights that are code are never run.

    model         a name open_clip knows (`ViT-B-16`), `local-dir:FOLDER`, `hf-hub:OWNER/NAME`, `demo` or
                  `demo-vit`, which come with the package
    pretrained    a tag open_clip knows for it, or a checkpoint file; by default `openai` where open_clip
                  has these weights for the model, and nothing where the model brings its own
    precision     fp32, fp16, bf16: what both towers compute in; auto: see `automatic_precision`
    image_size    side of the square the model sees; default: its own
    weights       False: random ones, to measure how long it takes; none are looked for

    Raises EncoderError for unknown names, weights that cannot be fetched, read, or do not fit.
    """
    start = time.perf_counter()
    check_choice("precision", precision, PRECISIONS)
    try:
        chosen = choose_device(device)
    except DeviceError as error:
        raise EncoderError(str(error)) from error
    if precision == "auto":
        precision = automatic_precision(chosen)
    reference, pretrained = _resolve(model, pretrained) if weights else (_reference(model), "")
    tower, frozen = _tower(reference)
    name, folder = model, Path(reference.partition(":")[2])
    if frozen is not None:  # the towers are those of a name: the folder has the prompts
        check_frozen(frozen, folder)
        name = frozen.model
        reference, pretrained = _resolve(name, frozen.pretrained) if weights else (_reference(name), "")
    builtin = bool(pretrained)
    warned: list[str] = []
    architecture = _architecture(reference)
    tag = get_pretrained_cfg(reference, pretrained) if builtin else None
    from_file = builtin and not tag
    quick = bool(tag and tag.get("quick_gelu"))
    if quick and not architecture.get("quick_gelu"):
        architecture["quick_gelu"] = True  # the tag says how its weights were trained; open_clip only warns
    create = partial(
        _create,
        reference,
        pretrained,
        quick,
        model=name,
        tower=None if frozen else tower,
        weights=weights,
        warned=warned,
    )
    network = create(image_size=image_size)
    settings = dict(open_clip.get_model_preprocess_cfg(network))
    if frozen is not None and tower is not None:
        pretrained = ""
        settings = {**preprocessing_of_folder(folder), "size": settings["size"]}
        original = None if not weights else network if image_size is None else create(image_size=None)
        _add_prompts(network, folder, tower, frozen, original)
    if from_file:
        settings.update(preprocessing_of_tags(reference))
        if "quick_gelu" not in activation_of(network) and _looks_like_openai(network, Path(pretrained)):
            warned.append(
                f"{pretrained} looks like OpenAI's weights, which need the QuickGELU activation; {model} has "
                f"GELU, and its features would be wrong. Use --model {model}-quickgelu."
            )
    encoder = OpenClipEncoder(
        network,
        _tokenizer(reference, architecture),
        model=remembered(model),
        pretrained=os.path.abspath(pretrained) if from_file else pretrained,  # noqa: PTH100 (takes .. out)
        architecture=architecture,
        preprocess=preprocess_of(settings),
        device=chosen,
        precision=precision,
        tower=tower,
        warnings=warned,
    )
    seconds, digest = time.perf_counter() - start, encoder.identity["weights_sha256"]
    _log.debug("%s: loaded in %.1f s, %s on %s, weights %s", encoder.name, seconds, precision, chosen, digest)
    return encoder


def automatic_precision(device: torch.device) -> str:
    """Return fp16 on an accelerator; on a CPU bf16 where it has instructions for it, else fp32."""
    if device.type != "cpu":
        return "fp16"
    return "bf16" if cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Return whether the processor multiplies in bfloat16 (avx512_bf16, amx_bf16): elsewhere bf16 is slower than fp32."""
    checks = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(bool(check()) for check in checks if check)


def _resolve(model: str, pretrained: str) -> tuple[str, str]:
    """Return what open_clip is asked for: (model, pretrained); the latter empty where the model brings its weights."""
    name = _reference(model)
    if ":" in name:
        if pretrained:
            raise EncoderError(f"--model {model} brings its weights; leave --pretrained {pretrained} out.")
        return name, ""
    tags = list_pretrained_tags_by_model(name)
    if not pretrained and "openai" in tags:
        pretrained = "openai"
    known = f"{', '.join(tags[:6])}{', ...' if len(tags) > 6 else ''}" if tags else "none"
    if not pretrained:
        raise EncoderError(f"{model} needs weights: --pretrained FILE, or those open_clip knows ({known}).")
    if not get_pretrained_cfg(name, pretrained) and not Path(pretrained).is_file():
        if Path(pretrained).is_dir():
            raise EncoderError(weights_folder_help(name, pretrained))
        raise EncoderError(
            f"{pretrained!r} is neither a file nor weights that open_clip knows for {model} ({known})."
        )
    return name, pretrained


def _reference(model: str) -> str:
    """Return what open_clip calls a model: its name, local-dir:FOLDER or hf-hub:OWNER/NAME."""
    if model in PACKAGED:
        model = f"local-dir:{model_folder(model)}"
    schema, _, place = model.partition(":")
    if schema in ("local-dir", "hf-hub"):
        config = Path(place) / "open_clip_config.json"
        if schema == "local-dir" and not config.is_file():
            raise EncoderError(
                f"{place} is no model folder: it has no open_clip_config.json. Such a folder holds that file "
                "and the weights, as open_clip saves them."
            )
        return model
    if schema == HUGGING_FACE:
        raise EncoderError(
            f"{model} is a model of transformers, which features are made with; what this does takes models of open_clip."
        )
    name = model.replace("/", "-")
    if name not in open_clip.list_models():
        close = difflib.get_close_matches(name, open_clip.list_models(), n=4, cutoff=0.5)
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        raise EncoderError(
            f"open_clip knows no model {model!r}.{hint} A folder with a model is given as local-dir:FOLDER, one of "
            "transformers as hf:FOLDER."
        )
    return name


def load_outline(model: str, *, image_size: int | None = None, tower: TowerConfig | None = None) -> Any:
    """Return the visual tower of a model on the meta device, without weights; inside it is `tower`, or what the model
    folder has. Raises EncoderError for unknown names; ValueError where it cannot take `tower`."""
    reference = _reference(model)
    _architecture(reference)
    inside = tower or _tower(reference)[0]
    try:
        with torch.device("meta"), hub_client(reference.startswith("hf-hub:")), without_code():
            options = {"load_weights": False, "pretrained_text": False, "force_image_size": image_size}
            network: Any = open_clip.create_model(reference, device="meta", **options)
    except Exception as error:  # as in `_create`
        raise EncoderError(f"{model} cannot be built: {first_line(error)}") from error
    if inside:
        with torch.device("meta"):
            change_tower(network.visual, inside)
    return network.visual.eval().requires_grad_(False)


def has_own_files(model: str, pretrained: str) -> bool:
    """Return whether a model of open_clip is read from a folder, a file or a hub page, and not by a name that it knows."""
    if model.partition(":")[0] in ("local-dir", "hf-hub"):
        return True
    return bool(pretrained) and not get_pretrained_cfg(model.replace("/", "-"), pretrained)


def _architecture(reference: str) -> dict[str, Any]:
    try:
        config = open_clip.get_model_config(reference) or {}
    except Exception as error:  # whatever a hub client or a JSON file may throw
        raise EncoderError(f"{reference} cannot be read ({first_line(error)}). {OFFLINE_HELP}") from error
    schema, _, place = reference.partition(":")
    if schema in ("local-dir", "hf-hub"):
        try:
            check_model_config(config, Path(place) if schema == "local-dir" else None)
        except ValueError as error:
            raise EncoderError(
                f"{reference} is refused: its open_clip_config.json is not safe: {error}."
            ) from error
    return dict(config)


def _tower(reference: str) -> tuple[TowerConfig | None, FrozenWeights | None]:
    """Return what is inside the visual tower of a model folder, and whose weights it has beside the folder's own."""
    schema, _, place = reference.partition(":")
    if schema != "local-dir":
        return None, None
    try:
        return read_tower(Path(place))
    except (OSError, ValueError, TypeError) as error:
        raise EncoderError(f"{place} cannot be used: {first_line(error)}.") from error


def _add_prompts(
    network: Any, folder: Path, tower: TowerConfig, frozen: FrozenWeights, original: Any | None
) -> None:
    """Put the prompts of a folder into the network, in place: as they begin where there is no `original` to compare."""
    try:
        if original is None:
            change_tower(network.visual, tower, measure=False)
        else:
            add_trained_prompts(network, folder, tower, frozen, original)
    except EncoderError:
        raise
    except Exception as error:  # as in `_create`
        raise EncoderError(f"the prompts of {folder} cannot be used: {first_line(error)}.") from error


def _create(
    reference: str,
    pretrained: str,
    force_quick_gelu: bool,
    *,
    image_size: int | None,
    model: str,
    tower: TowerConfig | None,
    weights: bool,
    warned: list[str],
) -> Any:
    by_open_clip = tower is None and model != "demo-vit"
    from_hub = reference.startswith("hf-hub:") or bool(get_pretrained_cfg(reference, pretrained))
    try:
        with warnings.catch_warnings(record=True) as caught, hub_client(from_hub), without_code():
            warnings.simplefilter("always")
            network = open_clip.create_model(
                reference,
                pretrained or None,
                precision="fp32",
                device="cpu",
                force_quick_gelu=force_quick_gelu,
                force_image_size=image_size,
                require_pretrained=weights and by_open_clip,
                load_weights=weights and by_open_clip,
                pretrained_text=False,  # the weights are those of the whole model, or there are none
                weights_only=True,
            )
            if tower is not None:
                change_tower(network.visual, tower, measure=False)
            if weights and not by_open_clip:
                state = _read_weights(model, Path(reference.partition(":")[2]))
                state = {n: x.float() if x.is_floating_point() else x for n, x in state.items()}
                resize_pos_embed(state, network)
                network.load_state_dict(state)
    except Exception as error:  # open_clip, torch, safetensors and the hub client each throw their own
        reason = first_line(error)
        if from_hub:
            name = full_name(reference, pretrained)
            raise EncoderError(
                f"the weights of {name} could not be fetched: {reason}\n{OFFLINE_HELP}"
            ) from error
        if "TorchScript" in str(error):
            reason = (
                "it is a TorchScript archive, which is code; save its state_dict() as safetensors, or use "
                "--pretrained openai"
            )
        raise EncoderError(
            f"the weights {pretrained or reference} cannot be used for {reference}: {reason}\nThey must be a "
            "checkpoint (state dict) of just this architecture, as safetensors or a file that "
            "torch.load(weights_only=True) reads."
        ) from error
    warned.extend(str(item.message) for item in caught if issubclass(item.category, UserWarning))
    return network


def _read_weights(model: str, folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a folder that open_clip cannot load by itself."""
    if model != "demo-vit":
        return load_file(folder / "open_clip_model.safetensors")
    visual, packaged = weights_of_demo_vit()
    text = {name: value for name, value in load_file(packaged).items() if not name.startswith("visual.")}
    return {**text, **load_file(visual)}


def _looks_like_openai(network: Any, path: Path) -> bool:
    """Return whether weights are half-precision ones whose temperature is at its bound, ln 100, as OpenAI's are."""
    if "openai" in str(path).lower():
        return True
    scale = float(network.logit_scale.detach().exp().reshape(-1)[0])
    return math.isclose(scale, 100, rel_tol=1e-2) and all(
        bool((tensor == tensor.half().float()).all())
        for name, tensor in network.state_dict().items()
        if name.endswith("weight") and tensor.is_floating_point()
    )


def _tokenizer(reference: str, architecture: dict[str, Any]) -> Any:
    text = architecture.get("text_cfg") or {}
    distrust: dict[str, Any] = {"trust_remote_code": False} if text.get("hf_tokenizer_name") else {}
    try:
        with without_code():
            return open_clip.get_tokenizer(reference, **distrust)
    except ImportError as error:
        raise EncoderError(
            f"the tokenizer of {reference} needs a package that is not installed ({first_line(error)}): "
            "pip install 'vidclip[hf]'."
        ) from error
    except Exception as error:
        raise EncoderError(
            f"the tokenizer of {reference} could not be loaded: {first_line(error)}\nWhere there is no network, "
            "give the model as a folder that holds its tokenizer files too (--model local-dir:FOLDER)."
        ) from error
