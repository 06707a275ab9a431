"""Evaluate the packaged tiny WoBERT on held-out text: masked words and the next-segment task.

    python benchmarks/tiny_model.py --text dev.jsonl --reports first.json second.json third.json fourth.json

The text is JSON objects with `text`, of documents that the model was not trained on. Evaluation is that of
examples/pretrain_mlm.py, with 15 % of the words masked and both heads, so the loss is the sum over both tasks. The
reports are what that script wrote with --report in each training stage (kexue_hf/assets/README.md); without them, the
result keeps the previous ones. Writes results/tiny_model.json.
"""

import argparse
import contextlib
import io
import json
import tempfile
from importlib import resources
from pathlib import Path

from measuring import machine, read_result, write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--reports", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    text = options.text

    from transformers import HfArgumentParser, TrainingArguments

    from examples import pretrain_mlm
    from kexue_hf import convert

    with tempfile.TemporaryDirectory() as folder, resources.as_file(resources.files("kexue_hf") / "assets") as assets:
        report = convert(assets / "wobert_tiny", Path(folder) / "tiny", dtype="float32")
        arguments = [f"--model={report.output}", f"--train_file={text}", f"--validation_file={text}", "--next_segment"]
        # One step with learning rate 0 leaves the weights unchanged.
        arguments += [f"--output_dir={folder}/out", "--max_steps=1", "--learning_rate=0", "--save_strategy=no"]
        arguments += ["--report_to=none", "--disable_tqdm=True", "--use_cpu"]
        with contextlib.redirect_stdout(io.StringIO()):
            figures = pretrain_mlm.run(
                *HfArgumentParser((pretrain_mlm.Options, TrainingArguments)).parse_args_into_dataclasses(arguments)
            )
    stages = [json.loads(path.read_text("utf-8")) for path in options.reports]
    result = {"stages": stages or read_result("tiny_model")["stages"]}
    result["packaged"] = {
        "what": "the float16 checkpoint, converted to float32, on held-out text; the loss is of both tasks",
        "machine": machine("torch", "transformers"),
        "parameters": report.parameters,
        **{name: round(value, 4) for name, value in figures.items() if name.startswith("held_out")},
    }
    write_result("tiny_model", result)
    print(json.dumps(result["packaged"], indent=2))


if __name__ == "__main__":
    main()
