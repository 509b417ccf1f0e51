"""Which videos a source lists, what they are called, and what is refused."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidclip.lexicons import Lexicon
from vidclip.pipeline.datasets import (
    DatasetError,
    Video,
    VideoList,
    check_labels,
    natural_key,
    read_paths,
    read_videos,
)


@pytest.fixture
def make(tmp_path):
    """Makes empty files below the temporary folder, which it returns."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return make


@pytest.fixture
def make_csv(make):
    """Writes list.csv beside empty files, and returns its path."""

    def make_csv(content, *names):
        path = make(*names) / "list.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make_csv


def told(videos):
    return [(video.id, video.labels, video.split) for video in videos]


def ids(videos):
    return [video.id for video in videos]


# --- folders


def test_a_folder_tree_gives_labels(make):
    root = make("run/b.mp4", "run/a.avi", "air_drumming/c.mkv")
    videos = read_videos(root)
    assert told(videos) == [
        ("air_drumming/c.mkv", ("air_drumming",), ""),
        ("run/a.avi", ("run",), ""),
        ("run/b.mp4", ("run",), ""),
    ]
    assert [video.path for video in videos] == [root / video.id for video in videos]
    assert videos.labels == ("air_drumming", "run")


def test_a_flat_folder_gives_no_labels(make):
    assert told(read_videos(make("b.mp4", "a.webm"))) == [("a.webm", (), ""), ("b.mp4", (), "")]


def test_videos_beside_the_label_folders_have_no_label(make):
    assert told(read_videos(make("a.mp4", "run/b.mp4"))) == [("a.mp4", (), ""), ("run/b.mp4", ("run",), "")]


def test_first_folder_of_a_deeper_tree_is_the_label(make):
    assert told(read_videos(make("run/group1/x/a.mp4"))) == [("run/group1/x/a.mp4", ("run",), "")]


def test_folders_named_like_splits_are_splits_when_alone(make):
    root = make("train/run/a.mp4", "Val/run/b.mp4", "test/c.mp4")
    assert told(read_videos(root)) == [
        ("Val/run/b.mp4", ("run",), "Val"),
        ("test/c.mp4", (), "test"),
        ("train/run/a.mp4", ("run",), "train"),
    ]
    assert {video.split for video in read_videos(root)} == {"Val", "test", "train"}


@pytest.mark.parametrize("other", ["jump/b.mp4", "b.mp4"])
def test_a_class_called_test_is_a_class_beside_others(make, other):
    assert ("test/run/a.mp4", ("test",), "") in told(read_videos(make("test/run/a.mp4", other)))


def test_an_empty_or_videoless_folder_does_not_turn_splits_into_labels(make):
    root = make("train/run/a.mp4", "lists/notes.txt")
    (root / "empty").mkdir()
    assert told(read_videos(root)) == [("train/run/a.mp4", ("run",), "train")]


def test_other_and_hidden_files_are_left_out_and_counted(make):
    root = make(
        "a.MP4",
        "run/b.MoV",
        "readme.txt",
        "run/x.srt",
        "nosuffix",
        ".hidden.mp4",
        "run/._b.MoV",
        ".git/c.mp4",
    )
    videos = read_videos(root)
    assert ids(videos) == ["a.MP4", "run/b.MoV"]
    assert videos.n_other_files == 5
    assert read_videos(root / "run").n_other_files == 2


def test_ids_begin_at_the_root_and_labels_at_the_source(make):
    root = make("set/run/a.mp4")
    assert told(read_videos(root / "set", root=root)) == [("set/run/a.mp4", ("run",), "")]
    with pytest.raises(DatasetError, match=r"set is not below the root .*run: give a root that holds it"):
        read_videos(root / "set", root=root / "set/run")


def test_a_relative_source_gives_the_same_list_with_whole_paths(make, monkeypatch):
    root = make("set/run/a.mp4")
    monkeypatch.chdir(root)
    videos = read_videos("set/../set/")
    assert (videos[0].id, videos[0].path) == ("run/a.mp4", root / "set/run/a.mp4")


def test_keeps_names_with_unusual_characters(make):
    names = ["[b]x[/b].mp4", "a b/c,d.mp4", "側転/é.mp4", "#1/'.mp4", "new\nline.mp4"]
    assert sorted(ids(read_videos(make(*names)))) == sorted(names)


