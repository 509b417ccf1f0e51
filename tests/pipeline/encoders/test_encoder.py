"""Embeddings are those of open_clip itself; an encoder is what it does, not what it is called."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from helpers import TINY_CONFIG, save_hugging_face_model, save_model_folder
from vidclip.pipeline.encoders import (
    EncoderError,
    WordsUnavailable,
    automatic_precision,
    average_prompts,
    cpu_has_bf16,
    load_encoder,
)


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return load_encoder(tiny_model, device="cpu", precision="fp32")


def cosine(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


# --- frames


def test_frames_equal_open_clips_own_preprocessing_and_encoder(encoder, tiny_model, rng):
    frames = [
        rng.integers(0, 256, shape, dtype=np.uint8) for shape in [(48, 64, 3), (90, 50, 3), (33, 32, 3)]
    ]
    network, _, preprocess = open_clip.create_model_and_transforms(tiny_model)
    with torch.inference_mode():
        images = torch.stack([preprocess(Image.fromarray(frame)) for frame in frames])
        expected = network.eval().encode_image(images)
    pixels = torch.from_numpy(np.concatenate([encoder.preprocess.pixels(frame) for frame in frames]))
    found = encoder.encode_frames(pixels)
    assert found.shape == (3, 32)
    assert cosine(found, expected).min() > 0.999999
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert abs(np.linalg.norm(found, axis=1) - 1).min() > 0.01, "as projected, not normalized"


SMALL_TOWERS = {
    "vit": {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "layers": 4, "width": 256, "patch_size": 16},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 4},
    },
    "resnet": {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 32, "patch_size": None},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
    },
}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", SMALL_TOWERS)
def test_towers_held_in_half_precision_stay_close(tmp_path, rng, kind, precision):
    folder = f"local-dir:{save_model_folder(tmp_path, SMALL_TOWERS[kind])}"
    exact = load_encoder(folder, device="cpu", precision="fp32")
    low = load_encoder(folder, device="cpu", precision=precision)
    assert low.identity == exact.identity, "precision is how it ran, not who it is"
    coarse = torch.from_numpy(rng.integers(0, 256, (8, 3, 6, 6), dtype=np.uint8)).float()
    pixels = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear").byte().permute(0, 2, 3, 1)
    assert cosine(low.encode_frames(pixels), exact.encode_frames(pixels)).min() > 0.9999
    phrases = ["a cat", "playing the harp", "tai chi"]
    mine, theirs = low.encode_text(phrases), exact.encode_text(phrases)
    assert mine.sentence.dtype == np.float32
    assert cosine(mine.sentence, theirs.sentence).min() > 0.9999
    assert cosine(mine.words, theirs.words).min() > 0.9999
    held = {name: value.dtype for name, value in low.network.named_parameters()}
    half = torch.bfloat16 if precision == "bf16" else torch.float16
    in_float32 = {name for name, dtype in held.items() if dtype != half}
    exempt = ("bn", "visual.conv", "downsample.1")
    assert all(any(part in name for part in exempt) for name in in_float32), in_float32
    assert len(in_float32) < len(held) / 2


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", SMALL_TOWERS)
def test_a_gpu_embeds_as_a_cpu_does(tmp_path, rng, kind, precision):
    folder = f"local-dir:{save_model_folder(tmp_path, SMALL_TOWERS[kind])}"
    exact = load_encoder(folder, device="cpu", precision="fp32")
    own = load_encoder(folder, device="cuda", precision=precision)
    assert own.identity == exact.identity
    coarse = torch.from_numpy(rng.integers(0, 256, (8, 3, 6, 6), dtype=np.uint8)).float()
    pixels = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear").byte().permute(0, 2, 3, 1)
    frames, expected = own.encode_frames(pixels), exact.encode_frames(pixels)
    assert (frames.device.type, frames.dtype) == ("cuda", torch.float32)
    assert cosine(frames.cpu(), expected).min() > 0.9998
    if kind == "vit":  # without what all frames share: a frame in the place of another would be seen
        frames, expected = (each.cpu() - expected.mean(dim=0) for each in (frames, expected))
        assert cosine(frames, expected).min() > (0.999 if precision == "fp32" else 0.98)
    mine, theirs = own.encode_text(["a cat", "tai chi"]), exact.encode_text(["a cat", "tai chi"])
    assert cosine(mine.sentence, theirs.sentence).min() > 0.9998
    assert cosine(mine.words, theirs.words).min() > 0.9998


def test_rejects_an_unknown_precision(tiny_model):
    with pytest.raises(ValueError, match="precision must be one of auto, fp32"):
        load_encoder(tiny_model, precision="fp8")


def test_precision_is_chosen_by_what_the_device_can_do(tiny_model):
    expected = "bf16" if cpu_has_bf16() else "fp32"
    assert load_encoder(tiny_model, device="cpu").precision == expected
    assert automatic_precision(torch.device("cuda")) == "fp16"
    path = Path("/proc/cpuinfo")
    if path.exists():
        flags = next((line for line in path.read_text().splitlines() if line.startswith("flags")), "").split()
        assert cpu_has_bf16() == bool({"avx512_bf16", "amx_tile"} & set(flags))


# --- words


def by_hand(folder_or_name: str, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """(sentence, every position) of CLIP's text tower, written out from its parts."""
    network = open_clip.create_model(folder_or_name).eval()
    tokens = open_clip.get_tokenizer(folder_or_name)(texts)
    with torch.inference_mode():
        x = network.token_embedding(tokens) + network.positional_embedding
        for block in network.transformer.resblocks:
            x = block(x, attn_mask=network.attn_mask)
        every = network.ln_final(x) @ network.text_projection
    return every[torch.arange(len(texts)), tokens.argmax(dim=1)], every


