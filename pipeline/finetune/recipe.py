"""How an encoder is fine-tuned, as data: what is trained, on which clips, towards which loss, and how."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..choices import (
    CLASSIFIERS,
    COSINES,
    DECAYS,
    HEAD_POOLS,
    LOSSES,
    MODES,
    NORMALIZATIONS,
    POSITIONS,
    PRECISIONS,
    PROMPT_SETTINGS,
    TEMPORAL,
    TEMPORAL_STARTS,
    TOWERS,
    TRAINED,
    VIDEO_PROMPTS,
    WORDS,
    check_choice,
)
from ..encoders import PromptConfig, TowerConfig, resolve_prompts
from ..evaluation import LanguageSettings
from ..heads import HeadConfig
from ..video import Augmentation, Sampling


@dataclass(frozen=True)
class Recipe:
    """What is trained, on which clips, towards which loss, and how. Raises ValueError for values that cannot be."""

    name: str
    train: str = "visual"
    """Beside the head and what is put inside the visual tower: that tower, the text tower, both, or neither (head)."""
    tower: str = "none"
    """What is put inside the visual tower: token-t1d, token-shift, tsm, cross-frame, joint, temporal-prompts, or nothing
    more than it has."""
    tower_start: str | None = None
    """How it begins; None: token-t1d as a shift, which is not what the tower was trained with but learns order (else
    fixed, the identity); cross-frame as in the released code (else quiet, with messages of zero)."""
    parts: str = "CGI"
    """Which temporal prompts there are, and in the same way what follows: see `encoders.PromptConfig`."""
    global_prompts: int = 8
    prompt_layers: str = "all"
    prompt_init: str | float = 1.0
    prompt_gate: bool = False
    temporal_embedding: bool = False
    global_per_frame: bool = False
    reparameterization: str = "r2plus1d"
    prompt_residual: bool = True
    shared_reparameterization: bool = False
    frames: int = 8
    """T of a clip."""
    mode: str = "uniform"
    """Where they are: one in each of T equal segments, or (dense) 128 // T frames apart from a random one on."""
    position: str = "start"
    """Where a frame stands in its segment when videos are looked at once: those that are held out, and those that the head
    is used on. Frames of training clips are drawn."""
    keep_pixels: int = 0
    """M: so many frames of each segment of a training video are kept in memory, from which later epochs draw; 0: every
    epoch decodes its own."""
    prompts: tuple[str, ...] = ("This is a video about {}",)
    """Around the class names; of several, the mean of their embeddings."""
    prompt_draw: bool = False
    """Whether each step of the training has one of the prompts, drawn at random."""
    prompt_context: int = 0
    """Trained vectors before the class name, in the place of a prompt."""
    text_encoder: str | None = None
    """Folder of a Hugging Face text encoder that embeds the class names in the place of the encoder's own tower."""
    second: LanguageSettings | None = None
    """A second language of the class names, by another text tower: its loss is added, its scores are fused."""
    second_loss_weight: float = 1.0
    classifier: str = "text"
    temporal: str = "transformer"
    temporal_start: str = "quiet"
    """How transformer and mit begin: what they add to the frames is zero, or random as released."""
    pool: str = "mean"
    video_prompts: str = "off"
    """Whether the class embeddings look at the patch tokens of the video (on): X-CLIP's head."""
    words: str = "name"
    renormalize: bool = True
    loss: str = "cross-entropy"
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""
    mixup: float = 0.0
    """Parameter of the Beta distribution of mixup's share; 0: none. With cutmix too, each step has one of them."""
    cutmix: float = 0.0
    """Likewise of cutmix."""
    gather: bool = True
    """Whether a contrastive loss is taken over the clips of all devices; else over those of each alone."""
    temperature: float | None = 0.01
    """Temperature of the loss; None: that of the encoder, trained with it."""
    epochs: int = 30
    warm_up_epochs: float = 5
    """A sixth of the epochs where there are five or fewer."""
    batch_size: int = 256
    """Clips in one step of the optimizer, over all devices and accumulated micro-batches."""
    accumulate: int = 1
    """Micro-batches of a step. A contrastive loss has its negatives from one of them."""
    learning_rate: float = 5e-5
    """Of the head: what is new."""
    backbone_rate: float = 5e-6
    """Of the encoder."""
    min_rate: float = 0.0
    """What the rates end at, as a share of each."""
    cosine: str = "shifted"
    """Whether the cosine of the rates begins after the warm-up; else, as X-CLIP released it, it spans the whole training."""
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.2
    decay: str = "all"
    """What decays: all parameters, as in both releases, or matrices alone, without biases, norms and positions."""
    clip_gradient: float = 1.0
    """Largest norm of a gradient; 0: any. No release clips."""
    crop: bool = True
    """Whether clips are cropped at random."""
    crop_form: str = "area"
    """How: see `video.Augmentation`."""
    flip: float = 0.5
    gray: float = 0.2
    """Probability that a clip loses its color."""
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Strength of changes in brightness, contrast, saturation and hue."""
    jitter_probability: float = 1.0
    """Probability that a clip has them."""
    rand_augment: tuple[int, int] = (0, 0)
    """Number and magnitude of RandAugment's operations."""
    random_erasing: float = 0.0
    """Probability that a box of a clip is erased."""
    normalization: str = "encoder"
    """Mean and standard deviation of the colors: those the encoder has, or ImageNet's, which the trained encoder keeps."""
    precision: str = "auto"
    """Of the encoder's arithmetic while it is trained; weights stay in fp32. auto: fp32 on a CPU, bf16 on a GPU that
    has it, else fp16."""
    checkpointing: bool = False
    """Whether activations are computed twice instead of kept."""
    held_out: float = 0.1
    """Share of each class's training videos that chooses the epoch; 0 keeps the last."""
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "train": TRAINED, "classifier": CLASSIFIERS, "temporal": TEMPORAL, "pool": HEAD_POOLS, "words": WORDS,
            "mode": MODES, "tower": TOWERS, "loss": LOSSES, "decay": DECAYS, "precision": PRECISIONS,
            "video_prompts": VIDEO_PROMPTS, "cosine": COSINES, "normalization": NORMALIZATIONS, "position": POSITIONS,
            "temporal_start": TEMPORAL_STARTS,
        }  # fmt: skip
        for name, known in choices.items():
            check_choice(name, getattr(self, name), known)
        for name in ("frames", "epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared among accumulate {self.accumulate} micro-batches"
            )
        for name in ("learning_rate", "backbone_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")
        for name in (
            "weight_decay",
            "warm_up_epochs",
            "clip_gradient",
            "mixup",
            "cutmix",
            "second_loss_weight",
            *(() if self.temperature is None else ("temperature",)),
        ):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.temperature == 0:
            raise ValueError("temperature must be above 0")
        closed = ("gray", "jitter_probability", "min_rate", "random_erasing")
        for name in ("betas", "held_out", "label_smoothing", *closed):
            values = self.betas if name == "betas" else [getattr(self, name)]
            if not all(0 <= value <= 1 for value in values) or (name not in closed and 1 in values):
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        if len(self.jitter) != 4 or not all(
            0 <= value <= (0.5 if i == 3 else 10) for i, value in enumerate(self.jitter)
        ):
            raise ValueError(f"jitter must be four strengths, the last at most 0.5, got {self.jitter}")
        if len(self.rand_augment) != 2 or not (self.rand_augment[0] >= 0 and 0 <= self.rand_augment[1] < 31):
            raise ValueError(
                f"rand_augment must be a number and a magnitude below 31, got {self.rand_augment}"
            )
        if self.keep_pixels < 0 or (self.keep_pixels and self.mode != "uniform"):
            raise ValueError(
                f"keep_pixels must be at least 0, and goes with mode uniform, got {self.keep_pixels} and {self.mode}"
            )
        _ = self.augmentation, self.head_config, self.tower_config  # they have checks of their own
        self._check_texts()
        if self.softens and self.loss != "cross-entropy":
            raise ValueError(
                f"label_smoothing, mixup and cutmix go with cross-entropy alone: a contrastive loss ({self.loss}) needs one "
                "label a clip. Set them to 0"
            )
        if self.temporal_start == "released" and self.temporal not in ("transformer", "mit"):
            raise ValueError(f"temporal_start released is for transformer and mit, not for {self.temporal}")
        if self.video_prompts == "on":
            own = {
                "classifier": "text",
                "temporal": "mit",
                "pool": "mean",
                "prompt_context": 0,
                "text_encoder": None,
                "second": None,
            }
            for name, value in own.items():
                if getattr(self, name) != value:
                    raise ValueError(
                        f"video_prompts on goes with {name} {value or 'unset'}, got {getattr(self, name)}; set video_prompts off"
                    )

    def _check_texts(self) -> None:
        object.__setattr__(self, "prompts", resolve_prompts(self.prompts))
        if self.classifier != "text":
            for name, reads in (
                (self.train, self.trains_text),
                ("text_encoder", self.text_encoder is not None),
                ("prompt_draw", self.prompt_draw),
            ):
                if reads:
                    raise ValueError(f"{name} goes with the text classifier; {self.classifier} reads no text")
        if self.prompt_context and self.trains_text:
            raise ValueError(
                f"prompt_context is trained through a frozen text tower; {self.train} trains the tower"
            )
        if self.prompt_draw and len(self.prompts) < 2:
            raise ValueError(f"prompt_draw needs several prompts to draw from, got {len(self.prompts)}")
        if self.prompt_draw and (self.pool == "vcs" or self.prompt_context):
            raise ValueError(
                "prompt_draw goes without pool vcs, which has the words of all prompts, and prompt_context"
            )
        if self.second is not None and self.second.weight is None and not self.held_out:
            raise ValueError(
                "the weight of the languages is chosen on videos that are held out, and none are"
            )
        if self.text_encoder is None:
            return
        if self.second is not None:
            raise ValueError(
                "text_encoder is a text tower of the first language; it goes without a second one"
            )
        if self.trains_text:
            raise ValueError(f"text_encoder takes the place of the text tower that {self.train} would train")
        if self.pool == "vcs" or self.prompt_context:
            raise ValueError(
                "text_encoder goes without pool vcs and prompt_context: these need CLIP's own words"
            )
        if len(self.prompts) > 1:
            raise ValueError("text_encoder reads one prompt; several are averaged by CLIP's own alone")

    @property
    def sampling(self) -> Sampling:
        """Which frames of a video that is looked at once are read; those of a training clip are drawn instead."""
        return Sampling(self.frames, mode=self.mode, position=self.position)

    @property
    def augmentation(self) -> Augmentation:
        """What decode workers draw for a clip beside its frames."""
        return Augmentation(crop=self.crop, flip=self.flip, form=self.crop_form)

    @property
    def trains_visual(self) -> bool:
        """Whether the weights that the visual tower came with are trained."""
        return "visual" in self.train

    @property
    def trains_text(self) -> bool:
        """Whether the text tower is trained."""
        return "text" in self.train

    @property
    def softens(self) -> bool:
        """Whether a clip has shares of several classes as its target."""
        return bool(self.label_smoothing or self.mixup or self.cutmix)

    @property
    def tower_config(self) -> TowerConfig | None:
        """What is put inside the visual tower."""
        if self.tower == "none":
            return None
        prompts = None
        if self.tower == "temporal-prompts":
            prompts = PromptConfig(**{own: getattr(self, name) for name, own in PROMPT_SETTINGS.items()})
        return TowerConfig(self.tower, self.frames, self.tower_start, prompts)

    @property
    def head_config(self) -> HeadConfig:
        """The head on the encoder. It has a projection only where W has another dimension than the frames."""
        return HeadConfig(
            self.classifier,
            self.temporal,
            self.pool,
            projection=False,
            prompt_context=self.prompt_context,
            words=self.words,
            renormalize=self.renormalize,
            **({} if self.second is None else self.second.head_fusion),
        )

    @property
    def warm_up(self) -> float:
        """Epochs of warm-up."""
        return self.warm_up_epochs if self.epochs > self.warm_up_epochs else self.epochs / 6

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and words, for JSON; without what a recipe of other kinds does not know."""
        values = {
            k: list(v) if isinstance(v, tuple) else v for k, v in asdict(replace(self, second=None)).items()
        }
        if self.second is None:
            del values["second"], values["second_loss_weight"]
        else:
            values["second"] = self.second.to_dict()
        unknown = set() if self.tower == "temporal-prompts" else set(PROMPT_SETTINGS)
        usual = {"keep_pixels": 0, "position": "start", "temporal_start": "quiet", "random_erasing": 0.0}
        unknown |= {name for name, value in usual.items() if getattr(self, name) == value}
        return {name: value for name, value in values.items() if name not in unknown}
