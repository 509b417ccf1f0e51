"""Writing a cache in a form of other programs."""

from __future__ import annotations

from pathlib import Path

from ...cache import FeatureCache
from ...cache.files import whole_file
from ..choices import EXPORT_FEATURES, EXPORT_FORMS, check_choice
from .array_files import write_npz, write_safetensors
from .content import Content
from .errors import ExchangeError
from .table_files import check_pyarrow, write_csv, write_parquet
from .webdataset import write_webdataset

EXPORT_SUFFIXES = {
    ".npz": "npz",
    ".csv": "csv",
    ".parquet": "parquet",
    ".safetensors": "safetensors",
    ".tar": "webdataset",
}
"""End of a file's name -> its form."""
_WRITERS = {
    "npz": write_npz,
    "csv": write_csv,
    "parquet": write_parquet,
    "safetensors": write_safetensors,
    "webdataset": write_webdataset,
}


def export_features(cache: FeatureCache, path: str | Path, form: str, *, features: str = "frames") -> None:
    """Write the videos of a cache to a file, whole or not at all; a batch of them is in memory.

    form        npz, csv, parquet, safetensors or webdataset
    features    frames: as they are, [N, V, T, D] float16; mean: pooled over frames and views, [N, D] float32
    Raises ExchangeError for an empty cache and for what the form cannot hold, CacheError, OSError.
    """
    check_choice("form", form, EXPORT_FORMS)
    check_choice("features", features, EXPORT_FEATURES)
    if not len(cache):
        raise ExchangeError(f"{cache.folder} has no videos to export.")
    if form == "parquet":
        check_pyarrow()
    with whole_file(Path(path)) as (_, file):
        _WRITERS[form](Content(cache, features), file)
