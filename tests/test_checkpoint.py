"""Model files: exact round trips, and every damaged or foreign file refused by name."""

import builtins
import hashlib
import json
import os
import pickle
import resource
import signal
import stat
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from hsi_pipeline.applicability import fit_applicability
from hsi_pipeline.checkpoint import (
    HEADER_KEY,
    checkpoint_hash,
    load_applicability,
    load_checkpoint,
    save_checkpoint,
)
from hsi_pipeline.classes import make_scheme
from hsi_pipeline.errors import InputError
from hsi_pipeline.model_card import ModelCard
from hsi_pipeline.models import MODELS, build_model
from hsi_pipeline.wavelengths import Wavelengths

BANDS, CODES = 3, (2, 5, 200)
SETTINGS = {
    "hyperloopnet": {"width": 4, "kernels": [3], "gate": "relu", "window": 5},
    "hyperloopnet-no-attention": {"width": 4, "kernels": [1, 3]},
    "spectral": {"width": 5},
}


def make_card(name, **changes):
    model = build_model(name, BANDS, len(CODES), **SETTINGS.get(name, {}))
    card = ModelCard(
        architecture=name,
        settings=SETTINGS.get(name, {}),
        bands=BANDS,
        wavelengths=Wavelengths((993.1, 902.2, 500.0), (6.0, None, 10.5)),
        tolerance_nm=7.5,
        classes=make_scheme(CODES, {2: "Wiese, naß", 5: "water"}),
        halo=model.halo,
        scenes=("a", "b"),
        seed=3,
        version="9.9",
        training={"epochs": 4},
        scores={"validation_kappa": 0.5},
    )
    return replace(card, **changes)


def trained(name):
    """A network whose statistics and normalisations are not the initial ones."""
    torch.manual_seed(1)
    model = build_model(name, BANDS, len(CODES), **SETTINGS.get(name, {}))
    model.band_mean.uniform_(0.1, 0.5)
    model.band_std.uniform_(0.1, 0.5)
    for _ in range(3):
        model(torch.rand(2, BANDS, 6, 7))
    return model.eval()


@pytest.fixture
def saved(tmp_path):
    """A small model file."""
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, trained("spectral"), make_card("spectral"))
    return path


def area():
    """A small area of applicability."""
    rng = np.random.default_rng(0)
    return fit_applicability(rng.random((60, BANDS)).astype(np.float32), np.arange(60) % 3)


def test_the_area_of_applicability_comes_back_and_networks_do_not_see_it(tmp_path):
    path = tmp_path / "model.safetensors"
    model, found = trained("spectral"), area()
    save_checkpoint(path, model, make_card("spectral", temperature=1.5), found)
    again, card = load_checkpoint(path)
    assert card.temperature == 1.5
    assert again.state_dict().keys() == model.state_dict().keys()
    restored = load_applicability(path)
    for name, value in found.state_dict().items():
        assert torch.equal(restored.state_dict()[name], value), name


def test_models_of_before_have_no_area(saved):
    assert load_applicability(saved) is None


def test_an_area_of_other_bands_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    spectra = np.random.default_rng(0).random((60, 5)).astype(np.float32)
    other = fit_applicability(spectra, np.arange(60) % 3)
    save_checkpoint(path, trained("spectral"), make_card("spectral"), other)
    with pytest.raises(InputError, match="has 5 bands, the model 3"):
        load_applicability(path)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "warm"])
def test_a_temperature_that_cannot_be_is_refused(saved, tmp_path, value):
    forged = forge(saved, tmp_path / "forged.safetensors", temperature=value)
    with pytest.raises(InputError, match="temperature"):
        load_checkpoint(forged)


def forge(path, target, **values):
    """Write the weights of a model file with some values of its card exchanged."""
    with safe_open(path, framework="pt") as opened:
        card = json.loads(opened.metadata()[HEADER_KEY])
        state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(state, target, metadata={HEADER_KEY: json.dumps({**card, **values})})
    return target


def refused(path, match=None):
    with pytest.raises(InputError, match=match) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < len(str(path)) + 500
    return str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_round_trip_gives_identical_outputs_and_card(name, tmp_path):
    path = tmp_path / "model.safetensors"
    model, card = trained(name), make_card(name)
    save_checkpoint(path, model, card)
    loaded, loaded_card = load_checkpoint(str(path))
    assert loaded_card == card
    assert not loaded.training
    assert loaded.halo == card.halo
    x = torch.rand(1, BANDS, 9, 8)
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))
    assert {k: v.dtype for k, v in loaded.state_dict().items()} == {
        k: v.dtype for k, v in model.state_dict().items()
    }
    assert all(t.device.type == "cpu" for t in loaded.state_dict().values())
    # and it can be trained on
    loaded.train()(x).sum().backward()


