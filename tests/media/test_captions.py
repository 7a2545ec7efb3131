"""Tables of pictures and captions."""

import csv
import json
import tracemalloc
from io import StringIO
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.errors import InvalidInputError
from clipsearch.media import caption_lines
from clipsearch.media.captions import CAPTION_COLUMNS, IMAGE_COLUMNS, Pair, read_captions, read_pairs

WRONG = {
    "empty.csv": (b"", r"line 1: the columns must be image,caption; found nothing"),
    "only-names.csv": (b"image,caption\n", "has no captions"),
    "columns.csv": (b"photo,words\na,b\n", r"line 1: .* found photo,words. Other names are file, "),
    "tab.tsv": (b"image\tcaption\na.jpg\tone\ttwo\n", r"line 2: 3 fields for 2 columns.* a tab"),
    "gbk.csv": (
        "image,caption\na.jpg,x\nb.jpg,一只猫坐在沙发上\n".encode("gbk"),
        r"line 3: byte 0xd7 is not UTF-8.*iconv",
    ),
    "late.jsonl": (b'{"image": "a", "caption": "b"}\n' * 9999 + b'{"image": "\xff"}', "line 10000: byte 0xff is not"),
    "cut.csv": ("image,caption\na.jpg,猫".encode()[:-1], "line 2: byte 0xe7 is not UTF-8"),
    "latin.csv": ("image,caption\na.jpg,été\n".encode("cp1252"), "line 2: byte 0xe9 is not .*iconv -f WINDOWS-1252"),
    "nothing-in-it.csv": (bytes(5000), "line 1: the columns must be"),
    "comma.csv": (b"image,caption\na.jpg,one\na.jpg,one, two\n", r"line 3: 3 fields for 2 columns"),
    "no-caption.csv": (b"image,caption\na.jpg,\n", r"line 2: `caption` is empty"),
    "quote.csv": (b'image,caption\na.jpg,"open\nb.jpg,x\n', r"line 2: not CSV"),
    "nothing.jsonl": (b"\n\n", "has no captions"),
    "broken.jsonl": (b'{"image": "a", "caption": "b"}\n{"image"\n', "line 2: not JSON"),
    "list.jsonl": (b"[1]\n", "line 1: each line must be a JSON object"),
    "number.jsonl": (b'{"image": "a", "caption": 3}\n', "line 1: `caption` cannot be 3"),
    "missing.jsonl": (b'\n{"image": "a"}\n', "line 2: `caption` is missing"),
    "captions.xlsx": (b"PK", "not a .csv, .tsv or .jsonl file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_told_with_its_line(name, tmp_path):
    data, message = WRONG[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidInputError, match=message) as error:
        read_captions(tmp_path / name)
    assert name in str(error.value)


def test_what_a_spreadsheet_or_a_script_writes_is_read(tmp_path):
    (tmp_path / "a.csv").write_bytes(
        b'\xef\xbb\xbfImage,split,Caption\r\na.jpg,test,"one, two\r\nlines"\r\n\r\nb.jpg,x,\xe7\x8c\xab\r\n'
    )
    assert [tuple(p) for p in read_captions(tmp_path / "a.csv")] == [
        ("a.jpg", "one, two\r\nlines", 2, '{"split":"test"}'), ("b.jpg", "猫", 5, '{"split":"x"}')
    ]  # fmt: skip
    line = json.dumps({"image": "a.jpg", "caption": "left\u2028right", "more": 1}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_text(f"\n{line}\n", encoding="utf-8")
    assert [tuple(p) for p in read_captions(tmp_path / "a.jsonl")] == [("a.jpg", "left\u2028right", 2, '{"more":1}')]


def test_other_columns_are_metadata_of_their_types(tmp_path):
    values = ["12", "-0.5", "1e3", "01", "1e999", "99999999999999999999", "true", "", " 5", "x,y"]
    names = [f"N{i}" for i in range(len(values))]
    with open(tmp_path / "a.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image", *names, "caption"], ["a.jpg", *values, "a cat"]])
    [pair] = read_captions(tmp_path / "a.csv")
    expected = {n: v for n, v in zip(names, values, strict=True) if v} | {"N0": 12, "N1": -0.5, "N2": 1000.0}
    assert json.loads(pair.metadata) == expected
    more = {"n": 1, "f": 1.5, "b": True, "z": None, "l": ["a"], "o": {}, "m": [1], "big": 2**70, "s": "x"}
    (tmp_path / "a.jsonl").write_text(json.dumps({"image": "a.jpg", "caption": "a cat", **more}))
    [pair] = read_captions(tmp_path / "a.jsonl")
    assert json.loads(pair.metadata) == {n: more[n] for n in ("n", "f", "b", "z", "l", "s")}


@pytest.mark.parametrize("delimiter", [",", "\t", "|", " | "])
@pytest.mark.parametrize(("image", "caption"), [("image", "caption"), ("file_name", "text"), ("Path", "Description")])
def test_the_header_says_what_the_columns_are_and_what_stands_between_them(tmp_path, image, caption, delimiter):
    rows = [("split", image, caption), ("test", "a.jpg", "one; two"), ("test", "b.jpg", "three")]
    (tmp_path / "a.csv").write_text("".join(delimiter.join(row) + "\n" for row in rows))
    expected = [("a.jpg", "one; two", 2), ("b.jpg", "three", 3)]
    assert [pair[:3] for pair in read_captions(tmp_path / "a.csv")] == expected


def test_the_first_of_several_names_is_read(tmp_path):
    columns = (*reversed(IMAGE_COLUMNS), *reversed(CAPTION_COLUMNS))
    (tmp_path / "a.csv").write_text(",".join(columns) + "\n" + ",".join(f"the {name}" for name in columns))
    assert read_captions(tmp_path / "a.csv") == [Pair("the image", "the caption", 2)]
    line = {"path": "the path", "file": "the file", "caption": None, "text": "the text"}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    assert read_captions(tmp_path / "a.jsonl") == [Pair("the file", "the text", 1)]


# Without bare carriage returns, which csv.writer leaves bare where lines end otherwise.
FIELD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=40)
PAIRS = st.lists(st.tuples(FIELD, FIELD).filter(lambda pair: all(map(str.strip, pair))), min_size=1, max_size=8)


