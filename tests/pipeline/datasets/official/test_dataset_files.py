"""Public data sets in miniature, each laid out as it is published: what is read, missing, and refused."""

import csv
import io
import json
import os
import re

import pytest
from click.testing import CliRunner

from vidclip.cli import main as program
from vidclip.lexicons import load_lexicon
from vidclip.pipeline.datasets import DATASETS, DatasetError, find_dataset, read_dataset


@pytest.fixture
def make(tmp_path):
    """Makes files below the temporary folder, empty or with a text, and returns that folder."""

    def make(*names, **texts):
        for name, text in {**dict.fromkeys(names, ""), **texts}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path

    return make


def told(videos):
    return [(video.id, video.labels, video.split) for video in videos]


def ids(videos):
    return [video.id for video in videos]


def refused(message, name, root, **options):
    """Asserts on the whole text of the error, but for the folders of its paths."""
    with pytest.raises(DatasetError) as raised:
        read_dataset(name, root, **options)
    text = re.sub(rf"{re.escape(str(root))}/([^\s,)']*/)?", "", str(raised.value))
    assert text.replace(str(root), "ROOT") == message, text


# --- UCF101

UCF = {
    "ucfTrainTestlist/classInd.txt": "1 ApplyEyeMakeup\r\n2 ApplyLipstick\r\n37 HandstandPushups\r\n",
    "ucfTrainTestlist/trainlist01.txt": (
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n"
        "HandstandPushups/v_HandStandPushups_g08_c02.avi 37\n"
        "ApplyLipstick/v_ApplyLipstick_g10_c01.avi 2\n"
    ),
    "ucfTrainTestlist/testlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\n",
    "ucfTrainTestlist/trainlist02.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1\n",
    "ucfTrainTestlist/testlist02.txt": (
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi\nHandstandPushups/v_HandStandPushups_g08_c02.avi\n"
    ),
}
UCF_VIDEOS = (
    "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
    "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
    "UCF-101/HandstandPushups/v_HandStandPushups_g08_c02.avi",
)


def test_ucf101_has_all_its_splits_in_one_list(make):
    videos = read_dataset("ucf101", make(*UCF_VIDEOS, **UCF))
    assert told(videos) == [
        (UCF_VIDEOS[0], ("ApplyEyeMakeup",), "test1 train2"),
        (UCF_VIDEOS[1], ("ApplyEyeMakeup",), "train1 test2"),
        (UCF_VIDEOS[2], ("HandstandPushups",), "train1 test2"),
    ]
    assert told(videos.missing) == [
        ("ApplyLipstick/v_ApplyLipstick_g10_c01.avi", ("ApplyLipstick",), "train1")
    ]
    assert videos.missing[0].origin.endswith("ucfTrainTestlist/trainlist01.txt, row 3")
    assert all(video.path.is_file() for video in videos)


@pytest.mark.parametrize("split", [1, "1", " 1"])
def test_ucf101_gives_one_split(make, split):
    videos = read_dataset("UCF-101", make(*UCF_VIDEOS, **UCF), split=split)
    assert [(video.id[-11:], video.split) for video in videos] == [
        ("g01_c01.avi", "test"),
        ("g08_c01.avi", "train"),
        ("g08_c02.avi", "train"),
    ]


def test_ucf101_labels_follow_the_order_of_its_classes(make):
    lexicon = load_lexicon("ucf101")
    lines = "".join(f"{number} {label}\n" for number, label in enumerate(lexicon.labels, start=1))
    root = make(*UCF_VIDEOS, **{**UCF, "ucfTrainTestlist/classInd.txt": lines})
    assert [lexicon.index(video.labels[0]) for video in read_dataset("ucf101", root)] == [0, 0, 36]
    # The twin: a list in another order is not taken.
    make(**{"ucfTrainTestlist/classInd.txt": "1 ApplyLipstick\n2 ApplyEyeMakeup\n37 HandstandPushups\n"})
    refused(
        "classInd.txt, row 1 has the class 'ApplyLipstick' in place 0 (from 0), where the official list, the "
        "lexicon ucf101, has it in place 1: use the file as published.",
        "ucf101",
        root,
    )


def test_ucf101_finds_frame_folders_and_corrected_names(make):
    root = make(
        "frames/v_ApplyEyeMakeup_g01_c01/img_00001.jpg",
        "frames/v_HandstandPushups_g08_c02/img_00001.jpg",
        **UCF,
    )
    assert ids(read_dataset("ucf101", root)) == [
        "frames/v_ApplyEyeMakeup_g01_c01",
        "frames/v_HandstandPushups_g08_c02",
    ]


