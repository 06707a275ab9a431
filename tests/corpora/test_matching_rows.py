"""Read pairs from contest folders and .jsonl files; errors name file and line."""

import json
from pathlib import Path

import pytest

from kexue_hf.corpora.matching_rows import MatchingRow, read_matching_rows, tasks_of
from kexue_hf.errors import InputError
from tests.shared_data import SHARED, needs_shared

PAIR = {"text_a": "一", "text_b": "二", "task": "loose", "label": 1}
CONTEST = {"source": "一", "target": "二", "labelA": "1"}


def write(path: Path, *rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def contest(folder: Path) -> Path:
    for task in ("长长匹配B类", "短短匹配A类", "短短匹配B类"):
        label = "labelA" if "A" in task else "labelB"
        for part in ("train", "valid"):
            write(folder / task / f"{part}.txt", {"source": part, "target": task, label: "0"})
    write(folder / "else" / "note.txt", {})
    return folder


def test_a_contest_folder_has_one_task_per_folder(tmp_path):
    rows = read_matching_rows([contest(tmp_path)], "valid")
    names = ["短短匹配A类", "短短匹配B类", "长长匹配B类"]
    assert rows == [MatchingRow("valid", name, name, 0) for name in names] and tasks_of(rows) == names


def test_a_task_folder_a_contest_file_and_a_jsonl_file(tmp_path):
    contest(tmp_path)
    task = tmp_path / "短短匹配A类"
    pairs = write(tmp_path / "pairs.jsonl", PAIR, {**PAIR, "label": "0"})
    rows = read_matching_rows([task, task / "valid.txt", pairs])
    assert [(row.text_a, row.task, row.label) for row in rows] == [
        ("train", "短短匹配A类", 0),
        ("valid", "短短匹配A类", 0),
        ("一", "loose", 1),
        ("一", "loose", 0),
    ]


def test_a_relative_file_name_has_the_task_of_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(contest(tmp_path) / "短短匹配A类")
    assert [row.task for row in read_matching_rows(["train.txt", "."])] == ["短短匹配A类"] * 2


def test_tasks_are_sorted_by_name():
    assert tasks_of(MatchingRow("一", "二", task, 1) for task in ("b", "c", "a", "b")) == ["a", "b", "c"]


def test_a_parent_folder_gives_its_name(tmp_path, monkeypatch):
    (contest(tmp_path) / "短短匹配A类" / "below").mkdir()
    monkeypatch.chdir(tmp_path / "短短匹配A类" / "below")
    assert [row.task for row in read_matching_rows([".."])] == ["短短匹配A类"]


def test_a_label_of_the_other_standard_is_refused(tmp_path):
    path = write(tmp_path / "短短匹配A类" / "train.txt", CONTEST, {"source": "一", "target": "二", "labelB": "0"})
    with pytest.raises(
        InputError, match="line 2: has labelB, but is in the folder 短短匹配A类, whose rows have labelA"
    ):
        read_matching_rows([path])


def test_an_additional_source_column_is_ignored(tmp_path):
    assert read_matching_rows([write(tmp_path / "rows.jsonl", {**PAIR, "source": "lcqmc"})])[0].label == 1


def test_rows_of_the_only_task_need_not_name_it(tmp_path):
    path = write(tmp_path / "rows.jsonl", {key: value for key, value in PAIR.items() if key != "task"})
    assert read_matching_rows([path], task_names=["loose"])[0].task == "loose"
    with pytest.raises(InputError, match="line 1: 'task' is missing"):
        read_matching_rows([path], task_names=["loose", "strict"])
    assert read_matching_rows([path], default="strict")[0].task == "strict"


def test_a_single_file_is_accepted_but_a_single_task_name_is_not(tmp_path):
    path = write(tmp_path / "rows.jsonl", PAIR)
    assert read_matching_rows(path) == read_matching_rows(str(path)) == read_matching_rows([path])
    with pytest.raises(InputError, match=r"^task_names must be a list of names, got the string 'loose'$"):
        read_matching_rows(path, task_names="loose")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**PAIR, "label": None}, "no label: expected the column 'label', found only text_a"),
        ({"text_a": "一", "text_b": "二", "task": "loose"}, "no label: expected the column 'label'"),
        ({**PAIR, "label": 2}, "'label' must be 0 or 1, got 2"),
        ({**PAIR, "label": "yes"}, "'label' must be 0 or 1, got \"yes\""),
        ({**PAIR, "label": True}, "'label' must be 0 or 1, got true"),
        ({**PAIR, "label": 1.0}, "'label' must be 0 or 1, got 1.0"),
        ({**PAIR, "task": "lose"}, "unknown task 'lose'; known are 'loose', 'rows'"),
        ({**PAIR, "task": 3}, "'task' must be a name, got 3"),
        ({**PAIR, "text_b": 3}, "'text_b' must be a string, got int"),
        ({"text_a": "一", "task": "loose", "label": 0}, "no column 'text_b', found only text_a, task, label"),
        ({"source": "一", "target": "二"}, "no label: expected labelA or labelB, found only source, target"),
        ({**CONTEST, "labelB": "0"}, "has both labelA and labelB"),
        ({**CONTEST, "labelA": "-1"}, "'labelA' must be 0 or 1, got \"-1\""),
        ({"source": "一", "labelA": "1"}, "no column 'target', found only source, labelA"),
        ({**PAIR, "text_b": " \n"}, "text_b is empty; a pair needs two texts"),
        ({**PAIR, "text_a": "\u200b\ufeff"}, "text_a is empty"),
        ({**CONTEST, "target": ""}, "target is empty"),
        ({**PAIR, "task": " "}, "'task' must be a name, got \" \""),
        ({**PAIR, "task": "loose "}, "'task' must be a name, got \"loose \""),
        (["一", "二"], "expected a JSON object, got list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_say_file_and_line(tmp_path, row, message):
    # In the contest's format, the folder name is the task.
    path = write(tmp_path / "rows" / "train.txt", PAIR, row)
    with pytest.raises(InputError) as error:
        read_matching_rows([path], task_names=["loose", "rows"])
    assert f"train.txt, line 2: {message}" in str(error.value) and "\n" not in str(error.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.jsonl does not exist"):
        read_matching_rows([tmp_path / "nowhere.jsonl"])
    with pytest.raises(InputError, match=r"neither it nor a folder in it holds valid.txt"):
        read_matching_rows([tmp_path], "valid")
    with pytest.raises(InputError, match=r"rows.jsonl holds no rows; expected a .jsonl of text_a"):
        read_matching_rows([write(tmp_path / "rows.jsonl")])
    # This also holds if there are other rows.
    with pytest.raises(InputError, match=r"rows.jsonl holds no rows"):
        read_matching_rows([write(tmp_path / "pairs.jsonl", PAIR), tmp_path / "rows.jsonl"])


@needs_shared
def test_the_contest_data():
    assert SHARED is not None
    rows = read_matching_rows([SHARED / "data" / "sohu2021"], "valid")
    assert [len([row for row in rows if row.task == task]) for task in tasks_of(rows)] == [
        631,
        632,
        200,
        200,
        200,
        200,
    ]


def test_rows_of_a_table(tmp_path):
    (tmp_path / "a.tsv").write_text("text_a\ttext_b\ttask\tlabel\n好\t不好\tq\t1\n", encoding="utf-8")
    assert read_matching_rows(tmp_path / "a.tsv") == [MatchingRow("好", "不好", "q", 1)]
    (tmp_path / "a.csv").write_text("task,label,text_a,text_b\nq,1,好\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2: column 'text_b' is null"):
        read_matching_rows(tmp_path / "a.csv")