def test_links_are_followed_but_not_in_circles(make, tmp_path):
    root = make("set/run/a.mp4", "elsewhere/b.mp4") / "set"
    (root / "jump").symlink_to(tmp_path / "elsewhere")
    (root / "run/again").symlink_to(root)
    (root / "run/up").symlink_to("..")
    (root / "run/self").symlink_to("self")
    (root / "run/file.mp4").symlink_to(tmp_path / "elsewhere/b.mp4")
    assert ids(read_videos(root)) == ["jump/b.mp4", "run/a.mp4", "run/file.mp4"]


@pytest.mark.parametrize("target", ["gone.mp4", "lost.mp4"])
def test_a_link_to_nothing_is_a_missing_video(make, target):
    root = make("run/a.mp4")
    (root / "run/lost.mp4").symlink_to(target)
    with pytest.raises(DatasetError, match=r"1 listed video cannot be found: .*run/lost.mp4\. Correct"):
        read_videos(root)
    videos = read_videos(root, allow_missing=True)
    assert (ids(videos), ids(videos.missing)) == (["run/a.mp4"], ["run/lost.mp4"])


def test_a_pipe_is_no_video(make):
    root = make("a.mp4")
    os.mkfifo(root / "b.mp4")
    videos = read_videos(root)
    assert (ids(videos), videos.n_other_files) == (["a.mp4"], 1)


def test_rejects_a_folder_without_videos(make):
    with pytest.raises(
        DatasetError, match=r"no video below .*\(3 other files: .txt, no suffix\)\. Videos are.*\.mp4"
    ):
        read_videos(make("a.txt", "run/b.txt", "run/c"))


def test_rejects_an_empty_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"There is no video below [^(]*\. Videos are files"):
        read_videos(tmp_path)


def test_rejects_an_unreadable_folder(make, monkeypatch):
    root = make("run/a.mp4", "jump/b.mp4")
    scandir = os.scandir

    def refuse(path):  # permissions do not stop a superuser
        if str(path).rstrip("/").endswith("jump"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DatasetError, match=r"The folder .*jump/? cannot be read: Permission denied"):
        read_videos(root)


def test_rejects_names_that_are_not_utf8(tmp_path):
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.mp4")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DatasetError, match=r"not valid UTF-8: 'a.udcff.mp4'\. Rename"):
        read_videos(tmp_path)


# --- order


@given(st.lists(st.integers(0, 10**12), unique=True), st.sampled_from(["", "clip", "a/b"]))
def test_numbers_are_ordered_by_value(numbers, prefix):
    names = [f"{prefix}{number}.mp4" for number in numbers]
    assert sorted(names, key=natural_key) == [f"{prefix}{number}.mp4" for number in sorted(numbers)]


@given(st.lists(st.text("a0129/ _", min_size=1), unique=True), st.randoms())
def test_the_order_is_total(names, random):
    shuffled = random.sample(names, len(names))
    assert sorted(names, key=natural_key) == sorted(shuffled, key=natural_key)


def test_folders_stay_together():
    names = ["a/x10", "a/x9", "a b/x", "a-b/x", "a2/x", "a10/x", "a02/x"]
    assert sorted(names, key=natural_key) == ["a/x9", "a/x10", "a b/x", "a-b/x", "a02/x", "a2/x", "a10/x"]


def test_a_csv_and_a_folder_give_the_same_list(make_csv):
    path = make_csv(
        "path,label\nrun/10.mp4,run\nrun/9.mp4,run\njump/1.mp4,jump\n",
        "run/9.mp4",
        "run/10.mp4",
        "jump/1.mp4",
    )
    assert told(read_videos(path)) == told(read_videos(path.parent))
    assert ids(read_videos(path)) == ["jump/1.mp4", "run/9.mp4", "run/10.mp4"]


# --- CSV files


def test_a_csv_gives_labels_and_splits(make_csv):
    path = make_csv(
        'split,id,path,label\ntest,7,b.mp4,"Putting something, something"\ntrain,8,x/a.dat,\n',
        "b.mp4",
        "x/a.dat",
    )
    videos = read_videos(path)
    assert told(videos) == [("b.mp4", ("Putting something, something",), "test"), ("x/a.dat", (), "train")]
    assert [video.origin for video in videos] == [f"{path}, row 2", f"{path}, row 3"]
    assert videos[1].path == path.parent / "x/a.dat"


@pytest.mark.parametrize(
    "content",
    [
        "path\na.mp4\n",
        "\ufeffpath\r\na.mp4\r\n",
        "Path, Label \n a.mp4 \n",
        '"path"\n"a.mp4"',
        "path\ra.mp4\r",
        "path,label,split\na.mp4\n\n,,\n",
    ],
)  # fmt: skip
def test_csv_variants_give_the_same_list(make_csv, content):
    assert told(read_videos(make_csv(content, "a.mp4"))) == [("a.mp4", (), "")]


