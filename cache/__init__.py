"""What is stored: CLIP features of videos and words, in HDF5. Knows h5py and numpy, but no model."""

from .attributes import StoredAttributes, attributes_path, read_attributes, write_attributes
from .errors import CacheBusy, CacheError, CacheMismatch
from .failures import Failure
from .features import FeatureCache
from .files import where_writable, write_whole
from .identity import Identity
from .labels import ListFacts, update_labels
from .layout import VideoInfo, VideoRecord
from .merge import Merged, merge
from .missing import MissingVideo, update_missing, write_missing
from .shards import Shard, shard_paths
from .texts import TextEmbeddings, TextFileInfo, list_texts, read_texts, text_path, write_texts
from .verify import Checked, verify
from .writer import CacheWriter

__all__ = [
    "CacheBusy",
    "CacheError",
    "CacheMismatch",
    "CacheWriter",
    "Checked",
    "Failure",
    "FeatureCache",
    "Identity",
    "ListFacts",
    "Merged",
    "MissingVideo",
    "Shard",
    "StoredAttributes",
    "TextEmbeddings",
    "TextFileInfo",
    "VideoInfo",
    "VideoRecord",
    "attributes_path",
    "list_texts",
    "merge",
    "read_attributes",
    "read_texts",
    "shard_paths",
    "text_path",
    "update_labels",
    "update_missing",
    "verify",
    "where_writable",
    "write_attributes",
    "write_missing",
    "write_texts",
    "write_whole",
]
