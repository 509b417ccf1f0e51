"""The layers of the house: packages import downward, and some never import what is heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = {
    "cli": 9,
    "demo": 8,
    "pipeline.report": 7,
    "pipeline.finetune": 6,
    "pipeline.released": 6,
    "pipeline.evaluation": 5,
    "pipeline.exchange": 4,
    "pipeline.heads": 4,
    "pipeline.search": 4,
    "pipeline.scoring": 3,
    "pipeline.extraction": 3,
    "pipeline.datasets": 2,
    "pipeline.encoders": 2,
    "pipeline.video": 1,
    "pipeline.devices": 1,
    "pipeline.choices": 0,
    "cache": 0,
    "lexicons": 0,
}
"""Package -> its layer. A package imports from lower layers, or from itself."""


def package_of(module: str) -> str:
    """`pipeline.video` of `vidclip.pipeline.video.pool`; empty for what is not ours."""
    if module.split(".")[0] != "vidclip":
        return ""
    inside = module.removeprefix("vidclip.")
    known = [name for name in LAYERS if inside == name or inside.startswith(f"{name}.")]
    return known[0] if known else inside


def imports(path: Path) -> Iterator[str]:
    """The dotted names of all that a file imports, at its top and inside functions."""
    package = ["vidclip", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{name.name}" for name in node.names)


def sources(package: str) -> list[Path]:
    place = ROOT / package.replace(".", "/")
    if place.is_dir():
        return sorted([*place.rglob("*.py"), *place.rglob("*.pyi")])
    return [place.with_suffix(".py")]


@pytest.mark.parametrize("package", LAYERS)
def test_imports_run_downward(package: str):
    assert sources(package)
    upward = []
    for path in sources(package):
        for name in imports(path):
            other = package_of(name)
            if other in ("", package, "pipeline"):
                continue
            if other not in LAYERS or LAYERS[other] >= LAYERS[package]:
                upward.append(f"{path.relative_to(ROOT)} imports {name}")
    assert upward == []


def test_all_packages_have_a_layer():
    found = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
    assert {f"pipeline.{name}" for name in found} <= set(LAYERS)


@pytest.mark.parametrize(
    ("package", "heavy"),
    [
        ("pipeline.video", {"torch", "open_clip", "torchvision"}),
        ("cache", {"torch", "open_clip", "vidclip.pipeline"}),
        ("lexicons", {"torch", "numpy", "h5py", "vidclip.pipeline", "vidclip.cache"}),
    ],
)
def test_light_packages_import_nothing_heavy(package: str, heavy: set[str]):
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imports(path)
        for each in heavy
        if name == each or name.startswith(f"{each}.")
    }
    assert found == set()


def test_the_walk_sees_imports_of_every_form():
    path = ROOT / "pipeline" / "video" / "worker.py"
    assert "vidclip.pipeline.video.request" in set(imports(path))


@pytest.mark.parametrize("face", ["cache", "lexicons", "pipeline", "pipeline.video", "pipeline.evaluation"])
def test_faces_are_imported_without_torch(face: str):
    code = f"import sys, vidclip.{face}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "package", [name for name in LAYERS if (ROOT / name.replace(".", "/") / "__init__.pyi").is_file()]
)
def test_every_exported_name_exists(package: str):
    import importlib

    module = importlib.import_module(f"vidclip.{package}")
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
        # A module of the same name would hide what is exported once it is imported.
        assert not (ROOT / package.replace(".", "/") / f"{name}.py").exists(), name
