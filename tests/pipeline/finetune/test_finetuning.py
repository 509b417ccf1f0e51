"""Trainings of a tiny encoder: what they change, what they write, and that they can be ended at any time."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import TINY_CONFIG, save_model_folder, save_video, vidclip
from vidclip.cache import FeatureCache
from vidclip.pipeline import ExtractSettings, extract, load_encoder, load_head, read_videos
from vidclip.pipeline.finetune import FinetuneError, Finetuning
from vidclip.pipeline.heads import scorer_of_head
from vidclip.pipeline.scoring import scan_scores
from vidclip.pipeline.video import ClipSpec, Sampling, VideoRequest, decode_video


class Killed(Exception):
    pass


def kill_after(epoch: int) -> Callable[[Any], None]:
    def on_epoch(report: Any) -> None:
        if report.epoch.number == epoch:
            raise Killed

    return on_epoch


def weights(folder: Path) -> dict[str, torch.Tensor]:
    head = load_file(folder / "head.safetensors")
    return {**load_file(folder / "open_clip_model.safetensors"), **head}


def assert_same_weights(one: Path, other: Path) -> None:
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param(
            {"temporal": "mean", "prompts": ("{}", "a {}"), "prompt_draw": True},
            id="drawn prompts",
            marks=pytest.mark.long,
        ),
        pytest.param({"temporal": "mean", "prompt_context": 2}, id="prompt context", marks=pytest.mark.long),
        pytest.param({"name": "x-clip"}, id="x-clip", marks=pytest.mark.long),
    ],
)
def test_a_training_that_was_killed_ends_as_one_that_was_not(
    begin: Callable[..., Finetuning], tmp_path: Path, changes: dict[str, Any]
):
    whole = begin(tmp_path / "whole", epochs=4, **changes).run()
    with pytest.raises(Killed):
        begin(tmp_path / "killed", epochs=4, **changes).run(kill_after(2))
    assert not (tmp_path / "killed" / "open_clip_model.safetensors").exists()
    resumed = begin(tmp_path / "killed", epochs=4, **changes)
    assert len(resumed.epochs) == 2
    done = resumed.run()
    assert [report.epoch for report in done.epochs] == [report.epoch for report in whole.epochs]
    assert done.best_epoch == whole.best_epoch
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()


def test_a_checkpoint_of_another_training_is_refused(
    begin: Callable[..., Finetuning], tmp_path: Path, labeled_videos: Path, other_tiny_model: str
):
    with pytest.raises(Killed):
        begin(tmp_path, temporal="mean").run(kill_after(1))
    with pytest.raises(FinetuneError, match=r"another training: epochs 2 there, 3 here\. Go on"):
        begin(tmp_path, temporal="mean", epochs=3)
    fewer = tmp_path / "fewer"
    shutil.copytree(labeled_videos, fewer)
    (fewer / "yoga" / "0.mp4").unlink()
    with pytest.raises(FinetuneError, match="another training: videos '"):
        begin(tmp_path, temporal="mean", source=fewer)
    other = load_encoder(other_tiny_model, device="cpu", precision="fp32")
    with pytest.raises(FinetuneError, match="another training: encoder '"):
        begin(tmp_path, temporal="mean", encoder=other)
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(FinetuneError, match="is damaged"):
        begin(tmp_path, temporal="mean")


def test_a_full_disk_leaves_the_checkpoint_before(begin: Callable[..., Finetuning], tmp_path: Path):
    begin(tmp_path / "whole", temporal="mean", held_out=0.0, epochs=3).run()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept: list[bytes] = []

    def fill_disk(report: Any) -> None:
        kept.append((tmp_path / "full" / "checkpoint.pt").read_bytes())
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))

    try:
        with pytest.raises(OSError, match="File too large"):
            begin(tmp_path / "full", temporal="mean", held_out=0.0, epochs=3).run(fill_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["checkpoint.pt"]
    assert (tmp_path / "full" / "checkpoint.pt").read_bytes() == kept[0]
    begin(tmp_path / "full", temporal="mean", held_out=0.0, epochs=3).run()
    assert_same_weights(tmp_path / "whole", tmp_path / "full")


def test_micro_batches_of_cross_entropy_equal_one_batch(begin: Callable[..., Finetuning], tmp_path: Path):
    """AdamW's first step is the sign of a gradient: gradients are compared, not weights."""
    gradients = []
    for accumulate in (1, 3):
        loop = begin(tmp_path / str(accumulate), accumulate=accumulate, clip_gradient=0).loop
        loop.model.double().train()
        pixels = torch.randint(0, 256, (6, 3, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
        labels = torch.tensor([0, 1, 2, 2, 1, 0])
        for part in range(accumulate):
            loss = loop.model(pixels[part::accumulate], labels[part::accumulate])
            (loss / accumulate).backward()
        gradients.append([p.grad.clone() for p in loop.parameters if p.grad is not None])
    for one, several in zip(*gradients, strict=True):
        torch.testing.assert_close(several, one, rtol=1e-9, atol=1e-12)


def test_bf16_on_a_cpu_has_the_gradients_of_fp32_without_the_slow_attention(
    begin: Callable[..., Finetuning], tmp_path: Path
):
    """Of 17 and 77 tokens; a checkpointed pass keeps torch's own choice of attention in both of its runs."""
    gradients, fused = {}, {}
    for name, changes in {
        "fp32": {"precision": "fp32"},
        "bf16": {"precision": "bf16"},
        "checkpointed": {"precision": "bf16", "checkpointing": True},
    }.items():
        loop = begin(tmp_path / name, train="visual+text", temporal="mean", **changes).loop
        loop.model.train()
        pixels = torch.randint(0, 256, (6, 3, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
        with Operators() as operators:
            loop.model(pixels, torch.tensor([0, 1, 2, 2, 1, 0])).backward()
        fused[name] = any("flash_attention_for_cpu" in operator for operator in operators.names)
        gradients[name] = torch.cat([p.grad.flatten() for p in loop.parameters if p.grad is not None])
    assert fused == {"fp32": True, "bf16": False, "checkpointed": True}
    for name in ("bf16", "checkpointed"):
        assert torch.cosine_similarity(gradients[name], gradients["fp32"], dim=0) > 0.995, name


class Operators(TorchDispatchMode):
    """Keeps the names of torch's operators that are run in it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def test_accumulated_steps_equal_whole_ones(begin: Callable[..., Finetuning], tmp_path: Path):
    """Through the loop: the second of two steps sees the first's weights."""
    still = {"temporal": "mean", "held_out": 0.0, "epochs": 1, "warm_up_epochs": 0.0, "batch_size": 9}
    losses = [begin(tmp_path / str(n), accumulate=n, **still).run().epochs[0].epoch.loss for n in (1, 3)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "train"),
    [("text4vis", "visual"), ("bike", "visual+text"), ("text4vis", "text"), ("text4vis", "head")],
)
def test_only_what_is_trained_changes(
    begin: Callable[..., Finetuning], tmp_path: Path, tiny_model: str, name: str, train: str
):
    temporal = "conv" if train == "head" else "mean"
    training = begin(tmp_path / "out", name, train=train, temporal=temporal, held_out=0.0, epochs=1)
    before = {key: tensor.clone() for key, tensor in training.loop.model.state_dict().items()}
    training.run()
    after = load_encoder(f"local-dir:{tmp_path / 'out'}", device="cpu", precision="fp32")
    state = after.network.state_dict()
    changed = {key for key in state if not torch.equal(state[key], before[f"network.{key}"])}
    visual = {key for key in state if key.startswith("visual.")}
    scale = {"logit_scale"}
    text = set(state) - scale - visual - {"attn_mask"}
    parts = {"visual": visual, "visual+text": visual | text, "text": text, "head": set()}
    assert changed - scale == parts[train]
    assert ("logit_scale" in changed) == (name == "text4vis" and train != "head")
    stored = load_head(tmp_path / "out" / "head.safetensors")
    recipe = training.recipe
    texts = after.encode_text(training.videos.lexicon.phrases, recipe.prompts)
    np.testing.assert_allclose(stored.module.class_embeddings, texts.sentence, atol=1e-5)
    if name == "bike":
        np.testing.assert_allclose(stored.module.get_buffer("queries"), texts.words, atol=1e-5)
    expected = 0.01 if name == "bike" else float(torch.exp(-state["logit_scale"]))
    assert stored.temperature == pytest.approx(expected)


def test_a_head_of_dense_clips_says_so(begin: Callable[..., Finetuning], tmp_path: Path):
    begin(tmp_path / "out", mode="dense", temporal="conv", epochs=1).run()
    assert load_head(tmp_path / "out" / "head.safetensors").identity.sampling["mode"] == "dense"


@pytest.mark.parametrize("tower", ["token-t1d", "cross-frame", "joint"])
def test_a_head_alone_is_trained_with_what_is_put_inside_the_tower(
    begin: Callable[..., Finetuning], tmp_path: Path, tower: str
):
    training = begin(tmp_path / "out", train="head", tower=tower, held_out=0.0, epochs=1)
    before = {key: tensor.clone() for key, tensor in training.encoder.network.state_dict().items()}
    training.run()
    after = load_encoder(f"local-dir:{tmp_path / 'out'}", device="cpu", precision="fp32").network.state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    new = {"token-t1d": ".temporal.", "cross-frame": ".message_", "joint": ".time_embedding"}[tower]
    assert changed == {key for key in after if new in key}
    assert changed


@pytest.mark.parametrize("classifier", ["lda", "linear"])
def test_classifiers_other_than_text(begin: Callable[..., Finetuning], tmp_path: Path, classifier: str):
    training = begin(tmp_path, classifier=classifier, temporal="mean", held_out=0.0, epochs=1)
    before = training.loop.model.head.class_embeddings.detach().clone()
    training.run()
    after = load_head(tmp_path / "head.safetensors").module.class_embeddings
    assert torch.equal(before, after) == (classifier != "linear")


def test_training_learns_the_training_videos(begin: Callable[..., Finetuning], tmp_path: Path):
    still = {
        "crop": False,
        "flip": 0.0,
        "gray": 0.0,
        "rand_augment": (0, 0),
        "temporal": "mean",
        "held_out": 0.0,
    }
    done = begin(tmp_path, epochs=10, backbone_rate=5e-3, **still).run()
    assert done.epochs[0].epoch.loss > 0.9
    assert done.epochs[-1].epoch.loss < 0.3
    assert done.best_epoch == 10  # nothing was held out
    assert done.epochs[0].epoch.held_out_top1 is None


def test_unreadable_videos_are_named_dropped_and_counted(
    begin: Callable[..., Finetuning], tmp_path: Path, labeled_videos: Path
):
    source = tmp_path / "videos"
    shutil.copytree(labeled_videos, source)
    (source / "rowing" / "9.mp4").write_bytes(b"no video")
    for number in range(20, 24):
        save_video(source / "rowing" / f"{number}.mp4", frames=8, seed=number)
    training = begin(tmp_path / "out", source=source, temporal="mean", held_out=0.0, batch_size=23)
    done = training.run()
    assert list(done.unreadable) == ["rowing/9.mp4"]
    assert [report.epoch.n_examples for report in done.epochs] == [22, 22]
    document = json.loads((tmp_path / "out" / "training.json").read_text())
    assert list(document["unreadable"]) == ["rowing/9.mp4"]
    assert len(document["trained_on"]) == 22
    (source / "rowing" / "20.mp4").write_bytes(b"nor this")
    with pytest.raises(
        FinetuneError, match=r"2 of 23 training videos could not be read so far, the first is rowing/"
    ):
        begin(tmp_path / "more", source=source, temporal="mean", held_out=0.0, batch_size=23).run()


def test_a_diverging_loss_is_an_error(begin: Callable[..., Finetuning], tmp_path: Path, tiny_model: str):
    encoder = load_encoder(tiny_model, device="cpu", precision="fp32")
    with torch.no_grad():
        encoder.network.visual.proj[0, 0] = torch.nan
    with pytest.raises(
        FinetuneError, match=r"the loss of epoch 1 is nan: .* --learning-rate 0.001 and --backbone-rate"
    ):
        begin(tmp_path, temporal="mean", encoder=encoder).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", ["name", *(pytest.param(each, marks=pytest.mark.long) for each in ("sentence", "all"))]
)
def test_queries_of_a_trained_text_tower_are_the_words_asked_for(
    begin: Callable[..., Finetuning], tmp_path: Path, words: str
):
    begin(tmp_path, "bike", train="visual+text", words=words, temporal="mean", epochs=1).run()
    encoder = load_encoder(f"local-dir:{tmp_path}", device="cpu", precision="fp32")
    stored = load_head(tmp_path / "head.safetensors")
    expected = encoder.encode_text(stored.classes, stored.prompts, words=words).words
    queries = torch.nn.functional.normalize(stored.module.get_buffer("queries"), dim=1)
    torch.testing.assert_close(
        queries, torch.nn.functional.normalize(torch.from_numpy(expected), dim=1), atol=1e-4, rtol=0
    )


def test_too_little_memory_is_an_error_that_names_the_batch(
    begin: Callable[..., Finetuning], tmp_path: Path, tiny_model: str
):
    encoder = load_encoder(tiny_model, device="cpu", precision="fp32")

    def exhaust(*_: Any) -> None:
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory")

    encoder.network.visual.register_forward_pre_hook(exhaust)
    with pytest.raises(
        FinetuneError,
        match="cpu has too little memory for 3 clips of 3 frames at once.*--accumulate 4 or more",
    ):
        begin(tmp_path, temporal="mean", encoder=encoder, accumulate=2).run()


def test_a_model_is_not_overwritten(begin: Callable[..., Finetuning], tmp_path: Path):
    begin(tmp_path, temporal="mean", held_out=0.0, epochs=1).run()
    with pytest.raises(FinetuneError, match="holds a model already"):
        begin(tmp_path, temporal="mean", epochs=1)


def test_a_batch_is_read_without_training(begin: Callable[..., Finetuning], tmp_path: Path):
    batch, _, _ = begin(tmp_path / "out").read_one_batch()
    assert batch.pixels.shape == (6, 3, 32, 32, 3)
    assert batch.failures == {}
    assert not (tmp_path / "out").exists()


def test_cross_frame_attention_is_trained_at_the_rate_of_the_head(
    begin: Callable[..., Finetuning], tmp_path: Path
):
    training = begin(tmp_path / "out", tower="cross-frame", temporal="mit", held_out=0.0, epochs=1)
    rates = {group["name"]: group["base_lr"] for group in training.loop.groups}
    assert rates == {"encoder": 1e-4, "tower": 1e-3, "head": 1e-3}
    began = training.loop.model.network.visual.transformer.resblocks[0].message_fc.weight.clone()
    training.run()
    encoder = load_encoder(f"local-dir:{tmp_path / 'out'}", device="cpu", precision="fp32")
    assert encoder.identity["architecture"]["tower"] == {
        "kind": "cross-frame", "frames": 3, "start": "released"
    }  # fmt: skip
    trained = encoder.network.visual.transformer.resblocks[0].message_fc.weight
    assert began.shape == trained.shape
    assert not torch.equal(began, trained)


def test_a_changed_tower_is_trained_and_read_back(
    begin: Callable[..., Finetuning], tmp_path: Path, labeled_videos: Path
):
    """In the folder, its cache, and the command: frames of a clip see each other, and another T is refused."""
    training = begin(tmp_path / "out", tower="token-t1d", temporal="mean", held_out=0.0, epochs=1)
    rates = {group["name"]: group["base_lr"] for group in training.loop.groups}
    assert rates == {"encoder": 1e-4, "tower": 1e-3}
    training.run()
    name = f"local-dir:{tmp_path / 'out'}"
    encoder = load_encoder(name, device="cpu", precision="fp32")
    assert (encoder.frames_per_sample, encoder.identity["architecture"]["tower"]["kind"]) == (3, "token-t1d")
    weight = encoder.network.visual.transformer.resblocks[0].temporal.weight
    assert not torch.equal(weight, weight.round())  # a shift, until it is trained
    pixels = torch.randint(0, 256, (2, 3, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    with torch.no_grad():
        trained = training.loop.model.eval().inputs(pixels)[0].flatten(0, 1)
    torch.testing.assert_close(encoder.encode_frames(pixels.flatten(0, 1)), trained, rtol=1e-5, atol=1e-6)
    extract = [
        "extract",
        labeled_videos,
        "--model",
        name,
        "--cache",
        tmp_path / "c",
        "--workers",
        1,
        "--device",
        "cpu",
    ]
    refused = vidclip(*extract, "--frames", 4)
    assert refused.returncode == 2
    assert "reads clips of 3 frames" in refused.stderr
    assert vidclip(*extract, "--frames", 3).returncode == 0
    with pytest.raises(FinetuneError, match="sees 3 frames at once, and clips have 4. Use --frames 3"):
        begin(tmp_path / "again", encoder=encoder, temporal="mean", frames=4)
    with pytest.raises(
        FinetuneError, match="--tower tsm: the tower has token-t1d of 3 frames inside already"
    ):
        begin(tmp_path / "again", encoder=encoder, temporal="mean", tower="tsm")


def test_a_resnet_learns_a_convolution_over_time(begin: Callable[..., Finetuning], tmp_path: Path):
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    folder = save_model_folder(tmp_path / "resnet", {**TINY_CONFIG, "vision_cfg": vision})
    encoder = load_encoder(f"local-dir:{folder}", device="cpu", precision="fp32")
    training = begin(
        tmp_path / "out", encoder=encoder, tower="token-t1d", temporal="mean", held_out=0.0, epochs=1
    )
    rates = {group["name"]: group["base_lr"] for group in training.loop.groups}
    assert rates == {"encoder": 1e-4, "tower": 1e-3}
    training.run()
    trained = load_encoder(f"local-dir:{tmp_path / 'out'}", device="cpu", precision="fp32")
    assert trained.identity["architecture"]["tower"] == {"kind": "token-t1d", "frames": 3, "start": "shift"}
    weight = trained.network.visual.layer4[0].temporal.weight
    assert not torch.equal(weight, weight.round())
    pixels = torch.randint(0, 256, (2, 3, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    with torch.no_grad():
        expected = training.loop.model.eval().inputs(pixels)[0].flatten(0, 1)
    torch.testing.assert_close(trained.encode_frames(pixels.flatten(0, 1)), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(FinetuneError, match=f"--checkpointing: open_clip keeps all .*{folder}"):
        begin(tmp_path / "b", checkpointing=True, encoder=encoder)
    with pytest.raises(FinetuneError, match=f"--tower token-shift: .*ModifiedResNet.*{folder}"):
        begin(
            tmp_path / "b", tower="token-shift",
            encoder=load_encoder(f"local-dir:{folder}", device="cpu", precision="fp32"),
        )  # fmt: skip


def test_what_x_clip_learns_is_scored_from_the_cache_as_in_training(
    begin: Callable[..., Finetuning], tmp_path: Path, labeled_videos: Path
):
    training = begin(tmp_path / "m", "x-clip", epochs=1, held_out=0.0)
    groups = {group["name"]: group for group in training.loop.groups}
    before = {name: tensor.clone() for name, tensor in training.loop.model.state_dict().items()}
    training.run()
    model = training.loop.model.eval()
    changed = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    for part in ("head.mit.", "head.prompts_generator.", "head.prompts_visual_proj", "network.visual."):
        assert any(name.startswith(part) for name in changed), part
    assert any(".message_attn." in name for name in changed)
    assert not any(name.startswith(("network.transformer", "network.logit_scale")) for name in changed)
    assert groups["tower"]["base_lr"] == groups["head"]["base_lr"] == 10 * groups["encoder"]["base_lr"]
    encoder = load_encoder(f"local-dir:{tmp_path / 'm'}", device="cpu", precision="fp32")
    assert encoder.preprocess.mean == (0.485, 0.456, 0.406)
    stored, listed = load_head(tmp_path / "m" / "head.safetensors"), read_videos(labeled_videos)
    assert stored.kind == "x-clip"
    extract(listed, encoder, tmp_path / "c", Sampling(3), ExtractSettings(workers=1))
    cache = FeatureCache(tmp_path / "c")
    scorer = scorer_of_head(stored.module, cache, device="cpu")
    ((places, (found,)),) = scan_scores(cache, [scorer])
    found = found[np.argsort(places)]
    clip_spec = ClipSpec(Sampling(3), encoder.preprocess)
    for video in list(listed)[:3]:
        pixels = decode_video(VideoRequest(video.path), clip_spec).pixels
        with torch.no_grad():
            expected = model.scores(torch.from_numpy(pixels))
        np.testing.assert_allclose(found[cache.index(video.id)], expected, atol=1e-3)


def test_prompts_need_cross_frame_attention(begin: Callable[..., Finetuning], tmp_path: Path):
    with pytest.raises(FinetuneError, match="--video-prompts on.*Use --tower cross-frame"):
        begin(tmp_path, "x-clip", tower="none")


# --- on a GPU


def loss_and_gradients(training: Finetuning, scale: float) -> tuple[float, torch.Tensor]:
    """Of one batch, before any step, without dropout; all gradients in one vector, on the CPU."""
    device, size = training.loop.world.device, training.encoder.preprocess.size
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (6, 3, *size, 3), generator=drawn).byte().to(device)
    labels = (torch.arange(6) % 3).to(device)
    loss = training.loop.model.eval()(pixels, labels)
    (scale * loss).backward()
    gradients = [
        p.grad.flatten().cpu().double() / scale for p in training.loop.parameters if p.grad is not None
    ]
    return loss.item(), torch.cat(gradients)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("recipe", ["text4vis", "x-clip", "temporal-prompts"])
def test_a_gpu_has_the_gradients_of_a_cpu(
    begin: Callable[..., Finetuning], tmp_path: Path, tiny_model: str, recipe: str, precision: str
):
    fixed = {"held_out": 0.0, "mixup": 0.0, "cutmix": 0.0}  # nothing is drawn
    exact = begin(tmp_path / "cpu", recipe, precision="fp32", **fixed)
    encoder = load_encoder(tiny_model, device="cuda", precision="fp32")
    own = begin(tmp_path / "gpu", recipe, encoder=encoder, precision=precision, **fixed)
    scale = 1024.0 if precision == "fp16" else 1.0  # without one small gradients become zeros, as in the loop
    (loss, gradient), (expected, direction) = loss_and_gradients(own, scale), loss_and_gradients(exact, 1.0)
    assert loss == pytest.approx(expected, rel=0.02)
    cosine = torch.nn.functional.cosine_similarity(gradient, direction, dim=0)
    assert float(cosine) > (0.999 if precision == "fp32" else 0.99)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_what_a_gpu_trains_a_cpu_uses(
    begin: Callable[..., Finetuning], tmp_path: Path, tiny_model: str, precision: str
):
    encoder = load_encoder(tiny_model, device="cuda", precision="fp32")
    training = begin(tmp_path / "out", encoder=encoder, held_out=0.0, epochs=2, precision=precision)
    before = {
        name: tensor.clone() for name, tensor in training.loop.model.network.visual.state_dict().items()
    }
    done = training.run()
    assert all(np.isfinite(report.epoch.loss) for report in done.epochs)
    after = training.loop.model.network.visual.state_dict()
    assert any(not torch.equal(tensor, before[name]) for name, tensor in after.items())
    trained = load_encoder(f"local-dir:{tmp_path / 'out'}", device="cpu", precision="fp32")
    pixels = torch.randint(0, 256, (4, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    expected = training.encoder.encode_frames(pixels).cpu()
    torch.testing.assert_close(trained.encode_frames(pixels), expected, rtol=1e-2, atol=1e-2)
    head = load_head(tmp_path / "out" / "head.safetensors").module
    assert {parameter.device.type for parameter in head.parameters()} <= {"cpu"}
