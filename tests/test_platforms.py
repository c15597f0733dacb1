"""Windows and macOS: what they lack is not used, and processes may be spawned."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hsi_pipeline.archive.candidates import safe_id
from hsi_pipeline.archive.listing import list_scenes
from hsi_pipeline.archive.scenes import Selection
from hsi_pipeline.publish.unfinished import unfinished_folder, working_on
from hsi_pipeline.scene.places import Place

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "hsi_pipeline").rglob("*.py"))
POSIX_MODULES = {"fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios", "tty", "pty"}
POSIX_NAMES = {
    "os": {
        "chown", "fchmod", "fork", "forkpty", "geteuid", "getgid", "getloadavg", "getpgid",
        "getuid", "kill", "killpg", "mkfifo", "nice", "pread", "pwrite", "sched_getaffinity",
        "setpgid", "setsid", "statvfs", "sync", "uname", "wait",
    },
    "signal": {"SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "alarm", "pause", "setitimer"},
}  # fmt: skip
GUARDS = ("os.name", "sys.platform", "hasattr(os,", "hasattr(signal,", "hasattr(\nos,")
LINUX_PLACES = ("/tmp", "/proc/", "/dev/shm", "/var/", "/etc/", "/sys/")
PATHS = ("path", "file", "target")  # what variables with a Path are called
OPENERS = {"open", "read_text", "write_text", "NamedTemporaryFile"}


def parents_of(tree):
    """Return the parent of each node."""
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def is_guarded(node, parents):
    """Tell whether a node stands below a condition on the system, or where OSError is caught."""
    while node in parents:
        node = parents[node]
        if isinstance(node, ast.If | ast.IfExp) and "".join(
            guard for guard in GUARDS if guard in ast.unparse(node.test)
        ):
            return True
        caught = [ast.unparse(h.type) for h in getattr(node, "handlers", ()) if h.type]
        if isinstance(node, ast.Try) and any("OSError" in name for name in caught):
            return True
    return False


def is_text_without_encoding(call):
    """Tell whether a call opens text and leaves it to the system how letters are written."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name not in OPENERS or any(keyword.arg in (None, "encoding") for keyword in call.keywords):
        return False
    if name == "read_text":
        return len(call.args) < 1
    if name == "write_text":
        return len(call.args) < 2
    if name == "NamedTemporaryFile":
        return any("b" not in str(ast.unparse(k.value)) for k in call.keywords if k.arg == "mode")
    of_path = isinstance(function, ast.Attribute)
    owner = ast.unparse(function.value) if of_path else ""
    if of_path and not owner.startswith("Path(") and owner.split(".")[-1] not in PATHS:
        return False  # of an archive, a raster, a file system
    place = 0 if of_path else 1
    modes = [call.args[place]] if len(call.args) > place else []
    modes += [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    if any("b" in ast.unparse(mode).strip("'\"") for mode in modes):
        return False
    return not (call.args and "devnull" in ast.unparse(call.args[0]))


def faults_in(text):
    """Yield line and words of what Windows or macOS would not bear."""
    tree = ast.parse(text)
    parents = parents_of(tree)
    asks = ".is_file()" in text or ".exists()" in text  # whether such a place is here
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
        and isinstance(node.body[0], ast.Expr)
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [alias.name for alias in node.names]
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else named
            if POSIX_MODULES.intersection(name.split(".")[0] for name in modules):
                yield node.lineno, "imports a module of POSIX"
            if isinstance(node, ast.ImportFrom) and node.module in POSIX_NAMES:
                for name in POSIX_NAMES[node.module].intersection(named):
                    yield node.lineno, f"imports {name}, which no guard can stand before"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            known = POSIX_NAMES.get(node.value.id, ())
            if node.attr in known and not is_guarded(node, parents):
                yield node.lineno, f"{node.value.id}.{node.attr} is not everywhere"
            if (node.value.id, node.attr) == ("os", "rename"):
                yield node.lineno, "os.rename refuses what exists on Windows; os.replace"
        elif isinstance(node, ast.Call):
            if is_text_without_encoding(node):
                yield node.lineno, "text is opened without its encoding"
            function = ast.unparse(node.func)
            if function.endswith(("ProcessPoolExecutor", "multiprocessing.Pool")) and not any(
                keyword.arg == "mp_context" for keyword in node.keywords
            ):
                yield node.lineno, "processes start as the system's default says"
            if function.endswith(("get_context", "set_start_method")) and (
                not node.args or "fork'" in ast.unparse(node.args[0])
            ):
                yield node.lineno, "processes are forked"
            if function.lower().endswith(("path.rename", "target.rename", "file.rename")):
                yield node.lineno, "Path.rename refuses what exists on Windows; replace"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_place = node.value.startswith(LINUX_PLACES) and id(node) not in documented
            if is_place and not asks and not is_guarded(node, parents):
                yield node.lineno, f"{node.value!r} is a place of Linux"


@pytest.mark.parametrize(
    "text",
    [
        "import fcntl",
        "from resource import getrusage",
        "import os\nos.killpg(1, 2)",
        "from os import fork",
        "import os\nos.rename('a', 'b')",
        "import os\npath.rename('b')",
        "import signal\nsignal.SIGKILL",
        "open('a')",
        "open('a', 'w')",
        "path.open()",
        "path.read_text()",
        "path.write_text('ä')",
        "folder = '/tmp/x'",
        "text = Path('/proc/self/status')",
        "pool = ProcessPoolExecutor(2)",
        "multiprocessing.set_start_method('fork')",
    ],
)
def test_the_lint_finds(text):
    assert list(faults_in(text))


@pytest.mark.parametrize(
    "text",
    [
        "import os\nif os.name == 'posix':\n    os.killpg(1, 2)",
        "import os\nif hasattr(os, 'sync'):\n    os.sync()",
        "import sys, signal\nx = signal.SIGKILL if sys.platform != 'win32' else signal.SIGTERM",
        "open('a', 'rb')",
        "open('a', encoding='utf-8')",
        "path.open('rb')",
        "path.read_text(encoding='utf-8')",
        "archive.open(name)",
        "'''/tmp is a folder'''",
        "try:\n    Path('/proc/self/status')\nexcept (OSError, IndexError):\n    pass",
        "frame.rename(columns=names)",
        "ProcessPoolExecutor(2, mp_context=get_context('spawn'))",
    ],
)
def test_the_lint_lets_pass(text):
    assert not list(faults_in(text))


def test_nothing_is_used_that_windows_or_macos_lack():
    found = [
        f"{path}:{line}: {what}"
        for path in MODULES
        for line, what in faults_in(path.read_text("utf-8"))
    ]
    assert len(MODULES) > 200
    assert not found, "\n".join(found)


def test_names_of_files_are_those_that_windows_takes():
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    if not names:
        pytest.skip("not a checkout of git")
    lower = [name.lower() for name in names]
    assert len(set(lower)) == len(lower)  # disks that do not tell A from a
    for name in names:
        assert not set(name) & set('<>:"|?*\\')
        for part in name.split("/"):
            assert not part.endswith((".", " "))
            stem = part.lstrip(".").split(".")[0]
            assert not re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", stem, re.IGNORECASE)


ON_WINDOWS = """
import importlib, os, pkgutil, signal, sys, types
import hsi_pipeline

found = pkgutil.walk_packages(hsi_pipeline.__path__, "hsi_pipeline.", onerror=lambda name: None)
names = [one.name for one in found if not {{"qgis_plugin", "__main__"}} & set(one.name.split("."))]
for name in names:
    importlib.import_module(name)  # and with it all packages of others, on their own system
for name in [name for name in sys.modules if name.startswith("hsi_pipeline.")]:
    del sys.modules[name]
for name in {modules!r}:
    sys.modules[name] = None
for module, gone in {names!r}.items():
    for name in gone:
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
for name in ("_winapi", "msvcrt", "winreg"):
    sys.modules.setdefault(name, types.ModuleType(name))
signal.SIGBREAK = 21
sys.platform = "win32"
for name in names:
    importlib.import_module(name)
assert len(names) > 200, names
print("imported")
"""


def test_every_module_imports_without_what_windows_lacks():
    text = ON_WINDOWS.format(modules=sorted(POSIX_MODULES), names=POSIX_NAMES)
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("imported\n")


# --- processes that are spawned -------------------------------------------------------------------

STEPS = """
import multiprocessing, os
from hsi_pipeline.commands.classify import classify
from hsi_pipeline.commands.polygonize import polygonize
from hsi_pipeline.commands.train import train

multiprocessing.set_start_method("spawn", force=True)
for name in {gone!r}:
    if hasattr(os, name):
        delattr(os, name)
train({scene!r}, {labels!r}, "model.safetensors", label_column="code", name_column="name",
      model="spectral", epochs=1, device="cpu", baselines=False)
classify({scene!r}, "model.safetensors", "map.tif", chunk=20, device="cpu")
polygonize("map.tif", "polygons.fgb")
"""


@pytest.fixture(scope="module")
def made_here(tiny, tmp_path_factory):
    """Return a folder with what the steps make in this process, as any user's program does."""
    from hsi_pipeline.commands.classify import classify
    from hsi_pipeline.commands.polygonize import polygonize
    from hsi_pipeline.commands.train import train

    folder = tmp_path_factory.mktemp("here")
    train(
        tiny.path, tiny.labels, folder / "model.safetensors", label_column="code",
        name_column="name", model="spectral", epochs=1, device="cpu", baselines=False,
    )  # fmt: skip
    classify(tiny.path, folder / "model.safetensors", folder / "map.tif", chunk=20, device="cpu")
    polygonize(folder / "map.tif", folder / "polygons.fgb")
    return folder


def run_script(text, folder):
    """Run a script as users do, from a file."""
    (folder / "script.py").write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=120
    )


