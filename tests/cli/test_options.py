"""Every option of every command is heeded or refused, wherever it is set."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import click
import numpy as np
import pytest

from helpers import Done, a_record, vidclip
from vidclip.cli.conditions import with_option
from vidclip.cli.main import COMMANDS, main
from vidclip.cli.parameters import Argument, Command, FiniteRange, Option, OutputFile, argument, option


def commands() -> dict[str, click.Command]:
    """`eval`, `plot few-shot`, ... -> command."""
    found: dict[str, click.Command] = {}
    with click.Context(main) as ctx:
        for name in COMMANDS:
            made = main.get_command(ctx, name)
            if isinstance(made, click.Group):
                found.update({f"{name} {key}": own for key, own in made.commands.items()})
            else:
                found[name] = made
    return found


def options() -> list[tuple[str, Option]]:
    return [
        (name, parameter)
        for name, own in commands().items()
        for parameter in own.params
        if isinstance(parameter, click.Option)
    ]


EVERY = [pytest.param(name, each, id=f"{name} {each.opts[0]}") for name, each in options()]

ARGUMENTS = {
    "dataset check": ["ucf101", "--root", "."],
    "extract": ["videos"],
    "finetune": ["videos", "--output", "model"],
    "import-model": ["a.pt", "--output", "model"],
    "plot few-shot": ["shots.json"],
    "search": ["a dog"],
    "compare": ["a.csv", "b.csv"],
    "saliency": ["video", "a dog"],
    "export": ["features.npz"],
    "import-features": ["theirs", "--model", "ViT-B-32"],
    "push": ["me/features"],
    "pull": ["me/features"],
    "merge": ["one", "two", "--output", "three"],
    "cost": ["--model", "ViT-B-32"],
}
"""What a command cannot do without."""

WITHOUT_A_PART = {
    **{("label", name): ["--undo"] for name in ("--from", "--set", "--set-split", "--lexicon")},
    ("remove", "--from"): ["--undo"],
    **{("push", name): ["--dry-run"] for name in ("--public", "--revision", "--yes")},
    ("cost", "--temporal"): ["--head", "head.safetensors"],
    ("eval", "--split"): ["--protocol", "splits"],
    ("eval", "--attributes"): ["--protocol", "few-shot"],
    ("eval", "--head"): ["--protocol", "few-shot"],
    ("eval", "--per-class"): ["--protocol", "few-shot"],
    ("eval", "--predictions"): ["--protocol", "few-shot"],
    ("eval", "--view-average"): ["--pool", "max"],
    ("eval", "--prompt"): ["--protocol", "few-shot", "--classifier", "lda"],
    **{
        ("attributes", name): ["--from", "a.json"]
        for name in ("--lexicon", "--index", "--phrase-prompt", "--retriever")
    },
    ("extract", "--position"): ["--mode", "dense"],
    ("extract", "--workers"): ["--engine", "ray"],
    ("extract", "--device"): ["--engine", "ray"],
    ("extract", "--images"): ["--dataset", "ucf101"],
    ("finetune", "--images"): ["--dataset", "ucf101"],
    ("finetune", "--backbone-rate"): ["--train", "head"],
    ("finetune", "--tower"): ["--train", "head"],
    ("finetune", "--checkpointing"): ["--train", "head"],
    ("finetune", "--temporal-start"): ["--temporal", "mean"],
    ("finetune", "--plot"): ["--dry-run"],
    ("finetune", "--position"): ["--mode", "dense"],
    ("finetune", "--keep-pixels"): ["--mode", "dense"],
    ("finetune", "--prompt"): ["--prompt-context", "2"],
    **{
        ("finetune", name): ["--classifier", "lda"]
        for name in ("--prompt-draw", "--prompt-context", "--text-encoder", "--second-text")
    },
    ("fit", "--classifier"): ["--head", "attributes"],
    ("fit", "--temporal"): ["--head", "attributes"],
    ("fit", "--projection"): ["--head", "attributes"],
    ("fit", "--prompt-context"): ["--classifier", "lda"],
    ("fit", "--text-encoder"): ["--head", "attributes"],
    ("fit", "--pool"): ["--head", "attributes"],
    ("fit", "--shots"): ["--head", "attributes"],
    ("fit", "--second-text"): ["--head", "attributes"],
    ("fit", "--view-average"): ["--head", "attributes"],
    **{
        ("search", name): ["--duplicates"]
        for name in ("--like", "--join", "--moments", "--top", "--pool", "--index", "--prompt")
    },
    **{("report", name): ["--videos", "0"] for name in ("--words", "--saliency", "--temperature")},
    ("report", "--view-average"): ["--pool", "max"],
    **{
        ("report", name): ["--predictions", "p.csv"]
        for name in ("--pool", "--attributes", "--head", "--split", "--single-view")
    },
    ("report", "--prompt"): ["--predictions", "p.csv", "--videos", "0"],
    ("plot correlation", "--prompt"): ["--classifier", "lda"],
    ("plot correlation", "--train-split"): ["--classifier", "text"],
    ("plot correlation", "--seed"): ["--classifier", "text"],
    ("plot confusion", "--prompt"): ["--head", "h"],
    ("saliency", "--view"): ["--frames", "9"],
    ("predict", "--cache"): ["a.mp4", "--head", "h"],
    ("predict", "--split"): ["a.mp4"],
    ("predict", "--threshold"): ["--none-of-these", "val"],
    ("predict", "--view-average"): ["--pool", "max"],
    **{("predict", name): ["--head", "h"] for name in ("--pool", "--prompt")},
}
"""Calls in which an option has no part, where it has one by default."""


def a_value(parameter: click.Option) -> list[str]:
    """One that the option takes."""
    name = parameter.opts[0]
    if parameter.is_flag:
        return [name]
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return [name, kind.choices[-1]]
    if isinstance(kind, click.Path):
        return [name, "."] if kind.exists else [name, "somewhere.png"]
    if getattr(kind, "max_open", False):
        return [name, str(kind.max / 2)]
    return [name, {"i/n": "0/2", "K|all": "1", "all|last:K": "all", "device": "cpu"}.get(kind.name, "1")]


def test_every_parameter_is_ours():
    for name, own in commands().items():
        assert isinstance(own, Command), f"{name}: made with vidclip_command"
        for parameter in own.params:
            assert isinstance(parameter, (Option, Argument)), (
                f"{name}: use option, argument of cli/parameters.py"
            )


@pytest.mark.parametrize(("name", "parameter"), [each for each in EVERY if each.values[1].needs])
def test_an_option_without_a_part_is_refused(name, parameter, tmp_path):
    spelt = parameter.opts[0]
    given = [*name.split(), *ARGUMENTS.get(name, []), *WITHOUT_A_PART.get((name, spelt), [])]
    done = vidclip(*given, *a_value(parameter), cwd=tmp_path)
    assert done.returncode == 2
    assert f"{spelt} goes with {parameter.needs.words} alone: it has no part here" in done.stderr, done.stderr
    if name != "demo":  # it needs nothing, and would work
        # Without it, the call is one: what is wrong then is that there is no cache, no video, no head.
        assert "no part here" not in vidclip(*given, cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("name", "parameter"),
    [each for each in EVERY if not (each.values[1].multiple or each.values[1].is_flag)],
)
def test_an_option_of_one_value_is_given_once(name, parameter, tmp_path):
    done = vidclip(*name.split(), *a_value(parameter), *a_value(parameter), cwd=tmp_path)
    assert done.returncode == 2
    assert f"{parameter.opts[0]} is given twice" in done.stderr, done.stderr


@click.group(context_settings={"auto_envvar_prefix": "PROBE"})
def probe() -> None:
    pass


@probe.command(cls=Command)
@argument("source", nargs=-1)
@option("--pool", "pools", multiple=True, default=("mean",))
@option("--words", default="name", needs=with_option("--pool", "vcs"))
@option("--top", type=click.IntRange(1, 9), default=5, needs=with_option("--words", "all"))
@option("--renormalize/--no-renormalize", default=True)
def show(**values: object) -> None:
    click.echo(values)


def shown(*arguments: str, **environment: str):
    from click.testing import CliRunner

    return CliRunner().invoke(probe, ["show", *arguments], env=environment)


def test_variables_are_called_like_the_options():
    assert "('vcs',)" in shown(PROBE_SHOW_POOL="vcs").stdout
    assert "('mean', 'a prompt of {}')" in shown(PROBE_SHOW_POOL='["mean", "a prompt of {}"]').stdout
    assert "('two words',)" in shown(PROBE_SHOW_POOL="two words").stdout
    assert "('videos',)" in shown(PROBE_SHOW_SOURCE="videos").stdout
    assert "'renormalize': False" in shown(PROBE_SHOW_RENORMALIZE="false").stdout
    assert "('mean',)" in shown(PROBE_SHOW_POOL="").stdout, "an empty variable is none"
    for text, why in (
        ("[mean]", "no list like"),
        ("[[1]]", "is not a text or a number"),
        ("[" * 9999, "deeply"),
    ):
        done = shown(PROBE_SHOW_POOL=text)
        assert done.exit_code == 2
        assert why in done.stderr
        assert "(from PROBE_SHOW_POOL)" in done.stderr


def test_an_option_that_rests_on_one_without_a_part_has_none_either():
    assert "'top': 3" in shown("--pool", "vcs", "--words", "all", "--top", "3").stdout
    refused = shown("--top", "3", PROBE_SHOW_WORDS="all")
    assert refused.exit_code == 2
    assert "--top goes with --words all alone" in refused.stderr


def test_a_variable_without_a_part_is_named_and_changes_nothing():
    done = shown(PROBE_SHOW_WORDS="all")
    assert done.exit_code == 0
    assert "'words': 'name'" in done.stdout
    assert "Note: PROBE_SHOW_WORDS has no part here: --words goes with --pool vcs alone." in done.stderr
    assert shown("--pool", "vcs", PROBE_SHOW_WORDS="all").stderr == ""


def test_settings_of_the_file_stand_where_they_have_a_part(tmp_path):
    """As in the demo's own file, which has settings of several protocols."""
    (tmp_path / "vidclip.toml").write_text('[eval]\nshots = [1, 2]\nwords = "all"\n')
    for protocol in ("full-classes", "few-shot"):
        done = vidclip("eval", "--protocol", protocol, cwd=tmp_path)
        assert "Make one with `vidclip extract`" in done.stderr, "only the cache is missing"