def test_rows_are_numbered_as_a_spreadsheet_does(make_csv):
    path = make_csv('path,label\na.mp4,"two\nlines"\n\nb.mp4,x\n', "a.mp4", "b.mp4")
    assert [video.origin for video in read_videos(path)] == [f"{path}, row 2", f"{path}, row 4"]


def test_unusual_line_separators_are_part_of_a_label(make_csv):
    assert read_videos(make_csv("path,label\na.mp4,x\u2028y\x0bz\n", "a.mp4"))[0].labels == ("x\u2028y\x0bz",)


def test_paths_are_relative_to_the_csv_or_the_root_and_may_be_absolute(make_csv, make):
    root = make("run/a.mp4", "videos/b.mp4", "other/c.mp4")
    path = make_csv(f"path\n./run//a.mp4\nrun/../videos/b.mp4\n{root}/other/c.mp4\n")
    assert ids(read_videos(path)) == ["other/c.mp4", "run/a.mp4", "videos/b.mp4"]

    path.write_text(f"path\nb.mp4\n../run/a.mp4\n{root}/other/c.mp4\n")
    videos = read_videos(path, root=root / "videos")
    assert sorted(ids(videos)) == sorted(["b.mp4", "../run/a.mp4", f"{root}/other/c.mp4"])
    assert all(video.path.is_file() for video in videos)


def test_paths_through_links_resolve_as_the_system_does(make_csv, tmp_path):
    """`link/../a.mp4` is beside what the link leads to: it is checked, read and called so."""
    path = make_csv("path\na.mp4\nlink/../a.mp4\nsub/../b.mp4\n", "a.mp4", "b.mp4", "sub/c.mp4")
    inside = tmp_path / "elsewhere/inside"
    inside.mkdir(parents=True)
    (path.parent / "link").symlink_to(inside)
    with pytest.raises(DatasetError, match="1 listed video cannot be found"):
        read_videos(path)
    (inside.parent / "a.mp4").write_bytes(b"another")
    videos = {video.id: video for video in read_videos(path)}
    assert set(videos) == {"a.mp4", "b.mp4", "elsewhere/a.mp4"}
    for id, video in videos.items():
        assert video.path.samefile(path.parent / id)
    (inside.parent / "d.mp4").touch()
    assert ids(read_videos(path.parent / "link/..")) == ["a.mp4", "d.mp4"]


def test_listing_a_video_twice_names_both_rows(make_csv):
    path = make_csv("path\na.mp4\nb.mp4\n./a.mp4\n", "a.mp4", "b.mp4")
    with pytest.raises(
        DatasetError, match=r"Videos listed twice: 'a.mp4' \(.*list.csv, row 2 and .*list.csv, row 4\)"
    ):
        read_videos(path)


def test_missing_files_are_named_together(make_csv):
    rows = "".join(f"m{i}.mp4\n" for i in range(7))
    path = make_csv(f"path\na.mp4\n{rows}", "a.mp4", "m7.mp4", *(f"b{i}.mp4" for i in range(9)))
    message = r"7 listed videos cannot be found: \S*m0.mp4 \(\S*list.csv, row 3\); .*m4.mp4 \([^;]*; and 2 more\. Correct"
    with pytest.raises(DatasetError, match=message):
        read_videos(path)
    videos = read_videos(path, allow_missing=True)
    assert ids(videos) == ["a.mp4"]
    assert ids(videos.missing) == [f"m{i}.mp4" for i in range(7)]


def test_many_files_in_one_folder_are_all_found(make_csv):
    names = [f"run/{i}.mp4" for i in range(20)]
    path = make_csv("path\n" + "\n".join(names), *names[:10], *names[11:])
    assert [video.id for video in read_videos(path, allow_missing=True).missing] == ["run/10.mp4"]


@pytest.mark.parametrize("n_others", [0, 20])
def test_a_folder_is_no_video_file(make_csv, n_others):
    others = [f"{i}.mp4" for i in range(n_others)]
    path = make_csv("\n".join(["path", "run", *others]), "run/a.mp4", *others)
    with pytest.raises(DatasetError, match=r"1 listed video cannot be found: .*/run \("):
        read_videos(path)


def test_rejects_a_list_whose_videos_are_all_missing(make_csv):
    with pytest.raises(DatasetError, match="None of the 2 listed videos can be found"):
        read_videos(make_csv("path\na.mp4\nb.mp4\n"), allow_missing=True)