def test_words_go_through_the_same_norm_and_projection(encoder, tiny_model):
    prompt = "a video of a person {}."
    phrases = ["abseiling", "playing the harp", "tai chi"]
    sentence, every = by_hand(tiny_model, [prompt.format(phrase) for phrase in phrases])
    tokenizer = open_clip.get_tokenizer(tiny_model)

    found = encoder.encode_text(phrases, [prompt], words="name")
    np.testing.assert_allclose(found.sentence, sentence, atol=1e-5)
    counts = [len(tokenizer.encode(phrase)) for phrase in phrases]
    assert np.diff(found.offsets).tolist() == counts
    before = 1 + len(tokenizer.encode("a video of a person"))  # the start token and the prompt
    expected = torch.cat([every[c, before : before + n] for c, n in enumerate(counts)])
    np.testing.assert_allclose(found.words, expected, atol=1e-5)

    every_position = encoder.encode_text(phrases, [prompt], words="all")
    np.testing.assert_allclose(every_position.words, every.reshape(-1, 32), atol=1e-5)

    whole = encoder.encode_text(phrases, [prompt], words="sentence")
    lengths = [len(tokenizer.encode(prompt.format(phrase))) for phrase in phrases]
    expected = torch.cat([every[c, 1 : 1 + n] for c, n in enumerate(lengths)])
    np.testing.assert_allclose(whole.words, expected, atol=1e-5)

    without = encoder.encode_text(phrases, [prompt], words="none")
    assert without.words.shape == (0, 32)
    np.testing.assert_allclose(without.sentence, sentence, atol=1e-5)


@pytest.mark.parametrize(
    ("phrase", "prompt", "words"),
    [
        ("jumping (human)", "a video of a person {}.", 4),  # ")." is one token, and counts as the phrase's
        ("!!", "{}", 1),  # CLIP pads with the number of its token "!"
        ("video", "a video of a video {}", 1),  # the same word before and inside
        ("a video", "{} a video", 2),
        ("x", "{}", 1),
    ],
)
def test_the_words_of_awkward_phrases(encoder, phrase, prompt, words):
    assert np.diff(encoder.encode_text([phrase], [prompt]).offsets).tolist() == [words]


def test_several_prompts_are_averaged_after_normalization(encoder):
    prompts = ["{}", "a photo of {}", "this is {}."]
    apart = [encoder.encode_text(["cat", "dog"], [prompt]) for prompt in prompts]
    together = encoder.encode_text(["cat", "dog"], prompts)
    unit = [texts.sentence / np.linalg.norm(texts.sentence, axis=1, keepdims=True) for texts in apart]
    mean = np.mean(unit, axis=0)
    np.testing.assert_allclose(
        together.sentence, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6
    )
    assert together.offsets.tolist() == [0, 3, 6]
    np.testing.assert_allclose(together.words[:3], [texts.words[0] for texts in apart], atol=1e-6)
    np.testing.assert_array_equal(average_prompts(apart[0].sentence[None]), apart[0].sentence)


