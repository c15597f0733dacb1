"""The plugin into QGIS and out again: every place of profiles, nothing else touched, and doctor."""

import ast
import configparser
import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import geopandas as gpd
import pytest
import rasterio
from system_programs import require_programs, run_program

from hsi_pipeline import __version__
from hsi_pipeline.commands import qgis, qgis_profiles, qgis_programs

LINUX = Path(".local", "share", "QGIS", "QGIS3", "profiles")
SETTINGS = Path("QGIS", "QGIS3.ini")
ALGORITHMS = "assess, classify, polygonize, report, run, train"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return the home of a user who has no QGIS, with a name as people have."""
    folder = tmp_path / "Jörg Müller"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("QGIS_CUSTOM_CONFIG_PATH", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def no_qgis(tmp_path, monkeypatch):
    """Take QGIS off the search path; return a folder on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def make_profile(folder, settings=b""):
    """Make a profile as QGIS leaves it."""
    (folder / SETTINGS).parent.mkdir(parents=True)
    (folder / SETTINGS).write_bytes(settings)
    (folder / "qgis.db").write_bytes(b"")
    return folder


def plugin_of(profile):
    return profile / "python" / "plugins" / "hsi_pipeline"


def content_of(folder, leave_out=()):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts and file.name not in leave_out
    }


def is_enabled(settings):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(settings, encoding="latin-1")
    return parser.get("PythonPlugins", "hsi_pipeline", fallback=None) == "true"


# --- install --------------------------------------------------------------------------------------


def test_where_qgis_was_never_started_its_default_profile_is_made(cli, home):
    code, out, err = cli("qgis", "install")
    profile = home / LINUX / "default"
    assert code == 0, err
    assert f"QGIS has not been started here yet: its profile {profile} is made" in err
    assert out == f"The plugin {__version__} is in {profile}, and enabled.\n"
    note = json.loads((plugin_of(profile) / "environment.json").read_text("utf-8"))
    # the link that a virtual environment is, not the interpreter that it leads to
    assert note == {"python": sys.executable, "version": __version__}
    source = Path(qgis.__file__).parents[1] / "qgis_plugin"
    assert content_of(plugin_of(profile), ["environment.json"]) == content_of(source)
    assert is_enabled(profile / SETTINGS)
    assert [one.name for one in plugin_of(profile).parent.iterdir()] == ["hsi_pipeline"]


def test_the_plugin_is_of_the_version_of_the_package():
    assert qgis.plugin_metadata(qgis.SOURCE)["version"] == __version__


SETTINGS_BEFORE = {
    "none": b"",
    "another section": b"[qgis]\nstyle=Fusion\n",
    "no end of line": b"[qgis]\nstyle=Fusion",
    "Windows": b"[PythonPlugins]\r\nother=true\r\n\r\n[qgis]\r\nname=M\xfcller \\x4e2d\r\n",
    "last section": b"[qgis]\na\\b=@Variant(\\0\\0)\n\n[PythonPlugins]\nother=true\n",
    "disabled": b"[PythonPlugins]\nhsi_pipeline=false\nother=true\n[x]\nhsi_pipeline=false\n",
    "twice": b"[PythonPlugins]\nhsi_pipeline=false\nhsi_pipeline=true\nhsi_pipeline2=false\n",
}


@pytest.mark.parametrize("name", SETTINGS_BEFORE)
def test_all_else_in_the_settings_stays_as_it_is(cli, home, name):
    before = SETTINGS_BEFORE[name]
    file = make_profile(home / LINUX / "default", before) / SETTINGS

    def others(content):
        kept, section = [], b""
        for line in content.splitlines(keepends=True):
            section = line.strip() if line.startswith(b"[") else section
            if (section, line.split(b"=")[0]) != (b"[PythonPlugins]", b"hsi_pipeline"):
                kept.append(line)
        return b"".join(kept)

    assert cli("qgis", "install")[0] == 0
    after = file.read_bytes()
    assert is_enabled(file)
    if b"[PythonPlugins]" in before:
        assert others(after) == others(before)
    else:
        assert others(after).startswith(before)
        assert others(after)[len(before) :].strip() == b"[PythonPlugins]"
    assert (b"\r\n" in after) == (b"\r\n" in before)
    assert after.count(b"\r\n") in (0, after.count(b"\n"))

    assert cli("qgis", "install")[0] == 0
    assert file.read_bytes() == after  # nothing more to do
    assert cli("qgis", "uninstall")[0] == 0
    assert file.read_bytes() == others(after)


