"""Cards that people wrote: what is added or replaced, and that nothing else changes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from kexue_hf.hub.card_completion import complete_card, write_card
from kexue_hf.hub.card_names import published_card, with_repository
from kexue_hf.hub.front_matter import with_fields
from kexue_hf.hub.matcher_sections import matcher_sections
from kexue_hf.hub.model_card import CardFacts, render_card

Command = Callable[..., tuple[int, str, str]]
FACTS = CardFacts(
    "m", "wobert", "WoBertForMaskedLM", license="apache-2.0", language=("zh",), base_model=("a/b",), datasets=("a/c",)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved_in(tmp_path / "model")


def saved_in(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "wobert", "architectures": ["WoBertForMaskedLM"]}))
    return folder


@pytest.mark.parametrize("name", ["match", "pt", "one text", "tasks", "kexue-hf"])
def test_only_what_the_code_loads_is_renamed(name: str) -> None:
    def card(loaded: str) -> str:
        summary, sections = matcher_sections(loaded, [name], {}, {}, {}, max_length=8)
        return render_card(replace(FACTS, name=name, summary=summary, sections=sections))

    assert published_card(card(name), "own/er") == card("own/er")


@pytest.mark.parametrize("fence", ["```", "~~~", "````"])
def test_the_folder_is_renamed_in_every_kind_of_code_block(fence: str) -> None:
    text = (
        f'Mine: `from_pretrained("m")`\n\n{fence}python\nname = "m"\nAutoModel.from_pretrained("m", kind="m")\n'
        'pipeline("fill-mask", model="m")\n'
        f"{fence}\n\n{fence}bash\nkexue-hf match m m --task m\n{fence}\n"
    )
    expected = (
        text.replace('AutoModel.from_pretrained("m"', 'AutoModel.from_pretrained("own/er"')
        .replace('model="m"', 'model="own/er"')
        .replace("match m m", "match own/er m")
    )
    assert with_repository(text, "own/er", Path("m")) == expected


@pytest.mark.parametrize(
    "kept",
    [
        "Mine.\n\n~~~bash\n# Limits\nulimit -n 4096\n~~~\n",
        "Mine.\n\n````markdown\n```bash\n# Limits\n```\n# Use\n````\n",
        "Mine.\n\n  ```bash\n# Limits\n  ```\n",
        "- Mine.\n\n  ```bash\n  # Limits\n  ```\n- ~~~\n  # Limits\n  ~~~\n",
        "Mine.\n\n    # Limits\n    ulimit -n 4096\n",
        "<!--\n# Limits\nUnknown.\n-->\n\nMine.\n",
        "> # Limits\n> of another model\n",
    ],
)
@pytest.mark.parametrize("front", ["", "---\n# Limits\nlicense: mit  # Use\nlanguage: zh\n---\n"])
def test_overwriting_keeps_what_only_looks_like_a_heading(front: str, kept: str) -> None:
    found = complete_card(f"{front}{kept}\n## Limits\n\nOld.\n\nThanks\n------\n\nTo all.\n", FACTS, overwrite=True)
    before, _, after = found.partition("\n## Limits\n")
    assert before.endswith(f"---\n{kept}") and "Old." not in after and "Thanks\n------\n\nTo all.\n" in after
    assert ModelCard(found).data.license == "apache-2.0" and found.count("\n## Limits\n") == 1
    assert found.startswith(front.replace(": mit", ": apache-2.0").removesuffix("---\n"))


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_comment_at_the_top_is_no_section(overwrite: bool) -> None:
    text = "---\n# Limits\nlicense: mit\nlanguage: zh\n---\nIntro by me."
    found = complete_card(text, FACTS, overwrite=overwrite)
    license = "apache-2.0" if overwrite else "mit"
    assert found.startswith(f"---\n# Limits\nlicense: {license}\nlanguage: zh\n")
    assert "\n---\nIntro by me.\n" in found and "\n## Limits\n" in found


# Lines of a person, and which part of them becomes what.
FRONTS = [
    ("# my comment\nlicense: mit  # mine\ntags: [own]\n", "[own]", "[own, wobert, kexue-hf]"),
    ("tags: # why\n- own # one\n\n# on\nlicense: mit\n", "# one\n", "# one\n- wobert\n- kexue-hf\n"),
    ("tags:\n  - own\n  # last\nlicense: mit # x\n", "own\n", "own\n  - wobert\n  - kexue-hf\n"),
    ("tags: [\n  own,  # one\n]\nlicense: mit\n", "own,", "own, wobert, kexue-hf,"),
    ("tags: own  # one\nlicense: mit\n", " own", "\n- own\n- wobert\n- kexue-hf"),
    ("datasets: [\n]\n# mine\nlicense: mit\n", " [\n]", "\n- a/c"),
    ("license: mit\n# mine\nlanguage: [\n]\n", "[\n]", "zh"),
    ("license:   # not known yet\n# mine\n", "license:", "license: apache-2.0"),
    ("thanks: >\n  license: no\n\n  all\n# mine\nlicense: ''\n", "''", "apache-2.0"),
    ("'license': mit\n", "", ""),
    ("# only mine\n", "", ""),
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("before", "old", "new"), FRONTS)
def test_completing_changes_no_other_line_of_the_metadata(before: str, old: str, new: str, end: str) -> None:
    found = complete_card(f"---\n{before}---\nMine.\n".replace("\n", end), FACTS)
    front = found[: found.index(f"{end}---{end}Mine.")]
    assert front.startswith(f"---\n{before.replace(old, new)}".replace("\n", end)) and front.count(
        "\n"
    ) == front.count(end)
    data = yaml.safe_load(front)
    kept = yaml.safe_load(before) or {}
    assert data["license"] == (kept.get("license") or "apache-2.0") and data["base_model"] == "a/b"
    assert data["datasets"] == ["a/c"] and data["language"] == "zh" and set(data["tags"]) >= {"wobert", "kexue-hf"}
    assert complete_card(found, FACTS) == found


@pytest.mark.parametrize("front", ["{license: mit, tags: [own]}", "x: &t own\ntags: [*t]", "license: mit\n..."])
def test_unusual_metadata_stays_readable(front: str) -> None:
    data = ModelCard(complete_card(f"---\n{front}\n---\nMine.\n", FACTS)).data
    before = yaml.safe_load(front)
    assert data.license == before.get("license", "apache-2.0") and data.base_model == "a/b"
    assert data.tags == [*before.get("tags", ()), "wobert", "kexue-hf"]


@pytest.mark.parametrize("empty", ['""', "", "[]", "[\n]", "null"])
@pytest.mark.parametrize(
    ("field", "value"), [("license", "mit"), ("language", "en"), ("base_model", "d/e"), ("dataset", "d/e")]
)
def test_an_empty_field_is_not_set(field: str, value: str, empty: str, folder: Path, command: Command) -> None:
    readme, name = folder / "README.md", {"dataset": "datasets"}.get(field, field)
    readme.write_text(f"---\n{name}: {empty}\n---\nMine.\n", encoding="utf-8")
    assert f"README.md names no {name}" in command("doctor", folder)[1]
    code, _, error = command("card", folder, f"--{field.replace('_', '-')}", value)
    assert (code, error) == (0, "") and ModelCard.load(readme).data[name] in (value, [value])


@pytest.mark.parametrize("name", [b"mod\xff", "模型".encode("gb18030"), b"\xe4\xb8"])
def test_a_name_that_is_not_utf8_can_be_written(name: bytes, tmp_path: Path, command: Command) -> None:
    text = name.decode("utf-8", "surrogateescape")
    try:
        folder = saved_in(tmp_path / text)
    except OSError:
        pytest.skip("the file system has UTF-8 names only")
    assert command("card", folder)[0] == 0
    readme = (folder / "README.md").read_text("utf-8")
    assert "\ufffd" in readme.split("## ")[0] and 'from_pretrained("own/er")' not in readme
    assert "which only you have" in command("doctor", folder)[1]
    (folder / "README.md").write_text(f"{readme}Mine.\n", encoding="utf-8")
    assert command("card", folder, "--repository", "own/er")[0] == 0
    assert 'from_pretrained("own/er")' in (folder / "README.md").read_text("utf-8")
    # And the names of files that a training knows.
    facts = replace(FACTS, name=text, trained_on=(text,), command=f"python {text}", training={"file": text})
    assert write_card(folder, facts).read_text("utf-8").count("\ufffd") >= 4


@pytest.mark.parametrize("quoted", ["'m'", '"m"'])
@pytest.mark.parametrize("call", ["AutoModel.from_pretrained(\n    {}", "pipeline(model = {}"])
def test_the_folder_is_renamed_however_it_is_written(quoted: str, call: str) -> None:
    text = f"```python\n{call.format(quoted)}\n)\n```\n"
    assert with_repository(text, "own/er", Path("m")) == text.replace(quoted, '"own/er"')


@pytest.mark.parametrize(
    ("before", "body"),
    [("---\n---\n", "# T\nbody\n"), ("\n \n", "    code first\n\ntext\n"), ("---\r\n---\r\n", "# T\r\n")],
    ids=["empty metadata", "indented", "carriage returns"],
)
def test_the_first_metadata_change_nothing_else(before: str, body: str) -> None:
    end = "\r\n" if "\r" in before else "\n"
    assert with_fields(before + body, {"license": "mit"}) == f"---{end}license: mit{end}---{end}{body}"
