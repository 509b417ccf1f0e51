"""An open_clip model as vidclip uses it: frames, sentences and words to embeddings, and who it is."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.resources
import logging
import math
import os
import socket
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import huggingface_hub
import numpy as np
import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.transformer import QuickGELU
from torch.nn.modules.batchnorm import _BatchNorm

from ...cache import TextEmbeddings
from ..devices import DeviceError, choose_device
from ..video import Preprocess
from .prompts import check_prompt
from .safety import check_model_config, without_code
from .tokens import WORD_MODES, WordsUnavailable, content_positions, name_positions, token_embeddings

PRECISIONS = ("auto", "fp32", "fp16", "bf16")
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_OFFLINE_HELP = (
    "Give the weights as a file (--pretrained FILE) or a folder (--model local-dir:FOLDER); or try --model demo, "
    "which comes with the package and knows the demo's world."
)
# Texts whose tokens tell two tokenizers apart: cases, digits, punctuation, several scripts.
_PROBES = ("a photo of a Cat.", "backflip (human) 1234", "rock-climbing; café", "打篮球的人", "ну и ну", "")


class EncoderError(Exception):
    """A model or weights that cannot be had. The message says why and what else to give."""


class ModelNotNamed(EncoderError):
    """A cache or head names a folder, a file or a hub page, and the user does not.

    `options` is what to add to the command line.
    """

    def __init__(self, model: str, pretrained: str = "", given: Sequence[str] = ()) -> None:
        self.options = ("--model", model, *(("--pretrained", pretrained) if pretrained else ()))
        name = f"{model} ({pretrained})" if pretrained else model
        other = f" (and {', '.join(given)} has other weights or settings)" if given else ""
        super().__init__(
            f"the encoder {name} is needed{other}. A cache or head may come from elsewhere, so a folder, file or hub page that it "
            "names is loaded only where you name it too, as --model or as `model` in vidclip.toml."
        )


class Encoder:
    """An open_clip model on a device, with its preprocessing, tokenizer and identity.

    Made by `load_encoder`.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        model: str,
        pretrained: str,
        architecture: dict[str, Any],
        preprocess: Preprocess,
        device: torch.device,
        precision: str,
        warnings: Sequence[str] = (),
    ) -> None:
        self.model = model
        self.pretrained = pretrained
        self.preprocess = preprocess
        self.device = device
        self.precision = precision
        self.warnings = tuple(warnings)
        """What a user should know before trusting the features; empty when all is well."""
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        digest = weights_digest(self.network)  # before precision or device change a single bit
        self.network = hold_in(self.network, _DTYPES[precision]).to(device)
        self._mean = torch.tensor(preprocess.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(preprocess.std, device=device).view(1, 3, 1, 1)
        with torch.inference_mode():
            probe = torch.zeros(1, *preprocess.size, 3, dtype=torch.uint8, device=device)
            self.dimension = int(self._embed(probe).shape[1])
        self.identity: dict[str, Any] = {
            "architecture": architecture,
            "weights_sha256": digest,
            "activation": activation_of(self.network),
            "preprocess": {k: v for k, v in preprocess.to_dict().items() if k != "resize"},
            "tokenizer": _tokenizer_identity(self.tokenizer),
            "dimension": self.dimension,
        }

    @property
    def name(self) -> str:
        return f"{self.model} ({self.pretrained})" if self.pretrained else self.model

    def encode_frames(self, pixels: torch.Tensor) -> torch.Tensor:
        """Frame embeddings [B, D] float32 on the device, as the model projects them, not normalized.

        pixels    [B, height, width, 3] uint8, as `preprocess.pixels` gives them, on any device
        """
        with torch.inference_mode():
            return self._embed(pixels.to(self.device, non_blocking=True)).float()

    def encode_text(
        self,
        phrases: Sequence[str],
        prompts: Sequence[str] = ("{}",),
        *,
        words: str = "name",
        batch_size: int = 256,
    ) -> TextEmbeddings:
        """Sentence and word embeddings of C phrases.

        prompts    each with one `{}`. Several are averaged: mean of unit sentence embeddings, then unit;
                   their words stand one prompt's after the other's
        words      name, sentence, all, or none: see `words.WORD_MODES`

        Raises ValueError for no phrase, a prompt without `{}`, or an unknown mode; WordsUnavailable
        when words are asked of a text tower that has none.
        """
        if not phrases:
            raise ValueError("no phrases to encode")
        if words not in WORD_MODES:
            raise ValueError(f"words must be one of {', '.join(WORD_MODES)}, got {words!r}")
        for prompt in prompts:
            check_prompt(prompt)
        sentences = np.zeros((len(prompts), len(phrases), self.dimension), np.float32)
        word_rows: list[list[np.ndarray]] = [[] for _ in phrases]
        truncated: set[str] = set()
        for p, prompt in enumerate(prompts):
            for start in range(0, len(phrases), batch_size):
                piece = list(phrases[start : start + batch_size])
                texts = [prompt.replace("{}", phrase) for phrase in piece]
                sentence, embedded, longer = self._encode_texts(texts, prompt, words)
                sentences[p, start : start + len(piece)] = sentence
                for c, rows in enumerate(embedded):
                    word_rows[start + c].append(rows)
                truncated.update(piece[c] for c in longer)
        flat = [rows for per_phrase in word_rows for rows in per_phrase]
        counts = [sum(len(rows) for rows in per_phrase) for per_phrase in word_rows]
        return TextEmbeddings(
            phrases=tuple(phrases),
            prompts=tuple(prompts),
            word_mode=words,
            sentence=average_prompts(sentences),
            words=np.concatenate(flat) if flat else np.zeros((0, self.dimension), np.float32),
            offsets=np.cumsum([0, *counts], dtype=np.int64),
            truncated=tuple(phrase for phrase in phrases if phrase in truncated),
        )

    def _encode_texts(
        self, texts: list[str], prompt: str, words: str
    ) -> tuple[np.ndarray, list[np.ndarray], list[int]]:
        """(sentences [C, D], words of each [n, D], which texts were longer than the context)."""
        tokens = self.tokenizer(texts)
        length = tokens.shape[1]
        untruncated = content_positions(self.tokenizer, self.tokenizer(texts, context_length=4 * length))
        places = content_positions(self.tokenizer, tokens)
        longer = [c for c, row in enumerate(untruncated) if len(row) > len(places[c])]
        with torch.inference_mode():
            on_device = tokens.to(self.device)
            if words == "none":
                sentence = self.network.encode_text(on_device)
                return _array(sentence), [np.zeros((0, self.dimension), np.float32) for _ in texts], longer
            sentence, embedded = token_embeddings(self.network, on_device)
        if words == "all":
            places = [list(range(length))] * len(texts)
        elif words == "name":
            places = name_positions(self.tokenizer, prompt, tokens)
        every = _array(embedded)
        return _array(sentence), [every[c, row] for c, row in enumerate(places)], longer

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        images = pixels.permute(0, 3, 1, 2).float().div_(255).sub_(self._mean).div_(self._std)
        if not isinstance(self.network.visual, ModifiedResNet):  # whose stem takes float32
            images = images.to(_DTYPES[self.precision])
        return self.network.encode_image(images)


def load_encoder(
    model: str,
    pretrained: str = "",
    *,
    device: str = "auto",
    precision: str = "auto",
    image_size: int | None = None,
) -> Encoder:
    """Loads an open_clip model with its weights; weights that are code are never run.

    model         a name open_clip knows (`ViT-B-16`), `local-dir:FOLDER`, `hf-hub:OWNER/NAME`, or `demo`
    pretrained    a tag open_clip knows for it, or a checkpoint file; by default `openai` where open_clip
                  has these weights for the model, and nothing where the model brings its own
    precision     fp32, fp16, bf16: what both towers are held and run in; auto: see `automatic_precision`
    image_size    side of the square the model sees; default: its own

    Raises EncoderError for unknown names, weights that cannot be fetched, read, or do not fit.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    try:
        chosen = choose_device(device)
    except DeviceError as error:
        raise EncoderError(str(error)) from error
    if precision == "auto":
        precision = automatic_precision(chosen)
    reference, pretrained = _resolve(model, pretrained)
    builtin = bool(pretrained)
    warned: list[str] = []
    architecture = _architecture(reference)
    tag = get_pretrained_cfg(reference, pretrained) if builtin else None
    from_file = builtin and not tag
    quick = bool(tag and tag.get("quick_gelu"))
    if quick and not architecture.get("quick_gelu"):
        architecture["quick_gelu"] = True  # the tag says how its weights were trained; open_clip only warns
    network = _create(reference, pretrained, force_quick_gelu=quick, image_size=image_size, warned=warned)
    settings = dict(open_clip.get_model_preprocess_cfg(network))
    if from_file:
        settings.update(_preprocessing_of_tags(reference))
        if "quick_gelu" not in activation_of(network) and _looks_like_openai(network, Path(pretrained)):
            warned.append(
                f"{pretrained} looks like OpenAI's weights, which need the QuickGELU activation; {model} has "
                f"GELU, and its features would be wrong without a word. Use --model {model}-quickgelu."
            )
    return Encoder(
        network,
        _tokenizer(reference, architecture),
        model=remembered(model),
        pretrained=os.path.abspath(pretrained) if from_file else pretrained,  # noqa: PTH100 (takes .. out)
        architecture=architecture,
        preprocess=_preprocess(settings),
        device=chosen,
        precision=precision,
        warnings=warned,
    )


def automatic_precision(device: torch.device) -> str:
    """fp16 on an accelerator; on a CPU bf16 where it has instructions for it, else fp32."""
    if device.type != "cpu":
        return "fp16"
    return "bf16" if cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies in bfloat16 (avx512_bf16, amx_bf16): elsewhere bf16 is slower than fp32."""
    checks = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(bool(check()) for check in checks if check)


def hold_in(network: Any, dtype: torch.dtype) -> Any:
    """The network with its weights in `dtype`, to be run in it, except what needs float32.

    Batch norms keep their statistics: variances span more than half precision does, and torch applies float32
    statistics to inputs of any type. The first three convolutions of a ResNet see the pixels in float32: rounding
    these costs more than all that follows. Layer norms, softmaxes and matrix products add up in float32 whatever type
    they are given.
    """
    if dtype == torch.float32:
        return network
    kept: list[torch.nn.Module] = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    resnet: Any = getattr(network, "visual", None)
    if isinstance(resnet, ModifiedResNet):
        kept += [resnet.conv1, resnet.conv2, resnet.conv3]
        resnet.avgpool.register_forward_hook(lambda _module, _inputs, output: output.to(dtype))
    exact = [{name: value.clone() for name, value in module.state_dict().items()} for module in kept]
    network.to(dtype)
    for module, state in zip(kept, exact, strict=True):
        module.float()
        module.load_state_dict(state)
    return network


def average_prompts(sentences: np.ndarray) -> np.ndarray:
    """One embedding a phrase [C, D] from those under P prompts [P, C, D].

    Several: the mean of the unit embeddings, made unit (as CLIP's authors ensemble prompts). One: as it is.
    """
    if len(sentences) == 1:
        return sentences[0]
    unit = sentences / np.linalg.norm(sentences, axis=-1, keepdims=True)
    mean = unit.mean(axis=0)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def weights_digest(network: torch.nn.Module) -> str:
    """SHA-256 over the name, type, shape and bytes of every tensor: the same weights, in whatever file."""
    sha = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        stored = tensor.detach().cpu().contiguous()
        sha.update(f"{name}|{stored.dtype}|{tuple(stored.shape)}|".encode())
        sha.update(memoryview(stored.reshape(-1).view(torch.uint8).numpy()))
    return sha.hexdigest()


def activation_of(network: torch.nn.Module) -> str:
    """The nonlinearities of both towers: `quick_gelu`, `gelu`, `gelu+relu`, ..."""
    names = set()
    for module in network.modules():
        if isinstance(module, QuickGELU):
            names.add("quick_gelu")
        elif "gelu" in type(module).__name__.lower():
            names.add("gelu")
        elif isinstance(module, torch.nn.ReLU):
            names.add("relu")
        elif isinstance(module, torch.nn.SiLU):
            names.add("silu")
    return "+".join(sorted(names)) or "unknown"


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


def _resolve(model: str, pretrained: str) -> tuple[str, str]:
    """What open_clip is asked for: (model, pretrained); the latter empty where the model brings its weights."""
    if model == "demo":
        folder = importlib.resources.files("vidclip.demo") / "encoder"
        model = f"local-dir:{folder}"
    schema, _, place = model.partition(":")
    if schema in ("local-dir", "hf-hub"):
        if pretrained:
            raise EncoderError(f"--model {model} brings its weights; leave --pretrained {pretrained} out.")
        config = Path(place) / "open_clip_config.json"
        if schema == "local-dir" and not config.is_file():
            raise EncoderError(
                f"{place} is no model folder: it has no open_clip_config.json. Such a folder holds that file "
                "and the weights, as open_clip saves them."
            )
        return model, ""
    name = model.replace("/", "-")
    if name not in open_clip.list_models():
        close = difflib.get_close_matches(name, open_clip.list_models(), n=4, cutoff=0.5)
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        raise EncoderError(
            f"open_clip knows no model {model!r}.{hint} A folder with a model is given as local-dir:FOLDER."
        )
    tags = list_pretrained_tags_by_model(name)
    if not pretrained and "openai" in tags:
        pretrained = "openai"
    known = f"{', '.join(tags[:6])}{', ...' if len(tags) > 6 else ''}" if tags else "none"
    if not pretrained:
        raise EncoderError(f"{model} needs weights: --pretrained FILE, or those open_clip knows ({known}).")
    if not get_pretrained_cfg(name, pretrained) and not Path(pretrained).is_file():
        raise EncoderError(
            f"{pretrained!r} is neither a file nor weights that open_clip knows for {model} ({known})."
        )
    return name, pretrained


def brings_own_files(model: str, pretrained: str) -> bool:
    """Whether a model is read from a folder, a file or a hub page, and not by a name that open_clip knows."""
    if model.partition(":")[0] in ("local-dir", "hf-hub"):
        return True
    return bool(pretrained) and not get_pretrained_cfg(model.replace("/", "-"), pretrained)


def remembered(model: str) -> str:
    """`--model` as a cache keeps it: a folder's path made absolute."""
    schema, _, place = model.partition(":")
    return f"local-dir:{os.path.abspath(place)}" if schema == "local-dir" else model  # noqa: PTH100


def _architecture(reference: str) -> dict[str, Any]:
    try:
        config = open_clip.get_model_config(reference) or {}
    except Exception as error:  # whatever a hub client or a JSON file may throw
        raise EncoderError(f"{reference} cannot be read ({_first_line(error)}). {_OFFLINE_HELP}") from error
    schema, _, place = reference.partition(":")
    if schema in ("local-dir", "hf-hub"):
        try:
            check_model_config(config, Path(place) if schema == "local-dir" else None)
        except ValueError as error:
            raise EncoderError(
                f"{reference} is refused: its open_clip_config.json is not safe: {error}."
            ) from error
    return dict(config)


def _create(
    reference: str, pretrained: str, *, force_quick_gelu: bool, image_size: int | None, warned: list[str]
) -> Any:
    from_hub = reference.startswith("hf-hub:") or bool(get_pretrained_cfg(reference, pretrained))
    try:
        with warnings.catch_warnings(record=True) as caught, _hub(from_hub), without_code():
            warnings.simplefilter("always")
            network = open_clip.create_model(
                reference,
                pretrained or None,
                precision="fp32",
                device="cpu",
                force_quick_gelu=force_quick_gelu,
                force_image_size=image_size,
                require_pretrained=True,
                pretrained_text=False,  # the weights are those of the whole model, or there are none
                weights_only=True,
            )
    except Exception as error:  # open_clip, torch, safetensors and the hub client each throw their own
        what = f"{reference} ({pretrained})" if pretrained else reference
        reason = _first_line(error)
        if from_hub:
            raise EncoderError(
                f"the weights of {what} could not be fetched: {reason}\n{_OFFLINE_HELP}"
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


@contextlib.contextmanager
def _hub(wanted: bool) -> Iterator[None]:
    """While weights come from the hub: its chatter stays off the screen, and where its name does not even
    resolve, only files that were fetched before are looked for, instead of a minute of retries."""
    logs = [logging.getLogger(name) for name in ("root", "huggingface_hub")]
    levels = [log.level for log in logs]
    offline = huggingface_hub.constants.HF_HUB_OFFLINE
    for log in logs:
        log.setLevel(logging.CRITICAL)
    host = urlparse(huggingface_hub.constants.ENDPOINT).hostname
    if wanted and host and not getproxies():
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = offline
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2]) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def _preprocessing_of_tags(model: str) -> dict[str, Any]:
    """How the published weights of a model want their images, where all agree.

    open_clip prepares images for a checkpoint file as for OpenAI's models, whatever the model; SigLIP and
    others want something else.
    """
    keys = ("mean", "std", "interpolation", "resize_mode")
    known = [get_pretrained_cfg(model, tag) for tag in list_pretrained_tags_by_model(model)]
    settings = [{key: cfg[key] for key in keys if cfg.get(key) is not None} for cfg in known]
    return settings[0] if settings and all(other == settings[0] for other in settings) else {}


