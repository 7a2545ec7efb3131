"""Times, places, cameras and people that stand in XMP, in IPTC, in texts of a PNG, or beside the picture."""

from __future__ import annotations

import json
import struct
from datetime import datetime
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from clipsearch.errors import MediaError
from clipsearch.media.decode import decode_picture
from clipsearch.media.image_metadata import Embedded, read_embedded
from clipsearch.media.iptc import read_iptc
from clipsearch.media.sidecars import SidecarNames, read_sidecars
from clipsearch.media.takeout import read_takeout
from clipsearch.media.xmp import MAX_DEPTH, read_xmp
from clipsearch.types import PictureInfo
from tests.support import pictures as make

WHEN = datetime(2018, 1, 30, 20, 30, 48)
PLACES = {
    "exif": "http://ns.adobe.com/exif/1.0/", "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/", "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/", "ext": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "mwg": "http://www.metadataworkinggroup.com/schemas/regions/", "MP": "http://ns.microsoft.com/photo/1.2/",
    "MPRI": "http://ns.microsoft.com/photo/1.2/t/RegionInfo#", "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
}  # fmt: skip
PICTURE = Image.new("RGB", (48, 32), "teal")


def packet(body: str = "", attributes: str = "") -> bytes:
    spaces = " ".join(f'xmlns:{name}="{place}"' for name, place in PLACES.items())
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {spaces} {attributes}>{body}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


def encode(kind: str = "JPEG", **options: object) -> bytes:
    stream = BytesIO()
    PICTURE.save(stream, kind, **options)
    return stream.getvalue()


def decoded(data: bytes) -> tuple[Image.Image, PictureInfo]:
    return decode_picture(data, min_side=16, max_pixels=10_000)


@pytest.mark.parametrize("name", ["exif:DateTimeOriginal", "photoshop:DateCreated", "exif:DateTimeDigitized",
                                  "xmp:CreateDate", "tiff:DateTime", "xmp:ModifyDate"])  # fmt: skip
def test_a_time_is_read_as_an_attribute_and_as_an_element(name):
    assert read_xmp(packet(attributes=f'{name}="2018-01-30T20:30:48+01:00"')).facts.taken_at == WHEN
    assert read_xmp(packet(f"<{name}>2018-01-30T20:30:48</{name}>")).facts.taken_at == WHEN


@pytest.mark.parametrize(
    ("latitude", "longitude", "place"),
    [("18,32.7255S", "70,19.8733W", (-18.545425, -70.331222)), ("18,30,36N", "70,0,0E", (18.51, 70.0)),
     ("-18.5", "70.25", (-18.5, 70.25)), ("18.5", "70.25", (18.5, 70.25)), ("0,0N", "0,0E", None),
     ("91,0N", "1,0E", None), ("18,0X", "1,0E", None), ("18,0E", "1,0E", None), ("", "1,0E", None)],
)  # fmt: skip
def test_a_place_is_read_in_every_form(latitude, longitude, place):
    found = read_xmp(packet(attributes=f'exif:GPSLatitude="{latitude}" exif:GPSLongitude="{longitude}"')).facts.place
    assert found == (place and pytest.approx(place, abs=1e-6))


