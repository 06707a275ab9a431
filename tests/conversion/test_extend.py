"""`kexue-hf extend` against the original's result, from every kind of source.

Oracle: tests/golden/wobert_from_bert, made by bert4keras 0.10.5 (`keep_tokens`, `compound_tokens`).
"""

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    BertTokenizer,
)

import kexue_hf
from kexue_hf.cli.main import main
from kexue_hf.conversion import extend as extend_module
from kexue_hf.conversion import word_choice
from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.derived_weights import ExtendedWeights
from kexue_hf.conversion.extend import extend, extend_source
from kexue_hf.conversion.formats.safetensors import SafetensorsFile
from kexue_hf.conversion.formats.weight_source import BY_NAME, StoredTensor, WeightSource
from kexue_hf.conversion.open_source import open_original
from kexue_hf.conversion.source import line_problem, source_vocabulary
from kexue_hf.errors import CheckpointError, ConversionError, InputError, OutputError
from kexue_hf.vocabulary.corpus_counts import dictionary_frequencies
from kexue_hf.vocabulary.vocabulary_files import SPECIAL_TOKENS
from kexue_hf.vocabulary.word_selection import keep_tokens, speller
from tests.conversion.checkpoints import GOLDEN, golden_copy
from tests.fresh_process import run_elsewhere

CASE = GOLDEN / "wobert_from_bert"
KEPT, TOKENS = 197, 257
TOLERANCE = 5e-5


def lines(name: str) -> list[str]:
    return (CASE / name).read_text(encoding="utf-8").split("\n")[:-1]


@pytest.fixture(autouse=True, scope="module")
def read_dictionary_once():
    """Return the frequencies of jieba's dictionary, which take half a second to read."""
    read = word_choice.dictionary_frequencies
    word_choice.dictionary_frequencies = functools.cache(read)
    yield
    word_choice.dictionary_frequencies = read


