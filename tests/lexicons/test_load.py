"""The lexicons that come with vidclip, and those that people write themselves."""

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidclip.lexicons import LexiconError, available_lexicons, load_lexicon

# Digests of the lists joined by line feeds, made from the published label files.
LISTS = {
    # name: (entries, labels, phrases, first label, last label)
    "kinetics400": (400, "a8dafb93a1204d4e", "a8dafb93a1204d4e", "abseiling", "zumba"),
    "kinetics600": (600, "5d9a560f98fcfed0", "5d9a560f98fcfed0", "abseiling", "zumba"),
    "kinetics700": (700, "a34c9fed41f5f9ed", "a34c9fed41f5f9ed", "abseiling", "zumba"),
    "kinetics600-zeroshot-1": (160, "af31b25d446031c5", "af31b25d446031c5", "acting in play", "yarn spinning"),
    "kinetics600-zeroshot-2": (160, "c7dd90897fb1bcde", "c7dd90897fb1bcde", "acting in play", "winking"),
    "kinetics600-zeroshot-3": (160, "08c0aa3eccfab8df", "08c0aa3eccfab8df", "adjusting glasses", "wood burning (art)"),
    "ucf101": (101, "3ec3894f84996395", "d1f6f7684bab21ef", "ApplyEyeMakeup", "YoYo"),
    "hmdb51": (51, "154ef596b6037121", "34fa74047875b6e3", "brush_hair", "wave"),
    "activitynet": (200, "696d49925655f5ee", "696d49925655f5ee", "Applying sunscreen", "Zumba"),
    "charades": (157, "65ff41554443bff4", "65ff41554443bff4", "Holding some clothes", "Someone is eating something"),
    "something-something-v1": (
        174, "28d842f1129a9320", "28d842f1129a9320", "Holding something", "Poking a hole into some substance",
    ),
    "imagenet1k": (1000, "385e0240499426c0", "571ae1c583b4be7d", "n01440764", "n15075141"),
}  # fmt: skip


def digest(names):
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", LISTS)
def test_published_lists_are_whole_and_in_their_order(name):
    lexicon = load_lexicon(name)
    found = (
        len(lexicon),
        digest(lexicon.labels),
        digest(lexicon.phrases),
        lexicon.labels[0],
        lexicon.labels[-1],
    )
    assert found == LISTS[name]
    assert lexicon.name == name
    assert lexicon.source


@pytest.mark.parametrize(
    ("name", "index", "label", "phrase"),
    [
        # 1-based in UCF's classInd.txt: 34 Haircut, 37 HandstandPushups, 47 JumpingJack, 48 JumpRope
        ("ucf101", 33, "Haircut", "haircut"),
        ("ucf101", 36, "HandstandPushups", "handstand pushups"),
        ("ucf101", 46, "JumpingJack", "jumping jack"),
        ("ucf101", 47, "JumpRope", "jump rope"),
        ("ucf101", 20, "CleanAndJerk", "clean and jerk"),
        ("ucf101", 100, "YoYo", "yo yo"),
        ("hmdb51", 20, "kick", "kick"),
        ("hmdb51", 21, "kick_ball", "kick ball"),
        ("hmdb51", 43, "swing_baseball", "swing baseball"),
        ("kinetics400", 1, "air drumming", "air drumming"),
        ("charades", 152, "Someone is smiling", "Someone is smiling"),  # c152 in the data set
        ("imagenet1k", 2, "n01484850", "great white shark"),
        ("imagenet1k", 999, "n15075141", "toilet paper"),
    ],
)
def test_known_classes_stand_where_their_data_set_has_them(name, index, label, phrase):
    lexicon = load_lexicon(name)
    assert (lexicon.labels[index], lexicon.phrases[index]) == (label, phrase)
    assert lexicon.index(label) == index
    assert lexicon.index(phrase) == index


@pytest.mark.parametrize(
    ("name", "written", "label"),
    [
        ("kinetics400", "air_drumming", "air drumming"),
        ("ucf101", "HandStandPushups", "HandstandPushups"),
        ("ucf101", "tai chi", "TaiChi"),
        ("hmdb51", "Brush Hair", "brush_hair"),
    ],
)
def test_names_are_found_as_they_are_on_disk(name, written, label):
    lexicon = load_lexicon(name)
    assert lexicon.labels[lexicon.index(written)] == label