def test_the_annotations_may_be_elsewhere(make, tmp_path):
    make(*UCF_VIDEOS, **{name.replace("ucfTrainTestlist", "elsewhere"): text for name, text in UCF.items()})
    root = tmp_path / "UCF-101"
    assert len(read_dataset("ucf101", root, annotations=tmp_path / "elsewhere")) == 3
    refused(
        "ROOT holds no classInd.txt; looked in ROOT. Download UCF101TrainTestSplits-RecognitionTask.zip from "
        "www.crcv.ucf.edu/data/UCF101.php, and put them there or say with --annotations where they are.",
        "ucf101",
        root,
    )
    file = tmp_path / "elsewhere/classInd.txt"
    refused(
        f"The annotations {file} are a file: give the folder of classInd.txt.",
        "ucf101",
        root,
        annotations=file,
    )
    file = tmp_path / "nowhere"
    refused(f"The annotations {file} are neither a folder nor a file.", "ucf101", root, annotations=file)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classInd.txt", "1 ApplyEyeMakeup\nApplyLipstick\n", "classInd.txt, row 2 is 'ApplyLipstick' instead of a number and a class: use the file as published."),
        ("classInd.txt", "1 ApplyEyeMakeup\n2 ApplyLipstik\n", "classInd.txt, row 2 names the class 'ApplyLipstik', which the lexicon ucf101 does not have (closest: 'ApplyLipstick'): is this the file of another data set?"),
        ("testlist01.txt", "v_ApplyEyeMakeup_g01_c01.avi\n", "testlist01.txt, row 1 is 'v_ApplyEyeMakeup_g01_c01.avi' instead of CLASS/VIDEO.avi: use the file as published."),
        ("testlist01.txt", "\nArchery/v_Archery_g01_c01.avi\n", "testlist01.txt, row 2 has a video of the class 'Archery', which classInd.txt does not name: use the files as published."),
        ("trainlist01.txt", "ApplyLipstick/v_ApplyLipstick_g10_c01.avi 1\n", "trainlist01.txt, row 1 gives the number 1 to the class 'ApplyLipstick', which has 2 in classInd.txt: use the files as published."),
        ("trainlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\n", "trainlist01.txt, row 1 has the video 'ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi' a second time in split 1 (first: testlist01.txt, row 1): use the lists as published."),
    ],
)  # fmt: skip
def test_rejects_wrong_files_of_ucf101(make, file, text, message):
    refused(message, "ucf101", make(*UCF_VIDEOS, **{**UCF, f"ucfTrainTestlist/{file}": text}))


def test_rejects_unknown_splits(make):
    root = make(*UCF_VIDEOS, **UCF)
    refused("ucf101 has the splits 1, 2, 3, not 7.", "ucf101", root, split=7)
    refused("ucf101 has the splits 1, 2, 3, not 'test'.", "ucf101", root, split="test")
    refused(
        "The lists of ucf101 that are there name no video of the split 3, only of test1, test2, train1, train2: add "
        "the list of that split.",
        "ucf101",
        root,
        split=3,
    )


# --- HMDB51

HMDB = {
    "testTrainMulti_7030_splits/brush_hair_test_split1.txt": (
        "Goalkeeper_Training_Day_#_2_[x]_brush_hair_u_nm_np1_ba_goo_0.avi 1 \n"
        "b_brush_hair_u_nm_np1_ba_goo_1.avi 2 \n"
        "c_brush_hair_u_nm_np1_ba_goo_2.avi 0 \n"
    ),
    "testTrainMulti_7030_splits/brush_hair_test_split2.txt": (
        "Goalkeeper_Training_Day_#_2_[x]_brush_hair_u_nm_np1_ba_goo_0.avi 2\n"
        "b_brush_hair_u_nm_np1_ba_goo_1.avi 0\n"
        "c_brush_hair_u_nm_np1_ba_goo_2.avi 0\n"
    ),
    "testTrainMulti_7030_splits/sword_test_split1.txt": "b_brush_hair_u_nm_np1_ba_goo_1.avi 1\n",
}
HMDB_VIDEOS = (
    "hmdb51_org/brush_hair/b_brush_hair_u_nm_np1_ba_goo_1.avi",
    "hmdb51_org/brush_hair/c_brush_hair_u_nm_np1_ba_goo_2.avi",
    "hmdb51_org/brush_hair/Goalkeeper_Training_Day_#_2_[x]_brush_hair_u_nm_np1_ba_goo_0.avi",
    "hmdb51_org/sword/b_brush_hair_u_nm_np1_ba_goo_1.avi",
)


def test_hmdb51_has_all_its_splits_in_one_list(make):
    videos = read_dataset("hmdb51", make(*HMDB_VIDEOS, **HMDB))
    # Capital letters come first. One name is in two classes: each class has its own.
    assert told(videos) == [
        (HMDB_VIDEOS[2], ("brush_hair",), "train1 test2"),
        (HMDB_VIDEOS[0], ("brush_hair",), "test1"),
        (HMDB_VIDEOS[1], ("brush_hair",), ""),
        (HMDB_VIDEOS[3], ("sword",), "train1"),
    ]
    assert [load_lexicon("hmdb51").index(label) for label in videos.labels] == [0, 44]
    assert videos.notes == ()


def test_one_split_of_hmdb51_leaves_out_what_is_in_neither_part(make):
    root = make(*HMDB_VIDEOS, **HMDB)
    assert [video.split for video in read_dataset("hmdb51", root, split=1)] == ["train", "test", "train"]
    assert ids(read_dataset("hmdb51", root, split=2)) == [HMDB_VIDEOS[2]]
    assert [video.split for video in read_dataset("hmdb51", root, split=2)] == ["test"]


@pytest.mark.parametrize("line", ["a.avi", "a.avi 3", "a.avi 1 x", "1", "../../a.avi 1"])
def test_rejects_wrong_rows_of_hmdb51(make, line):
    root = make(
        *HMDB_VIDEOS, **{**HMDB, "testTrainMulti_7030_splits/sword_test_split1.txt": f"b.avi 1\n{line}\n"}
    )
    with pytest.raises(DatasetError) as raised:
        read_dataset("hmdb51", root)
    assert str(raised.value).endswith(
        f"sword_test_split1.txt, row 2 is {line!r} instead of a video and 0, 1 or 2: use the file as published."
    )


