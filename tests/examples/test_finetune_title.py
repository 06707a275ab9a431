"""examples/finetune_title.py on two dozen rows and a network of a few thousand weights."""

import json
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig

from examples import finetune_title as script
from kexue_hf import WoBertConfig, WoBertForMaskedLM, WoBertTokenizer

THINGS = "猫狗马牛羊鸡鸭鹅鱼虫鸟象"
ROWS = [{"abstract": f"有一只{thing}。它在这里。", "title": thing} for thing in THINGS]
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"有一只它在这里。", *THINGS]
TRAINING = ["--use_cpu", "--report_to=none", "--disable_tqdm=True", "--save_strategy=no", "--max_length=20"]


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a masked language model with random weights and its tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    config = WoBertConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=24,
        initializer_range=0.1,
    )
    WoBertForMaskedLM(config).save_pretrained(folder)
    WoBertTokenizer(vocab={token: index for index, token in enumerate(TOKENS)}).save_pretrained(folder)
    return folder


def test_learns_and_saves_a_folder_that_generates(model: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("rouge_score")
    rows = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    script.main(
        [
            *(f"--model={model}", f"--train_file={rows}", f"--eval_file={rows}", f"--output_dir={tmp_path / 'out'}"),
            *("--num_train_epochs=100", "--learning_rate=5e-3", "--dropout=0", "--max_target_length=4"),
            *(f"--report={tmp_path / 'report.json'}", "--batch-size=12", *TRAINING),
        ]
    )
    figures = json.loads((tmp_path / "report.json").read_text())
    # The first sentence has five characters, one of which is the title.
    assert figures["lead_rouge_l"] == pytest.approx(2 / 6)
    assert figures["rouge_l"] > 0.9 and len(figures["rows"]) == len(ROWS)
    output = capsys.readouterr().out
    assert "lead_rouge_l: 0.3333" in output and "rouge_l: " in output
    assert not (tmp_path / "out" / "training_args.bin").exists()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    encoded = tokenizer(ROWS[3]["abstract"], return_tensors="pt")
    ids = AutoModelForCausalLM.from_pretrained(tmp_path / "out").generate(**encoded, num_beams=2)
    assert tokenizer.decode(ids[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True) == "牛"


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"abstract": "有"}], [], "line 1: no column 'title' (found abstract); see --source_column"),
        ([ROWS[0], {"abstract": "有", "title": 3}], [], "line 2: 'title' must be a text, got 3"),
        ([{"abstract": " ", "title": "猫"}], [], "line 1: 'abstract' must be a text"),
        ([["有", "猫"]], [], "line 1: expected a JSON object, got list"),
        ([], [], "holds no rows"),
        (ROWS, ["--max_length=30"], "--max_length must be at most 24"),
        (ROWS, ["--max_target_length=16"], "--max_target_length from 1 to --max_length - 5, got 16 and 20"),
        (ROWS, ["--eval_file=nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (ROWS, ["--batch_size=0"], "--batch_size must be 1 or more, got 0"),
        (ROWS, ["--num_beams=0"], "--num_beams must be 1 or more, got 0"),
        (ROWS, ["--report=nodir/x.json"], "--report must be a file in an existing folder"),
        (ROWS, ["--model=nonexist"], "--model nonexist cannot be used: "),
        (ROWS, ["--attention=foo"], "cannot be used: "),
        (ROWS, ["--model={bert}"], "--model must be a WoBERT, the only UniLM here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value and isinstance(value[0], str) else "",
)
def test_one_line_for_bad_input(model: Path, tmp_path: Path, capsys, rows, options, message) -> None:
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    arguments = [f"--model={model}", f"--train_file={file}", f"--output_dir={tmp_path / 'out'}", *TRAINING]
    BertConfig().save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(TOKENS), encoding="utf-8")
    options = [option.format(bert=tmp_path / "bert") for option in options]
    with pytest.raises(SystemExit) as stopped:
        script.main([*arguments, "--max_target_length=4", *options])
    error = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and message in error
    assert error.splitlines()[-1].startswith("finetune_title: error: ")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"], ids=["not JSON", "not UTF-8"])
def test_a_file_in_another_format_is_refused(model: Path, tmp_path: Path, capsys, content: bytes) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"abstract": "a", "title": "b"}\n' + content)
    with pytest.raises(SystemExit):
        script.main([f"--model={model}", f"--train_file={tmp_path / 'rows.jsonl'}", f"--output_dir={tmp_path}"])
    assert "rows.jsonl, line 2: not " in capsys.readouterr().err


def test_resumes_from_whole_checkpoints_only(model: Path, tmp_path: Path, capsys) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    options = [f"--model={model}", f"--train_file={rows}", f"--output_dir={tmp_path / 'out'}", *TRAINING]
    options += ["--max_target_length=4", "--save_strategy=steps", "--save_steps=1", "--max_steps=2", "--batch_size=4"]
    script.main([*options, "--save_total_limit=1"])
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-2"]
    # Left by a kill during the write of a checkpoint.
    (tmp_path / "out" / "checkpoint-3").mkdir()
    script.main([*options, "--resume"])
    assert "using checkpoint-2" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        script.main([*options, "--resume", "--seed=1"])
    assert "was made with seed 42, now it is 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script.main([*options, "--resume", "--gradient_accumulation_steps=2"])
    assert "was made with rows of a step 4, now it is 8" in capsys.readouterr().err


def test_a_missing_scorer_is_reported_before_training(model: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    file = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(SystemExit) as stopped:
        script.main([f"--model={model}", f"--train_file={file}", f"--eval_file={file}", f"--output_dir={tmp_path}"])
    assert stopped.value.code == 2 and 'pip install "kexue-hf[examples]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("提出3.5米的方法.结果好.", "提出3.5米的方法."),
        ("目的：研究。方法：", "目的：研究。"),
        ("没有句号", "没有句号"),
    ],
)
def test_the_first_sentence(text: str, first: str) -> None:
    assert script.FIRST_SENTENCE.match(text).group(0) == first


def test_rouge_is_over_characters() -> None:
    pytest.importorskip("rouge_score")
    assert script.rouge_l(["基于A的方法", "猫"], ["基于 a 法", "狗"]) == [pytest.approx(2 * 4 / (6 + 4)), 0]


def test_a_finished_model_is_replaced_on_demand_only(model: Path, tmp_path: Path, capsys) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    options = [f"--model={model}", f"--train_file={rows}", f"--output_dir={tmp_path / 'out'}", *TRAINING]
    options += ["--max_target_length=4", "--max_steps=1"]
    script.main(options)
    with pytest.raises(SystemExit) as stopped:
        script.main(options)
    assert stopped.value.code == 2 and "or --overwrite to replace it" in capsys.readouterr().err
    script.main([*options, "--overwrite"])


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_tables_are_read(tmp_path: Path, name: str) -> None:
    separator = "," if name.endswith("csv") else "\t"
    lines = [separator.join(cells) for cells in (("title", "abstract"), ("猫", "有一只猫。"), ("狗",))]
    (tmp_path / name).write_text("\n".join(lines[:2]), encoding="utf-8")
    assert script.read_pairs(str(tmp_path / name), "abstract", "title") == [("有一只猫。", "猫")]
    (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(script.InputError, match="line 3: 'abstract' must be a text, got null"):
        script.read_pairs(str(tmp_path / name), "abstract", "title")
