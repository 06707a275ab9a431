"""examples/recover_performer.py on networks of a few thousand weights.

Run this file alone: pytest tests/examples/test_recover_performer.py
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModel, AutoModelForMaskedLM, BertConfig, BertForMaskedLM, BertModel, BertTokenizer

import kexue_hf
from examples import recover_performer as script
from kexue_hf.errors import InputError
from kexue_hf.performer.recovery_figures import masked_word_loss

WORDS = [f"w{i}" for i in range(45)]
SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
SHORT = ["--transfer-steps", "4", "--finetune-steps", "3", "--batch-size", "4", "--features", "8", "--quiet"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tokenizer = BertTokenizer(
        vocab={w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    )
    for name, kind in (("bert", BertModel), ("masked", BertForMaskedLM)):
        torch.manual_seed(0)
        model = kind(BertConfig(**SIZES, decision_rule={"rule": "thresholds", "thresholds": [0.7, 0.3]}))
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if "query.weight" in parameter_name or "key.weight" in parameter_name:
                    parameter.mul_(60)
                if "value.weight" in parameter_name:
                    parameter.mul_(20)  # so that attention affects the output
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    generator = torch.Generator().manual_seed(0)
    with open(folder / "text.jsonl", "w", encoding="utf-8") as file:
        for _ in range(40):
            words = torch.randint(0, 45, (12,), generator=generator).tolist()
            file.write(json.dumps({"text": " ".join(WORDS[i] for i in words)}) + "\n")
    return folder


@pytest.fixture(scope="module")
def recovered(folders: Path) -> Path:
    pytest.importorskip("peft")
    out = folders / "out"
    script.main(
        ["--model", str(folders / "masked"), "--file", str(folders / "text.jsonl"), "--output", str(out / "model"),
         "--report", str(out / "report.json"), "--rank", "2", *SHORT]
    )  # fmt: skip
    return out


def test_the_saved_model_has_the_measured_figures(recovered: Path, folders: Path) -> None:
    report = json.loads((recovered / "report.json").read_text("utf-8"))
    assert list(report["stages"]) == ["swapped", "calibrated", "transferred", "distilled"]
    model = AutoModelForMaskedLM.from_pretrained(recovered / "model").eval()
    saved, maps = model.config.performer["feature_map"], report["transfer"]["maps"]
    assert maps == ([saved] * 2 if isinstance(saved, str) else saved)
    assert report["stages"]["distilled"]["cosine"] < 0.999
    assert not any("lora" in name for name in model.state_dict())
    texts = [json.loads(line)["text"] for line in (folders / "text.jsonl").read_text("utf-8").splitlines()]
    _, held_out = script.split(texts)
    tokenizer = BertTokenizer.from_pretrained(recovered / "model")
    found = masked_word_loss(model, tokenizer, held_out)
    assert found == pytest.approx(report["stages"]["distilled"]["masked_word_loss"], rel=1e-5)
    softmax = BertForMaskedLM.from_pretrained(folders / "masked").eval()
    expected = masked_word_loss(softmax, tokenizer, held_out)
    assert report["softmax"]["masked_word_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_card_describes_the_model_and_its_figures(recovered: Path) -> None:
    card = (recovered / "model" / "README.md").read_text("utf-8")
    stages = json.loads((recovered / "report.json").read_text("utf-8"))["stages"]
    for figures in stages.values():
        assert f"| {' | '.join(f'{value:.4f}' for value in figures.values())} |" in card
    assert "`masked` with linear attention" in card and str(recovered) not in card
    assert 'AutoModelForMaskedLM.from_pretrained("model")' in card
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "(thresholds, thresholds [0.7, 0.3])" in card


def test_the_default_length_is_the_models(folders: Path, tmp_path: Path) -> None:
    """Longer texts are truncated to it if --max-length is omitted."""
    BertModel(BertConfig(**SIZES, max_position_embeddings=8)).save_pretrained(tmp_path / "short")
    BertTokenizer.from_pretrained(folders / "bert").save_pretrained(tmp_path / "short")
    script.main(
        ["--model", str(tmp_path / "short"), "--file", str(folders / "text.jsonl"), "--output", str(tmp_path / "out"),
         "--report", str(tmp_path / "report.json"), *SHORT, "--transfer-steps", "0", "--finetune-steps", "0"]
    )  # fmt: skip
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["max_length"] == 8
    options = script.parser().parse_args(["--file", "", "--output", "", "--model", str(folders / "bert")])
    script.load(options)
    assert options.max_length == 256


def test_a_matcher_with_several_tasks_is_refused(folders: Path, tmp_path: Path) -> None:
    config = kexue_hf.ClnMatcherConfig(**SIZES, task_names=["a", "b"])
    kexue_hf.ClnMatcherForSequenceClassification(config).save_pretrained(tmp_path)
    BertTokenizer.from_pretrained(folders / "bert").save_pretrained(tmp_path)
    options = script.parser().parse_args(["--file", "", "--output", "", "--model", str(tmp_path)])
    with pytest.raises(InputError, match=r"2 tasks.*model.fold_task\('a'\)"):
        script.load(options)


def test_the_curves_are_in_the_report(recovered: Path) -> None:
    report = json.loads((recovered / "report.json").read_text("utf-8"))
    assert [point["step"] for point in report["transfer"]["curve"]] == [0, 4]
    assert len(report["transfer"]["layers"]) == len(report["transfer"]["curve"][0]["errors"]) == 2
    assert [point["step"] for point in report["distillation"] if "loss" in point] == [1, 2, 3]
    assert [point["step"] for point in report["distillation"] if {"cosine", "masked_word_loss"} <= set(point)] == [3]


def test_calibration_of_some_layers_with_a_figure(folders: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    script.main(
        ["--model", str(folders / "bert"), "--file", str(folders / "text.jsonl"), "--output", str(tmp_path / "out"),
         "--layers", "1", "--picture", str(tmp_path / "curve.svg"), *SHORT, "--finetune-steps", "0"]
    )  # fmt: skip
    assert (tmp_path / "curve.svg").read_text("utf-8").rstrip().endswith("</svg>")
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert isinstance(model, BertModel) and model.config.performer["layers"] == [1]


def test_performer_bert_keeps_its_switch(folders: Path, tmp_path: Path) -> None:
    kexue_hf.PerformerBertModel.from_pretrained(folders / "bert").save_pretrained(tmp_path / "performer")
    BertTokenizer.from_pretrained(folders / "bert").save_pretrained(tmp_path / "performer")
    script.main(
        ["--model", str(tmp_path / "performer"), "--file", str(folders / "text.jsonl"), "--output",
         str(tmp_path / "out"), *SHORT, "--rank", "all", "--finetune-steps", "1"]
    )  # fmt: skip
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert model.config.feature_map == "learned" and model.config.num_features == 8
    assert model.config.attention_switch_length == "auto"


def test_no_text_is_in_both_parts() -> None:
    texts = [f"text {i}" for i in range(25)] + ["Text  3", "text 4\n"]
    train, held_out = script.split(texts)
    assert len(train) == 23 and len(held_out) == 2
    assert len({" ".join(text.split()).lower() for text in train + held_out}) == 25
    # The order of the texts does not matter.
    assert set(script.split(texts[2::-1] + texts[3:])[1]) == set(held_out)


def test_memory_of_a_large_corpus_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part that is kept does not depend on the order."""
    texts = [f"text {i}" for i in range(50)]
    whole = script.split(texts)
    monkeypatch.setattr(script, "MAX_TEXTS", 20)
    train, held_out = script.split(iter(texts + texts))
    assert (len(train), len(held_out)) == (18, 2)
    assert held_out == whole[1][:2] and train == [*whole[1], *whole[0]][2:20]
    assert script.split(texts[::-1]) == (train, held_out)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    """transformers creates one without words."""
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    options = script.parser().parse_args(["--file", "", "--output", "", "--model", str(tmp_path)])
    with pytest.raises(InputError, match="expected a tokenizer with words"):
        script.load(options)


