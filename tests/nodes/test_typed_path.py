"""A typed path is understood as it was meant, and read only where it may be."""

from __future__ import annotations

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