def test_rejects_unknown_classes_of_hmdb51(make):
    root = make(
        *HMDB_VIDEOS, **HMDB, **{"testTrainMulti_7030_splits/swrd_test_split1.txt": "a.avi 1\nb.avi 2\n"}
    )
    refused(
        "Labels that the lexicon hmdb51 does not have: 'swrd' (swrd_test_split1.txt, row 1 and 1 more; closest: "
        "'sword', 'draw_sword'). Correct them, or use the lexicon they come from.",
        "hmdb51",
        root,
    )


# --- Kinetics

KINETICS = {
    "annotations/val.csv": (
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        "abseiling,0wR5jVB-WPk,417,427,val,0\n"
        "massaging person's head,--a_B1,0,10,validate,1\n"
        "air drumming,_gone,3,13,val,0\n"
    ),
    "annotations/train.csv": (
        'label,youtube_id,time_start,time_end,split\n"air drumming",abc,7,17,train\nabseiling,ABC,8,18,train\n'
    ),
    "annotations/test.csv": "youtube_id,time_start,time_end,split\nxyz,1,11,test\n",
}


def test_kinetics_in_the_layout_of_its_downloaders(make):
    root = make(
        "val/0wR5jVB-WPk_000417_000427.mp4",
        "val/--a_B1_000000_000010.webm",
        "train/air_drumming/abc_000007_000017.mp4",
        "test/xyz_000001_000011.mp4.part",
        "train/abseiling/notes.txt",
        **KINETICS,
    )
    videos = read_dataset("k400", root)
    assert told(videos) == [
        ("train/air_drumming/abc_000007_000017.mp4", ("air drumming",), "train"),
        ("val/--a_B1_000000_000010.webm", ("massaging person's head",), "val"),
        ("val/0wR5jVB-WPk_000417_000427.mp4", ("abseiling",), "val"),
    ]
    assert told(videos.missing) == [
        ("ABC_000008_000018.mp4", ("abseiling",), "train"),
        ("_gone_000003_000013.mp4", ("air drumming",), "val"),
        ("xyz_000001_000011.mp4", (), "test"),
    ]
    assert [(video.start_seconds, video.end_seconds) for video in videos] == [(None, None)] * 3
    assert videos.missing[1].origin.endswith("annotations/val.csv, row 4")
    assert videos.notes == ()
    assert [video.split for video in read_dataset("k400", root, split="validation")] == ["val", "val"]
    assert ids(read_dataset("k400", root, split="val").missing) == ["_gone_000003_000013.mp4"]


def test_whole_videos_of_kinetics_are_sampled_inside_their_segment(make):
    root = make("videos/0wR5jVB-WPk.mkv", "videos/abc.mp4", "videos/--a_B1_000000_000010.mp4", **KINETICS)
    videos = read_dataset("kinetics400", root)
    assert [(video.id, video.start_seconds, video.end_seconds) for video in videos] == [
        ("videos/--a_B1_000000_000010.mp4", None, None),
        ("videos/0wR5jVB-WPk.mkv#t=417,427", 417.0, 427.0),
        ("videos/abc.mp4#t=7,17", 7.0, 17.0),
    ]
    assert videos[1].path == root / "videos/0wR5jVB-WPk.mkv"
    assert videos.notes == (
        "2 files named without the times of the clip: taken as whole videos, of which the listed seconds are sampled.",
    )
    clips = read_dataset("kinetics400", root, segments=False)
    assert ids(clips)[1:] == ["videos/0wR5jVB-WPk.mkv", "videos/abc.mp4"]
    assert clips[1].start_seconds is None


def test_frames_of_kinetics_have_no_times(make):
    root = make("f/abc_000007_000017/img_00001.jpg", "f/0wR5jVB-WPk/img_00001.jpg", **KINETICS)
    videos = read_dataset("kinetics400", root)
    assert ids(videos) == ["f/0wR5jVB-WPk", "f/abc_000007_000017"]
    assert [video.end_seconds for video in videos] == [None, None]


def test_kinetics_reads_the_lists_of_its_own_size(make):
    row = "label,youtube_id,time_start,time_end,split\n{},{},0,10,{}\n"
    root = make(
        "a_000000_000010.mp4",
        "b_000000_000010.mp4",
        **{
            "kinetics-400_val.csv": row.format("abseiling", "a", "val"),
            "kinetics_600_val.csv": row.format("acting in play", "b", "validate"),
            "kinetics_600_holdout_test.csv": "youtube_id\n",
            "kinetics700_2020_val.csv": row.format("arresting", "b", "validate"),
        },
    )
    assert told(read_dataset("kinetics400", root)) == [("a_000000_000010.mp4", ("abseiling",), "val")]
    assert told(read_dataset("kinetics600", root)) == [("b_000000_000010.mp4", ("acting in play",), "val")]
    assert told(read_dataset("kinetics700", root)) == [("b_000000_000010.mp4", ("arresting",), "val")]
    own = make(**{"mine.csv": row.format("abseiling", "b", "test")}) / "mine.csv"
    assert told(read_dataset("k400", root, annotations=own)) == [
        ("b_000000_000010.mp4", ("abseiling",), "test")
    ]


