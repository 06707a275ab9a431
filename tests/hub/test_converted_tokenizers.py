"""A converted NEZHA or RoFormer gets the tokenizer of its vocabulary, of words or of characters, as a copy does too.

RoFormer is transformers' own model; a word tokenizer's code travels with its folder.
"""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForMaskedLM, AutoTokenizer

from kexue_hf import VocabularyMismatchWarning, check_pairing
from kexue_hf.conversion.convert import convert
from tests.conversion.checkpoints import golden_copy
from tests.fresh_process import run_elsewhere

# Loads folders without this package, untrusted and trusted; writes the classes, a tokenizer's with its ids.
LOADER = """
import json, os, sys
target, folders = sys.argv[1], sys.argv[2:]
sys.modules["kexue_hf"] = None  # importing it raises ImportError
import transformers
sys.stdin = open(os.devnull)  # nobody answers whether to trust
def load(auto, folder, **flags):
    try:
        loaded = getattr(transformers, auto).from_pretrained(folder, **flags)
        return [type(loaded).__name__, loaded("时代")["input_ids"] if auto == "AutoTokenizer" else []]
    except ValueError:
        return ["refused", []]
autos = ("AutoTokenizer", "AutoModelForMaskedLM")
results = {
    trust: [load(auto, folder, **({"trust_remote_code": True} if trust == "trusted" else {}))
            for folder in folders for auto in autos]
    for trust in ("untrusted", "trusted")
}
json.dump(results, open(target, "w"))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """WoNEZHA, RoFormer, and both with a vocabulary of characters."""
    root = tmp_path_factory.mktemp("converted")
    folders = []
    for case in ("wonezha_tf_ckpt", "roformer_tf_ckpt"):
        convert(golden_copy(case, root / case), root / f"{case}-words")
        vocabulary = root / case / "vocab.txt"
        lines = vocabulary.read_text(encoding="utf-8").splitlines()
        characters = [
            token if len(token) == 1 or token.startswith(("[", "##")) or token.isascii() else f"[unused{number}]"
            for number, token in enumerate(lines)
        ]
        vocabulary.chmod(0o644)
        vocabulary.write_text("".join(f"{token}\n" for token in characters), encoding="utf-8")
        report = convert(root / case, root / f"{case}-characters")
        assert any("its tokenizer is BertTokenizer" in note for note in report.notes)
        folders += [root / f"{case}-words", root / f"{case}-characters"]
    return folders


# Tokenizer and model of each folder in turn.
LOADED = [
    *("WoBertTokenizer", "NezhaForMaskedLM"),
    *("BertTokenizer", "NezhaForMaskedLM"),
    *("WoBertTokenizer", "RoFormerForMaskedLM"),
    *("BertTokenizer", "RoFormerForMaskedLM"),
]
# A word tokenizer is refused, never replaced by another one, whose valid ids would mean something else.
UNTRUSTED = ["refused", "refused", "BertTokenizer", "refused", "refused", *LOADED[5:]]
# [CLS] 时代 [SEP], or [CLS] 时 代 [SEP]
LENGTHS = {"WoBertTokenizer": 3, "BertTokenizer": 4}


def test_a_converted_folder_gets_the_tokenizer_of_its_vocabulary(folders) -> None:
    for number, folder in enumerate(folders):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForMaskedLM.from_pretrained(folder)
        assert [type(tokenizer).__name__, type(model).__name__] == LOADED[2 * number : 2 * number + 2]
        assert len(tokenizer("时代")["input_ids"]) == LENGTHS[type(tokenizer).__name__]
        assert check_pairing(model, tokenizer) == []


def test_a_converted_folder_without_the_package(folders, tmp_path: Path) -> None:
    run_elsewhere(LOADER, tmp_path, tmp_path / "results.json", *folders)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [name for name, _ in results["untrusted"]] == UNTRUSTED
    assert [name for name, _ in results["trusted"]] == LOADED
    assert all(len(ids) == LENGTHS[name] for name, ids in results["trusted"] if name in LENGTHS)


@pytest.mark.parametrize("family", [0, 1], ids=["nezha", "roformer"])
def test_the_guard_knows_both_families(family: int, folders) -> None:
    words, characters = folders[2 * family : 2 * family + 2]
    model = AutoModelForMaskedLM.from_pretrained(words)
    with pytest.warns(VocabularyMismatchWarning, match="trained with WoBertTokenizer, this is a BertTokenizer"):
        assert check_pairing(model, AutoTokenizer.from_pretrained(characters))
