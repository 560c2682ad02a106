"""The host's folders are put back after a test that works in its own."""

import pytest


@pytest.fixture
def own_folders(host, monkeypatch):
    """What programs set of the host's folders is forgotten afterwards."""
    import folder_paths

    for name in ("output_directory", "input_directory"):
        monkeypatch.setattr(folder_paths, name, getattr(folder_paths, name))
    known = {k: (list(v[0]), v[1]) for k, v in folder_paths.folder_names_and_paths.items()}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)
    # what was listed of a folder that is gone when the test has passed
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
