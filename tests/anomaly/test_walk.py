"""Files below a folder: links are followed once, and what cannot be followed is told."""

import os

import pytest

from anomaly.datasets.walk import files_below
from anomaly.errors import InputError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def below(folder):
    return [path.relative_to(folder).as_posix() for path in files_below(folder)]


def test_files_come_in_the_order_of_their_paths_without_hidden_ones(tmp_path):
    touch(tmp_path, "b/z", "b/a", "a.x", "c/d/e", ".hidden", ".cache/a.x", "c/.git/config")
    assert below(tmp_path) == ["a.x", "b/a", "b/z", "c/d/e"]


def test_links_to_folders_and_files_are_followed(tmp_path):
    touch(tmp_path / "else", "x", "deep/y", "one")
    touch(tmp_path / "here", "a")
    (tmp_path / "here/linked").symlink_to(tmp_path / "else")
    (tmp_path / "here/file").symlink_to(tmp_path / "else/one")
    assert below(tmp_path / "here") == ["a", "file", "linked/deep/y", "linked/one", "linked/x"]
    (tmp_path / "all").symlink_to("here")
    assert below(tmp_path / "all") == below(tmp_path / "here")


def test_a_folder_that_several_links_lead_to_counts_once_and_is_told(tmp_path):
    touch(tmp_path / "here", "z/x")
    (tmp_path / "here/a").symlink_to("z")
    (tmp_path / "here/b").symlink_to(tmp_path / "here/z")
    with pytest.warns(UserWarning, match="here/a leads to .*/here/z, whose files count once"):
        assert below(tmp_path / "here") == ["z/x"]


def test_a_loop_ends(tmp_path):
    touch(tmp_path / "here", "deep/x")
    (tmp_path / "here/deep/up").symlink_to(tmp_path / "here")
    with pytest.warns(UserWarning, match="here/deep/up leads to"):
        assert below(tmp_path / "here") == ["deep/x"]


@pytest.mark.parametrize("target", ["nowhere", "link"])
def test_a_link_to_nothing_is_refused(tmp_path, target):
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(InputError, match="link: expected a file or a folder, found"):
        files_below(tmp_path)
    (tmp_path / "link").rename(tmp_path / ".link")
    assert files_below(tmp_path) == []


def test_what_is_neither_file_nor_folder_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg: expected a file or a folder, found neither"):
        files_below(tmp_path)


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    touch(tmp_path, "open/x", "closed/y")

    def refuse(path, listdir=os.listdir):
        if path == tmp_path / "closed":
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)  # as tests may run as root, who may list all
    with pytest.raises(InputError, match=r"closed: expected a folder that can be listed, found .*Permission denied"):
        files_below(tmp_path)


def test_no_folder_is_refused(tmp_path):
    touch(tmp_path, "file")
    with pytest.raises(InputError, match="expected a folder, found a file"):
        files_below(tmp_path / "file")
    with pytest.raises(InputError, match="expected a folder, found none"):
        files_below(tmp_path / "none")
