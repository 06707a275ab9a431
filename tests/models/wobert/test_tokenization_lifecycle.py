"""Everything that happens to a tokenizer besides tokenizing: saved, loaded, copied, pickled, hashed, extended, shared.

Oracle: the tokenizer before.
"""

import copy
import importlib
import json
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import jieba
import pytest
from datasets import Dataset
from datasets.fingerprint import Hasher
from torch.utils.data import DataLoader
from transformers import AddedToken, AutoTokenizer

from kexue_hf.models.wobert.segmentation_wobert import Segmenter
from kexue_hf.models.wobert.tokenization_wobert import WoBertTokenizer
from kexue_hf.models.wobert.vocabulary_wobert import (
    VocabularyMismatchWarning,
    load_vocabulary,
    vocabulary_fingerprint,
)
from tests.fresh_process import TRANSFORMERS, run_elsewhere, run_forked
from tests.models.wobert import tokenizer_oracle as oracle
from tests.models.wobert.tokenizer_collate import Collate
from tests.models.wobert.tokenizer_texts import ORDINARY

TEXT = "苏剑林的[MASK]空间在哈利·波特里, hello 科学空间 3.14%É"
USER_WORDS = ["苏剑林", "哈利·波特"]
REPOSITORY = Path(__file__).resolve().parents[3]


def make(**kwargs):
    return WoBertTokenizer(vocab=oracle.make_vocabulary(), **kwargs)


def outcome(tokenizer, text=TEXT):
    found = tokenizer(text, return_offsets_mapping=True)
    return found["input_ids"], found["offset_mapping"], found.word_ids(), tokenizer.decode(found["input_ids"])


@pytest.fixture
def tokenizer():
    return make(user_words=USER_WORDS, model_max_length=99)


# --- saving and loading


