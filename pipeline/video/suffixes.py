"""Which names are those of videos and images."""

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
) | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
"""Ends of the names that count as videos when a folder is read, in any case. Files that are named one by
one, or in a CSV, are taken as videos whatever they are called."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
"""Ends of the names of images, in any case. A folder that holds images, and neither videos nor folders, is
one video: its images are the frames."""
