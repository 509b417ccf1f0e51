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
def options(tiny_model: str, labeled_videos: Path) -> list[str]:
    """A training, but for its output."""
    small = [
        "--frames",
        "3",
        "--epochs",
        "1",
        "--batch-size",
        "7",
        "--held-out",
        "0.34",
        "--learning-rate",
        "1e-3",
    ]
    place = ["--model", tiny_model, "--workers", "1", "--device", "cpu"]
    return ["finetune", str(labeled_videos), "--recipe", "bike", *small, *place]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory, tiny_model: str) -> Gradients:
    """Gradients from two processes that share five clips, three and two."""
    gradients_file = tmp_path_factory.mktemp("two") / "gradients.pt"
    command = [sys.executable, Path(__file__).with_name("process.py"), tiny_model, gradients_file]
    world = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    started = [subprocess.Popen(command, env=environment(RANK=rank, **world)) for rank in range(2)]
    assert [process.wait(timeout=300) for process in started] == [0, 0]
    return torch.load(gradients_file, weights_only=True)


@pytest.fixture(scope="module")
def of_one(tiny_model: str) -> Gradients:
    """Gradients from one process that has all clips."""
    return {case: gradients(tiny_model, case, World()) for case in CASES if case != "own slice"}


def largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))


@pytest.mark.parametrize("case", ["contrastive", "cross-entropy", "prompts"])
def test_two_processes_have_the_gradients_of_one(of_one: Gradients, of_two: Gradients, case: str):
    expected, found = of_one[case], of_two[case]
    assert found.keys() == expected.keys()
    parts = ("network.visual.", "head.", "network.logit_scale")
    for part in ("network.visual.temporal_prompts.",) if case == "prompts" else parts:
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


@pytest.mark.long
def test_torchrun_trains_what_one_process_does(tmp_path: Path, options: list[str]):
    """The command of the manual, on two processes: the same clips in each step, and one voice."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*run, "-m", "vidclip.cli", *options, "--output", str(tmp_path / "two")]
    two = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert two.returncode == 0, two.stderr
    one = vidclip(*options, "--output", tmp_path / "one")
    assert one.returncode == 0, one.stderr
    lines = [
        [line.split(", rate")[0] for line in told.splitlines() if line.startswith("epoch 1")]
        for told in (one.stdout, two.stdout)
    ]
    assert len(lines[1]) == 1, "rank 0 alone speaks"
    assert lines[0] == lines[1]  # loss, held out and its interval
    first, second = (load_file(tmp_path / name / "open_clip_model.safetensors") for name in ("one", "two"))
    assert first.keys() == second.keys()
    # AdamW steps by signs where a gradient is near zero: most weights agree to rounding, all to a step.
    differences = torch.cat([(first[name] - second[name]).abs().flatten() for name in first])
    assert float(differences.max()) <= 2 * 5e-6 * 1.01
    assert float((differences > 1e-7).float().mean()) < 0.01