@pytest.fixture(scope="module")
def user_dict(tmp_path_factory) -> Path:
    """Return the words of the golden case, some of which `extend` would not choose, such as single characters."""
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("".join(f"{word} 3 n\n" for word in lines("wobert_vocab.txt")[KEPT:]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def golden(user_dict, tmp_path_factory) -> Path:
    """Return the folder that `extend` makes from the source of the golden case."""
    folder = tmp_path_factory.mktemp("golden") / "out"
    extend(CASE / "bert_model.ckpt", folder, words=0, user_dict=user_dict)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Return a function that saves a random BERT of a class with the golden vocabulary, as transformers does."""

    def save(model_class=BertForPreTraining, dtype=torch.float32, tokenizer: bool = True, **options) -> Path:
        folder = tmp_path_factory.mktemp("bert") / "bert"
        vocabulary = lines("vocab.txt")
        torch.manual_seed(1)
        config = BertConfig(
            vocab_size=options.pop("rows", len(vocabulary)),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=40,
            **options.pop("config", {}),
        )
        model = model_class(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.to(dtype).save_pretrained(folder, **options)
        if tokenizer:
            BertTokenizer(vocab={token: index for index, token in enumerate(vocabulary)}).save_pretrained(folder)
        return folder

    return save


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    with SafetensorsFile(folder / "model.safetensors") as file:
        return {name: file.read(name) for name in file.tensors}


def test_the_golden_vocabulary_and_rows(golden):
    expected = np.load(CASE / "outputs.npz")
    assert (golden / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1] == lines("wobert_vocab.txt")
    weights = weights_of(golden)
    assert np.abs(weights["bert.embeddings.word_embeddings.weight"] - expected["word_embeddings"]).max() <= 1e-6
    assert np.abs(weights["cls.predictions.bias"] - expected["mlm_bias"]).max() <= 1e-6


def deviation(folder: Path) -> float:
    """Return the largest difference of any output from the original's."""
    model = AutoModelForPreTraining.from_pretrained(folder).eval()
    inputs, outputs = np.load(CASE / "inputs.npz"), np.load(CASE / "outputs.npz")
    worst = 0.0
    for batch in ("b0", "b1", "b2", "b3"):
        with torch.no_grad():
            result = model(
                input_ids=torch.from_numpy(inputs[f"{batch}_token_ids"]).long(),
                token_type_ids=torch.from_numpy(inputs[f"{batch}_segment_ids"]).long(),
                attention_mask=torch.from_numpy(inputs[f"{batch}_mask"]).long(),
                output_hidden_states=True,
            )
        found = {
            "hidden_0": result.hidden_states[0],
            "hidden_2": result.hidden_states[2],
            "mlm_logits": result.prediction_logits,
        }
        for name, values in found.items():
            worst = max(worst, float(np.abs(values.numpy() - outputs[f"{batch}_{name}"]).max()))
    return worst


def test_the_golden_outputs(golden):
    assert deviation(golden) <= TOLERANCE


@pytest.mark.parametrize("wrong", ["first_piece", "no_bias", "old_ids"])
def test_the_check_fails_for_wrong_rows(wrong, user_dict, tmp_path, monkeypatch):
    """Plausible mistakes change the outputs: another mean, a forgotten bias, ids of the old vocabulary."""

    class Wrong(ExtendedWeights):
        def __init__(self, source, names, kept, pieces):
            super().__init__(source, names, kept, pieces)
            if wrong == "first_piece":
                self._pieces = [rows[:1] for rows in self._pieces]
            elif wrong == "old_ids":
                self._pieces = [np.asarray(rows) for rows in pieces]

        def _rows(self, name):
            for chunk in super()._rows(name):
                yield np.zeros_like(chunk) if wrong == "no_bias" and len(self.tensors[name].shape) == 1 else chunk

    monkeypatch.setattr(extend_module, "ExtendedWeights", Wrong)
    extend(CASE / "bert_model.ckpt", tmp_path / "out", words=0, user_dict=user_dict)
    assert deviation(tmp_path / "out") > 100 * TOLERANCE


def test_the_tokenizer_finds_the_new_words(golden):
    tokenizer = AutoTokenizer.from_pretrained(golden)
    assert tokenizer.tokenize("他们完成其大部分，看看") == ["他们", "[UNK]", "[UNK]", "其", "大部分", "，", "看看"]
    assert len(tokenizer) == TOKENS
    case = json.loads((CASE / "case.json").read_text(encoding="utf-8"))
    ids = np.load(CASE / "inputs.npz")["b0_token_ids"]
    for texts, row in zip(case["texts_of_b0"], ids, strict=True):
        found = tokenizer(*texts)["input_ids"]
        assert found == row[: len(found)].tolist() and not row[len(found) :].any()


def test_extend_source(tmp_path):
    with open_original(CASE / "bert_model.ckpt", vocab=CASE / "vocab.txt") as source:
        kept = keep_tokens(source.vocabulary.ids, SPECIAL_TOKENS)
        pieces_of = speller({token: index for index, token in enumerate(kept)}, 1)
        grown = extend_source(source, kept, ["他们"], [pieces_of("他们")])
        found = grown.weights.read("bert/embeddings/word_embeddings")
    rows = np.load(CASE / "inputs.npz")["source_word_embeddings"]
    he, they = (lines("vocab.txt").index(token) for token in "他们")
    assert found.shape == (KEPT + 1, 32)
    assert np.array_equal(found[-1], ((rows[he].astype(np.float64) + rows[they]) / 2).astype(np.float32))


@pytest.mark.parametrize(
    ("model_class", "architecture"),
    [
        (BertForPreTraining, "WoBertForPreTraining"),
        (BertForMaskedLM, "WoBertForMaskedLM"),
        (BertModel, "WoBertModel"),
        (BertForSequenceClassification, "WoBertForSequenceClassification"),
        (BertForTokenClassification, "WoBertForTokenClassification"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_transformers_folder(bert, model_class, architecture, tmp_path):
    source = bert(model_class)
    report = extend(source, tmp_path / "out", words=12)
    assert (report.architecture, report.kept, len(report.words), report.vocab_size) == (architecture, KEPT, 12, 209)
    assert report.words[:2] == ["他们", "这个"] and "##面" in report.dropped and len(report.dropped) == 46
    model, info = getattr(kexue_hf, architecture).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert kexue_hf.check_pairing(model, tokenizer) == [] and model.config.vocab_size == len(tokenizer) == 209
    old, new = model_class.from_pretrained(source).eval(), model.eval()
    # A text without new words has the same outputs, with other ids.
    text, old_tokenizer = "即黑远调 ing", BertTokenizer.from_pretrained(source)
    with torch.no_grad():
        before, after = (
            each(**cut(text, return_tensors="pt"), output_hidden_states=True)
            for each, cut in ((old, old_tokenizer), (new, tokenizer))
        )
    assert all(map(torch.equal, before.hidden_states, after.hidden_states))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_mean_is_rounded_once_to_the_type_of_the_source(bert, dtype, tmp_path):
    source = bert(BertForMaskedLM, dtype)
    extend(source, tmp_path / "out", words=12)
    old = BertForMaskedLM.from_pretrained(source, dtype=dtype).get_input_embeddings().weight.detach()
    new = AutoModelForMaskedLM.from_pretrained(tmp_path / "out", dtype=dtype)
    ids = {token: index for index, token in enumerate(lines("vocab.txt"))}
    row = AutoTokenizer.from_pretrained(tmp_path / "out").convert_tokens_to_ids("他们")
    expected = old[[ids["他"], ids["们"]]].double().mean(0).to(dtype)
    assert torch.equal(new.get_input_embeddings().weight[row], expected)
    assert new.config.dtype == dtype


def test_the_result_is_cast_if_wanted(bert, tmp_path):
    extend(bert(), tmp_path / "out", words=2, dtype="bfloat16", license="apache-2.0")
    with SafetensorsFile(tmp_path / "out" / "model.safetensors") as file:
        assert {tensor.type for tensor in file.tensors.values()} == {BY_NAME["bfloat16"]}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert (
        "license: apache-2.0" in card
        and "cast from float32 to bfloat16." in card
        and "2 words (他们, 这个), chosen" in card
    )


def test_shards_old_names_and_tied_copies_give_the_same_model(bert, tmp_path):
    whole, shards = bert(), bert(max_shard_size="5KB")
    assert (shards / "model.safetensors.index.json").is_file()
    old = tmp_path / "old"
    shutil.copytree(whole, old)
    from safetensors.torch import load_file, save_file

    tensors = load_file(old / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): values
        for name, values in tensors.items()
    }
    renamed["cls.predictions.decoder.weight"] = renamed["bert.embeddings.word_embeddings.weight"].clone()
    renamed["cls.predictions.decoder.bias"] = renamed["cls.predictions.bias"].clone()
    renamed["bert.embeddings.position_ids"] = torch.arange(40)[None]
    save_file(renamed, old / "model.safetensors")
    # A tied tensor that is stored only under its other name.
    lone = tmp_path / "lone"
    shutil.copytree(whole, lone)
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
    save_file(tensors, lone / "model.safetensors")
    results = []
    for number, source in enumerate((whole, shards, old, lone)):
        extend(source, tmp_path / f"out{number}", words=5)
        results.append(weights_of(tmp_path / f"out{number}"))
    for other in results[1:]:
        assert other.keys() == results[0].keys()
        assert all(np.array_equal(other[name], values) for name, values in results[0].items())


@pytest.mark.parametrize("family", ["nezha", "roformer"])
def test_other_families(family, tmp_path):
    """An original checkpoint and the folder that `convert` makes of it are extended to the same folder."""
    source = GOLDEN / {"nezha": "wonezha_tf_ckpt", "roformer": "roformer_tf_ckpt"}[family]
    convert(source, tmp_path / "converted")
    report = extend(source, tmp_path / "direct", words=6)
    assert report.family == family and len(report.words) == 6
    extend(tmp_path / "converted", tmp_path / "out", words=6, family=family)
    one, other = weights_of(tmp_path / "direct"), weights_of(tmp_path / "out")
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    tokenizer, model = (auto.from_pretrained(tmp_path / "out") for auto in (AutoTokenizer, AutoModelForMaskedLM))
    assert type(tokenizer).__name__ == "WoBertTokenizer" and kexue_hf.check_pairing(model, tokenizer) == []
    assert tokenizer.tokenize(report.words[0]) == [report.words[0]]
    new = kexue_hf.add_words(model, tokenizer, [report.words[0] + report.words[1]])
    row = model.get_input_embeddings().weight
    assert torch.allclose(row[-1], row[-7:-5].mean(0), atol=1e-7) and list(new.values()) == [report.vocab_size]


def test_words_that_are_always_split_get_no_row(bert, tmp_path):
    report = extend(bert(), tmp_path / "out", words=300)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert {"大中"} & set(dictionary_frequencies()) and "大中" not in report.words
    assert [tokenizer.tokenize(word) for word in report.words] == [[word] for word in report.words]


def test_words_of_a_corpus_and_of_the_user(bert, tmp_path):
    folder = tmp_path / "corpus"
    (folder / "below").mkdir(parents=True)
    (folder / "a.txt").write_text("传统这些这些这些\n2021 2021 部长 部长\n", encoding="utf-8")
    (folder / "below" / "b.jsonl").write_text('{"body": "部长，部长。"}\n', encoding="utf-8")
    (folder / "notes.md").write_text("左右", encoding="utf-8")
    (tmp_path / "own.txt").write_text("他们完\n这些\nITE\n", encoding="utf-8")
    report = extend(
        bert(),
        tmp_path / "out",
        words=10,
        corpus=[folder],
        text_column="body",
        user_dict=tmp_path / "own.txt",
    )
    # Sorted by count. The first word has a character that the vocabulary lacks, and numbers are not words.
    assert report.words == ["部长", "这些", "他们完", "ite"] and report.user_words == 2
    notes = "\n".join(report.notes)
    assert "2 of 10 words were found: the corpus has no more" in notes
    assert "1 words of the user dictionary have a token already: 这些" in notes
    assert "characters that the vocabulary lacks; their embeddings include that of [UNK]: 他们完" in notes
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.user_words == ["他们完", "这些", "ITE"]
    assert tokenizer.tokenize("他们完iTe部长") == ["他们完", "ite", "部长"]


def test_a_single_corpus_path(bert, tmp_path):
    (tmp_path / "a.txt").write_text("部长 这些 这些", encoding="utf-8")
    assert extend(bert(), tmp_path / "out", words=2, corpus=str(tmp_path / "a.txt")).words == ["这些", "部长"]


def test_a_user_word_without_tokens_is_named_with_its_line(bert, tmp_path):
    (tmp_path / "own.txt").write_text("其官\n\x7f\x80\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"own.txt: line 2: '.*' has no tokens"):
        extend(bert(), tmp_path / "out", words=0, user_dict=tmp_path / "own.txt", strict=True)
    report = extend(bert(), tmp_path / "out", words=0, user_dict=tmp_path / "own.txt")
    assert report.words == ["其官"] and "own.txt: 1 line was skipped (1 words are left): line 2" in report.notes[0]


def test_added_tokens_and_tokenizer_settings_are_kept(bert, tmp_path):
    source = bert(rows=250)  # six rows without a token
    tokenizer = BertTokenizer.from_pretrained(source, do_lower_case=False)
    tokenizer.add_tokens(["<e1>"], special_tokens=True)
    tokenizer.save_pretrained(source)
    report = extend(source, tmp_path / "out", words=3)
    found = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert report.kept == KEPT + 1 and "<e1>" in found.get_added_vocab()
    assert found.tokenize("他们<e1>他们") == ["他们", "<e1>", "他们"] and not found.do_lower_case
    assert extend(source, tmp_path / "lower", words=3, cased=False).kept == KEPT + 1
    assert AutoTokenizer.from_pretrained(tmp_path / "lower").do_lower_case


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def plain_source(case: str, folder: Path) -> Path:
    """Return a golden checkpoint whose vocabulary has no Chinese words."""
    vocabulary = golden_copy(case, folder) / "vocab.txt"
    tokens = vocabulary.read_text(encoding="utf-8").splitlines()
    plain = [t if len(t) == 1 or t.isascii() or t.startswith("##") else f"[unused{n}]" for n, t in enumerate(tokens)]
    vocabulary.chmod(0o644)
    vocabulary.write_text("".join(f"{token}\n" for token in plain), encoding="utf-8")
    return folder


@pytest.mark.parametrize("case", ["wonezha_tf_ckpt", "roformer_tf_ckpt"])
def test_mixed_user_words_make_a_word_model(case, tmp_path):
    """Otherwise these families would get a character tokenizer, which never finds the word."""
    (tmp_path / "own.txt").write_text("卡拉OK\n", encoding="utf-8")
    report = extend(plain_source(case, tmp_path / "in"), tmp_path / "out", words=0, user_dict=tmp_path / "own.txt")
    assert report.words == ["卡拉ok"] and not any("no Chinese word" in note for note in report.notes)
    tokenizer, model = (auto.from_pretrained(tmp_path / "out") for auto in (AutoTokenizer, AutoModelForMaskedLM))
    assert tokenizer.tokenize("卡拉OK") == ["卡拉ok"] and kexue_hf.check_pairing(model, tokenizer) == []
    assert "its unit is the word" in card_of(tmp_path / "out") and (tmp_path / "out/tokenization_wobert.py").is_file()
    # As a source it is a word model too, and keeps its words.
    (tmp_path / "more.txt").write_text("阿Q精神\n", encoding="utf-8")
    again = extend(tmp_path / "out", tmp_path / "again", words=0, user_dict=tmp_path / "more.txt")
    assert again.dropped == [] and again.words == ["阿q精神"]


def test_the_card_describes_the_extension(bert, tmp_path):
    (tmp_path / "own.txt").write_text("其官\n", encoding="utf-8")
    own = {"user_dict": tmp_path / "own.txt"}
    extend(bert(BertModel), tmp_path / "own", words=0, dtype="float32", **own)
    card = card_of(tmp_path / "own")
    assert "197 of its tokens and 1 words (其官) from a user dictionary. The embedding of each new word is the" in card
    assert "frequency" not in card and "bias" not in card and "cast" not in card and "..." not in card
    extend(bert(), tmp_path / "both", words=6, **own)
    card = card_of(tmp_path / "both")
    assert ", ...), 6 chosen by their frequency in jieba's dictionary and 1 from a user dictionary. The" in card
    assert "and the output bias of each new word are the means over its word pieces" in card


def test_a_token_that_cannot_be_a_line_is_refused(bert, tmp_path):
    """It would shift all later ids."""
    assert [line_problem(token) for token in ("a", "\u2028", "")] == [None] * 3
    assert all(map(line_problem, ("\n", "a\nb", "a\r", "a\rb", "a b", "a ", "a\ud800")))
    source = bert(rows=250)
    path = source / "tokenizer.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["added_tokens"].append({"id": 243, "content": "\n"})
    path.write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(ConversionError, match=r"the token '.n' has a line end in it: vocab.txt cannot"):
        extend(source, tmp_path / "out", words=3)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rows", [243 + 127, 243 + 128], ids=["rounding", "too_many"])
def test_rows_without_a_token(rows, bert, tmp_path):
    source = bert(rows=rows)
    if rows == 243 + 127:
        note = extend(source, tmp_path / "out", words=3).notes[0]
        assert note == "127 rows of the source's embeddings without a token were left out"
    else:
        with pytest.raises(
            ConversionError,
            match="has 243 tokens, the model has embeddings for 371, the difference is too large to be padding",
        ):
            extend(source, tmp_path / "out", words=3)
        fingerprint = source_vocabulary("", {token: n for n, token in enumerate(lines("vocab.txt"))}).fingerprint
        edit_json(source / "config.json", vocab_fingerprint=fingerprint)
        assert extend(source, tmp_path / "out", words=3).kept == KEPT


def test_casing_comes_from_tokenizer_json(bert, tmp_path):
    """The tokens come from the vocab.txt beside it."""
    source = bert()
    BertTokenizer.from_pretrained(source, do_lower_case=False).save_pretrained(source)
    (source / "tokenizer_config.json").unlink()
    shutil.copyfile(CASE / "vocab.txt", source / "vocab.txt")
    extend(source, tmp_path / "out", words=3)
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["do_lower_case"] is False


def test_a_word_model_is_extended(golden, tmp_path):
    report = extend(golden, tmp_path / "out", words=5)
    assert report.kept == TOKENS and report.dropped == [] and len(report.words) == 5
    model = AutoModelForPreTraining.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert kexue_hf.check_pairing(model, tokenizer) == [] and "好吃" in tokenizer.user_words
    old, new = weights_of(golden), weights_of(tmp_path / "out")
    name = "bert.embeddings.word_embeddings.weight"
    assert np.array_equal(new[name][:TOKENS], old[name])


def test_the_packaged_model_is_extended(tmp_path):
    source = Path(kexue_hf.__file__).parent / "assets" / "wobert_tiny"
    report = extend(source, tmp_path / "out", words=50)
    assert len(report.words) == 50 and report.kept > 5000


def test_the_folder_loads_without_the_package(bert, tmp_path):
    extend(bert(BertForMaskedLM), tmp_path / "out", words=5)
    code = """
import sys
from transformers import AutoModelForMaskedLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)
model = AutoModelForMaskedLM.from_pretrained(sys.argv[1], trust_remote_code=True)
assert not [name for name in sys.modules if name.startswith("kexue_hf")]
print(tokenizer.tokenize("他们看"), model(**tokenizer("他们看", return_tensors="pt")).logits.shape)
"""
    printed = run_elsewhere(code, tmp_path, tmp_path / "out")
    assert printed.splitlines()[-1] == "['他们', '看'] torch.Size([1, 4, 202])"


# --- bad input


def test_a_pickle_is_refused(bert, tmp_path):
    source = bert()
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"torch.load\(weights_only=True\) refuses it"):
        extend(source, tmp_path / "out")


def test_a_folder_without_a_vocabulary(bert, tmp_path):
    source = bert(tokenizer=False)
    with pytest.raises(InputError, match=r"has no vocabulary, neither vocab\.txt nor tokenizer\.json; .*--vocab"):
        extend(source, tmp_path / "out")
    assert extend(source, tmp_path / "out", vocab=CASE / "vocab.txt", words=4).kept == KEPT


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"model_type": "gpt2"}, InputError, "model_type is 'gpt2', expected one of bert, "),
        ({"vocab_size": 300}, ConversionError, "word_embeddings.weight is .*, expected .300, 16.*config.json"),
        ({"vocab_size": 200}, ConversionError, "has 243 tokens, the model has embeddings for 200"),
        ({"position_embedding_type": "relative_key"}, ConversionError, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, ConversionError, "expected an encoder"),
        ({"num_hidden_layers": 3}, ConversionError, "says num_hidden_layers 3, the checkpoint has layers 0 to 1"),
    ],
    ids=["model_type", "larger", "smaller", "positions", "decoder", "layers"],
)
def test_a_folder_that_does_not_fit(bert, changes, error, problem, tmp_path):
    source = bert()
    edit_json(source / "config.json", **changes)
    with pytest.raises(error, match=problem):
        extend(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_untied_output_layer_is_refused(bert, tmp_path):
    source = bert(BertForMaskedLM, config={"tie_word_embeddings": False})
    with pytest.raises(ConversionError, match="is not tied to the embeddings"):
        extend(source, tmp_path / "out")


def test_another_vocabulary_is_refused(golden, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(golden, source)
    tokens = (source / "vocab.txt").read_text(encoding="utf-8").split("\n")
    (source / "vocab.txt").write_text("\n".join([*tokens[:9], tokens[10], tokens[9], *tokens[11:]]), encoding="utf-8")
    with pytest.raises(ConversionError, match="it belongs to another model"):
        extend(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("index", "problem"),
    [
        ({"weight_map": {"a": "../../secret.safetensors"}}, "names '../../secret.safetensors', expected a file name"),
        ({"weight_map": {"a": "none.safetensors"}}, "none.safetensors: cannot be read"),
        ({"weight_map": ["a"]}, "expected an object weight_map"),
        ({}, "expected an object weight_map"),
    ],
    ids=["outside", "missing", "list", "empty"],
)
def test_a_bad_index(bert, index, problem, tmp_path):
    source = bert()
    (source / "model.safetensors").unlink()
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=problem):
        extend(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"model": {"type": "BPE", "vocab": {"a": 0}}}, "expected BERT's WordPiece vocabulary, got BPE"),
        ({"model": []}, "expected BERT's WordPiece vocabulary, got none"),
        ({"model": {"type": "WordPiece", "vocab": {"a": -1}}}, "every token should have an id of 0 or more"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}}}, r"lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\]"),
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [3]}, "added_tokens should be a list of tokens"),
    ],
    ids=["bpe", "list", "negative", "special", "added"],
)
def test_a_bad_tokenizer_file(bert, content, problem, tmp_path):
    source = bert()
    (source / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ConversionError, match=problem):
        extend(source, tmp_path / "out")


