"""Several libraries searched as one: what they answer equals what one library of all items does."""

import shutil

import pytest

import clipsearch
from clipsearch import Filter, LibraryError, Text
from tests.support.joined import READS, SEARCHES, SETTINGS, fill, keys, make, records, seen
from tests.support.libraries import index, photos


@pytest.fixture(scope="module")
def libraries(tmp_path_factory, encoder):
    whole, parts = make(tmp_path_factory.mktemp("joint"), encoder)
    with whole, clipsearch.open(parts, settings=SETTINGS) as joint:
        joint._encoder = encoder
        yield whole, joint
    for part in parts:
        part.close()


@pytest.mark.parametrize("name", SEARCHES)
def test_several_libraries_find_what_one_does(libraries, name):
    whole, joint = libraries
    expected, found = (SEARCHES[name](each) for each in (whole, joint))
    assert seen(found) == seen(expected)


@pytest.mark.parametrize("name", READS)
def test_several_libraries_say_what_one_does(libraries, name):
    whole, joint = libraries
    assert READS[name](joint) == READS[name](whole)


@pytest.fixture
def shared(tmp_path, encoder):
    """Three libraries of two records each, as folders."""
    folders = [tmp_path / name for name in "abc"]
    for number, folder in enumerate(folders):
        fill(folder, encoder, [records(number, 2 * number, 2)]).close()
    return folders


@pytest.mark.slow
def test_each_library_measures_for_itself_and_scores_are_those_of_one(tmp_path, encoder):
    part = [records(0, 0, 80), records(1, 80, 70)]  # enough for each to be measured
    whole = fill(tmp_path / "whole", encoder, part)
    shares = [fill(tmp_path / str(number), encoder, [each]) for number, each in enumerate(part)]
    with whole, clipsearch.open(shares, settings=SETTINGS) as joint:
        joint._encoder = encoder
        for modality in ("image", "text"):
            one, several = (e.search("a dog", modality=modality, k=30, hybrid=False) for e in (whole, joint))
            assert [(hit.item.key, hit.score) for hit in several] == [(hit.item.key, hit.score) for hit in one]
            for hit, other in zip(several, one, strict=True):
                assert hit.confidence == pytest.approx(other.confidence, abs=0.2)
    for each in shares:
        each.close()


def test_an_id_names_its_library(shared):
    with clipsearch.open(shared, settings=SETTINGS) as joint:
        items = list(joint.items())
        assert [joint.library_of(item) for item in items] == [str(f) for f in shared for _ in range(2)]
        assert joint.libraries == tuple(map(str, shared)) and len({item.id for item in items}) == 6
        assert joint.library_of(items[3].id) == str(shared[1])
        with pytest.raises(clipsearch.InvalidInputError, match="no id of an item of these libraries"):
            joint.library_of(5 << 40)
        with pytest.raises(clipsearch.InvalidInputError, match="There is no item"):
            joint.search(clipsearch.Indexed((2 << 40) + 99))
    with clipsearch.open(shared[:2], settings=SETTINGS) as fewer:
        assert [item.id for item in fewer.items()] == [item.id for item in items[:4]]


def test_what_writes_is_refused_and_names_the_way(shared):
    with clipsearch.open(shared, settings=SETTINGS) as joint:
        for name in ("add", "update", "delete", "tag", "collect", "index", "build"):
            with pytest.raises(LibraryError, match=f"{name} needs one. Open it: clipsearch.open"):
                getattr(joint, name)(["r000"])
    with pytest.raises(clipsearch.InvalidInputError, match="only searched"):
        clipsearch.open(shared, create=True)
    with pytest.raises(clipsearch.InvalidInputError, match="named twice"):
        clipsearch.open([shared[0], shared[0]])
    with pytest.raises(clipsearch.InvalidInputError, match="not 0"):
        clipsearch.open([])
    with pytest.raises(clipsearch.InvalidInputError, match="or a client, not 7"):
        clipsearch.open([shared[0], 7])


def test_a_library_of_another_encoder_is_refused(shared, tmp_path):
    with clipsearch.open(tmp_path / "other", create=True, model="elsewhere", dim=8, settings=SETTINGS) as other:
        other.add([{"id": "x", "text": "x", "vector": [1.0] * 8}])
    with clipsearch.open([*shared, tmp_path / "other"], settings=SETTINGS) as joint:
        with pytest.raises(clipsearch.EncoderMismatchError, match="vectors of two encoders cannot be compared"):
            joint.search("a dog")


def test_a_library_that_is_gone_is_an_error_or_a_warning(shared, encoder):
    with pytest.raises(clipsearch.LibraryNotFoundError):
        clipsearch.open([*shared, shared[0] / "none"])
    with clipsearch.open([*shared, shared[0] / "none"], partial=True, settings=SETTINGS) as joint:
        joint._encoder = encoder
        found = joint.search("a dog", k=9)
        assert len(found) == 6
        assert any("none is not searched" in each for each in found.warnings)
    with pytest.raises(LibraryError, match="None of the libraries"):
        clipsearch.open([shared[0] / "none"], partial=True)


def test_a_library_whose_vectors_are_lost_is_an_error_or_a_warning(shared, encoder):
    shutil.rmtree(shared[1] / "vectors")
    with clipsearch.open(shared, settings=SETTINGS) as joint:
        joint._encoder = encoder
        with pytest.raises(clipsearch.StoreCorruptError, match=str(shared[1])):
            joint.search("a dog")
    with clipsearch.open(shared, partial=True, settings=SETTINGS) as joint:
        joint._encoder = encoder
        found = joint.search("a dog", k=9)
        assert {joint.library_of(hit.item) for hit in found} == {str(shared[0]), str(shared[2])}
        assert any(str(shared[1]) in each for each in found.warnings)
        assert keys(joint.get(["r000", "r002"])) == ["r000", None]


def test_what_is_committed_meanwhile_is_found_at_once(shared, encoder):
    with clipsearch.open(shared, settings=SETTINGS) as joint:
        joint._encoder = encoder
        assert joint.count() == 6
        with clipsearch.open(shared[1], settings=SETTINGS) as own:
            own._encoder = encoder
            own.add([{"id": "new", "text": "a violin"}])
        assert joint.search(Text("a violin"))[0].item.key == "new"
        assert joint.count(Filter(keys=("new",))) == 1


def test_a_folder_of_one_library_may_be_filtered_by(tmp_path, encoder):
    folders = [tmp_path / "one", tmp_path / "two"]
    for number, folder in enumerate(folders):
        photos(folder / "photos", 3, first=3 * number)
        index(folder / "library", folder / "photos", encoder=encoder)
    with clipsearch.open([folder / "library" for folder in folders], settings=SETTINGS) as joint:
        inside = Filter(folders=(str(folders[1] / "photos"),))
        assert joint.count(inside) == 3 and joint.count(~inside) == 3
        assert {joint.library_of(item) for item in joint.find(inside)} == {str(folders[1] / "library")}
        with pytest.raises(clipsearch.InvalidInputError, match="not in any indexed folder"):
            joint.find(Filter(folders=(str(tmp_path / "three"),)))