def test_unknown_variables_are_reported(tmp_path):
    done = vidclip("info", cwd=tmp_path, VIDCLIP_EVAL_POOLS="vcs")
    assert done.returncode == 2
    assert (
        "VIDCLIP_EVAL_POOLS, and no command has such an option. Did you mean VIDCLIP_EVAL_POOL?"
        in done.stderr
    )
    assert "is not one of" in vidclip("eval", cwd=tmp_path, VIDCLIP_EVAL_POOL="bogus").stderr
    json = vidclip("info", cwd=tmp_path, VIDCLIP_INFO_JSON="nowhere/x.json")
    assert "--json nowhere/x.json: nowhere is not a folder" in json.stderr
    assert "Make one with" in vidclip("info", cwd=tmp_path, VIDCLIP_PLOT_FEW_SHOT_OUTPUT="x.png").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "videos", "--shard", "0/2"], "--shard is called --part now."),
        (["eval", "--no-renormalise"], "--no-renormalise is called --no-renormalize now."),
        (["eval", "--nonsense"], "No such option"),
    ],
)
def test_an_option_of_earlier_names_the_new_one(tmp_path, arguments, message):
    done = vidclip(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    if message.startswith("--"):
        name = arguments[2 if arguments[0] == "extract" else 1].strip("-")
        (tmp_path / "vidclip.toml").write_text(f'[{arguments[0]}]\n{name} = "0/2"\n')
        assert (
            f"{name}: `vidclip {arguments[0]}` has no such option. It is called"
            in vidclip("info", cwd=tmp_path).stderr
        )


# --- nonsense

HOSTILE = "\x1b[2J\x07\u202eevil\nError: forged"
"""Clears the screen, rings, turns the text around, and begins a line of its own."""

NUMBERS = ("nan", "inf", "-inf", "1e308", str(10**30), "9" * 5000, "-1")
TEXTS = ("", " ", "0", "{}{}", "x" * 5000, HOSTILE, "a\\b", ".", "missing.file", "a.file/below", "\udcff")

REACHED = {
    "eval": [
        "--protocol",
        "full-classes",
        "--protocol",
        "few-shot",
        "--pool",
        "vcs",
        "--epochs",
        "1",
        "--shots",
        "1",
        "--seeds",
        "1",
    ],
    "fit": ["--epochs", "1", "--output", "head"],
    "saliency": ["v0", "a dog"],
    "search": ["a dog"],
    "lexicons": ["ucf101"],
    "plot correlation": ["--classifier", "random", "--first", "2"],
}
"""Calls that come to their end, on the cache of the folder."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tiny_model) -> Path:
    """A folder with a cache of twelve videos of three labels, and the file `a.file`."""
    from vidclip.cache import CacheWriter
    from vidclip.pipeline.encoders import load_encoder
    from vidclip.pipeline.extraction import cache_identity
    from vidclip.pipeline.video import Sampling

    folder = tmp_path_factory.mktemp("prepared")
    encoder = load_encoder(tiny_model, device="cpu")
    rng = np.random.default_rng(0)
    records = [
        replace(
            a_record(
                f"v{i}", rng, labels=(("run", "jump", "swim")[i % 3],), split="train" if i < 6 else "test"
            ),
            frames=rng.standard_normal((1, 4, 32)).astype(np.float32),
        )
        for i in range(12)
    ]
    with CacheWriter(folder / "features", cache_identity(encoder, Sampling(4))) as writer:
        for record in records:
            writer.add(record)
    (folder / "a.file").write_text("neither a head, nor a picture\n")
    (folder / "vidclip.toml").write_text(f"model = {json.dumps(tiny_model)}\n")
    return folder


def is_ours(done: Done) -> None:
    """An error in words, or a result: nothing that could be mistaken for another, or harm the terminal."""
    output = done.stdout + done.stderr
    assert done.returncode in (0, 2), output
    assert "fault of vidclip" not in output, output
    assert "Traceback" not in output, output
    assert all(character.isprintable() or character == "\n" for character in output), repr(output)
    if done.returncode == 2:
        assert "Error: " in done.stderr, output
        assert len(re.findall(r"^Error: ", done.stderr, re.MULTILINE)) == 1, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("plot", "few-shot", "shots.json", "--output", "-"),
        ("fit", "--plot", "-"),
        ("saliency", "v", "w", "--output", "-"),
    ],
)
def test_pictures_are_not_written_to_standard_output(words, tmp_path):
    done = vidclip(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "not written to standard output: name a file" in done.stderr
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize(("name", "parameter"), [each for each in EVERY if not each.values[1].is_flag])
def test_nonsense_is_answered(name, parameter, prepared):
    numeric = isinstance(parameter.type, (click.IntRange, FiniteRange))
    given = [*name.split(), *REACHED.get(name, ARGUMENTS.get(name, []))]
    if name in ("extract", "demo", "predict"):  # they would work for long where the nonsense is none
        given = [*name.split(), "--debug=no"]
    values = NUMBERS if numeric else (*TEXTS, *NUMBERS[:1])
    if isinstance(parameter.type, OutputFile):
        values = (
            "",
            "-",
            ".",
            "a.file/below",
            "x" * 5000,
            HOSTILE,
        )  # most texts name a file that can be written
    for value in values:
        done = vidclip(*given, f"{parameter.opts[0]}={value}", cwd=prepared)
        is_ours(done)
        if numeric:
            assert done.returncode == 2, done.stdout


def test_what_depends_on_the_data_is_refused_in_words(prepared):
    for arguments, message in [
        (["fit", "--prompt-context", "500"], "--prompt-context 500: a prompt of 500 tokens leaves no room"),
        (["eval", "--fusion", "0.5", "--head", "missing.file"], "missing.file"),
        (["eval", "--device", "meta"], "is no device"),
        (["eval", "--device", "cuda:77"], "device 'cuda:77' cannot be used here"),
        (["attributes", "--prompt", "clip-kinetics"], "is 28 prompts, and here one is read"),
        (["extract", "videos", "--part", f"0/{10**30}"], "is neither i/n"),
        (["lexicons", "ssv2"], "something-something-v2 do not come with vidclip"),
        (
            ["dataset", "check", "ssv2", "--root", "."],
            "holds no file something-something-v2-labels.json or labels.json",
        ),
        (
            ["fit", "--output", "one.png", "--plot", "./one.png"],
            "--output and --plot would both be written to",
        ),
        (["eval", "--json", "."], "is a directory"),
        (["eval", "--json", "x" * 300], "cannot be written to (File name too long)"),
    ]:
        done = vidclip(*arguments, cwd=prepared)
        is_ours(done)
        assert done.returncode == 2
        assert message in done.stderr, done.stderr


def test_results_have_names_as_long_as_a_file_system_allows(prepared):
    name = "x" * 250 + ".json"
    done = vidclip("info", "features", "--json", name, cwd=prepared)
    assert done.returncode == 0, done.stderr
    assert json.loads((prepared / name).read_text())["videos"]


def test_looking_whether_a_result_can_be_written_makes_no_file_of_its_name(prepared):
    """Not for a moment: a kill would leave an empty file that passes for a result."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from vidclip.cli.files import check_writable\n"
        "made = []\n"
        "sys.addaudithook(lambda event, given: made.append(str(given[0])) if event == 'open' else None)\n"
        "check_writable(Path('new.json'), '--json')\n"
        "assert any('new.json' in name for name in made)\n"
        "assert not any(name.endswith('new.json') for name in made)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=prepared, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(prepared.glob("*new.json*"))


def test_named_prompts_are_taken_everywhere(prepared):
    for arguments in (["saliency", "v0", "a dog"], ["attributes", "--lexicon", "hmdb51"]):
        named = vidclip(*arguments, "--prompt", "bike", cwd=prepared)
        assert named.returncode == 0, named.stderr
        assert named.stdout == vidclip(*arguments, cwd=prepared).stdout.replace("there already", "computed")


@pytest.mark.parametrize("arguments", [["--pool", "max"], ["--shots", "5"], ["--train-split", "none"]])
def test_what_a_later_protocol_cannot_do_is_said_before_the_work(prepared, arguments):
    done = vidclip(
        "eval", "--protocol", "full-classes", "--protocol", "few-shot", *arguments, "--json", "r.json", cwd=prepared
    )  # fmt: skip
    is_ours(done)
    assert (done.returncode, done.stdout) == (2, "")
    assert not (prepared / "r.json").exists()


def test_what_was_computed_is_kept_where_a_later_protocol_fails(prepared):
    done = vidclip(
        "eval", "--protocol", "full-classes", "--protocol", "few-shot", "--prompt-context", "500", "--shots",
        "1", "--json", "kept.json", cwd=prepared,
    )  # fmt: skip
    is_ours(done)
    assert done.returncode == 2
    assert "kept.json has the 1 of 2 protocols" in done.stderr
    [document] = json.loads((prepared / "kept.json").read_text())
    assert document["protocol"] == "full-classes"


def test_texts_of_files_cannot_harm_the_terminal(write_cache, rng, tmp_path):
    records = [
        a_record(f"{i}{HOSTILE}", rng, labels=(f"{HOSTILE}{i % 2}",), split=("train", HOSTILE)[i % 2])
        for i in range(4)
    ]
    write_cache(records)
    (tmp_path / f"{HOSTILE[:5]}.csv").write_text(f'path,label\n"no{HOSTILE}.mp4",x\n')
    for arguments in (
        ["info"],
        ["verify"],
        ["eval"],
        ["eval", "--split", "all", "--lexicon", "ucf101"],
        ["eval", "--split", HOSTILE + "?"],
        ["eval", "--lexicon", HOSTILE],
        ["saliency", HOSTILE, "a dog"],
        ["fit", "--train-split", HOSTILE, "--classifier", "lda"],
        ["plot", "confusion", "--split", HOSTILE],
        ["extract", f"{HOSTILE[:5]}.csv"],
        [HOSTILE],
        [f"--{HOSTILE}"],
        ["eval", f"--{HOSTILE}"],
    ):
        is_ours(vidclip(*arguments, cwd=tmp_path))


def test_json_has_no_nan(write_cache, rng, tmp_path):
    from vidclip.cli.files import write_json
    from vidclip.cli.main import Failed

    write_cache([a_record("a", rng, duration_seconds=float("nan"))])
    facts = json.loads(vidclip("info", "--json", "-", cwd=tmp_path).stdout, parse_constant=pytest.fail)
    assert facts["hours"] is None
    with pytest.raises(Failed, match=r"results\[1\]\.top1 is not a finite number"):
        write_json(tmp_path / "x.json", {"results": [{"top1": 1.0}, {"top1": float("inf")}]})
    assert not (tmp_path / "x.json").exists()


def test_an_output_that_is_a_link_stays_one(prepared, tmp_path):
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("real.json")
    done = vidclip("info", prepared / "features", "--json", tmp_path / "link.json", cwd=prepared)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["videos"] == 12
    assert {path.name for path in tmp_path.iterdir()} == {"real.json", "link.json"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[eval]\ntop = true\n", "top: True is not a text or a number"),
        ("[eval]\ntop = 2.5\n", "'2.5' is not a valid integer range"),
        ("[eval]\nsingle-view = 1\n", "single-view: 1 is not true or false"),
        ("[eval]\ntop = [1]\n", "top: [1] is not a text or a number"),
        ("[eval]\nprompt = [['a']]\n", "prompt: ['a'] is not a text or a number"),
        ('cache = "a\\u0000b"\n', "holds a zero byte"),
        ("a = " + "[" * 9999, "nested too deeply"),
    ],
)
def test_settings_of_another_kind_are_refused(tmp_path, text, message):
    (tmp_path / "vidclip.toml").write_text(text)
    done = vidclip("eval", "--attributes", "hmdb51", cwd=tmp_path)
    is_ours(done)
    assert done.returncode == 2
    assert message in done.stderr
    assert "vidclip.toml" in done.stderr


