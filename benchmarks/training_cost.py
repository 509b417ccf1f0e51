"""What a training step costs: fine-tuning, X-CLIP, temporal prompts in a frozen tower, and a head on cached features.

    python benchmarks/training_cost.py                                # demo-vit, 16 clips of 8 frames
    python benchmarks/training_cost.py --model ViT-B-32 --random-weights --batch-size 4
    python benchmarks/training_cost.py --device cuda --model ViT-B-16 --random-weights --batch-size 32

Each method runs in a process of its own, of one thread on a CPU: forward, backward and optimizer on pixels (or features) that
are ready, so decoding does not count. On a CPU seconds are CPU seconds, which other programs on the machine change little, and
memory is the peak of the process over what it had with the encoder loaded; on a GPU wall seconds and allocated memory.
Weights have no part in the cost: --random-weights takes a published architecture without a download.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

METHODS: dict[str, dict[str, Any]] = {
    "fine-tuning": {"train": "visual"},
    "X-CLIP's tower and MIT": {"train": "visual", "tower": "cross-frame", "temporal": "mit"},
    "prompts": {"train": "head", "tower": "temporal-prompts"},
    "prompts, no beta": {"train": "head", "tower": "temporal-prompts", "reparameterization": "none"},
    "prompts, last layer": {"train": "head", "tower": "temporal-prompts", "prompt_layers": "last:1"},
    "prompts, checkpointing": {"train": "head", "tower": "temporal-prompts", "checkpointing": True},
    "cached transformer head": {"train": "head", "temporal": "transformer"},
}
BASE, CACHED = "fine-tuning", "cached transformer head"
CLASSES = 75
WARM = 2


def main() -> None:
    arguments = _arguments()
    if arguments.method:
        print(json.dumps(measure(arguments)))
        return
    found = run_all(arguments)
    print(
        f"{arguments.model}, {arguments.device}, {arguments.precision}: {arguments.batch_size} clips x {arguments.frames} "
        f"frames, medians of {arguments.steps} steps"
    )
    base = found[BASE]
    print(f"{'':26}{'s a step':>10}{'ratio':>8}{'MiB':>10}{'ratio':>8}{'trained':>14}")
    for name, own in found.items():
        print(
            f"{name:26}{own['seconds']:10.4f}{own['seconds'] / base['seconds']:8.3f}"
            f"{own['mib']:10.0f}{own['mib'] / base['mib']:8.3f}{own['parameters']:14,}"
        )


def run_all(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the cost of each method that could be measured."""
    found = {}
    for name in METHODS:
        command = [sys.executable, __file__, "--method", name]
        for option in ("model", "pretrained", "device", "batch_size", "frames", "steps", "precision"):
            command += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
        command += ["--random-weights"] * arguments.random_weights
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE)
        if done.returncode:
            print(f"{name}: not measured, exit status {done.returncode}", file=sys.stderr)
            if name == BASE:
                raise SystemExit(1)  # the others are compared with it
            continue
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(arguments: argparse.Namespace, *, by_wall: bool = False) -> dict[str, float]:
    """Return the cost of a method, in this process.

    by_wall    seconds on a CPU are wall seconds of all its threads, to be compared with those of a GPU
    """
    import numpy as np
    import torch

    from vidclip.pipeline.encoders import load_open_clip
    from vidclip.pipeline.finetune import FinetuneModel, find_recipe, parameter_groups
    from vidclip.pipeline.finetune.prepare import prepare_encoder
    from vidclip.pipeline.heads import VideoHead, scores_loss

    torch.manual_seed(0)
    if not by_wall:
        torch.set_num_threads(1)
    device, rng = torch.device(arguments.device), np.random.default_rng(0)
    settings = {"temporal": "mean", "temperature": 0.01, "decay": "matrices", "frames": arguments.frames}
    changes = {**settings, "precision": arguments.precision, **METHODS[arguments.method]}
    recipe = find_recipe("text4vis", **changes)
    encoder = load_open_clip(
        arguments.model, arguments.pretrained, device=arguments.device, precision="fp32",
        weights=not arguments.random_weights,
    )  # fmt: skip
    prepare_encoder(encoder, recipe)
    embeddings = rng.standard_normal((CLASSES, encoder.dimension), np.float32)
    head = VideoHead(recipe.head_config, embeddings, encoder.dimension, recipe.frames)
    model = FinetuneModel(encoder, head, recipe).to(device).train()
    labels = torch.from_numpy(rng.integers(0, CLASSES, arguments.batch_size)).to(device)
    if arguments.method == CACHED:
        shape = (arguments.batch_size, recipe.frames, encoder.dimension)
        inputs = torch.from_numpy(rng.standard_normal(shape, np.float32)).to(device)
    else:
        shape = (arguments.batch_size, recipe.frames, *encoder.preprocess.size, 3)
        inputs = torch.from_numpy(rng.integers(0, 256, shape, np.uint8)).to(device)
    groups = parameter_groups(model.parts(), recipe)
    parameters = [parameter for group in groups for parameter in group["params"]]
    optimizer = torch.optim.AdamW(groups)
    before = _memory(torch, device)
    seconds, clock = [], time.process_time if device.type == "cpu" and not by_wall else time.perf_counter
    for _ in range(WARM + arguments.steps):
        began = clock()
        if arguments.method == CACHED:
            loss = scores_loss(head(inputs), labels, temperature=0.01, form="cross-entropy")
        else:
            loss = model(inputs, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_gradient)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _synchronize(torch, device)
        seconds.append(clock() - began)
    return {
        "seconds": float(np.median(seconds[WARM:])),
        "mib": _memory(torch, device) - before,
        "parameters": sum(parameter.numel() for parameter in parameters),
    }


def _synchronize(torch: Any, device: Any) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _memory(torch: Any, device: Any) -> float:
    if device.type == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return torch.cuda.max_memory_allocated() / 2**20


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo-vit")
    parser.add_argument("--pretrained", default="")
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--method", choices=list(METHODS), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
