import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vidclip.pipeline.video import Preprocess

SHAPES = [(240, 320), (320, 240), (256, 340), (101, 77), (77, 101), (64, 64), (33, 32), (225, 224), (40, 300)]


def frame_of(height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height)), dtype=np.int16)
    return np.clip(smooth + rng.integers(-20, 20, smooth.shape), 0, 255).astype(np.uint8)


def by_open_clip(preprocess, frame):
    """open_clip's own validation preprocessing, its normalization undone."""
    transform = pytest.importorskip("open_clip.transform")
    config = transform.PreprocessCfg(
        size=preprocess.size,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation=preprocess.interpolation,
        resize_mode=preprocess.resize_mode,
        fill_color=preprocess.fill_color,
    )
    tensor = transform.image_transform_v2(config, is_train=False)(Image.fromarray(frame))
    return np.rint(tensor.numpy() * 255).astype(np.uint8).transpose(1, 2, 0)


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(64, 64), (224, 224), (65, 65), (48, 80), (81, 48)])
def test_one_crop_equals_open_clip(size, interpolation, resize_mode):
    preprocess = Preprocess(size, interpolation=interpolation, resize_mode=resize_mode, fill_color=7)
    for shape in SHAPES:
        frame = frame_of(*shape)
        assert np.array_equal(preprocess.pixels(frame)[0], by_open_clip(preprocess, frame)), shape


@pytest.mark.parametrize("shape", SHAPES)
def test_resize_and_crop_equal_torchvision(shape):
    transforms = pytest.importorskip("torchvision.transforms")
    pipeline = transforms.Compose(
        [
            transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
        ]
    )
    frame = frame_of(*shape)
    expected = np.asarray(pipeline(Image.fromarray(frame)))
    assert np.array_equal(Preprocess((224, 224), resize=256).pixels(frame)[0], expected)


@pytest.mark.parametrize("resize", [None, 80])
def test_three_crops_go_along_the_longer_side(resize):
    preprocess = Preprocess((64, 64), resize=resize)
    wide = frame_of(90, 200)
    whole = np.asarray(
        Image.fromarray(wide).resize((int((resize or 64) * 200 / 90), resize or 64), Image.Resampling.BICUBIC)
    )
    top = ((resize or 64) - 64) // 2
    start, middle, end = preprocess.pixels(wide, crops=3)
    rows = whole[top : top + 64]
    assert np.array_equal(start, rows[:, :64])
    assert np.array_equal(end, rows[:, -64:])
    assert np.array_equal(middle, preprocess.pixels(wide)[0])
    # a portrait frame is a landscape frame lying on its side
    for crop, lying in zip(preprocess.pixels(wide.transpose(1, 0, 2), 3), (start, middle, end), strict=True):
        assert np.array_equal(crop, lying.transpose(1, 0, 2))


def by_released_code(frame, size, scale_size):
    """`GroupFullResSample` of the released BIKE and Text4Vis, its crops in the order left, middle, right."""
    transforms = pytest.importorskip("torchvision.transforms")
    image = transforms.Resize(scale_size, interpolation=transforms.InterpolationMode.BICUBIC)(
        Image.fromarray(frame)
    )
    image_w, image_h = image.size
    w_step, h_step = (image_w - size) // 4, (image_h - size) // 4
    offsets = [(0 * w_step, 2 * h_step), (2 * w_step, 2 * h_step), (4 * w_step, 2 * h_step)]
    return np.stack([np.asarray(image.crop((x, y, x + size, y + size))) for x, y in offsets])


@pytest.mark.parametrize("shape", SHAPES)
def test_crops_along_the_width_equal_released_code(shape):
    frame = frame_of(*shape)
    crops = Preprocess((64, 64), resize=75).pixels(frame, 3, "width")
    assert np.array_equal(crops, by_released_code(frame, 64, 75))
    if shape[0] > 1.2 * shape[1]:  # upright: the longer side's crops are others
        assert not np.array_equal(crops[0], Preprocess((64, 64), resize=75).pixels(frame, 3)[0])


