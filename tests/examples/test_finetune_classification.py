"""examples/finetune_classification.py on two dozen rows and a network of a few thousand weights."""

import json
from pathlib import Path

import pytest
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
    ElectraConfig,
    ElectraModel,
)

from examples import finetune_classification as script
from kexue_hf import (
    PerformerBertForSequenceClassification,
    PerformerBertModel,
    WoBertConfig,
    WoBertForMaskedLM,
    WoBertTokenizer,
)
from kexue_hf.models.performer_bert import modeling_performer_bert
from kexue_hf.vocabulary.corpus_counts import count_corpus
from kexue_hf.vocabulary.vocabulary_files import build_vocabulary

ROWS = [
    {"text": f"{word}{number}次", "label": label}
    for number in range(12)
    for word, label in (("喜欢", "好"), ("讨厌", "坏"))
]
TRAINING = ["--use_cpu", "--report_to=none", "--disable_tqdm=True", "--save_strategy=no", "--learning_rate=1e-2"]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a masked language model with random weights and its tokenizer."""
    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = build_vocabulary(count_corpus(row["text"] for row in ROWS), 200)
    config = WoBertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    WoBertForMaskedLM(config).save_pretrained(folder)
    WoBertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return folder


def arguments(encoder: Path, train: Path, output: Path, *options: str) -> list[str]:
    return [f"--model={encoder}", f"--train_file={train}", f"--output_dir={output}", *TRAINING, *options]


@pytest.mark.parametrize("options", [[], ["--from_scratch"]], ids=["pretrained", "from scratch"])
def test_learns_and_saves_a_folder_that_loads(encoder, tmp_path, capsys, options):
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    report = tmp_path / "report.json"
    options = [f"--eval_file={train}", "--num_train_epochs=15", "--batch-size=8", f"--report={report}", *options]
    script.main(arguments(encoder, train, tmp_path / "out", *options))
    figures = json.loads(report.read_text())
    assert figures["majority_accuracy"] == 0.5 and figures["accuracy"] == 1 and figures["macro_f1"] == 1
    output = capsys.readouterr().out
    assert "majority_accuracy: 0.5000" in output and "macro_f1: 1.0000" in output
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.label2id == {"坏": 0, "好": 1}
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == model.config.vocab_size
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"README.md", "modeling_wobert.py", "tokenization_wobert.py"} <= names
    assert not [name for name in names if name.endswith(".bin")]


@pytest.mark.parametrize("options", [[], ["--from_scratch"]], ids=["pretrained", "from scratch"])
def test_a_half_precision_folder_is_trained_in_float32(encoder, tmp_path, options):
    import torch

    AutoModelForSequenceClassification.from_pretrained(encoder, dtype=torch.float16).save_pretrained(tmp_path / "half")
    AutoTokenizer.from_pretrained(encoder).save_pretrained(tmp_path / "half")
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    script.main(arguments(tmp_path / "half", train, tmp_path / "out", "--max_steps=1", *options))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\n好,1\n坏\n", "line 3: column 'label' is null or empty"),
        ("text,label\n好,1\n坏,\n", "line 3: column 'label' is null or empty"),
        ("text,label\n好,坏,1\n", "line 2: has 3 values, but the first row names 2 columns"),
        ("text,label\n好,1\n".encode("gb18030"), "line 2: not UTF-8 .* iconv -f gb18030 -t utf-8"),
    ],
)
def test_bad_rows_of_a_table(tmp_path, content, message):
    path = tmp_path / "train.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(script.InputError, match=message):
        script.read_rows(str(path), "text", "label")


def test_tsv_is_read_as_csv_is(tmp_path):
    (tmp_path / "train.tsv").write_text('label\ttext\n1\t好,"天\n', encoding="utf-8")
    assert script.read_rows(str(tmp_path / "train.tsv"), "text", "label") == [{"text": '好,"天', "label": "1"}]
    with pytest.raises(script.InputError, match=r"train\.doc: expected the ending \.jsonl, \.json, \.csv or \.tsv"):
        script.read_rows(str(tmp_path / "train.doc"), "text", "label")


def test_csv_with_other_columns(encoder, tmp_path):
    content = "评价,分数\n" + "".join(f'"{row["text"]},好",{5 if row["label"] == "好" else 10}\n' for row in ROWS)
    (tmp_path / "train.csv").write_text("\ufeff" + content, encoding="utf-8")
    options = ["--text-column=评价", "--label-column=分数", "--num_train_epochs=1", "--max_train_rows=10"]
    script.main(arguments(encoder, tmp_path / "train.csv", tmp_path / "out", *options))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "5", "1": "10"}  # sorted as numbers


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "label": 1}\n{"text": "a", "lab": 1}\n', r"line 2: no column 'label' \(found text, lab\)"),
        ('{"text": "a", "label": 1}\n\n{"text": \n', r"line 3: not JSON"),
        ("[1]\n", r"line 1: expected a JSON object, got list"),
        ('{"text": null, "label": 1}\n', r"line 1: column 'text' is null, expected a string"),
        ('{"text": "a", "label": null}\n', r"line 1: column 'label' is null or empty; expected a label"),
        (b"{'text'" + "天".encode("gb18030"), r"not UTF-8 .* iconv -f gb18030 -t utf-8"),
        ('{"text": 3, "label": 1}\n', r"line 1: 'text' must be a string, got int"),
        ('{"text": "a", "label": 0.5}\n', r"line 1: 'label' must be a name or a whole number, got 0.5"),
        ('{"text": "a", "label": true}\n', r"must be a name or a whole number, got true"),
        ('{"text": "a", "label": 1}\n', r"expected at least two labels, got only '1'"),
        ("", r"holds no rows"),
        (b"\xff\xfe", r"not UTF-8"),
    ],
    ids=[
        "no column",
        "not json",
        "no object",
        "null",
        "null label",
        "gbk",
        "text",
        "float",
        "bool",
        "one label",
        "empty",
        "not utf-8",
    ],
)
def test_bad_lines_are_one_line_and_exit_code_2(encoder, tmp_path, capsys, content, message):
    path = tmp_path / "train.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit) as exit_:
        script.main(arguments(encoder, path, tmp_path / "out"))
    assert exit_.value.code == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error and "train.jsonl" in error
    with pytest.raises(script.InputError, match=message):
        script.run(*_parsed(arguments(encoder, path, tmp_path / "out")))


def _parsed(values: list[str]) -> tuple:
    from transformers import HfArgumentParser, TrainingArguments

    return HfArgumentParser((script.Options, TrainingArguments)).parse_args_into_dataclasses(values)


def test_classifier_pooling_is_an_option(encoder, tmp_path, capsys):
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    script.main(arguments(encoder, train, tmp_path / "out", "--max_steps=1", "--classifier_pooling=mean"))
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.classifier_pooling == "mean" and model.bert.pooler is None
    with pytest.raises(SystemExit):
        script.main(arguments(encoder, train, tmp_path / "bad", "--classifier_pooling=max"))
    assert "invalid choice: 'max'" in capsys.readouterr().err


def test_a_model_without_a_choice_of_pooling_is_refused(encoder, tmp_path, capsys):
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(tmp_path / "bert")
    config = {**json.loads((encoder / "config.json").read_text()), "model_type": "bert"}
    del config["classifier_pooling"], config["auto_map"]
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit):
        script.main(arguments(tmp_path / "bert", train, tmp_path / "out", "--classifier_pooling=mean"))
    assert "is a bert: leave it out" in capsys.readouterr().err


def test_an_unknown_held_out_label_is_named(encoder, tmp_path, capsys):
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    other = write_jsonl(tmp_path / "dev.jsonl", [{"text": "a", "label": "中"}])
    with pytest.raises(SystemExit):
        script.main(arguments(encoder, train, tmp_path / "out", f"--eval_file={other}"))
    assert "label '中' does not occur in" in capsys.readouterr().err


def test_a_loss_for_uneven_classes_and_its_rule_are_saved(encoder, tmp_path):
    train = write_jsonl(tmp_path / "train.jsonl", [*ROWS, *[row for row in ROWS if row["label"] == ROWS[0]["label"]]])
    chosen = [
        "--loss=logit_adjusted",
        "--loss_option=tau=0.5",
        "--decision_rule=prior_adjusted",
        f"--eval_file={train}",
    ]
    script.main(arguments(encoder, train, tmp_path / "out", "--max_steps=2", f"--report={tmp_path / 'x'}", *chosen))
    figures = json.loads((tmp_path / "x").read_text())
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.decision_rule == {"rule": "prior_adjusted", "tau": 1.0}
    assert sum(config.class_prior) == figures["train_rows"] and len(set(config.class_prior)) > 1
    assert {"accuracy", "balanced_accuracy", "macro_f1", "worst_recall"} <= set(figures)
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "(prior_adjusted, tau 1.0)" in card and "Without kexue_hf, the pipeline uses the logits" in card


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loss=hinge"], "the loss must be one of cross_entropy"),
        (["--loss=focal", "--loss_option=gamma"], "one of these keys: gamma, weight; got 'gamma'"),
        (
            ["--loss=focal", "--loss_option=weight=1,2,3,4,5,6,7"],
            "weight must be 2 numbers, one for each class, got 7",
        ),
    ],
)
def test_a_wrong_loss_is_one_line(encoder, tmp_path, capsys, options, message):
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(SystemExit):
        script.main(arguments(encoder, train, tmp_path / "out", *options))
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


@pytest.mark.parametrize("option", ["--unknown_option", "--unknown_option=3", "--max_steps=-1.5e3"])
def test_a_wrong_option_is_one_line(encoder, tmp_path, capsys, option):
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(SystemExit) as exit_:
        script.main(arguments(encoder, train, tmp_path / "out", option))
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and option.partition("=")[0] in error
    if "unknown" in option:
        assert error.startswith("finetune_classification: error: wrong options: ") and error.count("\n") == 1


def test_a_mistyped_model_is_one_line(encoder, tmp_path, capsys):
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(SystemExit) as exit_:
        script.main(arguments(tmp_path / "nothing", train, tmp_path / "out"))
    assert exit_.value.code == 2
    message = capsys.readouterr().err.strip()
    assert "nothing cannot be used: it is not a folder" in message and "\n" not in message


@pytest.fixture(scope="module")
def long_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of 2 to about 50 tokens; the tiny encoders have 16 positions."""
    rows = [{**row, "text": row["text"] * (1 + 3 * (number // 8))} for number, row in enumerate(ROWS)]
    return write_jsonl(tmp_path_factory.mktemp("rows") / "train.jsonl", rows)


@pytest.fixture(scope="module")
def bert(encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT as saved by any other package: its own tokenizer and the weights of a masked language model."""
    folder = tmp_path_factory.mktemp("bert")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vocabulary = (encoder / "vocab.txt").read_text("utf-8")
    (folder / "vocab.txt").write_text(vocabulary, "utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(vocab_size=len(vocabulary.splitlines()), max_position_embeddings=16, **sizes)
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


# Different lengths, because a process logs the same line only once.
@pytest.mark.parametrize(("kind", "crossover"), [("wobert", 18), ("bert", 17)], ids=["wobert", "bert"])
def test_a_bert_or_wobert_becomes_a_performer_bert_for_long_texts(
    encoder, bert, long_rows, tmp_path, monkeypatch, kind, crossover
):
    """One training uses softmax for short batches and linear attention for long ones, and the folder loads."""
    lengths: dict[bool, set[int]] = {False: set(), True: set()}
    is_linear = PerformerBertModel.is_linear

    def listening(self, length, *device):
        linear = is_linear(self, length, *device)
        lengths[linear].add(length)
        return linear

    lines: list[str] = []
    monkeypatch.setattr(PerformerBertModel, "is_linear", listening)
    monkeypatch.setitem(modeling_performer_bert.CROSSOVERS, "cpu", crossover)
    monkeypatch.setattr(modeling_performer_bert.logger, "warning", lambda line, *_: lines.append(line))
    options = ["--linear_attention", "--switch_length=auto", "--calibrate=4", "--max_length=40", "--batch-size=4"]
    options += ["--train_sampling_strategy=group_by_length", "--num_train_epochs=8", f"--eval_file={long_rows}"]
    options += ["--classifier_pooling=mean", f"--report={tmp_path / 'report.json'}"]
    script.main(arguments({"wobert": encoder, "bert": bert}[kind], long_rows, tmp_path / "out", *options))
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["accuracy"] == 1
    assert lengths[False] and max(lengths[False]) <= crossover
    assert crossover < min(lengths[True]) and max(lengths[True]) <= 40
    assert len([line for line in lines if "'auto': linear" in line]) == 1
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert isinstance(model, PerformerBertForSequenceClassification) and model.config.attention_switch_length == "auto"
    assert type(tokenizer) is {"wobert": WoBertTokenizer, "bert": BertTokenizer}[kind]
    assert tokenizer.model_max_length == 40
    # Calibrated before the training; the file holds the constants.
    fresh = PerformerBertForSequenceClassification(model.config)
    of_map = {name for name in fresh.state_dict() if "favor_map" in name}
    assert any(not model.state_dict()[name].equal(fresh.state_dict()[name]) for name in of_map)


def test_any_other_encoder_is_swapped(encoder, long_rows, tmp_path):
    """It keeps its length and, trained again, its feature maps."""
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = ElectraConfig(vocab_size=len(tokenizer), embedding_size=16, max_position_embeddings=24, **sizes)
    ElectraModel(config).save_pretrained(tmp_path / "electra")
    tokenizer.save_pretrained(tmp_path / "electra")
    options = ["--linear_attention", "--calibrate=3", "--max_length=40", "--max_steps=2"]
    script.main(arguments(tmp_path / "electra", long_rows, tmp_path / "out", *options))
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert type(model).__name__ == "ElectraForSequenceClassification"
    assert model.config._attn_implementation == "favor" and model.config.performer["feature_map"] == "low_order"
    options = ["--linear_attention", "--max_length=40", "--max_steps=1", "--learning_rate=0"]
    script.main(arguments(tmp_path / "out", long_rows, tmp_path / "again", *options))
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "again")
    for name, tensor in model.state_dict().items():
        assert again.state_dict()[name].equal(tensor), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--calibrate=3"], "--calibrate needs linear attention: add --linear_attention"),
        (["--linear_attention", "--calibrate=-1"], "--calibrate must be 0 or more, got -1"),
        (["--switch_length=9"], "is a wobert, without --linear_attention, which never switches"),
        (["--linear_attention", "--switch_length=long"], "attention_switch_length must be 'auto', a number of tokens"),
    ],
    ids=["calibrate alone", "negative", "switch alone", "switch"],
)
def test_invalid_options_of_linear_attention(encoder, long_rows, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as exit_:
        script.main(arguments(encoder, long_rows, tmp_path / "out", *options))
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert exit_.value.code == 2 and message in error and not (tmp_path / "out").exists()


STEPS = ["--max_steps=6", "--save_strategy=steps", "--save_steps=2", "--batch-size=4", "--classifier_pooling=mean"]


def test_a_resumed_run_equals_an_uninterrupted_one(encoder, tmp_path, capsys):
    """With dropout, whose random state a checkpoint keeps."""
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    out = tmp_path / "out"
    script.main(arguments(encoder, train, out, *STEPS))
    whole = (out / "model.safetensors").read_bytes()
    for step in (4, 6):
        (out / f"checkpoint-{step}" / "progress.json").unlink()
    script.main(arguments(encoder, train, out, *STEPS, "--resume"))
    assert (out / "model.safetensors").read_bytes() == whole
    capsys.readouterr()
    script.main(arguments(encoder, train, out, *STEPS, "--resume"))
    assert "using checkpoint-6" in capsys.readouterr().out
    assert (out / "model.safetensors").read_bytes() == whole
    other = write_jsonl(tmp_path / "other.jsonl", ROWS[::-1])
    for options, message in [
        ([f"--train_file={other}"], "was made with checksum of the rows"),
        (["--seed=1"], "was made with seed 42, now it is 1"),
        (["--classifier_pooling=cls"], "was made with classifier_pooling mean, now it is cls"),
    ]:
        with pytest.raises(SystemExit):
            script.main(arguments(encoder, train, out, *STEPS, "--resume", *options))
        assert message in capsys.readouterr().err


def test_no_checkpoint_to_resume_from(encoder, tmp_path, capsys):
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    script.main(arguments(encoder, train, tmp_path / "out", "--max_steps=1", "--resume"))
    assert "no checkpoint in" in capsys.readouterr().out


def test_the_option_of_transformers_is_refused(encoder, tmp_path, capsys):
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(SystemExit) as exit_:
        script.main(arguments(encoder, train, tmp_path / "out", "--resume_from_checkpoint=x"))
    assert exit_.value.code == 2
    assert "--resume_from_checkpoint has no effect here: leave it out" in capsys.readouterr().err


def test_a_finished_model_is_replaced_on_demand_only(encoder, tmp_path, capsys):
    train = write_jsonl(tmp_path / "train.jsonl", ROWS)
    out, steps = tmp_path / "out", ["--max_steps=2", "--save_strategy=steps", "--save_steps=1"]
    script.main(arguments(encoder, train, out, *steps))
    assert "'loss'" in capsys.readouterr().out  # for both steps
    before = (out / "model.safetensors").stat()
    with pytest.raises(SystemExit) as exit_:
        script.main(arguments(encoder, train, out, "--max_steps=1"))
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and "holds the files of an earlier training (config.json): " in error
    assert "--overwrite" in error and error.count("\n") == 1
    assert (out / "model.safetensors").stat() == before
    script.main(arguments(encoder, train, out, "--max_steps=1", "--overwrite"))
    assert (out / "model.safetensors").stat() != before and not (out / "checkpoint-2").exists()