def test_where_processes_are_spawned_products_are_the_same(tiny, made_here, tmp_path):
    """Without `if __name__ == "__main__"`, and without what Windows lacks."""
    gone = sorted(POSIX_NAMES["os"] - {"uname", "wait"})  # which Python itself asks for here
    text = STEPS.format(scene=str(tiny.path), labels=str(tiny.labels), gone=gone)
    done = run_script(text, tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "map.tif", "map_confidence.tif", "polygons.fgb"):
        assert (tmp_path / name).read_bytes() == (made_here / name).read_bytes(), name


READERS = """
import multiprocessing
import numpy as np
from hsi_pipeline.commands.workflow import run_workflow
from hsi_pipeline.datasets import HyperspectralDataset
from hsi_pipeline.loaders import LandCoverDataModule


def windows(workers):
    images = HyperspectralDataset({scene!r})
    labels = np.zeros(images.grids[0].shape, np.uint8)
    labels[8:40, 8:30] = np.arange(22) % 2 + 1
    train = np.arange(len(labels))[:, None] < 24
    train = np.broadcast_to(train, labels.shape)
    module = LandCoverDataModule(
        images, labels, train=train, validation=~train, hidden=np.zeros(labels.shape, bool),
        halo=1, batches=2, workers=workers,
    )
    return [batch["image"].numpy() for batch in module.train_dataloader()]


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn", force=True)
    for one, other in zip(windows(0), windows(1), strict=True):
        np.testing.assert_array_equal(one, other)
    assert run_workflow("archive.yaml", workers=1)
    print("the same")
"""


