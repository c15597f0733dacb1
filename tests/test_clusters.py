"""The examples in workflows/clusters/, and that a map does not depend on where it is computed."""

import os
import runpy
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import kubernetes_validate
import network_hosts
import numpy as np
import pytest
import slurm_cluster
import yaml
from network_hosts import HSI_PIPELINE, dask_hosts, loopback_cluster, network

from hsi_pipeline import config
from hsi_pipeline.commands.classify import classify
from hsi_pipeline.publish import open_class_map

EXAMPLES = Path(__file__).parent.parent / "workflows" / "clusters"
WITH_PODS = ("Deployment", "Job")
STEPS = ("device: cpu", "classify: {chunk: 20}", "polygonize: {}")


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left():
    """Look whether namespaces are left behind, whatever a test did."""
    yield
    assert not spaces()


def spaces():
    """Return the network namespaces that tests of this process made."""
    folder = Path("/run/netns")
    return {path.name for path in folder.glob(f"hsi{os.getpid()}-*")} if folder.exists() else set()


@pytest.fixture(scope="module")
def local_map(tiny, model, tmp_path_factory):
    """Return the map that threads of one process make."""
    path = tmp_path_factory.mktemp("local") / "map.zarr"
    classify(tiny.path, model, path, chunk=20, device="cpu")
    return path


@pytest.fixture(scope="module")
def slurm():
    """Return a SLURM cluster of one node."""
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    with slurm_cluster.slurm_cluster() as cluster:
        yield cluster


@pytest.fixture
def workflow(tiny, model, tmp_path):
    """Return a workflow with the tiny scene, whose results come into the folder out."""
    file = tmp_path / "workflow.yaml"
    lines = (f"scene: {tiny.path}", "out: out", f"model: {model}", *STEPS)
    file.write_text("\n".join(lines))
    return file


