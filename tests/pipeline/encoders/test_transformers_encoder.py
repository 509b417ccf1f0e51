"""Models of transformers as encoders give what transformers itself gives, on the pixels that its processors make."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoder_folders import CLIP_KINDS, FRAME_KINDS, NETWORKS, save_encoder
from vidclip.cache import Identity
from vidclip.pipeline.encoders import EncoderError, TextUnavailable, load_encoder

hf: Any = pytest.importorskip("transformers")
TEXT_KINDS = (*FRAME_KINDS, "videoprism", "pe-video")
PHRASES, PROMPT = ("踢 球", "a video", "视 频"), "a video of {} of a video"


@pytest.fixture(scope="module", params=[*FRAME_KINDS, *CLIP_KINDS])
def any_kind(request, tmp_path_factory) -> tuple[str, Path]:
    return request.param, save_encoder(tmp_path_factory.mktemp("encoder") / request.param, request.param)


@pytest.fixture(scope="module", params=TEXT_KINDS)
def with_text(request, tmp_path_factory) -> tuple[str, Path]:
    return request.param, save_encoder(tmp_path_factory.mktemp("texts") / request.param, request.param)


@pytest.fixture
def siglip(tmp_path) -> Path:
    return save_encoder(tmp_path / "siglip", "siglip")


def load(folder: Path, **settings: Any) -> Any:
    return load_encoder(f"hf:{folder}", device="cpu", precision="fp32", **settings)


def network_of(kind: str, folder: Path) -> Any:
    return getattr(hf, NETWORKS[kind]).from_pretrained(folder).eval()


def processor_of(kind: str, folder: Path) -> Any:
    """Of frames on Pillow, where the installed version has both; of videos there is torchvision alone."""
    if kind in CLIP_KINDS:
        return hf.AutoVideoProcessor.from_pretrained(folder)
    name = json.loads((folder / "preprocessor_config.json").read_text())["image_processor_type"]
    name = name.removesuffix("Fast")
    return getattr(hf, f"{name}Pil", getattr(hf, name)).from_pretrained(folder)


def features(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def images(count: int, height: int, width: int) -> np.ndarray:
    """Smooth colors, which survive a resize."""
    low = np.random.default_rng(0).integers(0, 256, (count, 3, 4, 3)).astype(np.float32)
    tensor = torch.from_numpy(low).permute(0, 3, 1, 2)
    large = torch.nn.functional.interpolate(tensor, (height, width), mode="bicubic").clamp(0, 255)
    return large.permute(0, 2, 3, 1).numpy().astype(np.uint8)


def test_pixels_are_those_of_its_processor(any_kind):
    kind, folder = any_kind
    encoder, processor = load(folder), processor_of(kind, folder)
    mean, std = (
        np.array(value).reshape(1, 3, 1, 1) for value in (encoder.preprocess.mean, encoder.preprocess.std)
    )
    for size in ((50, 71), (71, 50), (32, 32), (33, 37), (90, 34)):
        frames = images(2, *size)
        pixels = np.concatenate([encoder.preprocess.pixels(frame) for frame in frames])
        own = (pixels.transpose(0, 3, 1, 2) / 255 - mean) / std
        if kind not in CLIP_KINDS:
            theirs = processor(list(frames), return_tensors="np")["pixel_values"]
            np.testing.assert_allclose(own, theirs, rtol=0, atol=1e-6)
            continue
        theirs = processor([frames], return_tensors="pt")["pixel_values_videos"][0].numpy()
        # torchvision rounds in its own way: a step of 255 at some pixels.
        steps = np.abs(own - theirs) * std * 255
        assert steps.max() < 1.01, size
        assert (steps > 0.01).mean() < 0.1, size


def test_frames_are_embedded_as_transformers_does(any_kind):
    kind, folder = any_kind
    encoder, network = load(folder, frames=4), network_of(kind, folder)
    frames = torch.from_numpy(images(8, *encoder.preprocess.size))
    mean, std = (
        torch.tensor(value).view(3, 1, 1) for value in (encoder.preprocess.mean, encoder.preprocess.std)
    )
    values = (frames.permute(0, 3, 1, 2) / 255 - mean) / std
    clips = values.unflatten(0, (2, 4))
    with torch.no_grad():
        if kind in FRAME_KINDS:
            expected = features(network.get_image_features(pixel_values=values))
        elif kind == "videoprism":
            expected = network.get_video_features(pixel_values_videos=clips).pooler_output[:, 0]
        elif kind == "pe-video":
            expected = network(
                input_ids=torch.tensor([[2, 5, 3]] * 2), pixel_values_videos=clips
            ).video_embeds
        else:  # 4 patches an image, 2 frames a tubelet
            states = network(clips, skip_predictor=True).last_hidden_state
            expected = states.reshape(2, 2, 4, -1).mean(dim=2).flatten(0, 1)
    found = encoder.encode_frames(frames)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.shape == (8 // encoder.frames_per_sample * encoder.embeddings_per_sample, encoder.dimension)
    assert float((found[0] - found[1]).abs().max()) > 1e-3


def tokens_of(kind: str, folder: Path, texts: list[str]) -> Any:
    fills = kind in ("siglip", "videoprism")
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    return tokenizer(texts, padding="max_length" if fills else True, return_tensors="pt", truncation=fills)


def test_sentences_are_embedded_as_transformers_does(with_text):
    kind, folder = with_text
    network, texts = network_of(kind, folder), [PROMPT.replace("{}", phrase) for phrase in PHRASES]
    tokens = tokens_of(kind, folder, texts)
    with torch.no_grad():
        if kind == "pe-video":
            del tokens["token_type_ids"]
            video = torch.zeros(3, 2, 3, 32, 32)
            expected = network(**tokens, pixel_values_videos=video).text_video_embeds
        else:
            expected = features(network.get_text_features(**tokens))
    found = load(folder).encode_text(PHRASES, [PROMPT], words="none").sentence
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_words_are_the_states_at_their_places(with_text):
    kind, folder = with_text
    network, tokenizer = network_of(kind, folder), hf.AutoTokenizer.from_pretrained(folder)
    text = PROMPT.replace("{}", PHRASES[0])
    tokens = tokens_of(kind, folder, [text])
    start = PROMPT.index("{}")
    inside = range(start, start + len(PHRASES[0]))
    places = sorted({tokens.char_to_token(0, i) for i in inside} - {None})
    names = tokenizer.convert_ids_to_tokens(tokens["input_ids"][0])
    places = [place for place in places if names[place] != "▁"]
    if kind == "clip":  # its miniature knows no Chinese: an unknown word is its end of text
        pytest.skip("the words of this vocabulary are English")
    tokens = {name: value for name, value in tokens.items() if name != "token_type_ids"}
    with torch.no_grad():
        states = network.text_model(**tokens).last_hidden_state[0, places]
        if kind == "siglip":
            states = network.text_model.head(states)
        elif kind == "videoprism":
            states = torch.nn.functional.normalize(states, dim=-1)
        else:
            states = (network.text_video_head if kind == "pe-video" else network.text_projection)(states)
    found = load(folder).encode_text(PHRASES[:1], [PROMPT], words="name")
    assert len(places) >= 2
    np.testing.assert_allclose(found.words, states.numpy(), rtol=1e-5, atol=1e-5)


def test_words_of_english_clip(tmp_path):
    encoder = load(save_encoder(tmp_path / "clip", "clip"))
    texts = encoder.encode_text(["kicking a ball"], ["a video of {} ."], words="all")
    network = network_of("clip", tmp_path / "clip")
    tokens = hf.AutoTokenizer.from_pretrained(tmp_path / "clip")(
        ["a video of kicking a ball ."], return_tensors="pt"
    )
    with torch.no_grad():
        every = network.text_projection(network.text_model(**tokens).last_hidden_state)[0].numpy()
    np.testing.assert_allclose(texts.words, every, rtol=1e-5, atol=1e-5)
    named = encoder.encode_text(["kicking a ball"], ["a video of {} ."], words="name").words
    np.testing.assert_allclose(named, every[4:7], rtol=1e-5, atol=1e-5)


def test_half_precision_is_close(any_kind):
    _, folder = any_kind
    exact = load(folder, frames=4)
    half = load_encoder(f"hf:{folder}", device="cpu", precision="bf16", frames=4)
    frames = torch.from_numpy(images(4, *exact.preprocess.size))
    cosine = torch.nn.functional.cosine_similarity(exact.encode_frames(frames), half.encode_frames(frames))
    assert float(cosine.min()) > 0.99
    assert half.identity == exact.identity


def digest(folder: Path, **settings: Any) -> str:
    return Identity(load(folder, **settings).identity, {}, "").encoder_digest


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_identity_is_of_what_shapes_embeddings(siglip, tmp_path):
    before = digest(siglip)
    shutil.copytree(siglip, tmp_path / "elsewhere")
    assert digest(tmp_path / "elsewhere") == before
    change(tmp_path / "elsewhere" / "config.json", transformers_version="4.49.0", torch_dtype="float32")
    assert digest(tmp_path / "elsewhere") == before
    for name, values in {
        "preprocessor_config.json": {"resample": 3},
        "tokenizer_config.json": {"model_max_length": 12},
        "config.json": {"text_config": {**json.loads((siglip / "config.json").read_text())["text_config"], "hidden_act": "relu"}},
    }.items():  # fmt: skip
        shutil.copytree(siglip, tmp_path / name)
        change(tmp_path / name / name, **values)
        assert digest(tmp_path / name) != before, name
    assert digest(save_encoder(tmp_path / "seed", "siglip", seed=1)) != before


def test_clips_of_other_lengths_are_other_encoders(tmp_path):
    folder = save_encoder(tmp_path / "vjepa2", "vjepa2")
    usual = load(folder)
    assert (usual.frames_per_sample, usual.embeddings_per_sample) == (4, 2)
    longer = load(folder, frames=6)
    assert (longer.frames_per_sample, longer.embeddings_per_sample) == (6, 3)
    assert longer.identity["sample"] == {"frames": 6, "embeddings": 3}
    assert digest(folder) == digest(folder, frames=4) != digest(folder, frames=6)
    with pytest.raises(EncoderError, match="2 frames at a time, and 5 are no multiple"):
        load(folder, frames=5)
    with pytest.raises(ValueError, match="clips of 4 frames, and 6 are not whole ones"):
        usual.encode_frames(torch.zeros(6, 32, 32, 3, dtype=torch.uint8))
    with pytest.raises(TextUnavailable, match="has no text tower"):
        usual.encode_text(["a ball"])


def refusal(folder: Path | str, **settings: Any) -> str:
    with pytest.raises(EncoderError) as error:
        load_encoder(f"hf:{folder}", device="cpu", precision="fp32", **settings)
    return str(error.value)


def test_what_is_no_encoder_is_refused_by_name(siglip, tmp_path):
    config = siglip / "config.json"
    kept = config.read_text()
    for model_type, reason in {
        "siglip2": "NaFlex",
        "xclip": "import-model",
        "pe_audio_video": "joins sound and video",
        "llama": "a model of the kind 'llama': models of the kinds clip,",
    }.items():
        change(config, model_type=model_type)
        assert reason in refusal(siglip)
    config.write_text(kept)
    assert "leave --size out" in refusal(siglip, image_size=64)
    assert "leave --pretrained openai out" in refusal(siglip, pretrained="openai")
    processor = siglip / "preprocessor_config.json"
    settings = processor.read_text()
    for values, reason in (
        ({"do_resize": False}, "does not resize"),
        ({"rescale_factor": 1 / 127.5}, "scales colors"),
        ({"resample": 0}, "resizes by 0"),
        ({"size": {"shortest_edge": 32}}, "without a crop"),
        ({"size": {"height": 48, "width": 48}}, "does not fit its settings"),
        ({"image_processor_type": "ViltImageProcessor"}, "ViltImageProcessor"),
    ):
        processor.write_text(settings)
        change(processor, **values)
        assert reason in refusal(siglip), values
    processor.unlink()
    assert "preprocessor_config.json cannot be read" in refusal(siglip)
    (siglip / "model.safetensors").unlink()
    assert "lacks weights" in refusal(siglip)
    assert "'nowhere' is neither a folder that is there nor OWNER/NAME" in refusal("nowhere")


def test_weights_that_lack_a_tensor(siglip):
    from safetensors.torch import load_file, save_file

    path = siglip / "model.safetensors"
    state = load_file(path)
    del state["text_model.head.weight"]
    save_file(state, path, metadata={"format": "pt"})
    assert "lack 1 of the encoder's tensors, text_model.head.weight" in refusal(siglip)


def test_no_code_of_a_folder_is_run(siglip, monkeypatch):
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    mark = siglip / "CODE-WAS-RUN"
    (siglip / "own.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Own: pass\n")
    own = dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer", "AutoImageProcessor"), "own.Own")
    expected = digest(siglip)
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        change(siglip / name, auto_map=own)
    assert digest(siglip) == expected  # a class of transformers' own reads it
    change(siglip / "config.json", model_type="own")
    assert "(auto_map) is never run" in refusal(siglip)
    assert not mark.exists()


def test_a_pickle_is_read_for_its_tensors_alone(siglip):
    import pickle

    from safetensors.torch import load_file

    expected = digest(siglip)
    state = load_file(siglip / "model.safetensors")
    (siglip / "model.safetensors").unlink()
    torch.save(state, siglip / "pytorch_model.bin")
    assert digest(siglip) == expected
    mark = siglip / "CODE-WAS-RUN"

    class Code:
        def __reduce__(self):
            return (open, (str(mark), "w"))

    (siglip / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Code()}))
    assert "cannot be read" in refusal(siglip)
    assert not mark.exists()


def test_pe_video_names_no_parts_of_its_own(tmp_path):
    folder = save_encoder(tmp_path / "pe", "pe-video")
    whole = json.loads((folder / "config.json").read_text())
    for path, value in (
        ("video_config.vision_config.architecture", "hf-hub:somebody/something"),
        ("video_config.vision_config.model_args", {"checkpoint_path": "/etc/passwd"}),
        ("video_config.vision_config.model_args", {"depth": "1"}),
        ("video_config.vision_config.model_type", "resnet"),
        ("text_config.model_type", "llama"),
    ):
        document = json.loads(json.dumps(whole))
        place = document
        *above, last = path.split(".")
        for key in above:
            place = place[key]
        place[last] = value
        (folder / "config.json").write_text(json.dumps(document))
        assert path in refusal(folder)


def test_a_hub_that_cannot_be_reached(tmp_path):
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        said = refusal("somebody/nothing-of-this-name")
    finally:
        constants.HF_HUB_OFFLINE = before
    assert "somebody/nothing-of-this-name cannot be fetched from the hub" in said
    assert "give its folder (--model hf:FOLDER)" in said