def test_a_loaded_model_outlives_its_file(saved):
    model, _ = load_checkpoint(saved)
    before = model(torch.ones(1, BANDS, 2, 2))
    saved.write_bytes(b"\0" * saved.stat().st_size)
    saved.unlink()
    assert torch.equal(model(torch.ones(1, BANDS, 2, 2)), before)


def test_saving_replaces_a_file_and_leaves_nothing_beside_it(saved):
    before = saved.read_bytes()
    save_checkpoint(saved, trained("hyperloopnet"), make_card("hyperloopnet"))
    assert load_checkpoint(saved)[1].architecture == "hyperloopnet"
    assert saved.read_bytes() != before
    assert os.listdir(saved.parent) == [saved.name]


def test_the_file_has_the_permissions_of_any_new_file(saved):
    other = saved.parent / "other"
    other.write_text("")
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_hash_is_that_of_the_file_and_repeats(saved):
    assert checkpoint_hash(saved) == hashlib.sha256(saved.read_bytes()).hexdigest()
    first = checkpoint_hash(saved)
    save_checkpoint(saved, *load_checkpoint(saved))
    assert checkpoint_hash(saved) == first


def test_weights_that_share_memory_or_are_strided_are_saved(tmp_path):
    model = trained("spectral")
    model.second.weight.data = model.second.weight.data.mT.contiguous().mT
    save_checkpoint(tmp_path / "m.safetensors", model, make_card("spectral"))
    loaded, _ = load_checkpoint(tmp_path / "m.safetensors")
    assert torch.equal(loaded.second.weight, model.second.weight)


# --- failed saves ---


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved):
    before = saved.read_bytes()
    unwritable = make_card("spectral", training={"when": object()})
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_checkpoint(saved, trained("spectral"), unwritable)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    target = tmp_path / "folder.safetensors"
    (target / "inside").mkdir(parents=True)
    with pytest.raises(InputError, match=r"folder\.safetensors: cannot be written"):
        save_checkpoint(target, trained("spectral"), make_card("spectral"))
    assert os.listdir(tmp_path) == [target.name]


@pytest.mark.parametrize("inside", ["absent", "file"])
def test_a_target_in_no_folder_is_refused(tmp_path, inside):
    (tmp_path / "file").write_text("")
    target = tmp_path / inside / "m.safetensors"
    with pytest.raises(InputError, match=r"m\.safetensors: cannot be written"):
        save_checkpoint(target, trained("spectral"), make_card("spectral"))
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_refused_and_leaves_nothing(tmp_path):
    target = tmp_path / "m.safetensors"
    model, card = trained("hyperloopnet"), make_card("hyperloopnet")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match=r"m\.safetensors: cannot be written"):
            save_checkpoint(target, model, card)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert os.listdir(tmp_path) == []


# --- damaged and foreign files ---


def test_absent_files_and_folders_are_refused(tmp_path):
    refused(tmp_path / "absent.safetensors", "no such model file")
    refused(tmp_path, "no such model file")


def test_truncated_files_are_refused_at_every_length(saved, tmp_path):
    whole = saved.read_bytes()
    cut = tmp_path / "cut.safetensors"
    header = int.from_bytes(whole[:8], "little") + 8
    lengths = {
        *range(12),
        *range(0, len(whole), 97),
        header - 1,
        header,
        header + 1,
        len(whole) - 1,
    }
    for length in sorted(lengths):
        cut.write_bytes(whole[:length])
        refused(cut, "not a readable .safetensors file.*truncated")
    cut.write_bytes(whole + b"\0")
    refused(cut, "not a readable")


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused(tmp_path, content):
    path = tmp_path / "random.safetensors"
    path.write_bytes(content)
    refused(path)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_header_with_one_byte_changed_is_refused_or_works(saved, tmp_path, place, value):
    whole = bytearray(saved.read_bytes())
    header = int.from_bytes(whole[:8], "little") + 8
    whole[int(place * header)] = value
    path = tmp_path / "changed.safetensors"
    path.write_bytes(whole)
    try:
        model, card = load_checkpoint(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017  either outcome is right
    else:
        assert model(torch.ones(1, BANDS, 2, 2)).shape == (1, len(card.classes), 2, 2)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata={"format": "pt"})
    refused(path, "without an hsi_pipeline model card")
    save_file({"w": torch.zeros(2)}, path)
    refused(path, "without an hsi_pipeline model card")


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return builtins.exec, (f"open({self.mark!r}, 'w').close()",)


