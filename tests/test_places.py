"""Scenes and products in folders and archives, and names of files wherever they are."""

import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
from test_scene import write_envi, write_tif

from hsi_pipeline.errors import InputError
from hsi_pipeline.scene import open_scene, open_source
from hsi_pipeline.scene.files import file_stamp, inside_archive, one_line, shown
from hsi_pipeline.scene.places import Place, address_of, folder_of, gdal_path, place_of
from hsi_pipeline.scene.raster_files import raster_at

LINE = "ang20190802t183054_rfl_v2x1_img"


@pytest.fixture
def pixels():
    return np.random.default_rng(1).integers(0, 9000, (7, 23, 31)).astype("int16")


@pytest.fixture
def scene(tmp_path, pixels):
    return write_tif(tmp_path / "scene.tif", pixels)


@pytest.fixture
def line(tmp_path, pixels):
    path = write_envi(
        tmp_path / LINE, pixels, interleave="bil", reflectance_scale_factor=10000,
        data_ignore_value=-9999, wavelength="{1,2,3,4,5,6,7}", wavelength_units="Micrometers",
        bbl="{1,1,0,1,1,1,1}",
    )  # fmt: skip
    return path, path.with_suffix(".hdr")


def pack(path, *files, **names):
    """Write an archive of files; `names` are texts by name."""
    members = {str(f) if isinstance(f, str) else f.name: f for f in files if not isinstance(f, str)}
    return pack_as(path, {**{n: f.read_bytes() for n, f in members.items()}, **names})


def pack_as(path, contents):
    """Write an archive of contents by name; the name of the archive says which."""
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def refused(path, words, **options):
    with pytest.raises(InputError, match=words) as caught:
        open_source(path, **options)
    assert str(caught.value).count("\n") <= 1
    return str(caught.value)


# --- the only raster of an archive or a folder ------------------------------------------------

ARCHIVES = ("a.zip", "a.tar", "a.tar.gz", "a.tgz", "A.ZIP")


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("inner", ["scene.tif", "delivery/images/scene.TIF", "a b/sc:ene (1).tif"])
def test_a_geotiff_in_an_archive(tmp_path, scene, pixels, name, inner):
    path = pack_as(tmp_path / name, {inner: scene.read_bytes(), "readme.txt": b"x"})
    cube = open_scene(path)
    np.testing.assert_array_equal(cube.values, pixels)
    np.testing.assert_array_equal(cube[2, 3:9, ::4].values, pixels[2, 3:9, ::4])
    assert cube.attrs["scene_id"] == os.path.splitext(os.path.basename(inner))[0]


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("folder", ["", "./", "./x/y/", "x/"])
def test_an_envi_image_in_an_archive_means_what_it_means_outside(
    tmp_path, line, pixels, name, folder
):
    image, header = line
    path = pack_as(
        tmp_path / name,
        {folder + LINE: image.read_bytes(), f"{folder}{header.name}": header.read_bytes()},
    )
    inside, outside = open_source(path), open_source(image)
    np.testing.assert_array_equal(inside.pixels[:, 3:9, 4:8], pixels[:, 3:9, 4:8])
    for field in ("grid", "scale", "offset", "nodata", "wavelengths", "good", "band_names"):
        assert getattr(inside, field) == getattr(outside, field), field
    assert inside.attrs.items() >= outside.attrs.items()
    assert inside.scale == 1e-4
    assert inside.good[2] is False


def test_a_folder_with_one_raster(tmp_path, scene, pixels):
    folder = tmp_path / "delivery"
    (folder / "images").mkdir(parents=True)
    scene.rename(folder / "images" / "scene.tif")
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.tif").write_text("x")
    np.testing.assert_array_equal(open_scene(folder).values, pixels)


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_several_rasters_are_named_and_one_can_be_chosen(tmp_path, scene, pixels, name):
    content = scene.read_bytes()
    path = pack_as(tmp_path / name, {"x/one.tif": content, "two.tif": content})
    kind = name[2:]
    said = refused(path, r"holds 2 rasters \(two\.tif, x/one\.tif\); name one: ")
    chosen = said.rpartition("name one: ")[2]
    assert chosen == f"/vsi{kind}/{path}/two.tif"
    np.testing.assert_array_equal(open_scene(chosen).values, pixels)
    braces = f"/vsi{kind}/{{{path}}}/x/one.tif"
    np.testing.assert_array_equal(open_scene(braces).values, pixels)
    refused(f"/vsi{kind}/{path}/three.tif", r"no such file, only x/one\.tif, two\.tif")


def test_of_a_flight_line_the_reflectance_is_taken(tmp_path, line):
    image, header = line
    contents = {}
    for product in ("rfl", "h2o", "obs"):
        name = LINE.replace("rfl", product)
        contents |= {name: image.read_bytes(), f"{name}.hdr": header.read_bytes()}
    source = open_source(pack_as(tmp_path / "line.tar.gz", contents))
    assert source.attrs["scene_id"] == LINE
    assert source.attrs["sensor"] == "AVIRIS-NG"


