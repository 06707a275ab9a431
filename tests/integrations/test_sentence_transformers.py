"""A SentenceTransformer of our models: its vectors, saved and loaded with this package and without it, and trained."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from kexue_hf import (
    InputError,
    MatcherEvaluator,
    TtaConfig,
    TtaModel,
    TtaTokenizer,
    WoBertConfig,
    WoBertModel,
    WoBertTokenizer,
    build_sentence_transformer,
    sentence_vectors,
)
from tests.fresh_process import run_elsewhere
from tests.pipelines.matchers import PAIRS, make

needs_library = pytest.mark.skipif(
    find_spec("sentence_transformers") is None,
    reason="sentence-transformers is not installed: pip install 'kexue-hf[sentence-transformers]'",
)
SPECIAL = ["[PAD]", "[EOS]", "[UNK]", "[SOS]", "[MASK]", "[CLS]", "[SEP]"]
TOKENS = [*SPECIAL, "，", "。", "今", "天", "今天", "天气", "不", "错", "不错", "很", "好", "a", "##b"]
TEXTS = ["今天天气不错，很好。", "", "很好", "今天[MASK]很好 ab", "魑魅", "[EOS]"]

LOADER = """
import sys, numpy
target, folders = sys.argv[1], sys.argv[2:]
results = {}

def load(how, package, flags):
    from sentence_transformers import SentenceTransformer
    for number, folder in enumerate(folders):
        model = SentenceTransformer(folder, device="cpu", **flags)
        for part in (model[0].model, model[0].tokenizer):
            assert type(part).__module__.startswith(package), type(part)
        results[f"{how} {number}"] = model.encode(TEXTS)

sys.modules["kexue_hf"] = None  # importing it raises ImportError
load("without", "transformers_modules", {"trust_remote_code": True})
del sys.modules["kexue_hf"]
import kexue_hf
load("with", "kexue_hf", {})
numpy.savez(target, **results)
""".replace("TEXTS", repr(TEXTS))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{model type: folder of a tiny one with its tokenizer}"""
    root = tmp_path_factory.mktemp("encoders")
    vocabulary = root / "vocab.txt"
    vocabulary.write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    sizes = {"vocab_size": len(TOKENS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 24, "max_position_embeddings": 16}
    torch.manual_seed(0)
    made = {
        "tta": (TtaModel(TtaConfig(**sizes)), TtaTokenizer(str(vocabulary))),
        "wobert": (WoBertModel(WoBertConfig(**sizes)), WoBertTokenizer(str(vocabulary))),
    }
    for name, parts in made.items():
        for part in parts:
            part.save_pretrained(root / name)
    return {name: root / name for name in made}


@needs_library
@pytest.mark.parametrize("kind", ["tta", "wobert"])
def test_its_vectors_are_those_of_sentence_vectors(folders: dict[str, Path], kind: str) -> None:
    model = build_sentence_transformer(folders[kind], device="cpu")
    expected = sentence_vectors(model[0].model, model[0].tokenizer, TEXTS)
    found = model.encode(TEXTS, batch_size=2)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    empty = [1, 5] if kind == "tta" else [1]  # [EOS] is an ordinary token to a BERT
    assert not found[empty].any() and np.delete(found, empty, 0).any(1).all()
    assert model.get_embedding_dimension() == 16


@needs_library
def test_normalized(folders: dict[str, Path]) -> None:
    model = build_sentence_transformer(folders["tta"], normalize=True, device="cpu")
    expected = sentence_vectors(model[0].model, model[0].tokenizer, TEXTS, normalize=True)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-6)


@needs_library
@pytest.mark.parametrize("limit", [None, 8], ids=["positions", "max_length"])
def test_long_texts_are_cut_off(folders: dict[str, Path], limit: int | None) -> None:
    model = build_sentence_transformer(folders["tta"], max_length=limit, device="cpu")
    kept = (limit or 16) - 2
    np.testing.assert_allclose(model.encode("很好" * 20), model.encode("很好" * (kept // 2)), atol=1e-6)


@needs_library
def test_saved_it_loads_in_a_fresh_process_with_this_package_and_without(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    saved, expected = [], []
    for name, folder in folders.items():
        model = build_sentence_transformer(folder, device="cpu")
        model.save_pretrained(str(tmp_path / name), create_model_card=False)
        saved.append(str(tmp_path / name))
        expected.append(model.encode(TEXTS))
    target = tmp_path / "found.npz"
    run_elsewhere(LOADER, tmp_path, target, *saved)
    with np.load(target) as found:
        for how in ("with", "without"):
            for number, vectors in enumerate(expected):
                np.testing.assert_array_equal(found[f"{how} {number}"], vectors)


@needs_library
def test_it_trains_and_the_tokens_around_a_text_stay_out(folders: dict[str, Path], tmp_path: Path) -> None:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    model = build_sentence_transformer(folders["tta"], device="cpu")
    before = model.encode(TEXTS)
    rows = {"sentence1": ["今天", "很好"], "sentence2": ["天气", "不错"], "score": [0.0, 1.0]}
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path), max_steps=3, learning_rate=1e-2, report_to="none", use_cpu=True, save_strategy="no",
        disable_tqdm=True,
    )  # fmt: skip
    SentenceTransformerTrainer(model, arguments, Dataset.from_dict(rows), loss=CosineSimilarityLoss(model)).train()
    after = model.encode(TEXTS)
    assert np.abs(after[0] - before[0]).max() > 1e-3
    assert not after[[1, 5]].any()
    np.testing.assert_allclose(after, sentence_vectors(model[0].model, model[0].tokenizer, TEXTS), atol=1e-5)


def test_without_the_library_it_says_what_to_install(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"pip install 'kexue-hf\[sentence-transformers\]'"):
        build_sentence_transformer("a folder")


@needs_library
@pytest.mark.parametrize("limit", [2, 17, 100_000])
def test_a_length_that_the_model_does_not_take_is_refused(folders: dict[str, Path], limit: int) -> None:
    with pytest.raises(InputError, match=f"max_length must be from 3 to 16 for this model, got {limit}"):
        build_sentence_transformer(folders["tta"], max_length=limit)


@needs_library
def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing cannot be loaded: .+") as raised:
        build_sentence_transformer(tmp_path / "nothing")
    assert len(str(raised.value).splitlines()) == 1


@needs_library
def test_its_evaluators_go_together_with_a_matchers(tmp_path: Path) -> None:
    """Here, where the library is imported anyway."""
    from sentence_transformers.sentence_transformer.evaluation import SequentialEvaluator

    model, tokenizer = make("matcher", tmp_path)
    rows = [{"text_a": a, "text_b": b, "task": "loose", "label": n % 2} for n, (a, b) in enumerate(PAIRS)]
    evaluators = [MatcherEvaluator(rows[:count], tokenizer, name=f"of {count}") for count in (3, 6)]
    found = SequentialEvaluator(evaluators, sum)(model, str(tmp_path / "figures"), 1, 2)
    assert found == {
        **evaluators[0](model),
        **evaluators[1](model),
        "sequential_score": found["of 3_f1"] + found["of 6_f1"],
    }
    assert len(list((tmp_path / "figures").iterdir())) == 2
