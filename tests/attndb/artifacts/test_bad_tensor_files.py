"""A hundred bad tensor files: each is refused by its name, whoever reads it, and none is read in
part, crashes or swells. `inspect` says what is wrong with them in one line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.apart import read_apart
from support.bad_tensors import ODD_TYPES, bad_tensor_files

from attndreambooth.attndb.artifacts.concept import ConceptFileError, TrainedConcept
from attndreambooth.attndb.artifacts.concept_files import concept_files, load_concept
from attndreambooth.attndb.artifacts.foreign_files import foreign_delta, read_foreign_embedding
from attndreambooth.attndb.artifacts.tensor_file import read_tensors, write_whole
from attndreambooth.attndb.inspection import inspect

READER = """
from attndreambooth.attndb.artifacts.concept_files import load_concept
from attndreambooth.attndb.artifacts.foreign_files import read_foreign_embedding
from attndreambooth.attndb.inspection import inspect

for path in FILES:
    start = time.process_time()
    for look in (lambda: load_concept(path, path), lambda: read_foreign_embedding(path)):
        try:
            look()
        except ValueError:
            pass
    inspect(path)
    tell(time.process_time() - start, peak_kb())
"""
SOUND = ("damaged", "longer")  # a changed byte of a number, or of a word, may be as good


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The two files of a sound concept."""
    folder = tmp_path_factory.mktemp("good")
    concept = TrainedConcept(
        placeholder="<x>",
        category="dog",
        text_key="clip_l",
        vectors=torch.ones(2, 768),
        delta={"out.2.weight": torch.full((4, 6), 0.5)},
        base_family="SD 1.5",
        record={"stages": [{"stage": 1}]},
    )
    embedding, weights = folder / "e.safetensors", folder / "w.safetensors"
    write_whole(concept_files(concept, "x", embedding, weights))
    return embedding, weights


@pytest.fixture(scope="module")
def corpus(made, tmp_path_factory):
    """Every bad file, in turn of the embedding and of the weights: path and which it is."""
    folder, found = tmp_path_factory.mktemp("bad"), []
    for which, path in zip(("embedding", "weights"), made, strict=True):
        with safe_open(str(path), "pt") as handle:
            metadata = dict(handle.metadata())
        tensors = {name: tensor.float() for name, tensor in read_tensors(path)[0].items()}
        for name, content in bad_tensor_files(tensors, metadata):
            bad = folder / f"{which}-{name}.safetensors"
            bad.write_bytes(content)
            found.append((bad, which))
    return found


def test_the_corpus_is_large_and_the_same_every_time(made, corpus):
    assert len({path for path, _ in corpus}) == len(corpus) >= 150
    again = dict(bad_tensor_files({"a": torch.ones(3)}, {"k": "v"}))
    assert again == dict(bad_tensor_files({"a": torch.ones(3)}, {"k": "v"}))


def test_a_concept_is_whole_or_refused_by_the_file_s_name(made, corpus):
    refused = Counter()
    for path, which in corpus:
        pair = (path, made[1]) if which == "embedding" else (made[0], path)
        kind = path.stem.split("-")[1]
        try:
            concept = load_concept(*pair)
        except ConceptFileError as error:
            refused[kind] += 1
            assert path.name in str(error) or made[0].name in str(error), (path.name, str(error))
            assert len(str(error)) < 600, path.name
        else:
            assert kind in SOUND, path.name
            assert concept.vectors.shape[1] == 768 and list(concept.delta) == ["out.2.weight"]
    assert set(refused) >= {"cut", "damaged", "type", "value", "lying", "length", "header"}


def test_a_foreign_embedding_is_whole_or_refused_by_the_file_s_name(corpus):
    for path, which in corpus:
        if which != "embedding":
            continue
        try:
            found = read_foreign_embedding(path)
        except ConceptFileError as error:
            assert path.name in str(error)
        else:
            assert path.stem.split("-")[1] in (*SOUND, "lying"), path.name
            assert torch.isfinite(found.vectors).all()


@pytest.mark.parametrize("kind", ODD_TYPES)
def test_fp8_and_whole_numbers_are_refused_as_such(tmp_path, kind):
    told = f"holds {kind}"
    ones = torch.ones(2, 768).to(kind)
    save_file({"<x>": ones}, tmp_path / "e.safetensors")
    with pytest.raises(ConceptFileError, match=rf"e\.safetensors {told}.*fp32, fp16 or bf16"):
        read_foreign_embedding(tmp_path / "e.safetensors")
    tensors = {
        "u.lora_up.weight": torch.ones(4, 2).to(kind),
        "u.lora_down.weight": torch.ones(2, 6),
    }
    with pytest.raises(ConceptFileError, match=rf"f: u\.lora_up\.weight {told}"):
        foreign_delta(tensors, {"u": ("w", (4, 6))}, "f")


def test_inspect_says_in_one_line_what_is_wrong(corpus):
    for path, _ in corpus:
        kind = path.stem.split("-")[1]
        problems = inspect(path).problems
        assert all(line.isprintable() and len(line) < 600 for line in problems), path.name
        if kind != "damaged":  # a changed byte of a number may be as good
            assert problems, path.name
        json.dumps(inspect(path).facts)


def test_all_of_them_are_read_within_a_gigabyte_and_none_takes_long(corpus):
    seconds, peaks = zip(*read_apart(READER, corpus[0][0].parent), strict=True)
    peak_kb, slowest_s = peaks[-1], max(seconds)
    assert peak_kb < 1 << 20 and slowest_s < 10


def test_a_link_that_leads_to_itself_is_named(tmp_path):
    loop = Path(tmp_path / "loop.safetensors")
    loop.symlink_to(loop)
    for look in (lambda: load_concept(loop, None), lambda: read_foreign_embedding(loop)):
        with pytest.raises((ConceptFileError, OSError), match="loop"):
            look()
    assert inspect(loop).problems