@settings(max_examples=60)
@given(PAIRS, st.sampled_from(",\t|"), st.sampled_from(["\n", "\r\n"]))
def test_what_csv_and_json_writers_write_comes_back(tmp_path_factory, pairs, delimiter, end):
    folder = tmp_path_factory.mktemp("round")
    text = StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([("image", "caption"), *pairs])
    (folder / "a.csv").write_bytes(text.getvalue().encode())
    lines = [json.dumps({"image": i, "caption": c}, ensure_ascii=False) for i, c in pairs]
    (folder / "a.jsonl").write_bytes(end.join(lines).encode())
    expected = [(image.strip(), caption.strip()) for image, caption in pairs]
    assert [pair[:2] for pair in read_captions(folder / "a.csv")] == expected
    assert [pair[:3] for pair in read_captions(folder / "a.jsonl")] == [
        (*pair, line) for line, pair in enumerate(expected, 1)
    ]


@settings(max_examples=100)
@given(st.binary(max_size=300), st.sampled_from([".csv", ".tsv", ".jsonl"]), st.booleans())
def test_any_bytes_are_a_table_or_an_error_that_names_the_file(tmp_path_factory, data, suffix, headed):
    path = tmp_path_factory.mktemp("any") / f"any{suffix}"
    path.write_bytes(b"image,caption\n" * headed + data)
    try:
        assert all(pair.image and pair.caption for pair in read_pairs(path))
    except InvalidInputError as error:
        assert path.name in str(error)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path, suffix):
    path = tmp_path / f"large{suffix}"
    line = "a.jpg,some words\n" if suffix == ".csv" else '{"image": "a.jpg", "caption": "some words"}\n'
    path.write_text("image,caption\n" * (suffix == ".csv") + line * 20_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_pairs(path)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 4
    finally:
        tracemalloc.stop()


def test_pairs_before_a_fault_are_there_before_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image,caption\na.jpg,x\nb.jpg,y\nc.jpg\n")
    assert list(islice(read_pairs(path), 2)) == [Pair("a.jpg", "x", 2), Pair("b.jpg", "y", 3)]
    with pytest.raises(InvalidInputError, match=r"line 4: 1 field for 2 columns\. Put a comma for each that is empty"):
        list(read_pairs(path))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, name):
    monkeypatch.setattr(caption_lines, "MAX_LINE", 1000)
    (tmp_path / name).write_bytes(b"image,caption" + b"x" * 10_000)
    with pytest.raises(InvalidInputError, match="line 1: longer than 1,000 characters"):
        read_captions(tmp_path / name)


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name in ("folder.csv", "gone.csv"):
        with pytest.raises(InvalidInputError, match=f"{name} cannot be read: "):
            read_captions(tmp_path / name)