def test_settings_that_are_a_link_stay_one_and_keep_their_mode(cli, home):
    profile = make_profile(home / LINUX / "default")
    real = home / "dotfiles.ini"
    real.write_bytes(b"[qgis]\n")
    real.chmod(0o600)
    (profile / SETTINGS).unlink()
    (profile / SETTINGS).symlink_to(real)
    assert cli("qgis", "install")[0] == 0
    assert (profile / SETTINGS).is_symlink()
    assert is_enabled(real)
    assert real.stat().st_mode & 0o777 == 0o600


def test_an_older_version_is_replaced_whole(cli, home):
    folder = plugin_of(make_profile(home / LINUX / "default"))
    shutil.copytree(qgis.SOURCE, folder)
    (folder / "metadata.txt").write_text("[general]\nname=hsi_pipeline\nversion=0.0.1\n")
    (folder / "gone_since.py").touch()
    for left in (".hsi_pipeline.new", ".hsi_pipeline.old"):  # by a run that was killed
        (folder.parent / left / "icons").mkdir(parents=True)
    assert cli("qgis", "install")[0] == 0
    assert content_of(folder, ["environment.json"]) == content_of(qgis.SOURCE)
    assert [one.name for one in folder.parent.iterdir()] == ["hsi_pipeline"]


@pytest.mark.parametrize("what", ["plugin", "folder", "file", "broken link"])
@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_something_else_of_that_name_is_not_touched(cli, home, what, command):
    profile = make_profile(home / LINUX / "default", b"[qgis]\n")
    folder = plugin_of(profile)
    folder.parent.mkdir(parents=True)
    if what == "file":
        folder.write_text("mine")
    elif what == "broken link":
        folder.symlink_to(home / "nowhere")
    else:
        folder.mkdir()
        (folder / "mine.txt").touch()
    if what == "plugin":
        (folder / "metadata.txt").write_text("[general]\nname=Another\nversion=1\n")
    before = content_of(profile)
    code, _, err = cli("qgis", command)
    assert code == 2
    assert f"{folder} is there, and is not this plugin; move it away" in err
    assert content_of(profile) == before
    assert os.path.lexists(folder)