def test_a_saved_folder_is_complete(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["auto_map"] == {"AutoTokenizer": ["tokenization_wobert.WoBertTokenizer", None]}
    assert config["user_words"] == USER_WORDS
    assert config["tokenizer_class"] == "WoBertTokenizer"
    assert config["model_max_length"] == 99
    assert "vocab_file" not in config
    assert not any("/" in str(value) for value in config.values()), "no path of this machine"
    assert (tmp_path / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1] == oracle.make_vocabulary()
    assert (tmp_path / "tokenization_wobert.py").exists()


@pytest.mark.parametrize("load", [WoBertTokenizer.from_pretrained, AutoTokenizer.from_pretrained], ids=["own", "auto"])
def test_loading_gives_the_same_tokenizer(tokenizer, tmp_path, load):
    tokenizer.add_words(["科学空间"])
    tokenizer.add_tokens(["hello 科学"])
    tokenizer.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert outcome(loaded) == outcome(tokenizer)
    assert loaded.user_words == [*USER_WORDS, "科学空间"]
    assert (len(loaded), loaded.vocab_size, loaded.model_max_length) == (len(tokenizer), tokenizer.vocab_size, 99)
    assert loaded.vocab_fingerprint == tokenizer.vocab_fingerprint
    loaded.save_pretrained(tmp_path / "again")
    assert outcome(load(tmp_path / "again")) == outcome(tokenizer)


@pytest.mark.parametrize("lower", [True, False], ids=["lower", "cased"])
def test_case_is_remembered(lower, tmp_path):
    make(do_lower_case=lower).save_pretrained(tmp_path)
    loaded = WoBertTokenizer.from_pretrained(tmp_path)
    assert loaded.do_lower_case is lower
    assert loaded.tokenize("HELLO") == (["hello"] if lower else ["[UNK]"])


PORTABLE = """
import json, sys
sys.modules["kexue_hf"] = None
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)
found = tokenizer(sys.argv[2], return_offsets_mapping=True)
found = [found["input_ids"], found["offset_mapping"], found.word_ids(), tokenizer.decode(found["input_ids"])]
assert type(tokenizer).__module__.startswith("transformers_modules.")
tokenizer.save_pretrained(sys.argv[3])
print(json.dumps(found))
"""


def test_a_folder_loads_where_this_package_is_not_installed(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "saved")
    printed = run_elsewhere(PORTABLE, tmp_path, tmp_path / "saved", TEXT, tmp_path / "again")
    assert json.loads(printed.splitlines()[-1]) == json.loads(json.dumps(outcome(tokenizer)))
    assert outcome(WoBertTokenizer.from_pretrained(tmp_path / "again")) == outcome(tokenizer)


SUBCLASS = """
import json, sys
from kexue_hf.models.wobert.tokenization_wobert import WoBertTokenizer
from tests.models.wobert import tokenizer_oracle as oracle
class MyTokenizer(WoBertTokenizer):
    def tokenize(self, text, *args, **kwargs):
        return super().tokenize(text.replace("X", ""), *args, **kwargs)
if __name__ == "__main__":
    WoBertTokenizer(vocab=oracle.make_vocabulary()).save_pretrained(sys.argv[1] + "/ours")
    for made in (MyTokenizer(vocab=oracle.make_vocabulary()), MyTokenizer.from_pretrained(sys.argv[1] + "/ours")):
        made.save_pretrained(sys.argv[1] + "/mine")
        print(json.dumps(json.load(open(sys.argv[1] + "/mine/tokenizer_config.json")).get("auto_map")))
        print(json.dumps(MyTokenizer.from_pretrained(sys.argv[1] + "/mine").tokenize("今X天")))
"""


def test_a_subclass_of_a_notebook_names_no_file_that_is_not_there(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SUBCLASS, encoding="utf-8")
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    printed = run_forked(TRANSFORMERS, code.replace("sys.argv[1]", repr(str(script))), tmp_path)
    found = [json.loads(line) for line in printed.splitlines() if line.startswith(("null", '["'))]
    assert found == [None, ["今天"]] * 2
    assert "defined in __main__" in printed
    assert not (tmp_path / "mine" / "tokenization_wobert.py").exists()


def test_a_subclass_of_a_module_brings_its_file(tmp_path, monkeypatch):
    (tmp_path / "my_words.py").write_text(SUBCLASS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    module = importlib.import_module("my_words")
    monkeypatch.delitem(sys.modules, "my_words")
    monkeypatch.setitem(sys.modules, "my_words", module)
    folder = tmp_path / "saved"
    module.MyTokenizer(vocab=oracle.make_vocabulary()).save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["auto_map"] == {"AutoTokenizer": ["my_words.MyTokenizer", None]}
    loaded = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    assert type(loaded).__name__ == "MyTokenizer"
    assert loaded.tokenize("今X天") == ["今天"]


def test_only_one_vocabulary(tmp_path):
    with pytest.raises(ValueError, match=r"either vocab_file=, .*neither"):
        WoBertTokenizer()
    with pytest.raises(ValueError, match="and not both"):
        WoBertTokenizer(vocab_file=tmp_path / "vocab.txt", vocab=["[UNK]"])
    with pytest.raises(ValueError, match=r"cannot read the vocabulary .*vocab\.txt: No such file"):
        WoBertTokenizer(tmp_path / "vocab.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 tokens has no '\\[UNK\\]'"),
        ("今天\n天气\n".encode(), "2 tokens has no '\\[UNK\\]'"),
        (b"[UNK]\n\xff\xfe\n", "line 2: not UTF-8"),
    ],
    ids=["empty", "no-unk", "not-utf-8"],
)
def test_a_file_that_is_no_vocabulary(content, message, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        WoBertTokenizer(tmp_path / "vocab.txt")
    with pytest.raises(ValueError, match=message):
        WoBertTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        ({"[UNK]": 0, "a": 0}, "a distinct id"),
        ({"[UNK]": 0, "a": -1}, "a distinct id"),
        ({"[UNK]": 0, "a": "1"}, "a distinct id"),
        (["[UNK]", 3], "a token must be a string, got 3"),
    ],
    ids=["twice", "negative", "no-number", "no-string"],
)
def test_a_vocabulary_that_is_none(vocab, message):
    with pytest.raises(ValueError, match=message):
        WoBertTokenizer(vocab=vocab)


def test_a_token_that_a_file_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="token 5, 'a\\\\n', has a line end in it"):
        WoBertTokenizer(vocab=[*oracle.SPECIAL, "a\n"]).save_pretrained(tmp_path)


def test_lines_that_occur_twice(tmp_path):
    """The last one wins, as in Google's BERT; no id is given twice, and the file stays the same when saved again."""
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*oracle.SPECIAL, "今天", "今天", "天气"]) + "\n", encoding="utf-8")
    tokenizer = WoBertTokenizer(path)
    assert tokenizer.convert_tokens_to_ids(["今天", "天气"]) == [6, 7]
    assert (tokenizer.vocab_size, len(tokenizer), len(tokenizer.get_vocab())) == (8, 8, 8)
    vocabulary = load_vocabulary(path)
    assert tokenizer.vocab_fingerprint == vocabulary_fingerprint(sorted(vocabulary, key=vocabulary.__getitem__))
    tokenizer.add_tokens(["new"])
    assert tokenizer.convert_tokens_to_ids("new") == 8
    tokenizer.save_vocabulary(str(tmp_path), "again")
    assert load_vocabulary(tmp_path / "again-vocab.txt") == vocabulary


