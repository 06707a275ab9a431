"""`kexue-hf demo`: from an original checkpoint to a fine-tuned classifier that can be pushed to the Hub, in a minute.

Runs on what the package brings along (`assets/`): a small WoBERT in the original TensorFlow format and a few hundred
labelled openings of papers. No network. What it does is what a user would do, with the same calls.

`kexue-hf demo`, the command; what it does is in demo.py.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue_hf.errors import OutputError

MASKED_SENTENCES = (
    "实验结果[MASK]，该方法是有效的。",
    "本文[MASK]了一种新的图像分割方法。",
    "宝玉[MASK]道：“你来了。”",
)
DEFAULT_OUTPUT = "kexue-demo"
LEARNING_RATE = 1e-3
BATCH_SIZE = 16
MAX_LENGTH = 96

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoResult:
    """What the demo made and measured; `fills` holds the three most probable words of each masked sentence."""

    model_folder: Path
    classifier_folder: Path
    fills: dict[str, list[tuple[str, float]]]
    accuracy: float
    majority_accuracy: float
    seconds: float


def run_demo(out: Path | None = None, *, quiet: bool = False, seed: int = 0, epochs: int = 12) -> DemoResult:
    """Convert, load, fill masks, fine-tune, save; say what happens on stdout.

    Args:
        out: the folder to make; by default `kexue-demo` in the working directory, numbered if that exists.
        quiet: print the results only, no progress and no explanations.
        seed: of the fine-tuning.
        epochs: passes over the samples.

    Raises:
        OutputError: `out` is not empty or cannot be written.
    """
    started = time.perf_counter()
    folder = _make_folder(out)
    explain: Say = (lambda text: None) if quiet else (lambda text: print(text, flush=True))
    explain("kexue-hf demo: from a TensorFlow checkpoint to a classifier for the Hub, without network or TensorFlow\n")
    model_folder, classifier_folder = folder / "wobert-tiny", folder / "wobert-tiny-papers"
    try:
        with _quiet_libraries(), _one_thread(), resources.as_file(resources.files("kexue_hf") / "assets") as assets:
            _convert(assets / "wobert_tiny", model_folder, explain)
            fills = _fill_masks(model_folder, explain)
            accuracy, majority = _fine_tune(model_folder, classifier_folder, assets / "samples", explain, seed, epochs)
    except BaseException:
        # Half a demo is of no use to anybody, and would be in the way of the next one.
        for made in (model_folder, classifier_folder):
            shutil.rmtree(made, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise
    result = DemoResult(model_folder, classifier_folder, fills, accuracy, majority, time.perf_counter() - started)
    if quiet:
        for sentence, words in fills.items():
            print(f"{sentence}  {_list_words(words)}")
        print(f"held-out accuracy {accuracy:.3f}, always the commonest field {majority:.3f}")
        print(classifier_folder)
    else:
        print(_next_steps(result))
    return result


def _make_folder(out: Path | None) -> Path:
    """The folder to write to, made; refused if there is something in it."""
    if out is None:
        names = (DEFAULT_OUTPUT, *(f"{DEFAULT_OUTPUT}-{number}" for number in range(2, 10_000)))
        out = next(Path(name) for name in names if not os.path.lexists(name))
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise OutputError(f"{out} exists and is not empty: name another folder with --out, or remove it")
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write to {out} ({error.strerror or error}): name a folder of yours with --out"
        ) from None
    return out


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep transformers' and datasets' bars and remarks out of the demo's output, and put everything back after."""
    import datasets
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    dataset_bars = not datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if dataset_bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: the network is too small to gain from more, and on a busy machine threads that wait for
    each other made the demo ten times slower."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _convert(source: Path, output: Path, explain: Say) -> Path:
    from kexue_hf.conversion.convert import convert

    size = sum(path.stat().st_size for path in source.iterdir()) / 1e6
    explain(f"1. Convert the original checkpoint ({size:.1f} MB, a small WoBERT trained for this demo)")
    explain(f"     $ kexue-hf convert {source.name} {output} --dtype float32")
    report = convert(source, output, dtype="float32")
    explain(
        f"   {report.mapped} tensors, {report.parameters:,} parameters, {report.seconds:.2f} s; "
        f"every checksum and shape is right\n"
    )
    return output


def _fill_masks(folder: Path, explain: Say) -> dict[str, list[tuple[str, float]]]:
    from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

    explain("2. Load it as any model, and fill in masked words")
    explain(f'     >>> fill = pipeline("fill-mask", model="{folder}")')
    started = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder)
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu")
    seconds = time.perf_counter() - started
    explain(
        f"   loaded in {seconds:.1f} s; a text becomes words: {' | '.join(tokenizer.tokenize('实验表明该方法有效'))}"
    )
    fills = {}
    for sentence in MASKED_SENTENCES:
        fills[sentence] = [(answer["token_str"], float(answer["score"])) for answer in fill(sentence, top_k=3)]
        explain(f"     {sentence}  {_list_words(fills[sentence])}")
    explain("")
    return fills


def _list_words(words: list[tuple[str, float]]) -> str:
    return "  ".join(f"{word} {probability:.0%}" for word, probability in words)