IN_EVERY_CALL = {
    "demo": "workers videos-only",
    "dataset check": "annotations json list-missing root segments split",
    "extract": "allow-missing as-released batch-size cache changed clips crops dataset decoder engine frames lexicon mode model part precision "
    "patches pretrained resize retry-failed root size strict timeout worker-memory",
    "eval": "as-released cache compare device json lexicon model pool protocol second-text single-view",
    "attributes": "attributes-prompt cache device from json model top",
    "fit": "as-released batch-size cache device epochs head held-out learning-rate lexicon loss model output plot prompt seed "
    "test-share train-split weight-decay",
    "finetune": "accumulate allow-missing batch-size betas classifier clip-gradient cosine crop crop-form cutmix dataset decay decoder "
    "device dry-run epochs flip frames gray held-out jitter jitter-probability label-smoothing learning-rate lexicon loss "
    "min-rate mixup mode model normalization output pool precision pretrained rand-augment random-erasing recipe root seed shots size temperature "
    "temporal timeout tower train train-split video-prompts warm-up-epochs weight-decay worker-memory workers",
    "predict": "calibrate device head json lexicon model none-of-these top",
    "compare": "json scorer top",
    "plot correlation": "cache classifier device first head lexicon model output",
    "plot few-shot": "output",
    "plot confusion": "cache device head json lexicon model output split top",
    "search": "cache csv device duplicates json model split",
    "report": "cache decoder device lexicon model output predictions timeout video videos worker-memory workers",
    "saliency": "cache device frames json model output prompt temperature video words",
    "import-model": "frames lexicon output text",
    "info": "json",
    "verify": "cache",
    "export": "cache features to",
    "import-features": "cache frames key model pretrained",
    "label": "cache undo",
    "remove": "cache undo yes",
    "prune": "cache whole-folders yes",
    "push": "cache dry-run labels license",
    "pull": "cache revision",
    "merge": "output",
    "compact": "all cache shard-megabytes yes",
    "cost": "frames head json measure model size tower",
    "lexicons": "",
}
"""Options that every call of their command heeds, whatever else is asked for."""


