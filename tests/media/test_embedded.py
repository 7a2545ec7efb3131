"""What picture files say in words of themselves; written by Pillow, and IPTC by hand."""

import random
import struct
import unicodedata
import warnings
import zlib
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from clipsearch.media.image_metadata import MAX_CAPTION, MAX_KEYWORD, MAX_KEYWORDS, Embedded, read_embedded
from tests.support.pictures import FORMATS, encode, exif_block, noise_picture, png_file

PICTURE = noise_picture(1)
JPEG = encode(PICTURE)
DESCRIPTION, TITLE, COMMENT, KEYWORDS, SUBJECT = 0x010E, 0x9C9B, 0x9C9C, 0x9C9E, 0x9C9F
NOTHING = Embedded()


def packet(body: str, attributes: str = "") -> bytes:
    """An XMP packet; body: properties of the picture."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
        f'xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" {attributes}>{body}</rdf:Description></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()


def alternatives(name: str, **texts: str) -> str:
    items = "".join(f'<rdf:li xml:lang="{lang.replace("_", "-")}">{text}</rdf:li>' for lang, text in texts.items())
    return f"<dc:{name}><rdf:Alt>{items}</rdf:Alt></dc:{name}>"


def bag(*words: str) -> str:
    return f"<dc:subject><rdf:Bag>{''.join(f'<rdf:li>{word}</rdf:li>' for word in words)}</rdf:Bag></dc:subject>"


def iim(*fields: tuple[int, int, bytes]) -> bytes:
    return b"".join(struct.pack(">BBBH", 0x1C, *name, len(value)) + value for *name, value in fields)


def with_iptc(jpeg: bytes, block: bytes) -> bytes:
    """Put an APP13 segment behind the start of a JPEG."""
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block + b"\0" * (len(block) % 2)
    body = b"Photoshop 3.0\0" + resource
    return jpeg[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def exif_texts(tags: dict[int, str]) -> dict[int, bytes]:
    """Values of EXIF with texts; those of Windows as it writes them."""
    return {t: v.encode() if t == DESCRIPTION else (v + "\0").encode("utf-16-le") for t, v in tags.items()}


def exif(tags: dict[int, str], camera: tuple[str, str] | None = None) -> bytes:
    return exif_block(camera=camera, tags=exif_texts(tags)).tobytes()


def described(text: str, camera: tuple[str, str] | None = None) -> Embedded:
    return read_embedded(encode(PICTURE, exif=exif({DESCRIPTION: text}, camera)))


XMP = packet(alternatives("description", x_default="Two dogs run") + bag("dog", "Hund"))
FULL = with_iptc(
    encode(PICTURE, exif=exif({DESCRIPTION: "A meadow"}, ("Canon", "EOS")), xmp=XMP), iim((2, 120, b"At noon"))
)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_every_format_that_keeps_words_is_read(kind):
    texts = {DESCRIPTION: "Grüne Wiese", KEYWORDS: "summer; Grün"}
    block = exif(texts)
    if kind == "TIFF":
        data = encode(PICTURE, kind, exif=exif_block(tags={**exif_texts(texts), 0x02BC: XMP}))
    elif kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        data = encode(PICTURE, kind, exif=block, pnginfo=info)
    else:
        data = encode(PICTURE, kind, exif=block, xmp=XMP)
    found = read_embedded(data)
    assert found == Embedded(("Two dogs run", "Grüne Wiese"), ("dog", "Hund", "summer", "Grün"))


@pytest.mark.parametrize("kind", sorted(set(FORMATS.values())))
def test_a_picture_without_words_has_none(kind):
    assert read_embedded(encode(PICTURE, kind)) == NOTHING


def test_every_property_of_xmp_comes_in_its_order_and_the_default_language_first():
    body = (
        alternatives("title", de="Hunde", x_default="Dogs")
        + bag("dog", "Dog", " ")
        + alternatives("description", de="Zwei Hunde", x_default="Two dogs", fr="Two dogs")
    )
    found = read_embedded(encode(PICTURE, xmp=packet(body, 'photoshop:Headline="The headline"')))
    assert found == Embedded(("Two dogs", "Zwei Hunde", "Dogs", "Hunde", "The headline"), ("dog",))


def test_xmp_of_what_the_picture_is_made_from_is_not_of_the_picture():
    inner = f"<rdf:Description>{alternatives('title', x_default='A part')}{bag('part')}</rdf:Description>"
    body = f"<xmpMM:Pantry><rdf:Bag><rdf:li>{inner}</rdf:li></rdf:Bag></xmpMM:Pantry><dc:title>The whole</dc:title>"
    assert read_embedded(encode(PICTURE, xmp=packet(body))) == Embedded(("The whole",))


@pytest.mark.parametrize(
    ("head", "value", "text"),
    [
        (b"\x1b%G", "Grüße 猫".encode(), "Grüße 猫"),
        (b"\x1b%G", b"Gr\xffu\xc3\x9fe", "Gruße"),  # says UTF-8, and has a wrong byte
        (b"", "Grüße 猫".encode(), "Grüße 猫"),
        (b"", "Grüße \x93so\x94".encode("latin-1"), "Grüße “so”"),
        (b"", "café".encode("latin-1"), "café"),
        (b"", "Größe: voilà".encode()[:-1], "Größe: voil"),  # cut within a letter, as fields of fixed length are
    ],
)
def test_iptc_is_read_in_the_charset_that_it_has(head, value, text):
    fields = [(1, 90, head)] * bool(head) + [(2, 120, value), (2, 25, b"red"), (2, 25, b"blue;RED"), (2, 5, b"Name")]
    assert read_embedded(with_iptc(JPEG, iim(*fields))) == Embedded((text, "Name"), ("red", "blue"))


def test_iptc_in_a_tiff_is_read_and_damage_behind_it_loses_nothing():
    block = iim((2, 105, b"Headline of it"), (2, 25, b"key")) + b"\x1c\x02"
    tags = Image.Exif()
    tags[0x83BB] = block
    assert read_embedded(encode(PICTURE, "TIFF", exif=tags)) == Embedded(("Headline of it",), ("key",))


def test_texts_of_windows_are_read():
    tags = {TITLE: "Der Titel", SUBJECT: "Das Thema", COMMENT: "Ein 🐕\nund mehr", KEYWORDS: "eins;zwei; ;Eins"}
    found = read_embedded(encode(PICTURE, exif=exif(tags)))
    assert found == Embedded(("Der Titel", "Das Thema", "Ein 🐕 und mehr"), ("eins", "zwei"))


@pytest.mark.parametrize("name", [b"tEXt", b"zTXt", b"iTXt"])
@pytest.mark.parametrize("behind", [False, True])
def test_texts_of_a_png_are_read_even_behind_the_pixels(name, behind):
    def chunk(keyword: str, text: str) -> bytes:
        heads = {b"tEXt": b"\0", b"zTXt": b"\0\0", b"iTXt": b"\0\1\0en\0\0"}
        value = text.encode("utf-8" if name == b"iTXt" else "latin-1")
        return keyword.encode() + heads[name] + (value if name == b"tEXt" else zlib.compress(value))

    chunks = [(name, chunk(*pair)) for pair in (("Title", "Größe"), ("Description", "Ein Maß"), ("Comment", "no"))]
    data = png_file((8, 8), 8, 0, bytes(72), chunks)
    if behind:
        texts = data[33 : data.index(b"IDAT") - 4]
        data = data.replace(texts, b"")[:-12] + texts + data[-12:]
    Image.open(BytesIO(data)).load()
    assert read_embedded(data) == Embedded(("Ein Maß", "Größe"))


@pytest.mark.parametrize(
    "text",
    [
        "OLYMPUS DIGITAL CAMERA         ", "SONY DSC", "SAMSUNG CAMERA PICTURES", "KODAK Digital Still Camera",
        "Exif_JPEG_PICTURE", "MINOLTA DIGITAL CAMERA", "Konica Minolta Digital Camera", "DCIM\\100MEDIA\\DJI_0001.JPG",
        "hdr", "cof", "dav", "oznorWO", "fbthdr", "Created with GIMP", "Processed with VSCO with f2 preset",
        "<Digimax i5, Samsung #1>", "DSC_0123.JPG", "IMG_20190102_120000", "Untitled", "2019:01:02 12-00", "...",
        "Canon", "EOS", "Canon EOS", '{"shape": [3, 4]}', "ImageJ=1.53t\nimages=3", "<?xml version='1.0'?><OME></OME>",
    ],
)  # fmt: skip
def test_what_cameras_and_programs_write_by_themselves_is_no_caption(text):
    assert described(text, ("Canon", "EOS")) == NOTHING


@pytest.mark.parametrize(
    "text",
    ["Screenshot", "my first digital camera", "Hdr dinner", "Made with love", "Pictures of Rome", "猫", "sofa"],
)
def test_what_a_person_may_have_written_is_a_caption(text):
    assert described(text).captions == (text,)


def test_modes_that_phones_of_one_make_write_are_told_by_the_make():
    assert described("btfmdnpl_x", ("HUAWEI", "ELE-L29")) == NOTHING == described("_cuva", ("HUAWEI", "P"))
    assert described("btfmdnpl", ("Nokia", "x")).captions == () and described("smart", ("LG", "x")).captions == (
        "smart",
    )
    assert described("Rome", ("HUAWEI", "ELE-L29")).captions == ("Rome",)


def test_doubles_are_told_once():
    long = "A long sentence about a meadow and two dogs."
    body = alternatives("description", x_default=long) + alternatives("title", x_default="Cat; dog") + bag("dog", "Cat")
    jpeg = encode(PICTURE, xmp=packet(body), exif=exif({DESCRIPTION: long.upper() + " ", TITLE: "Dog, cat"}))
    found = read_embedded(with_iptc(jpeg, iim((2, 120, long[:25].encode()), (2, 25, b"DOG"))))
    assert found == Embedded((long,), ("dog", "Cat"))
    longer_later = with_iptc(encode(PICTURE, exif=exif({DESCRIPTION: long})), iim((2, 5, long[:30].encode())))
    assert read_embedded(longer_later) == Embedded((long,))


def test_lengths_and_counts_are_limited():
    words = bag(*(f"w{i} " + "x" * 200 for i in range(250)))
    body = alternatives("description", **{f"l{i}": f"{i} " + "y " * 2500 for i in range(4)}) + words
    found = read_embedded(encode(PICTURE, "WEBP", xmp=packet(body)))
    assert len(found.keywords) == MAX_KEYWORDS and {len(word) for word in found.keywords} == {MAX_KEYWORD}
    assert len(found.captions) == 4 and all(MAX_CAPTION - 2 < len(text) <= MAX_CAPTION for text in found.captions)
    many = alternatives("title", **{f"l{i}": f"text {i}" for i in range(5000)})
    assert read_embedded(encode(PICTURE, "WEBP", xmp=packet(many))).captions[:2] == ("text 0", "text 1")


def test_entities_and_other_tricks_of_xml_give_nothing():
    levels = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    laughs = f'<!DOCTYPE x [<!ENTITY e0 "ha">{levels}]>'.encode() + packet("<dc:title>&e11;</dc:title>")
    outside = b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>' + packet("<dc:title>&f;</dc:title>")
    deep = packet("<dc:title>" + "<a>" * 1_000_000 + "</dc:title>")
    wrong_charset = b'<?xml version="1.0" encoding="klingon"?>' + packet("<dc:title>x y</dc:title>")
    for xmp in (
        laughs,
        outside,
        deep,
        wrong_charset,
        b"\0" * 100,
        b"<",
        XMP.replace(b"dc:subject", b"dc:sub", 1)[:-300],
    ):
        assert read_embedded(encode(PICTURE, "WEBP", xmp=xmp)).keywords == ()


def test_a_broken_end_of_xmp_keeps_what_was_read():
    assert read_embedded(encode(PICTURE, "WEBP", xmp=XMP + b"\0\0<")).keywords == ("dog", "Hund")
    assert read_embedded(encode(PICTURE, "WEBP", xmp=XMP.decode().encode("utf-16"))).keywords == ("dog", "Hund")


def test_texts_of_a_png_that_are_too_large_are_left_out_and_the_others_read():
    large = b"Description\0\0\0\0\0" + b"a " * 25_000_000
    bomb = b"Title\0\0" + zlib.compress(b"a" * 50_000_000)
    chunks = [(b"iTXt", large), *[(b"zTXt", bomb)] * 3, (b"tEXt", b"Title\0A good title")]
    assert read_embedded(png_file((8, 8), 8, 0, bytes(72), chunks)) == Embedded(("A good title",))


@settings(max_examples=100)
@given(st.binary(max_size=400))
def test_any_bytes_in_any_place_are_survived(junk):
    heads = [b"", JPEG[:20], b"II*\0\x08\0\0\0", b"\x89PNG\r\n\x1a\n", b"RIFF\x90\1\0\0WEBPVP8X"]
    for head in heads:
        read_embedded(head + junk)
    assert read_embedded(with_iptc(encode(PICTURE, xmp=junk, exif=b"Exif\0\0" + junk), junk)) is not None


def test_damaged_files_neither_raise_nor_warn():
    block = exif({DESCRIPTION: "A meadow", KEYWORDS: "a;b"}, ("Canon", "EOS"))
    files = [FULL, *(encode(PICTURE, kind, exif=block, xmp=XMP) for kind in ("WEBP", "TIFF", "AVIF", "HEIF"))]
    files.append(png_file((8, 8), 8, 0, bytes(72), [(b"eXIf", block[6:]), (b"tEXt", b"Title\0Words")]))
    draw = random.Random(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in files:
            assert read_embedded(data).captions
            for cut in range(0, len(data), max(1, len(data) // 100)):
                read_embedded(data[:cut])
            for _ in range(300):
                spoiled = bytearray(data)
                for _ in range(draw.randrange(1, 8)):
                    spoiled[draw.randrange(min(len(data), 4000))] ^= 1 << draw.randrange(8)
                read_embedded(bytes(spoiled))


@settings(max_examples=50)
@given(st.lists(st.text(max_size=300), max_size=8))
def test_what_is_found_is_clean_whatever_was_written(texts):
    block = iim((1, 90, b"\x1b%G"), *((2, 25 + 95 * (i % 2), t.encode("utf-8", "ignore")) for i, t in enumerate(texts)))
    found = read_embedded(with_iptc(JPEG, block))
    for text in (*found.captions, *found.keywords):
        assert text == unicodedata.normalize("NFC", " ".join(text.split())) and text
        assert not any(unicodedata.category(c) in {"Cc", "Cs"} for c in text)
    for words in (found.captions, found.keywords):
        assert len({word.casefold() for word in words}) == len(words)
