"""Model folders are data: nothing they say runs code, asks at the terminal, or reads outside the folder."""

from __future__ import annotations

import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from helpers import TINY_CONFIG, save_hugging_face_model, save_model_folder
from vidclip.pipeline.encoders import EncoderError, check_model_config, load_encoder, transformers_sentences

pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def eager_user(monkeypatch):
    """Somebody who answers every question at the terminal with yes, and has lifted what variables can lift."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 100))
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")


def change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    document = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**document, **values}))


def change_config(folder: Path, section: str, **values: Any) -> None:
    document = json.loads((folder / "open_clip_config.json").read_text())
    place = document["model_cfg"][section] if section else document["model_cfg"]
    place.update(values)
    (folder / "open_clip_config.json").write_text(json.dumps(document))


def put_code(folder: Path, base: str) -> Path:
    """A module in the folder that leaves a mark when it is imported; returns the mark."""
    mark = folder / "CODE-WAS-RUN"
    (folder / "own.py").write_text(
        f"open({str(mark)!r}, 'w').close()\nfrom transformers import {base}\nclass Own({base}): pass\n"
    )
    return mark


def with_code_in_tokenizer(folder: Path) -> Path:
    mark = put_code(folder, "PreTrainedTokenizer")
    change(
        folder,
        "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["own.Own", None]},
        tokenizer_class="Own",
    )
    (folder / "tokenizer.json").unlink(missing_ok=True)
    return mark


@pytest.mark.parametrize("trusting", [{}, {"tokenizer_kwargs": {"trust_remote_code": True}}])
def test_tokenizer_code_of_a_folder_is_not_run(tmp_path, trusting):
    folder = save_model_folder(tmp_path / "m", TINY_CONFIG)
    change_config(folder, "text_cfg", hf_tokenizer_name="anything", **trusting)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    mark = with_code_in_tokenizer(folder)
    with pytest.raises(EncoderError) as caught:
        load_encoder(f"local-dir:{folder}")
    if trusting:
        assert "text_cfg.tokenizer_kwargs.trust_remote_code is True, which a model's" in str(caught.value)
    assert not mark.exists()


def test_text_tower_code_of_a_folder_is_not_run(tmp_path):
    model = save_hugging_face_model(tmp_path, "mean_pooler")
    mark = put_code(tmp_path, "BertConfig")
    load_encoder(model)  # as it is, it loads
    change(
        tmp_path, "config.json", model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModel": "own.Own"}
    )
    with pytest.raises(EncoderError, match="cannot be used"):
        load_encoder(model)
    assert not mark.exists()
    assert sys.stdin.tell() == 0, "nobody was asked"


def test_the_twin_without_the_guard_does_run_the_code(tmp_path):
    """The folders above are dangerous: open_clip by itself runs the tower's code, once somebody says yes."""
    model = save_hugging_face_model(tmp_path, "mean_pooler")
    mark = put_code(tmp_path, "BertConfig")
    change(
        tmp_path, "config.json", model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModel": "own.Own"}
    )
    with pytest.raises((ValueError, KeyError, RuntimeError, TypeError, AttributeError)):
        open_clip.create_model(model)
    assert mark.exists()


def test_a_config_chooses_no_attention_from_the_hub(tmp_path):
    """Compiled code of the hub has such names; with the package `kernels` it would be fetched and run."""
    model = save_hugging_face_model(tmp_path, "mean_pooler")
    change(tmp_path, "config.json", attn_implementation="somebody/attention")
    encoder = load_encoder(model)
    assert encoder.network.text.transformer.config._attn_implementation in ("eager", "sdpa")


class _Code:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


class _WrongCall:
    """An allowed function, called wrongly: torch.load raises TypeError, after which open_clip tries without a guard."""

    def __reduce__(self):
        return (torch._utils._rebuild_tensor_v2, ())


@pytest.mark.parametrize("wrong_call_first", [False, True])
def test_a_pickle_is_tensors_only_whatever_the_environment_says(tmp_path, wrong_call_first):
    folder = save_model_folder(tmp_path / "m", TINY_CONFIG)
    (folder / "open_clip_model.safetensors").unlink()
    mark = folder / "CODE-WAS-RUN"
    bad = {"b": _Code(mark)}
    torch.save(
        {"a": _WrongCall(), **bad} if wrong_call_first else bad, folder / "open_clip_pytorch_model.bin"
    )
    with pytest.raises(EncoderError, match="cannot be used"):
        load_encoder(f"local-dir:{folder}")
    assert not mark.exists()
    with pytest.raises(Exception):  # noqa: B017 (the twin: the file is dangerous)
        torch.load(folder / "open_clip_pytorch_model.bin", weights_only=False)
        raise pickle.UnpicklingError
    assert mark.exists() or wrong_call_first


def test_a_text_encoders_folder_is_not_run_either(tmp_path):
    save_hugging_face_model(tmp_path, "mean_pooler")
    mark = with_code_in_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("[UNK]\n")
    with pytest.raises(ValueError, match="cannot be read"):
        transformers_sentences(tmp_path, ["a"])
    assert not mark.exists()
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(ValueError, match="is an adapter of another model"):
        transformers_sentences(tmp_path, ["a"])


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("vision_cfg", {"timm_model_name": "hf-hub:somebody/model"}, "vision_cfg.timm_model_name"),
        ("vision_cfg", {"timm_model_name": "local-dir:/elsewhere"}, "vision_cfg.timm_model_name"),
        ("vision_cfg", {"act_kwargs": {"inplace": {"x": 1}}}, "vision_cfg.act_kwargs.inplace"),
        (
            "text_cfg",
            {"hf_model_name": "/elsewhere"},
            "text_cfg.hf_model_name is '/elsewhere', a path outside",
        ),
        ("text_cfg", {"hf_model_name": "../elsewhere"}, "a path outside"),
        ("text_cfg", {"hf_tokenizer_name": "a/b/c"}, "a path outside"),
        ("text_cfg", {"tokenizer_kwargs": {"subfolder": ".."}}, "text_cfg.tokenizer_kwargs.subfolder"),
        ("text_cfg", {"tokenizer_kwargs": {"clean": ["x"]}}, "text_cfg.tokenizer_kwargs.clean"),
        ("text_cfg", {"width": "64"}, "text_cfg.width"),
        ("", {"cast_dtype": "bfloat16"}, "cast_dtype"),
        ("", {"extra_cfg": {"a": 1}}, "extra_cfg"),
    ],
)
def test_rejects_configs_by_the_name_of_the_key(tmp_path, section, values, message):
    folder = save_model_folder(tmp_path / "m", TINY_CONFIG)
    change_config(folder, section, **values)
    with pytest.raises(EncoderError, match=message):
        load_encoder(f"local-dir:{folder}")


def test_every_config_of_open_clip_itself_is_allowed():
    for name in open_clip.list_models():
        check_model_config(open_clip.get_model_config(name))
