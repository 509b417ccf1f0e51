"""A head over cached frame embeddings: a temporal module, a projection, a classifier.

    sequence = temporal(frames)                       [B, T, D]
    mean:  e = mean over T of sequence @ P            score[b, c] = u(e) . u(W_c)
    vcs:   concept spotting over sequence @ P         score[b, c] = u(e_c) . u(W_c)

with u(x) = x / |x| and W the class embeddings.

B videos, T frames, D dimensions of the frames, D' of the class embeddings, C classes.
Source: Wu et al. 2023 (Text4Vis), 2.2 and 4.3; Wu et al. 2023 (BIKE), 2.3; Ni et al. 2022 (X-CLIP), 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...cache import TextEmbeddings
from ..choices import (
    CLASSIFIERS,
    HEAD_POOLS,
    LANGUAGE_FUSIONS,
    TEMPORAL,
    VIEW_AVERAGES,
    WORDS,
    check_choice,
)
from ..scoring import NO_FEATURES, check_owners, check_temperature, check_weight, spotting_scores
from .languages import SecondBranch, SecondLanguage, fuse_scores, select_words
from .multi_label import MultiLabelLogits
from .projection import Projection
from .temporal import temporal_module

POSITION_SHARE = 0.25
"""Size of initial positions, as a share of the elements of frame embeddings. At CLIP's own 0.01, a fortieth of its
elements or less, the order of frames is not learned from hundreds of videos; chosen on the demo's validation videos."""


@dataclass(frozen=True)
class HeadConfig:
    """What a video head is made of."""

    classifier: str = "text"
    """Where its class embeddings W come from: text, random, orthogonal, lda stay as they are; linear is trained."""
    temporal: str = "mean"
    """What is done to the sequence of frames: mean (nothing), conv, transformer, mit."""
    pool: str = "mean"
    """How the sequence becomes a score: mean, or vcs (concept spotting)."""
    projection: bool | None = None
    """Whether a linear map of the video embedding is trained below the classifier. None: where nothing else is
    trained, and where the class embeddings have another dimension than the frames."""
    prompt_context: int = 0
    """Learned vectors before the class name (Text4Vis, A.4); 0: the prompt as it stands."""
    spotting_temperature: float = 0.01
    """Temperature of concept spotting's softmax over frames."""
    words: str = "name"
    """Which tokens are the queries of the saliency softmax: those of the class name (BIKE's paper), or `all`
    positions of the text tower (its released code)."""
    renormalize: bool = True
    """Whether concept spotting scores by the cosine (BIKE's paper) or, as its released code does, by the product
    with a pooled video that is not L2-normalized."""
    heads: int | None = None
    """Number of attention heads of `transformer` and `mit`; None: see `temporal_module`."""
    view_average: str = "probabilities"
    """How the head scores a video of several views: one of VIEW_AVERAGES."""
    second: str = ""
    """Name of a second language of the classes, whose score is fused with that of the first; empty: none."""
    second_weight: float | None = 0.5
    """Weight of the first language in the fusion; None: to be chosen on validation videos."""
    second_form: str = "scores"
    """What is fused: one of LANGUAGE_FUSIONS."""
    multi_label: bool = False
    """Whether each class has a probability of its own; see `multi_label.py`."""

    def __post_init__(self) -> None:
        choices = {
            "classifier": CLASSIFIERS,
            "temporal": TEMPORAL,
            "pool": HEAD_POOLS,
            "words": WORDS,
            "view_average": VIEW_AVERAGES,
            "second_form": LANGUAGE_FUSIONS,
        }
        for name, known in choices.items():
            check_choice(name, getattr(self, name), known)
        if self.prompt_context < 0:
            raise ValueError(f"prompt_context must be at least 0, got {self.prompt_context}")
        if self.prompt_context and self.classifier != "text":
            raise ValueError(
                f"a learned prompt needs the text classifier; {self.classifier} does not read names"
            )
        check_temperature(self.spotting_temperature, "spotting_temperature")
        if not isinstance(self.renormalize, bool):
            raise ValueError(f"renormalize must be true or false, got {self.renormalize!r}")
        if self.heads is not None and (type(self.heads) is not int or self.heads < 1):
            raise ValueError(f"heads must be a whole number of at least 1, got {self.heads!r}")
        if self.heads is not None and self.temporal not in ("transformer", "mit"):
            raise ValueError(f"the temporal module {self.temporal!r} has no attention heads; leave heads out")
        if self.view_average == "features" and self.pool == "vcs":
            raise ValueError(NO_FEATURES)
        if self.second and (self.classifier != "text" or self.prompt_context):
            raise ValueError(
                "a second language goes with the text classifier, and without a learned prompt, which is of one language"
            )
        if self.multi_label and (self.second or self.classifier == "lda" or self.view_average == "unscaled"):
            raise ValueError("a multi-label head has one language, no softmax to leave unscaled, and no lda")
        if self.second_weight is not None:
            check_weight(self.second_weight)

    @property
    def name(self) -> str:
        """`text`, `text + transformer`, `lda + conv, vcs`: for tables."""
        words = self.classifier + (f", {self.prompt_context} learned words" if self.prompt_context else "")
        if self.temporal != "mean":
            words += f" + {self.temporal}"
        if self.heads is not None:
            words += f" of {self.heads} heads"
        if self.pool == "vcs":
            words += ", vcs" + (f", words {self.words}" if self.words != "name" else "")
            words += "" if self.renormalize else ", not renormalized"
        if self.second:
            weight = "auto" if self.second_weight is None else f"{self.second_weight:g}"
            words += f" + {self.second} ({weight})"
        return words + (", multi-label" if self.multi_label else "")