def test_pickled_models_are_refused_and_never_executed(tmp_path):
    mark = tmp_path / "executed"
    plain, zipped = tmp_path / "plain.safetensors", tmp_path / "zipped.safetensors"
    plain.write_bytes(pickle.dumps(Bomb(mark)))
    torch.save({"model": Bomb(mark)}, zipped)
    for path in (plain, zipped):
        refused(path, "not a readable")
    assert not mark.exists()
    pickle.loads(plain.read_bytes())
    assert mark.exists()  # the bomb is a real one


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"card_version": 3}, "version 3, this program reads 2"),
        ({"architecture": "resnet"}, "model 'resnet' is not known; use one of"),
        ({"architecture": ["spectral"]}, "cannot be used"),
        ({"architecture": "hyperloopnet"}, "(Missing|Unexpected) key"),
        ({"settings": {"depth": 3}}, "depth"),
        ({"settings": {"bands": 3}}, "bands"),
        ({"settings": {"name": "spectral"}}, "name"),
        ({"settings": {"width": 6}}, "size mismatch"),
        ({"settings": {"width": -6}}, "width -6"),
        ({"settings": {"width": "wide"}}, "cannot be built"),
        ({"settings": [1]}, "must be a mapping"),
        ({"settings": None}, "must be a mapping"),
        ({"bands": BANDS + 1}, "3 wavelengths for 4 bands"),
        ({"bands": BANDS + 1, "wavelengths": None}, "size mismatch"),
        ({"bands": 0, "wavelengths": None}, "0 bands"),
        ({"bands": -2, "wavelengths": None}, "-2 bands"),
        ({"bands": 2**80, "wavelengths": None}, "cannot be"),
        ({"bands": "many"}, "'many' bands"),
        ({"bands": 3.0}, "3.0 bands"),
        ({"bands": None}, "None bands"),
        ({"wavelengths": {"center_nm": [1.0, 2.0], "fwhm_nm": []}}, "2 wavelengths for 3 bands"),
        ({"wavelengths": {"center_nm": [1.0, -2.0, 3.0], "fwhm_nm": []}}, "not a positive number"),
        ({"wavelengths": {"center_nm": "abc", "fwhm_nm": []}}, "card cannot be read"),
        ({"wavelengths": {}}, "card cannot be read"),
        ({"wavelengths": 5}, "card cannot be read"),
        ({"classes": {"categories": []}}, "there are no classes"),
        ({"classes": []}, "card cannot be read"),
        ({"scenes": 5}, "card cannot be read"),
        ({"surprise": 1}, "card cannot be read.*surprise"),
    ],
)
def test_forged_cards_are_refused(saved, tmp_path, values, match):
    refused(forge(saved, tmp_path / "forged.safetensors", **values), match)


@pytest.mark.parametrize("card", ["", "[]", "3", "null", "{}", "{", "[" * 100_000, '"x"'])
def test_cards_that_are_no_cards_are_refused(saved, tmp_path, card):
    path = tmp_path / "card.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata={HEADER_KEY: card})
    refused(path, "card cannot be read")


def test_a_card_with_fewer_classes_than_weights_is_refused(saved, tmp_path):
    categories = [{"code": 1, "name": "a", "color": "#000000"}]
    path = forge(saved, tmp_path / "f.safetensors", classes={"categories": categories})
    refused(path, "size mismatch for classifier")


@pytest.mark.parametrize("name", ["spectral", "hyperloopnet"])
def test_a_forged_band_count_takes_no_memory(tmp_path, name):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, trained(name), make_card(name))
    forged = forge(path, tmp_path / "huge.safetensors", bands=2_000_000_000, wavelengths=None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    refused(forged, "size mismatch")
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    # 2e9 float32 values of the band statistics alone would be 8 GB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_another_number_type_work_in_the_network_s_own(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    model = trained("spectral").to(dtype)
    save_checkpoint(path, model, make_card("spectral"))
    loaded, _ = load_checkpoint(path)
    x = torch.rand(1, BANDS, 4, 4)
    with torch.no_grad():
        assert torch.equal(loaded(x), model.float()(x))
