"""Where a training goes on after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest
from dsrl_verl.checkpoints import WorkFolder

from dsrl import StoreError, TrainStep


def save(work: WorkFolder, step: int, is_whole: bool = True) -> None:
    folder = work.get_checkpoint(step)
    (folder / "actor").mkdir(parents=True)
    (folder / "actor" / "model.pt").write_text("weights")
    if is_whole:
        (folder / "data.pt").write_text("data")
        (work.checkpoints / "latest_checkpointed_iteration.txt").write_text(str(step))


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return WorkFolder(tmp_path / "work", "job")


def list_steps(work: WorkFolder) -> list[str]:
    return sorted(path.name for path in work.checkpoints.glob("global_step_*"))


def test_the_newest_whole_checkpoint_is_taken_and_the_others_go(work: WorkFolder) -> None:
    assert work.choose_checkpoint(0) == (0, None)
    for step in (1, 2):
        save(work, step)
    save(work, 3, is_whole=False)
    assert work.choose_checkpoint(3) == (2, work.get_checkpoint(2))
    assert list_steps(work) == ["global_step_2"]
    assert work.choose_checkpoint(3) == (2, work.get_checkpoint(2))


def test_a_step_that_was_saved_but_not_told_is_done_again(work: WorkFolder) -> None:
    for step in (1, 2):
        save(work, step)
    assert work.choose_checkpoint(1) == (1, work.get_checkpoint(1))
    # Step 2 is written again, and killed in the middle: verl's file must not call it whole.
    save(work, 2, is_whole=False)
    (work.get_checkpoint(2) / "data.pt").write_text("data")
    assert work.choose_checkpoint(2)[0] == 1


def test_nothing_told_begins_at_the_first_step(work: WorkFolder) -> None:
    save(work, 1)
    assert work.choose_checkpoint(0) == (0, None)
    assert list_steps(work) == []
    assert work.choose_checkpoint(1) == (0, None)


def test_told_steps_are_read_again_and_a_torn_line_is_removed(work: WorkFolder) -> None:
    steps = [TrainStep(n, 3, n / 3, {"reward": 0.5}, {"1-0": 0.25}) for n in (1, 2)]
    for step in steps:
        work.add_told(step)
    with (work.folder / "told.jsonl").open("a") as file:
        file.write('{"step": 3, "st')
    assert work.read_told() == steps
    work.add_told(TrainStep(3, 3, 1.0, {}, {}))
    assert [step.step for step in work.read_told()] == [1, 2, 3]


def test_a_folder_of_another_job_is_refused(work: WorkFolder, tmp_path: Path) -> None:
    assert WorkFolder(work.folder, "job").folder == work.folder
    with pytest.raises(StoreError, match="other settings"):
        WorkFolder(work.folder, "another")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        WorkFolder(tmp_path / "file" / "work", "job")


def test_the_folders_of_a_local_ray_are_found_again(work: WorkFolder, tmp_path: Path) -> None:
    for name in ("dsrl-ray-1", "dsrl-ray-2", "mine"):
        (tmp_path / name).mkdir()
        work.note_ray_folder(work.begin_attempt()[1], tmp_path / name)
    work.note_ray_folder(work.begin_attempt()[1], None)
    (tmp_path / "dsrl-ray-2").rmdir()
    assert work.list_ray_folders() == [tmp_path / "dsrl-ray-1"], "only what is there and has such a name"


def test_the_end_leaves_only_its_mark(work: WorkFolder) -> None:
    save(work, 1)
    assert work.begin_attempt()[0] == 1
    assert work.begin_attempt()[0] == 2
    work.add_told(TrainStep(1, 1, 1.0, {}, {}))
    assert not work.is_finished
    work.mark_finished()
    work.remove()
    assert work.is_finished
    assert sorted(path.name for path in work.folder.iterdir()) == ["finished", "job"]
