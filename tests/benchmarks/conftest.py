"""The host's folders are put back after a test that works in its own."""

import pytest


@pytest.fixture
def own_folders(host, monkeypatch):
    """What programs set of the host's folders is forgotten afterwards."""
    import folder_paths

    for name in ("output_directory", "input_directory"):
        monkeypatch.setattr(folder_paths, name, getattr(folder_paths, name))
    folders = {**folder_paths.folder_names_and_paths}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", folders)
