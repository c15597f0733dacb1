"""Workflow files: every key, and what is said of those that are wrong."""

import re
from pathlib import Path

import pytest
import yaml

from hsi_pipeline.config import (
    Also,
    Archive,
    Assess,
    Classify,
    Evaluate,
    Labels,
    Polygonize,
    Report,
    Train,
    Workflow,
    load,
)
from hsi_pipeline.errors import InputError

WORKFLOWS = Path(__file__).parents[1] / "workflows"
LABELS = {
    "path": "polygons.gpkg",
    "label_column": "code",
    "name_column": "name",
    "class_table": "tables/classes.csv",
    "split_column": "split",
    "layer": "fields",
    "where": "year = 2022",
}
FULL = {
    "scene": "scenes/scene.tif",
    "out": "results",
    "mask": "strict",
    "pixel_coordinates": True,
    "device": "cuda:1",
    "train": {
        "labels": LABELS,
        "also": [{"scene": "other.he5", "labels": "others.gpkg"}, {"scene": "s3://a/b.tif"}],
        "wavelengths": "420:2450:10",
        "band_dropout": 0.2,
        "model": "spectral",
        "settings": {"width": 16, "path": "kept"},
        "epochs": 3,
        "seed": 9,
        "validation_share": 0.3,
        "guard": 0,
        "tolerance_nm": 5,
    },
    "evaluate": {"labels": {"path": "/elsewhere/test.gpkg"}},
    "classify": {
        "formats": ["zarr", "tif"],
        "chunk": 256,
        "memory": "4GB",
        "precision": "auto",
        "probabilities": True,
        "tolerance_nm": 0,
        "resampling": "linear",
        "fill_missing": "interpolate",
        "skip_failed": True,
        "layers": ["entropy", "dissimilarity"],
    },
    "assess": {
        "labels": {"path": "points.gpkg"},
        "design": "simple",
        "strata": "strata.tif",
        "merge": "impervious=roof,pavement",
    },
    "report": {"title": "Potsdam", "figures": True},
    "polygonize": {
        "formats": ["fgb", "gpkg"],
        "min_area": 1800,
        "join": "probability",
        "connectivity": 8,
        "simplify": 30,
        "smooth": True,
        "chunk": 512,
        "by": "parcels.gpkg",
        "by_layer": "fields",
    },
}
TRAINED = {"scene": "scene.tif", "out": "results", "model": "model.safetensors"}


@pytest.fixture
def write(tmp_path):
    def write(values):
        text = values if isinstance(values, str) else yaml.safe_dump(values)
        path = tmp_path / "workflow.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def with_key(place, value, values=FULL):
    """A copy of a workflow with one key, `a.b.c`, set."""
    first, _, rest = place.partition(".")
    return {**values, first: with_key(rest, value, values.get(first, {})) if rest else value}


def without_key(place, values=FULL):
    first, _, rest = place.partition(".")
    if rest:
        return {**values, first: without_key(rest, values[first])}
    return {key: value for key, value in values.items() if key != first}


