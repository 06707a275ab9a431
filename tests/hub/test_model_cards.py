"""Model cards: rendered, completed without changing what a person wrote, and written by a training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from transformers import Trainer, TrainingArguments

import kexue_hf
from kexue_hf.errors import InputError
from kexue_hf.hub.card_completion import complete_card
from kexue_hf.hub.card_seal import is_untouched
from kexue_hf.hub.model_card import CardFacts, Figure, render_card
from kexue_hf.hub.model_facts import FACTS
from kexue_hf.integrations.auto_classes import MODEL_TYPES
from tests.hub.hub_types import TOKENS, word_tokenizer
from tests.models.tiny_models import tiny_model

Command = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]
FACTS_OF_ONE = CardFacts(
    "my|model",
    "wobert",
    "WoBertForSequenceClassification",
    license="apache-2.0",
    word_tokenizer=True,
    base_model=("a/b",),
    datasets=("a/c",),
    trained_on=("rows.jsonl",),
    evaluated_on=("held out.jsonl",),
    training={"steps": 3},
    figures=[Figure("accuracy", 0.51234, "accuracy"), Figure("majority", 0.5)],
    command="python examples/finetune_classification.py --model b",
)
OWN = """---
# my comment
license: mit  # mine
tags: [own]
---
# Hello

## Usage

Mine.

## Limitations

Mine.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "model"
    tiny_model("WoBertForMaskedLM", vocab_size=len(TOKENS)).save_pretrained(place)
    word_tokenizer().save_pretrained(place)
    return place


def test_the_metadata_is_what_the_hub_reads() -> None:
    card = ModelCard(render_card(FACTS_OF_ONE))
    data = card.data.to_dict()
    assert {name: data[name] for name in ("license", "language", "base_model", "datasets", "pipeline_tag")} == {
        "license": "apache-2.0",
        "language": "zh",
        "base_model": "a/b",
        "datasets": ["a/c"],
        "pipeline_tag": "text-classification",
    }
    assert data["library_name"] == "transformers" and data["tags"] == ["wobert", "kexue-hf"]
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("accuracy", 0.5123, "held out.jsonl")
    assert result.dataset_type == "held-out.jsonl"


def test_the_text_says_how_to_use_it_and_where_it_comes_from() -> None:
    text = render_card(FACTS_OF_ONE)
    assert text.count('AutoModelForSequenceClassification.from_pretrained("my|model"') == 2
    assert 'from_pretrained("my|model", trust_remote_code=True)' in text and "pip install rjieba" in text
    assert "Trained on `rows.jsonl`." in text and "The licence of the weights is `apache-2.0`." in text
    assert "| majority | 0.5000 |" in text and "python examples/finetune_classification.py --model b\n```" in text
    assert "@misc{kexuefm-7758" in text and "# my\\|model\n" in text and "None" not in text


def test_every_model_type_has_its_facts() -> None:
    assert set(MODEL_TYPES) <= FACTS.keys()
    for model_type, known in FACTS.items():
        text = render_card(CardFacts("x", model_type, "Model"))
        assert known.summary.rstrip(".") in text and known.limits and all(limit in text for limit in known.limits)


def test_completing_keeps_what_a_person_wrote() -> None:
    found = complete_card(OWN, FACTS_OF_ONE)
    assert "# Hello\n\n## Usage\n\nMine.\n\n## Limitations\n\nMine.\n" in found
    assert found.count("## Us") == found.count("## Limit") == 1 and "## Citation" in found
    data = ModelCard(found).data
    assert data.license == "mit" and data.base_model == "a/b" and data.tags == ["own", "wobert", "kexue-hf"]
    assert "The licence of the weights is `mit`." in found and "apache-2.0" not in found
    assert complete_card(found, FACTS_OF_ONE) == found and not is_untouched(found)


def test_adding_fields_keeps_the_lines_of_the_others() -> None:
    own = OWN.replace("tags: [own]\n", "")
    front = complete_card(own, FACTS_OF_ONE).split("---\n")[1]
    assert front.startswith("# my comment\nlicense: mit  # mine\n") and yaml.safe_load(front)["base_model"] == "a/b"


def test_overwriting_replaces_fields_and_sections_of_the_same_name() -> None:
    found = complete_card(f"{OWN}\n## Thanks\n\nMine too.\n", FACTS_OF_ONE, overwrite=True)
    assert ModelCard(found).data.license == "apache-2.0" and "# Hello" in found and "Mine too." in found
    assert "\nMine.\n" not in found and "from_pretrained(" in found


def test_a_heading_in_code_is_no_section() -> None:
    own = f"{OWN.replace('## Usage', '## Mine')}\n## Thanks\n\n```bash\n## Use\nkeep\n```\n"
    assert "## Use\n\n```python" in complete_card(own, FACTS_OF_ONE)
    assert "## Use\nkeep\n" in complete_card(own, FACTS_OF_ONE, overwrite=True)


@pytest.mark.parametrize("text", ["", "# only a title\n", "---\n---\n# x\n", "---\r\nlicense: mit\r\n---\r\n# x\r\n"])
def test_any_card_can_be_completed(text: str) -> None:
    found = complete_card(text, FACTS_OF_ONE)
    assert ModelCard(found).data.base_model == "a/b" and "## Use" in found


def test_broken_metadata_is_not_touched() -> None:
    with pytest.raises(InputError, match=r"the metadata at the top of README\.md cannot be read"):
        complete_card("---\na: : b\n---\n", FACTS_OF_ONE)