def test_a_link_to_a_working_copy_is_replaced_and_the_copy_is_kept(cli, home):
    folder = plugin_of(make_profile(home / LINUX / "default"))
    folder.parent.mkdir(parents=True)
    copy = shutil.copytree(qgis.SOURCE, home / "copy")
    before = content_of(copy)
    for command in ("install", "uninstall"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.symlink_to(copy)
        assert cli("qgis", command)[0] == 0
        assert not folder.is_symlink()
        assert folder.exists() == (command == "install")
        assert content_of(copy) == before


def test_a_plugin_that_is_held_open_stays_whole(cli, home, monkeypatch):
    """As on Windows, where a folder in use cannot be renamed, here the second time."""
    assert cli("qgis", "install")[0] == 0
    folder = plugin_of(home / LINUX / "default")
    before, replace = content_of(folder), os.replace

    def held(source, target):
        if Path(source).name == ".hsi_pipeline.new":
            raise PermissionError(13, "is in use")
        replace(source, target)

    monkeypatch.setattr(qgis.os, "replace", held)
    code, _, err = cli("qgis", "install")
    assert code == 2
    assert f"{folder} cannot be replaced (is in use); close QGIS and say it again" in err
    assert content_of(folder) == before
    assert [one.name for one in folder.parent.iterdir()] == ["hsi_pipeline"]


# --- which profile --------------------------------------------------------------------------------


def installed(home):
    return sorted(str(file.parents[2].relative_to(home)) for file in home.rglob("hsi_pipeline/"))


@pytest.mark.parametrize(
    ("ini", "expected"),
    [
        (b"[core]\ndefaultProfile=second\n", "second"),  # before QGIS 3.32
        (b"[core]\ndefaultProfile=default\nlastProfile=second\n", "second"),
        (b"[core]\ndefaultProfile=default\nlastProfile=second\nselectionPolicy=1\n", "default"),
        (b"[core]\ndefaultProfile=second\nlastProfile=gone\n", "second"),
        (b'[core]\nlastProfile="Gr\\xfc\\xdf""e"\n', "default"),  # is there nowhere
        (b"[core]\nlastProfile=Gr\\xfcn\n", "Grün"),
        (b"no settings at all", "default"),
    ],
)
def test_by_default_it_is_the_profile_that_qgis_starts_with(cli, home, ini, expected):
    for name in ("default", "second", "Grün"):
        make_profile(home / LINUX / name)
    (home / LINUX / "profiles.ini").write_bytes(ini)
    assert cli("qgis", "install")[0] == 0
    assert installed(home) == [str(LINUX / expected)]


def test_a_profile_is_named_or_its_folder_is_given(cli, home):
    for name in ("default", "second"):
        make_profile(home / LINUX / name)
    assert cli("qgis", "install", "--profile", "second")[0] == 0
    assert installed(home) == [str(LINUX / "second")]
    assert cli("qgis", "install", "--profile", home / LINUX / "default")[0] == 0
    assert cli("qgis", "uninstall", "--profile", f"~/{LINUX}/second")[0] == 0
    assert installed(home) == [str(LINUX / "default")]
    empty = home / "new profile"
    empty.mkdir()
    assert cli("qgis", "install", "--profile", empty)[0] == 0
    assert str(empty.relative_to(home)) in installed(home)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("third", "QGIS has no profile 'third' here"),
        ("", "QGIS has no profile '' here"),
        ("{profiles}/third", "there is no folder {profiles}/third"),
        ("{profiles}", "{profiles} is no profile of QGIS"),
        ("{profiles}/..", "is no profile of QGIS"),
        ("{home}/.local/share", "{home}/.local/share is no profile of QGIS"),
        ("{profiles}/second/qgis.db", "qgis.db is no profile of QGIS"),
    ],
)
@pytest.mark.parametrize("command", ["install", "uninstall", "doctor"])
def test_a_profile_that_is_none_gives_those_that_are(cli, home, asked, words, command):
    names = {"home": home, "profiles": home / LINUX}
    for name in ("default", "second"):
        make_profile(home / LINUX / name)
    code, _, err = cli("qgis", command, "--profile", asked.format(**names))
    assert code == 2
    assert words.format(**names) in err
    assert f"{home / LINUX / 'default'}, {home / LINUX / 'second'}" in err
    assert installed(home) == []


def test_without_any_profile_a_name_says_how_to_get_one(cli, home):
    code, _, err = cli("qgis", "install", "--profile", "mine")
    assert code == 2
    assert "there is none; start QGIS once, or leave out --profile to have one made" in err


def test_every_qgis_gets_it_and_flatpak_a_warning(cli, home):
    places = [
        Path(".var/app/org.qgis.qgis/data/QGIS/QGIS3/profiles/default"),
        LINUX / "default",
        Path(".local/share/QGIS/QGIS4/profiles/default"),
    ]
    for place in places[:2]:
        make_profile(home / place)
    (home / places[2] / "QGIS").mkdir(parents=True)
    (home / places[2] / "QGIS" / "QGIS4.ini").write_bytes(b"")
    _, _, err = cli("qgis", "install")
    assert installed(home) == sorted(map(str, places))
    assert is_enabled(home / places[2] / "QGIS" / "QGIS4.ini")
    assert not (home / places[2] / SETTINGS).exists()
    of_system = Path(sys.executable).resolve().is_relative_to("/usr")
    assert ("QGIS from Flatpak may not be able to start" in err) == of_system


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("darwin", "Library/Application Support/QGIS/QGIS3/profiles/default/qgis.org/QGIS3.ini"),
        ("win32", "AppData/Roaming/QGIS/QGIS3/profiles/default/QGIS/QGIS3.ini"),
        ("linux", str(LINUX / "default" / SETTINGS)),
    ],
)
def test_each_system_has_its_own_place(home, monkeypatch, platform, expected):
    monkeypatch.setattr(qgis_profiles, "sys", SimpleNamespace(platform=platform))
    monkeypatch.delenv("APPDATA", raising=False)
    (profile,) = qgis_profiles.find_profiles(None)
    assert profile.settings == [home / expected]
    profile.enable(True)
    assert is_enabled(home / expected)
    assert profile.has_enabled()
    if platform == "win32":
        monkeypatch.setenv("APPDATA", str(home / "Elsewhere"))
        (profile,) = qgis_profiles.find_profiles(None)
        assert profile.folder == home / "Elsewhere" / "QGIS" / "QGIS3" / "profiles" / "default"