# --- the guard


def write_config(folder, **config):
    (folder / "config.json").write_text(json.dumps({"model_type": "wobert", **config}), encoding="utf-8")


def test_a_config_that_fits_is_silent(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    size, fingerprint = tokenizer.vocab_size, tokenizer.vocab_fingerprint
    for config in (
        {},
        {"vocab_size": size},
        {"vocab_size": size, "vocab_fingerprint": fingerprint},
        {"vocab_size": size + 6, "vocab_fingerprint": fingerprint},
        {"vocab_size": size + 6},
    ):
        write_config(tmp_path, **config)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            WoBertTokenizer.from_pretrained(tmp_path)
            # The model can be resized only once the tokenizer is there.
            WoBertTokenizer.from_pretrained(tmp_path, extra_special_tokens=["<e>"])
    (tmp_path / "config.json").write_text("no json", encoding="utf-8")
    WoBertTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"vocab_fingerprint": "0123456789abcdef"},
        {"vocab_size": 21128, "vocab_fingerprint": "0123456789abcdef"},
        {"vocab_size": 7, "vocab_fingerprint": None},
    ],
    ids=["content", "content-and-size", "too-small"],
)
def test_a_config_of_another_vocabulary_is_warned_of(tokenizer, tmp_path, change):
    tokenizer.save_pretrained(tmp_path)
    config = {"vocab_size": tokenizer.vocab_size, "vocab_fingerprint": tokenizer.vocab_fingerprint}
    write_config(tmp_path, **{**config, **change})
    with pytest.warns(VocabularyMismatchWarning, match="does not belong to the model beside it") as caught:
        WoBertTokenizer.from_pretrained(tmp_path)
    (warning,) = [w for w in caught if "does not belong" in str(w.message)]
    key = "vocab_fingerprint" if change["vocab_fingerprint"] else "vocab_size"
    assert str(change[key]) in str(warning.message) and str(getattr(tokenizer, key)) in str(warning.message)


# --- user words and added tokens


@pytest.mark.parametrize("backend", ["rjieba", "jieba"])
def test_user_words_are_one_unit(backend):
    words = [
        "苏剑林",
        "哈利·波特",
        "科学空间",
        "gpt-4",
        "北京大学生",
        "γ射线",
        "㐀㐁",
        "今天天气",
        "新·词",
        "新·词·三",
    ]
    segment = Segmenter(words, backend)
    for word in words:
        assert segment(word) == [word]
    assert segment("我爱苏剑林的科学空间") == ["我", "爱", "苏剑林", "的", "科学空间"]
    assert segment("哈利·波特和新·词·三") == ["哈利·波特", "和", "新·词·三"]
    assert "".join(segment("".join(ORDINARY))) == "".join(ORDINARY)


def test_user_words_are_cut_alike_by_both_segmenters():
    words = ["".join(pair) for pair in zip(oracle.jieba_words(300), oracle.jieba_words(301), strict=False)]
    words += ["哈利·波特", "3d打印", "a股", "c++程序"]
    rust, python = Segmenter(words, "rjieba"), Segmenter(words, "jieba")
    text = "".join(word + other for word, other in zip(words, oracle.jieba_words(400), strict=False))
    assert rust(text) == python(text)
    assert rust(text) != oracle.jieba_cut(text)
    for word in words:
        assert rust(word) == python(word) == [word]


def test_ascii_user_words_leave_longer_ones_whole():
    for backend in ("rjieba", "jieba"):
        assert Segmenter(["ai"], backend)("maintain ai") == ["maintain", " ", "ai"]