def test_missing_paths_with_backslashes_get_a_hint(make_csv):
    with pytest.raises(DatasetError, match=r"Write / between folders, not \\"):
        read_videos(make_csv("path\nrun\\a.mp4\n", "run/a.mp4"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"list.csv is empty: write the header path,label,split"),
        ("\n,\n", r"list.csv is empty"),
        ("path,label\n", r"list.csv lists no video: below the header"),
        ("file,label\na.mp4,x\n", r"row 1 has no column 'path', only 'file', 'label'\. The first row must be"),
        ("a.mp4,x\nb.mp4,y\n", r"row 1 has no column 'path', only 'a.mp4', 'x'"),
        ("path;label\na.mp4;x\n", r"row 1 has no column 'path'.*cells seem to be separated by ';': use commas"),
        ("path,label,Label\na.mp4,x,y\n", r"row 1 has the column 'label' twice"),
        ("path,label\n\na.mp4,x\n ,y\n,z\n", r"list.csv has rows without a path: row 4; row 5\. Fill"),
        ("path,label\na.mp4,Putting x, y\n", r"has 2 columns, but rows with more cells: row 2 \(3 cells\).*quotation marks"),
        ('path,label\na.mp4,"x\nb.mp4,y\n', r"list.csv, row 2 is not CSV: unexpected end of data\. Check its quot"),
        (b"path\na.mp4\n\xe9.mp4\n", r"list.csv, row 3 is not UTF-8 text: save the file as UTF-8"),
        (b"path\na\0.mp4\n", r"list.csv, row 2 holds a zero byte"),
    ],
)  # fmt: skip
def test_rejects_wrong_csv_files_with_their_row(make_csv, content, message):
    with pytest.raises(DatasetError, match=message):
        read_videos(make_csv(content, "a.mp4"))


# --- files named one by one


def test_single_files_have_no_labels(make):
    root = make("run/a.mp4", "jump/b.strange")
    assert told(read_videos(root / "run/a.mp4")) == [("a.mp4", (), "")]
    videos = read_videos([root / "run/a.mp4", str(root / "jump/b.strange")])
    assert told(videos) == [("jump/b.strange", (), ""), ("run/a.mp4", (), "")]
    assert ids(read_videos(root / "run/a.mp4", root=root)) == ["run/a.mp4"]
    assert ids(read_videos([root / "run/a.mp4"], root=root / "jump")) == [f"{root}/run/a.mp4"]


def test_rejects_sources_that_are_not_videos(make):
    root = make("a.mp4", "list.txt", "list.csv", "run/b.mp4")
    (root / "gone.mp4").symlink_to("nowhere")
    (root / "endless.csv").symlink_to("/dev/zero")
    for sources, message in [
        ([], "No videos were named"),
        (root / "endless.csv", r"endless.csv cannot be read: it is a device"),
        (root / "no", r"There is no file or folder .*/no\."),
        ([root / "a.mp4", root / "no.mp4"], r"There is no file or folder .*/no\.mp4"),
        (root / "no.csv", r"no\.csv cannot be read: No such file"),
        (root / "list.txt", r"list.txt is not a video\. A list of videos is a \.csv file"),
        ([root / "a.mp4", root / "list.csv"], r"list.csv is empty"),
        ([root / "a.mp4", root / "list.txt"], r"list.txt is not a video\. A list of videos"),
        ([root / "a.mp4", root / "run/../a.mp4"], r"listed twice: 'a.mp4' \(.*a.mp4 and .*a.mp4\)"),
        (root / "gone.mp4", r"1 listed video cannot be found: .*gone.mp4"),
    ]:
        with pytest.raises(DatasetError, match=message):
            read_videos(sources)
    with pytest.raises(DatasetError, match=r"The root .*/none is not a folder"):
        read_videos(root / "a.mp4", root=root / "none")


# --- several folders and lists


def test_ids_of_several_folders_do_not_meet(make):
    root = make("one/x/1.mp4", "two/x/1.mp4", "two/2.mp4", "three/x/1.mp4", "three/clip.mp4")
    two = [("two/2.mp4", (), ""), ("two/x/1.mp4", ("x",), "")]
    one = [("one/x/1.mp4", ("x",), "")]
    assert told(read_videos([root / "two", root / "one"])) == one + two
    assert told(read_videos([root / "one", root / "two"])) == one + two
    more = read_videos([root / "two", root / "three/clip.mp4", root / "one", root / "one"])
    assert told(more) == [*one, ("three/clip.mp4", (), ""), *two], "no id depends on the others"
    assert [video.path for video in more] == [root / video.id for video in more]
    assert (
        told(read_videos([root / "one", root / "two"], root=root.parent))[0][0] == f"{root.name}/one/x/1.mp4"
    )


