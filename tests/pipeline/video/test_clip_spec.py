"""A clip spec is what an identity stores of frames and pixels, there and back."""

from dataclasses import replace

import pytest

from vidclip.cache import Identity
from vidclip.pipeline.encoders import load_encoder
from vidclip.pipeline.extraction import cache_identity
from vidclip.pipeline.video import ClipSpec, Preprocess, Sampling


def identity_of(sampling, encoder):
    return Identity(encoder, sampling, "demo")


@pytest.mark.parametrize("resize", [None, 256])
@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(4, clips=2, crops=3, crop_positions="width"), Sampling(16, mode="dense")],
)
def test_identity_round_trip(sampling, resize):
    encoder = load_encoder("demo", device="cpu")
    preprocess = replace(encoder.preprocess, resize=resize)
    identity = cache_identity(encoder, ClipSpec(sampling, preprocess))
    assert ClipSpec.from_identity(identity) == ClipSpec(sampling, preprocess)
    assert identity.sampling == ClipSpec(sampling, preprocess).to_dict()


def test_a_stored_identity_is_read_as_its_numbers_say():
    stored = {"frames": 3, "clips": 2, "crops": 3, "mode": "uniform", "position": "middle", "resize": 40}
    pixels = {
        "size": [32, 48],
        "interpolation": "bilinear",
        "resize_mode": "shortest",
        "fill_color": 0,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
    }
    spec = ClipSpec.from_identity(identity_of({**stored, "resize": 48}, {"preprocess": pixels}))
    assert spec.sampling == Sampling(3, clips=2, crops=3, position="middle")
    assert spec.preprocess == Preprocess(
        (32, 48), resize=48, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)
    )
    assert spec.shape == (6, 3, 32, 48, 3)


@pytest.mark.parametrize(
    ("sampling", "encoder", "message"),
    [
        ({"frames": 0}, {}, "frames must be a whole number of at least 1, got 0"),
        ({"odd": 1}, {}, "unknown odd"),
        ({"resize": "wide"}, {}, ""),
        ({}, {"preprocess": {"size": [224, 224]}}, "missing fill_color"),
        ({}, {"preprocess": 3}, ""),
        ({}, {"preprocess": None}, ""),
    ],
)
def test_rejects_damaged_values(sampling, encoder, message):
    whole = ClipSpec(Sampling(), Preprocess((224, 224)))
    pixels = {name: value for name, value in whole.preprocess.to_dict().items() if name != "resize"}
    identity = identity_of({**whole.to_dict(), **sampling}, {"preprocess": pixels, **encoder})
    with pytest.raises(ValueError, match=f"The stored sampling is damaged: .*{message}"):
        ClipSpec.from_identity(identity)


@pytest.mark.parametrize("missing", ["resize", "mode"])
def test_rejects_missing_values(missing):
    whole = ClipSpec(Sampling(), Preprocess((224, 224)))
    sampling = {name: value for name, value in whole.to_dict().items() if name != missing}
    with pytest.raises(ValueError, match=f"The stored sampling is damaged: .*missing {missing}"):
        ClipSpec.from_identity(identity_of(sampling, {"preprocess": whole.preprocess.to_dict()}))
    with pytest.raises(ValueError, match="damaged: missing preprocess"):
        ClipSpec.from_identity(identity_of(whole.to_dict(), {}))
