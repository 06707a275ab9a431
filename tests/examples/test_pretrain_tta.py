"""examples/pretrain_tta.py; test_pretrain_mlm.py tests resuming, accumulation and two processes for both."""

import json
from pathlib import Path

import pytest
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    BertTokenizer,
    RobertaConfig,
    RobertaForMaskedLM,
)

from examples import pretrain_mlm, pretrain_tta
from kexue_hf import NezhaConfig, NezhaForMaskedLM, TtaConfig, TtaForMaskedLM, TtaTokenizer
from kexue_hf.vocabulary.vocabulary_files import TTA_SPECIAL_TOKENS
from tests.examples import pretraining_runs
from tests.examples.pretraining_runs import arguments, write_text

STEP = ["--max_steps=1", "--save_steps=1"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


def train(text: Path, output: Path, *options: str) -> list[float]:
    return pretraining_runs.train(text, output, *options, script=pretrain_tta)


def failure(capsys: pytest.CaptureFixture, options: list[str]) -> str:
    return pretraining_runs.failure(capsys, options, script=pretrain_tta)


def test_learns_reports_and_saves(text, tmp_path):
    # Builds a vocabulary from the text; most rows have padding.
    options = ["--vocabulary=", "--min_character_count=1", "--max-steps=40", "--batch-size=8", "--pack=segments"]
    options += [f"--validation_file={text}", f"--report={tmp_path / 'report.json'}"]
    found = train(text, tmp_path / "out", *options)
    assert sum(found[-5:]) < 0.8 * sum(found[:5])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["steps"] == 40 and report["held_out_loss"] < found[0] and 0 < report["held_out_accuracy"] <= 1
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert isinstance(model, TtaForMaskedLM) and isinstance(tokenizer, TtaTokenizer)
    assert tokenizer.convert_ids_to_tokens(list(range(7))) == list(TTA_SPECIAL_TOKENS)
    assert len(tokenizer) == model.config.vocab_size and tokenizer.model_max_length == 24
    assert model.config.vocab_fingerprint == tokenizer.vocab_fingerprint
    assert model.config.query_source == "mask_embedding" and model.config.mask_diagonal
    assert not list((tmp_path / "out").rglob("training_args.bin"))


@pytest.mark.parametrize("script", [pretrain_tta, pretrain_mlm], ids=["T-TA", "MLM"])
def test_held_out_figures_do_not_depend_on_batches(text, tmp_path, script):
    # Texts have 8 to 22 tokens, so a mean of batch means or row means would depend on the batch size.
    options = [f"--validation_file={text}", *STEP, "--pack=segments", "--learning_rate=0", "--eval_steps=1"]
    options += ["--eval_strategy=steps", f"--report={tmp_path / 'report.json'}"]
    found = {}
    for size in (64, 1, 7):
        output = tmp_path / str(size)
        pretraining_runs.train(text, output, *options, f"--per_device_eval_batch_size={size}", script=script)
        report = json.loads((tmp_path / "report.json").read_text())
        (logged,) = pretraining_runs.logged(output, "eval_loss")
        assert logged == report["held_out_loss"]
        found[size] = [report[f"held_out_{name}"] for name in ("loss", "perplexity", "accuracy")]
    # With all texts in one batch, its mean is the mean.
    assert found[1] == pytest.approx(found[64], rel=1e-6)
    assert found[7] == pytest.approx(found[64], rel=1e-6)


def test_starts_from_a_bert_and_lists_new_weights(text, tmp_path, capsys):
    vocabulary = text.with_name("vocab.txt")
    config = BertConfig(vocab_size=len(vocabulary.read_text("utf-8").splitlines()), **SIZES)
    bert = BertForPreTraining(config)
    bert.save_pretrained(tmp_path / "bert")
    tokenizer = BertTokenizer(str(vocabulary))
    tokenizer.save_pretrained(tmp_path / "bert")
    train(
        text, tmp_path / "out", f"--model={tmp_path / 'bert'}", *STEP, "--learning_rate=0", "--query_source=position"
    )
    assert "newly initialised" not in capsys.readouterr().out
    found = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    assert isinstance(found, TtaForMaskedLM) and found.config.query_source == "position"
    ids = {name: getattr(found.config, f"{name}_token_id") for name in ("pad", "bos", "eos", "mask")}
    assert ids == {
        "pad": tokenizer.pad_token_id,
        "bos": tokenizer.cls_token_id,
        "eos": tokenizer.sep_token_id,
        "mask": tokenizer.mask_token_id,
    }
    weights = dict(bert.named_parameters())
    for name, weight in found.named_parameters():
        assert weight.equal(weights[name]), name
    assert isinstance(AutoTokenizer.from_pretrained(tmp_path / "out"), BertTokenizer)
    # Continues from the saved folder.
    assert len(train(text, tmp_path / "on", f"--model={tmp_path / 'out'}", *STEP)) == 1
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "on").config.query_source == "position"


def test_starts_from_a_wobert(text, tmp_path, capsys):
    pretraining_runs.train(text, tmp_path / "wobert", *STEP, script=pretrain_mlm)
    capsys.readouterr()
    train(text, tmp_path / "out", f"--model={tmp_path / 'wobert'}", *STEP, "--learning_rate=0")
    wobert = AutoModelForMaskedLM.from_pretrained(tmp_path / "wobert")
    weight = AutoModelForMaskedLM.from_pretrained(tmp_path / "out").get_input_embeddings().weight
    assert weight.equal(wobert.get_input_embeddings().weight)
    assert "newly initialised" not in capsys.readouterr().out