@pytest.mark.parametrize("name", ["kinetics400", "kinetics600", "kinetics700"])
def test_every_class_of_kinetics_is_found_under_its_published_name(make, name):
    lexicon = load_lexicon(name)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["label", "youtube_id", "time_start", "time_end", "split"])
    writer.writerows([label, f"v{i:03}", 0, 10, "val"] for i, label in enumerate(lexicon.labels))
    root = make(*(f"v{i:03}_000000_000010.mp4" for i in range(len(lexicon))), **{"val.csv": text.getvalue()})
    assert [lexicon.index(video.labels[0]) for video in read_dataset(name, root)] == list(range(len(lexicon)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "val.csv is empty: its first row must name the columns youtube_id, time_start, time_end."),
        ("label,youtube_id,time_start,split\n", "val.csv, row 1 has no column 'time_end', only 'label', 'youtube_id', 'time_start', 'split'. The first row must name the columns youtube_id, time_start, time_end, as published."),
        ("a.mp4 0\n", "val.csv, row 1 has no column 'youtube_id', only 'a.mp4 0'. The first row must name the columns youtube_id, time_start, time_end, as published."),
        ("label,youtube_id,time_start,time_end\nabseiling,a,1\n", "val.csv, row 2 has 3 cells where the header names 4: put quotation marks around values that hold a comma, or download the file again."),
        ("label,youtube_id,time_start,time_end\nabseiling,a,1,11\n\nabseiling, ,1,11\n", "val.csv, row 4 has nothing in the column 'youtube_id': fill it in."),
        ("label,youtube_id,time_start,time_end\nabseiling,a,one,11\n", "val.csv, row 2 has the time_start 'one': write seconds from the start of the video, such as 12.5."),
        ("label,youtube_id,time_start,time_end\nabseiling,a,nan,11\n", "val.csv, row 2 has the time_start 'nan': write seconds from the start of the video, such as 12.5."),
        ("label,youtube_id,time_start,time_end\nabseiling,a,-1,11\n", "val.csv, row 2 has the time_start '-1': write seconds from the start of the video, such as 12.5."),
        ("label,youtube_id,time_start,time_end\nabseiling,a,11,11\n", "val.csv, row 2 has a segment from 11 to 11 seconds: its end must be later."),
        ("label,youtube_id,time_start,time_end\n,a,1,11\n", "val.csv, row 2 has no 'label', which videos of the split val need."),
        ("youtube_id,time_start,time_end\na,1,11\n", "val.csv, row 2 has no 'label', which videos of the split val need."),
        ("label,youtube_id,time_start,time_end,split\nabseiling,a,1,11,vla\n", "val.csv, row 2 has the split 'vla': it must be train, val or test."),
        ("label,youtube_id,time_start,time_end\nabsailing[b],a,1,11\n", "Labels that the lexicon kinetics400 does not have: 'absailing[b]' (val.csv, row 2; closest: 'abseiling', 'sailing', 'parasailing'). Correct them, or use the lexicon they come from."),
        ("label,youtube_id,time_start,time_end\n", "The lists of kinetics400 name no video: download them again."),
        (b"label,youtube_id,time_start,time_end\n\xff,a,1,11\n", "val.csv, row 2 is not UTF-8 text: save the file as UTF-8."),
        ('label,youtube_id,time_start,time_end\n"x,a,1,11\n', "val.csv, row 2 is not CSV: unexpected end of data. Check its quotation marks."),
    ],
)  # fmt: skip
def test_rejects_wrong_files_of_kinetics(make, text, message):
    refused(message, "kinetics400", make("a_000001_000011.mp4", **{"val.csv": text}))


def test_rejects_two_lists_of_one_split(make):
    root = make(**{"kinetics-400_val.csv": "", "val.csv": ""})
    refused(
        "ROOT holds two lists of the split val, kinetics-400_val.csv and val.csv: name one of them with "
        "--annotations, or move one away.",
        "kinetics400",
        root,
    )


def test_ids_that_try_to_leave_the_root_find_nothing(make):
    rows = "abseiling,../../etc/passwd,0,10,val\nabseiling,\x1b[31m,0,10,val\nabseiling,a,0,10,val\n"
    root = make("a_000000_000010.mp4", **{"val.csv": f"label,youtube_id,time_start,time_end,split\n{rows}"})
    videos = read_dataset("kinetics400", root)
    assert ids(videos) == ["a_000000_000010.mp4"]
    assert len(videos.missing) == 2


def test_rejects_a_root_without_any_video(make):
    root = make("other/a.mp4", **KINETICS)
    with pytest.raises(DatasetError) as raised:
        read_dataset("kinetics400", root)
    assert str(raised.value) == (
        f"None of the 6 listed videos is below {root}, such as 'xyz_000001_000011.mp4' ({root}/annotations/test.csv, "
        f"row 2): give the folder that holds the videos of kinetics400."
    )
    refused(
        "The root ROOT is not a folder: give the folder that holds kinetics400.", "kinetics400", root / "no"
    )


def test_notes_videos_that_are_there_twice(make):
    root = make("b/abc_000007_000017.mp4", "a/abc_000007_000017.mp4", "a/left.mp4", **KINETICS)
    videos = read_dataset("kinetics400", root)
    assert ids(videos) == ["a/abc_000007_000017.mp4"]
    assert videos.notes == (
        "1 video found more than once below the root; the first of each is taken: a/abc_000007_000017.mp4 (also "
        "b/abc_000007_000017.mp4).",
        "1 video file below the root that no list names.",
    )
    # The folder of its class decides, where it is in one.
    make("z/air drumming/abc_000007_000017.mp4")
    videos = read_dataset("kinetics400", root)
    assert ids(videos) == ["z/air drumming/abc_000007_000017.mp4"]
    assert len(videos.notes) == 1


def test_a_link_to_nothing_is_missing(make):
    root = make("b/ABC_000008_000018.mp4", **KINETICS)
    (root / "b/abc_000007_000017.mp4").symlink_to("gone.mp4")
    assert "abc_000007_000017.mp4" in ids(read_dataset("kinetics400", root).missing)


# --- ActivityNet


def activitynet(**database):
    return {"activity_net.v1-3.min.json": json.dumps({"version": "VERSION 1.3", "database": database})}


