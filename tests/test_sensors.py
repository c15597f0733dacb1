"""Each sensor's products as a TorchGeo dataset."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from test_products import EXAMPLES, everything, reflectance_of

from hsi_pipeline import sensors
from hsi_pipeline.datasets import GroundTruthDataset
from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import open_source

mpl.use("agg")
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

CLASSES = {
    "enmap": sensors.EnMAP,
    "prisma": sensors.PRISMA,
    "emit": sensors.EMIT,
    "desis": sensors.DESIS,
    "neon": sensors.NEON,
    "tanager": sensors.Tanager,
}
FIRST = {
    name: next(writer for key, writer in EXAMPLES.items() if key.startswith(f"{name}:"))
    for name in CLASSES
}


@pytest.fixture(scope="module", params=CLASSES)
def product(request, tmp_path_factory):
    return CLASSES[request.param], FIRST[request.param](tmp_path_factory.mktemp("product"))


def test_a_sample_is_the_reflectance_of_the_product(product):
    kind, example = product
    dataset = kind(example.path)
    sample = dataset[:, :, :]
    source = open_source(example.path, mask="default")
    good = np.flatnonzero(source.good)
    expected = reflectance_of(source, everything(source))[good]
    valid = ~np.isnan(expected).any(0)
    np.testing.assert_array_equal(sample["valid"], valid)
    np.testing.assert_allclose(sample["image"][:, valid], expected[:, valid], rtol=1e-4, atol=1e-6)
    assert valid.any()
    rows, columns = valid.shape
    labels = GroundTruthDataset(np.ones((rows, columns), np.uint8), source.grid)
    both = (dataset & labels)[:, :, :]
    assert set(both) >= {"image", "mask", "valid"}
    figure = dataset.plot(sample, suptitle="a product")
    assert figure.axes
    assert torch.isfinite(sample["image"]).all()


def test_a_product_of_another_sensor_is_refused(product, tiny):
    kind, _ = product
    with pytest.raises(InputError, match=rf"is no {kind.sensor} product \(sensor: unknown\)"):
        kind(tiny.path)
