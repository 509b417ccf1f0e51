"""Files that are not what they should be: named, with nothing run and nothing written."""

from __future__ import annotations

import os
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from released_files import a_clip, a_t_trans, attributes_mlps, bike_file, text4vis_file
from vidclip.pipeline.released import ReleasedError, import_model
from xclip_models import official_state, tiny_xclip


@pytest.fixture(scope="module")
def clip() -> Any:
    return a_clip()


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """The message with which a content, or a path, is refused; it leaves nothing behind."""

    def refuse(content: Any, name: str = "released.pt", **options: Any) -> str:
        path = content
        if not isinstance(content, Path):
            path = tmp_path / name
            torch.save(content, path)
        before = sorted(tmp_path.iterdir())
        with pytest.raises(ReleasedError) as raised:
            import_model(path, tmp_path / "model", **options)
        assert sorted(tmp_path.iterdir()) == before
        return str(raised.value)

    return refuse


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_named_and_not_run(refused: Any, clip: Any, tmp_path: Path):
    mark = tmp_path / "it-was-run"
    message = refused({**bike_file(clip, None), "config": Hostile(mark)})
    assert "it names " in message
    assert "mkdir, and a checkpoint of weights names no code. Nothing of it was run" in message
    assert not mark.exists()
    pickle.loads(pickle.dumps(Hostile(mark)))  # elsewhere it would be
    assert mark.exists()