def test_missing_weights_are_listed(text, tmp_path, capsys):
    vocabulary = text.with_name("vocab.txt")
    config = BertConfig(vocab_size=len(vocabulary.read_text("utf-8").splitlines()), **SIZES)
    BertForPreTraining(config).bert.save_pretrained(tmp_path / "trunk")
    BertTokenizer(str(vocabulary)).save_pretrained(tmp_path / "trunk")
    train(text, tmp_path / "out", f"--model={tmp_path / 'trunk'}", *STEP)
    said = capsys.readouterr().out
    assert "newly initialised" in said and "cls.predictions.transform.dense.weight" in said


def _other_names(vocabulary: int, model_class: type, config_class: type, folder: Path) -> None:
    model_class(config_class(vocab_size=vocabulary, **SIZES)).save_pretrained(folder)


def _roberta(vocabulary: int, folder: Path) -> None:
    _other_names(vocabulary, RobertaForMaskedLM, RobertaConfig, folder)


def _nezha(vocabulary: int, folder: Path) -> None:
    _other_names(vocabulary, NezhaForMaskedLM, NezhaConfig, folder)


def _no_weights(vocabulary: int, folder: Path) -> None:
    model = BertForPreTraining(BertConfig(vocab_size=vocabulary, **SIZES))
    model.save_pretrained(folder, state_dict={"cls.predictions.bias": model.cls.predictions.bias})


def _seeing_itself(vocabulary: int, folder: Path) -> None:
    TtaForMaskedLM(TtaConfig(vocab_size=vocabulary, mask_diagonal=False, **SIZES)).save_pretrained(folder)


def _too_few_rows(vocabulary: int, folder: Path) -> None:
    TtaForMaskedLM(TtaConfig(vocab_size=vocabulary - 1, **SIZES)).save_pretrained(folder)


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (_roberta, "a T-TA can start from bert, wobert, tta, whose weights have its names, not from 'roberta'"),
        (_nezha, "a T-TA can start from bert, wobert, tta, whose weights have its names, not from 'nezha'"),
        (_no_weights, "has no weights for bert.embeddings.word_embeddings.weight and 16 others: use"),
        (_seeing_itself, "has mask_diagonal false, so each token would see itself"),
        (_too_few_rows, "has rows for 61 tokens, its tokenizer has 62: call model.resize_token_embeddings(62)"),
    ],
    ids=lambda value: getattr(value, "__name__", "")[1:],
)
def test_a_folder_that_cannot_start_a_tta_is_refused(text, tmp_path, capsys, save, message):
    tokenizer = TtaTokenizer(vocab_file=str(text.with_name("vocab_tta.txt")))
    save(len(tokenizer), tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    options = arguments(text, tmp_path / "out", f"--model={tmp_path / 'model'}", *STEP, script=pretrain_tta)
    assert message in failure(capsys, options)


@pytest.mark.parametrize("given", [False, True], ids=["new", "given"])
def test_resuming_another_network_is_refused(text, tmp_path, capsys, given):
    options = STEP
    if given:
        train(text, tmp_path / "model", *STEP)
        options = [*STEP, f"--model={tmp_path / 'model'}"]
    train(text, tmp_path / "out", *options)
    train(text, tmp_path / "out", *options, "--resume", "--query_source=mask_embedding")  # the default
    before = (tmp_path / "out" / "config.json").read_bytes()
    again = arguments(text, tmp_path / "out", *options, "--resume", "--query_source=position", script=pretrain_tta)
    message = "checkpoint-1 was made with query_source mask_embedding, now it is position, so"
    assert message in failure(capsys, again)
    assert (tmp_path / "out" / "config.json").read_bytes() == before
    # The same rows with another script.
    masked = arguments(text, tmp_path / "out", *STEP, "--resume", f"--model={tmp_path / 'out'}")
    message = "checkpoint-1 was made with script pretrain_tta, now it is pretrain_mlm, so"
    assert message in pretraining_runs.failure(capsys, masked)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--query_source=mask"], "--query_source must be mask_embedding or position, got 'mask'"),
        (
            ["--vocabulary=", "--vocab_size=10"],
            "a new model cannot be created: expected a vocabulary size of at least",
        ),
        (["--vocabulary={wobert}"], "a new model cannot be created: the vocabulary of "),
        (["--attention=flash_attention_2"], "a new model cannot be created: flash attention does not support a"),
        (["--max_length=2"], "--max_length must be at least 3, for a token and those around it"),
        (["--model=nonexist"], "--model nonexist cannot be used: "),
        (["--mask_probability=0.2"], "wrong options: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_options_are_one_line(text, tmp_path, capsys, options, message):
    options = [option.format(wobert=text.with_name("vocab.txt")) for option in options]
    assert message in failure(capsys, arguments(text, tmp_path / "out", *options, script=pretrain_tta))


def test_help_describes_the_loss(capsys):
    with pytest.raises(SystemExit) as exit_:
        pretrain_tta.main(["--help"])
    assert exit_.value.code == 0
    assert "a mean over all positions with padding counted as 0" in " ".join(capsys.readouterr().out.split())