def test_bad_arguments_leave_nothing_behind(tmp_path):
    source = golden_copy("wobert_from_bert", tmp_path / "source") / "bert_model.ckpt"
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes("好的一行\n".encode() + "第二行".encode("gb18030"))
    words = tmp_path / "words.txt"
    words.write_text("好\n机器 学习\n", encoding="utf-8")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text("{}")
    for name, content in (("empty.txt", ""), ("blank.txt", "\n\n  \n"), ("blank.jsonl", '\n{"text": " "}\n')):
        (tmp_path / name).write_text(content)
    Dataset.from_dict({"text": []}).to_parquet(tmp_path / "empty.parquet")
    before = sorted(tmp_path.iterdir())
    empty = [tmp_path / name for name in ("empty.txt", "blank.txt", "blank.jsonl", "empty.parquet")]
    for arguments, error, problem in (
        *(({"corpus": [file]}, InputError, f"{file.name}: no text to count words in; name") for file in empty),
        ({"corpus": empty}, InputError, "empty.txt, .*empty.parquet: no text to count words in; name"),
        ({"words": -1}, InputError, "--words -1: expected a number of words, at least 1"),
        ({"words": 0}, InputError, "at least 1 .or 0 and --user-dict"),
        ({"corpus": [corpus]}, InputError, r"corpus.txt, line 2: not UTF-8 \(byte 0xb5 at position 0"),
        (
            {"corpus": [tmp_path / "none.txt"]},
            InputError,
            r"none.txt does not exist; expected text files \(.txt, .*optionally .gz",
        ),
        ({"corpus": [tmp_path / "saved"]}, InputError, "saved: is a folder of datasets.save_to_disk; expected"),
        ({"user_dict": words, "strict": True}, InputError, "words.txt: line 2: a user word must not hold white space"),
        ({"dtype": "int8"}, InputError, "--dtype int8: choose one of"),
        ({"license": "no license"}, InputError, "--license 'no license'"),
        ({"family": "nothing"}, InputError, "unknown family 'nothing'"),
        ({"overwrite": True, "output": source.parent}, OutputError, "would be lost"),
    ):
        output = arguments.pop("output", tmp_path / "out")
        with pytest.raises(error, match=problem):
            extend(source, output, **{"words": 3} | arguments)
    assert sorted(tmp_path.iterdir()) == before


