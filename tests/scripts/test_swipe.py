"""The command `swipe`: quick without torch, helpful where a word is wrong, and completed by the shell."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from swipe_core.cli import main as swipe
from swipe_core.cli.commands import COMMANDS
from swipe_core.cli.completion import script
from swipe_core.inference.config import SETTINGS, InferenceConfig
from swipe_core.samples import sample_folder

WITHOUT_TORCH = [
    [],
    ["--help"],
    ["--version"],
    ["models", "list"],
    ["models", "show", "polyp"],
    ["doctor"],
    ["completion", "fish"],
    ["predict", "--list"],
    *([name, "--help"] for name in COMMANDS),
]


def test_what_only_prints_is_there_without_torch():
    code = f"""
import contextlib, sys
from swipe_core.cli import main
for words in {WITHOUT_TORCH!r}:
    with contextlib.suppress(SystemExit):
        assert main(words) == 0
    assert "torch" not in sys.modules, words
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_examples(name, capsys):
    with pytest.raises(SystemExit) as end:
        swipe([name, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: swipe {name}") and COMMANDS[name].summary in text
    assert f"swipe {name} " in text.split("examples:")[1]
    assert swipe([]) == 0
    assert f"  {name} " in capsys.readouterr().out


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert swipe(["trian", "nuclei"]) == 2
    assert "There is no command 'trian'. Did you mean 'train'?" in capsys.readouterr().err


def test_the_list_of_predict_is_the_list_of_models(capsys):
    with pytest.raises(SystemExit):
        swipe(["predict", "--list"])
    of_predict = capsys.readouterr().out
    assert swipe(["models", "list"]) == 0
    assert capsys.readouterr().out == of_predict


def test_a_model_is_described_by_its_name_or_by_its_file(disc_run, capsys):
    assert swipe(["models", "show", "polyp"]) == 0
    text = capsys.readouterr().out
    assert "network: SwIPE" in text and "images: 2D, 3 channels" in text and "limits: " in text
    assert swipe(["models", "show", str(disc_run / "best.safetensors")]) == 0
    assert "classes: foreground" in capsys.readouterr().out
    assert swipe(["models", "show", "polip"]) == 2
    assert "Did you mean 'polyp'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_inference_is_an_option_with_the_help_and_the_bounds_of_its_record(name, capsys):
    setting, field = SETTINGS[name], InferenceConfig.model_fields[name]
    for command in ("predict", "evaluate"):
        with pytest.raises(SystemExit):
            swipe([command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert setting.option in text and field.description in text
    if not (setting.choices or setting.takes_axes):
        for value in setting.bounds:
            InferenceConfig.model_validate({name: value})
    assert (field.default in InferenceConfig().decision) or not setting.decides


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["pre"], ["predict"]),
        (["models", "sh"], ["show"]),
        (["predict", "nu"], ["nuclei"]),
        (["predict", "nuclei", "--thr"], ["--threshold"]),
        (["evaluate", "nuclei", "data", "--split", "t"], ["train", "test"]),
        (["configure", "--network", "une"], ["unet", "unetr"]),
    ],
)
def test_bash_completes_commands_options_and_their_values(typed, expected):
    words = " ".join(f"'{word}'" for word in ["swipe", *typed])
    lines = f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _swipe; echo ${{COMPREPLY[@]}}"
    ended = subprocess.run(
        ["bash", "-c", f"{script('bash')}\n{lines}"], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_every_option(shell):
    text = script(shell)
    for name, command in COMMANDS.items():
        assert name in text
        for action in command.parser()._actions:
            for option in action.option_strings:
                assert option.lstrip("-") in text
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "nuclei", "--data", "sample", "--output", "run"],
        ["configure", "quick", "--data", "sample", "--classes", "nucleus", "--output", "mine.yaml"],
        ["quick", "sample", "--output", "mine.safetensors"],
        ["evaluate", "nuclei", "sample"],
        ["figures", "cases", "nuclei", "sample", "--output", "cases.png"],
    ],
)
def test_every_command_that_takes_a_data_set_knows_the_one_of_the_package(words):
    data = COMMANDS[words[0]].parse(words[1:]).data
    assert (data[0] if isinstance(data, list) else data) == str(sample_folder("nuclei"))