def activities(subset, *annotations):
    return {
        "duration": 99.0,
        "subset": subset,
        "url": "",
        "annotations": [{"label": label, "segment": segment} for label, segment in annotations],
    }


ACTIVITYNET = activitynet(
    **{
        "--0edUL8zmA": activities("training", ("Dodgeball", [5.4, 11.6]), ("Dodgeball", [12, 88.16])),
        "two": activities("validation", ("Ping-pong", [0, 1]), ("Archery", [2, 3]), ("Archery", [0, 1])),
        "untold": activities("testing"),
        "gone": activities("validation", ("Archery", [2, 3])),
    }
)
ACTIVITYNET_VIDEOS = ("v1-3/train_val/v_--0edUL8zmA.mp4", "v1-2/val/two.mkv", "v1-3/test/v_untold.webm")


def test_activitynet_gives_whole_videos_with_all_their_labels(make):
    videos = read_dataset("activitynet", make(*ACTIVITYNET_VIDEOS, **ACTIVITYNET))
    assert told(videos) == [
        ("v1-2/val/two.mkv", ("Ping-pong", "Archery"), "val"),
        ("v1-3/test/v_untold.webm", (), "test"),
        ("v1-3/train_val/v_--0edUL8zmA.mp4", ("Dodgeball",), "train"),
    ]
    assert all(video.start_seconds is None for video in videos)
    assert told(videos.missing) == [("v_gone.mp4", ("Archery",), "val")]
    assert videos.missing[0].origin.endswith("activity_net.v1-3.min.json, video 'gone'")
    assert load_lexicon("activitynet").resolve(videos[0].labels) == [100, 1]


def test_activitynet_gives_segments_where_they_are_asked_for(make):
    database = json.loads(ACTIVITYNET["activity_net.v1-3.min.json"])["database"]
    database["two"]["annotations"].append({"label": "Archery", "segment": [9, 8.5]})
    root = make(*ACTIVITYNET_VIDEOS, **activitynet(**database))
    videos = read_dataset("activitynet", root, segments=True)
    assert [(video.id, video.labels, video.start_seconds, video.end_seconds) for video in videos] == [
        ("v1-2/val/two.mkv#t=0,1", ("Ping-pong", "Archery"), 0, 1),
        ("v1-2/val/two.mkv#t=2,3", ("Archery",), 2, 3),
        ("v1-3/train_val/v_--0edUL8zmA.mp4#t=5.4,11.6", ("Dodgeball",), 5.4, 11.6),
        ("v1-3/train_val/v_--0edUL8zmA.mp4#t=12,88.16", ("Dodgeball",), 12, 88.16),
    ]
    assert ids(videos.missing) == ["v_gone.mp4#t=2,3"]
    assert videos.notes[0] == "Segments left out because they end before they begin: two 9 to 8.5."


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "activity_net.v1-3.min.json, row 1 is not JSON: Expecting property name enclosed in double quotes. Download the file again."),
        ("[1]", "is no annotation file of ActivityNet"),
        ('{"database": []}', "is no annotation file of ActivityNet"),
        ('{"database": {"a": []}}', "video 'a' has the subset None: it must be training, validation or testing."),
        ('{"database": {"a": {"subset": "tset"}}}', "video 'a' has the subset 'tset'"),
        ('{"database": {"a": {"subset": "training", "annotations": {}}}}', "video 'a' has no list of annotations"),
        ('{"database": {"a": {"subset": "training", "annotations": [{"label": 3}]}}}', "video 'a', annotation 0 has no label"),
        ('{"database": {"a": {"subset": "training", "annotations": [7]}}}', "video 'a', annotation 0 has no label"),
        ('{"database": {"a": {"subset": "training", "annotations": [{"label": "\\u001b[1m"}]}}}', r"does not have: '\x1b[1m' ("),
        ('{"database": {}}', "The lists of activitynet name no video"),
        ("[" * 100_000, "is not JSON"),
    ],
)  # fmt: skip
def test_rejects_wrong_files_of_activitynet(make, document, message):
    with pytest.raises(DatasetError, match=re.escape(message)):
        read_dataset("activitynet", make("v_a.mp4", **{"activity_net.v1-3.min.json": document}))


@pytest.mark.parametrize("segment", [None, [], [1], "ab", [1, "x"], [None, 2], [True, 2]])
def test_rejects_wrong_segments_of_activitynet(make, segment):
    root = make("v_a.mp4", **activitynet(a=activities("training", ("Archery", segment))))
    assert len(read_dataset("activitynet", root)) == 1
    with pytest.raises(DatasetError, match=r"video 'a', annotation 0 has the (segment|time) "):
        read_dataset("activitynet", root, segments=True)


# --- Charades

CHARADES_HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
CHARADES = {
    "Charades/Charades_v1_train.csv": CHARADES_HEADER
    + '46GP8,HR43,Kitchen,6,7,Yes,"A person says ""hi"", cooks.",food,"x;y",c092 11.90 21.20;c147 0.00 12.60,24.83\n'
    + "N11GT,0KZ7,Stairs,6,7,Yes,x,broom,x,c098 8.60 14.20;c098 9.00 18.00,18.33\n",
    "Charades/Charades_v1_test.csv": CHARADES_HEADER + "NOACT,0KZ7,Stairs,6,7,Yes,x,broom,x,,18.33\n",
    "Charades/Charades_v1_classes.txt": "c000 Holding some clothes\nc001 Putting clothes somewhere\n",
}


