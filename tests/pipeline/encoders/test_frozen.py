"""Model folders that have prompts alone, beside the name of the towers that they were trained in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import PREPROCESS_CONFIG, TINY_CONFIG
from vidclip.cache import Identity
from vidclip.pipeline.encoders import (
    EncoderError,
    EncoderRequest,
    FrozenWeights,
    OpenClipEncoder,
    PromptConfig,
    TowerConfig,
    files_of,
    is_known_encoder,
    is_new,
    load_open_clip,
    load_outline,
    remember_encoder,
    write_model,
)

T = 3
TOWER = TowerConfig("temporal-prompts", T, prompts=PromptConfig(parts="GI", reparameterization="mlp"))
AFTERWARDS = 2**62
"""A time, in nanoseconds: all files of a test are older."""
Folders = dict[str, Path]


def write_folders(folder: Path, encoder: OpenClipEncoder) -> Folders:
    """Prompts that were moved as by a training, with and without the towers beside them."""
    frozen = FrozenWeights(encoder.model, encoder.pretrained, encoder.identity["weights_sha256"])
    architecture = dict(encoder.identity["architecture"])
    encoder.change_tower(TOWER)
    generator = torch.Generator().manual_seed(0)
    for parameter in encoder.network.visual.temporal_prompts.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    folders = {"prompts": folder / "prompts", "whole": folder / "whole"}
    preprocess = replace(encoder.preprocess, mean=(0.4, 0.4, 0.4))
    for name, each in folders.items():
        each.mkdir()
        named = frozen if name == "prompts" else None
        write_model(each, architecture, preprocess, encoder.network.state_dict(), TOWER, named)
    return folders


@pytest.fixture(scope="module")
def of_demo(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    encoder = load_open_clip("demo-vit", device="cpu", precision="fp32")
    return write_folders(tmp_path_factory.mktemp("frozen"), encoder)


@pytest.fixture
def of_open_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """Of a small model that open_clip knows under the tag `tiny`; its weights are a file, as if it had been fetched."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny", TINY_CONFIG)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: Any = open_clip.CLIP(**TINY_CONFIG)
    state = {name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}
    save_file(state, tmp_path / "fetched.safetensors")
    tag = {"file": str(tmp_path / "fetched.safetensors"), **PREPROCESS_CONFIG}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "Tiny", {"tiny": tag, "other": tag})
    return write_folders(tmp_path, load_open_clip("Tiny", "tiny", device="cpu", precision="fp32"))


def load(folder: Path, **options: Any) -> OpenClipEncoder:
    return load_open_clip(f"local-dir:{folder}", device="cpu", precision="fp32", **options)


@pytest.mark.parametrize("name", ["of_demo", "of_open_clip"])
def test_it_is_the_encoder_of_the_whole_folder(name: str, request: pytest.FixtureRequest):
    folders: Folders = request.getfixturevalue(name)
    found, whole = load(folders["prompts"]), load(folders["whole"])
    assert found.identity == whole.identity
    assert found.preprocess == whole.preprocess
    assert found.preprocess.mean == (0.4, 0.4, 0.4)
    height, width = found.preprocess.size
    pixels = torch.randint(
        0, 256, (2 * T, height, width, 3), generator=torch.Generator().manual_seed(0)
    ).byte()
    assert torch.equal(found.encode_frames(pixels), whole.encode_frames(pixels))
    texts = [each.encode_text(["a dog"]).sentence for each in (found, whole)]
    assert (texts[0] == texts[1]).all()
    assert (found.model, found.pretrained) == (f"local-dir:{folders['prompts']}", "")
    assert sorted(path.name for path in folders["prompts"].iterdir()) == [
        "open_clip_config.json", "temporal_prompts.safetensors", "vidclip_model.json",
    ]  # fmt: skip
    assert all(map(is_new, load_file(folders["prompts"] / "temporal_prompts.safetensors")))


def test_it_has_another_image_size_or_no_weights(of_demo: Folders):
    larger = [load(folder, image_size=128) for folder in of_demo.values()]
    pixels = torch.randint(0, 256, (T, 128, 128, 3), generator=torch.Generator().manual_seed(0)).byte()
    assert torch.equal(*(encoder.encode_frames(pixels) for encoder in larger))
    random = load(of_demo["prompts"], weights=False)
    assert random.frames_per_sample == T
    outline = load_outline(f"local-dir:{of_demo['prompts']}")
    assert any(is_new(f"visual.{name}") for name, _ in outline.named_parameters())


def changed(folders: Folders, tmp_path: Path, document: dict[str, Any] | None = None, **frozen: Any) -> Path:
    """A folder whose description says something else."""
    folder = tmp_path / "changed"
    folder.mkdir(exist_ok=True)
    for path in folders["prompts"].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    written = json.loads((folder / "vidclip_model.json").read_text())
    written = {**written, "frozen": {**written["frozen"], **frozen}, **(document or {})}
    (folder / "vidclip_model.json").write_text(json.dumps(written))
    return folder