def test_folders_of_one_name_need_a_root(make):
    root = make("monday/v/1.mp4", "tuesday/v/1.mp4")
    days = [root / "monday/v", root / "tuesday/v"]
    with pytest.raises(DatasetError, match=f"have one name, .*where ids begin instead \\(--root {root}\\)"):
        read_videos(days)
    assert ids(read_videos(days, root=root)) == ["monday/v/1.mp4", "tuesday/v/1.mp4"], "as the message says"
    assert ids(read_paths(days)) == ["monday/v/1.mp4", "tuesday/v/1.mp4"], "of no part for what keeps no ids"


def test_a_folder_and_one_inside_it(make):
    root = make("v/run/b.mp4")
    message = r"Videos that two of the sources bring: .*b.mp4 \('run/b.mp4' and 'v/run/b.mp4'\)"
    with pytest.raises(DatasetError, match=message):
        read_videos([root / "v/run", root / "v"])


def test_lists_of_one_folder_are_one_list(make):
    root = make("v/1.mp4", "v/2.mp4", "w/1.mp4")
    (root / "train.csv").write_text("path,label,split\nv/1.mp4,a,train\n")
    (root / "test.csv").write_text("path,label,split\nv/2.mp4,a,test\nv/3.mp4,a,test\n")
    (root / "w/list.csv").write_text("path,label,start\nw/1.mp4,b,2\n")
    lists = [root / "train.csv", root / "test.csv"]
    with pytest.raises(DatasetError, match="1 listed video cannot be found"):
        read_videos(lists)
    both = read_videos(lists, allow_missing=True)
    assert told(both) == [("v/1.mp4", ("a",), "train"), ("v/2.mp4", ("a",), "test")]
    assert [video.id for video in both.missing] == ["v/3.mp4"]
    assert both.source == read_videos(lists[::-1], allow_missing=True).source, "whose missing videos they are"
    three = read_videos([*lists, root / "w/list.csv"], root=root, allow_missing=True)
    assert told(three)[-1] == ("w/1.mp4#t=2", ("b",), "")
    (root / "test.csv").write_text("path,label\nv/1.mp4,b\n")
    with pytest.raises(
        DatasetError, match=r"listed twice: 'v/1.mp4' \(.*train.csv, row 2 and .*test.csv, row 2\)"
    ):
        read_videos(lists)


def test_folders_called_like_splits_are_splits(make):
    root = make("train/run/a.mp4", "test/run/b.mp4", "more/run/c.mp4")
    folders = [root / "train", root / "test"]
    whole = [row for row in told(read_videos(root, root=root)) if not row[0].startswith("more")]
    assert told(read_videos(folders)) == [
        ("test/run/b.mp4", ("run",), "test"),
        ("train/run/a.mp4", ("run",), "train"),
    ]
    assert [id for id, _, _ in whole] == ["test/run/b.mp4", "train/run/a.mp4"], "the ids of the folder above"
    assert {split for _, _, split in told(read_videos([*folders, root / "more"]))} == {""}


def test_images_of_several_folders(make):
    root = make("a/cat/1.jpg", "b/cat/1.jpg")
    assert told(read_videos([root / "a", root / "b"], images=True)) == [
        ("a/cat/1.jpg", ("cat",), ""),
        ("b/cat/1.jpg", ("cat",), ""),
    ]


# --- folders of frames


def test_a_folder_of_images_is_one_video(make):
    root = make(
        "run/clip10/img_00001.jpg",
        "run/clip10/img_00002.JPG",
        "run/clip9/1.png",
        "run/clip9/flow.txt",
        "run/clip9/.hidden.jpg",
        "run/b.mp4",
    )
    videos = read_videos(root)
    assert told(videos) == [
        ("run/b.mp4", ("run",), ""),
        ("run/clip9", ("run",), ""),
        ("run/clip10", ("run",), ""),
    ]
    assert videos[2].path == root / "run/clip10"
    assert videos.n_other_files == 2


@pytest.mark.parametrize("beside", ["run/b.mp4", "run/more/b.mp4"])
def test_images_beside_videos_or_folders_are_other_files(make, beside):
    videos = read_videos(make("run/thumbnail.jpg", beside))
    assert (ids(videos), videos.n_other_files) == ([beside], 1)


def test_frame_folders_below_split_folders(make):
    assert told(read_videos(make("train/run/a/1.jpg", "val/run/b/1.jpg"))) == [
        ("train/run/a", ("run",), "train"),
        ("val/run/b", ("run",), "val"),
    ]


