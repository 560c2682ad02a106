"""What a held-out prompt asks for is what its sentence says, and a right answer counts as right."""

import numpy as np

from attndreambooth.demo.evaluate_micro import table
from attndreambooth.micro.following import GOALS, asked_of, following, prompt_scenes
from attndreambooth.micro.judges import ATTRIBUTES, NONE, attributes_of
from attndreambooth.micro.world import full_caption
from attndreambooth.micro.world.vocabulary import COLOURS, PLACES

SCENES = prompt_scenes(0, 300)
PICTURES = np.zeros((len(SCENES), 1, 1, 3), np.uint8)


class Knowing:
    """Judges that know the truth, but for what they are told to get wrong."""

    def __init__(self, wrong: tuple[str, ...] = ()) -> None:
        self.wrong = wrong

    def predict(self, pictures: np.ndarray) -> dict[str, list[str]]:
        true = [attributes_of(scene) for scene in SCENES]
        return {n: ["?" if n in self.wrong else str(row[n]) for row in true] for n in ATTRIBUTES}


def test_prompts_are_the_same_from_a_seed_and_in_judged_colours():
    assert prompt_scenes(0, 300) == SCENES and prompt_scenes(1, 5) != SCENES[:5]
    assert all(scene.words.colour in COLOURS for scene in SCENES)


def test_only_what_the_sentence_says_is_asked():
    for scene in SCENES:
        said = full_caption(scene)
        asked = {name: value for pairs in asked_of(scene).values() for name, value in pairs}
        for name in ("category", "colour", "second", "relation", "hat", "held"):
            if name in asked:
                assert asked[name] in said and asked[name] != NONE
        assert ("place" in asked) == (PLACES[scene.place] in said)
        if scene.companion is None:
            assert not {"second", "relation"} & set(asked)
        if "pattern" in asked:
            assert asked["pattern"] in said or scene.words.partner is not None
    assert {row for scene in SCENES for row in asked_of(scene)} == set(GOALS)


def test_who_sees_the_truth_agrees_and_who_does_not_is_counted():
    assert following(Knowing(), PICTURES, SCENES) == dict.fromkeys(GOALS, 1.0)
    shares = following(Knowing(wrong=("relation", "held")), PICTURES, SCENES)
    assert shares["relation"] == 0.0 and 0 < shares["accessory"] < 1 and shares["colour"] == 1.0


def test_the_table_has_a_line_for_everything_asked():
    text = table({"model": {"category": 0.5}, "oracle": dict.fromkeys(GOALS, 1.0)})
    assert "| category | 50.0% | 100.0% | 95% |" in text
    assert len(text.splitlines()) == 2 + len(GOALS)