def _fine_tune(source: Path, output: Path, samples: Path, explain: Say, seed: int, epochs: int) -> tuple[float, float]:
    """Train a classifier of the samples with Trainer and save it; held-out accuracies of it and of the majority."""
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    rows = {part: _read_samples(samples / f"{part}.jsonl") for part in ("train", "held_out")}
    names = sorted({row["label"] for row in rows["train"]})
    ids = {name: index for index, name in enumerate(names)}
    commonest = Counter(row["label"] for row in rows["train"]).most_common(1)[0][0]
    majority = sum(row["label"] == commonest for row in rows["held_out"]) / len(rows["held_out"])
    explain(f"3. Fine-tune: which field is a paper from ({'、'.join(names)})? {len(rows['train'])} examples, Trainer")

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=len(names), id2label=dict(enumerate(names)), label2id=ids
    )
    data = {
        part: Dataset.from_dict(
            {
                **tokenizer([row["text"] for row in part_rows], truncation=True, max_length=MAX_LENGTH),
                "labels": [ids[row["label"]] for row in part_rows],
            }
        )
        for part, part_rows in rows.items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=scratch,
                num_train_epochs=epochs,
                per_device_train_batch_size=BATCH_SIZE,
                per_device_eval_batch_size=64,
                learning_rate=LEARNING_RATE,
                warmup_steps=0.1,
                weight_decay=0.01,
                logging_strategy="epoch",
                eval_strategy="no",
                save_strategy="no",
                report_to=[],
                seed=seed,
                disable_tqdm=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=data["train"],
            eval_dataset=data["held_out"],
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
            callbacks=[_progress(explain, epochs)],
        )
        # It prints each log as a dict, which our own line stands in for.
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        accuracy = trainer.evaluate()["eval_accuracy"]
    explain(
        f"   held-out accuracy {accuracy:.1%} on {len(rows['held_out'])} papers that the model has never seen; "
        f"always the commonest field: {majority:.1%}\n"
    )
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    (output / "README.md").write_text(_card(output.name, names, rows, accuracy, majority), encoding="utf-8")
    return accuracy, majority


def _read_samples(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _progress(explain: Say, epochs: int) -> Any:
    """A callback that says the loss of every second epoch."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            if logs is None or "loss" not in logs:
                return
            epoch = round(state.epoch)
            done = round(20 * epoch / epochs)
            if epoch % 2 == 0 or epoch == epochs:
                explain(
                    f"   [{'#' * done}{'.' * (20 - done)}] epoch {epoch:2} of {epochs}, loss {float(logs['loss']):.3f}"
                )

    return Progress()


def _card(name: str, labels: list[str], rows: dict[str, list[Any]], accuracy: float, majority: float) -> str:
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    data = ModelCardData(
        language="zh",
        license="cc-by-sa-4.0",
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["wobert", "kexue-hf"],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_type="csl",
                dataset_name="openings of CSL papers (demo samples)",
                metric_type="accuracy",
                metric_value=round(accuracy, 4),
            )
        ],
    )
    text = f"""---
{data.to_yaml()}
---
# {name}

Made by `kexue-hf demo`: a small WoBERT, fine-tuned on {len(rows["train"])} openings of Chinese papers to tell their
field ({"、".join(labels)}). Held-out accuracy {accuracy:.1%} on {len(rows["held_out"])} papers; always the commonest
field: {majority:.1%}. A demonstration, no more: the samples are few and the model is tiny.

The samples are from CSL (Li et al., COLING 2022, Apache-2.0). The base model was trained on CSL abstracts
(Apache-2.0), Chinese Wikipedia paragraphs (DRCD, CC BY-SA 3.0; CMRC 2018, CC BY-SA 4.0) and two classic novels.

```python
from transformers import pipeline

classify = pipeline("text-classification", model="{name}", trust_remote_code=True)
```
"""
    return str(ModelCard(text))


def _next_steps(result: DemoResult) -> str:
    folder = result.classifier_folder.resolve()
    text = "水稻产量与施肥量的关系"
    classify = f"print(pipeline('text-classification', '{folder}'"
    return f"""4. Done in {result.seconds:.0f} s. The classifier, its tokenizer, code and card:
     {folder}

   Use it
     python -c "import kexue_hf; from transformers import pipeline; {classify})('{text}'))"
   Use it where kexue_hf is not installed (its code is in the folder; it needs pip install rjieba)
     python -c "from transformers import pipeline; {classify}, trust_remote_code=True)('{text}'))"
   Put it on the Hub
     hf auth login && hf upload YOUR-NAME/{folder.name} "{folder}"
   Convert the real thing (the original WoBERT+, unpacked)
     kexue-hf convert chinese_wobert_plus_L-12_H-768_A-12 wobert-plus"""


def add_commands(app: typer.Typer) -> None:
    """Add `demo` to the command line."""
    app.command()(demo)


def demo(
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to make; by default ./kexue-demo, numbered if that exists.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the results only.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the fine-tuning.")] = 0,
) -> None:
    """From a TensorFlow checkpoint to a fine-tuned classifier for the Hub, with what the package brings along."""

    run_demo(out, quiet=quiet, seed=seed)


__all__ = ["DemoResult", "run_demo"]
