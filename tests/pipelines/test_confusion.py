"""Confusion sets from the included tables and from a user's file."""

import json
from pathlib import Path

import pytest

from kexue_hf import Confusion
from kexue_hf.pipelines.confusion import COSTS, KINDS, is_han
from kexue_hf.pipelines.text_correction import DEFAULT_THRESHOLD

PAIRS = {
    "sound": ["境竟", "哪那", "在再", "的得", "地的", "做作", "己几", "女努"],
    "near_sound": ["情勤", "张脏", "女努", "牛流", "是四", "分很"],
    "shape": ["待侍", "己已", "宣宜", "未末", "士土", "慢漫", "妳你"],
}


@pytest.mark.parametrize(("kind", "pair"), [(kind, pair) for kind, pairs in PAIRS.items() for pair in pairs])
def test_known_pairs_are_confused_in_both_directions(kind: str, pair: str) -> None:
    confusion = Confusion.of_kinds(kind)
    one, other = pair
    expected = pair != "女努" or kind == "near_sound"  # nü and nu: near, not the same
    assert (other in confusion(one)) == (one in confusion(other)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_symmetric_over_single_characters(kind: str) -> None:
    mapping = Confusion.of_kinds(kind).mapping
    assert len(mapping) > 8000
    for char, others in mapping.items():
        assert is_han(char) and len(char) == 1
        assert char not in others
        assert all(mapping[other][char] == cost for other, cost in others.items())


def test_kinds_are_merged() -> None:
    sound, shape = Confusion.of_kinds("sound"), Confusion.of_kinds("shape")
    both = Confusion.of_kinds("sound", "shape")
    assert set(both("待")) == set(sound("待")) | set(shape("待"))
    assert set(sound("境")) < set(Confusion.of_kinds("sound", "near_sound")("境"))


def test_likelier_candidates_cost_less() -> None:
    costs = Confusion.of_kinds(*KINDS)("竟")
    order = ["镜", "净", "精", "近", "章"]  # sounds and looks alike, sounds alike, other tone, near sound, shape
    assert [costs[char] for char in order] == sorted({costs[char] for char in order})
    assert costs["净"] == Confusion.of_kinds("sound")("竟")["净"] == Confusion.of_kinds("sound")("竟")["镜"] == 0
    assert Confusion({"竟": {"境": 0.5}})("竟") == {"境": 0.5}
    with pytest.raises(ValueError, match="the cost of '境' for '竟' must be finite"):
        Confusion({"竟": {"境": float("nan")}})


def test_costs_and_threshold_match_the_benchmark() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "results" / "tta_correction_constants.json"
    counted = json.loads(path.read_text("utf-8"))
    assert counted["costs"] == COSTS
    assert counted["threshold"] == DEFAULT_THRESHOLD
    by_threshold = counted["F1 of characters on these training rows"]
    assert max(by_threshold, key=by_threshold.get) == str(DEFAULT_THRESHOLD)


def test_custom_costs() -> None:
    own = Confusion.of_kinds(*KINDS, costs={"other tone": 7.0, "shape too": -0.25})("竟")
    assert [own[char] for char in "镜净精近章"] == [-0.25, 0.0, 7.0, COSTS["near sound"], COSTS["shape"]]
    with pytest.raises(ValueError, match=r"expected a cost from same tone, other tone.*got 'tone'"):
        Confusion.of_kinds(*KINDS, costs={"tone": 1.0})


def test_unknown_characters_have_no_candidates() -> None:
    confusion = Confusion.of_kinds(*KINDS)
    assert confusion("龘") == confusion("a") == confusion("") == {}


def test_a_words_candidates_differ_in_one_character_unless_it_has_an_entry() -> None:
    confusion = Confusion({"在": ["再", "载"], "见": ["现"], "在于": ["载于"]})
    assert list(confusion("在见")) == ["再见", "载见", "在现"]
    assert list(confusion("在于")) == ["载于"]


def test_a_custom_file(tmp_path: Path) -> None:
    plain, lines = tmp_path / "mine.tsv", tmp_path / "mine.jsonl"
    plain.write_bytes("\ufeff竟\t境竞\n\n在\t再 载\r\n竟\t静 境\n因该\t应该 应当".encode())
    rows = [{"text": "竟", "candidates": "境竞"}, {"text": "在", "candidates": ["再", "载"]}]
    rows += [{"text": "竟", "candidates": ["静"]}, {"text": "因该", "candidates": ["应该", "应当"]}]
    lines.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    expected = {"竟": ["境", "竞", "静"], "在": ["再", "载"], "因该": ["应该", "应当"]}
    for path in (plain, str(lines)):
        mapping = Confusion.from_file(path).mapping
        assert {text: list(others) for text, others in mapping.items()} == expected
        assert {cost for others in mapping.values() for cost in others.values()} == {0.0}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "竟\t境\n再 在\n", "line 2: expected a text, a tab"),
        ("a.tsv", "竟\t境\t静\n", "line 1: expected a text, a tab"),
        ("a.tsv", "因该\t应该 应\n", "line 1: expected candidates of 2 characters for '因该', got '应' with 1"),
        ("a.tsv", "a\tb\n", "line 1: expected only Chinese characters, got 'a'"),
        ("a.tsv", "\n", "expected at least one line with candidates"),
        ("a.jsonl", '{"text": "竟"}\n', "line 1: expected .jsonl: an object"),
        ("a.jsonl", '{"text": "竟", "candidates": [1]}\n', "line 1: expected .jsonl: an object"),
        ("a.jsonl", "竟\n", "line 1: expected .jsonl: an object"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Confusion.from_file(tmp_path / name)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes("竟\t境\n".encode("gb18030"))
    with pytest.raises(ValueError, match="line 1: not UTF-8"):
        Confusion.from_file(tmp_path / "a.tsv")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind of confusion from sound, near_sound, shape, got 'colour'"):
        Confusion.of_kinds("colour")
