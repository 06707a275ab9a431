"""The output folder while a training saves, and after a kill during a save."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import Trainer, TrainingArguments

from kexue_hf import WoBertConfig, WoBertModel
from kexue_hf.errors import InputError
from kexue_hf.trainers.checked_options import check_training
from kexue_hf.trainers.whole_checkpoints import AtomicCheckpointTrainer, last_whole_checkpoint, write_whole


@pytest.fixture
def trainer(tmp_path: Path) -> AtomicCheckpointTrainer:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = WoBertModel(WoBertConfig(vocab_size=9, max_position_embeddings=8, **sizes))
    return AtomicCheckpointTrainer(
        model=model, args=TrainingArguments(str(tmp_path / "out"), use_cpu=True, report_to="none")
    )


def killed(*_: Any, **__: Any) -> None:
    raise SystemExit("killed")


def test_the_model_is_moved_when_it_is_complete(
    trainer: AtomicCheckpointTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.save_model()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors"} <= set(before)
    trainer.model.embeddings.word_embeddings.weight.data.add_(1)
    save = Trainer._save

    def half(self: Any, folder: str, *arguments: Any, **options: Any) -> None:
        save(self, folder, *arguments, **options)
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        killed()

    monkeypatch.setattr(Trainer, "_save", half)
    with pytest.raises(SystemExit):
        trainer.save_model()
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before
    monkeypatch.setattr(Trainer, "_save", save)
    trainer.save_model()
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(after) == set(before) and after["model.safetensors"] != before["model.safetensors"]


def test_an_upload_has_no_pickle(
    trainer: AtomicCheckpointTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: list[set[str]] = []
    trainer.args.push_to_hub = True
    monkeypatch.setattr(
        Trainer, "push_to_hub", lambda *_, **__: uploaded.append({path.name for path in (tmp_path / "out").iterdir()})
    )
    trainer.save_model()
    assert len(uploaded) == 1 and {"config.json", "model.safetensors"} <= uploaded[0]
    assert "training_args.bin" not in uploaded[0]


def test_subfolders_of_a_model_are_replaced(
    trainer: AtomicCheckpointTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named adapter has a subfolder; other files in it stay."""
    written = iter(range(3))

    def save(self: Any, folder: str, *arguments: Any, **options: Any) -> None:
        mine = Path(folder) / "mine" / "deep"
        mine.mkdir(parents=True)
        (mine / "weights").write_text(str(next(written)))

    monkeypatch.setattr(Trainer, "_save", save)
    trainer.save_model()
    folder = tmp_path / "out" / "mine"
    (folder / "notes").touch()
    trainer.save_model()
    assert (folder / "deep" / "weights").read_text() == "1"
    assert sorted(path.name for path in tmp_path.glob("out/**/*")) == ["deep", "mine", "notes", "weights"]


def test_a_rewritten_checkpoint_counts_only_when_complete(
    trainer: AtomicCheckpointTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out" / "checkpoint-5"
    folder.mkdir(parents=True)
    write_whole(folder / "progress.json", '{"step": 5}')
    assert last_whole_checkpoint(tmp_path / "out") == (str(folder), {"step": 5})
    trainer.state.global_step = 5
    monkeypatch.setattr(Trainer, "_save_checkpoint", killed)
    with pytest.raises(SystemExit):
        trainer._save_checkpoint(trainer.model, None)
    assert last_whole_checkpoint(tmp_path / "out") is None


def test_the_rest_of_a_killed_write_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "progress.json.part").write_text("half")
    write_whole(tmp_path / "progress.json", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_resume_from_checkpoint_is_refused(tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True, resume_from_checkpoint="x")
    with pytest.raises(InputError, match="--resume_from_checkpoint has no effect here: leave it out"):
        check_training(arguments, None, None)
    check_training(SimpleNamespace(**{**vars(arguments), "resume_from_checkpoint": None}), None, None)


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [
        (2, None, [4, 6]),
        (1, None, [6]),
        (1, 2, [2, 6]),
        (2, 2, [2, 6]),
        (None, None, [2, 4, 6, 8]),
        (3, None, [2, 4, 6]),
    ],
)
def test_rotation_of_checkpoints(
    limit: int | None, best: int | None, left: list[int], trainer: AtomicCheckpointTrainer, tmp_path: Path
) -> None:
    """Checkpoint 8 was left by a process that was killed while it wrote, and another while it was deleted."""
    out = tmp_path / "out"
    for step in (2, 4, 6, 8):
        (out / f"checkpoint-{step}").mkdir(parents=True)
        if step < 8:
            write_whole(out / f"checkpoint-{step}" / "progress.json", "{}")
            os.utime(out / f"checkpoint-{step}" / "progress.json", ns=(step, step))
    (out / ".removing" / "part").mkdir(parents=True)
    trainer.args.save_total_limit = limit
    trainer.state.best_model_checkpoint = best and f"elsewhere/checkpoint-{best}"
    trainer._rotate()
    assert sorted(path.name for path in out.iterdir()) == [f"checkpoint-{step}" for step in left]
