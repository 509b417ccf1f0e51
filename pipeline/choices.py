"""The names that settings may have, each once: the packages check them, the command line offers them.

Nothing heavy is imported here: the help of a command needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# frames and pixels
MODES = ("uniform", "dense")
POSITIONS = ("start", "middle", "random")
"""Which frame stands for its segment of the video; see `Sampling`."""
IMPORTED = "imported"
"""In the place of a mode, for features that another tool has computed."""
CROP_POSITIONS = ("longer-side", "width")

# extraction
DECODERS = ("auto", "decord", "pyav", "torchcodec", "torchcodec-cuda")
"""What decodes videos; see `video.decode_video`. The last one is the decoder of an NVIDIA GPU."""
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
ENGINES = ("local", "ray")
"""Where an extraction runs: in this process and its decoders, or on a Ray cluster."""
CHANGED = ("encode", "replace", "keep", "error")
"""What to do with videos of a cache whose files have changed."""

# export
EXPORT_FORMS = ("npz", "csv", "parquet", "safetensors", "webdataset")
EXPORT_FEATURES = ("frames", "mean")

# scores
VIEW_AVERAGES = ("probabilities", "unscaled", "features")
"""How several views of a video become one score, by name:

probabilities    mean of softmax(cosine / temperature): BIKE's paper, X-CLIP
unscaled         mean of softmax(cosine), without the temperature: released BIKE
features         cosine of the mean of the views' pooled embeddings, not normalized: Text4Vis
"""
QUERIES = ("words", "sentence")
"""The text side of concept spotting: of the saliency softmax, and of recognition."""
WORDS = ("name", "sentence", "all")
"""Which tokens of a class are the words of concept spotting; see `encoders.tokens`."""
INDEXES = ("exact", "ivf", "hnsw")
"""FAISS indexes of attributes."""
SEARCH_POOLS = ("mean", "max", "vcs")
"""What of a video a query is compared with: its mean embedding, its best frame, or the frames that its words spot."""
SEARCH_INDEXES = ("exact", "compressed")
"""How a search goes over a cache: through all features, or through few bytes of each vector first."""
DUPLICATES_BY = ("pixels", "features")
"""What tells near-duplicates from videos of the same kind."""
JOINS = ("mean",)
"""How several queries become one."""
FUSION_FORMS = ("paper", "released")
"""What fusion weighs: `paper` softmaxes of cosines / temperature; `released` BIKE softmaxes of the cosines as they are."""
LANGUAGE_FUSIONS = ("scores", "probabilities")
"""What two languages are fused by: cosines, or their softmaxes at the temperature."""
LANGUAGE_CONTROLS = ("prompts", "permuted", "twice", "paraphrase")
"""What a gain by a second language is held against; see `evaluation.languages`."""
POOLS = ("mean", "max", "vote", "vcs", "released-bike", "released-text4vis")
"""The last two are what released code scores its halves with: a vote of raw embeddings, the mean over frames and views."""

# heads
HEAD_POOLS = ("mean", "vcs")
CLASSIFIERS = ("text", "random", "orthogonal", "lda", "linear")
"""Where the weight of a classifier comes from: frozen, except linear, which is trained."""
TEMPORAL = ("mean", "conv", "transformer", "mit")
TEMPORAL_STARTS = ("quiet", "released")
"""How transformer and mit begin, the usual way first: their branches at zero, or at random as released; see `heads.temporal`."""
VIDEO_PROMPTS = ("on", "off")
"""Whether the class embeddings of X-CLIP's head look at the video."""
LOSSES = ("cross-entropy", "paper", "released")
MULTI_LABEL_LOSS = "binary-cross-entropy"
"""The loss of heads for videos with any number of labels; it makes a head a multi-label one."""

# fine-tuning
FINETUNE_RECIPES = ("text4vis", "bike", "x-clip", "temporal-prompts")
TRAINED = ("visual", "visual+text", "text", "head")
"""Which towers are trained beside what is new: the head, and what is put inside the visual tower."""
TOWERS = ("none", "token-t1d", "token-shift", "tsm", "cross-frame", "joint", "temporal-prompts")
"""What is put inside a visual tower, so that the frames of a clip see each other; see `encoders.towers`."""
TOWER_STARTS = {"token-t1d": ("shift", "fixed"), "cross-frame": ("released", "quiet")}
"""How what is trained inside a tower begins, the usual one first."""
PROMPT_PARTS = ("C", "G", "I", "CG", "CI", "GI", "CGI")
"""Which temporal prompts there are: a summary of the clip, vectors that frames share, messages of the frames."""
REPARAMETERIZATIONS = ("none", "mlp", "lstm", "transformer", "r2plus1d", "c3d", "tada")
"""What temporal prompts pass before the tower reads them."""
PROMPT_SETTINGS = {
    "parts": "parts",
    "global_prompts": "global_prompts",
    "prompt_layers": "layers",
    "prompt_init": "init",
    "prompt_gate": "gate",
    "temporal_embedding": "temporal_embedding",
    "global_per_frame": "global_per_frame",
    "reparameterization": "reparameterization",
    "prompt_residual": "residual",
    "shared_reparameterization": "shared",
}
"""Settings of temporal prompts, as recipes and options call them, and what `encoders.PromptConfig` calls them."""
COSINES = ("shifted", "whole")
"""Where the cosine of the learning rate begins: after the warm-up, or at 0, so that the rate drops after the warm-up."""
CROP_FORMS = ("area", "multi-scale")
"""How random boxes of clips are drawn; see `video.Augmentation`."""
NORMALIZATIONS = ("encoder", "imagenet")
"""Mean and standard deviation of the colors that an encoder reads while it is trained and after."""
DECAYS = ("all", "matrices")
"""Which parameters decay: all of them, or all but biases, norms and positions."""

# protocols
PROTOCOLS = ("full-classes", "half-classes", "kinetics600", "splits")
MULTI_LABEL = "multi-label"
TRAINING_PROTOCOLS = ("general", "few-shot")
MAP_CONVENTIONS = ("standard", "released-charades", "released-activitynet")
"""How mean average precision is computed; see `evaluation.multi_label`."""

# papers
PAPERS = ("bike", "text4vis", "x-clip", "temporal-prompts")
"""Those whose figures are known."""
RELEASED = ("bike", "text4vis", "x-clip")
"""Those whose released code has forms of its own."""


def check_choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise ValueError unless `value` is one of `allowed`; True is not 1."""
    if value not in allowed or isinstance(value, bool):
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
