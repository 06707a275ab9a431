"""How convert, export and doctor treat the lines of a vocab.txt. Oracle: tokenizer_oracle.py's `load_vocab`."""

from pathlib import Path

import pytest

from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.export import export
from kexue_hf.conversion.verify import verify
from kexue_hf.errors import ConversionError
from kexue_hf.hub.saved_model import examine_folder
from kexue_hf.models.wobert.tokenization_wobert import WoBertTokenizer
from tests.conversion.checkpoints import golden_copy
from tests.models.wobert import tokenizer_oracle as oracle


def change_lines(path: Path, changes: dict[int, str], mark: str = "") -> list[str]:
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in changes.items():
        lines[number] = line
    path.write_text(mark + "\n".join(lines), encoding="utf-8")
    return lines


def test_lines_are_written_as_bert4keras_reads_them(tmp_path: Path) -> None:
    source = golden_copy("wobert_tf_ckpt", tmp_path / "in")
    lines = change_lines(source / "vocab.txt", {40: "\u2028", 41: "龘\t99", 42: "驫 "})
    expected = oracle.load_vocab(source / "vocab.txt")
    for name in ("vocab.txt", "bert_config.json"):
        change_lines(source / name, {}, mark="\ufeff")
    assert not any("are the same token" in note for note in convert(source, tmp_path / "out").notes)
    assert verify(tmp_path / "out", source).differences == []
    assert examine_folder(tmp_path / "out") == []
    written = (tmp_path / "out" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert written == [*lines[:41], "龘", "驫", *lines[43:]]
    text = "龘驫龘\u2028" + lines[60]
    tokenizer = WoBertTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer(text)["input_ids"] == oracle.encode(text, expected)
    export(tmp_path / "out", tmp_path / "back")
    assert oracle.load_vocab(tmp_path / "back" / "vocab.txt") == expected


def test_a_repeated_line_is_noted(tmp_path: Path) -> None:
    source = golden_copy("wobert_tf_ckpt", tmp_path / "in")
    lines = (source / "vocab.txt").read_text(encoding="utf-8").split("\n")
    change_lines(source / "vocab.txt", {60: lines[50]})
    notes = convert(source, tmp_path / "out").notes
    assert any(f"lines 51 and 61 of the vocabulary are the same token, {lines[50]!r}" in note for note in notes)


def test_a_t_ta_keeps_lines_as_its_official_code(tmp_path: Path) -> None:
    source = golden_copy("tta_tf_ckpt", tmp_path / "in")
    change_lines(source / "vocab.txt", {20: "new york", 21: "x9 ", 22: "x8"})
    notes = convert(source, tmp_path / "out").notes
    assert not any("are the same token" in note for note in notes)
    assert (tmp_path / "out" / "vocab.txt").read_text(encoding="utf-8").split("\n")[20:23] == ["new york", "x9", "x8"]
    assert examine_folder(tmp_path / "out") == []


def test_an_added_token_with_white_space_is_refused(tmp_path: Path) -> None:
    source = golden_copy("wobert_tf_ckpt", tmp_path / "in")
    convert(source, tmp_path / "out")
    lines = (tmp_path / "out" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    tokenizer = WoBertTokenizer(vocab=lines[:345])
    tokenizer.add_tokens(["a b"])
    tokenizer.save_pretrained(tmp_path / "out")
    config = tmp_path / "out" / "config.json"
    fingerprint = tokenizer.vocab_fingerprint
    fields = config.read_text(encoding="utf-8").split('"vocab_fingerprint": "')
    config.write_text(f'{fields[0]}"vocab_fingerprint": "{fingerprint}{fields[1][16:]}', encoding="utf-8")
    with pytest.raises(ConversionError, match="'a b' has white space in it: vocab"):
        export(tmp_path / "out", tmp_path / "back")


@pytest.mark.parametrize(
    "again", [{60: "龘", 70: "龘", 80: "龘"}, {60: "\u2028", 70: "\u3000", 80: ""}], ids=["token", "white"]
)
def test_exported_lines_are_all_different_to_bert4keras(again: dict[int, str], tmp_path: Path) -> None:
    source = golden_copy("wobert_tf_ckpt", tmp_path / "in")
    change_lines(source / "vocab.txt", again)
    assert any("are the same token" in note for note in convert(source, tmp_path / "out").notes)
    notes = export(tmp_path / "out", tmp_path / "back").notes
    assert any("2 lines of vocab.txt that no text contains became [unused...]" in note for note in notes)
    written = (tmp_path / "back" / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert len(set(written)) == len(written) == 347
    ids = oracle.load_vocab(tmp_path / "back" / "vocab.txt")
    assert sorted(ids.values()) == list(range(347))
    tokenizer = WoBertTokenizer.from_pretrained(tmp_path / "out")
    text = "".join(written[5:120]).replace("#", "")
    assert tokenizer(text)["input_ids"] == oracle.encode(text, ids)
    assert verify(tmp_path / "out", tmp_path / "back").differences == []