def test_heads_are_kept_or_refused(folders: Path, tmp_path: Path) -> None:
    for name in ("BertForQuestionAnswering", "BertForMultipleChoice"):
        getattr(transformers, name)(BertConfig(**SIZES)).save_pretrained(tmp_path / name)
        BertTokenizer.from_pretrained(folders / "bert").save_pretrained(tmp_path / name)
    options = script.parser().parse_args(["--file", "", "--output", "", "--model", str(tmp_path / name)])
    with pytest.raises(InputError, match="got a BertForMultipleChoice, which would lose its head"):
        script.load(options)
    options.model = str(tmp_path / "BertForQuestionAnswering")
    assert type(script.load(options)[0]).__name__ == "BertForQuestionAnswering"


def test_adapters_without_peft_are_refused_before_loading(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        script.main(["--model", "none", "--file", "none.txt", "--output", str(tmp_path / "out")])
    assert "pip install 'kexue-hf[recovery]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--resume"], "--resume is not supported"),
        (["--file", "nowhere.txt"], "nowhere.txt does not exist"),
        (["--report", "short.txt/report.json"], "short.txt/report.json is in a file"),
        (["--rank", "few"], "--rank must be a number or all, got 'few'"),
        (["--layers", "1,b"], "--layers must be numbers separated by commas, got '1,b'"),
        (["--layers", "7"], "layers must be numbers of the model's 2 attention layers"),
        (["--features", "0"], "--features must be at least 1, got 0"),
        (["--minutes", "0"], "--minutes must be a positive number, got 0.0"),
        (["--feature-map", "relu"], "feature map must be one of"),
        (["--max-length", "600"], "max_length must be from 3 to 512 for this model, got 600"),
        (["--rank", "0", "--feature-map", "favor+"], "--rank 0 trains only the maps"),
        (["--file", "short.txt", "--feature-map", "low_order"], "calibration: calibration needs at least 16 queries"),
        (["--picture", "a.pdf"], "--picture must end in .svg or .png, got 'a.pdf'"),
        (["--model", "nothing-there"], "nothing-there"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_writes_nothing(
    changes: list[str], message: str, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("w1\nw2\n", encoding="utf-8")
    arguments = ["--model", str(folders / "bert"), "--file", str(folders / "text.jsonl"), "--output", "out", *changes]
    with pytest.raises(SystemExit) as error:
        script.main([*arguments, "--quiet"])
    assert error.value.code == 2
    printed = capsys.readouterr().err.strip()
    assert message in printed and "\n" not in printed
    assert [path.name for path in tmp_path.iterdir()] == ["short.txt"]


def test_ctrl_c_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "run", interrupted)
    with pytest.raises(SystemExit) as error:
        script.main(["--model", "none", "--file", "none.txt", "--output", str(tmp_path / "out")])
    assert error.value.code == 2
    assert capsys.readouterr().err == "\nrecover_performer: interrupted; nothing was written\n"