def test_an_edit_breaks_the_seal() -> None:
    text = render_card(FACTS_OF_ONE)
    assert is_untouched(text) and is_untouched(text.replace("\n", "\r\n"))
    assert not is_untouched(text.replace("steps", "stages")) and not is_untouched(OWN)
    assert is_untouched(complete_card(text, replace(FACTS_OF_ONE, tags=("more",))))


def test_the_command_writes_completes_and_refuses(folder: Path, command: Command) -> None:
    readme = folder / "README.md"
    assert command("card", folder)[0] == 0 and "depends on the initial weights" in readme.read_text("utf-8")
    assert command("doctor", folder)[0] == 2
    options = ("--license", "mit", "--dataset", "a/b", "--dataset", "c", "--base-model", "d/e", "--language", "zh")
    assert command("card", folder, *options)[0] == 0
    data = ModelCard.load(readme).data
    assert (data.license, data.datasets, data.base_model, data.language) == ("mit", ["a/b", "c"], "d/e", "zh")
    assert "The licence of the weights is `mit`." in readme.read_text("utf-8")
    code, out, _ = command("doctor", folder)
    assert code == 0 and "warning: " not in out
    before = readme.read_bytes()
    code, _, error = command("card", folder, "--license", "apache-2.0")
    assert code == 2 and "already has license mit; --overwrite replaces it" in error and readme.read_bytes() == before
    assert command("card", folder, *options)[1].endswith("is complete already\n")
    assert command("card", folder, "--license", "apache-2.0", "--overwrite", "--dry-run")[0] == 0
    assert readme.read_bytes() == before
    assert command("card", folder, "--license", "apache-2.0", "--overwrite")[0] == 0
    assert ModelCard.load(readme).data.license == "apache-2.0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--license", "a b"), "--license 'a b': expected a licence identifier"),
        (("--language", "中文"), "--language '中文': expected a language code"),
        (("--base-model", "/data/x"), "--base-model '/data/x': expected a name on the Hub"),
        (("--dataset", "a/rows.txt"), "--dataset 'a/rows.txt': expected a name on the Hub"),
    ],
)
def test_wrong_options(options: tuple[str, ...], message: str, folder: Path, command: Command) -> None:
    code, _, error = command("card", folder, *options)
    assert code == 2 and message in error and not (folder / "README.md").exists()


def trainer_of(folder: Path, **options: object) -> Trainer:
    rows = [{"input_ids": [2, 7, 3], "labels": [2, 7, 3]}] * 4
    arguments = TrainingArguments(
        str(folder), max_steps=2, per_device_train_batch_size=2, use_cpu=True, report_to=[], save_strategy="no",
        disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    trainer = Trainer(
        tiny_model("WoBertForMaskedLM", vocab_size=len(TOKENS)),
        arguments,
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=word_tokenizer(),
    )
    trainer.add_callback(kexue_hf.ModelCardCallback(**options))
    return trainer


def test_a_training_writes_its_card(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: mit\nlanguage: en\nbase_model: a/b\n---\n", encoding="utf-8")
    trainer = trainer_of(
        tmp_path / "out", base_model=str(base), trained_on=str(tmp_path / "rows.jsonl"), evaluated_on=["held.jsonl"]
    )
    trainer.train()
    before = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "## Figures" not in before and "| steps | 2 |" in before and "Trained on `rows.jsonl`." in before
    found = trainer.evaluate()
    text = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert f"| loss | {found['eval_loss']:.4f} |" in text and "per_second" not in text and str(tmp_path) not in text
    data = ModelCard(text).data
    # The licence depends on the data, so that of the base is not taken over.
    assert (data.language, data.base_model, data.license) == ("en", "a/b", None) and is_untouched(text)


def test_a_card_that_was_edited_is_kept_by_the_next_training(tmp_path: Path, capsys) -> None:
    trainer_of(tmp_path).train()
    readme = tmp_path / "README.md"
    first = readme.read_text("utf-8")
    trainer_of(tmp_path, trained_on="other").train()
    assert "Trained on `other`." in readme.read_text("utf-8") and not (tmp_path / "README.new.md").exists()
    readme.write_text(first + "\nMine.\n", encoding="utf-8")
    trainer_of(tmp_path, trained_on="third").train()
    assert readme.read_text("utf-8") == first + "\nMine.\n"
    assert "Trained on `third`." in (tmp_path / "README.new.md").read_text("utf-8")
    assert "was edited by hand and is kept; the card of this training is README.new.md" in capsys.readouterr().out


def test_the_command_line_has_no_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    from kexue_hf.hub.card_callback import command_line

    monkeypatch.setattr(
        "sys.argv", ["/home/me/x/pretrain_tta.py", "--model=/home/me/m", "--train_file", "/data/a b", "-x"]
    )
    assert command_line("pretrain_tta") == "python examples/pretrain_tta.py --model=m --train_file 'a b' -x"
    assert command_line("pretrain_mlm") is None and command_line(None) is None


@pytest.mark.parametrize("path", sorted((ROOT / "model_cards").glob("*.md")), ids=lambda path: path.stem)
def test_the_cards_of_the_released_models(path: Path) -> None:
    data = ModelCard.load(path).data
    assert data.license and data.library_name == "transformers" and data.language and data.pipeline_tag
    assert "kexue-hf" in data.tags and len(data.tags) > 1
    text = path.read_text("utf-8")
    assert "\n# " in text and "```python" in text and "kexue.fm/archives/" in text