def test_user_words_are_normalised_and_counted_once():
    tokenizer = make()
    assert tokenizer.add_words(["苏剑林", "苏剑林", "ÉCOLE-新"]) == 2
    assert tokenizer.add_words(["苏剑林"]) == 0
    assert tokenizer.add_words(["ABC", "abc"]) == 1
    assert tokenizer.add_words(["Abc", "abcd"]) == 1
    assert make(do_lower_case=False).add_words(["ABC", "abc"]) == 2
    found = tokenizer("école-新 苏剑林")
    assert found.word_ids()[1:-1] == [*[0] * (len(found.tokens()) - 5), *[1] * 3]
    tokenizer.do_lower_case = False
    assert tokenizer("苏剑林").word_ids() == [None, 0, 0, 0, None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("苏剑林", "put it in brackets"),
        ([""], "a character left"),
        (["\u0301"], "a character left"),
        (["苏 剑林"], "white space"),
        (["苏\u3000"], "white space"),
        ([3], "must be a string, got 3 of type int"),
        ([None], "must be a string"),
        (["苏\ud800"], "lone surrogate"),
    ],
    ids=["string", "empty", "mark", "space", "wide-space", "number", "none", "surrogate"],
)
def test_bad_user_words_are_refused(words, message):
    tokenizer = make()
    before = outcome(tokenizer)
    with pytest.raises(ValueError, match=message):
        tokenizer.add_words(words)
    with pytest.raises(ValueError, match=message):
        make(user_words=words)
    assert (tokenizer.user_words, outcome(tokenizer)) == ([], before)


@pytest.mark.parametrize("word", ["x[MASK]y", "科学空间", "大科学空间站"])
def test_words_that_hold_a_token_are_refused(word):
    tokenizer = make(user_words=USER_WORDS)
    tokenizer.add_tokens(["科学空间"])
    with pytest.raises(ValueError, match=r"a special or added token, got .*, which has '(\[MASK\]|科学空间)'"):
        tokenizer.add_words(["今天天气", word])
    assert tokenizer.user_words == USER_WORDS


@pytest.mark.parametrize("token", ["学习", "深度学习模型"], ids=["part", "whole"])
def test_words_that_hold_a_younger_token_do_no_harm(token, tmp_path):
    tokenizer = make()
    tokenizer.add_words(["深度学习模型", "苏剑林"])
    tokenizer.add_tokens([token])
    text = "苏剑林的深度学习模型"
    assert token in tokenizer.tokenize(text)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.user_words == ["深度学习模型", "苏剑林"]
    assert outcome(loaded, text) == outcome(tokenizer, text)
    assert loaded.tokenize(text, split_special_tokens=True) == tokenizer.tokenize(text, split_special_tokens=True)


def test_added_tokens_are_found_in_the_text():
    tokenizer = make()
    size = len(tokenizer)
    tokenizer.add_tokens(["苏剑林", "NewTok", AddedToken("<e>", lstrip=True, rstrip=True, normalized=False)])
    tokenizer.add_special_tokens({"extra_special_tokens": ["[E1]"]})
    assert len(tokenizer) == size + 4
    text = "苏剑林É NEWTOK <e>  好[E1][e1]"
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert found.tokens() == ["苏剑林", "e", "NewTok", "<e>", "好", "[E1]", "[", "e", "##1", "]"]
    assert [text[a:b] for a, b in found["offset_mapping"]][:6] == ["苏剑林", "É", "NEWTOK", " <e>  ", "好", "[E1]"]
    assert found["offset_mapping"] == found.encodings[0].offsets
    assert "[E1]" not in tokenizer.decode(found["input_ids"], skip_special_tokens=True)
    assert tokenizer.tokenize("[E1]", split_special_tokens=True) == ["[", "e", "##1", "]"]
    nested = make()
    nested.add_special_tokens({"extra_special_tokens": ["<e", "<e1>", "<e1"]})
    assert nested.tokenize("<e1><e1<e") == ["<e1>", "<e1", "<e"]
    single = make()
    single.add_tokens([AddedToken("ab", single_word=True, normalized=False)])
    assert single.tokenize("ab xaby ab。") == ["ab", "x", "##a", "##b", "##y", "ab", "。"]


def test_special_tokens_may_change():
    tokenizer = make()
    assert tokenizer.tokenize("[MASK]<m>")[0] == "[MASK]"
    tokenizer.add_special_tokens({"mask_token": "<m>"})
    assert tokenizer.tokenize("<m>") == ["<m>"]
    assert tokenizer.mask_token_id == len(oracle.make_vocabulary())


def test_flags_of_an_added_token_may_change(tmp_path):
    tokenizer = make()
    text = "今天 <e>  天气"

    def span():
        (start, end) = tokenizer(text, return_offsets_mapping=True)["offset_mapping"][2]
        return text[start:end]

    tokenizer.add_tokens(["<e>"])
    assert span() == "<e>"
    tokenizer.add_tokens([AddedToken("<e>", lstrip=True)])
    assert span() == " <e>"
    tokenizer.added_tokens_decoder = {tokenizer.convert_tokens_to_ids("<e>"): AddedToken("<e>", rstrip=True)}
    assert span() == "<e>  "
    tokenizer.save_pretrained(tmp_path)
    tokenizer = WoBertTokenizer.from_pretrained(tmp_path)
    assert span() == "<e>  "