@pytest.mark.parametrize("form", ["Charades_v1_480/{}.mp4", "Charades_v1_rgb/{0}/{0}-000001.jpg"])
def test_charades_has_several_labels_a_video(make, form):
    root = make(form.format("46GP8"), form.format("NOACT"), **CHARADES)
    videos = read_dataset("charades", root)
    labels = ("Watching/Looking outside of a window", "Someone is cooking something")
    folder = form.partition("/")[0]
    suffix = ".mp4" if "480" in form else ""
    assert told(videos) == [
        (f"{folder}/46GP8{suffix}", labels, "train"),
        (f"{folder}/NOACT{suffix}", (), "test"),
    ]
    assert told(videos.missing) == [("N11GT.mp4", ("Holding a broom",), "train")]
    assert load_lexicon("charades").resolve(labels) == [92, 147]
    assert ids(read_dataset("charades", root, split="test")) == [f"{folder}/NOACT{suffix}"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classes.txt", "c000 Putting clothes somewhere\n", "Charades_v1_classes.txt, row 1 has the class 'Putting clothes somewhere' in place 0 (from 0), where the official list, the lexicon charades, has it in place 1: use the file as published."),
        ("classes.txt", "Holding some clothes\n", "Charades_v1_classes.txt, row 1 is 'Holding some clothes' instead of a code such as c000 and a name: use the file as published."),
        ("train.csv", "id,length\na,1\n", "Charades_v1_train.csv, row 1 has no column 'actions', only 'id', 'length'. The first row must name the columns id, actions, as published."),
        ("train.csv", "id,actions\na,c001 0 1\nb,c157 0 1\n", "Charades_v1_train.csv, row 3 has an action of the class c157, but the classes are c000 to c156."),
        ("train.csv", "id,actions\na,c01 0 1\n", "Charades_v1_train.csv, row 2 has the action 'c01 0 1' instead of a class, its start and its end, such as 'c092 11.90 21.20': use the file as published."),
    ],
)  # fmt: skip
def test_rejects_wrong_files_of_charades(make, file, text, message):
    refused(message, "charades", make("46GP8.mp4", **{**CHARADES, f"Charades/Charades_v1_{file}": text}))


def test_charades_in_segments(make):
    actions = "c092 11.90 21.20;c147 0.00 12.60;c098 0.00 12.60;c000 5.00 5.00;c001 7.00 3.50"
    texts = {
        **CHARADES,
        "Charades/Charades_v1_train.csv": f"id,actions\n46GP8,{actions}\nNONE1,\nN11GT,c098 8.60 14.20\n",
    }
    videos = read_dataset(
        "charades", make("Charades_v1_480/46GP8.mp4", "Charades_v1_480/NONE1.mp4", **texts), segments=True
    )
    cooking, broom = "Someone is cooking something", "Holding a broom"
    assert told(videos) == [
        ("Charades_v1_480/46GP8.mp4#t=0,12.6", (cooking, broom), "train"),
        ("Charades_v1_480/46GP8.mp4#t=11.9,21.2", ("Watching/Looking outside of a window",), "train"),
    ]
    assert [(video.start_seconds, video.end_seconds) for video in videos] == [(0.0, 12.6), (11.9, 21.2)]
    assert told(videos.missing) == [("N11GT.mp4#t=8.6,14.2", (broom,), "train")]
    assert (
        videos.notes[0]
        == "Segments left out because they end before they begin: 46GP8 5 to 5; 46GP8 7 to 3.5."
    )
    assert videos.notes[1:] == ("1 video file below the root that no list names.",)


def test_rejects_charades_without_times(make):
    text = {**CHARADES, "Charades/Charades_v1_train.csv": "id,actions\n46GP8,c092\n"}
    root = make("46GP8.mp4", **text)
    assert len(read_dataset("charades", root)) == 1
    refused("Charades_v1_train.csv, row 2 has the action 'c092' instead of a class, its start and its end, such as 'c092 11.90 21.20': use the file as published.", "charades", root, segments=True)  # fmt: skip
    text = {**CHARADES, "Charades/Charades_v1_train.csv": "id,actions\n46GP8,c092 1.2.3 4\n"}
    refused("Charades_v1_train.csv, row 2 has the time '1.2.3': write seconds from the start of the video, such as 12.5.", "charades", make(**text), segments=True)  # fmt: skip


def test_folders_of_images_have_no_segments(make):
    root = make("Charades_v1_rgb/46GP8/46GP8-000001.jpg", **CHARADES)
    refused("None of the 4 listed videos is below ROOT, such as '46GP8.mp4#t=11.9,21.2' (Charades_v1_train.csv, row 2): give the folder that holds the videos of charades. Folders of images, such as Charades_v1_rgb/46GP8, have no times, and segments need them: give video files.", "charades", root, segments=True)  # fmt: skip
    make("Charades_v1_480/N11GT.mp4", "Charades_v1_rgb/N11GT/N11GT-000001.jpg")
    videos = read_dataset("charades", root, segments=True)
    assert ids(videos) == ["Charades_v1_480/N11GT.mp4#t=8.6,14.2", "Charades_v1_480/N11GT.mp4#t=9,18"]
    assert "such as Charades_v1_rgb/46GP8, have no times" in videos.notes[-1]


def test_charades_has_two_splits(make):
    refused("charades has the splits train, test, not 'val'.", "charades", make(**CHARADES), split="val")


# --- Something-Something

SOMETHING = {
    "something-something-v1-labels.csv": "".join(f"{label}\n" for label in load_lexicon("ssv1").labels),
    "something-something-v1-train.csv": (
        "100218;Something falling like a feather or paper\n"
        "7;Putting something that can't roll onto a slanted surface, so it slides down\n"
    ),
    "something-something-v1-validation.csv": "24413;Holding something\n",
    "something-something-v1-test.csv": "62\n",
}


