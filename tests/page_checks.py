"""What can be checked of a page's blocks without running them."""

import json
import re
import shlex
import subprocess

import typer
import yaml
from pages import ROOT

from hsi_pipeline import cli as command_line
from hsi_pipeline import config


def commands_of(command):
    """Return a command and all below it."""
    below = getattr(command, "commands", {}).values()
    return [command, *(one for child in below for one in commands_of(child))]


def check_test(page, test):
    """Check that a test which is said to run a page is there, and speaks of it."""
    path = ROOT / test
    assert path.is_file(), f"{page}: there is no {test}"
    assert page.name in path.read_text(), f"{test} does not name {page.name}"


def check_syntax(block):
    """Check a block that is not run here as far as that goes: by its language, and by options."""
    if block.language == "python":
        compile(block.text, str(block), "exec")
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "bash":
        read = subprocess.run(
            ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
        )
        assert read.returncode == 0, f"{block}: {read.stderr}"
        for line in re.sub(r"\\\n", " ", block.text).splitlines():
            for call in calls_in(line):
                parse(block, call)
            words = first_words(line)
            if words[:1] == ["python"] and "/" in words[1]:
                assert (ROOT / words[1]).is_file(), f"{block}: there is no {words[1]}"


def calls_in(line):
    """Return the words after each `hsi-pipeline` in a line of bash."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    calls, inside = [], False
    for word in words:
        if word == "hsi-pipeline":
            calls.append([])
            inside = True
        elif set(word) <= set("();<>|&"):
            inside = False
        elif inside:
            calls[-1].append(word)
    return calls


def parse(block, words):
    """Read a command line as the program does, up to the point where it would run."""
    group = typer.main.get_command(command_line.app)
    try:
        context = group.make_context("hsi-pipeline", list(words))
        while hasattr(context.command, "commands"):
            rest = [*context._protected_args, *context.args]
            name, command, rest = context.command.resolve_command(context, rest)
            context = command.make_context(name, rest, parent=context)
    except typer.Exit:
        return  # --help and --version
    except Exception as error:
        if getattr(error, "exit_code", None) == 0:
            return
        said = error.format_message() if hasattr(error, "format_message") else error
        raise AssertionError(f"{block}: hsi-pipeline {shlex.join(words)}: {said}") from error


def check_target(block, words):
    """Check that make knows what it is asked for."""
    asked = subprocess.run(
        ["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0, f"{block}: make {shlex.join(words)}: {asked.stderr}"
    assert asked.stdout.strip(), f"{block}: make {shlex.join(words)} does nothing"


def check_keys(block, values, kind):
    """Check that a block has exactly the keys of a section, and of the sections below."""
    left_out = {"model"} if kind is config.Workflow else set()  # it stands for 'train'
    assert set(values) == set(kind.model_fields) - left_out, f"{block}: keys of {kind.__name__}"
    below = {"archive": config.Scenes, "train": config.Train}
    if kind is config.Workflow:
        below |= {
            "classify": config.Classify, "polygonize": config.Polygonize,
            "evaluate": config.Evaluate, "assess": config.Assess, "report": config.Report,
        }  # fmt: skip
    for name in below.keys() & values.keys():
        wanted = set(below[name].model_fields)
        assert set(values[name]) == wanted, f"{block}: keys of {name}"
    if "train" in values:
        assert set(values["train"]["labels"]) == set(config.Labels.model_fields)


def first_words(line):
    """Return the words of a line up to where it becomes complicated."""
    return re.sub(r"\s+#.*|^#.*", "", line).split()


def bare(line):
    """Return a line without its comment and what stands in quotes, where bash looks for nothing."""
    line = re.sub(r"'[^']*'|\"[^\"$`]*\"", "''", line)
    return re.sub(r"(^|\s)#.*", "", line)
