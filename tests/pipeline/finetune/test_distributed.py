"""Several processes compute what one does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers import vidclip
from vidclip.pipeline.finetune import World

sys.path.insert(0, str(Path(__file__).parent))
from process import CASES, gradients

Gradients = dict[str, dict[str, torch.Tensor]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(**changes: object) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in changes.items()}}


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Gradients:
    """Gradients from two processes that share five clips, three and two."""
    output = tmp_path_factory.mktemp("two") / "gradients.pt"
    command = [sys.executable, str(Path(__file__).with_name("process.py")), tiny_model, str(output)]
    world = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    started = [subprocess.Popen(command, env=environment(RANK=rank, **world)) for rank in range(2)]
    assert [process.wait(120) for process in started] == [0, 0]
    return torch.load(output, weights_only=True)


@pytest.fixture(scope="module")
def of_one(tiny_model: str) -> Gradients:
    """Gradients from one process that has all clips."""
    return {case: gradients(tiny_model, case, World()) for case in CASES if case != "own slice"}


def largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))


@pytest.mark.parametrize("case", ["contrastive", "cross-entropy"])
def test_two_processes_have_the_gradients_of_one(of_one: Gradients, of_two: Gradients, case: str):
    expected, found = of_one[case], of_two[case]
    assert found.keys() == expected.keys()
    for part in ("network.visual.", "head.", "network.logit_scale"):
        assert any(name.startswith(part) for name in found)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-10, msg=name)
        assert gradient.dtype == torch.float64


def test_a_gather_of_the_own_slice_halves_the_encoder_s_gradient(of_one: Gradients, of_two: Gradients):
    """What released BIKE and X-CLIP do: 1/G for the encoder, the right one for head and temperature."""
    for name, gradient in of_two["own slice"].items():
        right = of_one["contrastive"][name]
        share = 0.5 if name.startswith("network.visual.") else 1.0
        torch.testing.assert_close(gradient, share * right, rtol=1e-10, atol=1e-10, msg=name)


def test_a_loss_of_each_process_alone_is_another_one(of_one: Gradients, of_two: Gradients):
    proj = "network.visual.proj"
    assert largest_difference(of_two["alone"][proj], of_two["contrastive"][proj]) > 0.01
    assert largest_difference(of_one["alone"][proj], of_one["contrastive"][proj]) < 1e-10


def test_torchrun_trains_what_one_process_trains(tmp_path: Path, tiny_model: str, labeled_videos: Path):
    options = [
        "--recipe",
        "bike",
        "--frames",
        "3",
        "--epochs",
        "1",
        "--batch-size",
        "7",
        "--held-out",
        "0.34",
    ]
    options += ["--learning-rate", "1e-3", "--model", tiny_model, "--workers", "1", "--device", "cpu"]
    program = ["-m", "vidclip.cli", "finetune", str(labeled_videos), *options, "--output"]
    run = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())]
    program = [*program, str(tmp_path / "two")]
    two = subprocess.run(
        [sys.executable, *run, *program], env=environment(), capture_output=True, text=True, check=False
    )
    assert two.returncode == 0, two.stderr
    one = vidclip("finetune", labeled_videos, *options, "--output", tmp_path / "one")
    assert one.returncode == 0, one.stderr
    told = [[line for line in done.stdout.splitlines() if line.startswith("epoch 1")] for done in (one, two)]
    assert len(told[0]) == len(told[1]) == 1  # rank 0 alone speaks
    assert told[0][0].split(", rate")[0] == told[1][0].split(", rate")[0]  # loss, held out and its interval
    first, second = (load_file(tmp_path / name / "open_clip_model.safetensors") for name in ("one", "two"))
    # AdamW steps by signs where a gradient is near zero: most weights agree to rounding, all to a step.
    differences = torch.cat([(first[name] - second[name]).abs().flatten() for name in first])
    assert float(differences.max()) <= 2 * 5e-6 * 1.01
    assert float((differences > 1e-7).float().mean()) < 0.01
