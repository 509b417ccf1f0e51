"""Good videos, for the tests of decoding."""

import pytest

from numbered_videos import render


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """A folder of good videos, the same 60 frames in each."""
    folder = tmp_path_factory.mktemp("videos")
    render(folder / "h264.mp4")
    render(folder / "h264.mkv")
    render(folder / "open_gop.mp4", **{"x264-params": "open-gop=1:b-adapt=0:scenecut=0:keyint=12:bframes=3"})
    render(folder / "intra_refresh.mp4", **{"x264-params": "intra-refresh=1:bframes=0:keyint=24"})
    render(folder / "mpeg4.mp4", codec="mpeg4")
    render(folder / "mpeg4.avi", codec="mpeg4")
    render(folder / "h264.ts")
    render(folder / "vp9.webm", codec="libvpx-vp9", g="12")
    render(folder / "fragmented.mp4", muxer={"movflags": "frag_keyframe+empty_moov"})
    render(folder / "no_edit_list.mp4", muxer={"use_editlist": "0"})
    render(folder / "long.mp4", muxer={"movflags": "faststart"})
    return folder
