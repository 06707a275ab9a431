"""The Python lines that `convert` and `extend` print load what the command wrote."""

import ast
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig

from kexue_hf.cli.convert import echo_loading
from kexue_hf.cli.main import main
from kexue_hf.conversion.families import convertible, load_weight_map
from kexue_hf.conversion.model_card import auto_class
from tests.conversion.checkpoints import GOLDEN

SOURCES = sorted(path.name for path in GOLDEN.iterdir() if list(path.glob("*.index")) or list(path.glob("*.weights")))
# Source -> why its vocabulary cannot be extended.
NOT_EXTENDED = {
    "cchess_lm_keras_h5": "got a xiangqi_gpt, whose tokenizer has no words",
    "sohu_matcher_keras_h5": "got a cln_matcher, which has no masked language model to train the new words with",
    "tta_tf_ckpt": "got a tta, whose tokenizer has no words",
}
ARCHITECTURES = sorted(
    (family, name)
    for family in convertible()
    for weight_map in [load_weight_map(family)]
    for name in {*(name for _, name in weight_map.ARCHITECTURES), *weight_map.CLASSIFIERS}
)


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert not stop.value.code


def loaded_by(printed: str) -> dict[str, Any]:
    """Run the indented lines after "Next:", and return their names."""
    names: dict[str, Any] = {}
    exec(textwrap.dedent(printed.split("\nNext:")[1].partition("\n")[2]), names)
    return names


@pytest.mark.parametrize("name", ["out", 'a "b" \\n c', "模型"])
def test_convert(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("convert", GOLDEN / "wobert_tf_ckpt", tmp_path / name)
    assert type(loaded_by(capsys.readouterr().out)["model"]).__name__ == "WoBertForPreTraining"


@pytest.mark.parametrize("name", ["模型", 'a "b"', "\U00020bb7\udcff"], ids=["chinese", "quotes", "no UTF-8"])
def test_the_folder_is_named_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """safetensors opens no path that is not UTF-8, but the name must not become another one."""
    echo_loading(Path(name), "AutoModel")
    quoted = capsys.readouterr().out.rpartition("from_pretrained(")[2].strip().removesuffix(")")
    assert ast.literal_eval(quoted) == name


@pytest.mark.parametrize("source", SOURCES)
def test_every_source(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("convert", GOLDEN / source, tmp_path / "converted")
    printed = capsys.readouterr().out
    converted = loaded_by(printed)
    assert f"({type(converted['model']).__name__})" in printed
    assert converted["tokenizer"]("h2e2").input_ids
    capsys.readouterr()
    # Counting no words of a dictionary saves a second.
    (tmp_path / "own.txt").write_text("你我\n天人\n", "utf-8")
    words = ("--words=0", "--user-dict", tmp_path / "own.txt")
    for start in (GOLDEN / source, tmp_path / "converted"):
        extended = tmp_path / f"extended-{start.name}"
        if source in NOT_EXTENDED:
            with pytest.raises(SystemExit) as stop:
                main(["extend", *map(str, (start, extended, *words))])
            error = capsys.readouterr().err
            # A converted chess model is refused by its configuration.
            assert stop.value.code == 2 and (NOT_EXTENDED[source] in error or "expected an encoder" in error)
            assert error.count("\n") == 1 and not extended.exists()
            continue
        run("extend", start, extended, *words)
        names = loaded_by(capsys.readouterr().out)
        model, tokenizer = names["model"], names["tokenizer"]
        old, new = converted["model"].get_input_embeddings().weight, model.get_input_embeddings().weight
        kept = [token for token in converted["tokenizer"].get_vocab() if token in tokenizer.get_vocab()]
        assert len(kept) == len(tokenizer) - 2 and len(new) == len(tokenizer)
        rows = (tokenizer.convert_tokens_to_ids(kept), converted["tokenizer"].convert_tokens_to_ids(kept))
        assert torch.equal(new[rows[0]], old[rows[1]])
        assert model(**tokenizer("今天", return_tensors="pt")).logits.isfinite().all()


def test_the_sources_are_found() -> None:
    assert set(NOT_EXTENDED) < set(SOURCES) and len(SOURCES) >= 10


@pytest.mark.parametrize(("family", "architecture"), ARCHITECTURES)
def test_the_auto_class_makes_the_architecture(family: str, architecture: str) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    config = AutoConfig.for_model(load_weight_map(family).MODEL_TYPE, vocab_size=120, **sizes)
    model = getattr(transformers, auto_class(architecture)).from_config(config)
    assert type(model).__name__ == architecture