def test_only_imagenet_has_names_that_read_the_same():
    ambiguous = {name: load_lexicon(name).ambiguous() for name in LISTS}
    assert ambiguous.pop("imagenet1k") == [(657, 744), (836, 837)]  # missile, sunglasses
    assert not any(ambiguous.values())
    with pytest.raises(LexiconError, match="'sunglasses' may be any of 'n04355933', 'n04356056'"):
        load_lexicon("imagenet1k").index("sunglasses")


def test_zero_shot_splits_are_new_in_kinetics600():
    old, new = set(load_lexicon("kinetics400").labels), set(load_lexicon("kinetics600").labels)
    for split in (1, 2, 3):
        assert set(load_lexicon(f"kinetics600-zeroshot-{split}").labels) <= new - old


@pytest.mark.parametrize(
    ("written", "name"),
    [("k400", "kinetics400"), ("K600", "kinetics600"), ("k700", "kinetics700"), ("Kinetics-400", "kinetics400"),
     ("something_something_v1", "something-something-v1"), ("UCF-101", "ucf101"), ("imagenet-1k", "imagenet1k"),
     ("k600-zeroshot-2", "kinetics600-zeroshot-2"), ("kinetics600_zeroshot_2", "kinetics600-zeroshot-2")],
)  # fmt: skip
def test_aliases_and_ways_to_write_a_name(written, name):
    assert load_lexicon(written) == load_lexicon(name)


def test_the_list_of_lexicons_tells_name_aliases_count_and_description():
    listed = {
        name: (aliases, count, description) for name, aliases, count, description in available_lexicons()
    }
    assert {name: count for name, (_, count, _) in listed.items() if name in LISTS} == {
        name: facts[0] for name, facts in LISTS.items()
    }
    assert listed["kinetics400"][0] == ("k400",)
    for name, (aliases, _, description) in listed.items():
        assert description
        assert all(load_lexicon(alias).name == name for alias in aliases)


def test_no_name_or_alias_is_taken_twice():
    written = [name for info in available_lexicons() for name in (info.name, *info.aliases)]
    keys = [name.lower().replace("-", "") for name in written]
    assert len(set(keys)) == len(keys)


def test_lexicons_need_neither_numpy_nor_torch():
    code = (
        "import sys, vidclip.lexicons as l; l.load_lexicon('k400');"
        "print([m for m in ('numpy', 'torch', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- files of one's own


@pytest.fixture
def write(tmp_path):
    def write(content, name="own.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_file_has_a_phrase_a_line_or_a_label_and_a_phrase(write):
    lexicon = load_lexicon(write("waving\nBrushHair\tbrush hair\n"))
    assert lexicon.name == "own"
    assert lexicon.labels == ("waving", "BrushHair")
    assert lexicon.phrases == ("waving", "brush hair")


def test_a_file_is_found_by_a_path_written_as_text(write):
    path = write("a\nb")
    assert load_lexicon(str(path)).labels == ("a", "b")
    assert load_lexicon(str(path)).source == str(path)


@pytest.mark.parametrize(
    "content",
    [
        "a b\nc\n",
        "\ufeffa b\nc\n",
        "a b\r\nc\r\n",
        "a b\rc\r",
        "\n\na b\n  \n\t\nc\n\n",
        "  a b \nc",
        "a b\nc",
    ],
)
def test_marks_line_ends_and_blank_lines_do_not_matter(write, content):
    assert load_lexicon(write(content)).phrases == ("a b", "c")


def test_markup_and_hashes_are_names_like_others(write):
    names = ("# comment?", "[b]bold[/b]", "<b>", "{}", '"quoted"', "a, b", "naïve", "a\u2028b", "側転")
    assert load_lexicon(write("\n".join(names))).labels == names


def test_a_name_goes_before_a_file_unless_it_is_written_as_a_path(write, monkeypatch, tmp_path):
    write("own entry\n", name="k400")
    monkeypatch.chdir(tmp_path)
    assert load_lexicon("k400").name == "kinetics400"
    assert load_lexicon("./k400").labels == ("own entry",)


@given(st.lists(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1), min_size=1, unique=True))
def test_what_is_written_is_read_back(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("lexicon") / "own.txt"
    path.write_text("".join(f"{label}\tsay {label}\n" for label in labels), encoding="utf-8")
    lexicon = load_lexicon(path)
    assert list(lexicon.labels) == labels
    assert lexicon.phrases == tuple(f"say {label}" for label in labels)
    assert lexicon.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"own.txt is empty; a lexicon has one phrase a line"),
        ("\n \n", r"own.txt is empty"),
        ("a\nb\n\na\n", r"own.txt says the same label twice: 'a' on lines 1 and 4"),
        ("a\tx\nb\tx\na\ty\nb\ty", r"'a' on lines 1 and 3; 'b' on lines 2 and 4\. Remove"),
        ("a\n" * 9, r"'a' on lines 1 and 6; and 3 more"),
        ("a\nb\tc\td\n", r"own.txt, line 2 is 'b.tc.td'; a line is a phrase, or a label, one TAB and a phrase"),
        ("a\n\tb\n", r"own.txt, line 2 is '.tb'; a line is a phrase"),
        (b"a\nb\nca\xe9\n", r"own.txt, line 3: not UTF-8 text \(byte 0xe9\); save the file as UTF-8"),
        ("\ufeffa\nb".encode() + b"\xe9", r"own.txt, line 2: not UTF-8"),
        ("a\nb\n".encode("utf-16"), r"own.txt, line 1: this is UTF-16 text; save the file as UTF-8"),
        (b"RIFF\0\0\0\0AVI ", r"own.txt is a binary file"),
        ("a\nb\x1b[2J\n", r"own.txt, line 2 holds the control character U\+001B"),
        ("a\n" + "b" * 3000, r"own.txt, line 2 has 3,000 characters; a lexicon has one phrase a line"),
    ],
)  # fmt: skip
def test_files_that_are_no_lexicon_say_where(write, content, message):
    with pytest.raises(LexiconError, match=message):
        load_lexicon(write(content))