def test_batches_of_texts_do_not_mix(encoder):
    phrases = [f"{word} {n}" for n in range(7) for word in ("ball", "climbing the wall")]
    at_once = encoder.encode_text(phrases, batch_size=100)
    in_pieces = encoder.encode_text(phrases, batch_size=3)
    np.testing.assert_allclose(in_pieces.sentence, at_once.sentence, atol=1e-5)
    np.testing.assert_allclose(in_pieces.words, at_once.words, atol=1e-5)
    assert in_pieces.offsets.tolist() == at_once.offsets.tolist()


def test_a_phrase_longer_than_the_context_is_named(encoder):
    long = "kicking a ball " * 10
    texts = encoder.encode_text(["short", long], ["a video of {}"])
    assert texts.truncated == (long,)


def test_rejects_no_phrase_wrong_prompts_and_modes(encoder):
    with pytest.raises(ValueError, match="no phrases"):
        encoder.encode_text([])
    with pytest.raises(ValueError, match=r"needs one \{\}"):
        encoder.encode_text(["a"], ["no place"])
    with pytest.raises(ValueError, match="words must be one of name, sentence, all, none"):
        encoder.encode_text(["a"], words="tokens")


def test_the_other_kind_of_text_tower(tmp_path):
    """CustomTextCLIP, as SigLIP and MobileCLIP use it: the same tower, in `model.text`."""
    config = {**TINY_CONFIG, "custom_text": True}
    config["text_cfg"] = {
        **TINY_CONFIG["text_cfg"],
        "no_causal_mask": True,
        "pool_type": "last",
        "proj_bias": True,
    }
    folder = f"local-dir:{save_model_folder(tmp_path, config)}"
    network = open_clip.create_model(folder).eval()
    network.text.output_tokens = True
    tokens = open_clip.get_tokenizer(folder)(["a cat"])
    with torch.inference_mode():
        sentence, normed = network.text(tokens)
        every = network.text.text_projection(normed)
    found = load_encoder(folder, device="cpu", precision="fp32").encode_text(["a cat"], words="all")
    np.testing.assert_allclose(found.sentence, sentence, atol=1e-5)
    np.testing.assert_allclose(found.words, every[0], atol=1e-5)


def test_a_hugging_face_tower_projects_each_token(tmp_path):
    encoder = load_encoder(save_hugging_face_model(tmp_path, "mean_pooler"), device="cpu", precision="fp32")
    texts = encoder.encode_text(["climbing a wall", "jumping"], ["a video of {}."], words="name")
    assert np.diff(texts.offsets).tolist() == [3, 1], "an unknown word is a word all the same"
    tower = encoder.network.text
    tokens = encoder.tokenizer(["a video of climbing a wall."])
    with torch.inference_mode():
        hidden = tower.transformer(tokens, attention_mask=(tokens != 0).long()).last_hidden_state
        expected = tower.proj(hidden)[0, 4:7]
    np.testing.assert_allclose(texts.words[:3], expected, atol=1e-5)


def test_rejects_words_of_a_tower_that_pools_inside(tmp_path):
    encoder = load_encoder(save_hugging_face_model(tmp_path, "cls_pooler"), device="cpu")
    with pytest.raises(WordsUnavailable, match=r"pools inside.*--words none"):
        encoder.encode_text(["climbing a wall"], words="name")
    assert encoder.encode_text(["climbing a wall"], words="none").sentence.shape == (1, 32)


# --- identity


