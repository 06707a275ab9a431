"""The recipes describe the released checkpoints correctly and refuse other folders."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from kexue_hf.conversion.source import read_vocabulary
from kexue_hf.errors import ConversionError
from tests.conversion.checkpoints import GOLDEN
from tests.shared_data import SHARED, needs_shared

FOLDER = Path(__file__).resolve().parents[2] / "conversion"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "recipe")


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# A tiny checkpoint of each family, the size of its vocabulary, and the number of its parameters.
TINY = {
    "wobert": ("wobert_tf_ckpt", 347, 85549),
    "nezha": ("wonezha_tf_ckpt", 347, 60013),
    "roformer": ("roformer_tf_ckpt", 347, 48431),
    "tta": ("tta_tf_ckpt", 213, 76437),
    "cln_matcher": ("sohu_matcher_keras_h5", 347, 162938),
    "xiangqi_gpt": ("cchess_lm_keras_h5", 103, 36076),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_converts_its_checkpoint_and_no_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load(name, monkeypatch).RECIPE
    case, tokens, parameters = TINY[recipe.family]
    with pytest.raises(ConversionError, match=f"has {tokens} tokens, {recipe.name} has {recipe.vocab_size}"):
        recipe.run(str(GOLDEN / case), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    tiny = replace(recipe, vocab_size=tokens)
    assert tiny.run(str(GOLDEN / case), str(tmp_path / "out")).parameters == parameters
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"license: {recipe.license}\n" in card and f"language: {recipe.language}\n" in card
    assert (recipe.license, recipe.language) == (("other", "en") if recipe.family == "tta" else ("unknown", "zh"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_script_and_in_the_table(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py"), str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "holds no checkpoint" in done.stderr and "Traceback" not in done.stderr
    assert f"python conversion/{name}.py" in (FOLDER / "README.md").read_text(encoding="utf-8")


@needs_shared
@pytest.mark.parametrize("name", ["wobert", "wobert_plus"])
def test_the_released_vocabularies_have_that_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SHARED is not None
    path = SHARED / "golden" / "tokenizer" / f"{name}_vocab.txt"
    assert read_vocabulary(path, load(name, monkeypatch).RECIPE.vocab_size).has_words
