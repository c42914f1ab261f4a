"""The true classes of pictures, from folders and from files."""

import pytest

from crp.errors import InputError
from crp.sources.picture_labels import labels_of_folder, read_labels

NAMES = ("ant", "crane", "bee", "crane")


def test_subfolders_named_like_classes_are_labels(tmp_path):
    pictures = [tmp_path / "bee" / "1.png", tmp_path / "ant" / "deep" / "2.png"]
    assert labels_of_folder(tmp_path, pictures, NAMES) == {pictures[0]: 2, pictures[1]: 0}


@pytest.mark.parametrize("other", ["3.png", "wasp/3.png", "crane/3.png"])
def test_folders_that_are_not_all_classes_are_no_labels(tmp_path, other):
    """A picture outside subfolders, a name that is no class, a name of two classes: nothing is guessed."""
    assert labels_of_folder(tmp_path, [tmp_path / "bee" / "1.png", tmp_path / other], NAMES) == {}


def labels(tmp_path, text, pictures):
    (tmp_path / "labels.csv").write_text(text, "utf-8")
    return read_labels(str(tmp_path / "labels.csv"), pictures, NAMES, len(NAMES))


def test_a_file_names_pictures_by_path_or_name_and_classes_by_name_or_index(tmp_path):
    pictures = [tmp_path / "a" / "1.png", tmp_path / "b" / "1.png", tmp_path / "2.png", tmp_path / "3.png"]
    text = f"\ufefflabel,file\nbee,a/1.png\n3,{pictures[1]}\nant,2.png\nbee,elsewhere.png\n"
    assert labels(tmp_path, text, pictures) == {pictures[0]: 2, pictures[1]: 3, pictures[2]: 0}


def test_spaces_after_commas_are_no_part_of_names(tmp_path):
    picture = tmp_path / "a.png"
    assert labels(tmp_path, "file, label\na.png, bee\n", [picture]) == {picture: 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\n", "have no column 'file', but 'name', 'label'; they need the columns file and label, separated"),
        ("file;label\n1.png;ant\n", "have no column 'file', but 'file;label'; they need"),
        ("", "have no column 'file', but none; they need"),
        ("file,label\na/1.png\n", "have no label in line 2"),
        ("file,label\n3.png,ant\n", "name none of the 2 pictures: they name '3.png', and the first picture"),
        ("file,label\n1.png,wasp\n", "There is no class 'wasp'"),
        ("file,label\n1.png,crane\n", "2 classes have the name 'crane'"),
        ("file,label\n1.png,ant\n1.png,bee\n", "give '1.png' two classes."),
        ("file,label\n1.png,ant\n", "name '1.png', which 2 pictures are called: give their paths."),
    ],
)
def test_refusals(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        labels(tmp_path, text, [tmp_path / "a" / "1.png", tmp_path / "b" / "1.png"])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_labels(str(tmp_path / "labels.csv"), [], NAMES, 4)
