"""An extraction from the name of its encoder, which is loaded only where there is something to read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from ...cache import CacheWriter, FeatureCache, Identity
from ...cache.cache_json import IDENTITY_FILE, read_identity
from ..datasets import VideoList
from ..encoders import EncoderRequest, is_known_encoder
from ..video import ClipSpec, Sampling, check_decoder
from .known_content import copy_known_content
from .plan import plan_extraction
from .progress import Progress, Summary, summarize
from .settings import ExtractSettings, RaySettings


def run_extraction(
    videos: VideoList,
    request: EncoderRequest,
    folder: Path,
    sampling: Sampling,
    settings: ExtractSettings,
    *,
    cluster: RaySettings | None = None,
    resize: Callable[[int], int | None] | None = None,
    device: str = "auto",
    precision: str = "auto",
    on_warning: Callable[[str], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Do as `extract` with the encoder that is asked for; it is not loaded where its cache has all videos already.

    cluster       where the work is spread over a Ray cluster; `device` then follows from it
    resize        from the longer side of what the encoder sees, the short side before cropping; None: its own
    precision     auto: that of the cache, if it has features; else see `load_encoder`
    on_warning    called with what a user should know of the encoder

    Raises what `load_encoder` and `extract`, or `extract_on_ray`, do; ExtractionError for a short side that is below what the encoder sees.
    """
    resize = resize or (lambda _: None)
    summary, precision, cache = _without_encoder(
        videos, request, folder, sampling, settings, resize, precision
    )
    if summary is not None:
        return summary
    from .accounts import ExtractionError, KnownEncoder, cache_identity

    def clip_of(encoder: KnownEncoder) -> ClipSpec:
        try:
            short_side = resize(max(encoder.preprocess.size))
            return ClipSpec(sampling, replace(encoder.preprocess, resize=short_side))
        except ValueError as error:
            raise ExtractionError(f"--resize: {error}") from error

    if cluster is not None:
        from .ray import extract_on_ray

        return extract_on_ray(
            videos,
            request,
            folder,
            clip_of,
            settings,
            cluster,
            frames=sampling.frames,
            precision=precision,
            stored=cache,
            on_warning=on_warning,
            on_progress=on_progress,
        )
    check_decoder(settings.decoder)  # before an encoder is loaded
    from ..encoders import files_of, load_encoder, remember_encoder
    from .local import extract

    began_ns = time.time_ns()
    encoder = load_encoder(
        request.model,
        request.pretrained,
        device=device,
        precision=precision,
        image_size=request.image_size,
        frames=sampling.frames,
    )
    if on_warning:
        for message in encoder.warnings:
            on_warning(message)
    clip = clip_of(encoder)
    summary = extract(videos, encoder, folder, clip, settings, stored=cache, on_progress=on_progress)
    remember_encoder(folder, cache_identity(encoder, clip), request, files_of(encoder), began_ns)
    return summary


def _without_encoder(
    videos: VideoList,
    request: EncoderRequest,
    folder: Path,
    sampling: Sampling,
    settings: ExtractSettings,
    resize: Callable[[int], int | None],
    precision: str,
) -> tuple[Summary | None, str, FeatureCache | None]:
    """Finish an extraction that has nothing to read; else return None, the precision to go on in, and the cache if there
    is one.

    Raises CacheBusy, CacheError, SourceChanged.
    """
    if not (folder / IDENTITY_FILE).exists():
        return None, precision, None
    program = f"vidclip {version('vidclip')}"
    with CacheWriter(folder, read_identity(folder), part=settings.part, created_by=program) as writer:
        cache = writer.stored
        stored = cache.precisions
        if precision == "auto" and stored:
            precision = stored[0]
        short_side = resize(request.image_size or _longer_side(cache.identity))
        identity = replace(cache.identity, sampling={**sampling.to_dict(), "resize": short_side})
        if (
            identity.digest != cache.identity.digest
            or (stored and precision not in stored)
            or not is_known_encoder(folder, cache.identity, request)
        ):
            return None, precision, cache
        plan = plan_extraction(videos, cache, settings)
        if plan.todo:
            return None, precision, cache
        copy_known_content(plan.known, plan.generations, cache, writer)
        plan.apply_list(cache)
        progress = Progress(listed=len(plan.videos), present=len(plan.videos))
        return summarize(plan, progress, cache), precision, cache


def _longer_side(identity: Identity) -> int:
    """Return the longer side of what the encoder of a cache sees; 0 where the cache does not say."""
    size = identity.encoder.get("preprocess", {}).get("size")
    known = isinstance(size, (list, tuple)) and all(isinstance(side, int) for side in size)
    return max(size, default=0) if known else 0