def test_variables_move_the_profiles(cli, home, monkeypatch):
    make_profile(home / LINUX / "default")
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "share"))
    assert cli("qgis", "install")[0] == 0
    monkeypatch.setenv("QGIS_CUSTOM_CONFIG_PATH", str(home / "custom"))
    assert cli("qgis", "install")[0] == 0
    expected = ["custom/profiles/default", "share/QGIS/QGIS3/profiles/default"]
    assert installed(home) == expected


# --- uninstall ------------------------------------------------------------------------------------


def test_uninstall_takes_it_out_and_says_when_there_is_nothing(cli, home):
    profile = make_profile(home / LINUX / "default", b"[PythonPlugins]\nother=true\n")
    before = content_of(profile)
    cli("qgis", "install")
    assert content_of(profile) != before
    _, out, _ = cli("qgis", "uninstall")
    assert out == f"The plugin is no longer in {profile}.\n"
    assert content_of(profile) == before
    code, out, _ = cli("qgis", "uninstall")
    assert (code, out) == (0, f"The plugin is not in {profile}.\n")


# --- doctor ---------------------------------------------------------------------------------------


def spoil_python(folder, python):
    (folder / "environment.json").write_text(json.dumps({"python": python, "version": "0"}))


SPOILT = {
    "nothing": (lambda folder: None, ""),
    "removed": (shutil.rmtree, "the plugin is not in {profile}"),
    "another": (
        lambda folder: (folder / "metadata.txt").write_text("[general]\nname=x\n"),
        "{folder} is not this plugin",
    ),
    "older": (
        lambda folder: (folder / "metadata.txt").write_text(
            "[general]\nname=hsi_pipeline\nversion=0.0.9\n"
        ),
        f"the plugin in {{profile}} is of 0.0.9, this is {__version__}",
    ),
    "no note": (
        lambda folder: (folder / "environment.json").unlink(),
        "the plugin does not know which Python to start: {folder}/environment.json is missing",
    ),
    "damaged note": (
        lambda folder: (folder / "environment.json").write_text("{"),
        "the plugin does not know which Python to start",
    ),
    "moved": (
        lambda folder: spoil_python(folder, "/nowhere/bin/python"),
        "hsi-pipeline's environment was moved or removed, there is no /nowhere/bin/python",
    ),
    "no python": (lambda folder: spoil_python(folder, "/bin/false"), "/bin/false"),
    "disabled": (
        lambda folder: (folder.parents[2] / SETTINGS).write_text("[PythonPlugins]\n"),
        "it is not enabled in {profile}",
    ),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_doctor_says_what_is_wrong_and_its_mend_works(cli, home, no_qgis, fault):
    spoil, words = SPOILT[fault]
    profile = make_profile(home / LINUX / "default")
    cli("qgis", "install")
    spoil(plugin_of(profile))
    code, out, err = cli("qgis", "doctor")
    assert code == (fault != "nothing"), (out, err)
    assert ("wrong  " in out) == (fault != "nothing")
    assert words.format(profile=profile, folder=plugin_of(profile)) in out
    assert "no QGIS was found" in out
    assert out.endswith("all is well\n" if fault == "nothing" else "1 thing is wrong\n")
    if fault == "another":
        assert f'move it away, then: hsi-pipeline qgis install --profile "{profile}"' in out
        shutil.rmtree(plugin_of(profile))
    elif fault != "nothing":
        assert f'hsi-pipeline qgis install --profile "{profile}"' in out
    cli("qgis", "install", "--profile", profile)
    assert cli("qgis", "doctor")[0] == 0


def test_doctor_knows_other_environments(cli, home, no_qgis, tmp_path):
    """One that is the same by another path, and one that is another."""
    profile = make_profile(home / LINUX / "default")
    cli("qgis", "install")
    same = tmp_path / "link"
    python = Path(sys.executable)
    same.symlink_to(python.parents[1])
    spoil_python(plugin_of(profile), str(same / python.parent.name / python.name))
    code, out, _ = cli("qgis", "doctor")
    assert code == 0
    assert "it starts this environment" in out
    other = tmp_path / "other" / "python"
    other.parent.mkdir()
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    spoil_python(plugin_of(profile), str(other))
    code, out, _ = cli("qgis", "doctor")
    assert code == 0
    assert f"it starts {other}, which is not this environment ({sys.executable})" in out


def test_doctor_finds_a_qgis_that_is_too_old_or_fails(cli, home, no_qgis):
    cli("qgis", "install")
    for name, said in (("qgis", "echo 'QGIS 3.4.1-Madeira (abc)'"), ("qgis_process", "exit 3")):
        (no_qgis / name).write_text(f"#!/bin/sh\n{said}\n")
        (no_qgis / name).chmod(0o755)
    code, out, _ = cli("qgis", "doctor")
    assert code == 1
    assert f"{no_qgis}/qgis is QGIS 3.4.1, too old\n       -> install QGIS 3.22 or newer" in out
    assert f"{no_qgis}/qgis_process does not run: no word" in out
    assert "there is no qgis_process that runs" in out


def test_qgis_is_run_without_the_environment_on_its_path(tmp_path, monkeypatch):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert not qgis_programs.is_activated()
    monkeypatch.setenv("PATH", f"{tmp_path}/venv/bin:/usr/bin:/bin")
    monkeypatch.setenv("PROJ_DATA", "/ours")
    monkeypatch.setenv("PYTHONPATH", "/ours")
    assert qgis_programs.is_activated()
    answer = qgis_programs.run_qgis(["/usr/bin/env"], "/profiles")
    variables = dict(line.partition("=")[::2] for line in answer.stdout.splitlines())
    assert variables["PATH"] == "/usr/bin:/bin"
    assert variables["QGIS_CUSTOM_CONFIG_PATH"] == "/profiles"
    assert "PROJ_DATA" not in variables
    assert not [name for name in variables if name.startswith(("PYTHON", "HSI_"))]


# --- with QGIS ------------------------------------------------------------------------------------


def need_qgis():
    require_programs("qgis_process.bin", package="qgis python3-qgis qgis-providers")


def test_qgis_loads_what_was_installed(cli, home):
    need_qgis()
    cli("qgis", "install")
    result = run_program("qgis_process.bin", "plugins", folder=home, PATH="/usr/bin:/bin",
                         QT_QPA_PLATFORM="offscreen")  # fmt: skip
    assert "* hsi_pipeline\n" in result.stdout.decode()
    cli("qgis", "uninstall")
    result = run_program("qgis_process.bin", "plugins", folder=home, PATH="/usr/bin:/bin",
                         QT_QPA_PLATFORM="offscreen")  # fmt: skip
    assert "hsi_pipeline" not in result.stdout.decode()


def test_qt_reads_all_other_settings_as_before(cli, home):
    """QGIS's own library of settings as the judge."""
    need_qgis()
    read = (
        "import json, sys\nfrom qgis.PyQt.QtCore import QSettings\n"
        "settings = QSettings(sys.argv[1], QSettings.IniFormat)\n"
        "print(json.dumps({key: repr(settings.value(key)) for key in settings.allKeys()}))\n"
    )
    file = make_profile(home / LINUX / "default", b"".join(
        [b"[General]\nx=1\n\n", SETTINGS_BEFORE["Windows"].replace(b"\r", b""),
         b"list=a, b, c\nquoted=\"a;b\"\npath\\to%20it=@Invalid()\n"]
    )) / SETTINGS  # fmt: skip

    def values():
        result = run_program("/usr/bin/python3", "-c", read, file, folder=home)
        return json.loads(result.stdout)

    before = values()
    cli("qgis", "install")
    assert values() == {**before, "PythonPlugins/hsi_pipeline": "'true'"}
    assert len(before) > 5


def test_doctor_has_qgis_list_the_algorithms(cli, home):
    need_qgis()
    profile = make_profile(home / LINUX / "mine")
    cli("qgis", "install", "--profile", "mine")
    before = content_of(home)
    code, out, _ = cli("qgis", "doctor", "--profile", "mine", "--json")
    assert code == 0, out
    found = json.loads(out)["results"]["qgis doctor"]
    assert found["wrong"] == 0
    texts = [check["text"] for check in found["checks"] if check["state"] == "ok"]
    assert f"qgis_process.bin has its algorithms: {ALGORITHMS}" in texts
    notes = [check["text"] for check in found["checks"] if check["state"] == "note"]
    assert "qgis_process looks at the profile 'default' only, not at 'mine'" in notes
    after = content_of(home)
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if name.startswith(str(LINUX)) and name not in before]

    (plugin_of(profile) / "provider.py").write_text("this is no Python\n")
    code, out, _ = cli("qgis", "doctor", "--profile", "mine")
    assert code == 1
    assert "qgis_process.bin does not load the plugin: SyntaxError: invalid syntax" in out


