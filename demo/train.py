"""Trains the demo's encoder: `python -m vidclip.demo.train [--out DIR] [--seed 0] [--steps N] [--device auto]`.

A small CLIP of open_clip's architecture, trained on stills that are rendered meanwhile, with two contrastive terms:
one between stills and sentences, as in CLIP, and one between stills and single words, each word's own embedding
standing for what the sentence has asserted up to that word. Concept spotting asks words, and words whose embeddings
were never trained are poor queries. What the captions of a batch say of other stills is known, so a sentence that is
true of another still is left out of the loss there, instead of being taught as false.

A third term reads verbs, props, places and the like off the embeddings of stills, sentences and words alike, along one
direction each. Without it the contrastive terms alone stood still for the first hundreds of steps.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from .captions import FACTS
from .stills import IMAGE_SIZE, StillBatch, still_batch
from .tokens import CONTEXT, TokenBatch, WordTokens, token_batch

WEIGHTS_FILE = "open_clip_model.safetensors"
STEPS = 1200
"""Default number of steps."""
BATCH = 256
"""Stills a step."""
DELAY = 8
"""After how many steps a still comes again, mirrored and with another caption."""
LEARNING_RATE = 1.5e-3
WARM_UP = 50
"""Steps until the full learning rate."""
READING_WEIGHT = 0.3
"""Weight of the loss that reads facts off embeddings, beside the contrastive terms."""
PROP_WEIGHT = 3.0
"""Weight of a prop among these facts: props are small and the last to be learned."""
MEAN = (0.5, 0.5, 0.5)
STD = (0.28, 0.28, 0.28)

MODEL_CONFIG = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": IMAGE_SIZE, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 3},
}
CONFIG = {
    "model_cfg": MODEL_CONFIG,
    "preprocess_cfg": {
        "size": IMAGE_SIZE,
        "mode": "RGB",
        "mean": list(MEAN),
        "std": list(STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
"""What open_clip_config.json holds."""


def text_states(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Projected embeddings at every position, [B, L, D]; the text tower of an open_clip.CLIP cut to L positions."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel's backward is slow on CPUs for short sequences
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    return model.ln_final(x) @ model.text_projection


def embed_captions(model: open_clip.CLIP, text: TokenBatch, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Sentence and word embeddings of B captions, each (B, D), unit rows.

    Captions go through the tower in three groups of like length, so that short ones pay for no padding.
    """
    order = text.ends.argsort()
    sentences, words = [], []
    for group in order.tensor_split(3):
        length = int(text.ends[group].max()) + 1
        states = text_states(model, text.tokens[group, :length].to(device))
        rows = torch.arange(len(group), device=device)
        sentences.append(states[rows, text.ends[group].to(device)])
        words.append(states[rows, text.words[group].to(device)])
    back = order.argsort().to(device)
    return (
        F.normalize(torch.cat(sentences).float()[back], dim=-1),
        F.normalize(torch.cat(words).float()[back], dim=-1),
    )


