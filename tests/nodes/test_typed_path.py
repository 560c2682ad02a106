"""A typed path is understood as it was meant, and read only where it may be."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def paths(host):
    from attndreambooth.nodes.host import typed_path

    return typed_path


@pytest.mark.parametrize("typed", ["dog", " dog ", '"dog"', "' dog '", ' "dog" '])
def test_blanks_and_quotes_of_a_pasted_path_are_left_out(paths, typed):
    assert paths.unquoted(typed) == "dog"


def test_the_first_root_that_has_it_is_meant_and_a_missing_one_is_of_the_first(paths, tmp_path):
    roots = [tmp_path / "input", tmp_path / "datasets"]
    (roots[1] / "dog").mkdir(parents=True)
    assert paths.place_of("dog", roots, paths.is_folder) == roots[1] / "dog"
    assert paths.place_of("cat", roots, paths.is_folder) == roots[0] / "cat"
    assert paths.place_of(str(tmp_path), roots, paths.is_folder) == tmp_path


def test_a_link_that_leads_out_lies_not_below(paths, tmp_path):
    root, outside = tmp_path / "input", tmp_path / "elsewhere"
    outside.mkdir()
    root.mkdir()
    (root / "link").symlink_to(outside)
    assert paths.lies_below(root, [root]) and paths.lies_below(root / "new", [outside, root])
    for path in (root / "link", root / ".." / "elsewhere", tmp_path / "input-2"):
        assert not paths.lies_below(path, [root])


def test_a_name_that_no_system_takes_is_no_path(paths, tmp_path):
    for text in ("a\0b", "x" * 2000):
        assert not paths.can_be_path(text)
    assert not paths.is_file(tmp_path / ("x" * 2000)) and not paths.is_folder(
        tmp_path / ("x" * 2000)
    )


def test_another_computer_is_not_asked_whether_it_has_a_file(paths, monkeypatch, tmp_path):
    """On Windows the question alone sends it the hash of the server's account."""
    import folder_paths

    asked = []
    monkeypatch.setattr(paths, "_WINDOWS", True)
    monkeypatch.setattr(Path, "is_dir", lambda path: asked.append(path) or True)
    monkeypatch.setattr(Path, "is_file", lambda path: asked.append(path) or True)
    monkeypatch.setattr(paths.os.path, "realpath", lambda path: asked.append(path) or path)
    for text in ("//stranger/share/dogs", r"\\stranger\share\dogs", "//?/UNC/stranger/share/dogs"):
        path = Path(text)
        assert not paths.is_folder(path) and not paths.is_file(path)
        assert not paths.lies_below(path, [tmp_path])
    assert asked == []
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: "//nas/home/input")
    for text in ("//NAS/home/input/dogs", str(tmp_path), "//?/C:/photos"):
        assert paths.is_folder(Path(text))


def test_a_stranger_s_share_is_refused_as_any_folder_outside(host, monkeypatch):
    from attndreambooth.nodes.host import photo_folders, typed_path

    monkeypatch.setattr(typed_path, "_WINDOWS", True)
    with pytest.raises(ValueError, match="lies outside of ComfyUI's input/"):
        photo_folders.resolve_folder("//stranger/share/dogs")
