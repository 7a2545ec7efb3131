"""What a shell does with the commands: paths from stdin, lines of a template, exit codes."""

import os
import subprocess
import sys

import pytest

from clipsearch.cli.path_lists import MAX_NAME, read_names
from clipsearch.cli.templates import HIT_FIELDS, ITEM_FIELDS, read_template
from clipsearch.errors import InvalidInputError
from clipsearch.types import Hit, Item, Modality
from tests.support.cli import COMMAND, environment, run_cli, run_here
from tests.support.libraries import index, photo, photos
from tests.support.state import read_state

ITEM = Item(7, "/photos/caf\udce9 {0}\n.jpg", Modality.IMAGE, 120, 5, "00", key="k\ud800", tags=("sea", "sun"))
HIT = Hit(1, ITEM, 0.25, None, Modality.TEXT)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{path}", b"/photos/caf\xe9 {0}\n.jpg\n"),
        (r"{name}\t{score:.3f}", b"caf\xe9 {0}\n.jpg\t0.250\n"),
        (r"{id}\0", b"7\0"),
        (r"{id}\n", b"7\n"),
        (r"{id}\\n", b"7\\n\n"),
        (r"{{{id}}}", b"{7}\n"),
        ("{rank:>4}|{id:<3}|{size:,}|{score:+.1%}", b"   1|7  |120|+25.0%\n"),
        ("{confidence:.0%}|{width:>6}|{taken_at:%Y-%m}|{taken_at:<12}|{caption}", b"|      ||            |\n"),
        ("{modality} {item_modality} {tags} {metadata}", b"text image sea,sun {}\n"),
        ("{key}", b"k\\ud800\n"),
        ("{name:*^20.4}", b"********caf\xe9********\n"),
    ],
)
def test_a_template_says_what_a_line_is(template, expected):
    assert read_template(template, HIT_FIELDS).write([HIT], "\n") == expected


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{path.__class__}", "no field 'path.__class__'. The fields are: rank, score, confidence, id, key, path,"),
        ("{path[0]}", "no field 'path[0]'"),
        ("{0}", "no field '0'"),
        ("{}", "no field ''"),
        ("{path!r}", "no field 'path!r'"),
        ("{path:1000000000}", "path has no format '1000000000'"),
        ("{score:1001}", "at most 1,000 wide"),
        ("{score:.101f}", "at most 100 decimals"),
        ("{score:{rank}}", "score has no format '{rank}'"),
        ("{score:d}", "score has no format 'd'"),
        ("{path:.3f}", "path has no format '.3f'"),
        ("{rank:c}", "rank has no format 'c'"),
        ("{taken_at:%999999999Y}", "taken_at has no format"),
        ("{rank:٩٩٩٩}", "rank has no format"),
        (r"{path}\x", r"no escape '\\x'"),
        ("{path}\\", r"no escape '\\'"),
        ("{path", "expected '}'"),
        ("path}", "Single '}'"),
        ("", "has 1 to 4,000 characters"),
        ("{path}" * 1000, "has 1 to 4,000 characters"),
    ],
)
def test_a_template_that_cannot_be_used_is_named(template, said):
    with pytest.raises(InvalidInputError) as caught:
        read_template(template, HIT_FIELDS)
    assert said in str(caught.value)


def test_an_item_has_no_score():
    with pytest.raises(InvalidInputError, match=r"no field 'score'. The fields are: id, key, path, name"):
        read_template("{score}", ITEM_FIELDS)


@pytest.mark.parametrize(
    ("data", "null", "expected"),
    [
        (b"", False, []),
        (b"a\nb c\n\nd", False, ["a", "b c", "d"]),
        (b"a\nb\0c\0", False, ["a\nb", "c"]),
        (b"a\nb", True, ["a\nb"]),
        (b"caf\xe9\r\n", False, ["caf\udce9\r"]),
        (b"x" * MAX_NAME + b"\ny", False, ["x" * MAX_NAME, "y"]),
    ],
)
def test_names_are_lines_or_end_with_nul(tmp_path, data, null, expected):
    (tmp_path / "names").write_bytes(data)
    assert list(read_names(str(tmp_path / "names"), null=null)) == expected


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a\n" + b"x" * (MAX_NAME + 1), "Name 2 of .* is longer than 65,536 bytes"),
        (b"a\n" * MAX_NAME + b"b\0c", "Name 65,537 of .* has a NUL in it"),
    ],
)
def test_names_that_are_none_are_refused(tmp_path, data, said):
    (tmp_path / "names").write_bytes(data)
    with pytest.raises(InvalidInputError, match=said):
        list(read_names(str(tmp_path / "names")))


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("shell")
    photos(folder / "photos", 4, size=(32, 24))
    if sys.platform == "linux":
        photo(folder / "photos" / "caf\udce9 \n.jpg", 20, (32, 24))
    (folder / "photos" / "notes.txt").write_text("Feed the cat.\n")
    os.symlink(folder / "photos", folder / "link")
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    return folder


@pytest.fixture
def run(home, monkeypatch):
    monkeypatch.chdir(home)
    return run_here


