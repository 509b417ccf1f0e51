"""What this package does on a GPU, in under eight minutes, with nothing but its own files: random weights, rendered clips.

    python benchmarks/gpu.py --output gpu.json
    python benchmarks/gpu.py --only extraction --budget 300
    python benchmarks/gpu.py --device cpu --small          # the program itself, where there is no GPU: sizes mean nothing

    tests         `pytest -m gpu`: that the GPU gives what a CPU gives
    extraction    ViT-B-32, ViT-B-16, ViT-L-14 in fp16 and bf16, by batch size: the pipeline's rate, those of encoding and of
                  decoding alone, the pipeline's over the slower of the two, and the share of time in which the GPU had a batch
    spotting, search, few-shot, steps    the same work on the GPU and on all cores of the CPU, in this run, and whether
                  they agree; the copies to the GPU and back count
    fine-tuning   an epoch of clips that are decoded, against the steps alone and the decoding alone

Each section has a share of the budget, and what sections before it left; what there was no time for is named. Lines come as
they are measured. Figures are of this machine: its cores decode.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `vidclip extract` does

from timetable import Cell, Row, Section, finish, last_resort, run_sections, write_json

if TYPE_CHECKING:
    import numpy as np

    from vidclip.pipeline.datasets import VideoList
    from vidclip.pipeline.encoders import OpenClipEncoder

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Sizes:
    """How much is measured; as given, for a large GPU."""

    models: Sequence[str] = ("ViT-B-32", "ViT-B-16", "ViT-L-14")
    precisions: Sequence[str] = ("fp16", "bf16")
    batches: Sequence[int] = (256, 1024, 64)
    """Frames in a pass of the encoder; each model has its turn with the first before any has it with the second."""
    clips: Sequence[Any] | None = None
    """What videos are rendered, as extract.CLIPS has them; None: those."""
    videos: int = 640
    frames: int = 8
    spotted: int = 1024
    classes: int = 400
    queries: int = 20_000
    """Videos whose nearest phrases are looked for."""
    phrases: int = 100_000
    searched: int = 20_000
    """Videos of the cache that is searched."""
    few_shot_classes: int = 101
    examples: int = 9_537
    """Training examples in an epoch of few-shot training, repeated."""
    trained: str = "ViT-B-16"
    clips_a_step: int = 16
    clips_a_step_on_cpu: int = 2
    steps: int = 20
    steps_on_cpu: int = 1


SMALL = Sizes(
    models=("demo-vit",), precisions=("fp32", "bf16"), batches=(8, 16), videos=4, frames=2, spotted=16, classes=20,
    clips=(("short.mp4", "libx264", 128, 96, 12, {"preset": "veryfast"}),),
    queries=50, phrases=2_000, searched=300, few_shot_classes=5, examples=80,
    trained="demo-vit", clips_a_step=2, steps=2,
)  # fmt: skip


@dataclass
class Setting:
    """Where it is measured."""

    device: str
    sizes: Sizes
    folder: Path
    workers: int
    _encoders: dict[tuple[str, str], OpenClipEncoder] = field(default_factory=dict)

    @cached_property
    def videos(self) -> VideoList:
        from extract import CLIPS, rendered_videos

        from vidclip.pipeline.datasets import read_videos

        return read_videos(rendered_videos(self.folder, self.sizes.videos, self.sizes.clips or CLIPS))

    def encoder(self, model: str, precision: str) -> OpenClipEncoder:
        """One of each, kept: all are a few GiB."""
        from vidclip.pipeline.encoders import load_open_clip

        if (model, precision) not in self._encoders:
            self._encoders[model, precision] = load_open_clip(
                model, device=self.device, precision=precision, weights=False
            )
        return self._encoders[model, precision]


def seconds_of(work: Callable[[], Any], rounds: int = 3) -> tuple[float, Any]:
    """Return the least wall seconds of so many rounds after one that warms, and what it returned, on the CPU."""
    found, taken = work(), []
    for _ in range(rounds):
        began = time.perf_counter()
        found = work()
        taken.append(time.perf_counter() - began)
    return min(taken), found


def versus(device: float, cpu: float, **more: float | None) -> Row:
    return {"device s": device, "CPU s": cpu, "times faster": cpu / device, **more}


# --- tests


def tests(_: Setting) -> list[Cell]:
    return [Cell("pytest -m gpu", run_tests)]


def run_tests() -> Row:
    """Run the files that have such tests: to read all the others takes longer than these."""
    files = [
        path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")
    ]
    if not files:
        raise FileNotFoundError(f"{ROOT / 'tests'} has no file with tests that are marked gpu")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    summary = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "no output"
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise RuntimeError(f"exit status {done.returncode}: {summary}")
    counts = {word: float(number) for number, word in re.findall(r"(\d+) (passed|skipped)", summary)}
    return {
        "passed": counts.get("passed", 0.0),
        "skipped": counts.get("skipped", 0.0),
        "summary": f"  {summary}",
    }


# --- extraction


def extraction(setting: Setting) -> list[Cell]:
    sizes = setting.sizes
    decoding = cache(partial(_decoding_rate, setting))
    return [
        Cell(
            f"{model} {precision} {batch}",
            partial(_extraction_rates, setting, decoding, model, precision, batch),
        )
        for batch, model, precision in product(sizes.batches, sizes.models, sizes.precisions)
    ]


def _decoding_rate(setting: Setting, size: tuple[int, int]) -> float:
    """Videos a second that are decoded to frames of this size."""
    from extract import decode_only

    from vidclip.pipeline.video import ClipSpec, Preprocess, Sampling

    spec = ClipSpec(Sampling(setting.sizes.frames), Preprocess(size))
    measured, failed = decode_only(setting.videos, spec, setting.workers)
    if failed:
        raise RuntimeError(f"{failed} of {len(setting.videos)} rendered videos could not be decoded")
    return len(setting.videos) / measured.wall


def _extraction_rates(
    setting: Setting, decoding: Callable[[tuple[int, int]], float], model: str, precision: str, batch: int
) -> Row:
    from extract import encode_only, whole_extraction

    from vidclip.pipeline.extraction import ExtractSettings
    from vidclip.pipeline.video import Sampling

    encoder, n_videos, frames = setting.encoder(model, precision), len(setting.videos), setting.sizes.frames
    decode = decoding(encoder.preprocess.size)
    encode = n_videos / encode_only(encoder, n_videos * frames, batch).wall
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        whole = whole_extraction(
            setting.videos, encoder, Path(folder) / "cache", Sampling(frames),
            ExtractSettings(setting.workers, batch_size=batch),
        )  # fmt: skip
    if whole.summary.failures:
        raise RuntimeError(f"{len(whole.summary.failures)} videos failed, {whole.summary.failures[0]}")
    rate = n_videos / whole.wall
    return {
        "videos/s": rate,
        "frames/s": rate * frames,
        "encode only, frames/s": encode * frames,
        "decode only, frames/s": decode * frames,
        "of the slower": rate / min(encode, decode),
        "GPU busy": whole.busy,
    }


# --- the GPU against the CPU


def spotting(setting: Setting) -> list[Cell]:
    import numpy as np
    from concept_spotting import DIMENSIONS, FRAMES, POSITIONS, some_texts, words_of_names

    sizes, rng = setting.sizes, np.random.default_rng(0)
    counts = {
        "words of the names": words_of_names(rng, sizes.classes),
        f"{POSITIONS} positions": np.full(sizes.classes, POSITIONS),
    }

    def measure(count: np.ndarray) -> Row:
        from vidclip.pipeline.scoring import ConceptSpotter

        texts = some_texts(rng, count)
        frames = rng.standard_normal((sizes.spotted, FRAMES, DIMENSIONS), np.float32)
        taken = {
            device: seconds_of(partial(ConceptSpotter(texts, device=device).scores, frames))
            for device in (setting.device, "cpu")
        }
        own, cpu = taken[setting.device], taken["cpu"]
        return versus(own[0], cpu[0], **{"largest difference": float(np.abs(own[1] - cpu[1]).max())})

    return [Cell(name, partial(measure, count)) for name, count in counts.items()]


@contextlib.contextmanager
def faiss_on(device: str) -> Iterator[None]:
    """FAISS takes a GPU where it sees one: on a CPU none is shown to it."""
    import faiss

    asked = getattr(faiss, "get_num_gpus", lambda: 0)
    if device == "cpu":
        faiss.get_num_gpus = lambda: 0
    elif not asked():
        raise RuntimeError("FAISS sees no GPU: this is faiss-cpu, or its CUDA does not fit the driver")
    try:
        yield
    finally:
        faiss.get_num_gpus = asked


def searching(setting: Setting) -> list[Cell]:
    import numpy as np

    sizes = setting.sizes

    @cache
    def embeddings() -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        return tuple(rng.standard_normal((n, 512), np.float32) for n in (sizes.queries, sizes.phrases))

    @cache
    def features() -> Any:
        import search

        from vidclip.cache import FeatureCache

        folder = setting.folder / "searched"
        search.write(folder, sizes.searched, 8, 512, max(8, sizes.searched // 10), 0)
        return FeatureCache(folder)

    def nearest(index: str) -> Row:
        from vidclip.pipeline.scoring import retrieve

        videos, phrases = embeddings()
        taken = {}
        for device in (setting.device, "cpu"):
            with faiss_on(device):
                taken[device] = seconds_of(partial(retrieve, videos, phrases, 5, index=index), 1)
        own, cpu = taken[setting.device], taken["cpu"]
        same = [len(np.intersect1d(a, b)) for a, b in zip(own[1].top, cpu[1].top, strict=True)]
        return versus(own[0], cpu[0], agreement=float(np.mean(same)) / 5)

    def queries() -> list[Any]:
        from vidclip.pipeline.search import Query

        asked = np.random.default_rng(1).standard_normal((32, 512), np.float32)
        return [Query(f"q{i}", "text", vector) for i, vector in enumerate(asked)]

    def exact() -> Row:
        from vidclip.pipeline.search import SearchSettings, find_results

        settings, asked = SearchSettings(10, "max"), queries()
        own, cpu = (
            seconds_of(partial(find_results, features(), asked, settings, device=device), 1)
            for device in (setting.device, "cpu")
        )
        same = [
            len({each.video for each in a} & {each.video for each in b}) / len(b)
            for a, b in zip(own[1], cpu[1], strict=True)
        ]
        return versus(own[0], cpu[0], agreement=float(np.mean(same)))

    def building() -> Row:
        from vidclip.pipeline.search import build_index

        taken, recalls = {}, {}
        for device in (setting.device, "cpu"):
            taken[device], index = seconds_of(partial(build_index, features(), "max", device=device), 1)
            recalls[device] = min(index.facts.recall.values())
            index.close()
        return versus(taken[setting.device], taken["cpu"], agreement=recalls[setting.device] / recalls["cpu"])

    return [
        Cell("FAISS, exact: nearest phrases", partial(nearest, "exact")),
        Cell("FAISS, ivf: nearest phrases", partial(nearest, "ivf")),
        Cell("exact search of a cache", exact),
        Cell("building its index", building),
    ]


def few_shot(setting: Setting) -> list[Cell]:
    import numpy as np

    sizes = setting.sizes

    @cache
    def data() -> tuple[Any, ...]:
        """16 training and 16 test videos of each class, around what its videos look like."""
        from concept_spotting import DIMENSIONS, FRAMES, some_texts

        from vidclip.pipeline.heads import ClassTexts

        rng = np.random.default_rng(0)
        texts = some_texts(rng, np.ones(sizes.few_shot_classes, np.int64))
        seen = texts.sentence + 2 * rng.standard_normal(texts.sentence.shape, np.float32)
        labels = np.arange(32 * len(seen)) % len(seen)
        own = seen[labels] + 6 * rng.standard_normal((len(labels), DIMENSIONS), np.float32)
        frames = own[:, None, None] + 2 * rng.standard_normal(
            (len(labels), 1, FRAMES, DIMENSIONS), np.float32
        )
        half = len(labels) // 2
        return (
            ClassTexts(texts.phrases, texts),
            (frames[:half], labels[:half]),
            (frames[half:], labels[half:]),
        )

    def train(temporal: str) -> Row:
        from vidclip.pipeline.heads import HeadConfig, TrainSettings, fit_head

        classes, (frames, labels), (test, truth) = data()
        settings = TrainSettings(epochs=2, held_out=0.0)
        taken, top1 = {}, {}
        for device in (setting.device, "cpu"):
            began = time.perf_counter()
            head = fit_head(
                frames, labels, classes, HeadConfig("text", temporal), settings,
                epoch_size=sizes.examples, device=device,
            ).head  # fmt: skip
            taken[device] = time.perf_counter() - began
            top1[device] = 100 * float((head.scores(test[:, 0]).argmax(axis=1) == truth).mean())
        return versus(
            taken[setting.device],
            taken["cpu"],
            **{"device top-1": top1[setting.device], "CPU top-1": top1["cpu"]},
        )

    return [Cell(name, partial(train, name)) for name in ("transformer", "mit", "conv")]


def steps(setting: Setting) -> list[Cell]:
    from training_cost import BASE, CACHED

    sizes = setting.sizes

    def step(device: str, method: str, precision: str, clips: int, steps: int) -> dict[str, float]:
        from training_cost import measure

        if device != "cpu":
            import torch

            torch.cuda.reset_peak_memory_stats()
        arguments = argparse.Namespace(
            method=method, model=sizes.trained, pretrained="", random_weights=True, device=device,
            precision=precision, batch_size=clips, frames=sizes.frames, steps=steps,
        )  # fmt: skip
        found = measure(arguments, by_wall=True)
        return {**found, "a clip": found["seconds"] / clips}

    @cache
    def on_cpu(method: str) -> float:
        return step("cpu", method, "fp32", sizes.clips_a_step_on_cpu, sizes.steps_on_cpu)["a clip"]

    def cell(method: str, precision: str) -> Row:
        own = step(setting.device, method, precision, sizes.clips_a_step, sizes.steps)
        cpu = on_cpu(method)
        return {
            "device ms a clip": 1000 * own["a clip"],
            "CPU ms a clip": 1000 * cpu,
            "times faster": cpu / own["a clip"],
            "device MiB": own["mib"],
            "trained": own["parameters"],
        }

    methods = (BASE, "prompts", "X-CLIP's tower and MIT", CACHED)
    return [Cell(f"{m}, {p}", partial(cell, m, p)) for m, p in product(methods, reversed(sizes.precisions))]


def fine_tuning(setting: Setting) -> list[Cell]:
    sizes = setting.sizes

    @cache
    def videos() -> Any:
        from finetune import labeled_videos, rendered_videos

        count = sizes.steps * sizes.clips_a_step
        return labeled_videos(rendered_videos(setting.folder / "world", count))

    def begin(precision: str) -> Any:
        from finetune import begin_training

        from vidclip.pipeline.encoders import load_open_clip

        encoder = load_open_clip(sizes.trained, device=setting.device, precision="fp32", weights=False)
        return begin_training(
            videos(), encoder, setting.folder, setting.workers, "text4vis",
            frames=sizes.frames, batch_size=sizes.clips_a_step, precision=precision,
        )  # fmt: skip

    def measure(precision: str) -> Row:
        from finetune import bare_steps, decode_only

        training = begin(precision)
        clips = training.loop.steps * sizes.clips_a_step
        epoch = training.run().epochs[1]
        wall = decode_only(
            training, setting.workers
        ).wall  # a difference, which noise makes negative where it is small
        decode = clips / wall if wall > 0 else None
        bare = clips / bare_steps(begin(precision)).wall
        return {
            "clips/s": epoch.clips_per_second,
            "steps only, clips/s": bare,
            "decode only, clips/s": decode,
            "of the slower": epoch.clips_per_second / min(bare, decode or bare),
            "waiting for clips": epoch.waiting,
        }

    return [Cell(f"{sizes.trained} {p}", partial(measure, p)) for p in reversed(sizes.precisions)]


SECTIONS: dict[str, tuple[str, float, Callable[[Setting], list[Cell]]]] = {
    "tests": ("what the GPU gives is what a CPU gives", 80, tests),
    "extraction": ("model, precision, frames in a batch", 200, extraction),
    "spotting": ("concept spotting", 20, spotting),
    "search": ("search", 50, searching),
    "few-shot": ("16 videos a class, a text classifier over a temporal module, two epochs", 30, few_shot),
    "steps": ("a training step on pixels (or features) that are ready; the CPU in fp32", 40, steps),
    "fine-tuning": ("an epoch, clips decoded and drawn anew", 40, fine_tuning),
}
"""Name -> title, share of the budget in seconds of the default one, and what makes its cells; the most important one first."""


def freed(setting: Setting, cells: Callable[[Setting], list[Cell]]) -> list[Cell]:
    """The cells, each of which gives its memory back."""

    def run(cell: Cell) -> Row:
        try:
            return cell.run()
        finally:
            gc.collect()
            if setting.device != "cpu":
                import torch

                torch.cuda.empty_cache()

    return [Cell(cell.name, partial(run, cell)) for cell in cells(setting)]


def machine(device: str, workers: int) -> dict[str, Any]:
    """What the figures depend on."""
    import faiss
    import torch
    from extract import cores

    found = {
        "device": "CPU", "cores": cores(), "workers": workers, "threads": torch.get_num_threads(),
        "torch": torch.__version__, "cuda": torch.version.cuda, "python": sys.version.split()[0],
        "faiss": faiss.__version__, "faiss_gpus": getattr(faiss, "get_num_gpus", lambda: 0)(),
    }  # fmt: skip
    if device != "cpu":
        properties = torch.cuda.get_device_properties(device)
        found |= {"device": properties.name, "device_gib": round(properties.total_memory / 2**30, 1)}
    return found


def main() -> None:
    arguments = _arguments()
    began = time.monotonic()
    import torch
    from extract import cores

    device = arguments.device
    if device != "cpu" and not torch.cuda.is_available():
        sys.exit(
            f"--device {device}: torch {torch.__version__} sees no GPU. --device cpu --small tries the program without one."
        )
    workers = arguments.workers or cores()
    facts: dict[str, object] = {"machine": machine(device, workers), "budget_seconds": arguments.budget}
    print(", ".join(f"{name} {value}" for name, value in facts["machine"].items()), flush=True)
    with tempfile.TemporaryDirectory(prefix="vidclip-gpu-", ignore_cleanup_errors=True) as folder:
        setting = Setting(device, SMALL if arguments.small else Sizes(), Path(folder), workers)
        sections = [
            Section(name, title, share, partial(freed, setting, cells))
            for name, (title, share, cells) in SECTIONS.items()
            if not arguments.only or name in arguments.only
        ]
        keep = partial(write_json, arguments.output, facts) if arguments.output else lambda _: None
        left = arguments.budget - (time.monotonic() - began)
        with last_resort(max(left, 0)):
            outcomes = run_sections(sections, left, on_section=keep)
    finish(outcomes, time.monotonic() - began)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS)
    )
    parser.add_argument(
        "--budget", type=float, default=460, help="seconds for all of it (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, help="a JSON file, written after each section")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="processes that decode; default: one a core")
    parser.add_argument(
        "--small", action="store_true", help="tiny sizes and models: to try the program itself"
    )
    arguments = parser.parse_args()
    if not 0 < arguments.budget < float("inf"):
        parser.error(f"--budget must be a number of seconds above 0, got {arguments.budget:g}")
    if arguments.output and not arguments.output.absolute().parent.is_dir():
        parser.error(f"--output: the folder of {arguments.output} is not there")
    return arguments


if __name__ == "__main__":
    main()