def contrast(
    images: torch.Tensor, texts: torch.Tensor, true: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Symmetric contrastive loss of B pairs.

    images, texts  (B, D) unit rows; text i belongs to image i
    true           (B, B) bool: whether text i is true of image j; such pairs are left out unless i = j
    scale          inverse temperature
    """
    logits = scale * texts @ images.T
    others = true & ~torch.eye(len(true), dtype=torch.bool, device=true.device)
    logits = logits.masked_fill(others, float("-inf"))
    target = torch.arange(len(true), device=true.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class FactReader(torch.nn.Module):
    """Reads facts off an embedding, of a still or of a text: one direction for each fact; dropped after training.

    Verbs and props have directions of their own, which pairs that were never met can use as well. Pairs have none, or
    the pairs of the training stills would be features of their own and attract the pairs that were never met.
    """

    weights: torch.Tensor

    def __init__(self, dimension: int):
        super().__init__()
        self.read = [i for i, fact in enumerate(FACTS) if not fact.startswith("pair:")]
        weights = [PROP_WEIGHT if FACTS[i].startswith("prop:") else 1.0 for i in self.read]
        self.register_buffer("weights", torch.tensor(weights), persistent=False)
        self.directions = torch.nn.Parameter(torch.randn(len(self.read), dimension) / dimension**0.5)
        self.bias = torch.nn.Parameter(torch.full((len(self.read),), -3.0))
        self.scale = torch.nn.Parameter(torch.tensor(10.0))

    def loss(self, embeddings: torch.Tensor, facts: torch.Tensor) -> torch.Tensor:
        """Cross entropy a row, summed over facts: (B, D) unit rows and (B, facts) of 0 and 1."""
        logits = self.scale * embeddings @ F.normalize(self.directions, dim=-1).T + self.bias
        errors = F.binary_cross_entropy_with_logits(logits, facts[:, self.read], reduction="none")
        return (errors @ self.weights).mean()


def rendered(n: int, seed: int, workers: int, size: int = BATCH // 2) -> Iterator[StillBatch]:
    """Batches 0 .. n - 1 of a run in order, of `size` stills, rendered ahead by worker processes."""
    ahead = 2 * workers + 2
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = deque(pool.submit(still_batch, size, seed, index) for index in range(min(ahead, n)))
        for index in range(n):
            if index + ahead < n:
                waiting.append(pool.submit(still_batch, size, seed, index + ahead))
            yield waiting.popleft().result()


def twice(fresh: Iterator[StillBatch]) -> Iterator[StillBatch]:
    """Batches of BATCH stills: half new, half met DELAY batches before, mirrored and with new captions."""
    kept: deque[StillBatch] = deque()
    for batch in fresh:
        kept.append(batch)
        if len(kept) > DELAY:
            old = kept.popleft()
            yield StillBatch(
                np.concatenate([batch.images, old.images[:, :, ::-1]]),
                batch.captions + old.more_captions,
                [],
                np.concatenate([batch.facts, old.facts]),
            )


def as_input(images: np.ndarray, device: str) -> torch.Tensor:
    """[B, S, S, 3] uint8 to what the image tower is given, [B, 3, S, S] float32, channels last in memory."""
    values = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(numbers, device=device)[:, None, None] for numbers in (MEAN, STD))
    return (values - mean) / std


def learning_rate(step: int, steps: int) -> float:
    """Share of the full rate: up in a straight line, then down along a cosine."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP))


def train(seed: int, steps: int, device: str, workers: int) -> tuple[open_clip.CLIP, WordTokens]:
    """Train for a fixed number of steps; progress goes to standard error."""
    torch.manual_seed(seed)
    words = WordTokens()
    rng = np.random.default_rng([seed, 0x7247])
    config = {**MODEL_CONFIG, "text_cfg": {**MODEL_CONFIG["text_cfg"], "vocab_size": len(words.used)}}
    model = open_clip.CLIP(**config).to(device)
    index = torch.zeros(49408, dtype=torch.int64)
    index[words.used] = torch.arange(len(words.used))
    model.visual.to(memory_format=torch.channels_last)
    reader = FactReader(MODEL_CONFIG["embed_dim"]).to(device)
    parameters = [*model.parameters(), *reader.parameters()]
    decayed = [p for p in parameters if p.ndim >= 2]
    plain = [p for p in parameters if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=LEARNING_RATE,
        betas=(0.9, 0.98),
    )
    began = time.monotonic()
    running = np.zeros(2)
    for step, batch in enumerate(twice(rendered(steps + DELAY, seed, workers))):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * learning_rate(step, steps)
        text = token_batch(batch, words, rng)
        text = replace(text, tokens=index[text.tokens])
        images = as_input(batch.images, device)
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16):
            seen = model.encode_image(images)
            sentences, spoken = embed_captions(model, text, device)
        seen = F.normalize(seen.float(), dim=-1)
        scale = model.logit_scale.exp()
        contrastive = contrast(seen, sentences, text.sentence_true.to(device), scale)
        contrastive = contrastive + contrast(seen, spoken, text.word_true.to(device), scale)
        reading = reader.loss(seen, torch.from_numpy(batch.facts).to(device).float())
        reading = (
            reading
            + reader.loss(sentences, text.said.to(device))
            + reader.loss(spoken, text.heard.to(device))
        )
        loss = contrastive + READING_WEIGHT * reading
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        now = torch.stack([contrastive, reading]).detach().cpu().numpy()
        running = now if step == 0 else 0.95 * running + 0.05 * now
        if step % 50 == 49 or step + 1 == steps:
            seconds = time.monotonic() - began
            rate = (step + 1) / seconds
            print(
                f"step {step + 1}/{steps}  contrastive {running[0]:.3f}  reading {running[1]:.3f}  {rate:.1f} steps/s  "
                f"{(steps - step - 1) / rate:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
    return model.eval(), words


def save(model: open_clip.CLIP, words: WordTokens, folder: Path) -> None:
    """Write the folder that open_clip loads as `local-dir:`; weights in float16, rows of unused tokens zero."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    table = torch.zeros(49408, state["token_embedding.weight"].shape[1])
    table[words.used] = state["token_embedding.weight"].float()
    state["token_embedding.weight"] = table
    state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    write_folder(state, CONFIG, folder)


def write_folder(
    state: dict[str, torch.Tensor], config: dict[str, Any], folder: Path, name: str = WEIGHTS_FILE
) -> None:
    """Write weights and configuration as open_clip reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / name, metadata={"format": "pt"})
    (folder / name).chmod(0o644)  # save_file leaves it readable by its owner alone
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def training_parser(prog: str, description: str, out: str, steps: int) -> argparse.ArgumentParser:
    """The command line of the demo's trainings; `read_arguments` reads it."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--out", type=Path, default=Path(out), help="folder to write (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of stills, captions and weights (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=steps, help="(default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda... (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="rendering processes; 0: one a core but one")
    return parser


def read_arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line, with the device and the workers that its defaults mean here."""
    arguments = parser.parse_args()
    if arguments.device == "auto":
        arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
    arguments.workers = arguments.workers or max(1, (os.cpu_count() or 2) - 1)
    return arguments


def main() -> None:
    """Read the command line, train, save."""
    parser = training_parser(
        "python -m vidclip.demo.train", "Train the demo's encoder.", "demo-encoder", STEPS
    )
    arguments = read_arguments(parser)
    model, words = train(arguments.seed, arguments.steps, arguments.device, arguments.workers)
    save(model, words, arguments.out)
    print(f"wrote {arguments.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
