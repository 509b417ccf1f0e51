"""Video lists: which videos there are, what they are called, and their labels.

A list comes from a folder, from a list file, from videos named one by one (`read_videos`), or from the files
that a public data set is published with (`read_dataset`). Whatever cannot be right (a file that is missing, a
video listed twice, an unknown label) is reported here, with its row, before any video is opened.
"""

from .csv_lists import LABEL_SEPARATOR as LABEL_SEPARATOR
from .ids import file_id as file_id
from .ids import segment_of as segment_of
from .labels import check_labels as check_labels
from .official.registry import DATASETS as DATASETS
from .official.registry import Dataset as Dataset
from .official.registry import find_dataset as find_dataset
from .official.registry import read_dataset as read_dataset
from .sources import read_paths as read_paths
from .sources import read_rows as read_rows
from .sources import read_videos as read_videos
from .video_list import DatasetError as DatasetError
from .video_list import Video as Video
from .video_list import VideoList as VideoList
from .video_list import natural_key as natural_key