def test_a_folder_of_frames_may_be_named_by_itself(make):
    root = make("run/a/1.jpg", "run/b/1.jpg", "run/c.mp4")
    assert told(read_videos(root / "run/a")) == [("a", (), "")]
    assert told(read_videos(root / "run/a", root=root)) == [("run/a", (), "")]
    assert ids(read_videos([root / "run/a", root / "run/c.mp4"])) == ["a", "c.mp4"]


def test_a_csv_may_list_folders_of_frames(make_csv):
    names = [f"frames/{i}" for i in range(7)]
    rows = ["path", "frames/none", *names, "frames/8", "other"]
    files = [*(f"{name}/1.jpg" for name in names), "frames/none/a.txt", "other/a.txt"]
    videos = read_videos(make_csv("\n".join(rows), *files), allow_missing=True)
    assert (ids(videos), ids(videos.missing)) == (names, ["frames/8", "frames/none", "other"])


# --- images


def test_images_are_videos_where_they_are_asked_for(make):
    root = make("cat/2.JPG", "cat/10.png", "dog/a/1.webp", "0.bmp", "dog/b.mp4", "dog/.x.png", "notes.txt")
    videos = read_videos(root, images=True)
    assert told(videos) == [
        ("0.bmp", (), ""),
        ("cat/2.JPG", ("cat",), ""),
        ("cat/10.png", ("cat",), ""),
        ("dog/a/1.webp", ("dog",), ""),
    ]
    assert videos.n_other_files == 3, "the video, the hidden image and the notes"


def test_a_folder_of_images_is_one_video_or_several(make):
    root = make("run/1.jpg", "run/2.jpg")
    assert ids(read_videos(root)) == ["run"]
    assert told(read_videos(root, images=True)) == [("run/1.jpg", ("run",), ""), ("run/2.jpg", ("run",), "")]
    assert told(read_videos(root / "run")) == [("run", (), "")]
    assert told(read_videos(root / "run", images=True)) == [("1.jpg", (), ""), ("2.jpg", (), "")]


def test_images_below_split_folders(make):
    root = make("train/cat/1.jpg", "val/cat/1.jpg")
    assert told(read_videos(root, images=True)) == [
        ("train/cat/1.jpg", ("cat",), "train"),
        ("val/cat/1.jpg", ("cat",), "val"),
    ]


def test_named_and_listed_images_are_videos(make_csv, tmp_path):
    path = make_csv("path,label\na/1.jpg,cat\na/2.png,dog\n", "a/1.jpg", "a/2.png")
    assert told(read_videos(path)) == [("a/1.jpg", ("cat",), ""), ("a/2.png", ("dog",), "")]
    assert ids(read_videos([tmp_path / "a/1.jpg", tmp_path / "a/2.png"])) == ["1.jpg", "2.png"]
    (tmp_path / "list.txt").write_text("a/1.jpg 1\na/2.png 0\n")
    lexicon = Lexicon("animals", ("cat", "dog"), ("cat", "dog"))
    assert [video.labels for video in read_videos(tmp_path / "list.txt", lexicon=lexicon)] == [
        ("dog",),
        ("cat",),
    ]


def test_images_are_looked_for_in_folders(make_csv, tmp_path):
    path = make_csv("path,label\n1.jpg,cat\n", "1.jpg", "b/c.mp4")
    for source in (path, tmp_path / "1.jpg", [tmp_path, tmp_path / "1.jpg"], tmp_path / "none"):
        with pytest.raises(DatasetError, match="Images are looked for in folders, and .* is none: "):
            read_videos(source, images=True)
    with pytest.raises(DatasetError, match=r"no image below .*b \(1 other file: \.mp4\).* \.bmp, \.jpeg"):
        read_videos(tmp_path / "b", images=True)


# --- segments and several labels


def test_a_row_may_be_a_segment(make_csv):
    path = make_csv(
        "path,label,start,end\na.mp4,run,1.5,20\na.mp4,jump,20,\na.mp4,walk,,1e0\na.mp4,all,,\n", "a.mp4"
    )
    videos = read_videos(path)
    assert [(video.id, video.labels[0], video.start_seconds, video.end_seconds) for video in videos] == [
        ("a.mp4", "all", None, None),
        ("a.mp4#t=,1", "walk", None, 1.0),
        ("a.mp4#t=1.5,20", "run", 1.5, 20.0),
        ("a.mp4#t=20", "jump", 20.0, None),
    ]
    assert {video.path for video in videos} == {path.parent / "a.mp4"}


