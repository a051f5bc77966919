import pytest

from digits.folder import check_folder, filled_at_once


def test_files_appear_at_the_end(tmp_path):
    folder = tmp_path / "out"
    with filled_at_once(folder) as staging:
        (staging / "a").write_text("new")
        assert not (folder / "a").exists()
    assert [file.name for file in folder.iterdir()] == ["a"]


def fill_and_fail(folder):
    with filled_at_once(folder) as staging:
        (staging / "a").write_text("new")
        raise ZeroDivisionError


def test_error_leaves_no_trace(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(ZeroDivisionError):
        fill_and_fail(folder)
    assert list(tmp_path.iterdir()) == []


def test_error_leaves_older_files(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError):
        fill_and_fail(tmp_path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "old")]


def test_files_are_replaced_and_others_stay(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").write_text("mine")
    with filled_at_once(tmp_path) as staging:
        (staging / "a").write_text("new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a": "new", "b": "mine"}


def test_new_and_empty_folders_pass(tmp_path):
    check_folder(tmp_path, force=False)
    check_folder(tmp_path / "new", force=False)


def test_refusals(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OSError, match="is not empty; --force"):
        check_folder(tmp_path, force=False)
    check_folder(tmp_path, force=True)
    with pytest.raises(OSError, match=r"file: .*is not a folder"):
        check_folder(file, force=True)
    with pytest.raises(OSError, match="none is not a folder"):
        check_folder(tmp_path / "none" / "out", force=True)
