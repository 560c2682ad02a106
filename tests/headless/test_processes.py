"""Which subjects a process trains, and on which card; where ComfyUI is looked for."""

from __future__ import annotations

import pytest

from attndreambooth.headless.host import HostMissingError, choose_card, host_folder
from attndreambooth.headless.processes import processes

SUBJECTS = ["a", "b", "c", "d", "e"]


def test_every_subject_is_trained_by_one_process():
    parts = [processes(f"{rank}/3", False, {}).own(SUBJECTS) for rank in range(3)]
    assert parts == [["a", "d"], ["b", "e"], ["c"]]
    ranks = [
        processes("", False, {"RANK": str(rank), "WORLD_SIZE": "2"}).own(SUBJECTS)
        for rank in range(2)
    ]
    assert ranks == [["a", "c", "e"], ["b", "d"]]
    assert processes("", False, {}).own(SUBJECTS) == SUBJECTS


def test_together_all_train_each_and_the_first_writes():
    first, second = (
        processes("", True, {"RANK": str(rank), "WORLD_SIZE": "2"}) for rank in range(2)
    )
    assert first.own(SUBJECTS) == second.own(SUBJECTS) == SUBJECTS
    assert first.writes and not second.writes


@pytest.mark.parametrize(
    ("part", "together", "said"),
    [
        ("3/3", False, "say 0/4"),
        ("a", False, "say 0/4"),
        ("0/2", True, "one process"),
        ("", True, "torchrun"),
    ],
)
def test_what_cannot_be_is_said(part, together, said):
    with pytest.raises(ValueError, match=said):
        processes(part, together, {})


@pytest.mark.parametrize(
    ("before", "local", "card"),
    [(None, "1", "1"), ("4,7", "1", "7"), ("4", "1", "4"), ("", "1", "")],
)
def test_a_process_sees_its_own_card(before, local, card):
    environ = {"LOCAL_RANK": local, **({} if before is None else {"CUDA_VISIBLE_DEVICES": before})}
    choose_card(environ)
    assert environ["CUDA_VISIBLE_DEVICES"] == card


def test_comfyui_is_the_one_named_or_around_or_fetched(tmp_path):
    pack = tmp_path / "ComfyUI" / "custom_nodes" / "attndreambooth"
    pack.mkdir(parents=True)
    with pytest.raises(HostMissingError, match="set COMFYUI_PATH"):
        host_folder({}, pack)
    for version in ("0.9.1", "0.30.0"):
        fetched = pack / ".host" / f"ComfyUI-{version}"
        fetched.mkdir(parents=True)
        (fetched / "main.py").touch()
    assert host_folder({}, pack) == fetched
    (tmp_path / "ComfyUI" / "main.py").touch()
    assert host_folder({}, pack) == tmp_path / "ComfyUI"
    assert host_folder({"COMFYUI_PATH": str(fetched)}, pack) == fetched
    with pytest.raises(HostMissingError, match="there is no ComfyUI in it"):
        host_folder({"COMFYUI_PATH": str(tmp_path)}, pack)


def _array(task, count=3, **more):
    named = {"ID": task, "COUNT": count, **more}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in named.items()}


def test_tasks_of_an_array_share_the_subjects_of_a_folder():
    parts = [processes("", False, _array(n), array=True).own(SUBJECTS) for n in range(3)]
    assert parts == [["a", "d"], ["b", "e"], ["c"]]
    spread = [_array(n, MIN=4, STEP=2) for n in (4, 6, 8)]
    assert [processes("", False, e, array=True).own(SUBJECTS) for e in spread] == parts
    assert processes("", False, _array(1)).own(SUBJECTS) == SUBJECTS  # as asked for by --part
    assert processes("0/2", False, _array(1), array=True).own(SUBJECTS) == ["a", "c", "e"]


def test_torchrun_in_every_task_shares_further():
    found = [
        processes("", False, {**_array(task, 2), "RANK": str(rank), "WORLD_SIZE": "2"}, array=True)
        for task in range(2)
        for rank in range(2)
    ]
    assert [one.own(SUBJECTS) for one in found] == [["a", "e"], ["b"], ["c"], ["d"]]
    together = [
        processes("", True, {**_array(1, 2), "RANK": str(rank), "WORLD_SIZE": "2"}, array=True)
        for rank in range(2)
    ]
    assert [one.own(SUBJECTS) for one in together] == [["b", "d"], ["b", "d"]]
    assert [one.writes for one in together] == [True, False]


@pytest.mark.parametrize("environ", [_array(7, 3), _array(1, 0), _array(5, 3, MIN=4, STEP=2)])
def test_an_array_with_gaps_is_refused(environ):
    with pytest.raises(ValueError, match="without gaps"):
        processes("", False, environ, array=True)
