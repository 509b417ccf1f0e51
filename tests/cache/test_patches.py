"""Patch tokens: an optional column of the cache."""

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from helpers import a_record, an_identity, save_model_folder, save_video, vidclip
from vidclip.cache import CacheError, CacheMismatch, CacheWriter, FeatureCache, merge, verify
from vidclip.pipeline.datasets import Video, VideoList
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import ExtractSettings, extract
from vidclip.pipeline.video import ClipSpec, Sampling, decode_video

VIT = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 24, "head_width": 8, "layers": 2},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def fill(folder, ids, *, patches=True, seed=0):
    rng = np.random.default_rng(seed)
    records = {}
    with CacheWriter(folder, an_identity()) as writer:
        for id in ids:
            tokens = rng.standard_normal((1, 5, 3)).astype(np.float32) if patches else None
            records[id] = a_record(id, rng, patches=tokens)
            writer.add(records[id])
    return records


def test_they_are_read_as_they_were_written(tmp_path):
    records = fill(tmp_path / "c", ["b", "a", "c"])
    cache = FeatureCache(tmp_path / "c")
    assert cache.patch_shape == (5, 3)
    expected = np.stack([records[id].patches for id in ("c", "a")]).astype(np.float16)
    assert_array_equal(cache.patches([2, 0]), expected)
    assert not any(checked.problems for checked in verify(tmp_path / "c"))


def test_a_cache_without_them_says_so(tmp_path):
    fill(tmp_path / "c", ["a"], patches=False)
    cache = FeatureCache(tmp_path / "c")
    assert cache.patch_shape is None
    with pytest.raises(CacheError, match="has no patch tokens"):
        cache.patches()


def test_they_are_merged(tmp_path):
    one, two = fill(tmp_path / "1", ["a", "b"]), fill(tmp_path / "2", ["c"], seed=1)
    merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all")
    expected = [each.patches.astype(np.float16) for each in (*one.values(), *two.values())]
    assert_array_equal(FeatureCache(tmp_path / "all").patches(), np.stack(expected))


def test_caches_with_and_without_them_are_not_joined(tmp_path):
    fill(tmp_path / "1", ["a"])
    fill(tmp_path / "2", ["b"], patches=False)
    with pytest.raises(CacheMismatch, match=r"1 holds patch tokens, and .*2 holds none"):
        merge([tmp_path / "1", tmp_path / "2"], tmp_path / "all")
    with pytest.raises(ValueError, match="expected"):
        fill(tmp_path / "1", ["c"], patches=False)


def test_a_flipped_byte_is_found(tmp_path):
    fill(tmp_path / "c", ["a"])
    path = next((tmp_path / "c").glob("frames-*.h5"))
    data = bytearray(path.read_bytes())
    data[FeatureCache(tmp_path / "c").shards[0].contents.columns["patches"].offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(CacheError, match="has changed since it was written"):
        FeatureCache(tmp_path / "c").patches()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An encoder with X-CLIP's attention across the frames of clips of two."""
    folder = save_model_folder(tmp_path_factory.mktemp("model"), VIT)
    encoder = load_encoder(f"local-dir:{folder}", device="cpu", precision="fp32")
    from safetensors.torch import save_file

    from vidclip.pipeline.encoders import TowerConfig

    config = TowerConfig("cross-frame", 2)
    encoder.change_tower(config)
    weights = {name: tensor.contiguous().clone() for name, tensor in encoder.network.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    document = {"format": "vidclip-model", "version": 1, "tower": config.to_dict()}
    (folder / "vidclip_model.json").write_text(json.dumps(document))
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    paths = [save_video(folder / f"{name}.mp4", frames=6, seed=i) for i, name in enumerate("abc")]
    return VideoList([Video(path.name, path) for path in paths])


def test_extraction_keeps_the_tokens_of_every_clip(tmp_path, model, videos):
    """Batches of two clips across the three views of three videos, against one clip at a time."""
    encoder = load_encoder(model, device="cpu", precision="fp32")
    assert encoder.patch_shape == (4, 24)
    clip = ClipSpec(Sampling(2, clips=3), encoder.preprocess)
    extract(videos, encoder, tmp_path / "c", clip, ExtractSettings(workers=1, batch_size=4))
    cache = FeatureCache(tmp_path / "c")
    for index, video in enumerate(videos):
        pixels = torch.from_numpy(decode_video(video.path, clip).pixels)
        for view in range(3):
            frames, patches = encoder.encode_clips(pixels[view : view + 1])
            np.testing.assert_allclose(cache.patches([index])[0, view], patches[0], atol=2e-3, rtol=2e-3)
            np.testing.assert_allclose(cache.frames([index])[0, view], frames[0], atol=2e-3, rtol=2e-3)


def test_an_extraction_goes_on_as_it_was_begun(tmp_path, model, videos):
    encoder = load_encoder(model, device="cpu", precision="fp32")
    plain = ExtractSettings(workers=1, patches=False)
    extract(VideoList(videos[:1]), encoder, tmp_path / "plain", Sampling(2), plain)
    assert FeatureCache(tmp_path / "plain").patch_shape is None
    with pytest.raises(CacheMismatch, match="Use --no-patches"):
        extract(videos, encoder, tmp_path / "plain", Sampling(2))
    extract(VideoList(videos[:1]), encoder, tmp_path / "with", Sampling(2))
    with pytest.raises(CacheMismatch, match="Leave --no-patches out"):
        extract(videos, encoder, tmp_path / "with", Sampling(2), plain)


def test_the_command_keeps_or_leaves_them(tmp_path, model, videos):
    source = videos[0].path.parent
    common = ("extract", source, "--model", model, "--frames", 2)
    assert vidclip(*common, "--cache", tmp_path / "a").returncode == 0
    assert vidclip(*common, "--cache", tmp_path / "b", "--no-patches").returncode == 0
    assert FeatureCache(tmp_path / "a").patch_shape == (4, 24)
    assert FeatureCache(tmp_path / "b").patch_shape is None
