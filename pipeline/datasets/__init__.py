"""Video lists: which videos there are, what they are called, and their labels.

A list comes from a folder, from a list file, from videos named one by one (`read_videos`), or from the files
that a public data set is published with (`read_dataset`). Whatever cannot be right (a file that is missing, a
video listed twice, an unknown label) is reported here, with its row, before any video is opened.
"""

from .folders import IMAGE_SUFFIXES, SPLIT_FOLDERS, VIDEO_SUFFIXES
from .ids import segment_of
from .labels import check_labels
from .official.registry import DATASETS, Dataset, find_dataset, read_dataset
from .sources import read_videos
from .video_list import DatasetError, Video, VideoList, natural_key

__all__ = [
    "DATASETS",
    "IMAGE_SUFFIXES",
    "SPLIT_FOLDERS",
    "VIDEO_SUFFIXES",
    "Dataset",
    "DatasetError",
    "Video",
    "VideoList",
    "check_labels",
    "find_dataset",
    "natural_key",
    "read_dataset",
    "read_videos",
    "segment_of",
]