def test_the_token_for_the_unknown_may_be_an_added_one(tmp_path):
    tokenizer = make()
    tokenizer.add_special_tokens({"unk_token": "<unk>"})
    new = len(oracle.make_vocabulary())
    assert tokenizer("今天鿿", add_special_tokens=False)["input_ids"][-1] == tokenizer.unk_token_id == new
    assert tokenizer.convert_tokens_to_ids("没有的") == new
    assert tokenizer.convert_ids_to_tokens([10**6]) == ["<unk>"]
    tokenizer.save_pretrained(tmp_path)
    assert outcome(AutoTokenizer.from_pretrained(tmp_path), "今天鿿") == outcome(tokenizer, "今天鿿")


@pytest.mark.parametrize("unk", [None, "<nowhere>"], ids=str)
def test_without_a_token_for_the_unknown_nothing_is_encoded(unk):
    tokenizer = make()
    tokenizer("今天")
    tokenizer.unk_token = unk
    for call in (tokenizer, tokenizer.tokenize, tokenizer.convert_tokens_to_ids):
        with pytest.raises(ValueError, match=f"unk_token, .*, is {unk!r}.*add_special_tokens"):
            call("没有的")
    tokenizer.unk_token = "[UNK]"
    assert outcome(tokenizer) == outcome(make())


def test_a_folder_without_a_token_for_the_unknown_loads(tmp_path):
    tokenizer = make()
    tokenizer.unk_token = None
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.unk_token is None
    assert loaded.decode([6, 10**6, 6]) == tokenizer.decode([6, 6])
    with pytest.raises(ValueError, match=r"unk_token, .*, is None"):
        loaded("今天")


def test_jieba_itself_neither_rules_nor_suffers():
    tokenizer = WoBertTokenizer(vocab=[*oracle.SPECIAL, "科学", "空间", "科学空间"])
    segment = Segmenter(["北京人工"], "jieba")
    frequencies = dict(jieba.dt.FREQ)
    try:
        jieba.add_word("科学空间")
        assert jieba.lcut("科学空间") == ["科学空间"]
        assert tokenizer.tokenize("科学空间") == ["科学", "空间"]
        assert Segmenter(backend="jieba")("科学空间") == ["科学", "空间"]
        assert segment("北京人工") == ["北京人工"]
        assert "北京人工" not in jieba.dt.FREQ
        tokenizer.add_words(["科学空间", "北京人工"])
        jieba.del_word("科学空间")
        assert tokenizer.tokenize("科学空间") == ["科学空间"]
        assert "北京人工" not in jieba.dt.FREQ
        assert Segmenter(backend="jieba")("北京人工") == ["北京", "人工"]
    finally:
        jieba.dt.FREQ = frequencies


NO_CACHE = """
import os, sys, tempfile
from kexue_hf.models.wobert import batch_wobert
from kexue_hf.models.wobert.segmentation_wobert import Segmenter
for backend in ("jieba", "rjieba"):
    assert Segmenter(backend=backend)("今天天气") == ["今天天气"]
assert os.listdir(tempfile.gettempdir()) == [], os.listdir(tempfile.gettempdir())
assert os.listdir(os.path.expanduser("~")) == []
"""


