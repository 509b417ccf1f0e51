"""BIKE's attributes branch as released becomes a head that `eval` scores with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from released_files import (
    a_clip,
    attributes_mlps,
    attributes_scores,
    bike_file,
    frames_of,
    pixels_of,
    sentence_embeddings,
    texts_of,
    tokens_of,
)
from vidclip.cache import FeatureCache
from vidclip.pipeline import ExtractSettings, extract, load_encoder, read_videos
from vidclip.pipeline.encoders import EncoderLoader
from vidclip.pipeline.evaluation import ScoringSettings, build_scorers
from vidclip.pipeline.heads import HeadError, load_head
from vidclip.pipeline.released import Imported, import_model
from vidclip.pipeline.scoring import AttributeSettings, scan_scores

PHRASES = ("ball", "park", "boat", "water", "mat", "tree", "dog", "snow", "street", "grass")


def sentences_of(frames: torch.Tensor, phrases: Any) -> list[str]:
    """The attributes sentence of each video [T, D], of the five phrases [P, D] nearest to its mean frame."""
    videos = frames.mean(dim=1)
    nearest = (videos @ F.normalize(torch.as_tensor(phrases), dim=-1).T).topk(5).indices
    return [f"This is a video about {','.join(PHRASES[i] for i in row)}" for row in nearest.tolist()]


@pytest.fixture
def attributes_model(saved: Any, videos: Path, lexicon: Any, tmp_path: Path) -> Callable[..., Any]:
    """Import a file of the attributes branch, extract, and give what `scores` needs."""
    (tmp_path / "phrases.txt").write_text("\n".join(PHRASES))

    def make(prefix: str = "") -> tuple[Any, Any, FeatureCache, Imported]:
        clip, mlps = a_clip(), attributes_mlps()
        clip.logit_scale.add_(0.2)  # all of CLIP that was trained
        phrases = str(tmp_path / "phrases.txt")
        path, folder = saved(bike_file(clip, mlps, prefix)), tmp_path / "model"
        imported = import_model(path, folder, lexicon=lexicon, attributes=phrases)
        encoder = load_encoder(f"local-dir:{folder}", device="cpu", precision="fp32")
        extract(
            read_videos(videos),
            encoder,
            tmp_path / "c",
            imported.model.clip_spec,
            ExtractSettings(workers=1),
        )
        return clip, mlps, FeatureCache(tmp_path / "c"), imported

    return make


def trained_scores(
    cache: FeatureCache,
    lexicon: Any,
    imported: Imported,
    retriever: FeatureCache | None = None,
    **settings: Any,
) -> np.ndarray:
    """[N, C] of the row that `eval` has for the head."""
    stored, models = load_head(imported.folder / "head.safetensors"), ("model", "other")
    assert stored.kind == "attributes"
    scorers = build_scorers(
        cache,
        lexicon,
        ScoringSettings(**settings),
        heads=[("head.safetensors", stored)],
        retriever=retriever,
        load=EncoderLoader("cpu", [(f"local-dir:{imported.folder.parent / name}", "") for name in models]),
        device="cpu",
    )
    trained = next(each for each in scorers if each.name == "attributes, trained (head)")
    ((places, (found,)),) = scan_scores(cache, [trained])
    return found[np.argsort(places), 0]


@pytest.mark.parametrize("prefix", ["module.", pytest.param("", marks=pytest.mark.long)])
def test_attributes_branch(
    attributes_model: Any, saved: Any, videos: Path, lexicon: Any, tmp_path: Path, prefix: str
):
    clip, mlps, cache, imported = attributes_model(prefix)
    assert imported.model.description.startswith("BIKE attributes branch, a CLIP of width 128")
    frames = frames_of(clip, pixels_of(videos, imported.model.clip_spec))
    sentences = sentences_of(frames, sentence_embeddings(clip, texts_of(PHRASES)))
    expected = attributes_scores(clip, mlps, texts_of(sentences), tokens_of("bike"))
    assert np.ptp(expected) > 0.05
    with pytest.raises(HeadError, match="no attributes like those the head was trained on"):
        trained_scores(cache, lexicon, imported)
    phrases = (str(tmp_path / "phrases.txt"),)
    found = trained_scores(cache, lexicon, imported, attributes=phrases)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(trained_scores(cache, lexicon, imported), found)  # they are kept

    other = a_clip(3)
    import_model(saved(bike_file(other, None)), tmp_path / "other")
    encoder = load_encoder(f"local-dir:{tmp_path / 'other'}", device="cpu", precision="fp32")
    extract(
        read_videos(videos), encoder, tmp_path / "r", imported.model.clip_spec, ExtractSettings(workers=1)
    )
    retriever = FeatureCache(tmp_path / "r")
    frames = frames_of(other, pixels_of(videos, imported.model.clip_spec))
    sentences = sentences_of(frames, sentence_embeddings(other, texts_of(PHRASES)))
    expected = attributes_scores(clip, mlps, texts_of(sentences), tokens_of("bike"))
    assert not np.allclose(expected, found, atol=1e-3)
    found = trained_scores(cache, lexicon, imported, retriever, attributes=phrases)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_attributes_branch_reads_attributes_of_a_file(attributes_model: Any, lexicon: Any, tmp_path: Path):
    clip, mlps, cache, imported = attributes_model()
    lists = [PHRASES[i : i + 5] for i in range(len(cache))]
    named = {id: {"classname_topk": list(own)} for id, own in zip(cache.ids, lists, strict=True)}
    (tmp_path / "published.json").write_text(json.dumps(named))
    file = (str(tmp_path / "published.json"),)
    found = trained_scores(cache, lexicon, imported, attributes=file)
    sentences = [f"This is a video about {','.join(own)}" for own in lists]
    expected = attributes_scores(clip, mlps, texts_of(sentences), tokens_of("bike"))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for other, message in (
        (AttributeSettings(3), "reads attributes of --top 5, and is given those of --top 3"),
        (AttributeSettings(prompt="{}"), "--attributes-prompt 'This is a video about {}'"),
    ):
        with pytest.raises(HeadError, match=message):
            trained_scores(cache, lexicon, imported, attributes=file, attribute_settings=other)
