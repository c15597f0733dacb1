"""Every code block of README.md and docs/ runs, or is checked as far as it can be here.

Commands of `hsi-pipeline` run in this process, on a scene of 48 x 40 pixels and with one short
epoch: the words are those of the pages, only what they leave to defaults is made small.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
from functools import partial
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import typer
import yaml
from page_checks import (
    bare,
    check_keys,
    check_syntax,
    check_target,
    check_test,
    commands_of,
    first_words,
    parse,
)
from page_folder import interpret, make_page_folder
from pages import ROOT, Block, all_pages, blocks_of, page_test, prose
from system_programs import clean_environment

from hsi_pipeline import cli as command_line
from hsi_pipeline import config, estimators, loaders
from hsi_pipeline.commands import fitting, judging
from hsi_pipeline.errors import InputError
from hsi_pipeline.training import TrainingSettings

VENV = ROOT / ".venv" / "bin"
WITH_BLOCKS = [page for page in all_pages() if blocks_of(page)]
# options of other programs that pages speak of
FOREIGN_OPTIONS = {"--nworkers", "--nthreads", "--memory-limit"}  # dask worker
_STATE = re.compile(r"[|&;<>$`]|^\s*(export|cd|for|if|while)\b|^\w+=|\\$")
_INPUTS = {"--product", "--model", "--scene", "--assessment", "--by", "--class-table", "--also",
           "--also-labels", "--strata", "--polygons"}  # fmt: skip
_SHELL_LIKE = re.compile(
    r"\s*([$%>] |(hsi-pipeline|make|pip|python|dask|curl|gdal\w*|ogr\w+|docker|conda|git) )"
)


@pytest.fixture(scope="module")
def short_training():
    """Make what the defaults leave open small: the same code in a twentieth of the time."""
    quick = {
        name: (
            partial(make, **({"n_estimators": 20, "n_jobs": 1} if name in few else {})),
            {key: values[:1] for key, values in grid.items()},
        )
        for name, (make, grid) in estimators.BASELINES.items()
        for few in ({"random_forest"},)
    }
    with pytest.MonkeyPatch.context() as patch:
        for room in (fitting, judging):
            patch.setattr(room, "TrainingSettings", partial(TrainingSettings, epochs=1))
        patch.setattr(loaders, "_BATCHES", (2, 2))
        for name, made in quick.items():
            patch.setitem(estimators.BASELINES, name, made)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, short_training):
    """Return the folder that pages start from, and what is really on its ground."""
    folder = tmp_path_factory.mktemp("pages")
    return folder, make_page_folder(folder)


class Place:
    """A copy of the folder, in which the blocks of a page run one after the other."""

    def __init__(self, folder, made, cli):
        source, self.classes = made
        shutil.copytree(source, folder, dirs_exist_ok=True)
        self.folder, self.cli = folder, cli
        self.given = set(os.listdir(folder))
        """What was there before the page wrote it itself."""
        self.names = {"__name__": "__page__"}
        """What its Python blocks have defined."""
        self.missing = []
        """Programs that are not installed here."""

    def run(self, block):
        """Run a block or check it; an AssertionError says what is wrong with it."""
        if test := block.marks.get("tested by"):
            check_test(block.page, test)
        if "not run" in block.marks or "tested by" in block.marks:
            check_syntax(block)
            return
        check = getattr(self, f"_{block.language}", None)
        assert check is not None, f"{block}: nothing here can run {block.language!r} blocks"
        check(block)

    def _text(self, block):
        looks = [line for line in block.text.splitlines() if _SHELL_LIKE.match(line)]
        assert not looks or "output" in block.marks, f"{block}: commands belong in bash: {looks}"

    def _json(self, block):
        json.loads(block.text)

    def _yaml(self, block):
        path = self.folder / block.marks.get("file", "page.yaml")
        path.write_text(block.text)
        settings = config.load(path)
        if kind := block.marks.get("all keys of"):
            assert type(settings).__name__ == kind
            check_keys(block, yaml.safe_load(block.text), type(settings))

    def _python(self, block):
        if name := block.marks.get("file"):
            (self.folder / name).write_text(block.text)
        code = compile("\n" * block.line + block.text, str(block.page), "exec")
        try:
            exec(code, self.names)
        finally:
            plt.close("all")

    def _bash(self, block):
        lines = [line for line in block.text.splitlines() if line.strip()]
        if any(_STATE.search(bare(line)) for line in lines):
            check_syntax(block)
            self._bash_itself(block, block.text)
            return
        for line in lines:
            words = shlex.split(line, comments=True)
            if not words:
                continue
            if words[0] == "hsi-pipeline":
                self._hsi_pipeline(block, words[1:])
            elif words[0] == "make":
                check_target(block, words[1:])
            elif words[:1] in (["."], ["source"]):
                assert words[1] == ".venv/bin/activate", f"{block}: {line}"
            else:
                self._bash_itself(block, line)

    def _hsi_pipeline(self, block, words):
        parse(block, words)
        targets = self._take_targets(words)
        if targets and not {"--overwrite", "--append"} & set(words):
            words = [*words, "--overwrite"]
        code, out, err = self.cli(*words)
        assert code == 0, f"{block}: hsi-pipeline {shlex.join(words)}\n{out}{err}"
        if words[0] == "sample":
            interpret(self.folder / words[words.index("--out") + 1], self.classes)

    def _bash_itself(self, block, text):
        programs = {words[0] for line in text.splitlines() if (words := first_words(line))}
        environment = clean_environment(self.folder)
        environment["PATH"] = f"{VENV}{os.pathsep}{environment['PATH']}"
        absent = [name for name in programs if not is_there(name, environment["PATH"])]
        if absent:
            self.missing += absent
            return
        for line in text.splitlines():
            with contextlib.suppress(ValueError):  # a quote that goes over lines
                for target in self._take_targets(shlex.split(line, comments=True)):
                    remove(self.folder / target)
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=self.folder, env=environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{block}: {text}\n{ended.stdout}{ended.stderr}"

    def _take_targets(self, words):
        """Return files of the first folder that a command writes, as the first one to do so.

        A reader of the page does not have them yet.
        """
        found = set()
        for word, after in pairwise(words):
            is_input = word in _INPUTS and (word, words[0]) != ("--polygons", "change")
            if word.startswith("--") and not is_input:
                found.add(after)
        named = found & self.given
        self.given -= named
        return named


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_of_a_page_run_one_after_the_other(page, made, tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    mpl.use("Agg")
    place = Place(tmp_path, made, cli)
    ran = 0
    for block in blocks_of(page):
        place.run(block)
        ran += 1
    assert ran == len(re.findall(r"^\s*```+\S+", page.read_text(), re.MULTILINE))
    if place.missing:
        pytest.skip(f"not installed: {', '.join(place.missing)}; all other blocks ran")


def test_every_fence_is_a_block_with_a_language():
    found = [block for page in all_pages() for block in blocks_of(page)]
    fences = sum(
        len(re.findall(r"^\s*```", page.read_text(), re.MULTILINE)) for page in all_pages()
    )
    assert fences == 2 * len(found)
    assert [str(block) for block in found if not block.language] == []
    assert len(found) > 50


def test_blocks_that_do_not_run_say_why():
    for page in all_pages():
        for block in blocks_of(page):
            assert len(block.marks.get("not run", "a good reason")) > 10, block


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_named_in_the_text_exist(page):
    root = typer.main.get_command(command_line.app)
    options = set(FOREIGN_OPTIONS)
    for command in commands_of(root):
        options |= {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        words = code.split()
        if words[0] == "hsi-pipeline" and len(words) > 1 and words[1].islower():
            assert words[1] in root.commands or words[1].startswith("-"), code
        if words[0] == "hsi-pipeline" or words[0].startswith("--"):
            named = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert named <= options | {"--help", "--version"}, f"{page.name}: {code}"


def is_there(name, path):
    if not re.fullmatch(r"[\w./-]+", name) or "=" in name:
        return True  # bash's own
    builtin = subprocess.run(["bash", "-c", f"type -t {name}"], capture_output=True, check=False)
    return bool(builtin.stdout.strip()) or shutil.which(name, path=path) is not None


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def test_page_tests_are_named_before_the_heading():
    for page in all_pages():
        if (test := page_test(page)) is not None:
            check_test(page, test)


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("bash", "hsi-pipeline info scene.tif --no-such", "No such option"),
        ("bash", "hsi-pipeline classify scene.tif model.safetensors", "Missing option"),
        ("bash", "hsi-pipeline nonsense", "No such command"),
        ("bash", "hsi-pipeline info lost.tif", "no such file"),
        ("bash", "echo said && false", "said"),
        ("bash", "make nonsense", "No rule"),
        ("text", "$ hsi-pipeline info scene.tif", "commands belong in bash"),
        ("yaml", "scene: scene.tif\nout: results\nno_such_key: {}", "no_such_key"),
        ("json", '{"a": }', "Expecting value"),
        ("python", "assert open('lost.txt')", "lost.txt"),
        ("perl", "print 1", "can run 'perl'"),
    ],
)
def test_blocks_that_do_not_work_are_noticed(
    language, text, said, made, tmp_path, cli, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    block = Block(ROOT / "README.md", 1, language, text, {})
    with pytest.raises((AssertionError, InputError, ValueError, OSError), match=said):
        Place(tmp_path, made, cli).run(block)


def test_blocks_that_do_not_run_are_read_all_the_same(made, tmp_path, cli):
    reason = {"not run": "needs a machine that is not here"}
    place = Place(tmp_path, made, cli)
    for text, said in (
        ("a=$(hsi-pipeline info scene.tif --no-such) && echo $a", "No such option"),
        ("if true; then", "syntax error"),
        ("python workflows/lost.py archive.yaml", "there is no workflows/lost.py"),
    ):
        with pytest.raises(AssertionError, match=said):
            place.run(Block(ROOT / "README.md", 1, "bash", text, reason))
    with pytest.raises(AssertionError, match="there is no tests/lost"):
        place.run(Block(ROOT / "README.md", 1, "bash", "true", {"tested by": "tests/lost.py"}))
