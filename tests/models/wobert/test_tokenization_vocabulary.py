"""What the lines of a vocab.txt mean, and tokens that are missing or added.

Oracle: bert4keras' `load_vocab` with tokenizer_oracle.py, and transformers' own BertTokenizer.
"""

import pytest
from tokenizers import AddedToken
from transformers import BertTokenizer

from kexue_hf.models.wobert import analysis_wobert
from kexue_hf.models.wobert.tokenization_wobert import WoBertTokenizer
from tests.models.wobert import tokenizer_oracle as oracle

SPECIAL = oracle.SPECIAL
WHITE = ["\u2028", "\u3000", "\u00a0", " \t"]


def write(path, lines, mark=""):
    path.write_bytes((mark + "".join(f"{line}\n" for line in lines)).encode())
    return path


@pytest.mark.parametrize("white", WHITE, ids=ascii)
def test_a_line_of_white_space_is_a_row_that_no_text_leads_to(white, tmp_path, monkeypatch):
    lines = [*SPECIAL, "行", white, "走"]
    path = write(tmp_path / "vocab.txt", lines)
    expected = oracle.encode(f"行{white}行走", oracle.load_vocab(path))
    assert expected == [2, 5, 5, 7, 3]
    for tokenizer in (WoBertTokenizer(path), WoBertTokenizer(vocab=lines), BertTokenizer(str(path))):
        for way in (10**9, 0):  # one by one, and in a chunk
            monkeypatch.setattr(analysis_wobert, "_SMALL", way)
            assert tokenizer(f"行{white}行走")["input_ids"] == expected
    tokenizer = WoBertTokenizer(path)
    assert tokenizer._analyzer.analyse(f"行{white}走").ids == [5, 7]
    assert tokenizer.vocab_size == len(tokenizer) == 8
    tokenizer.save_pretrained(tmp_path / "saved")
    loaded = WoBertTokenizer.from_pretrained(tmp_path / "saved")
    assert (loaded.get_vocab(), loaded.vocab_fingerprint) == (tokenizer.get_vocab(), tokenizer.vocab_fingerprint)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["的\t99", "好"], "的好"),
        (["好 ", "的"], "的好"),
        ([" 好", "的"], "的好"),
        (["中国 12 n", "人"], "中国人"),
        (["好", "好 ", "的"], "好的"),
    ],
    ids=["count", "trailing", "leading", "dictionary", "again"],
)
def test_of_a_line_the_first_field_counts(lines, text, tmp_path):
    path = write(tmp_path / "vocab.txt", [*SPECIAL, *lines])
    tokenizer = WoBertTokenizer(path)
    if len({*tokenizer.get_vocab()}) == len({*oracle.load_vocab(path)}):
        assert tokenizer(text)["input_ids"] == oracle.encode(text, oracle.load_vocab(path))
    assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]
    tokenizer.save_pretrained(tmp_path / "saved")
    assert WoBertTokenizer.from_pretrained(tmp_path / "saved")(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_ids_behind_a_repeated_line_are_those_of_the_lines(tmp_path):
    """As in Google's BERT and transformers; bert4keras counts the different tokens, and gives one id to two tokens."""
    path = write(tmp_path / "vocab.txt", [*SPECIAL, "天", "气", "天", "好", "的"])
    ids = WoBertTokenizer(path)("天气好的", add_special_tokens=False)["input_ids"]
    assert ids == BertTokenizer(str(path))("天气好的", add_special_tokens=False)["input_ids"] == [7, 6, 8, 9]
    assert oracle.encode("天气好的", oracle.load_vocab(path))[1:-1] == [7, 6, 7, 8]


def test_a_byte_order_mark_is_no_part_of_the_first_token(tmp_path):
    tokenizer = WoBertTokenizer(write(tmp_path / "vocab.txt", [*SPECIAL, "天", "气"], mark="\ufeff"))
    assert (tokenizer.pad_token_id, len(tokenizer)) == (0, 7)
    assert tokenizer(["天", "天气"], padding=True)["input_ids"] == [[2, 5, 3, 0], [2, 5, 6, 3]]


@pytest.mark.parametrize("token", SPECIAL)
def test_a_special_token_that_is_missing_is_named(token, tmp_path):
    lines = [*(other for other in SPECIAL if other != token), "天"]
    for arguments in ({"vocab": lines}, {"vocab_file": write(tmp_path / "vocab.txt", lines)}):
        with pytest.raises(ValueError, match=rf"has no '\[{token[1:-1]}\]'"):
            WoBertTokenizer(**arguments)
    role = f"{token[1:-1].lower()}_token"
    assert len(WoBertTokenizer(vocab=[*lines, "<x>"], **{role: "<x>"})) == 6
    without = WoBertTokenizer(vocab=lines, **{role: None})
    assert getattr(without, role) is None and len(without) == 5
    without.add_special_tokens({role: "<x>"})
    without.save_pretrained(tmp_path / "saved")
    assert getattr(WoBertTokenizer.from_pretrained(tmp_path / "saved"), f"{role}_id") == 5


@pytest.mark.parametrize("lower", [True, False], ids=["lower", "cased"])
def test_an_added_token_keeps_its_name(lower, tmp_path):
    path = write(tmp_path / "vocab.txt", [*SPECIAL, "天", "a"])
    new = ["<NUM>", AddedToken("É", lstrip=True), AddedToken("<X>", normalized=False)]
    tokenizers = [WoBertTokenizer(path, do_lower_case=lower), BertTokenizer(str(path), do_lower_case=lower)]
    for tokenizer in tokenizers:
        assert tokenizer.add_tokens(new) == 3 and tokenizer.add_tokens(["<NUM>"]) == 0
    ours, theirs = tokenizers
    assert ours.convert_tokens_to_ids(["<NUM>", "É", "<X>"]) == [7, 8, 9]
    assert [token.content for token in new[1:]] == ["É", "<X>"], "the caller's own"
    assert ours.get_added_vocab() == {
        key: theirs.get_added_vocab()[key] for key in sorted(theirs.get_added_vocab(), key=ours.convert_tokens_to_ids)
    }
    for text in ("天<NUM>天", "天<num>天", "天 É", "e", "<x><X>"):
        ids = ours(text)["input_ids"]
        assert ids == theirs(text)["input_ids"], text
    assert ours.decode(ours("<NUM>", add_special_tokens=False)["input_ids"]) == "<NUM>"
    ours.save_pretrained(tmp_path / "saved")
    loaded = WoBertTokenizer.from_pretrained(tmp_path / "saved")
    assert loaded.convert_tokens_to_ids("<NUM>") == 7
    assert loaded("天<num>É")["input_ids"] == ours("天<num>É")["input_ids"]


def test_an_added_token_with_white_space_survives_growing(tmp_path):
    tokenizer = WoBertTokenizer(vocab=[*SPECIAL, "new", "york", "天", "气"])
    tokenizer.add_tokens(["new york"])
    tokenizer.grow_vocabulary(["天气"])
    tokenizer.save_pretrained(tmp_path)
    loaded = WoBertTokenizer.from_pretrained(tmp_path)
    assert loaded("new york天气 new")["input_ids"] == tokenizer("new york天气 new")["input_ids"] == [2, 9, 10, 5, 3]
    assert loaded.vocab_fingerprint == tokenizer.vocab_fingerprint
    with pytest.raises(ValueError, match="has white space in it"):
        WoBertTokenizer(vocab=[*SPECIAL, "a b"]).save_pretrained(tmp_path)