def _preprocess(settings: dict[str, Any]) -> Preprocess:
    size = settings["size"]
    try:
        return Preprocess(
            size=(size, size) if isinstance(size, int) else (size[0], size[-1]),
            interpolation=settings["interpolation"],
            resize_mode=settings["resize_mode"],
            fill_color=settings.get("fill_color", 0),
            mean=tuple(settings["mean"]),
            std=tuple(settings["std"]),
        )
    except (TypeError, ValueError, LookupError) as error:
        raise EncoderError(f"the model's preprocess_cfg cannot be used: {error}.") from error


def _looks_like_openai(network: Any, path: Path) -> bool:
    """OpenAI published half-precision weights whose temperature had reached its bound, ln 100."""
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
            f"the tokenizer of {reference} needs a package that is not installed ({_first_line(error)}): "
            "pip install 'vidclip[hf]'."
        ) from error
    except Exception as error:
        raise EncoderError(
            f"the tokenizer of {reference} could not be loaded: {_first_line(error)}\nWhere there is no network, "
            "give the model as a folder that holds its tokenizer files too (--model local-dir:FOLDER)."
        ) from error


def _tokenizer_identity(tokenizer: Any) -> dict[str, Any]:
    """A tokenizer is what it does: the tokens of a few telling texts."""
    tokens = tokenizer(list(_PROBES))
    return {
        "kind": type(tokenizer).__name__,
        "context_length": int(tokens.shape[1]),
        "probes_sha256": hashlib.sha256(str(tokens.tolist()).encode()).hexdigest(),
    }


__all__ = [
    "Encoder",
    "EncoderError",
    "ModelNotNamed",
    "WordsUnavailable",
    "activation_of",
    "automatic_precision",
    "average_prompts",
    "brings_own_files",
    "cpu_has_bf16",
    "hold_in",
    "load_encoder",
    "remembered",
    "weights_digest",
]
