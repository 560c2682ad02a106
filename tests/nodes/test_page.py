"""What the page's JavaScript asks of the server: small pictures, a folder for new photos."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image
from support.heic import save_heic, without_reader
from support.pictured import pictured

from attndreambooth.devkit.pack import ROOT

pytestmark = pytest.mark.host


@pytest.fixture
def inputs(host, tmp_path, monkeypatch):
    """An empty input/ folder."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    (tmp_path / "input").mkdir()
    return tmp_path / "input"


def save(path, size=(400, 300), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    grain = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(grain).resize(size).save(path, **options)
    return path


def test_a_folder_is_described_by_its_photos_in_order_and_its_place_below_input(inputs):
    from attndreambooth.nodes.host.page.pictures import describe_folder

    for name in ("10.jpg", "2.png", "more/3.webp", "2_mask.png"):
        save(inputs / "dog" / name)
    found = describe_folder("dog")
    assert [photo["name"] for photo in found["photos"]] == ["2.png", "10.jpg", "more/3.webp"]
    assert (found["count"], found["subfolder"], found["error"]) == (3, "dog", "")
    assert {".jpg", ".png"} <= set(found["suffixes"])
    assert len({photo["version"] for photo in found["photos"]}) == 3


@pytest.mark.parametrize("folder", ["", "..", "/", "dog\0", 7, "x" * 300])
def test_a_folder_that_cannot_be_read_is_described_by_its_error(inputs, folder):
    from attndreambooth.nodes.host.page.pictures import describe_folder

    found = describe_folder(folder)
    assert found["photos"] == [] and found["error"] and found["subfolder"] is None


def test_a_folder_that_is_not_there_yet_is_no_error(inputs):
    from attndreambooth.nodes.host.page.pictures import describe_folder

    found = describe_folder("my-dog")
    assert (found["photos"], found["subfolder"], found["error"]) == ([], None, "")


def test_a_picture_is_small_upright_and_that_of_the_version_asked_for(inputs):
    from attndreambooth.nodes.host.page.pictures import SIDE, describe_folder, photo_picture

    turned = Image.Exif()
    turned[0x0112] = 6
    path = save(inputs / "dog" / "1.jpg", exif=turned)
    [photo] = describe_folder("dog")["photos"]
    made = Image.open(io.BytesIO(photo_picture("dog", photo["version"])))
    assert (made.format, made.size) == ("JPEG", (SIDE * 3 // 4, SIDE))
    save(path, size=(500, 300))
    with pytest.raises(FileNotFoundError):
        photo_picture("dog", photo["version"])


def test_a_heic_is_shown_as_a_jpeg_which_every_browser_reads(inputs):
    from attndreambooth.nodes.host.page.pictures import SIDE, describe_folder, photo_picture
    from attndreambooth.nodes.host.photo_folders import photo_folders

    save_heic(Image.new("RGB", (400, 300), "red"), inputs / "dog" / "IMG_1.HEIC", 6)
    found = describe_folder("dog")
    [photo] = found["photos"]
    made = Image.open(io.BytesIO(photo_picture("dog", photo["version"])))
    assert (made.format, made.size) == ("JPEG", (SIDE * 3 // 4, SIDE))
    assert ".heic" in found["suffixes"] and not found["unread"]
    with without_reader("HEIF"):
        found = describe_folder("dog")
        assert "IMG_1.HEIC is HEIC, which" in found["error"] and "pillow-heif" in found["error"]
        assert found["unread"].keys() == {".heic", ".heif", ".hif"}
        assert ".heic" not in found["suffixes"] and "dog" in photo_folders()


def test_a_broken_photo_is_named_with_the_words_of_training(inputs):
    from attndreambooth.attndb.data.photo import DatasetError
    from attndreambooth.nodes.host.page.pictures import describe_folder, photo_picture

    path = save(inputs / "dog" / "1.jpg")
    path.write_bytes(path.read_bytes()[:300])
    [photo] = describe_folder("dog")["photos"]
    with pytest.raises(DatasetError, match=r"1\.jpg is broken or unreadable"):
        photo_picture("dog", photo["version"])


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("<my-dog>", "my-dog"),
        ("../../etc", "etc"),
        ("a b/c", "a-b-c"),
        ("", "photos"),
        ("nul", "photos-nul"),
        ("x" * 300, "x" * 60),
    ],
)
def test_a_new_folder_lies_below_input_under_a_plain_name(inputs, wanted, name):
    from attndreambooth.nodes.host.photo_folders import claim_folder

    assert [claim_folder(wanted) for _ in range(3)] == [name, f"{name}-2", f"{name}-3"]
    assert {path.name for path in inputs.iterdir()} == {name, f"{name}-2", f"{name}-3"}


def test_pages_that_ask_at_the_same_moment_get_folders_of_their_own(inputs):
    from attndreambooth.nodes.host.photo_folders import claim_folder

    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(claim_folder("dog"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8


def test_the_page_asks_only_for_routes_that_the_server_has():
    routes = (ROOT / "nodes/host/page/routes.py").read_text(encoding="utf-8")
    asked = [
        path
        for script in (ROOT / "web").glob("*.js")
        for line in script.read_text(encoding="utf-8").splitlines()
        for path in line.split("/attndreambooth/")[1:]
    ]
    assert asked
    for path in asked:
        name = path.split("?")[0].split('"')[0].split("`")[0]
        assert f'{{_PREFIX}}/{name}"' in routes, name


def test_a_large_picture_in_a_record_is_refused(home):
    from attndreambooth.nodes.host.concept_store import save_concept
    from attndreambooth.nodes.host.page.pictures import concept_picture

    save_concept(pictured(4100, "PNG"), "large")
    with pytest.raises(ValueError, match="no thumbnail"):
        concept_picture("large")
