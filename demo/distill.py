"""Trains the demo's vision transformer: `python -m vidclip.demo.distill [--out DIR] [--seed 0] [--steps N]`.

The packaged encoder is a small ResNet with a single attention, so nothing can be put inside it. This makes a
`VisionTransformer` of open_clip in the same embedding space, so that sentences, words and lexicons of the packaged text
tower fit it without training: the packaged image tower is the teacher (Hinton et al., Distilling the knowledge in a
neural network, arXiv:1503.02531), on stills that are drawn meanwhile. The loss of a batch of B stills is the sum of

    3 (1 - cos)            the student's embedding of a still against the teacher's
    5 (log|s| - log|t|)^2  their lengths: mean pooling weighs frames by them
    KL                     softmax over the batch of 20 times the similarities of the stills, teacher against student
    0.3 contrastive        against the teacher's sentence and word embeddings, as in the training of the teacher
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from .stills import IMAGE_SIZE
from .tokens import WordTokens, token_batch
from .train import (
    CONFIG,
    DELAY,
    MODEL_CONFIG,
    WEIGHTS_FILE,
    as_input,
    contrast,
    embed_captions,
    learning_rate,
    read_arguments,
    rendered,
    training_parser,
    twice,
    write_folder,
)

STEPS = 3600
"""Default number of steps."""
LEARNING_RATE = 1.5e-3
WEIGHT_DECAY = 0.05
COSINE_WEIGHT = 3.0
LENGTH_WEIGHT = 5.0
CONTRASTIVE_WEIGHT = 0.3
SHARPNESS = 20.0
"""Inverse temperature of the similarities within a batch."""
TEACHER_WEIGHTS = Path(__file__).with_name("encoder") / WEIGHTS_FILE

VISION_CONFIG = {
    "image_size": IMAGE_SIZE,
    "patch_size": 8,
    "width": 128,
    "head_width": 32,
    "layers": 4,
    "mlp_ratio": 4.0,
}
VIT_CONFIG = {**CONFIG, "model_cfg": {**MODEL_CONFIG, "vision_cfg": VISION_CONFIG}}
"""What open_clip_config.json holds: the packaged encoder's, but for the visual tower."""


def load_teacher(device: str) -> open_clip.CLIP:
    """Return the packaged encoder, frozen."""
    model = open_clip.CLIP(**MODEL_CONFIG)
    model.load_state_dict(load_file(TEACHER_WEIGHTS))
    return model.requires_grad_(False).eval().to(device)


def distillation_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the loss of a batch without its contrastive terms.

    student, teacher  (B, D) embeddings of the same stills, as the towers return them
    """
    found, wanted = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    cosine = (found * wanted).sum(-1)
    lengths = student.norm(dim=-1).log() - teacher.norm(dim=-1).log()
    similar = F.kl_div(
        F.log_softmax(SHARPNESS * found @ found.T, dim=-1),
        F.log_softmax(SHARPNESS * wanted @ wanted.T, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return COSINE_WEIGHT * (1 - cosine).mean() + LENGTH_WEIGHT * lengths.square().mean() + similar


def distill(seed: int, steps: int, device: str, workers: int) -> VisionTransformer:
    """Train for a fixed number of steps; progress goes to standard error."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 0x56695400])
    words = WordTokens()
    teacher = load_teacher(device)
    tower: Any = open_clip.CLIP(**{**MODEL_CONFIG, "vision_cfg": VISION_CONFIG}).visual
    tower.train().to(device)
    parameters = list(tower.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
        betas=(0.9, 0.98),
    )
    scale = teacher.logit_scale.exp()
    began = time.monotonic()
    running = np.zeros(2)
    # Stills of the training run 1000 + seed: none of them was in the teacher's own training.
    for step, batch in enumerate(twice(rendered(steps + DELAY, 1000 + seed, workers))):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * learning_rate(step, steps)
        text = token_batch(batch, words, rng)
        images = as_input(batch.images, device)
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
            with torch.no_grad():
                wanted = teacher.encode_image(images).float()
                sentences, spoken = embed_captions(teacher, text, device)
            with sdpa_kernel(SDPBackend.MATH):  # the fused kernel's backward is slow on CPUs for few tokens
                seen = tower(images).float()
        unit = F.normalize(seen, dim=-1)
        contrastive = contrast(unit, sentences, text.sentence_true.to(device), scale)
        contrastive = contrastive + contrast(unit, spoken, text.word_true.to(device), scale)
        loss = distillation_loss(seen, wanted) + CONTRASTIVE_WEIGHT * contrastive
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        cosine = F.cosine_similarity(seen, wanted).mean()
        now = torch.stack([loss, cosine]).detach().cpu().numpy()
        running = now if step == 0 else 0.95 * running + 0.05 * now
        if step % 50 == 49 or step + 1 == steps:
            rate = (step + 1) / (time.monotonic() - began)
            print(
                f"step {step + 1}/{steps}  loss {running[0]:.3f}  cosine {running[1]:.4f}  {rate:.2f} steps/s  "
                f"{(steps - step - 1) / rate:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
    return tower.eval()


def save_student(tower: torch.nn.Module, folder: Path, visual_only: bool) -> None:
    """Write the folder that open_clip loads as `local-dir:`; or, visual_only, what the package has beside its text tower.

    Weights are in float16.
    """
    state = {
        f"visual.{name}": value.detach().cpu().half().contiguous()
        for name, value in tower.state_dict().items()
    }
    name = "visual.safetensors"
    if not visual_only:
        name = WEIGHTS_FILE
        teacher = load_file(TEACHER_WEIGHTS)
        state |= {key: value for key, value in teacher.items() if not key.startswith("visual.")}
    write_folder(state, VIT_CONFIG, folder, name)


def main() -> None:
    """Read the command line, train, save."""
    parser = training_parser(
        "python -m vidclip.demo.distill", "Train the demo's vision transformer.", "demo-vit", STEPS
    )
    parser.add_argument(
        "--visual-only", action="store_true", help="leave the text tower out, as the package does"
    )
    arguments = read_arguments(parser)
    tower = distill(arguments.seed, arguments.steps, arguments.device, arguments.workers)
    save_student(tower, arguments.out, arguments.visual_only)
    print(f"wrote {arguments.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