def test_a_damaged_checkpoint_leaves_nothing_behind(tmp_path):
    source = golden_copy("wobert_from_bert", tmp_path / "source")
    data = source / "bert_model.ckpt.data-00000-of-00001"
    raw = bytearray(data.read_bytes())
    raw[len(raw) // 2] ^= 1
    data.write_bytes(raw)
    with pytest.raises(CheckpointError):
        extend(source / "bert_model.ckpt", tmp_path / "out", words=3)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


class _Plain(WeightSource):
    """A source of one matrix under two names."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        kind = BY_NAME["float32"]
        super().__init__("plain", {n: StoredTensor(n, kind, values.shape, values.nbytes) for n in ("rows", "other")})

    def chunks(self, name):
        yield self.values.reshape(-1)


def test_extended_weights_in_blocks():
    """There are more rows and words than are computed at a time; the other tensor passes unchanged."""
    values = np.random.default_rng(0).standard_normal((700, 3)).astype(np.float32)
    kept = list(range(699, 99, -1))
    pieces = [[number, number + 1, 599 - number] for number in range(550)]
    grown = ExtendedWeights(_Plain(values), ["rows"], kept, pieces)
    found, taken = grown.read("rows"), values[kept]
    assert np.array_equal(found[:600], taken)
    assert np.array_equal(found[600:], taken.astype(np.float64)[pieces].mean(1).astype(np.float32))
    assert np.array_equal(grown.read("other"), values) and grown.tensors["rows"].size == 1150 * 12


# --- the command


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "kexue_hf.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_the_command(bert, tmp_path):
    (tmp_path / "own.txt").write_text("其官\n这些\n", encoding="utf-8")
    done = run("extend", str(bert()), "out", "--words", "7", "--user-dict", "own.txt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "out (WoBertForPreTraining, 205 tokens)" in done.stdout
    assert "kept    197 tokens\ndropped 46 tokens: [unused1], " in done.stdout
    assert "added   8 words, 1 of them from own.txt: 他们, 这个, " in done.stdout and "其官" in done.stdout
    assert "note    1 words of the user dictionary have a token already: 这些" in done.stdout
    again = run("extend", "out", "out", "--words", "7", cwd=tmp_path)
    assert again.returncode == 2 and again.stderr.startswith("kexue-hf: error: out: exists and is not empty")
    assert len(again.stderr.splitlines()) == 1
    quiet = run("extend", "out", "more", "--words", "7", "--quiet", cwd=tmp_path)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


@pytest.mark.parametrize("model_class", [BertModel, BertForPreTraining])
def test_the_command_names_the_class_to_train_on(model_class, bert, tmp_path, capsys):
    (tmp_path / "own.txt").write_text("其官\n", encoding="utf-8")
    arguments = ["extend", bert(model_class), tmp_path / "out", "--words=0", "--user-dict", tmp_path / "own.txt"]
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    printed = capsys.readouterr().out
    assert not stop.value.code and "model = AutoModelForMaskedLM.from_pretrained(" in printed
    assert ("the source has no MLM head" in printed) == (model_class is BertModel)


def test_imports_of_the_command(bert, tmp_path):
    code = f"""
import sys
from kexue_hf.cli.main import main
try:
    main({["extend", str(bert()), "out", "--words", "5"]!r})
except SystemExit as stop:
    assert not stop.code, stop.code
loaded = {{"torch", "transformers", "tokenizers", "datasets", "tensorflow", "safetensors", "h5py"}} & set(sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr


def test_classifiers_keep_their_labels(bert, tmp_path):
    labels = {"id2label": {0: "坏", 1: "好", 2: "中"}, "label2id": {"坏": 0, "好": 1, "中": 2}}
    source = bert(BertForSequenceClassification, config=labels)
    extend(source, tmp_path / "out", words=3)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.id2label == {0: "坏", 1: "好", 2: "中"} and model.config.classifier_pooling == "pooler"