def test_rejects_a_segment_listed_twice(make_csv):
    path = make_csv("path,start,end\na.mp4,1,2\na.mp4,1.0,2.00\n", "a.mp4")
    with pytest.raises(DatasetError, match=r"listed twice: 'a\.mp4#t=1,2' \(.*row 2 and .*row 3\)"):
        read_videos(path)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2", "1", "has a segment from 2 to 1 seconds: its end must be later"),
        ("2", "2", "has a segment from 2 to 2 seconds: its end must be later"),
        ("", "0", "has a segment from 0 to 0 seconds: its end must be later"),
        ("-1", "2", "has the start '-1': write seconds"),
        ("1", "inf", "has the end 'inf': write seconds"),
        ("nan", "", "has the start 'nan': write seconds"),
        ("1_0", "", "has the start '1_0': write seconds"),
        ("00:10", "", "has the start '00:10': write seconds"),
    ],
)
def test_rejects_wrong_segments(make_csv, start, end, message):
    path = make_csv(f"path,start,end\na.mp4,,\na.mp4,{start},{end}\n", "a.mp4")
    with pytest.raises(DatasetError, match=rf"list\.csv, row 3 {re.escape(message)}"):
        read_videos(path)


def test_a_row_may_have_several_labels(make_csv):
    path = make_csv('path,labels\na.mp4,"run; wave a hand;run;"\nb.mp4,\n', "a.mp4", "b.mp4")
    assert [video.labels for video in read_videos(path)] == [("run", "wave a hand"), ()]
    # The twin: in the column `label` a semicolon is part of the name.
    path.write_text("path,label\na.mp4,run;jump\n")
    assert read_videos(path)[0].labels == ("run;jump",)
    path.write_text("path,label,labels\na.mp4,run,jump\n")
    with pytest.raises(
        DatasetError, match="row 1 has a column 'label' and a column 'labels': keep label where"
    ):
        read_videos(path)


# --- lists of the BIKE, Text4Vis and X-CLIP repositories

CLASSES = Lexicon("own", ("brush hair", "run", "wave"), ("brush_hair", "run", "wave"))


@pytest.fixture
def make_list(make):
    """Writes list.txt beside empty files, and returns its path."""

    def make_list(content, *names):
        path = make(*names) / "list.txt"
        path.write_text(content)
        return path

    return make_list


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("run/b.mp4 1\nbrush_hair/a.avi 0\n", ["brush_hair/a.avi", "run/b.mp4"]),
        ("run/b 130 1\nbrush_hair/a 20 0\n", ["brush_hair/a/img_00001.jpg", "run/b/img_00001.jpg"]),
        ("run/b 130 1\r\n\r\nbrush_hair/a\t20\t0", ["brush_hair/a.avi", "run/b.mp4"]),
        ("brush hair/v 1 7 20 0\nbrush hair/w 3 2 0\n", ["brush hair/v 1 7.avi", "brush hair/w 3/1.jpg"]),
        ("brush hair/v 1.avi 0\nbrush hair/w 3.avi 0\n", ["brush hair/v 1.avi", "brush hair/w 3.avi"]),
    ],
)
def test_reads_lists_of_repositories(make_list, content, names):
    path = make_list(content, *names)
    videos = read_videos(path, lexicon=CLASSES)
    expected = [name.rpartition("/")[0] if name.endswith(".jpg") else name for name in names]
    assert ids(videos) == expected
    assert [video.labels for video in videos] == [
        ("run",) if video.id.startswith("run") else ("brush_hair",) for video in videos
    ]
    assert videos[0].path == path.parent / expected[0]
    assert re.fullmatch(r".*/list\.txt, row [123]", videos[0].origin)


def test_numbers_count_the_classes_of_the_lexicon(make_list):
    path = make_list("a.mp4 2\nb.mp4 0\n", "a.mp4", "b.mp4")
    assert told(read_videos(path, lexicon=CLASSES)) == [
        ("a.mp4", ("wave",), ""),
        ("b.mp4", ("brush_hair",), ""),
    ]