# --- docs/qgis.md ---------------------------------------------------------------------------------

PAGE = Path(__file__).parents[1] / "docs" / "qgis.md"


def test_the_commands_of_the_page_run_in_qgis(cli, home, tiny, model):
    """As the page has them, in the folder that it speaks of."""
    need_qgis()
    cli("qgis", "install")
    shutil.copy(tiny.path, home / "scene.tif")
    shutil.copy(model, home / "model.safetensors")
    labels = gpd.read_file(tiny.labels).rename(columns={"code": "class_id"})
    labels.to_file(home / "polygons.gpkg")
    script = home / "bin" / "qgis_process"  # as Debian calls it
    script.parent.mkdir()
    script.write_text('#!/bin/sh\nexec /usr/bin/qgis_process.bin "$@"\n')
    script.chmod(0o755)
    text = PAGE.read_text("utf-8")
    (block,) = [
        one for one in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "qgis_process" in one
    ]
    answer = run_program(
        "/bin/bash", "-euc", block, folder=home,
        PATH=f"{script.parent}:/usr/bin:/bin", QT_QPA_PLATFORM="offscreen",
    )  # fmt: skip
    assert "hsi_pipeline:classify" in answer.stdout.decode()
    cli("classify", home / "scene.tif", home / "model.safetensors", "--out", home / "map.tif")
    for name in ("qgis_map.tif", "qgis_map_dissimilarity.tif", "qgis_polygons.gpkg",
                 "own.safetensors"):  # fmt: skip
        assert (home / name).stat().st_size
    with rasterio.open(home / "map.tif") as ours, rasterio.open(home / "qgis_map.tif") as theirs:
        assert (ours.read() == theirs.read()).all()


def test_messages_of_the_page_are_those_of_plugin_and_command():
    folder = qgis.SOURCE.parent
    paths = [*qgis.SOURCE.glob("*.py"), *(folder / "commands").glob("qgis*.py")]
    texts = [
        _said(node)
        for path in paths
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant | ast.JoinedStr)
    ]
    messages = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(messages) > 20
    for message in messages:
        wanted = re.compile(".*".join(re.escape(part) for part in message.split("...")))
        assert any(wanted.search(text) for text in texts), f"no longer said: {message}"


def _said(node):
    """Return what a string says, with \0 where a value is put in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_said(value) for value in node.values)
    value = getattr(node, "value", None)
    return value if isinstance(value, str) else "\0"


def test_where_the_plugin_cannot_be_put_nothing_is_left_and_it_is_said_in_a_line(cli, home):
    profile = home / "profile"
    make_profile(profile)
    kept = sorted(profile.iterdir())
    (profile / "python").write_text("a file")
    code, _, err = cli("qgis", "install", "--profile", profile)
    assert code == 2
    assert "plugins cannot be made a folder (" in err
    assert err.count("\n") == 1
    assert sorted(profile.iterdir()) == sorted([*kept, profile / "python"])