@pytest.mark.parametrize(("name", "parameter"), EVERY)
def test_an_option_has_a_condition_or_is_heeded_by_every_call(name, parameter):
    spelt = parameter.opts[0].removeprefix("--")
    if spelt in ("debug", "-q", "-v"):
        return
    assert (parameter.needs is None) == (spelt in IN_EVERY_CALL[name].split()), (
        f"--{spelt}: say with `needs` what it goes with, or add it to IN_EVERY_CALL where every call heeds it"
    )


# --- what is accepted is heeded


@pytest.fixture(scope="module")
def noise(tmp_path_factory, tiny_model) -> Path:
    """A cache of noise: 200 videos of ten labels in two views, so that whatever is heeded changes the figures."""
    from vidclip.cache import CacheWriter
    from vidclip.pipeline.encoders import load_encoder
    from vidclip.pipeline.extraction import cache_identity
    from vidclip.pipeline.video import Sampling

    folder = tmp_path_factory.mktemp("noise")
    encoder = load_encoder(tiny_model, device="cpu")
    rng = np.random.default_rng(0)
    labels = ("run", "jump", "swim", "read", "draw_circles", "sing", "walk a dog", "ski", "cook", "sleep")
    with CacheWriter(folder / "features", cache_identity(encoder, Sampling(4, clips=2))) as writer:
        for i in range(200):
            split = ("train", "test", "val", "test1 test")[i // 10 % 4]
            frames = (rng.standard_normal((2, 4, 32)) * rng.uniform(0.2, 5, (2, 4, 1))).astype(np.float32)
            record = a_record(f"v{i}", rng, views=2, labels=(labels[i % 10],), split=split)
            writer.add(replace(record, frames=frames))
    (folder / "vidclip.toml").write_text(f"model = {json.dumps(tiny_model)}\n")
    (folder / "fewer.txt").write_text("".join(f"{label}\n" for label in labels) + "hop\n")
    return folder


FEW = (
    "--protocol few-shot --split test --shots 2 --seeds 1 --epochs 2 --temporal conv --learning-rate 0.1 "
    "--batch-size 16"
)
MANY = "--split test --lexicon fewer.txt --protocol multi-label"
# How heads are trained is looked at with `fit`, which shares the options.
EVAL = [
    # (a call, what is set otherwise in it): each changes the figures
    ("--split test", "--pool max"),
    ("--split test", "--pool vote"),
    ("--split test", "--split train"),
    ("--split test", "--lexicon fewer.txt"),
    ("--split test", "--prompt none"),
    ("--split test", "--single-view"),
    ("--split test", "--attributes fewer.txt"),
    ("--split test", "--protocol half-classes"),
    ("--split test --pool vcs --temperature 0.1", "--words all"),
    ("--split test --pool vcs --temperature 0.1", "--saliency sentence"),
    ("--split test --pool vcs --temperature 0.1", "--recognition words"),
    ("--split test --pool vcs --temperature 0.1", "--temperature 10"),
    ("--split test --pool vcs --temperature 0.1", "--no-renormalize"),
    ("--split test --attributes fewer.txt", "--top 7"),
    ("--split test --attributes fewer.txt", "--fusion 0"),
    ("--split test --protocol half-classes", "--repeats 3"),
    (MANY, "--map-convention released"),
    (FEW, "--classifier linear"),
    (FEW, "--temporal mit"),
    (FEW, "--projection"),
    (FEW, "--shots 3"),
    (FEW, "--seeds 2"),
    (FEW, "--epochs 4"),
    (FEW, "--split val"),
    (FEW, "--train-split val"),
    (FEW, "--pool vcs"),
    (f"{FEW} --pool vcs", "--words all"),
    (f"{FEW} --pool vcs", "--temperature 10"),
]

FIT = "--temporal conv --epochs 2 --batch-size 16 --learning-rate 0.1 --held-out 0 --seed 1"
BRANCH = "--head attributes --epochs 2 --attributes fewer.txt"
FITS = [
    # (a call, what is set otherwise in it): each changes the weights
    *((FIT, other) for other in (
        "--classifier linear", "--temporal mit", "--epochs 3", "--batch-size 8", "--seed 2", "--learning-rate 0.01",
        "--held-out 0.3", "--loss paper", "--loss released", "--weight-decay 100", "--pool vcs", "--prompt none",
        "--projection", "--prompt-context 2", "--shots 3", "--train-split val", "--lexicon fewer.txt",
    )),
    (f"{FIT} --pool vcs", "--temperature 10"),
    (BRANCH, "--top 3"),
    (BRANCH, "--attributes demo-classes"),
    (BRANCH, "--loss cross-entropy"),
    (BRANCH, "--train-split val"),
]  # fmt: skip


def otherwise(call: str, change: str) -> list[str]:
    """The call with an option set otherwise: one of a single value is given once."""
    given, changed = call.split(), change.split()
    if len(changed) == 2 and changed[0] in given:
        given[given.index(changed[0]) + 1] = changed[1]
        return given
    return given + changed


@pytest.fixture(scope="module")
def figures(noise):
    @lru_cache
    def of(*arguments: str) -> str:
        done = vidclip("eval", *arguments, "--device", "cpu", "--json", "-", cwd=noise)
        assert done.returncode == 0, done.stderr
        results = [result for document in json.loads(done.stdout) for result in document["results"]]
        return json.dumps([(result["figures"], result["repetitions"]) for result in results])

    return of


@pytest.fixture(scope="module")
def weights(noise):
    from safetensors.numpy import load_file

    @lru_cache
    def of(*arguments: str) -> dict[str, bytes]:
        done = vidclip("fit", *arguments, "--device", "cpu", "--output", "head", cwd=noise)
        assert done.returncode == 0, done.stderr
        return {name: array.tobytes() for name, array in load_file(noise / "head").items()}

    return of


@pytest.mark.parametrize(("call", "change"), EVAL)
def test_eval_heeds(call, change, figures):
    assert figures(*call.split()) != figures(*otherwise(call, change))


@pytest.mark.parametrize(("call", "change"), FITS)
def test_fit_heeds(call, change, weights):
    assert weights(*call.split()) != weights(*otherwise(call, change))