def test_loaders_and_workers_of_an_archive_may_be_spawned(tiny, model, tmp_path):
    """With `if __name__ == "__main__"`, as Python wants it of scripts that start processes."""
    (tmp_path / "archive.yaml").write_text(
        f"archive: {{scenes: '{tiny.path.parent}/scene*.tif'}}\nout: out\nmodel: {model}\n",
        encoding="utf-8",
    )
    done = run_script(READERS.format(scene=str(tiny.path)), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("the same\n")
    assert (tmp_path / "out" / "catalog.json").exists()


UNGUARDED = """
from hsi_pipeline.commands.scheduling import cluster
from hsi_pipeline.commands.terminal import Terminal

with cluster(Terminal(), None, 1, imports="json"):
    print("it started")
"""


def test_a_script_that_starts_workers_unguarded_is_told_how(tmp_path):
    done = run_script(UNGUARDED, tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("hsi_pipeline.errors.InputError: 1 workers cannot be started here")
    assert 'a script of your own starts them below `if __name__ == "__main__":`' in last
    assert "it started" not in done.stdout


# --- what Windows does otherwise ------------------------------------------------------------------


def test_ids_of_scenes_are_no_devices_of_windows():
    assert [safe_id(name) for name in ("con", "NUL", "com1", "console", "aux-1")] == [
        "con_", "NUL_", "com1_", "console", "aux-1",
    ]  # fmt: skip


def test_a_folder_that_could_not_be_removed_while_locked_is_removed_after(tmp_path, monkeypatch):
    """Windows removes no folder with a file that is open, and the lock is one."""
    target = tmp_path / "map.zarr"
    remove = shutil.rmtree

    def without_the_lock(path, **options):
        for entry in Path(path).iterdir():
            if entry.name != "lock":
                remove(entry) if entry.is_dir() else entry.unlink()

    monkeypatch.setattr("hsi_pipeline.publish.unfinished.shutil.rmtree", without_the_lock)
    with working_on(target, {"scene": "a"}) as work:
        (work.folder / "lock").unlink()  # as Windows's lock does when it is given back
    assert not unfinished_folder(target).exists()


def test_files_of_a_product_have_slashes_between_folders(tmp_path):
    (tmp_path / "GRANULE" / "IMG").mkdir(parents=True)
    (tmp_path / "GRANULE" / "IMG" / "a.tif").touch()
    from hsi_pipeline.scene.places import _folder

    found = _folder(str(tmp_path))
    assert isinstance(found, Place)
    assert found.names == ("GRANULE/IMG/a.tif",)


def test_file_addresses_are_paths_with_their_letters(tiny, tmp_path):
    folder = tmp_path / "my scenes"
    folder.mkdir()
    (folder / "a scene.tif").write_bytes(tiny.path.read_bytes())
    listed = list_scenes(folder.as_uri(), Selection())
    assert [Path(scene.path).name for scene in listed.scenes] == ["a scene.tif"]
    assert os.path.samefile(listed.scenes[0].path, folder / "a scene.tif")
