"""`add_words`: the outputs of other texts do not change, and a new word is one token with its own row."""

import copy
import json
import pickle
import threading

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, BertTokenizer, RoFormerConfig, RoFormerForMaskedLM

import kexue_hf
from kexue_hf import InputError, NezhaConfig, WoBertConfig, WoBertTokenizer, add_words, check_pairing
from tests.fresh_process import run_elsewhere

CHARACTERS = "中国人民大学的习我爱北京天安门今气好研究生命起源abc"
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS, "##b", "##c", "中国", "北京", "研究"]
SIZES = {
    "vocab_size": len(TOKENS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
TEXTS = ["我爱北京天安门", "今天好的研究生，命起源 abc"]


def make(name: str = "WoBertForMaskedLM", dtype: torch.dtype = torch.float32, **changes):
    """Return a model with random weights and its tokenizer."""
    torch.manual_seed(0)
    if name == "RoFormerForMaskedLM":
        model = RoFormerForMaskedLM(RoFormerConfig(**SIZES, embedding_size=8, **changes))
    else:
        config = NezhaConfig if name.startswith("Nezha") else WoBertConfig
        model = getattr(kexue_hf, name)(config(**SIZES, **changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokenizer = WoBertTokenizer(vocab=TOKENS)
    model.config.vocab_fingerprint = tokenizer.vocab_fingerprint
    return model.to(dtype).eval(), tokenizer


@pytest.fixture
def words() -> list[str]:
    return ["中国人民", "天气", "ABCB"]


def states(model, tokenizer, texts=TEXTS):
    with torch.no_grad():
        return model(**tokenizer(texts, padding=True, return_tensors="pt"), output_hidden_states=True)


@pytest.mark.parametrize(
    "name",
    [
        "WoBertForMaskedLM",
        "WoBertForCausalLM",
        "WoBertForPreTraining",
        "WoBertForSequenceClassification",
        "WoBertModel",
        "NezhaForMaskedLM",
        "NezhaForPreTraining",
        "NezhaModel",
    ],
)
def test_other_texts_are_unchanged_bit_for_bit(name, words):
    model, tokenizer = make(name)
    before, ids_before = states(model, tokenizer), tokenizer(TEXTS)["input_ids"]
    new = add_words(model, tokenizer, words)
    assert new == {"中国人民": len(TOKENS), "天气": len(TOKENS) + 1, "abcb": len(TOKENS) + 2}
    assert tokenizer(TEXTS)["input_ids"] == ids_before
    after = states(model, tokenizer)
    assert all(map(torch.equal, before.hidden_states, after.hidden_states))
    for key in ("logits", "prediction_logits"):
        if key in before:
            wider, narrow = after[key], before[key]
            assert torch.allclose(wider[..., : narrow.shape[-1]], narrow, atol=1e-6, rtol=0)
    assert model.config.vocab_size == len(TOKENS) + 3 == len(tokenizer)
    assert check_pairing(model, tokenizer) == []


@pytest.mark.parametrize("name", ["WoBertForMaskedLM", "WoBertForCausalLM", "NezhaForMaskedLM", "RoFormerForMaskedLM"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_new_rows_are_the_means_of_the_pieces(name, dtype):
    model, tokenizer = make(name, dtype)
    pieces = {word: tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("中国人民", "天气")}
    assert tokenizer.convert_ids_to_tokens(pieces["中国人民"]) == ["中国", "人", "民"]
    rows = model.get_input_embeddings().weight.detach().double().clone()
    bias = model.get_output_embeddings().bias.detach().double().clone()
    new = add_words(model, tokenizer, pieces)
    embedding, decoder = model.get_input_embeddings().weight, model.get_output_embeddings()
    for word, index in new.items():
        assert torch.equal(embedding[index], rows[pieces[word]].mean(0).to(dtype))
        assert torch.equal(decoder.bias[index], bias[pieces[word]].mean().to(dtype))
    assert torch.equal(embedding[: len(TOKENS)].double(), rows)
    assert torch.equal(decoder.bias[: len(TOKENS)].double(), bias)
    assert decoder.weight is embedding and model.cls.predictions.bias is decoder.bias
    assert states(model, tokenizer, ["中国人民"]).logits.shape == (1, 3, len(TOKENS) + 2)


@pytest.mark.parametrize(
    "name",
    ["WoBertForMaskedLM", "WoBertForCausalLM", "WoBertForPreTraining", "NezhaForMaskedLM", "NezhaForPreTraining"],
)
def test_an_untied_output_layer_gets_its_own_rows(name, tmp_path):
    model, tokenizer = make(name, tie_word_embeddings=False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    decoder, bias = (before[f"cls.predictions.decoder.{key}"] for key in ("weight", "bias"))
    assert not torch.equal(decoder, model.get_input_embeddings().weight)
    assert not torch.equal(bias, before["cls.predictions.bias"])
    (index,) = add_words(model, tokenizer, ["天气"]).values()
    pieces = [TOKENS.index("天"), TOKENS.index("气")]
    output = model.get_output_embeddings()
    assert torch.allclose(output.weight[index], decoder[pieces].mean(0), atol=1e-7)
    assert torch.allclose(output.bias[index], bias[pieces].mean(), atol=1e-7)
    after = model.state_dict()
    assert all(
        torch.equal(after[key][: len(value)] if value.dim() else after[key], value) for key, value in before.items()
    )
    model.save_pretrained(tmp_path)
    loaded, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert all(torch.equal(value, after[key]) for key, value in loaded.state_dict().items())


def test_a_word_is_one_token_that_the_segmenter_finds():
    model, tokenizer = make()
    assert tokenizer.tokenize("今天气好的中国人民") == ["今", "天", "气", "好", "的", "中国", "人", "民"]
    add_words(model, tokenizer, ["中国人民", "好的"])
    assert tokenizer.tokenize("中国人民好的") == ["中国人民", "好的"]
    assert tokenizer.decode(tokenizer("中国人民好的")["input_ids"], skip_special_tokens=True) == "中国人民好的"
    # An added token would also be found inside longer words.
    assert tokenizer.get_added_vocab().keys() & {"中国人民", "好的"} == set()
    assert {"中国人民", "好的"} <= set(tokenizer.user_words)
    encoded = tokenizer("好的中国人民", return_offsets_mapping=True)
    assert encoded["offset_mapping"] == [(0, 0), (0, 2), (2, 6), (0, 0)]


def test_a_user_word_becomes_a_token():
    model, tokenizer = make()
    tokenizer.add_words(["好的"])
    assert tokenizer.tokenize("好的") == ["好", "的"]  # creates the analyzer, which must be replaced
    add_words(model, tokenizer, ["好的"])
    assert tokenizer.tokenize("好的") == ["好的"] and tokenizer.user_words == ["好的"]


def test_added_tokens_keep_their_ids():
    model, tokenizer = make()
    tokenizer.add_tokens(["<e1>"])
    tokenizer.add_special_tokens({"extra_special_tokens": ["<e2>"]})
    model.resize_token_embeddings(len(tokenizer))
    new = add_words(model, tokenizer, ["天气"])
    size = len(TOKENS)
    assert new == {"天气": size + 2} and len(tokenizer) == model.config.vocab_size == size + 3
    assert tokenizer("<e1>天气<e2>", add_special_tokens=False)["input_ids"] == [size, size + 2, size + 1]


def test_padding_rows_are_used():
    model, tokenizer = make()
    model.resize_token_embeddings(64)
    assert list(add_words(model, tokenizer, ["天气"]).values()) == [len(TOKENS)]
    assert model.config.vocab_size == model.get_input_embeddings().weight.shape[0] == 64
    row = model.get_input_embeddings().weight
    assert torch.allclose(row[len(TOKENS)], row[[TOKENS.index("天"), TOKENS.index("气")]].mean(0), atol=1e-7)


def test_add_words_repeatedly():
    model, tokenizer = make()
    add_words(model, tokenizer, ["天气"])
    assert add_words(model, tokenizer, ["天气好"]) == {"天气好": len(TOKENS) + 1}
    row = model.get_input_embeddings().weight
    # It now consists of the first word.
    assert torch.allclose(row[-1], (row[-2] + row[TOKENS.index("好")]) / 2, atol=1e-7)
    assert add_words(model, tokenizer, []) == {}


def test_model_and_tokenizer_load_in_a_new_process(tmp_path, words):
    model, tokenizer = make()
    add_words(model, tokenizer, words)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    expected = states(model, tokenizer, ["中国人民爱天气"])
    np.save(tmp_path / "logits.npy", expected.logits.numpy())
    code = """
import json, sys, numpy as np, torch, kexue_hf, warnings
from transformers import AutoModelForMaskedLM, AutoTokenizer
warnings.simplefilter("error", kexue_hf.VocabularyMismatchWarning)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForMaskedLM.from_pretrained(sys.argv[1]).eval()
assert kexue_hf.check_pairing(model, tokenizer) == []
with torch.no_grad():
    logits = model(**tokenizer(["中国人民爱天气"], return_tensors="pt")).logits
same = bool((logits.numpy() == np.load(sys.argv[1] + "/logits.npy")).all())
print(json.dumps([tokenizer.tokenize("中国人民爱天气"), same]))
"""
    printed = run_elsewhere(code, tmp_path, tmp_path)
    assert json.loads(printed.splitlines()[-1]) == [["中国人民", "爱", "天气"], True]


def test_copies_and_pickles_keep_their_words(words):
    model, tokenizer = make()
    old = copy.copy(tokenizer)
    add_words(model, tokenizer, words)
    assert old.tokenize("天气") == ["天", "气"] and len(old) == len(TOKENS)
    for other in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer), copy.copy(tokenizer)):
        assert other.tokenize("天气") == ["天气"] and len(other) == len(tokenizer)


class Watched(WoBertTokenizer):
    """Encode a text in another thread after each assignment, as a concurrent thread may."""

    watching = False

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if Watched.watching and name != "_made":
            Watched.watching = False
            # A copy has no analyzer yet and must create one.
            copied = copy.copy(self)
            thread = threading.Thread(target=lambda: Watched.seen.add(tuple(copied("爱北京天气")["input_ids"])))
            thread.start()
            thread.join()
            Watched.watching = True


def test_other_threads_may_encode_meanwhile(monkeypatch):
    """The text has a new word that overlaps one of the vocabulary, and a word that jieba knows."""
    tokenizer = Watched(vocab=TOKENS)
    old = tokenizer("爱北京天气")["input_ids"]
    Watched.seen = set()
    monkeypatch.setattr(Watched, "watching", True)
    tokenizer.grow_vocabulary(["爱北京", "天气"])
    Watched.watching = False
    new = tokenizer("爱北京天气")["input_ids"]
    assert new == [2, len(TOKENS), len(TOKENS) + 1, 3] != old
    assert Watched.seen <= {tuple(old), tuple(new)}


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (["天气", "中国"], r"'中国' is in the vocabulary already \(id \d+\)"),
        (["天气", "天气"], "'天气' is given twice"),
        (["天气", "BCA", "bca"], "'bca' is given twice"),
        (["天气", ""], "got ''"),
        (["天气", "天 气"], "must not hold white space, got '天 气'"),
        (["天气", "[MASK]天"], r"which has '\[MASK\]'"),
        (["天气", "##天"], "begins with ##"),
        (["天气", 3], "must be a string, got 3"),
        ("天气", "put it in brackets"),
        (["天气", "中国", "a b"], "'中国' is in the vocabulary.*'a b'"),
    ],
    ids=["known", "twice", "twice_by_case", "empty", "space", "special", "piece", "number", "string", "all_named"],
)
def test_bad_words_change_nothing(bad, problem):
    model, tokenizer = make()
    before = states(model, tokenizer)
    with pytest.raises(InputError, match=problem):
        add_words(model, tokenizer, bad)
    assert len(tokenizer) == model.config.vocab_size == len(TOKENS) and tokenizer.user_words == []
    assert tokenizer.tokenize("天气") == ["天", "气"]
    assert torch.equal(states(model, tokenizer).logits, before.logits)
    assert model.config.vocab_fingerprint == tokenizer.vocab_fingerprint


def test_a_word_that_holds_an_added_token_in_its_normal_form_is_refused():
    model, tokenizer = make()
    tokenizer.add_tokens(["abc"])
    model.resize_token_embeddings(len(tokenizer))
    with pytest.raises(InputError, match="special or added token, got 'xABC', which has 'abc'"):
        add_words(model, tokenizer, ["xABC"])
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) == len(TOKENS) + 1


def test_a_wrapped_model_is_refused():
    model, tokenizer = make()
    with pytest.raises(InputError, match=r"got a DataParallel: give the wrapped model \(model\.module\)"):
        add_words(torch.nn.DataParallel(model), tokenizer, ["天气"])
    assert len(tokenizer) == len(TOKENS)


def test_the_tokenizer_of_another_model_is_refused():
    model, _ = make()
    other = WoBertTokenizer(vocab=[*TOKENS[:-1], "天安"])
    with pytest.raises(InputError, match="does not belong to this model: the model's vocabulary has the fingerprint"):
        add_words(model, other, ["天气"])
    model.config.vocab_fingerprint = None
    size = len(TOKENS)
    problem = f"the tokenizer has {size + 1} tokens, the model's embedding {size} rows"
    with pytest.raises(InputError, match=problem):
        add_words(model, WoBertTokenizer(vocab=[*TOKENS, "天安"]), ["天气"])


def test_a_character_tokenizer_is_refused():
    model, _ = make()
    with pytest.raises(InputError, match=r"expected a WoBertTokenizer, got a BertTokenizer: .* kexue_hf\.extend"):
        add_words(model, BertTokenizer(vocab={token: index for index, token in enumerate(TOKENS)}), ["天气"])


def test_auto_classes_of_a_roformer(tmp_path):
    model, tokenizer = make("RoFormerForMaskedLM")
    add_words(model, tokenizer, ["天气"])
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    again = WoBertTokenizer.from_pretrained(tmp_path)
    assert again.tokenize("天气") == ["天气"] and loaded.config.vocab_size == len(again)
    assert torch.equal(states(loaded, again).logits, states(model, tokenizer).logits)