class VideoHead(nn.Module):
    """Scores videos from their frame embeddings. Untrained it changes nothing: the score of a text head is the
    cosine of the mean frame embedding with the class sentence, or that of concept spotting.

    class_embeddings    [C, D'] W of the classifier
    dimension           D of the frame embeddings
    num_frames          T of the training features: transformer and mit have a position for each
    words               for vcs: (queries [Q, D'], owners [Q]), see `word_queries`
    second              the second language of a config that has one
    seed                random seed of the initial weights
    scale               root mean square of the elements of the frame embeddings: positions begin at a share of it
    start               how transformer and mit begin: see `temporal_module`; `released` changes scores at once
    """

    class_embeddings: torch.Tensor

    def __init__(
        self,
        config: HeadConfig,
        class_embeddings: np.ndarray,
        dimension: int,
        num_frames: int,
        words: tuple[np.ndarray, np.ndarray] | None = None,
        *,
        second: SecondLanguage | SecondBranch | None = None,
        seed: int = 0,
        scale: float = 1.0,
        start: str = "quiet",
    ) -> None:
        super().__init__()
        self.config, self.dimension, self.num_frames = config, dimension, num_frames
        self.temporal = temporal_module(
            config.temporal,
            dimension,
            num_frames,
            heads=config.heads,
            seed=seed,
            position_std=POSITION_SHARE * scale,
            start=start,
        )
        embeddings = torch.from_numpy(np.array(class_embeddings, np.float32))
        if config.classifier == "linear":
            # L2-normalized: a step of the optimizer turns long vectors too little.
            self.class_embeddings = nn.Parameter(F.normalize(embeddings, dim=-1))
        else:
            self.register_buffer("class_embeddings", embeddings)
        out = embeddings.shape[1]
        trains = config.temporal != "mean" or config.classifier == "linear" or config.prompt_context > 0
        wanted = not trains if config.projection is None else config.projection
        self.projection = Projection(dimension, out, seed) if wanted or out != dimension else None
        if config.pool == "vcs":
            if words is None:
                raise ValueError("concept spotting needs the words of the classes")
            queries, owners = words
            if queries.shape[1] != out:
                raise ValueError(f"the words have {queries.shape[1]} dimensions, the class embeddings {out}")
            self.register_buffer("queries", torch.from_numpy(np.array(queries, np.float32)))
            self.register_buffer("owners", torch.from_numpy(np.array(owners, np.int64)))
        if bool(config.second) != (second is not None):
            raise ValueError(
                f"the texts of the second language {config.second or 'of no name'!r} do not fit the head"
            )
        if isinstance(second, SecondLanguage):
            own = word_queries(second.texts) if config.pool == "vcs" and second.own_words else None
            second = SecondBranch(second.texts.sentence, out, projects=second.projects, words=own, seed=seed)
        if second is not None and len(second.class_embeddings) != len(embeddings):
            raise ValueError(
                f"{len(second.class_embeddings)} classes in the second language, {len(embeddings)} in the first"
            )
        self.second = second
        self.multi_label = MultiLabelLogits(len(embeddings)) if config.multi_label else None

    def forward(
        self,
        frames: torch.Tensor,
        class_embeddings: torch.Tensor | None = None,
        *,
        queries: torch.Tensor | None = None,
        views: int = 1,
    ) -> torch.Tensor:
        """Return scores [B / views, C] of frames [B, T, D] float32: cosines, except for concept spotting without
        renormalization and for fused probabilities of two languages (see `languages.fuse_scores`).

        class_embeddings    [C, D'] in the place of the head's own
        queries             [Q, D'] of concept spotting, in the place of the head's own
        views               so many neighbors in the batch are one video, scored by the mean of their pooled
                            embeddings (`view_average` features); 1: each is scored by itself

        Raises ValueError for another D, for another T where there are positions, and for views of concept spotting.
        """
        scores = self.language_scores(frames, class_embeddings, queries=queries, views=views)
        if len(scores) == 1:
            return scores[0]
        weight = 0.5 if self.config.second_weight is None else self.config.second_weight
        return fuse_scores(scores[0], scores[1], weight, self.config.second_form)

    def language_scores(
        self,
        frames: torch.Tensor,
        class_embeddings: torch.Tensor | None = None,
        *,
        queries: torch.Tensor | None = None,
        views: int = 1,
    ) -> tuple[torch.Tensor, ...]:
        """Return the scores [B / views, C] in each language, one or two; see `forward`."""
        if views > 1 and self.config.pool == "vcs":
            raise ValueError(NO_FEATURES)
        classes = self.class_embeddings if class_embeddings is None else class_embeddings
        sequence = self.temporal(frames)
        if self.config.pool == "vcs":
            if self.projection is not None:
                sequence = self.projection(sequence)
            words = self.get_buffer("queries") if queries is None else queries, self.get_buffer("owners")
            options: dict[str, Any] = {
                "temperature": self.config.spotting_temperature,
                "renormalize": self.config.renormalize,
            }
            first = spotting_scores(sequence, *words, classes, **options)
            if self.second is None:
                return (first,)
            return first, self.second.spotting_scores(sequence, *words, **options)
        video = sequence.mean(dim=1).unflatten(0, (-1, views)).mean(dim=1)
        if self.projection is not None:
            video = self.projection(video)
        first = F.normalize(video, dim=-1) @ F.normalize(classes, dim=-1).T
        return (first,) if self.second is None else (first, self.second.mean_scores(video))

    @torch.inference_mode()
    def scores(
        self, frames: np.ndarray | torch.Tensor, batch_size: int = 1024, *, views: int = 1
    ) -> np.ndarray:
        """Return scores [N / views, C] float32 of frames [N, T, D] of any float type, computed in batches; `views`
        as in `forward`."""
        videos, device = torch.as_tensor(frames), self.class_embeddings.device
        if not len(videos):
            return np.zeros((0, len(self.class_embeddings)), np.float32)
        whole = max(1, batch_size // views) * views
        parts = (self(part.to(device, torch.float32), views=views) for part in videos.split(whole))
        return torch.cat([part.cpu() for part in parts]).numpy()

    def with_classes(
        self, class_embeddings: np.ndarray, words: tuple[np.ndarray, np.ndarray] | None = None
    ) -> VideoHead:
        """Return the same trained parts over other classes. Raises ValueError for embeddings of another dimension,
        and for a classifier that does not read names."""
        if self.config.classifier != "text":
            raise ValueError(f"the classes of a head with the classifier {self.config.classifier} are fixed")
        if self.second is not None or self.multi_label is not None:
            raise ValueError("the classes of a head of two languages, and of a multi-label one, are fixed")
        own, other = self.class_embeddings, class_embeddings
        if other.shape[1] != own.shape[1]:
            raise ValueError(f"the classes have {other.shape[1]} dimensions, the head's {own.shape[1]}")
        head = VideoHead(self.config, other, self.dimension, self.num_frames, words)
        of_classes = ("class_embeddings", "queries", "owners")
        head.load_state_dict(
            {k: v for k, v in self.state_dict().items() if k not in of_classes}, strict=False
        )
        return head.to(own.device).eval()

    def select(self, classes: Sequence[int]) -> VideoHead:
        """Return the same head over some of its classes, in this order."""
        state = dict(self.state_dict())
        state["class_embeddings"] = state["class_embeddings"][list(classes)]
        if "owners" in state:
            state |= select_words(state["queries"], state["owners"], classes)
        if self.second is not None:
            state |= {f"second.{name}": tensor for name, tensor in self.second.select(classes).items()}
        if self.multi_label is not None:
            state |= {f"multi_label.{name}": own for name, own in self.multi_label.select(classes).items()}
        return VideoHead.from_structure(self.structure, state)

    @property
    def structure(self) -> dict[str, Any]:
        """What `from_structure` needs beside the state; JSON-able."""
        built = vars(replace(self.config, projection=self.projection is not None))
        if self.second is None:  # older versions read a head without what they do not know
            built = {name: value for name, value in built.items() if not name.startswith("second")}
        if self.multi_label is None:
            del built["multi_label"]
        return {**built, "dimension": self.dimension, "num_frames": self.num_frames}

    @classmethod
    def from_structure(cls, structure: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> VideoHead:
        """Return the head of `structure` with the tensors of `state`. Raises KeyError, TypeError, ValueError or
        RuntimeError where they do not fit."""
        values, embeddings = dict(structure), state["class_embeddings"]
        dimension, num_frames = int(values.pop("dimension")), int(values.pop("num_frames"))
        words = (state["queries"].numpy(), state["owners"].numpy()) if "queries" in state else None
        of_second = {k.removeprefix("second."): v for k, v in state.items() if k.startswith("second.")}
        config = HeadConfig(**values)
        with torch.device("meta"):  # sizes come from a file: the tensors it holds are all the memory it gets
            second = SecondBranch.from_state(of_second, embeddings.shape[1]) if of_second else None
            head = cls(config, embeddings.numpy(), dimension, num_frames, words, second=second)
        head.load_state_dict(state, assign=True)
        if words is not None:
            check_owners(state["owners"], len(embeddings))
        return head.eval()


def word_queries(texts: TextEmbeddings) -> tuple[np.ndarray, np.ndarray]:
    """Return (queries [Q, D], owners [Q]): the word embeddings of all classes, and the class of each.

    Raises ValueError where a class has no words."""
    counts = np.diff(texts.offsets)
    if (counts == 0).any():
        phrase = texts.phrases[int(np.argmin(counts))]
        raise ValueError(f"the class {phrase!r} has no word embeddings; concept spotting needs them")
    return texts.words, np.repeat(np.arange(len(counts)), counts)


def head_inputs(frames: np.ndarray, config: HeadConfig) -> torch.Tensor:
    """Return what a head of this config reads of features [N, V, T, D]: [N * V, T, D] in their own type or, where
    nothing is done before the mean over frames, that mean alone, [N * V, 1, D] float32."""
    x = torch.from_numpy(np.ascontiguousarray(frames)).flatten(0, 1)
    if config.temporal != "mean" or config.pool != "mean" or not len(x):
        return x
    return torch.cat([part.float().mean(dim=1, keepdim=True) for part in x.split(4096)])
