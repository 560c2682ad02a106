"""Every picture that the embedded model drew is of the weights that the pack has."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

from attndreambooth.demo import drawn
from attndreambooth.demo.drawn import DRAWINGS, RECORD, Drawing, shipped
from attndreambooth.devkit.pack import ROOT
from attndreambooth.micro.weight_files import DIGITS, MODEL

NO_MODEL = {
    "micro/weights/attndb-micro-autoencoder.png",  # of the autoencoder, by the gate
    "workflows/Teach a subject (SDXL).jpg",  # drawings by hand
    "workflows/Teach a subject (SDXL, LoRA).jpg",
}


def pictures() -> set[str]:
    folders = ("docs", "workflows", "micro/weights")
    found = [p for folder in folders for p in (ROOT / folder).rglob("*.*")]
    return {p.relative_to(ROOT).as_posix() for p in found if p.suffix in (".jpg", ".png", ".webp")}


def test_it_is_said_of_every_picture_who_draws_it():
    listed = [path for one in DRAWINGS for path in one.all]
    assert len(listed) == len(set(listed))
    assert set(listed) | NO_MODEL == pictures()
    assert set(json.loads(RECORD.read_text(encoding="utf-8"))) == set(listed)
    for one in DRAWINGS:
        assert (ROOT / one.command[0]).is_file()


def test_they_are_of_the_shipped_weights():
    told = subprocess.run(
        [sys.executable, "demo/drawn.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout == f"all pictures are of the weights that the pack has ({shipped()})\n"


@pytest.fixture
def paper(tmp_path, monkeypatch):
    """A repository with a picture that a command draws, and a record of its own."""
    script = tmp_path / "draw.py"
    code = "import sys; from PIL import Image; Image.new('RGB', (5, 4), 'red').save(sys.argv[1])"
    script.write_text(code, encoding="utf-8")
    (tmp_path / "drawn.json").write_text('{"old.jpg": "before", "else.png": "before"}')
    one = Drawing(("draw.py", "{folder}/new.png"), taken={"old.jpg": "new.png"})
    monkeypatch.setattr(drawn, "ROOT", tmp_path)
    monkeypatch.setattr(drawn, "RECORD", tmp_path / "drawn.json")
    monkeypatch.setattr(drawn, "DRAWINGS", (one,))
    return tmp_path


def test_what_other_weights_drew_is_told_and_made(paper, capsys):
    assert drawn.main([]) == 0
    assert capsys.readouterr().out == "old.jpg: python draw.py {folder}/new.png\n"
    assert not (paper / "old.jpg").exists()
    assert drawn.main(["--make"]) == 0
    with Image.open(paper / "old.jpg") as made:
        assert (made.size, made.format) == ((5, 4), "JPEG")
    assert drawn.record() == {"else.png": "before", "old.jpg": shipped()}
    assert drawn.stale() == []
    (paper / "old.jpg").unlink()
    assert drawn.main(["--make", "old"]) == 0 and (paper / "old.jpg").exists()


def test_pictures_of_rows_are_of_the_weights_of_those(paper, monkeypatch):
    one = drawn.DRAWINGS[0]
    monkeypatch.setattr(drawn, "DRAWINGS", (replace(one, weights="asked.json"),))
    earlier = "ab" * 32
    (paper / "asked.json").write_text(json.dumps({"weights": {MODEL: earlier}}))
    assert drawn.main(["--make"]) == 0
    assert drawn.record()["old.jpg"] == earlier[:DIGITS] and drawn.stale() == []
    (paper / "asked.json").write_text(json.dumps({"weights": {MODEL: "cd" * 32}}))
    assert [list(one.all) for one in drawn.stale()] == [["old.jpg"]]


def test_an_unknown_name_and_a_command_that_fails_change_nothing(paper, capsys):
    with pytest.raises(SystemExit):
        drawn.main(["--make", "lod"])
    assert "no picture is called lod: use old" in capsys.readouterr().err
    (paper / "draw.py").write_text("raise SystemExit(3)")
    with pytest.raises(subprocess.CalledProcessError):
        drawn.main(["--make"])
    assert drawn.record()["old.jpg"] == "before"


def test_the_commands_are_those_that_docs_and_helps_name():
    """Of the figures whose settings a page gives: the same here."""
    files = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    [said] = re.findall(r"`python (demo/ranks\.py [^`]*)`", files)
    assert shlex.split(said) in [list(one.command) for one in DRAWINGS]