def test_something_something_with_frames(make):
    folder = "20bn-something-something-v1"
    root = make(
        f"{folder}/100218/00001.jpg", f"{folder}/24413/00001.jpg", f"{folder}/62/00001.jpg", **SOMETHING
    )
    videos = read_dataset("something-something-v1", root)
    assert told(videos) == [
        (f"{folder}/62", (), "test"),
        (f"{folder}/24413", ("Holding something",), "val"),
        (f"{folder}/100218", ("Something falling like a feather or paper",), "train"),
    ]
    assert videos[1].path == root / folder / "24413"
    label = "Putting something that can't roll onto a slanted surface, so it slides down"
    assert told(videos.missing) == [("7", (label,), "train")]


def test_something_something_as_json(make):
    train = [
        {"id": "7", "label": "holding a cup", "template": "Holding [something]", "placeholders": ["a cup"]},
        {"id": 8, "label": "Holding something"},
    ]
    texts = {
        "labels/train.json": json.dumps(train),
        "labels/test.json": '[{"id": "9"}]',
        "labels/something-something-v2-train.json": "not this one",
    }
    videos = read_dataset("ssv1", make("videos/7.webm", "videos/8.webm", "videos/9.webm", **texts))
    assert told(videos) == [
        ("videos/7.webm", ("Holding something",), "train"),
        ("videos/8.webm", ("Holding something",), "train"),
        ("videos/9.webm", (), "test"),
    ]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train.csv", "7 Holding something\n", "something-something-v1-train.csv, row 1 is '7 Holding something' instead of the number of a video, ; and its label: use the file as published."),
        ("train.csv", "id;label\n7\n", "something-something-v1-train.csv, row 2 gives no label, which videos of the split train need."),
        ("labels.csv", "Holding something\nStacking number of something\n", "something-something-v1-labels.csv, row 2 has the class 'Stacking number of something' in place 1 (from 0), where the official list, the lexicon something-something-v1, has it in place 3: use the file as published."),
        ("test.json", "{}", "something-something-v1-test.json is no list of Something-Something: it must be a JSON list of videos."),
        ("test.json", '[{"id": "1"}, 5]', "something-something-v1-test.json, entry 1 has no id: each entry must have one."),
        ("test.json", '[{"id": true}]', "something-something-v1-test.json, entry 0 has no id: each entry must have one."),
        ("test.json", '[{"id": "1", "template": []}]', "something-something-v1-test.json, entry 0 has the label [], which is no text."),
    ],
)  # fmt: skip
def test_rejects_wrong_files_of_something_something(make, file, text, message):
    texts = {**SOMETHING, f"something-something-v1-{file}": text}
    if file == "test.json":
        del texts["something-something-v1-test.csv"]
    refused(message, "ssv1", make("7.webm", **texts))


CLASSES_V2 = {"Pushing something so it spins": "2", "Holding something": "0", "Throwing something": "1"}
SOMETHING_V2 = {
    "labels/something-something-v2-labels.json": json.dumps(CLASSES_V2),
    "labels/something-something-v2-train.json": json.dumps(
        [
            {
                "id": "78687",
                "label": "holding cup",
                "template": "Holding [something]",
                "placeholders": ["cup"],
            },
            {"id": "9", "label": "pushing pen so it spins", "template": "Pushing [something] so it spins"},
        ]
    ),
    "labels/something-something-v2-validation.json": '[{"id": "74225", "template": "Throwing [something]"}]',
    "labels/something-something-v2-test.json": '[{"id": "1420"}]',
    "labels/something-something-v1-train.json": "not this one",
}


@pytest.mark.parametrize("prefix", ["something-something-v2-", ""])
def test_something_something_v2(make, prefix):
    texts = {name.replace("something-something-v2-", prefix): text for name, text in SOMETHING_V2.items()}
    folder = "20bn-something-something-v2"
    videos = read_dataset("ssv2", make(*(f"{folder}/{n}.webm" for n in (78687, 74225, 1420)), **texts))
    assert told(videos) == [
        (f"{folder}/1420.webm", (), "test"),
        (f"{folder}/74225.webm", ("Throwing something",), "val"),
        (f"{folder}/78687.webm", ("Holding something",), "train"),
    ]
    assert told(videos.missing) == [("9.webm", ("Pushing something so it spins",), "train")]
    assert videos.notes == ("The label file names 3 classes; the published one has 174.",)


def test_classes_of_something_something_v2_are_in_the_order_of_their_numbers(make):
    path = make(**SOMETHING_V2) / "labels/something-something-v2-labels.json"
    expected = ("Holding something", "Throwing something", "Pushing something so it spins")
    assert load_lexicon(path).labels == load_lexicon(path).phrases == expected
    assert find_dataset("sthv2").classes(path.parents[1], None).labels == expected
    of_a_file = find_dataset("sthv2").classes(
        path.parents[1], path.with_name("something-something-v2-train.json")
    )
    assert of_a_file.labels == expected


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train", '[{"id": "1", "template": "Holding [nothing]"}]', "Labels that the lexicon something-something-v2 does not have: 'Holding nothing' (something-something-v2-train.json, entry 0; closest: 'Holding something', 'Throwing something'). Correct them, or use the lexicon they come from."),
        ("train", '[{"id": "1"}]', "something-something-v2-train.json, entry 0 gives no label, which videos of the split train need."),
        ("labels", '{"Holding something": "7"}', "something-something-v2-labels.json gives 'Holding something' the number '7', where 1 names have 0 to 0; a JSON lexicon is an object of names and their numbers, such as {\"Holding something\": \"0\"}."),
    ],
)  # fmt: skip
def test_rejects_wrong_files_of_something_something_v2(make, file, text, message):
    texts = {**SOMETHING_V2, f"labels/something-something-v2-{file}.json": text}
    refused(message, "ssv2", make("78687.webm", **texts))