def classify_there(cluster, tiny, model, out):
    """Classify the tiny scene by the program, on a cluster."""
    result = cluster.run(
        [HSI_PIPELINE, "classify", tiny.path, model, "--out", out, "--chunk", 20, "--device", "cpu",
         "--scheduler", cluster.scheduler],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def assert_same_map(path, expected):
    """Classes are equal, confidences but for how sums are rounded."""
    with open_class_map(path) as found, open_class_map(expected) as wanted:
        np.testing.assert_array_equal(found["class"], wanted["class"])
        np.testing.assert_allclose(found["confidence"], wanted["confidence"], rtol=0, atol=1e-6)


# --- clusters by address ---


def test_workers_of_this_machine_give_the_same_map(tiny, model, local_map, tmp_path):
    with loopback_cluster(2, folder=tmp_path / "dask") as cluster:
        out = tmp_path / "map.zarr"
        classify_there(cluster, tiny, model, out)
    assert_same_map(out, local_map)
    logs = "".join(path.read_text() for path in cluster.folder.glob("worker*.log"))
    assert "WARNING" not in logs
    assert "ERROR" not in logs


def test_workers_on_other_hosts_give_the_same_map(tiny, model, local_map, tmp_path):
    if reason := network_hosts.missing():
        pytest.skip(reason)
    with dask_hosts(2, folder=tmp_path / "dask") as cluster:
        here = subprocess.run(["ip", "-brief", "address"], capture_output=True, text=True)
        assert "10.213." not in here.stdout
        out = tmp_path / "map.zarr"
        classify_there(cluster, tiny, model, out)
        metrics = cluster.run(
            [sys.executable, "-c", "import sys, urllib.request as web\n"
             "print(web.urlopen(sys.argv[1]).read().decode())", cluster.dashboard + "/metrics"]
        ).stdout  # fmt: skip
    assert_same_map(out, local_map)
    assert "dask_scheduler_workers_added_total 2.0" in metrics


def test_hosts_are_gone_after_an_error_and_with_them_what_ran_there():
    if reason := network_hosts.missing():
        pytest.skip(reason)
    started = []

    def fail():
        deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
        with network(["one", "two"]) as hosts:
            assert len(spaces()) == 3
            started.append(subprocess.Popen([*hosts["one"].enter, sys.executable, "-c", deaf]))
            time.sleep(0.2)
            raise RuntimeError("a test fails")

    with pytest.raises(RuntimeError, match="a test fails"):
        fail()
    assert started[0].wait(5) == -signal.SIGKILL
    assert not spaces()


# --- SLURM ---


def slurm_run(slurm, workflow, *options):
    """Run the example on SLURM, in the workflow's folder."""
    return subprocess.run(
        [sys.executable, EXAMPLES / "slurm.py", workflow, "--cores", "2", "--memory", "3GB",
         "--walltime", "10", "--interface", "lo", "--dashboard", "127.0.0.1:0", *options],
        cwd=workflow.parent, env=slurm.variables, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_jobs_of_slurm_give_the_same_map(slurm, workflow, local_map):
    result = slurm_run(slurm, workflow, "--queue", "short", "--quiet")
    assert result.returncode == 0, result.stderr
    out = workflow.parent / "out"
    assert_same_map(out / "map.zarr", local_map)
    assert "out/map.zarr" in result.stdout  # what hsi-pipeline says comes through
    assert slurm.jobs() == []
    log = next((workflow.parent / "slurm-logs").glob("*.err")).read_text()
    assert log.count("Registered to") == 2  # one worker a core
    assert log.count("Threads:                          1\n") == 2


def test_jobs_that_end_are_replaced(slurm, monkeypatch, tmp_path):
    """Dask-jobqueue alone does so only for jobs of one worker."""
    from dask_jobqueue import SLURMCluster

    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.variables[name])
    example = runpy.run_path(str(EXAMPLES / "slurm.py"))
    with SLURMCluster(
        cores=2, processes=2, memory="1GB", interface="lo", log_directory=str(tmp_path),
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
    ) as cluster:  # fmt: skip
        cluster.adapt(minimum_jobs=1, maximum_jobs=1)
        (first,) = until(slurm.jobs)
        until(lambda: cluster.workers and not example["forget_ended_jobs"](cluster))
        slurm.run("scancel", first)
        assert until(lambda: example["forget_ended_jobs"](cluster)) == [first]
        (second,) = until(lambda: set(slurm.jobs()) - {first})
        assert int(second) > int(first)
    assert until(lambda: not slurm.jobs())


def until(found, seconds=30):
    """Return what a function finds, as soon as it finds something."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError("it did not come to be")


def test_what_slurm_refuses_is_said_at_once(slurm, workflow):
    result = slurm_run(slurm, workflow, "--queue", "nonsense")
    assert result.returncode == 2
    assert "error: sbatch: error: invalid partition specified: nonsense" in result.stderr
    assert "Traceback" not in result.stderr


def test_jobs_that_end_before_they_work_are_not_waited_for(slurm, workflow):
    result = slurm_run(slurm, workflow, "--scratch", "/dev/null/nowhere")
    assert result.returncode == 2
    assert "ended before it could work; see slurm-logs" in result.stderr
    assert "Traceback" not in result.stderr
    assert slurm.jobs() == []


def test_without_slurm_its_example_says_so(workflow):
    result = subprocess.run(
        [sys.executable, EXAMPLES / "slurm.py", workflow], env=os.environ | {"PATH": "/nowhere"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (2, "")
    words = "error: there is no sbatch here; start this on a node of a SLURM cluster\n"
    assert result.stderr == words


# --- several GPUs ---


@pytest.mark.parametrize(
    ("installed", "words"),
    [(False, "pip install 'hsi-pipeline[gpu]'"), (True, "Torch sees no GPU here")],
)
def test_without_gpus_their_example_says_so(workflow, tmp_path, installed, words):
    stub = "LocalCUDACluster = None" if installed else "raise ImportError('it is not here')"
    (tmp_path / "stubs").mkdir()
    (tmp_path / "stubs" / "dask_cuda.py").write_text(stub)
    hidden = {"PYTHONPATH": str(tmp_path / "stubs"), "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, EXAMPLES / "gpus.py", workflow], env=os.environ | hidden,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


# --- Kubernetes ---


@pytest.fixture(scope="module")
def manifests():
    """Return the documents of the example by kind and name."""
    documents = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


def pod(manifest):
    """Return the pod of a Deployment or Job."""
    return manifest["spec"]["template"]["spec"]


def pods(manifests):
    """Return the pods, with their labels and annotations."""
    return [one["spec"]["template"] for one in manifests.values() if one["kind"] in WITH_PODS]


@pytest.mark.parametrize("version", ["1.31", None])
def test_manifests_are_those_of_kubernetes(manifests, version):
    assert len(manifests) == 6
    for manifest in manifests.values():
        wanted = version or kubernetes_validate.latest_version()
        kubernetes_validate.validate(manifest, wanted, strict=True)


def test_parts_of_the_manifests_fit_together(manifests):
    (pod_of_service,) = [
        template for template in pods(manifests)
        if manifests["Service", "dask-scheduler"]["spec"]["selector"]
        == template["metadata"]["labels"]
    ]  # fmt: skip
    ports = {port["containerPort"] for port in pod_of_service["spec"]["containers"][0]["ports"]}
    service = manifests["Service", "dask-scheduler"]["spec"]["ports"]
    assert {port["port"] for port in service} == ports
    images = set()
    for template in pods(manifests):
        spec = template["spec"]
        volumes = {volume["name"] for volume in spec.get("volumes", ())}
        for container in [*spec["containers"], *spec.get("initContainers", ())]:
            images.add(container["image"])
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
        notes = template["metadata"].get("annotations")
        if notes:
            command = spec["containers"][0]["command"]
            address = command[command.index("--dashboard-address") + 1]
            assert address == ":" + notes["prometheus.io/port"]
    assert len(images) == 1
    for kind, name in manifests:
        if kind == "Deployment":
            spec = manifests[kind, name]["spec"]
            assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


def test_the_workflow_in_the_manifests_is_one(manifests, tmp_path):
    (tmp_path / "archive.yaml").write_text(
        manifests["ConfigMap", "land-cover-workflow"]["data"]["archive.yaml"]
    )
    assert str(config.load(tmp_path / "archive.yaml").out).startswith("s3://")


def test_containers_of_the_manifests_do_the_work(manifests, workflow, model, local_map, tmp_path):
    """Their commands, on hosts of their own, with the scene of a file."""
    if reason := network_hosts.missing():
        pytest.skip(reason)
    for name in ("scratch", "model"):
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        hosts = stack.enter_context(network(["scheduler", "worker", "run"]))
        replaced = {
            "dask-scheduler": hosts["scheduler"].address,
            "/scratch": str(tmp_path / "scratch"),
            "s3://my-bucket/model.safetensors": str(model),
            "/model/model.safetensors": str(tmp_path / "model" / "fetched.safetensors"),
            "/workflow/archive.yaml": str(workflow),
        }

        def start(name, container):
            command = container["command"]
            for old, new in replaced.items():
                command = [word.replace(old, new) for word in command]
            program = Path(sys.executable).with_name(command[0])
            variables = {one["name"]: one["value"] for one in container.get("env", ())}
            return [program, *command[1:]], tmp_path / f"{name}.log", variables

        for name in ("scheduler", "worker"):
            (container,) = pod(manifests["Deployment", f"dask-{name}"])["containers"]
            command, log, variables = start(name, container)
            stack.enter_context(hosts[name].running(command, log, **variables))
        job = pod(manifests["Job", "land-cover"])
        for container in (*job["initContainers"], *job["containers"]):
            command, _, variables = start(container["name"], container)
            result = hosts["run"].run(command, env=os.environ | variables)
            assert result.returncode == 0, result.stderr
    assert (tmp_path / "model" / "fetched.safetensors").read_bytes() == model.read_bytes()
    assert_same_map(tmp_path / "out" / "map.zarr", local_map)