def test_a_list_is_relative_to_its_folder_or_the_root(make_list, tmp_path):
    path = make_list("x/a 5 2\n../b.mp4 7 2\nx/gone 9 2\n", "videos/x/a.mkv", "b.mp4")
    videos = read_videos(path, root=tmp_path / "videos", lexicon=CLASSES, allow_missing=True)
    assert (ids(videos), ids(videos.missing)) == (["../b.mp4", "x/a.mkv"], ["x/gone"])
    with pytest.raises(
        DatasetError, match=r"2 listed videos cannot be found: .*/x/a \(.*list\.txt, row 1\);"
    ):
        read_videos(make_list("x/a 5 2\nb.mp4 2 2\nx/gone 9 2\n"), lexicon=CLASSES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"list\.txt is not a video\. A list of videos is a \.csv file .* or a \.txt file with lines `path label`"),
        ("a.mp4\nb.mp4\n", r"not a list of videos: row 1, 'a\.mp4'; row 2, 'b\.mp4', where such lists read `path label`"),
        ("a 5 1\nb 5 1\nc.mp4 1\n", r"row 3, 'c\.mp4 1', where other lines read `path frames label`"),
        ("a.mp4 1\nb.mp4 run\n", r"row 2, 'b\.mp4 run', where other lines read `path label`\. .*names of labels need a \.csv"),
        ("a.mp4 1\nb.mp4 -1\n", r"row 2, 'b\.mp4 -1', where"),
        ("a.mp4 1\nb.mp4 3\n", r"list\.txt, row 2 has the label 3, but the lexicon own has the classes 0 to 2"),
        ("a.mp4 99999999999999999999999\n", r"row 1 has the label 99999999999999999999, but"),
        ("run/a.avi 2\n", r"row 1 has the label 2, which is 'wave' in the lexicon own, for a video in the folder 'run', class 1: the labels count from 1"),
        ("a.mp4 1\na.mp4 1\n", r"listed twice: 'a\.mp4' \(.*row 1 and .*row 2\)"),
    ],
)  # fmt: skip
def test_rejects_wrong_repository_lists_with_their_row(make_list, content, message):
    with pytest.raises(DatasetError, match=message):
        read_videos(make_list(content, "a.mp4", "b.mp4"), lexicon=CLASSES)


def test_a_list_needs_a_lexicon(make_list):
    with pytest.raises(
        DatasetError, match=r"list\.txt gives labels as numbers: say with --lexicon which classes"
    ):
        read_videos(make_list("a.mp4 1\n", "a.mp4"))


# --- the list itself


def video(name, *labels, **facts):
    return Video(id=name, path=Path(name), labels=labels, **facts)


def test_slices_of_a_list_are_lists():
    videos = VideoList([video(str(i), f"class {i % 3}") for i in range(10)], n_other_files=4)
    shards = [videos[i::3] for i in range(3)]
    assert all(isinstance(shard, VideoList) and shard.n_other_files == 4 for shard in shards)
    assert sorted(ids(each for shard in shards for each in shard)) == ids(videos)
    assert (len(videos), videos[-1].id, videos[0] in videos) == (10, "9", True)
    assert repr(videos) == "VideoList(10 videos, 3 labels)"


def test_rejects_two_videos_of_one_id():
    with pytest.raises(DatasetError, match=r"'a' \(a and list.csv, row 3\)"):
        VideoList([video("a"), video("a", origin="list.csv, row 3")])


def test_labels_become_class_indices():
    lexicon = Lexicon("own", phrases=("brush hair", "run", "wave"), labels=("brush_hair", "run", "wave"))
    videos = [video("a", "wave"), video("b"), video("c", "Brush Hair", "run")]
    assert check_labels(videos, lexicon) == [(2,), (), (0, 1)]


def test_unknown_labels_are_named_with_row_count_and_closest():
    lexicon = Lexicon("own", phrases=("brush hair", "run"), labels=("brush hair", "run"))
    videos = [
        video("a", "run"),
        video("b", "brsh_hair", origin="list.csv, row 3"),
        video("c", "brsh_hair"),
        video("d", "?"),
    ]
    message = (
        "Labels that the lexicon own does not have: 'brsh_hair' (list.csv, row 3 and 1 more; closest: 'brush hair'); "
        "'?' (d). Correct them, or use the lexicon they come from."
    )
    with pytest.raises(DatasetError, match=f"^{re.escape(message)}$"):
        check_labels(videos, lexicon)


def test_many_unknown_labels_are_counted():
    with pytest.raises(DatasetError, match=r"'x0' \(0\);.*'x4' \(4\); and 3 more\. Correct"):
        check_labels([video(str(i), f"x{i}") for i in range(8)], Lexicon("own", ("run",), ("run",)))


def test_rejects_a_label_of_two_classes():
    lexicon = Lexicon("own", phrases=("push up", "pushup"), labels=("push up", "pushup"))
    with pytest.raises(
        DatasetError,
        match=r"fit several classes of the lexicon own: 'PushUp' \(a; may be: 'push up', 'pushup'\)",
    ):
        check_labels([video("a", "PushUp")], lexicon)