@pytest.mark.parametrize("command", [["find"], ["similar", "1"], ["query", "--like", "1"]], ids=" ".join)
def test_only_listed_files_are_found(run, home, command):
    names = ["photos/p001.jpg", str(home / "photos" / "p002.jpg"), "link/p003.jpg", "./photos/../photos/notes.txt", "x"]
    (home / "list").write_text("\n".join(names))
    code, out, err = run(*command, "--paths-from", "list", "--format", "{name}")
    assert b"\n1 of 5 paths are not in the library: x\n" in b"\n" + err
    assert code == 0 and sorted(out.decode().split()) == ["notes.txt", "p001.jpg", "p002.jpg", "p003.jpg"]
    code, out, _ = run(*command, "--paths-from", "list", "--not", "--paths-from", "list", "--fail-if-none")
    assert (code, out) == (1, b"")


@pytest.mark.slow
def test_paths_that_are_not_in_the_library_are_counted_and_named(run, home, tmp_path):
    """By each command that takes a list; folders, which find lists too, do not count."""
    names = [f"none{i}\n" for i in range(6)] + ["photos/p001.jpg\n", ".\n", "photos\n", "photos/p001.jpg\n"]
    (home / "few").write_text("".join(names[2:]) + "a\x1b[31mred.jpg")
    (home / "known").write_text("".join(names[6:]))
    said = b"5 of 6 paths are not in the library: none2, none3, none4, none5, a\\x1b[31mred.jpg\n"
    commands = (["find"], ["match", "photos/p001.jpg"], ["save", "one", "cat"], ["export", str(tmp_path / "out")])
    for command in (*commands, ["query", "--like", "1"], ["similar", "1", "--json"]):
        assert said in run(*command, "--paths-from", "few")[2], command
    (home / "more").write_text("".join(names))
    assert (
        b"6 of 7 paths are not in the library: none0, none1, none2, none3, none4, ...\n"
        in (run("find", "--not", "--paths-from", "more")[2])
    )
    (home / "one").write_text("none")
    code, out, err = run("find", "--paths-from", "one", "--json")
    assert (code, err) == (0, b"1 of 1 path is not in the library: none\n") and b'"total": 0' in out
    assert run("find", "--paths-from", "known")[2] == b""


def test_a_list_of_more_names_than_one_statement_takes(run, home):
    count = 25_000
    (home / "many").write_text("".join(f"photos/none{i}.jpg\n" for i in range(count)) + "photos/p001.jpg\n")
    code, out, err = run("find", "--paths-from", "many", "--format", r"{name}\0")
    assert (code, out) == (0, b"p001.jpg\0") and err.startswith(b"25,000 of 25,001 paths are not in the library: ")


def test_stdin_can_be_read_once_and_a_list_must_be_there(home):
    done = run_cli("find", "--paths-from", "-", "--not", "--paths-from", "-", cwd=home, stdin=subprocess.DEVNULL)
    assert done.code == 2 and "Names can be read from stdin once" in done.err
    assert "This is about --paths-from '-', argument" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("find --format {path} --json", b"without --json and --paths"),
        ("query cat --format {banana}", b"no field 'banana'. The fields are: rank, score"),
        ("find --paths-from nowhere", b"'nowhere' cannot be read: No such file or directory. This is about"),
        ("index - photos", b"- stands for paths on stdin. Use it alone"),
        ("index -0 photos", b"Write - for them"),
    ],
)
def test_what_makes_no_sense_is_named(run, arguments, said):
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, b"") and said in err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_a_pipe_of_find_to_index_to_query_to_ls(home, tmp_path):
    """Names of any bytes go through, and what is nowhere is counted, named, and fails at the end."""
    os.makedirs(tmp_path / "photos" / "sub" / ".git")
    for name in ("a.jpg", "sub/caf\udce9 \n.jpg", "sub/b.jpg", "sub/._b.jpg"):
        photo(tmp_path / "photos" / name, len(name), (32, 24))
    (tmp_path / "photos" / "sub" / "b.py").write_text("pass")
    script = """
        find photos -print0 | "$0" index -0 - --json --model builtin-small &&
        { find photos -print0; printf 'photos/gone.jpg\\0nowhere\\0'; } | "$0" index -; echo "$?" &&
        find photos/sub -print0 | "$0" find --paths-from - --format '{path}\\0' | xargs -0 ls &&
        "$0" find --in photos --type txt --fail-if-none; echo "$?"
    """
    env = environment({"CLIPSEARCH_LIBRARY": str(tmp_path / "lib")})
    done = subprocess.run(["bash", "-c", script, COMMAND], cwd=tmp_path, env=env, capture_output=True)
    lines = done.stdout.split(b"\n")
    assert b'"added": 3' in lines[0] and b'"failed": []' in lines[0] and b'".py": 1' in lines[0], done.stderr
    folder = os.fsencode(tmp_path / "photos" / "sub")
    assert lines[1:] == [b"2", *(folder + b"/b.jpg\n" + folder + b"/caf\xe9 \n.jpg\n1\n").split(b"\n")]
    assert b"There is no file or folder photos/gone.jpg." in done.stderr
    assert b"2 of 8 names on stdin are of nothing on disk or in the library." in done.stderr
    assert len(read_state(tmp_path / "lib").entries) == 3
