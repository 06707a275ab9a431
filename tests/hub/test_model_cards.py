"""Model cards: rendered, completed without changing what a person wrote, and written by a training."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.utils import filter_repo_objects
from transformers import Trainer, TrainerState, TrainingArguments

import kexue_hf
import kexue_hf.trainers.whole_checkpoints
from kexue_hf.errors import InputError
from kexue_hf.files.card_seal import is_untouched, unsealed
from kexue_hf.hub.card_completion import complete_card
from kexue_hf.hub.card_names import bare_names, other_repository, published_card
from kexue_hf.hub.folder_facts import facts_of_folder, facts_of_model
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


@pytest.mark.parametrize("name", ["my model's", "模型", "m"])
def test_the_code_loads_the_repository(name: str) -> None:
    from kexue_hf.hub.recovery_sections import recovery_sections

    report = {"stages": {}, "held_out_texts": 1, "max_length": 8, "texts": 2}
    summary, sections = recovery_sections(name, "base", "AutoModel", "relu", report)
    text = render_card(replace(FACTS_OF_ONE, name=name, summary=summary, sections=sections))
    for given in (text, text.replace("\n", "\r\n")):
        found = published_card(given, "own/er")
        assert is_untouched(found) and bare_names(found) == [] and found.count("kexue-hf card, checksum") == 1
        assert found.count('from_pretrained("own/er")') == 2 and "kexue-hf performer-report own/er --file" in found
    assert f"\n# {name}\n" in found and published_card(found, "own/er") == found
    assert published_card(text + "Mine.", "own/er") == text + "Mine."
    assert published_card(found, "an/other") == published_card(text, "an/other")
    assert other_repository(found, "an/other") is None
    assert other_repository(found + "Mine.", "an/other") == "own/er"


def test_the_command_writes_completes_and_refuses(folder: Path, command: Command) -> None:
    readme = folder / "README.md"
    assert command("card", folder)[0] == 0 and "depends on the initial weights" in readme.read_text("utf-8")
    assert command("doctor", folder)[0] == 2
    options = ("--license", "mit", "--dataset", "a/b", "--dataset", "c", "--base-model", "d/e", "--language", "zh",
               "--repository", "own/er")  # fmt: skip
    assert command("card", folder, *options)[0] == 0
    data = ModelCard.load(readme).data
    assert (data.license, data.datasets, data.base_model, data.language) == ("mit", ["a/b", "c"], "d/e", "zh")
    assert "The licence of the weights is `mit`." in readme.read_text("utf-8")
    code, out, _ = command("doctor", folder)
    assert code == 0 and "warning: " not in out
    text = readme.read_text("utf-8")
    assert 'from_pretrained("own/er"' in text and f'from_pretrained("{folder.name}"' not in text
    assert is_untouched(text)
    before = readme.read_bytes()
    code, _, error = command("card", folder, "--license", "apache-2.0")
    assert code == 2 and "already has license mit; --overwrite replaces it" in error and readme.read_bytes() == before
    assert command("card", folder, *options)[1].endswith("is complete already\n")
    assert 'from_pretrained("an/other"' in command("card", folder, "--repository", "an/other", "--dry-run")[1]
    readme.write_text(text + "Mine.\n", "utf-8")
    for arguments in (("card", folder, "--repository"), ("push", folder, "--no-load", "--dry-run")):
        code, *printed = command(*arguments, "an/other")
        assert code == 0 and f"the code in {'' if arguments[0] == 'push' else folder}" in "".join(printed)
        assert "loads own/er" in "".join(printed)
    readme.write_bytes(before)
    assert command("card", folder, "--license", "apache-2.0", "--overwrite", "--dry-run")[0] == 0
    assert readme.read_bytes() == before
    assert command("card", folder, "--license", "apache-2.0", "--overwrite")[0] == 0
    assert ModelCard.load(readme).data.license == "apache-2.0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--repository", "model"), "--repository model: expected OWNER/NAME"),
        (("--license", "a b"), "--license 'a b': expected a licence identifier"),
        (("--language", "中文"), "--language '中文': expected a language code"),
        (("--base-model", "/data/x"), "--base-model '/data/x': expected a name on the Hub"),
        (("--dataset", "a/rows.txt"), "--dataset 'a/rows.txt': expected a name on the Hub"),
    ],
)
def test_wrong_options(options: tuple[str, ...], message: str, folder: Path, command: Command) -> None:
    code, _, error = command("card", folder, *options)
    assert code == 2 and message in error and not (folder / "README.md").exists()


def trainer_of(folder: Path, kind: type[Trainer] = Trainer, **options: object) -> Trainer:
    rows = [{"input_ids": [2, 7, 3], "labels": [2, 7, 3]}] * 4
    arguments = TrainingArguments(
        str(folder), max_steps=2, per_device_train_batch_size=2, use_cpu=True, report_to=[], save_strategy="no",
        disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    trainer = kind(
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


def test_options_with_overwrite_change_their_fields_alone(folder: Path, command: Command) -> None:
    """Of a card of a training, whose sections say more than the folder does."""
    facts = replace(FACTS_OF_ONE, sections={"Use": "Of the task.", "Limits": "Of the task."})
    readme = folder / "README.md"
    readme.write_text(render_card(facts), encoding="utf-8")
    assert command("card", folder, "--language", "en", "--overwrite")[0] == 0
    assert readme.read_text("utf-8") == render_card(replace(facts, language=("en",)))
    assert command("card", folder, "--license", "mit", "--dataset", "d/e", "--overwrite")[0] == 0
    expected = render_card(replace(facts, language=("en",), license="mit", datasets=("d/e",)))
    text = readme.read_text("utf-8")
    assert ModelCard(text).data.to_dict() == ModelCard(expected).data.to_dict()
    assert unsealed(text).split("---\n", 2)[2] == unsealed(expected).split("---\n", 2)[2]
    # And a card of a person: no other field and no section.
    readme.write_text(OWN + "\nThe licence of the weights is `mit`.\n", encoding="utf-8")
    assert command("card", folder, "--license", "apache-2.0", "--overwrite")[0] == 0
    text = readme.read_text("utf-8")
    assert text.count("\nMine.\n") == 2 and "The licence of the weights is `apache-2.0`." in text
    assert "`mit`" not in text and ModelCard(text).data.license == "apache-2.0"


def test_overwriting_all_keeps_what_only_the_card_knows(folder: Path, command: Command) -> None:
    readme = folder / "README.md"
    readme.write_text(render_card(FACTS_OF_ONE), encoding="utf-8")
    command("card", folder, "--overwrite")
    text = readme.read_text("utf-8")
    for fact in ("Trained on `rows.jsonl`.", "[a/b]", "[a/c]", "is `apache-2.0`.", "| majority | 0.5000 |"):
        assert fact in text
    assert "depends on the initial weights" not in text


def test_the_next_training_keeps_what_a_person_stated(tmp_path: Path, command: Command) -> None:
    trainer = trainer_of(tmp_path / "out", trained_on="rows.jsonl")
    trainer.train()
    trainer.save_model()
    options = ("--license", "mit", "--dataset", "a/b", "--base-model", "d/e", "--language", "en", "--overwrite",
               "--repository", "f/g")  # fmt: skip
    assert command("card", tmp_path / "out", *options)[0] == 0
    trainer.evaluate()
    text = (tmp_path / "out" / "README.md").read_text("utf-8")
    data = ModelCard(text).data
    assert (data.license, data.datasets, data.base_model, data.language) == ("mit", ["a/b"], "d/e", "en")
    assert "The licence of the weights is `mit`." in text and "## Figures" in text and is_untouched(text)
    assert 'from_pretrained("f/g"' in text and not (tmp_path / "out" / "_README.new.md").exists()


def test_the_figures_are_those_of_the_weights(tmp_path: Path) -> None:
    """Of the best step if that is loaded at the end, of the last step otherwise, of none before the end."""

    def figures(best: int | None, steps: dict[int, float], last: int) -> dict[str, float]:
        args = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
        args.load_best_model_at_end = best is not None
        state = TrainerState(global_step=0, best_global_step=best, is_world_process_zero=False)
        model = tiny_model("WoBertForMaskedLM", vocab_size=len(TOKENS)).to(torch.bfloat16)
        callback.on_train_begin(args, state, None)
        for step, value in steps.items():
            state.global_step = step
            callback.on_evaluate(args, state, None, {"eval_loss": value})
        state.global_step = last
        callback.on_train_end(args, state, None, model=model)
        assert callback._run["precision"] == "bfloat16"
        return callback.figures

    callback = kexue_hf.ModelCardCallback()
    assert figures(2, {2: 0.1, 4: 0.2, 6: 0.3}, 6) == {"loss": 0.1}
    assert figures(None, {2: 0.1, 6: 0.3}, 6) == {"loss": 0.3}
    assert figures(None, {2: 0.1}, 6) == {}


def test_the_code_fits_model_and_tokenizer() -> None:
    trusted = '.from_pretrained("x", trust_remote_code=True)'
    text = render_card(CardFacts("x", "roformer", "RoFormerModel", own_code=False, own_tokenizer=True))
    assert f"AutoTokenizer{trusted}" in text and f"AutoModel{trusted}" not in text and "import kexue_hf" in text
    text = render_card(CardFacts("x", "bert", "BertModel", own_code=False, own_tokenizer=False))
    assert trusted not in text and "import kexue_hf" not in text
    text = render_card(CardFacts("x", "wobert", "WoBertModel", adapter=True))
    assert trusted not in text and "import kexue_hf" in text and ModelCard(text).data.library_name == "peft"


def test_facts_of_a_native_model_with_our_tokenizer_and_of_an_adapter(tmp_path: Path) -> None:
    from transformers import RoFormerConfig, RoFormerModel

    small = RoFormerConfig(vocab_size=len(TOKENS), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                           intermediate_size=8, embedding_size=8)  # fmt: skip
    model, tokenizer = RoFormerModel(small), word_tokenizer()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for facts in (facts_of_model("x", model, tokenizer), facts_of_folder(tmp_path)):
        assert (facts.own_code, facts.own_tokenizer, facts.adapter) == (False, True, False)
    peft = pytest.importorskip("peft")
    base = tiny_model("WoBertForMaskedLM", vocab_size=len(TOKENS))
    adapted = peft.get_peft_model(base, peft.LoraConfig(target_modules=["query"]))
    facts = facts_of_model("x", adapted, tokenizer)
    assert (facts.architecture, facts.own_code, facts.adapter) == ("WoBertForMaskedLM", True, True)


def test_trainers_card_does_not_replace_that_of_a_training(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, trained_on="rows", kind=kexue_hf.trainers.whole_checkpoints.AtomicCheckpointTrainer)
    trainer.create_model_card()
    assert "generated_from_trainer" in (tmp_path / "README.md").read_text("utf-8")
    (tmp_path / "README.md").unlink()
    trainer.train()
    before = (tmp_path / "README.md").read_text("utf-8")
    trainer.create_model_card()
    assert (tmp_path / "README.md").read_text("utf-8") == before and is_untouched(before)


def test_a_card_that_was_edited_is_kept_by_the_next_training(tmp_path: Path, capsys) -> None:
    trainer_of(tmp_path).train()
    readme = tmp_path / "README.md"
    first = readme.read_text("utf-8")
    trainer_of(tmp_path, trained_on="other").train()
    assert "Trained on `other`." in readme.read_text("utf-8") and not (tmp_path / "_README.new.md").exists()
    readme.write_text(first + "\nMine.\n", encoding="utf-8")
    trainer_of(tmp_path, trained_on="third").train()
    assert readme.read_text("utf-8") == first + "\nMine.\n"
    assert "Trained on `third`." in (tmp_path / "_README.new.md").read_text("utf-8")
    said = "is not the card of a training, or was edited, and is kept; the card of this training is _README.new.md"
    assert said in capsys.readouterr().out


def test_trainers_push_leaves_the_new_card_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text("# Mine\n", encoding="utf-8")
    trainer = trainer_of(tmp_path)
    trainer.train()
    uploaded: list[str] = []

    def upload_folder(self: object, *, folder_path: str, ignore_patterns: list[str], **options: object) -> None:
        names = [str(path.relative_to(folder_path)) for path in Path(folder_path).rglob("*") if path.is_file()]
        assert any(name.endswith("README.new.md") for name in names)
        uploaded.extend(filter_repo_objects(names, ignore_patterns=ignore_patterns))

    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
    trainer.hub_model_id = "owner/model"
    trainer.push_to_hub()
    assert "config.json" in uploaded and [name for name in uploaded if "README" in name] == ["README.md"]


def test_the_command_line_has_no_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    from kexue_hf.hub.card_callback import command_line

    monkeypatch.setattr(
        "sys.argv", ["/home/me/x/pretrain_tta.py", "--model=/home/me/m", "--train_file", "/data/a b", "-x"]
    )
    assert command_line("pretrain_tta") == "python examples/pretrain_tta.py --model=m --train_file 'a b' -x"
    monkeypatch.setattr(
        "sys.argv",
        ["pretrain_tta.py", "--push_to_hub", "--hub_token", "hf_secret", "--hub-private-key=x", "--tokenizer", "t",
         "--max_tokens_of=3", "--note", "hf_" + "a" * 34, "--password", "--seed", "1"],
    )  # fmt: skip
    assert command_line("pretrain_tta") == (
        "python examples/pretrain_tta.py --push_to_hub --tokenizer t --note ... --seed 1"
    )
    assert command_line("pretrain_mlm") is None and command_line(None) is None


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("data=/home/me/x", "data=x"),
        ("-o/home/me/x", "-ox"),
        ("-o=/home/me/x", "-o=x"),
        ("/a/b,/home/me/c", "b,c"),
        ("--files=/a/b,/home/me/c", "--files=b,c"),
        ("/home/me/my rows/x y", "x y"),
        ("see /home/me/x and /home/me/y", "see x and y"),
        ("/home/me/out/", "out/"),
        ("/home/me/day=3/x", "x"),
        ("key=/a/b c=/d/e", "key=b c=e"),
        ("见/home/me/x", "见x"),
        ("--pattern=</s>", "--pattern=</s>"),
        ("/" * 3000, "/" * 3000),
        ("<b>x</b>y</i>", "<b>x</b>y</i>"),
        ('{"file":"/home/me/x"}', '{"file":"x"}'),
        ("@/home/me/arguments", "@arguments"),
        ("file:///home/me/x", "x"),
        ("a/b:/home/me/c", "a/b:c"),
        ("/模型/中文/x", "x"),
        ("/home/me/*.jsonl", "*.jsonl"),
        ("C:\\Users\\me\\x", "x"),
        ("--model=D:/me/x", "--model=x"),
        # No absolute path.
        ("runs/a/b", "runs/a/b"),
        ("../a/b", "../a/b"),
        ("~/a/b", "~/a/b"),
        ("https://a.b/c/d", "https://a.b/c/d"),
        ("s3://a/b", "s3://a/b"),
        ("/", "/"),
    ],
)
def test_absolute_paths_in_an_argument_become_names(
    argument: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kexue_hf.hub.card_callback import command_line

    monkeypatch.setattr("sys.argv", ["/x/pretrain_tta.py", argument])
    assert command_line("pretrain_tta") == shlex.join(["python", "examples/pretrain_tta.py", expected])


@pytest.mark.parametrize("trained", [False, True])
def test_a_card_needs_a_model(trained: bool, tmp_path: Path) -> None:
    callback = kexue_hf.ModelCardCallback()
    if trained:
        state = TrainerState(is_world_process_zero=False)
        callback.on_train_end(TrainingArguments(str(tmp_path), report_to=[], use_cpu=True), state, None)
    with pytest.raises(InputError, match="has no model: pass model=, or call it after a training"):
        callback.write(tmp_path)
    assert callback.write(tmp_path, model=tiny_model("WoBertForMaskedLM", vocab_size=len(TOKENS))).is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "model_cards").glob("*.md")), ids=lambda path: path.stem)
def test_the_cards_of_the_released_models(path: Path) -> None:
    data = ModelCard.load(path).data
    assert data.license and data.library_name == "transformers" and data.language and data.pipeline_tag
    assert "kexue-hf" in data.tags and len(data.tags) > 1
    text = path.read_text("utf-8")
    assert "\n# " in text and "```python" in text and "kexue.fm/archives/" in text