def test_compressed_archives_come_with_advice_and_others_without(tmp_path, scene):
    content = {"scene.tif": scene.read_bytes()}
    assert "ingest" in open_source(pack_as(tmp_path / "a.zip", content)).attrs["advice"]
    assert "ingest" in open_source(pack_as(tmp_path / "a.tgz", content)).attrs["advice"]
    assert "advice" not in open_source(pack_as(tmp_path / "a.tar", content)).attrs
    with zipfile.ZipFile(tmp_path / "stored.zip", "w") as archive:
        archive.write(scene, "scene.tif")
    assert "advice" not in open_source(tmp_path / "stored.zip").attrs


def test_an_archive_written_again_is_read_again(tmp_path, pixels):
    for i in range(2):
        content = write_tif(tmp_path / "s.tif", pixels + i).read_bytes()
        path = pack_as(tmp_path / "a.tar", {"s.tif": content, f"{i}": b"x" * 600 * i})
        for name in (str(path), f"/vsitar/{path}/s.tif"):
            assert open_source(name).pixels[0, 0, 0] == pixels[0, 0, 0] + i


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_an_archive_without_a_raster_says_what_it_holds(tmp_path, name, scene):
    nested = pack_as(tmp_path / "nested.zip", {"scene.tif": scene.read_bytes()}).read_bytes()
    path = pack_as(tmp_path / name, {"notes.txt": b"x", "x/nested.zip": nested})
    refused(path, r"is an archive: no raster was found, only (notes\.txt|x/nested\.zip), ")
    refused(pack_as(tmp_path / f"empty.{name[2:]}", {}), "no raster was found, it is empty")
    many = pack_as(tmp_path / f"many.{name[2:]}", {f"{i}.txt": b"" for i in range(50)})
    refused(many, "only .* and 42 more")


def test_folders_without_a_raster_or_with_several(tmp_path, scene):
    folder = tmp_path / "folder"
    folder.mkdir()
    refused(folder, "is a folder; give the scene file inside it: no raster was found, it is empty")
    for name in ("b.tif", "c.tif"):
        (folder / name).write_bytes(scene.read_bytes())
    refused(folder, r"folder holds 2 rasters \(b\.tif, c\.tif\); name one: .*/folder/b\.tif$")


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    "name", ["../a.tif", "x/../../a.tif", "/etc/a.tif", "..\\a.tif", "C:/a.tif"]
)
def test_names_that_leave_the_archive(tmp_path, scene, kind, name):
    path = pack_as(tmp_path / f"evil.{kind}", {name: scene.read_bytes()})
    refused(path, "evil.*a path that leaves the archive; it is refused")


def test_links_in_a_tar_are_not_followed(tmp_path, scene):
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        entry = tarfile.TarInfo("scene.tif")
        entry.type, entry.linkname = tarfile.SYMTYPE, str(scene)
        archive.addfile(entry)
    refused(tmp_path / "link.tar", "no raster was found")


def test_a_raster_that_leads_to_other_files_is_not_taken_from_an_archive(tmp_path, scene):
    vrt = f"<VRTDataset><SourceFilename>{scene}</SourceFilename></VRTDataset>"
    path = pack_as(tmp_path / "a.zip", {"scene.vrt": vrt.encode()})
    refused(path, r"no raster was found, only scene\.vrt")


def test_an_encrypted_zip(tmp_path, scene):
    path = pack_as(tmp_path / "a.zip", {"scene.tif": scene.read_bytes()})
    raw = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        raw[raw.index(mark) + offset] |= 1
    path.write_bytes(raw)
    refused(path, "is encrypted; unpack it and give the folder")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_an_archive_cut_off(tmp_path, scene, name, share):
    path = pack_as(tmp_path / name, {"scene.tif": scene.read_bytes(), "x": b"y" * 20_000})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    if name == "a.tar" and share == 0.99:  # nothing but padding is lost
        open_source(path)
    else:
        refused(path, "cannot be read as an archive|is an archive: no raster was found")


def test_missing_archives_and_archives_by_name_only(tmp_path):
    refused(tmp_path / "nowhere.zip", r"nowhere\.zip: no such file")
    (tmp_path / "text.tar.gz").write_text("hello")
    refused(tmp_path / "text.tar.gz", "cannot be read as an archive")
    refused(f"/vsizip/{tmp_path}/nowhere.zip/a.tif", "nowhere.zip: no such file")