def test_a_huge_file_is_not_read(write):
    path = write("")
    with path.open("wb") as file:
        file.truncate(3 << 30)  # sparse: takes no room
    with pytest.raises(LexiconError, match=r"own.txt has 3.0 GiB, too much for a lexicon"):
        load_lexicon(path)


def test_unknown_names_and_paths(tmp_path):
    with pytest.raises(
        LexiconError, match=r"no lexicon called 'kinetic400'. Did you mean kinetics400.*Known: .*ucf101"
    ):
        load_lexicon("kinetic400")
    with pytest.raises(LexiconError, match=r"'mine'. Known: kinetics400, .*or give the path of a text file"):
        load_lexicon("mine")
    with pytest.raises(LexiconError, match=r"There is no lexicon file 'lists/mine'. Give the path"):
        load_lexicon("lists/mine")
    with pytest.raises(LexiconError, match=r"There is no lexicon file 'mine.txt'"):
        load_lexicon("mine.txt")
    with pytest.raises(LexiconError, match=r"is a folder; a lexicon is a text file"):
        load_lexicon(tmp_path)
    with pytest.raises(LexiconError, match=r"name of the lexicon is blank"):
        load_lexicon(" ")
    with pytest.raises(LexiconError, match=r"cannot be read: File name too long"):
        load_lexicon("a" * 5000)


def test_names_and_numbers_in_json(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text('{"b": "1", "a": 2, "\\u00e4": "0"}', encoding="utf-8")
    assert load_lexicon(path).labels == load_lexicon(str(path)).phrases == ("ä", "b", "a")
    for text, message in (
        ("{", r"labels.json is not JSON that can be read \(.*\); a JSON lexicon is an object of names"),
        ('["a"]', "labels.json: a JSON lexicon is an object"),
        ("{}", "labels.json: a JSON lexicon is an object"),
        ('{"a": 0, "b": 2}', "gives 'b' the number 2, where 2 names have 0 to 1"),
        ('{"a": true}', "gives 'a' the number True"),
        ('{"a": "-0"}', "gives 'a' the number '-0'"),
        ('{"a": 0, "b": "0"}', "gives 'a' and 'b' the same number 0"),
        ('{"a": 0, "a": 1}', "says the name 'a' twice"),
        ('{"a\\u0007": 0}', "holds a control character"),
        ('{" ": 0}', "label|phrase 0 is blank"),
    ):
        path.write_text(text)
        with pytest.raises(LexiconError, match=message):
            load_lexicon(path)