def test_the_same_weights_in_another_file_are_the_same_encoder(tiny_model, encoder, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(tiny_model.removeprefix("local-dir:"), moved)
    weights = load_file(moved / "open_clip_model.safetensors")
    (moved / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": weights}, moved / "model.pth")
    assert load_encoder(f"local-dir:{moved}").identity == encoder.identity


def test_other_weights_under_one_name_are_another_encoder(encoder, other_tiny_model):
    other = load_encoder(other_tiny_model)
    differing = {key for key in encoder.identity if encoder.identity[key] != other.identity[key]}
    assert differing == {"weights_sha256"}


def test_one_changed_weight_changes_the_digest(tiny_model, encoder, tmp_path):
    shutil.copytree(tiny_model.removeprefix("local-dir:"), tmp_path / "m")
    path = tmp_path / "m" / "open_clip_model.safetensors"
    weights = load_file(path)
    weights["ln_final.bias"][3] += 1e-6
    save_file(weights, path)
    assert (
        load_encoder(f"local-dir:{tmp_path / 'm'}").identity["weights_sha256"]
        != encoder.identity["weights_sha256"]
    )


def test_activation_and_preprocessing_are_part_of_the_identity(tmp_path, encoder):
    folder = save_model_folder(tmp_path, {**TINY_CONFIG, "quick_gelu": True})
    quick = load_encoder(f"local-dir:{folder}")
    assert (encoder.identity["activation"], quick.identity["activation"]) == ("gelu", "quick_gelu")
    document = json.loads((folder / "open_clip_config.json").read_text())
    document["preprocess_cfg"]["interpolation"] = "bilinear"
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    assert load_encoder(f"local-dir:{folder}").identity["preprocess"]["interpolation"] == "bilinear"


@pytest.fixture(scope="module")
def rn50_file(tmp_path_factory):
    """A checkpoint file for a built-in architecture, as OpenAI's look: half precision, temperature at ln 100."""
    torch.manual_seed(0)
    network = open_clip.create_model("RN50")
    network.logit_scale.data.fill_(math.log(100))
    path = tmp_path_factory.mktemp("rn50") / "weights.safetensors"
    weights = network.state_dict()
    save_file({name: t.half() if t.is_floating_point() else t for name, t in weights.items()}, path)
    return path


def test_weights_like_openais_without_their_activation_warn(rn50_file):
    plain = load_encoder("RN50", str(rn50_file))
    assert any("QuickGELU" in message and "--model RN50-quickgelu" in message for message in plain.warnings)
    assert load_encoder("RN50-quickgelu", str(rn50_file)).warnings == ()
    assert Path(plain.pretrained).is_absolute(), "found again from another folder"


def test_a_checkpoint_file_is_prepared_for_as_its_models_published_weights():
    """SigLIP wants squashed images with mean 0.5; a bare checkpoint file does not say so."""
    from vidclip.pipeline.encoders.preprocessing import preprocessing_of_tags

    found = preprocessing_of_tags("ViT-B-16-SigLIP2")
    assert (found["mean"], found["resize_mode"]) == ((0.5, 0.5, 0.5), "squash")


# --- what cannot be loaded


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B-61", "", r"no model 'ViT-B-61'. Did you mean .*ViT-B-16"),
        (
            "ViT-B-16",
            "laion9b",
            r"'laion9b' is neither a file nor weights that open_clip knows for ViT-B-16 \(openai",
        ),
        ("ViT-M-16-alt", "", r"needs weights: --pretrained FILE"),
        ("local-dir:/nowhere", "", r"has no open_clip_config\.json"),
    ],
)
def test_rejects_unknown_names_and_suggests_known_ones(model, pretrained, message):
    with pytest.raises(EncoderError, match=message):
        load_encoder(model, pretrained)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), r"weights is a folder; .*There is none in it \(\.safetensors"),
        (("notes.txt", "b.pt"), r"Name one in it, such as --model ViT-B-16 --pretrained .*weights/b\.pt\."),
        (("open_clip_config.json", "b.pt"), r": --model local-dir:.*weights, without --pretrained"),
    ],
)
def test_says_what_to_name_where_the_weights_are_a_folder(tmp_path, files, message):
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in files:
        (folder / name).write_bytes(b"")
    with pytest.raises(EncoderError, match=message):
        load_encoder("ViT-B-16", str(folder))


def test_weights_of_another_architecture_or_no_weights_at_all(rn50_file, tmp_path):
    with pytest.raises(EncoderError, match=r"(?s)cannot be used for ViT-B-32.*just this architecture"):
        load_encoder("ViT-B-32", str(rn50_file))
    rubbish = tmp_path / "weights.pt"
    rubbish.write_bytes(b"rubbish" * 100)
    with pytest.raises(EncoderError, match="cannot be used for RN50"):
        load_encoder("RN50", str(rubbish))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": {"x": _Evil(str(tmp_path / "owned"))}}, path)
    with pytest.raises(EncoderError, match="cannot be used"):
        load_encoder("RN50", str(path))
    assert not (tmp_path / "owned").exists()


class _Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def test_rejects_a_device_that_is_not_there(tiny_model):
    if torch.cuda.is_available():
        pytest.skip("there is such a device")
    with pytest.raises(EncoderError, match="device 'cuda' cannot be used here"):
        load_encoder(tiny_model, device="cuda")