def test_other_weights_than_those_of_the_training_are_refused(of_demo: Folders, tmp_path: Path):
    folder = changed(of_demo, tmp_path, weights_sha256="ab" * 32)
    with pytest.raises(
        EncoderError, match=r"trained in demo-vit with the weights abababababab\.\.\., and those here"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("document", "frozen", "message"),
    [
        ({}, {"model": "local-dir:/etc"}, "frozen must be called by a name, got 'local-dir:/etc'"),
        ({}, {"model": "../../x"}, "frozen must be called by a name"),
        ({}, {"model": "ViT-B-16", "pretrained": "/etc/passwd"}, "frozen must be called by a name"),
        ({}, {"model": "ViT-B-16", "pretrained": "mine"}, r"ViT-B-16 \(mine\), which neither comes with vidclip"),
        ({}, {"model": "nothing"}, "nothing, which neither comes with vidclip nor is known to open_clip"),
        ({}, {"model": "demo-vit", "pretrained": "x"}, r"demo-vit \(x\), which neither"),
        ({}, {"model": "demo"}, "trained in demo with the weights"),
        ({}, {"model": 3}, "frozen must be names and a digest"),
        ({}, {"weights_sha256": "abc"}, "'abc' is no SHA-256"),
        ({}, {"url": "https://example.org"}, "does not say whose weights are frozen"),
        ({"frozen": ["demo-vit"]}, {}, "does not say whose weights are frozen"),
        (
            {"tower": {"kind": "temporal-prompts", "frames": T, "prompts": {"layers": "last:9"}}},
            {},
            "the prompts of .* cannot be used: layers last:9: the tower has 4",
        ),
        ({"tower": {"kind": "tsm", "frames": T}}, {}, "frozen goes with temporal-prompts, not with tsm"),
    ],
)  # fmt: skip
def test_strangers_descriptions_are_checked(
    of_demo: Folders, tmp_path: Path, document: dict[str, Any], frozen: dict[str, Any], message: str
):
    folder = changed(of_demo, tmp_path, document, **frozen)
    with pytest.raises(EncoderError, match=message):
        load(folder)
    if "digest" not in message and "trained in" not in message:
        with pytest.raises(EncoderError, match=message):
            load(folder, weights=False)


def test_prompts_that_do_not_fit_are_named(of_demo: Folders, tmp_path: Path):
    state = load_file(of_demo["prompts"] / "temporal_prompts.safetensors")
    name = "visual.temporal_prompts.layers.0.local_prompts"
    for wrong, message in (
        ({key: value for key, value in state.items() if key != name}, f"lacks {name}"),
        ({**state, "visual.conv1.weight": torch.zeros(2)}, "has besides visual.conv1.weight"),
        ({**state, name: torch.zeros(2, 2)}, "size mismatch for visual.temporal_prompts"),
    ):
        folder = changed(of_demo, tmp_path)
        save_file(wrong, folder / "temporal_prompts.safetensors")
        with pytest.raises(EncoderError, match=message):
            load(folder)
    (folder / "temporal_prompts.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(EncoderError, match="the prompts of .*changed cannot be used"):
        load(folder)
    (folder / "temporal_prompts.safetensors").unlink()
    with pytest.raises(EncoderError, match="the prompts of .*changed cannot be used"):
        load(folder)


def test_a_cache_knows_the_files_of_prompts_and_towers(of_demo: Folders, tmp_path: Path):
    folder = changed(of_demo, tmp_path)
    encoder = load(folder)
    names = {path.name for path in files_of(encoder)}
    assert {"temporal_prompts.safetensors", "visual.safetensors", "open_clip_model.safetensors"} <= names
    identity = Identity(encoder.identity, {"frames": T}, encoder.model, "")
    (tmp_path / "cache").mkdir()
    remember_encoder(
        tmp_path / "cache", identity, EncoderRequest(encoder.model), files_of(encoder), AFTERWARDS
    )
    assert is_known_encoder(tmp_path / "cache", identity, EncoderRequest(encoder.model))
    prompts = folder / "temporal_prompts.safetensors"
    prompts.write_bytes(prompts.read_bytes())
    assert not is_known_encoder(tmp_path / "cache", identity, EncoderRequest(encoder.model))


def test_a_cache_knows_weights_that_open_clip_has_fetched(
    of_open_clip: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    encoder = load(of_open_clip["prompts"])
    assert files_of(encoder) == [], "weights that are not known are not trusted"
    fetched = tmp_path / "fetched.safetensors"
    monkeypatch.setattr("vidclip.pipeline.encoders.files._fetched", lambda *_: [fetched])
    assert fetched in files_of(encoder)
    identity, asked = (
        Identity(encoder.identity, {"frames": T}, encoder.model, ""),
        EncoderRequest(encoder.model),
    )
    (tmp_path / "cache").mkdir()
    remember_encoder(tmp_path / "cache", identity, asked, files_of(encoder), AFTERWARDS)
    assert is_known_encoder(tmp_path / "cache", identity, asked)
    (of_open_clip["prompts"] / "more.json").write_text("{}")
    assert not is_known_encoder(tmp_path / "cache", identity, asked)