@pytest.fixture
def yacs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class that is pickled as yacs pickles its own."""

    class CfgNode(dict):
        def __init__(self, values: Any = ()) -> None:
            super().__init__(values)
            self.__dict__["__immutable__"] = True

    module = types.ModuleType("yacs.config")
    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    module.CfgNode = CfgNode  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    return CfgNode


@pytest.mark.parametrize("zipped", [True, False])
def test_the_settings_in_official_x_clip_files_are_plain_data(
    yacs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
):
    config = yacs({"MODEL": yacs({"ARCH": "ViT-B/16"}), "DATA": yacs({"NUM_FRAMES": 4})})
    file = {"model": official_state(tiny_xclip(4, 1)), "config": config, "epoch": 29}
    torch.save(file, tmp_path / "k400_16_4.pth", _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "yacs.config")
    assert import_model(tmp_path / "k400_16_4.pth", tmp_path / "m").model.paper == "x-clip"


def test_no_other_class_of_yacs_is_taken(yacs: Any, refused: Any, clip: Any):
    yacs.__qualname__ = yacs.__name__ = "Other"
    sys.modules["yacs.config"].Other = yacs  # type: ignore[attr-defined]
    assert "it names yacs.config.Other" in refused({**bike_file(clip, None), "config": yacs()})


def test_files_that_are_no_checkpoints(refused: Any, clip: Any, tmp_path: Path):
    assert "is no file" in refused(tmp_path / "nothing.pt")
    torch.save(bike_file(clip, None), tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    for name in ("cut.pt", "cut.safetensors"):
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        assert "is no checkpoint, or is damaged" in refused(tmp_path / name)
    (tmp_path / "words.pt").write_text("hello")
    assert "is no checkpoint, or is damaged" in refused(tmp_path / "words.pt")
    scripted = torch.jit.script(torch.nn.Linear(2, 2))
    scripted.save(str(tmp_path / "script.pt"))
    assert "TorchScript archive, which is code" in refused(tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "pictures.pt", "w") as file:
        file.writestr("a.txt", "hello")
    assert "is no checkpoint" in refused(tmp_path / "pictures.pt")
    assert "holds a list, not a table" in refused([1, 2])


def test_foreign_weights_are_told_by_their_names(refused: Any, clip: Any):
    assert "the first is 'layer.weight'" in refused({"layer.weight": torch.zeros(2)})
    assert "the first is 'nothing'" in refused({})
    assert "holds a CLIP, with nothing of BIKE" in refused(clip.state_dict())
    assert "give the folder that holds both" in refused(tiny_xclip(4, 1).state_dict())
    assert "holds 'model', which is no tensor" in refused({"model": 3})


def changed(file: dict[str, Any], part: str, **changes: Any) -> dict[str, Any]:
    """The file with other tensors in a part; None: without one."""
    state = {**file[part], **changes}
    return {**file, part: {name: tensor for name, tensor in state.items() if tensor is not None}}


def test_what_is_missing_unknown_or_misshapen_is_named(refused: Any, clip: Any):
    file, part = bike_file(clip, a_t_trans()), "model_state_dict"
    assert "'ln_final.bias' is missing" in refused(changed(file, part, **{"ln_final.bias": None}))
    assert "'visual.proj2' is unknown" in refused(changed(file, part, **{"visual.proj2": torch.zeros(1)}))
    wrong = changed(file, part, **{"visual.ln_post.bias": torch.zeros(7)})
    assert "'visual.ln_post.bias' has the shape [7], and the rest of the file wants [128]" in refused(wrong)
    assert "'visual.conv1.weight' is missing" in refused(changed(file, part, **{"visual.conv1.weight": None}))
    part = "fusion_model_state_dict"
    name = "transformer.resblocks.3.attn.in_proj_bias"
    assert f"{name!r} is missing" in refused(changed(file, part, **{name: None}))
    assert "'x' is unknown" in refused(changed(file, part, x=torch.zeros(1)))
    assert "positions for 77 frames, and clips have 80" in refused(file, frames=80)


def test_attributes_branches_that_are_none(refused: Any, clip: Any):
    file, part = bike_file(clip, attributes_mlps()), "fusion_model_state_dict"
    for name in ("query_fc.2.bias", "sentence_fc.0.weight"):
        message = refused(changed(file, part, **{name: None}))
        assert "fusion_model_state_dict of" in message
        assert f"{name!r} is missing" in message
    only = {"sentence_fc.0.weight": torch.zeros(64, 64)}
    assert "'sentence_fc.0.bias' is missing, and 6 more" in refused({**file, part: only})
    more = changed(file, part, **{"frame_position_embeddings.weight": torch.zeros(77, 64)})
    assert "'frame_position_embeddings.weight' is unknown" in refused(more)
    wrong = changed(file, part, **{"query_fc.0.weight": torch.zeros(8, 64)})
    assert "'query_fc.0.weight' has the shape [8, 64], and the rest of the file wants [64, 64]" in refused(
        wrong
    )
    broken = changed(file, part, **{"query_fc.0.bias": torch.full((64,), float("nan"))})
    assert "the tensor 'query_fc.0.bias' holds numbers that are not finite" in refused(broken)
    assert "'ln_final.bias' is missing" in refused(
        changed(file, "model_state_dict", **{"ln_final.bias": None})
    )
    video = bike_file(clip, None)
    assert "reads no attributes: leave --attributes k400 out" in refused(video, attributes="k400")


def test_numbers_that_are_none(refused: Any, clip: Any):
    file, part = bike_file(clip, None), "model_state_dict"
    name = "visual.ln_post.bias"
    for value in (float("nan"), float("inf")):
        message = refused(changed(file, part, **{name: torch.full((128,), value)}))
        assert f"the tensor {name!r} holds numbers that are not finite" in message
    huge = torch.zeros(1).expand(10**12)  # a file of a few bytes
    assert "is not one of plain numbers" in refused(changed(file, part, **{name: huge}))
    sparse = torch.zeros(128).to_sparse()
    assert "is not one of plain numbers" in refused(changed(file, part, **{name: sparse}))
    twice = changed(file, part, **{f"module.{name}": torch.zeros(128)})
    assert f"holds {name!r} twice" in refused(twice)


def test_a_text_tower_is_asked_for_and_has_to_fit(refused: Any, clip: Any, tmp_path: Path):
    file = text4vis_file(clip, None)
    assert "have no text tower. Add --text openai" in refused(file)
    assert "none of the architectures of CLIP's authors" in refused(file, text="openai")
    other = {**clip.state_dict(), "text_projection": torch.zeros(128, 32)}
    torch.save(other, tmp_path / "other.pt")
    message = refused(file, text=str(tmp_path / "other.pt"))
    assert "its texts have 32 dimensions, the frames of the file 64" in message
    torch.save({"visual.proj": torch.zeros(2, 2)}, tmp_path / "none.pt")
    assert "its texts have no dimensions" in refused(file, text=str(tmp_path / "none.pt"))
    assert "brings its own text tower" in refused(bike_file(clip, None), text="openai")


def test_folders_that_are_no_x_clip(refused: Any, tmp_path: Path):
    folder = tmp_path / "hf"
    folder.mkdir()
    assert "config.json cannot be read" in refused(folder)
    (folder / "config.json").write_text('{"model_type": "clip"}')
    assert "holds a model 'clip' of transformers" in refused(folder)
    (folder / "config.json").write_text('{"model_type": "xclip"}')
    assert "has neither model.safetensors nor pytorch_model.bin" in refused(folder)
    tiny_xclip(4, 1).save_pretrained(folder)
    assert "trained on clips of 4 frames, not 8" in refused(folder, frames=8)
    text = (folder / "config.json").read_text()
    for old, new, message in (
        (
            '"mit_num_attention_heads": 1',
            '"mit_num_attention_heads": 5',
            "64 dimensions cannot be shared among 5",
        ),
        ('"mit_num_attention_heads": 1', '"mit_num_attention_heads": "a"', "not a number of attention heads"),
        (
            '"hidden_act": "quick_gelu"',
            '"hidden_act": "relu"',
            "hidden_act is 'relu', and X-CLIP's is 'quick_gelu'",
        ),
    ):
        assert old in text
        (folder / "config.json").write_text(text.replace(old, new))
        assert message in refused(folder)


def test_an_output_that_is_there_stays(clip: Any, tmp_path: Path):
    torch.save(bike_file(clip, None), tmp_path / "b.pt")
    (tmp_path / "model").mkdir()
    import_model(tmp_path / "b.pt", tmp_path / "model")  # an empty folder is as good as none
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()}
    with pytest.raises(ReleasedError, match="is there already: it is not overwritten"):
        import_model(tmp_path / "b.pt", tmp_path / "model")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()} == before