# --- all of them


def test_frame_folders_are_not_looked_into(make, monkeypatch):
    root = make(*(f"frames/{i}/00001.jpg" for i in (7, 100218, 24413, 62)), **SOMETHING)
    scandir, scanned = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(str(path)) or scandir(path))
    assert len(read_dataset("ssv1", root, split="val")) == 1
    assert {path.rstrip("/") for path in scanned} == {str(root), f"{root}/frames"}


@pytest.mark.parametrize("name", DATASETS)
def test_missing_files_are_named_with_their_source(make, name):
    root = make("a.mp4", "annotations/other.txt")
    with pytest.raises(DatasetError) as raised:
        read_dataset(name, root)
    assert re.fullmatch(
        rf"{re.escape(str(root))} holds no (list|files?|classInd|Charades).*; looked in \S+, \S+/annotations\. "
        r"Download .*, and put them there or say with --annotations where they are\.",
        str(raised.value),
    ), str(raised.value)


def test_names_and_aliases():
    assert find_dataset("K-400").name == "kinetics400"
    assert find_dataset("Something Something_v1").name == "something-something-v1"
    with pytest.raises(
        DatasetError, match=r"no data set called 'ucf11'\. Did you mean ucf101.*Known: ucf101, hmdb51"
    ):
        find_dataset("ucf11")
    with pytest.raises(DatasetError, match="no data set called 'imagenet'"):
        find_dataset("imagenet")


# --- vidclip dataset check


@pytest.fixture
def check():
    def check(*arguments):
        return CliRunner().invoke(program.main, ["dataset", "check", *map(str, arguments)])

    return check


def test_check_tells_what_is_there_and_what_is_missing(make, check):
    result = check("ucf", "--root", make(*UCF_VIDEOS, **UCF))
    assert result.exit_code == 1, result.output
    cells = [line.split() for line in result.stdout.splitlines()]
    assert ["split", "listed", "present", "missing", "classes"] in cells
    assert cells[4:9] == [
        ["train1", "3", "2", "1", "3"],
        ["test1", "1", "1", "0", "1"],
        ["train2", "1", "1", "0", "1"],
        ["test2", "2", "2", "0", "2"],
        ["all", "videos", "4", "3", "1", "3"],
    ]
    assert "The lists name 3 of the 101 classes." in result.stdout
    assert "1 video of 4 missing:\n  ApplyLipstick/v_ApplyLipstick_g10_c01.avi  (" in result.stdout


def test_check_succeeds_when_all_are_there(make, check):
    result = check("hmdb51", "--root", make(*HMDB_VIDEOS, **HMDB), "--split", "2")
    assert (result.exit_code, "None is missing." in result.stdout) == (0, True)


def test_check_explains_missing_lists(make, check):
    root = make(*HMDB_VIDEOS, **HMDB)
    result = check("hmdb51", "--root", root, "--split", "7")
    assert (result.exit_code, result.stderr) == (2, "Error: hmdb51 has the splits 1, 2, 3, not '7'.\n")
    result = check("hmdb51", "--root", root / "none")
    assert (result.exit_code, "is not a folder" in result.stderr) == (2, True)


def test_check_writes_what_is_missing(make, check, tmp_path):
    evil = "label,youtube_id,time_start,time_end,split\nabseiling,\x1b[31m,0,10,val\nabseiling,a,0,10,val\n"
    root = make("a_000000_000010.mp4", **{"val.csv": evil})
    result = check("k400", "--root", root, "--list-missing", "-")
    assert result.exit_code == 1
    assert list(csv.DictReader(result.stdout.splitlines())) == [
        {
            "id": "\\x1b[31m_000000_000010.mp4",
            "split": "val",
            "labels": "abseiling",
            "listed_in": f"{root}/val.csv, row 2",
        }
    ]
    result = check("k400", "--root", root, "--list-missing", tmp_path / "missing.csv")
    assert (tmp_path / "missing.csv").read_text().count("\n") == 2
    assert "\x1b" not in result.stdout


def test_check_as_json(make, check, tmp_path):
    root = make(*ACTIVITYNET_VIDEOS, **ACTIVITYNET)
    result = check("anet", "--root", root, "--json", "-")
    assert json.loads(result.stdout) == {
        "dataset": "activitynet",
        "root": str(root),
        "listed": 4,
        "present": 3,
        "missing": 1,
        "splits": {
            "train": {"listed": 1, "present": 1, "missing": 0, "classes": 1},
            "val": {"listed": 2, "present": 1, "missing": 1, "classes": 2},
            "test": {"listed": 1, "present": 1, "missing": 0, "classes": 0},
        },
        "notes": [],
        "missing_videos": [
            {
                "id": "v_gone.mp4",
                "split": "val",
                "labels": ["Archery"],
                "listed_in": f"{root}/activity_net.v1-3.min.json, video 'gone'",
            }
        ],
    }
    by_segment = json.loads(check("anet", "--root", root, "--segments", "--json", "-").stdout)
    assert by_segment["splits"]["train"]["listed"] == 2
    result = check("anet", "--root", root, "--json", "-", "--list-missing", "-")
    assert (result.exit_code, "name a file" in result.stderr) == (2, True)
