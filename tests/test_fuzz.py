"""Damaged files give an error that can be read, or the scene as it was: 1,000 damages per reader.

Never a crash, a hang, an error of a library, or a scene of another size. Pixel values may differ
where the format has no checksum. Grid and wavelengths must be those of the whole file, but for a
share, `MOST_ALTERED`: where a number stands once and without a checksum (headers of ENVI, tags of
TIFF, plain datasets of HDF5), one that has changed cannot be told from one that was meant. A zip
has a checksum of each file, which only reading the whole file tells.
"""

import fuzzing
import pytest

pytestmark = pytest.mark.slow

DAMAGES = 1000
READERS = fuzzing.readers()
MOST_ALTERED = {"envi": 0.1, "geotiff": 0.1, "mat": 0, "npy": 0, "tar.gz": 0}
OTHERS = 0.005


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_refused_or_read_as_they_were(reader, tmp_path):
    writers = READERS[reader]
    findings = []
    for number, (name, writer) in enumerate(writers.items()):
        target = fuzzing.write_target(name, writer, tmp_path / str(number))
        work = tmp_path / f"work {number}"
        work.mkdir()
        seeds = range(DAMAGES * number, DAMAGES * number + DAMAGES // len(writers))
        findings += fuzzing.find(target, seeds, work)
    altered = [finding for finding in findings if finding.kind == "altered"]
    faults = [finding for finding in findings if finding.kind != "altered"]
    if len(altered) > MOST_ALTERED.get(reader, OTHERS) * DAMAGES:
        faults += altered
    assert not faults, "\n".join(
        f"python tests/fuzzing.py {fault.target!r} {fault.seed} FOLDER: {fault.kind}: {fault.text}"
        for fault in faults[:10]
    )