def test_a_table_that_goes_while_it_is_read_is_read_to_its_end(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_bytes(b"image,caption\n" + b"a.jpg,a caption\n" * 50_000 + b"b.jpg,\xd7\n")
    pairs = read_pairs(path)
    next(pairs)
    path.unlink()
    with pytest.raises(InvalidInputError, match="line 50002: byte 0xd7 is not UTF-8"):
        list(pairs)


# --- tables as people save them: a bad row costs a row --------------------------------------------------------------


def read(path, data):
    """Return the pictures with their captions, and the bad rows by line."""
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    bad = {}
    return [pair[:2] for pair in read_pairs(path, bad.__setitem__)], bad


BAD_ROWS = {
    "too many fields": (b"b.jpg,one, two", "3 fields for 2 columns"),
    "too few fields": (b"b.jpg", "1 field for 2 columns. Put a comma for each that is empty"),
    "an open quote": (b'b.jpg,"open', "not CSV"),
    "text behind a quote": (b'b.jpg,"x"y', "not CSV"),
    "no picture": (b",words", "`image` is empty"),
    "not UTF-8": ("b.jpg,été".encode("latin-1"), "byte 0xe9 is not UTF-8"),
    "a huge cell": (b"b.jpg," + b"x" * 200_000, "field larger than"),
    "a huge line": (b"b.jpg," + b"x" * (3 << 20), "longer than 1,048,576 characters"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_bad_row_costs_that_row_alone(tmp_path, name, end):
    row, reason = BAD_ROWS[name]
    lines = [b"image,caption", b"a.jpg,alpha", row, b'c.jpg,"two', b'lines"', b"d.jpg,", b'e.jpg,5" nail']
    found, bad = read(tmp_path / "a.csv", end.join(lines))
    ends = end.decode()
    assert found == [("a.jpg", "alpha"), ("c.jpg", f"two{ends}lines"), ("d.jpg", ""), ("e.jpg", '5" nail')]
    assert list(bad) == [3] and reason in bad[3]


def test_a_bad_line_of_json_costs_that_line_alone(tmp_path):
    lines = ['{"file_name": "a.jpg", "text": "x"}', '{"file_name"', "[1]", '{"file_name": "b.jpg", "text": null}',
             '{"text": "nobody"}', '{"file_name": "c.jpg", "captions": ["y", "z"]}', '{"file_name": 3, "text": "n"}',
             '{"file_name": "d.jpg", "text": 3}']  # fmt: skip
    found, bad = read(tmp_path / "a.jsonl", "\n".join(lines))
    assert found == [("a.jpg", "x"), ("b.jpg", ""), ("c.jpg", "y"), ("c.jpg", "z")]
    assert list(bad) == [2, 3, 5, 7, 8]


@pytest.mark.parametrize("quotes", ['"', '"x\n', 'a.jpg,"x\n', '"\n"a\n'])
def test_open_quotes_take_linear_time(tmp_path, quotes):
    found, bad = read(tmp_path / "a.csv", "image,caption\n" + quotes * 10_000)
    assert len(found) + len(bad) > 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("start", ["", "sep=;\r\n", "\r\n"])
def test_what_excel_saves_is_read(tmp_path, encoding, start):
    text = start + 'Image Name;Caption;Rating;;\r\nKatze.jpg;Die Katze, grün;5;;\r\nsub\\b.jpg; "a; b";;;\r\n'
    path = tmp_path / "a.csv"
    assert read(path, text.encode(encoding)) == ([("Katze.jpg", "Die Katze, grün"), ("sub\\b.jpg", "a; b")], {})
    assert [pair.metadata for pair in read_pairs(path, print)] == ['{"Rating":5}', "{}"]


def test_a_line_that_names_the_delimiter_counts(tmp_path):
    assert read(tmp_path / "a.csv", "sep=^\nimage^caption\na.jpg^a, b; c\n") == ([("a.jpg", "a, b; c")], {})


@pytest.mark.parametrize(
    "header", ["caption,image", "Caption,FILE NAME", "description,file-path", "Title,SourceFile", "alt text,Photo"]
)
def test_columns_are_known_by_any_spelling(tmp_path, header):
    assert read(tmp_path / "a.csv", f"{header}\nwords,a.jpg\n") == ([("a.jpg", "words")], {})


def test_names_that_a_table_does_not_need_for_its_captions_are_metadata(tmp_path):
    data = "image,caption,title,photo,comment\na.jpg,words,12,,x\n"
    assert read(tmp_path / "a.csv", data) == ([("a.jpg", "words")], {})
    [pair] = read_pairs(tmp_path / "a.csv")
    assert json.loads(pair.metadata) == {"title": 12, "comment": "x"}


def test_a_zero_byte_is_no_end(tmp_path):
    assert read(tmp_path / "a.csv", b"image,caption\na.jpg,one\0two\nb.jpg,x\n")[0] == [
        ("a.jpg", "one\0two"), ("b.jpg", "x")
    ]  # fmt: skip