def test_every_key_is_read_and_paths_are_relative_to_the_file(write, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert load(write(FULL)) == Workflow.model_construct(
        scene=str(tmp_path / "scenes/scene.tif"),
        out=tmp_path / "results",
        model=None,
        mask="strict",
        pixel_coordinates=True,
        device="cuda:1",
        train=Train.model_construct(
            labels=Labels.model_construct(
                **{
                    **LABELS,
                    "path": str(tmp_path / "polygons.gpkg"),
                    "class_table": tmp_path / "tables/classes.csv",
                }
            ),
            also=[
                Also(scene=str(tmp_path / "other.he5"), labels=str(tmp_path / "others.gpkg")),
                Also(scene="s3://a/b.tif"),
            ],
            wavelengths="420:2450:10",
            band_dropout=0.2,
            model="spectral",  # a name, not a path
            settings={"width": 16, "path": "kept"},
            epochs=3,
            seed=9,
            validation_share=0.3,
            guard=0,
            tolerance_nm=5.0,
        ),
        evaluate=Evaluate.model_construct(
            labels=Labels.model_construct(path="/elsewhere/test.gpkg")
        ),
        classify=Classify.model_construct(
            formats=["zarr", "tif"],
            chunk=256,
            memory="4GB",
            precision="auto",
            probabilities=True,
            tolerance_nm=0.0,
            resampling="linear",
            fill_missing="interpolate",
            skip_failed=True,
            layers=["entropy", "dissimilarity"],
        ),
        assess=Assess.model_construct(
            labels=Labels.model_construct(path=str(tmp_path / "points.gpkg")),
            design="simple",
            strata=tmp_path / "strata.tif",
            merge=["impervious=roof,pavement"],
        ),
        report=Report.model_construct(title="Potsdam", figures=True),
        polygonize=Polygonize.model_construct(
            formats=["fgb", "gpkg"],
            min_area=1800.0,
            join="probability",
            connectivity=8,
            simplify=30.0,
            smooth=True,
            chunk=512,
            by=str(tmp_path / "parcels.gpkg"),
            by_layer="fields",
        ),
    )


def test_no_key_is_forgotten_by_the_test_above():
    def keys(section):
        return set(section.model_fields)

    assert keys(Workflow) == {*FULL, "model"}
    assert keys(Train) == set(FULL["train"])
    assert keys(Labels) == set(LABELS)
    assert keys(Evaluate) == set(FULL["evaluate"])
    assert keys(Classify) == set(FULL["classify"])
    assert keys(Polygonize) == set(FULL["polygonize"])
    assert keys(Assess) == set(FULL["assess"])
    assert keys(Report) == set(FULL["report"])


def test_a_relative_path_of_the_file_will_do(write, tmp_path, monkeypatch):
    write(TRAINED)
    monkeypatch.chdir(tmp_path)
    assert Path(load("workflow.yaml").scene) == Path("scene.tif")
    monkeypatch.chdir(tmp_path.parent)
    assert Path(load(f"{tmp_path.name}/workflow.yaml").scene) == Path(tmp_path.name, "scene.tif")


def test_addresses_stay_as_they_are(write):
    scene = "https://example.org/scene.tif"
    assert load(write(TRAINED | {"scene": scene})).scene == scene
    assert load(write(TRAINED | {"scene": "/vsizip//a.zip/b.tif"})).scene == "/vsizip//a.zip/b.tif"


def test_a_model_takes_the_place_of_training(write, tmp_path):
    workflow = load(write(TRAINED))
    assert workflow.model == tmp_path / "model.safetensors"
    assert workflow.train is workflow.evaluate is workflow.classify is workflow.polygonize is None
    assert (workflow.device, workflow.pixel_coordinates) == ("auto", False)


def test_an_empty_section_means_its_defaults(write):
    workflow = load(write("scene: a\nout: b\nmodel: c\nclassify:\npolygonize:\n"))
    assert workflow.classify == Classify()
    assert workflow.polygonize == Polygonize()


@pytest.mark.parametrize(
    ("given", "formats"),
    [("tif", ["tif"]), (["tif", "zarr"], ["tif", "zarr"]), (["zarr", "zarr"], ["zarr"])],
)
def test_formats_are_a_list_or_one(write, given, formats):
    assert load(write(TRAINED | {"classify": {"formats": given}})).classify.formats == formats


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("scenes", "did you mean 'scene'"),
        ("modle", "did you mean 'model'"),
        ("train.epoch", "did you mean 'epochs'"),
        ("train.labels.labelcolumn", "did you mean 'label_column'"),
        ("train.labels.pth", "did you mean 'path'"),
        ("evaluate.labels.split-column", "did you mean 'split_column'"),
        ("evaluate.label", "did you mean 'labels'"),
        ("classify.precison", "did you mean 'precision'"),
        ("classify.format", "did you mean 'formats'"),
        ("polygonize.minarea", "did you mean 'min_area'"),
        ("polygonize.qqq", "keys here: formats, min_area, join, "),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_right_one(write, place, hint):
    with pytest.raises(InputError) as error:
        load(write(with_key(place, 1)))
    assert f"workflow.yaml: unknown key '{place}'; {hint}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_misspelt_key_is_named_rather_than_the_missing_one(write):
    workflow = with_key("train.labels", {"pth": "polygons.gpkg"})
    with pytest.raises(InputError, match=r"unknown key 'train\.labels\.pth'; did you mean 'path'"):
        load(write(workflow))


@pytest.mark.parametrize("place", ["scene", "out", "train.labels", "train.labels.path"])
def test_a_missing_key_is_named(write, place):
    with pytest.raises(InputError, match=rf"workflow\.yaml: the key '{place}' is missing"):
        load(write(without_key(place)))


@pytest.mark.parametrize("section", ["train", "evaluate", "assess"])
def test_a_section_without_anything_below_it_misses_its_labels(write, section):
    with pytest.raises(InputError, match=rf"the key '{section}\.labels' is missing"):
        load(write(with_key(section, None)))


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("scene", 5, "valid string, found 5"),
        ("train.epochs", "many", "valid integer.*found 'many'"),
        ("train.epochs", 0, "greater than or equal to 1, found 0"),
        ("train.validation_share", 1, "less than 1, found 1"),
        ("train.guard", -1, "greater than or equal to 0, found -1"),
        ("train.tolerance_nm", float("nan"), "finite number"),
        ("train.settings", 4, "valid dictionary, found 4"),
        ("train.labels", "polygons.gpkg", "a section with keys such as path, label_column"),
        ("train.labels.label_column", 5, "valid string, found 5"),
        ("train", [1], "a section with keys such as labels"),
        ("classify.chunk", 0, "greater than or equal to 1, found 0"),
        ("classify.chunk", 2.5, "valid integer"),
        ("classify.precision", "float16", "'float32', 'bfloat16' or 'auto', found 'float16'"),
        ("classify.probabilities", "perhaps", "valid boolean.*found 'perhaps'"),
        ("polygonize.min_area", -1, "greater than or equal to 0, found -1"),
        ("assess.design", "random", "'simple' or 'none', found 'random'"),
        ("polygonize.join", "size", "'border' or 'probability', found 'size'"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_key(write, place, value, words):
    with pytest.raises(InputError, match=rf"workflow\.yaml: {place}: .*{words}") as error:
        load(write(with_key(place, value)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("formats", "words"), [([], "at least 1 item"), ("png", "'zarr' or 'tif', found 'png'")]
)
def test_formats_that_cannot_be_are_refused(write, formats, words):
    with pytest.raises(InputError, match=rf"classify\.formats.*{words}"):
        load(write(TRAINED | {"classify": {"formats": formats}}))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"join": "probability", "min_area": 9}, "needs 'classify.probabilities: true'"),
        ({"by_layer": "a"}, "names a layer of 'polygonize.by'"),
    ],
)
def test_keys_of_polygons_that_need_others_are_refused(write, section, words):
    with pytest.raises(InputError, match=words):
        load(write(TRAINED | {"classify": {}, "polygonize": section}))