def test_the_order_is_original_digitised_changed_and_exif_xmp_iptc():
    exif = make.exif_block(tags={0x0132: "2001:01:01 01:01:01"})
    assert decoded(encode(exif=exif.tobytes()))[1].taken_at == datetime(2001, 1, 1, 1, 1, 1)
    xmp = packet(attributes='xmp:ModifyDate="2002-02-02T02:02:02"')
    assert decoded(encode(exif=exif.tobytes(), xmp=xmp))[1].taken_at == datetime(2001, 1, 1, 1, 1, 1)
    xmp = packet(attributes='photoshop:DateCreated="2018-01-30T20:30:48"')
    assert decoded(encode(exif=exif.tobytes(), xmp=xmp))[1].taken_at == WHEN
    exif.get_ifd(0x8769)[0x9003] = "2003:03:03 03:03:03"
    assert decoded(encode(exif=exif.tobytes(), xmp=xmp))[1].taken_at == datetime(2003, 3, 3, 3, 3, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_and_camera_in_xmp_alone_count(kind):
    facts = packet(attributes='tiff:Orientation="6" tiff:Make="Canon" tiff:Model="Canon EOS"')
    options: dict[str, object] = {"xmp": facts}
    if kind == "PNG":
        options = {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", facts.decode())
    picture, info = decoded(encode(kind, **options))
    assert picture.size == (32, 48) and (info.width, info.height, info.camera) == (32, 48, "Canon EOS")


def test_xmp_is_found_in_gif_and_jpeg_2000():
    xmp = packet(attributes='photoshop:DateCreated="2018-01-30T20:30:48"')
    gif = encode("GIF")[:-1] + b"\x21\xff\x0bXMP DataXMP" + xmp + b"\x01" + bytes(range(255, -1, -1)) + b"\0\x3b"
    box = b"uuid" + bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + xmp
    for data in (gif, encode("JPEG2000") + (len(box) + 4).to_bytes(4, "big") + box):
        assert decoded(data)[1].taken_at == read_embedded(data).taken_at == WHEN
    assert read_embedded(gif.replace(b"</rdf:RDF>", b"")).taken_at is None


def test_iptc_has_times():
    fields = ((2, 55, b"20180130"), (2, 60, b"203048+0000"))
    block = b"".join(struct.pack(">BBBH", 0x1C, *name, len(value)) + value for *name, value in fields)
    tags = Image.Exif()
    tags[0x83BB] = block
    assert decoded(encode("TIFF", exif=tags))[1].taken_at == WHEN
    for profile in (block, b"8BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block):
        assert read_embedded(png_with_profile("iptc", profile)).taken_at == WHEN
    assert read_iptc(block.replace(b"203048", b"990000")).facts.original == datetime(2018, 1, 30)


def png_with_profile(name: str, profile: bytes) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text(f"Raw profile type {name}", f"\n{name} profile\n{len(profile):8}\n{profile.hex()}\n", zip=True)
    return encode("PNG", pnginfo=info)


def test_raw_profiles_of_a_png_are_read():
    exif = make.exif_block(6, WHEN, ("Canon", "EOS"), (10.0, 20.0)).tobytes()
    for name in ("exif", "APP1"):
        _, info = decoded(png_with_profile(name, exif))
        assert (info.width, info.height, info.taken_at, info.camera) == (32, 48, WHEN, "Canon EOS")
        assert (info.latitude, info.longitude) == (10.0, 20.0)
    described = packet("<dc:subject><rdf:Bag><rdf:li>dog</rdf:li></rdf:Bag></dc:subject>")
    for name, header in (("xmp", b""), ("APP1", b"http://ns.adobe.com/xap/1.0/\0")):
        assert read_embedded(png_with_profile(name, header + described)).keywords == ("dog",)
    assert read_embedded(png_with_profile("exif", b"")) == Embedded()


@pytest.mark.parametrize("text", ["Tue, 30 Jan 2018 20:30:48 +0100", "2018:01:30 20:30:48"])
def test_a_png_says_when_it_was_made(text):
    info = PngImagePlugin.PngInfo()
    info.add_text("Creation Time", text)
    assert decoded(encode("PNG", pnginfo=info))[1].taken_at == WHEN


def test_people_are_keywords_wherever_they_stand():
    region = '<rdf:li><rdf:Description mwg:Name="{}" mwg:Type="{}"/></rdf:li>'
    regions = "".join(region.format(*each) for each in (("Ann Lee", "Face"), ("EAN 13", "BarCode"), ("Rex", "Pet")))
    element = '<rdf:li rdf:parseType="Resource"><mwg:Name>Bob</mwg:Name><mwg:Type>Face</mwg:Type></rdf:li>'
    body = (
        "<ext:PersonInImage><rdf:Bag><rdf:li>Cleo</rdf:li></rdf:Bag></ext:PersonInImage>"
        f'<mwg:Regions rdf:parseType="Resource"><mwg:RegionList><rdf:Bag>{regions}{element}</rdf:Bag></mwg:RegionList>'
        "</mwg:Regions><MP:RegionInfo><rdf:Description><MPRI:Regions><rdf:Bag><rdf:li>"
        '<rdf:Description MPReg:PersonDisplayName="Dora"/></rdf:li></rdf:Bag></MPRI:Regions></rdf:Description>'
        "</MP:RegionInfo><dc:subject><rdf:Bag><rdf:li>dog</rdf:li></rdf:Bag></dc:subject>"
    )
    assert read_embedded(encode(xmp=packet(body))).keywords == ("dog", "Cleo", "Ann Lee", "Rex", "Bob", "Dora")


def test_a_packet_that_nests_too_deep_is_left_and_what_stood_before_it_stays():
    deep = "<dc:x>" * MAX_DEPTH + "</dc:x>" * MAX_DEPTH
    later = "<tiff:Model>EOS</tiff:Model>"
    assert read_xmp(packet(deep + later, 'exif:DateTimeOriginal="2018-01-30T20:30:48"')).facts.camera is None
    assert read_xmp(packet(deep + later, 'exif:DateTimeOriginal="2018-01-30T20:30:48"')).facts.taken_at == WHEN
    assert read_xmp(packet("<dc:x>" * 9 + "</dc:x>" * 9 + later)).facts.camera == "EOS"
    entity = b'<!DOCTYPE x [<!ENTITY e "EOS">]>' + packet("<tiff:Model>&e;</tiff:Model>")
    assert read_xmp(entity).facts.camera is None


# --- beside the picture ----------------------------------------------------------------------------------------------

LONG = "A photograph with a name of more than forty-six letters.jpg"


@pytest.mark.parametrize(
    ("name", "beside"),
    [("a.jpg", "a.xmp"), ("a.jpg", "a.jpg.XMP"), ("a.jpg", "a.jpg.json"), ("a.jpg", "a.jpg.supplemental-metadata.json"),
     ("a.jpg", "a.jpg.supplemental-me.json"), ("a.jpg", "a.jpg.s.json"), ("a(1).jpg", "a.jpg(1).json"),
     ("a(1).jpg", "a.jpg.supplemental-metadata(1).json"), (LONG, LONG[:46] + ".json"),
     (LONG[20:], f"{LONG[20:]}.supplemental-metadata"[:46] + ".json")],
)  # fmt: skip
def test_sidecars_are_found_by_their_names(name, beside):
    assert SidecarNames({name, beside, "b.jpg", "ab.xmp", "a.jsn"}).of(name) == [beside]
    assert SidecarNames({name, beside}).of("c.jpg") == []


def test_an_edited_copy_has_the_json_of_its_original_but_prefers_its_own():
    names = {"a.jpg.json", "b.jpg.supplemental-metadata(1).json", "a-bearbeitet.jpg"}
    assert SidecarNames(names).of("a-edited.jpg") == ["a.jpg.json"]
    assert SidecarNames(names).of("b-edited(1).jpg") == ["b.jpg.supplemental-metadata(1).json"]
    assert SidecarNames({*names, "a-edited.jpg.json"}).of("a-edited.jpg") == ["a-edited.jpg.json"]
    assert SidecarNames(names).of("a-edited-by-me.jpg") == []


def takeout(**changes: object) -> bytes:
    said = {
        "title": "a.jpg", "description": "At the lake", "photoTakenTime": {"timestamp": "1517344248"},
        "geoData": {"latitude": 47.5, "longitude": 8.25}, "people": [{"name": "Ann Lee"}, {"x": 1}, 2],
    }  # fmt: skip
    return json.dumps(said | changes).encode()


def test_takeout_fills_in_what_the_picture_does_not_say(tmp_path: Path):
    path = tmp_path / "a.jpg.json"
    path.write_bytes(takeout())
    found = read_sidecars([str(path)], Embedded(keywords=("dog",)), pytest.fail)
    assert found == Embedded(("At the lake",), ("dog", "Ann Lee"), WHEN, (47.5, 8.25))
    own = datetime(2000, 1, 1)
    assert read_sidecars([str(path)], Embedded((), (), own, (1.0, 2.0)), pytest.fail).taken_at == own


@pytest.mark.parametrize(
    "data",
    [b"", b"[" * 100_000, b"{}", b"[]", b'{"photoTakenTime": 3}', b"\xff\xfe", takeout(photoTakenTime=None),
     b'{"photoTakenTime": {"timestamp": "' + b"9" * 5000 + b'"}}', b'{"photoTakenTime": {"timestamp": "1e999"}}'],
)  # fmt: skip
def test_json_of_others_and_nonsense_say_nothing(data):
    found = read_takeout(data)
    assert (found.captions, found.people, found.facts.taken_at, found.facts.place) == ((), (), None, None)


def test_xmp_beside_the_picture_counts_before_what_is_in_it(tmp_path: Path):
    path = tmp_path / "a.xmp"
    path.write_bytes(packet(attributes='exif:DateTimeOriginal="2018-01-30T20:30:48" exif:GPSLatitude="1,0N" '
                                       'exif:GPSLongitude="2,0E" xmp:ModifyDate="2020-01-01T00:00:00"'))  # fmt: skip
    found = read_sidecars([str(path)], Embedded(("A dog",), ("dog",), datetime(2000, 1, 1), (5.0, 6.0)), pytest.fail)
    assert found == Embedded(("A dog",), ("dog",), WHEN, (1.0, 2.0))
    link = tmp_path / "b.xmp"
    link.symlink_to(path)
    with pytest.raises((OSError, MediaError)):
        read_sidecars([str(link)], Embedded(), pytest.fail)
