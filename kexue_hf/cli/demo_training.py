"""Fine-tuning step of `kexue-hf demo`: a classifier trained with Trainer, and its model card."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kexue_hf.cli.demo_cards import LICENSE, classifier_sections

LEARNING_RATE = 1e-3
BATCH_SIZE = 16
MAX_LENGTH = 96

Print = Callable[[str], None]


def fine_tune(
    source: Path, output: Path, samples: Path, explain: Print, seed: int, epochs: int, command: str | None
) -> tuple[float, float]:
    """Train a classifier on the samples and save it; return its held-out accuracy and the majority baseline's.

    Args:
        command: the command that gives these figures, for the card.
    """
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

    from kexue_hf.hub.card_callback import ModelCardCallback

    rows = {part: _read_samples(samples / f"{part}.jsonl") for part in ("train", "held_out")}
    names = sorted({row["label"] for row in rows["train"]})
    ids = {name: index for index, name in enumerate(names)}
    most_common = Counter(row["label"] for row in rows["train"]).most_common(1)[0][0]
    majority = sum(row["label"] == most_common for row in rows["held_out"]) / len(rows["held_out"])
    explain(f"3. Fine-tune with Trainer: the field of a paper ({'、'.join(names)}), {len(rows['train'])} examples")

    card = ModelCardCallback(
        str(source),
        str(samples / "train.jsonl"),
        str(samples / "held_out.jsonl"),
        license=LICENSE,
        training={"labels": ", ".join(names), "max_length": MAX_LENGTH},
        command=command,
    )
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
            callbacks=[_progress(explain, epochs), card],
        )
        # Our progress line replaces its dict of each log.
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        accuracy = trainer.evaluate()["eval_accuracy"]
    explain(
        f"   held-out accuracy {accuracy:.1%} on {len(rows['held_out'])} papers that the model has never seen; "
        f"majority baseline: {majority:.1%}\n"
    )
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    card.write(
        output,
        figures={"accuracy": accuracy, "majority_accuracy": majority},
        summary=f"A tiny WoBERT, fine-tuned by `kexue-hf demo` on the openings of {len(rows['train'])} Chinese papers "
        f"to predict their field ({'、'.join(names)}). It shows how a model is made; it is too weak for real work.",
        sections=classifier_sections(model.config.model_type),
    )
    return accuracy, majority


def _read_samples(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _progress(explain: Print, epochs: int) -> Any:
    """Return a callback that reports the loss of every second epoch."""
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
