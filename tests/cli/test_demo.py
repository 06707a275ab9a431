"""The demo: a shortened run, and its errors."""

import json
import re

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from kexue_hf.cli.demo import MASKED_SENTENCES, _make_folder, run_demo
from kexue_hf.cli.main import main
from kexue_hf.errors import OutputError
from kexue_hf.hub.card_names import published_card


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory):
    """Return the result of a run with fewer epochs, and its output."""
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *parts, **_: lines.append(" ".join(map(str, parts))))
        return run_demo(tmp_path_factory.mktemp("demo"), epochs=4), "\n".join(lines)


def test_masks_are_filled_with_sensible_words(demo):
    result, _ = demo
    words = {sentence: [word for word, _ in result.fills[sentence]] for sentence in MASKED_SENTENCES}
    assert "表明" in words[MASKED_SENTENCES[0]]
    assert "提出" in words[MASKED_SENTENCES[1]]
    assert "笑" in words[MASKED_SENTENCES[2]]
    for answers in result.fills.values():
        assert all(0 < probability <= 1 for _, probability in answers)


def test_the_classifier_beats_the_majority(demo):
    result, _ = demo
    assert result.majority_accuracy == pytest.approx(0.25)
    assert result.accuracy > 0.45


def test_output_shows_only_the_steps(demo):
    _, output = demo
    assert re.findall(r"^(\d)\. ", output, re.MULTILINE) == ["1", "2", "3", "4"]
    assert "epoch  4 of 4" in output and "held-out accuracy" in output
    assert "Warning" not in output and "{'loss'" not in output


def test_the_folder_is_ready_for_the_hub(demo):
    result, _ = demo
    folder = result.classifier_folder
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "README.md"} <= names
    assert {"modeling_wobert.py", "tokenization_wobert.py"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert set(config["label2id"]) == {"人文社科", "农学", "医学", "工学"}
    classify = pipeline(
        "text-classification",
        model=AutoModelForSequenceClassification.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
    )
    assert classify("水稻产量与施肥量的关系")[0]["label"] in config["label2id"]


@pytest.mark.parametrize("name", ["model_folder", "classifier_folder"])
def test_doctor_finds_no_error(demo, name, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["doctor", str(getattr(demo[0], name)), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert not stop.value.code and report["errors"] == []
    # Neither the packaged model nor its data are on the Hub under names of their own.
    stated = [
        warning for warning in report["warnings"] if "names no base_model" in warning or "no datasets" in warning
    ]
    assert [
        warning for warning in report["warnings"] if warning not in stated and "only you have" not in warning
    ] == []


@pytest.mark.parametrize("name", ["model_folder", "classifier_folder"])
def test_a_push_renames_the_folder(demo, name):
    folder = getattr(demo[0], name)
    published = published_card((folder / "README.md").read_text(encoding="utf-8"), "own/er")
    assert f'"{folder.name}"' not in published and '"own/er"' in published


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model_folder", "classifier_folder"])
def test_doctor_loads_the_folder_without_the_package(demo, name):
    with pytest.raises(SystemExit) as stop:
        main(["doctor", str(getattr(demo[0], name)), "--load"])
    assert not stop.value.code


@pytest.mark.parametrize("name", ["model_folder", "classifier_folder"])
def test_the_cards_state_licence_sources_limits_and_use(demo, name):
    card = (getattr(demo[0], name) / "README.md").read_text(encoding="utf-8")
    metadata, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert "license: cc-by-sa-4.0" in metadata and "language: zh" in metadata
    loaded = ("import kexue_hf", "trust_remote_code=True", "AutoTokenizer.from_pretrained(")
    for word in ("CSL", "CMRC 2018", "DRCD", "## Limits", "Too weak for real work", *loaded):
        assert word in text, word


def test_the_classifiers_card_has_its_figures(demo):
    result, _ = demo
    card = (result.classifier_folder / "README.md").read_text(encoding="utf-8")
    assert f"| accuracy | {result.accuracy:.4f} |" in card and "| majority_accuracy | 0.2500 |" in card
    assert "Trained on `train.jsonl`" in card and "Measured on `held_out.jsonl`" in card and "| epochs | 4 |" in card
    # Only the default number of epochs is that of the command.
    assert "kexue-hf demo --seed" not in card and str(result.classifier_folder.parent) not in card


def test_the_card_names_the_command(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(
        "kexue_hf.cli.demo.fine_tune", lambda *arguments: (given.append(arguments[-1]), (0.5, 0.25))[1]
    )
    run_demo(tmp_path / "one", quiet=True, seed=3)
    run_demo(tmp_path / "two", quiet=True, epochs=1)
    assert given == ["kexue-hf demo --seed 3", None]


def test_further_default_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(_make_folder(None)) for _ in range(3)] == ["kexue-demo", "kexue-demo-2", "kexue-demo-3"]


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"exists and is not empty: name another folder with --output"):
        run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unwritable_folder_is_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "--output", str(tmp_path / "file" / "below")])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot write to" in error and "--output" in error


def test_an_interrupted_demo_leaves_no_files(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kexue_hf.cli.demo.fine_tune", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()
