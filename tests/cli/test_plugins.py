"""Encoders of other packages: the example of docs/python.md as an installed package, and what goes wrong in such ones."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import save_video, vidclip
from vidclip.cache import FeatureCache
from vidclip.pipeline.encoders import EncoderError, load_encoder

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"<!-- color_encoder.py -->\n```python\n(.*?)```", PAGE, re.DOTALL)[0]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with one module and its entry point, as pip would, on a path of its own."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))

    def of(source: str, *, package: str = "color-encoder", name: str = "colors") -> None:
        module = package.replace("-", "_")
        info = site / f"{module}-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[vidclip.encoders]\n{name} = {module}:load\n")
        (site / f"{module}.py").write_text(source)
        monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()

    yield of
    for module in ("color_encoder", "other_encoder"):
        sys.modules.pop(module, None)


def test_the_example_of_the_page(install, tmp_path):
    install(EXAMPLE)
    video = save_video(tmp_path / "videos" / "balls" / "0.mp4", frames=8)
    extract = ["extract", "videos", "--frames", 2, "--workers", 1, "--precision", "fp32", "--model"]
    done = vidclip(*extract, "colors:warm", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cache = FeatureCache(tmp_path / "features")
    assert cache.shape == (1, 1, 2, 48)
    assert cache.identity.model == "colors:warm"
    assert cache.identity.encoder["plugin"] == "colors"
    small = np.asarray(Image.fromarray(_frame(video, 4)).resize((4, 4), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(cache.frames()[0, 0, 1], small.reshape(-1) / 255 - 0.5, atol=1e-3)
    like = ["search", "--like", "balls/0.mp4"]
    assert vidclip(*like, cwd=tmp_path).returncode == 0
    again = save_video(tmp_path / "new.mp4", frames=8, seed=1)
    said = vidclip("search", "--like", again, cwd=tmp_path)
    assert said.returncode == 2
    assert "is loaded only where you name it too" in said.stderr
    done = vidclip("search", "--like", again, "--model", "colors:warm", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "colors:warm embeds no texts" in vidclip("eval", "--model", "colors:warm", cwd=tmp_path).stderr
    assert "leave --pretrained x out" in vidclip(*extract, "colors", "--pretrained", "x", cwd=tmp_path).stderr


def _frame(video: Path, index: int) -> np.ndarray:
    import av

    with av.open(str(video)) as container:
        frames = list(container.decode(video=0))
    return frames[index].to_ndarray(format="rgb24")


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("return ColorEncoder(request)", "return 1 / 0", "failed: ZeroDivisionError"),
        ("return ColorEncoder(request)", "return object()", "lacks model, pretrained"),
        ("def load(", "def lode(", "failed: AttributeError"),
        ("import torch\n", "import torch, no_such_package\n", "failed: ModuleNotFoundError"),
        ("= request.model\n", "= 'mine'\n", "its model is 'mine', not 'colors'"),
        ("dimension = 48", "dimension = 47", "must give float32 (1, 47) of 1 frames, and gave torch.float32 (1, 48)"),
        (".float() / 255", ".double() / 255", "and gave torch.float64"),
        ("embeddings_per_sample = 1", "embeddings_per_sample = 0", "0 embeddings of 0 frames cannot be"),
        ('"tokenizer": None', '"other": None', "KeyError('tokenizer')"),
        ('"colors-1"', "self", "its identity must be JSON-able"),
        ("self.preprocess.to_identity()", "{}", "are not its own (Preprocess.to_identity)"),
    ],
)  # fmt: skip
def test_failures_are_named(install, before, after, reason):
    assert EXAMPLE.count(before) == 1
    install(EXAMPLE.replace(before, after))
    with pytest.raises(EncoderError) as error:
        load_encoder("colors", device="cpu", precision="fp32")
    assert "the encoder 'colors' of the package color-encoder" in str(error.value)
    assert reason in str(error.value)


def test_names_stand_for_one_encoder(install):
    install(EXAMPLE)
    assert load_encoder("colors", device="cpu").dimension == 48
    install(EXAMPLE, package="other-encoder")
    with pytest.raises(EncoderError, match="color-encoder and other-encoder both have an encoder 'colors'"):
        load_encoder("colors", device="cpu")
    install(EXAMPLE, package="other-encoder", name="demo")
    assert load_encoder("demo", device="cpu", precision="fp32").identity.get("plugin") is None
    with pytest.raises(EncoderError, match="open_clip knows no model 'colour'"):
        load_encoder("colour", device="cpu")