# --- places ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
@pytest.mark.parametrize("folder", ["", "./"])
def test_small_files_of_a_product_are_read_in_place(tmp_path, name, folder):
    contents = {f"{folder}x/A-METADATA.XML": b"<a/>", f"{folder}x/b.txt": b"b"}
    place, given = place_of(str(pack_as(tmp_path / name, contents)))
    assert given == ""
    assert place.find("*metadata.xml") == ("x/A-METADATA.XML",)
    assert place.read("x/A-METADATA.XML") == b"<a/>"
    assert place.begins("x/b.txt", b"b")
    assert not place.begins("x/b.txt", b"c")
    assert not place.begins("x/c.txt", b"")
    with pytest.raises(InputError, match=r"x/c\.txt in .* cannot be read"):
        place.read("x/c.txt")


def test_metadata_is_read_whole_unless_it_is_none(tmp_path):
    for name, size in (("a", 0), ("b", 3 * 2**20 + 5), ("c", 64 * 2**20 + 1)):
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(size)
    place = folder_of(str(tmp_path / "a"))[0]
    assert len(place.read("a")) == 0
    assert len(place.read("b")) == 3 * 2**20 + 5
    with pytest.raises(InputError, match="c is larger than any metadata"):
        place.read("c")


@pytest.mark.parametrize(
    ("path", "root", "name", "gdal"),
    [
        ("s3://b/x/a.tif", "s3://b/x", "a.tif", "/vsis3/b/x/a.tif"),
        ("gs://b/a.tif", "gs://b", "a.tif", "/vsigs/b/a.tif"),
        ("https://h/x/a.tif", "https://h/x", "a.tif", "/vsicurl/https://h/x/a.tif"),
        ("http://h/a.tif?s=1/2", "http://h", "a.tif?s=1/2", "/vsicurl/http://h/a.tif?s=1/2"),
        ("/vsis3/b/x/a.tif", "s3://b/x", "a.tif", "/vsis3/b/x/a.tif"),
        ("/vsicurl/https://h/a.tif", "https://h", "a.tif", "/vsicurl/https://h/a.tif"),
        ("/vsimem/x/a.tif", "/vsimem/x", "a.tif", "/vsimem/x/a.tif"),
        ("s3://b/a?b/c.tif", "s3://b/a?b", "c.tif", "/vsis3/b/a?b/c.tif"),
    ],
)
def test_addresses_as_gdal_writes_them(path, root, name, gdal):
    place, found = raster_at(path)
    assert (place.root, found, place.names) == (root, name, None)
    assert place.gdal(found) == gdal
    assert place_of(path) == (place, found)
    assert not place.is_local


def test_files_in_archives_behind_addresses():
    place = Place("s3://b/a.zip", "zip", ("x/a.tif",))
    assert place.gdal("x/a.tif") == "/vsizip/{/vsis3/b/a.zip}/x/a.tif"
    assert place.opened("x/a.tif") == "zip://x/a.tif::s3://b/a.zip"
    assert gdal_path("/data/a.tif") == address_of("/data/a.tif") == "/data/a.tif"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/vsizip//d/a.zip/x/b.tif", ("/d/a.zip", "x/b.tif")),
        ("/vsizip/{/d/a.zip}/b.tif", ("/d/a.zip", "b.tif")),
        ("/vsitar//d/a.tar.gz/b.tif", ("/d/a.tar.gz", "b.tif")),
        ("/vsitar//d/a.tar/b.tar/c", ("/d/a.tar", "b.tar/c")),
        ("/vsizip//d/A.ZIP", ("/d/A.ZIP", "")),
        ("/vsizip//d.zipped/a.zip/b", ("/d.zipped/a.zip", "b")),
        ("/vsizip/vsis3/b/a.zip/c.tif", ("/vsis3/b/a.zip", "c.tif")),
        ("/vsizip//vsis3/b/a.zip/c.tif", ("/vsis3/b/a.zip", "c.tif")),
        ("/vsizip//d/a.dat/c.tif", None),
        ("/d/a.zip/c.tif", None),
    ],
)
def test_paths_into_archives(path, expected):
    assert inside_archive(path) == expected


def test_stamps_of_files_in_archives_follow_the_archive(tmp_path):
    path = pack_as(tmp_path / "a.zip", {"x": b"1"})
    stamps = {file_stamp(f"/vsizip/{path}/x"), file_stamp(f"/vsizip/{path}/y")}
    pack_as(path, {"x": b"1", "y": b"22"})
    stamps.add(file_stamp(f"/vsizip/{path}/x"))
    assert len(stamps) == 3


def test_messages_show_no_secrets():
    assert shown("https://me:pw@h/a.tif?Signature=x") == "https://h/a.tif"
    assert shown("s3://b/a.tif") == "s3://b/a.tif"
    assert shown("/data/what?.tif") == "/data/what?.tif"
    said = one_line(OSError("no\nhttps://me:pw@h/a?k=v  here"))
    assert said == "no https://h/a here"
