"""`kexue-hf demo`: from an original checkpoint to a fine-tuned classifier that is ready for the Hub, in a minute.

It uses only the package's `assets/`, a small WoBERT in the original TensorFlow format and a few hundred labelled
openings of papers, and no network. It makes the calls that a user would make.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from kexue_hf.cli.demo_cards import LICENSE, complete_card_of_model
from kexue_hf.cli.demo_training import Print, fine_tune
from kexue_hf.errors import OutputError
from kexue_hf.files.quiet_loading import quiet_libraries

MASKED_SENTENCES = (
    "实验结果[MASK]，该方法是有效的。",
    "本文[MASK]了一种新的图像分割方法。",
    "宝玉[MASK]道：“你来了。”",
)
DEFAULT_OUTPUT = "kexue-demo"
EPOCHS = 12


@dataclass(frozen=True)
class DemoResult:
    """Folders and figures of a demo run. `fills` maps each masked sentence to its three most probable words."""

    model_folder: Path
    classifier_folder: Path
    fills: dict[str, list[tuple[str, float]]]
    accuracy: float
    majority_accuracy: float
    seconds: float


def run_demo(out: Path | None = None, *, quiet: bool = False, seed: int = 0, epochs: int = EPOCHS) -> DemoResult:
    """Convert, load, fill masks, fine-tune and save; explain each step on stdout.

    Args:
        out: the folder to write; by default `kexue-demo` in the working directory, numbered if that exists.
        quiet: print only the results, without progress and explanations.
        seed: random seed of the fine-tuning.
        epochs: passes over the samples.

    Raises:
        OutputError: `out` is not empty or cannot be written.
    """
    started = time.perf_counter()
    folder = _make_folder(out)
    explain: Print = (lambda text: None) if quiet else (lambda text: print(text, flush=True))
    explain(
        "kexue-hf demo: from a TensorFlow checkpoint to a classifier for the Hub, offline and without TensorFlow\n"
    )
    model_folder, classifier_folder = folder / "wobert-tiny", folder / "wobert-tiny-papers"
    try:
        with _quiet_training(), _one_thread(), resources.as_file(resources.files("kexue_hf") / "assets") as assets:
            _convert(assets / "wobert_tiny", model_folder, explain)
            fills = _fill_masks(model_folder, explain)
            command = f"kexue-hf demo --seed {seed}" if epochs == EPOCHS else None
            accuracy, majority = fine_tune(
                model_folder, classifier_folder, assets / "samples", explain, seed, epochs, command
            )
    except BaseException:
        # An incomplete demo is useless and would block the next run.
        for partial in (model_folder, classifier_folder):
            shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise
    result = DemoResult(model_folder, classifier_folder, fills, accuracy, majority, time.perf_counter() - started)
    if quiet:
        for sentence, words in fills.items():
            print(f"{sentence}  {_list_words(words)}")
        print(f"held-out accuracy {accuracy:.3f}, majority baseline {majority:.3f}")
        print(classifier_folder)
    else:
        print(_next_steps(result))
    return result


def _make_folder(out: Path | None) -> Path:
    """Create the output folder and return it.

    Raises:
        OutputError: the folder is not empty or cannot be written.
    """
    if out is None:
        names = (DEFAULT_OUTPUT, *(f"{DEFAULT_OUTPUT}-{number}" for number in range(2, 10_000)))
        out = next(Path(name) for name in names if not os.path.lexists(name))
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise OutputError(f"{out} exists and is not empty: name another folder with --output, or remove it")
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write to {out} ({error.strerror or error}): name a writable folder with --output"
        ) from None
    return out


@contextlib.contextmanager
def _quiet_training() -> Iterator[None]:
    """Silence transformers, datasets' progress bars and all warnings inside the block."""
    import datasets

    bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with quiet_libraries():
            yield
    finally:
        if bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread inside the block.

    The network is too small to gain from more, and on a busy machine waiting threads made the demo ten times slower.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _convert(source: Path, output: Path, explain: Print) -> Path:
    from kexue_hf.conversion.convert import convert

    size = sum(path.stat().st_size for path in source.iterdir()) / 1e6
    explain(f"1. Convert the original checkpoint ({size:.1f} MB, a small WoBERT trained for this demo)")
    explain(f"     $ kexue-hf convert {source.name} {output} --dtype float32 --license {LICENSE}")
    report = convert(source, output, dtype="float32", license=LICENSE)
    complete_card_of_model(output)
    explain(
        f"   {report.mapped} tensors, {report.parameters:,} parameters, {report.seconds:.2f} s; "
        f"all checksums and shapes are correct\n"
    )
    return output


def _fill_masks(folder: Path, explain: Print) -> dict[str, list[tuple[str, float]]]:
    from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

    explain("2. Load it like any other model, and fill in masked words")
    explain(f'     >>> fill = pipeline("fill-mask", model="{folder}")')
    started = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder)
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu")
    seconds = time.perf_counter() - started
    words = " | ".join(tokenizer.tokenize("实验表明该方法有效"))
    explain(f"   loaded in {seconds:.1f} s; the tokenizer splits text into words: {words}")
    fills = {}
    for sentence in MASKED_SENTENCES:
        fills[sentence] = [(answer["token_str"], float(answer["score"])) for answer in fill(sentence, top_k=3)]
        explain(f"     {sentence}  {_list_words(fills[sentence])}")
    explain("")
    return fills


def _list_words(words: list[tuple[str, float]]) -> str:
    return "  ".join(f"{word} {probability:.0%}" for word, probability in words)


def _next_steps(result: DemoResult) -> str:
    folder = result.classifier_folder.resolve()
    text = "水稻产量与施肥量的关系"
    classify = f"print(pipeline('text-classification', '{folder}'"
    return f"""4. Done in {result.seconds:.0f} s. The classifier, its tokenizer, code and card:
     {folder}

   Use it
     python -c "import kexue_hf; from transformers import pipeline; {classify})('{text}'))"
   Use it without kexue_hf (the folder contains the code; needs pip install rjieba)
     python -c "from transformers import pipeline; {classify}, trust_remote_code=True)('{text}'))"
   Upload it to the Hub
     hf auth login && kexue-hf push "{folder}" YOUR-NAME/{folder.name}
   Convert the full-size original (WoBERT+, unpacked)
     kexue-hf convert chinese_wobert_plus_L-12_H-768_A-12 wobert-plus"""


def add_commands(app: typer.Typer) -> None:
    """Add `demo` to the command line."""
    app.command()(demo)


def demo(
    output: Annotated[
        Path | None, typer.Option(help="Folder to write.", show_default="./kexue-demo, numbered if that exists")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the results only.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of the fine-tuning.")] = 0,
) -> None:
    """Convert a small TensorFlow checkpoint and fine-tune it to a classifier for the Hub, offline."""
    run_demo(output, quiet=quiet, seed=seed)


__all__ = ["DemoResult", "run_demo"]