def test_layers_that_there_are_not_are_refused(write):
    with pytest.raises(InputError, match=r"classify\.layers\.0: .*'dissimilarity', found 'doubt'"):
        load(write(TRAINED | {"classify": {"layers": ["doubt"]}}))


def test_formats_of_polygons_that_cannot_be_are_refused(write):
    with pytest.raises(InputError, match=r"polygonize\.formats.*'gpkg', 'parquet'.*found 'kml'"):
        load(write(TRAINED | {"classify": {}, "polygonize": {"formats": "kml"}}))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (FULL | {"model": "m"}, "either the section 'train' or a trained 'model', not both"),
        (without_key("train"), "neither a section 'train' nor a trained 'model'"),
        (TRAINED | {"polygonize": {}}, "'polygonize' needs the section 'classify'"),
        (TRAINED | {"report": {}}, "'report' needs the section 'classify'"),
        (
            TRAINED | {"assess": {"labels": {"path": "a.gpkg"}}},
            "'assess' needs the section 'classify'",
        ),
        ("", "a workflow is a mapping"),
        ("- scene\n", "a workflow is a mapping"),
        ("scene: [\n", "not YAML: .*line 2"),
        ("scene: a\n1: b\n", "1: keys should be strings"),
        ("scene: !!python/object:os.system {}\n", "not YAML"),
    ],
)
def test_workflows_that_make_no_sense_are_refused(write, values, words):
    with pytest.raises(InputError, match=rf"workflow\.yaml: .*{words}") as error:
        load(write(values))
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: no such workflow file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read as text"):
        load(tmp_path)
    (tmp_path / "scene.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match=r"scene\.yaml: cannot be read as text"):
        load(tmp_path / "scene.yaml")


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_workflows_of_the_project_are_right(path):
    workflow = load(path)
    is_archive = isinstance(workflow, Archive)
    assert is_archive == (path.name == "archive.yaml")
    assert is_archive or workflow.train is not None
    assert Path(workflow.out).resolve().is_relative_to(WORKFLOWS.parent)


@pytest.mark.parametrize(
    ("also", "words"),
    [
        ([{"scen": "b.tif"}], "unknown key 'train.also.0.scen'; did you mean 'scene'"),
        (["b.tif"], "train.also.0: expected a section with keys such as scene, labels"),
        ([{"labels": "b.gpkg"}], "the key 'train.also.0.scene' is missing"),
    ],
)
def test_mistakes_in_a_list_of_scenes_are_named(write, also, words):
    with pytest.raises(InputError, match=re.escape(words)):
        load(write(with_key("train.also", also)))


def test_an_archive_has_keys_of_its_own(tmp_path):
    path = tmp_path / "archive.yaml"
    path.write_text(
        "archive: {scenes: scenes, dates: 2024, sensors: enmap, roots: [more]}\n"
        "out: s3://bucket/out\nmodel: m.safetensors\npolygonize:\n"
    )
    archive = load(path)
    assert archive.archive.scenes == str(tmp_path / "scenes")
    assert archive.archive.dates == "2024"
    assert archive.archive.sensors == ["enmap"]
    assert archive.archive.roots == [tmp_path / "more"]
    assert archive.out == "s3://bucket/out"
    assert archive.classify.formats == ["tif"]
    assert archive.polygonize.formats == ["gpkg"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("archive: {scenes: s, cloud: 3}", "unknown key 'archive.cloud'; did you mean"),
        ("archive: {scenes: s, bbox: [1, 2, 3]}", "give four numbers: west, south, east, north"),
        ("archive: {scenes: s, dates: 2024-02-30}", "not YAML: day is out of range for month"),
        ("archive: {scenes: s, max_cloud: 101}", "archive.max_cloud: input should be less"),
        ("archive: {scenes: s}\nclassify: {precison: float32}", "did you mean 'precision'"),
        ("archive: s", "archive: expected a section with keys such as scenes, area"),
    ],
)
def test_mistakes_in_an_archive_are_named(tmp_path, text, words):
    path = tmp_path / "archive.yaml"
    path.write_text(f"{text}\nout: out\nmodel: m.safetensors\n")
    with pytest.raises(InputError, match=re.escape(words)):
        load(path)