def test_no_cache_is_left_or_read_in_the_common_directory(tmp_path):
    temporary, home = tmp_path / "tmp", tmp_path / "home"
    temporary.mkdir()
    home.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    done = subprocess.run([sys.executable, "-c", NO_CACHE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- copies, processes, threads


@pytest.mark.parametrize(
    "clone",
    [copy.deepcopy, copy.copy, lambda t: pickle.loads(pickle.dumps(t))],
    ids=["deepcopy", "copy", "pickle"],
)
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_copies_behave_the_same(tokenizer, clone, used):
    expected = outcome(make(user_words=USER_WORDS))
    if used:
        outcome(tokenizer)
    cloned = clone(tokenizer)
    assert outcome(cloned) == expected
    cloned.add_words(["科学空间"])
    cloned.add_tokens(["hello"])
    assert (outcome(tokenizer), tokenizer.user_words) == (expected, USER_WORDS) or clone is copy.copy


def test_caches_are_not_pickled(tokenizer):
    before = len(pickle.dumps(tokenizer))
    tokenizer(["不同的文字" + str(i) for i in range(1000)])
    assert len(pickle.dumps(tokenizer)) == before
    assert b"_made" not in pickle.dumps(tokenizer)


def test_encodings_travel_to_other_processes(tokenizer):
    batch = tokenizer([TEXT, "今天"], padding=True, return_offsets_mapping=True)
    again = pickle.loads(pickle.dumps(batch))
    assert again.word_ids(0) == batch.word_ids(0)
    assert again.tokens(1) == batch.tokens(1)
    assert len(pickle.dumps(tokenizer("今天"))) < 2000, "the tokenizer does not travel along"


HASH = """
import sys
from datasets.fingerprint import Hasher
from tests.models.wobert.test_tokenization_lifecycle import USER_WORDS, make
print(Hasher.hash(make(user_words=USER_WORDS, model_max_length=99)))
"""


@pytest.mark.slow
def test_the_hash_of_datasets_is_of_the_tokenizer_alone(tokenizer):
    fresh = Hasher.hash(tokenizer)
    outcome(tokenizer)
    tokenizer("今" * 200)
    len(tokenizer)
    assert Hasher.hash(tokenizer) == fresh
    assert Hasher.hash(pickle.loads(pickle.dumps(tokenizer))) == fresh
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", HASH], env=environment, capture_output=True, text=True)
    assert done.stdout.split()[-1:] == [fresh], done.stderr
    tokenizer.add_words(["科学空间"])
    changed = Hasher.hash(tokenizer)
    tokenizer.add_tokens(["x1"])
    assert len({fresh, changed, Hasher.hash(tokenizer)}) == 3


@pytest.mark.parametrize("processes", [None, 2])
def test_datasets_map(tokenizer, processes, tmp_path):
    texts = [*ORDINARY, TEXT] * 2
    data = Dataset.from_dict({"text": texts})
    mapped = data.map(
        lambda rows: tokenizer(rows["text"], return_offsets_mapping=True),
        batched=True,
        batch_size=4,
        num_proc=processes,
        cache_file_name=str(tmp_path / "mapped.arrow"),
    )
    expected = tokenizer(texts, return_offsets_mapping=True)
    assert list(mapped["input_ids"]) == expected["input_ids"]
    assert [[tuple(s) for s in row] for row in mapped["offset_mapping"]] == expected["offset_mapping"]
    assert tokenizer(data["text"])["input_ids"] == expected["input_ids"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader(tokenizer, method):
    outcome(tokenizer)  # A segmenter in the parent, for the forked ones to inherit.
    context = multiprocessing.get_context(method)
    loader = DataLoader(ORDINARY, 3, collate_fn=Collate(tokenizer), num_workers=1, multiprocessing_context=context)
    rows = [row.tolist() for batch in loader for row in batch["input_ids"]]
    expected = [
        row for i in range(0, len(ORDINARY), 3) for row in tokenizer(ORDINARY[i : i + 3], padding=True)["input_ids"]
    ]
    assert rows == expected


def test_threads_share_a_tokenizer(monkeypatch, request):
    from kexue_hf.models.wobert import analysis_wobert

    monkeypatch.setattr(analysis_wobert, "_CACHED_WORDS", 20)  # Caches that are emptied all the time.
    tokenizer = make(user_words=USER_WORDS)
    texts = [f"{text}{i}É한{chr(0x4E00 + i * 7)}Σ" for i in range(30) for text in (TEXT, *ORDINARY)]
    expected = make(user_words=USER_WORDS)(texts, return_offsets_mapping=True)
    failures = []

    def work():
        try:
            for _ in range(5):
                assert tokenizer(texts, return_offsets_mapping=True).data == expected.data
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    request.addfinalizer(lambda: sys.setswitchinterval(interval))
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize(
    ("name", "advice"),
    [("train_new_from_iterator", "build_vocabulary"), ("backend_tokenizer", "without a Rust tokenizer")],
)
def test_it_says_what_it_has_not(tokenizer, name, advice):
    assert not hasattr(tokenizer, name)
    with pytest.raises(AttributeError, match=f"WoBertTokenizer has no {name}: .*{advice}"):
        getattr(tokenizer, name)


def test_it_says_what_it_can_do(tokenizer):
    assert tokenizer.is_fast
    assert tokenizer("今天").is_fast
    assert tokenizer.model_input_names == ["input_ids", "token_type_ids", "attention_mask"]
    assert "WoBertTokenizer" in repr(tokenizer)
    logging.getLogger("transformers").debug("%r", tokenizer)