@pytest.mark.parametrize("positions", ["longer-side", "width"])
@pytest.mark.parametrize("shape", [(17, 300), (300, 17), (2, 500), (900, 50), (1, 40)])
def test_frames_of_extreme_proportions_are_cropped_as_if_resized_whole(shape, positions):
    height, width = shape
    frame = frame_of(*shape)
    for resize in (64, 80):
        if width <= height:
            target = (resize, int(resize * height / width))
        else:
            target = (int(resize * width / height), resize)
        whole = np.asarray(Image.fromarray(frame).resize(target, Image.Resampling.BILINEAR)).astype(int)
        spare_width, spare_height = target[0] - 64, target[1] - 64
        x, y = round(spare_width / 2), round(spare_height / 2)
        corners = (
            [(0, y), (x, y), (spare_width, y)] if width >= height else [(x, 0), (x, y), (x, spare_height)]
        )
        if positions == "width":
            corners = [(step * (spare_width // 4), spare_height // 4 * 2) for step in (0, 2, 4)]
        crops = Preprocess((64, 64), resize=resize, interpolation="bilinear").pixels(frame, 3, positions)
        for crop, (left, top) in zip(crops, corners, strict=True):
            # 1: Pillow has the corners of a box in single precision
            assert np.abs(crop - whole[top : top + 64, left : left + 64]).max() <= 1


def test_three_crops_of_a_square_are_one():
    crops = Preprocess((32, 32)).pixels(frame_of(50, 50), crops=3)
    assert np.array_equal(crops[0], crops[1])
    assert np.array_equal(crops[0], crops[2])


def test_three_crops_keep_proportions_for_any_resize_mode():
    frame = frame_of(60, 120)
    squashed = Preprocess((32, 32), resize_mode="squash").pixels(frame, 3)
    assert np.array_equal(squashed, Preprocess((32, 32)).pixels(frame, 3))


def test_constants_equal_open_clip():
    constants = pytest.importorskip("open_clip.constants")
    assert Preprocess((224, 224)).mean == constants.OPENAI_DATASET_MEAN
    assert Preprocess((224, 224)).std == constants.OPENAI_DATASET_STD


def test_dict_round_trip():
    preprocess = Preprocess(
        (224, 192), resize=256, interpolation="bilinear", fill_color=3, mean=(0.5, 0.4, 0.3)
    )
    again = Preprocess.from_dict(preprocess.to_dict())
    assert again == preprocess
    assert isinstance(again.size, tuple)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [224]}, "size must have 2 numbers"),
        ({"size": [0, 224]}, "size must be"),
        ({"resize": 200}, "resize must be at least the size 224, got 200"),
        ({"interpolation": "lanczos"}, "interpolation must be one of bicubic, bilinear, got 'lanczos'"),
        ({"resize_mode": "crop"}, "resize_mode must be one of shortest, longest, squash, got 'crop'"),
        ({"fill_color": 256}, "fill_color must be in 0..255"),
        ({"std": [1, 0, 1]}, "std must be positive"),
        ({"color": 1}, "unknown color"),
    ],
)
def test_rejects_invalid_settings(change, message):
    with pytest.raises(ValueError, match=message):
        Preprocess.from_dict(Preprocess((224, 224)).to_dict() | change)


def test_rejects_invalid_frames():
    preprocess = Preprocess((8, 8))
    with pytest.raises(ValueError, match=r"\[H, W, 3\] uint8, got \[4, 4\] uint8"):
        preprocess.pixels(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="float64"):
        preprocess.pixels(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="crops must be one of 1, 3"):
        preprocess.pixels(np.zeros((4, 4, 3), np.uint8), crops=2)
    with pytest.raises(ValueError, match="positions must be one of longer-side, width"):
        preprocess.pixels(np.zeros((4, 4, 3), np.uint8), crops=3, positions="height")


def test_decoding_workers_import_no_torch():
    program = (
        "import sys, vidclip.pipeline.video.worker, vidclip.pipeline.video.readers\n"
        "print(sorted({'torch', 'torchvision', 'open_clip'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
