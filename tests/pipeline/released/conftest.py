"""Classes, videos of them, and where a released file is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import save_video
from released_files import NAMES
from vidclip.lexicons import load_lexicon


@pytest.fixture(scope="session")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("lexicon") / "names.txt"
    path.write_text("\n".join(NAMES))
    return load_lexicon(str(path))


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(NAMES):
        save_video(folder / name / "0.mp4", frames=10, seed=number)
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(content: Any, name: str = "k400-f4.pt") -> Path:
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save
