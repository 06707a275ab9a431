"""Kill commands and trainings at random moments and rerun them.

No partial output may be visible after the kill. The rerun must leave no other files, and its output must equal that of
an uninterrupted run byte for byte.

    python .ci/kill_harness.py                                # 30 kills of each command, 10 of each training
    python .ci/kill_harness.py --cases 5 --jobs convert,score
    python .ci/kill_harness.py --trainings 2 --jobs pretrain_mlm

Commands are killed at any moment. Half of them replace an existing output (--overwrite), and half of the reruns of
score, embed and match use --resume. Trainings are killed while they write a checkpoint, and rerun with --resume. All
run in forks of one process that has done the imports. The script prints the failures and a summary, and exits with
code 1 if anything failed.
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
GOLDEN = ROOT / "tests" / "golden"
ROWS = 3500  # of an input file; the commands read chunks of up to 1,024
COMMANDS = {
    "convert": ["convert", str(ROOT / "kexue_hf" / "assets" / "wobert_tiny"), "OUT"],
    "export": ["export", "folder", "OUT"],
    "export_keras": ["export", "folder", "OUT", "--to", "keras"],
    "extend": ["extend", "folder", "OUT", "--words", "0", "--user-dict", "words.txt"],
    "score": ["score", "tta", "--file", "lines.txt", "--output", "OUT.jsonl", "--quiet"],
    "embed": ["embed", "tta", "--file", "lines.txt", "--output", "OUT.npy", "--quiet"],
    "match": ["match", "matcher", "--files", "lines.txt", "lines.txt", "--output", "OUT.jsonl", "--quiet"],
}
RESUMED = ("score", "embed", "match")
TRAINING = ["--use_cpu", "--report_to=none", "--disable_tqdm=True", "--seed=3", "--save_strategy=steps"]
SHORT = [*TRAINING, "--max_steps=6", "--save_steps=2", "--batch_size=4", "--save_total_limit=2"]
TRAININGS = {
    "pretrain_mlm": ["--train_file=text.jsonl", "--vocabulary=vocab.txt", "--max_length=24", "--dropout=0.1"],
    "pretrain_tta": ["--train_file=text.jsonl", "--vocabulary=vocab_tta.txt", "--max_length=24", "--hidden_size=64"],
    "finetune_classification": ["--model=encoder", "--train_file=classes.jsonl"],
    "finetune_title": ["--model=encoder", "--train_file=titles.jsonl", "--max_length=16", "--max_target_length=4"],
    "finetune_matcher": ["--model=encoder", "--train_file=contest", "--eval_file=contest"],
    "recover_performer": [
        "--model=encoder", "--file=text.jsonl", "--feature-map=low_order", "--finetune-steps=2", "--rank=all",
        "--max-length=12", "--quiet",
    ],
}  # fmt: skip


def fork(function: Callable[[], Any], log: Path) -> int:
    """Run a function in a fork, with its output in `log`; return the process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        os.setpgid(0, 0)
        function()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def finish(function: Callable[[], Any], log: Path) -> float:
    """Run a function in a fork to its end; return the seconds that it took.

    Raises:
        RuntimeError: it failed.
    """
    log.write_text("")
    started = time.monotonic()
    _, state = os.waitpid(fork(function, log), 0)
    if status := os.waitstatus_to_exitcode(state):
        raise RuntimeError(f"exit status {status}: {log.read_text(errors='replace')[-2000:]}")
    return time.monotonic() - started


def kill(function: Callable[[], Any], log: Path, wait: Callable[[], object]) -> bool:
    """Run a function in a fork and kill it when `wait` returns; return whether it was still running."""
    child = fork(function, log)
    wait()
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    _, state = os.waitpid(child, 0)
    return os.WIFSIGNALED(state)


def content(path: Path) -> Any:
    """Return the bytes of a file, or the bytes of a folder's files by path."""
    if not path.is_dir():
        return path.read_bytes()
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def command(arguments: list[str], work: Path, *more: str) -> Callable[[], None]:
    def run() -> None:
        from kexue_hf.cli.main import main

        main([argument.replace("OUT", str(work / "out")) for argument in (*arguments, *more)])

    return run


def script(name: str, output: Path, *more: str) -> Callable[[], None]:
    def run() -> None:
        import importlib

        module = importlib.import_module(f"examples.{name}")
        where = f"--output={output}" if name == "recover_performer" else f"--output_dir={output}"
        module.main([*TRAININGS[name], where, *([] if name == "recover_performer" else SHORT), *more])

    return run


def try_command(name: str, place: Path, cases: int, rng: random.Random) -> tuple[int, list[str]]:
    """Kill and rerun a command; return the number of kills before its end, and the failures."""
    arguments, log = COMMANDS[name], place / "log"
    seconds = 60.0
    for run in ("first", "whole"):  # the first run is slower: it fills caches
        (place / run).mkdir()
        seconds = min(seconds, finish(command(arguments, place / run), log))
    (result,) = (place / "whole").iterdir()
    expected, wrong, killed = content(result), [], 0
    for case in range(cases):
        work = place / f"case{case}"
        work.mkdir()
        old, options = None, []
        if case % 2:
            old, options = prefill(name, work / result.name), ["--overwrite"]
        moment = rng.uniform(0, 1.02 * seconds)
        killed += kill(command(arguments, work, *options), log, lambda moment=moment: time.sleep(moment))
        visible = [path.name for path in work.iterdir() if not path.name.startswith(".")]
        found = content(work / result.name) if result.name in visible else None
        if set(visible) - {result.name} or (found is not None and found not in (expected, old)):
            wrong.append(f"{name} {case}: partial: {visible}")
        if found is not None and "--overwrite" not in options:
            options.append("--overwrite")
        if name in RESUMED and case % 4 < 2:
            options.append("--resume")
        try:
            finish(command(arguments, work, *options), log)
        except RuntimeError as error:
            wrong.append(f"{name} {case}: the rerun failed: {error}")
            continue
        if [path.name for path in work.iterdir()] != [result.name]:
            wrong.append(f"{name} {case}: left over: {os.listdir(work)}")
        if content(work / result.name) != expected:
            wrong.append(f"{name} {case}: another result{' when resumed' if '--resume' in options else ''}")
        shutil.rmtree(work)
    return killed, wrong


def prefill(name: str, output: Path) -> Any:
    """Write an older output, to be replaced; return its content."""
    if name in RESUMED:
        output.write_bytes(b"old")
    else:
        shutil.copytree("old", output)
    return content(output)


def try_training(name: str, place: Path, cases: int, rng: random.Random) -> tuple[int, list[str]]:
    """Kill an example script while it writes a checkpoint, and rerun it; return as `try_command`."""
    log, reference = place / "log", place / "whole" / "out"
    finish(script(name, reference), log)
    expected, wrong, killed = content(reference), [], 0
    steps = sorted(int(path.name.split("-")[1]) for path in reference.glob("checkpoint-*"))
    seconds = writing_seconds(reference)
    for case in range(cases):
        work = place / f"case{case}"
        work.mkdir()
        output = work / "out"
        # Checkpoint 2 exists only temporarily, because of --save_total_limit.
        watched = output / f"checkpoint-{rng.choice([2, *steps])}" if steps else work

        def wait(watched: Path = watched, moment: float = rng.uniform(0, 1.2 * seconds)) -> None:
            deadline = time.monotonic() + 120
            while not (watched.exists() if steps else list(watched.glob(".out.partial-*"))):
                if time.monotonic() > deadline:
                    return
                time.sleep(0.0005)
            time.sleep(moment)

        resume = ["--resume"] if steps else []
        killed += kill(script(name, output, *resume), log, wait)
        wrong += [f"{name} {case}: {problem}" for problem in partial(output, expected, bool(steps))]
        if not steps and output.exists():
            continue  # complete, so there is nothing to resume
        try:
            finish(script(name, output, *resume), log)
        except RuntimeError as error:
            wrong.append(f"{name} {case}: the rerun failed: {error}")
            continue
        found = content(output)
        if os.listdir(work) != ["out"] or set(found) != set(expected):
            wrong.append(f"{name} {case}: left over: {os.listdir(work)} {sorted(set(found) ^ set(expected))}")
        if weights(found) != weights(expected):
            wrong.append(f"{name} {case}: another result when resumed")
        shutil.rmtree(work)
    return killed, wrong


def writing_seconds(output: Path) -> float:
    """Return how long it took to write the last checkpoint; a guess without checkpoints."""
    marks = sorted(output.glob("checkpoint-*/progress.json"), key=lambda path: path.stat().st_mtime)
    if not marks:
        return 0.03
    return max(0.005, marks[-1].stat().st_mtime - min(path.stat().st_mtime for path in marks[-1].parent.iterdir()))


def weights(files: dict[str, bytes]) -> dict[str, Any]:
    return {name: tensors(data) for name, data in files.items() if name.endswith(".safetensors")}


def tensors(data: bytes) -> Any:
    """Return the header and the values of a safetensors file, None if it is truncated.

    The metadata is left out, because the library writes it in arbitrary order.
    """
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])
    except ValueError:
        return None
    header.pop("__metadata__", None)
    whole = max(row["data_offsets"][1] for row in header.values()) == len(data) - 8 - size
    return (header, data[8 + size :]) if whole else None


def partial(output: Path, expected: dict[str, bytes], checkpoints: bool) -> list[str]:
    """Return the visible files of a killed training that are incomplete, in finished checkpoints or the model."""
    if not output.exists():
        return []
    found = content(output)
    whole = [name.split("/")[0] for name in found if name.endswith("/progress.json")]
    problems = []
    for name, data in found.items():
        folder = name.split("/")[0]
        counts = folder in whole or (name.count("/") == 0 and not name.startswith("."))
        known = tensors(expected.get(name, data))
        if counts and name.endswith(".safetensors") and (tensors(data) is None or tensors(data) != known):
            problems.append(f"partial: {name}")
        if counts and name.endswith(".json"):
            try:
                json.loads(data)
            except ValueError:
                problems.append(f"partial: {name}")
    if not checkpoints and set(found) != set(expected):
        problems.append(f"partial: lacks {sorted(set(expected) - set(found))}")
    return problems


def prepare(jobs: list[str]) -> None:
    """Write the files that the jobs read to the working directory."""
    from kexue_hf.conversion.convert import convert

    convert(ROOT / "kexue_hf" / "assets" / "wobert_tiny", "folder")
    convert(GOLDEN / "tta_tf_ckpt", "tta")
    convert(GOLDEN / "sohu_matcher_keras_h5", "matcher")
    convert(GOLDEN / "wobert_keras_h5", "old")
    write_lines("words.txt", ["机器学习", "深度学习", "大模型"])
    write_lines("lines.txt", [f"他说{'的' * (number % 7)}第{number}个" for number in range(ROWS)])
    if set(jobs) & set(TRAININGS):
        prepare_trainings()


def write_lines(name: str, lines: Iterable[str]) -> None:
    Path(name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def prepare_trainings() -> None:
    import torch

    from kexue_hf import WoBertConfig, WoBertForMaskedLM, WoBertTokenizer
    from kexue_hf.vocabulary.vocabulary_files import SPECIAL_TOKENS, TTA_SPECIAL_TOKENS, save_vocabulary

    sentences = ["实验结果表明，该方法是有效的。", "本文提出了一种新方法。", "他说今天天气很好。"]
    texts = ["".join(sentences[(i + j) % 3] for j in range(1 + i % 4)) + f"第{i}段。" for i in range(40)]
    write_lines("text.jsonl", [json.dumps({"text": text}) for text in texts])
    write_lines("classes.jsonl", [json.dumps({"text": text, "label": i % 2}) for i, text in enumerate(texts)])
    write_lines("titles.jsonl", [json.dumps({"abstract": text, "title": text[:3]}) for text in texts])
    for task, label in (("词语匹配A类", "labelA"), ("词语匹配B类", "labelB")):
        Path("contest", task).mkdir(parents=True)
        pairs = [{"source": text, "target": text[::-1], label: str(i % 2)} for i, text in enumerate(texts)]
        for part in ("train", "valid"):
            write_lines(f"contest/{task}/{part}.txt", map(json.dumps, pairs))
    characters = dict.fromkeys("".join(texts))
    save_vocabulary([*SPECIAL_TOKENS, *characters, "实验", "方法"], "vocab.txt")
    save_vocabulary([*TTA_SPECIAL_TOKENS, *characters], "vocab_tta.txt")
    torch.manual_seed(0)
    tokenizer = WoBertTokenizer("vocab.txt")
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = WoBertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes)
    WoBertForMaskedLM(config).save_pretrained("encoder")
    tokenizer.save_pretrained("encoder")


def warm(jobs: list[str]) -> None:
    """Import the modules that the jobs need."""
    import importlib

    import kexue_hf.cli.main
    import kexue_hf.conversion.export
    import kexue_hf.conversion.extend
    import kexue_hf.conversion.formats.keras
    from kexue_hf.models.wobert.segmentation_wobert import Segmenter

    Segmenter()("词典")  # load the dictionary once, before the forks
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        kexue_hf.cli.main.main(["doctor"])  # for typer's late imports

    if not set(jobs) & {*RESUMED, *TRAININGS}:
        return
    import torch
    from tqdm import tqdm

    import kexue_hf.batch.model_loading
    import kexue_hf.pipelines.sentence_vectors
    import kexue_hf.pipelines.text_matching
    import kexue_hf.pipelines.text_scoring

    torch.set_num_threads(1)
    # tqdm's default lock is shared with the forks and stays locked if one is killed.
    tqdm.set_lock(threading.RLock())
    for name in set(jobs) & set(TRAININGS):
        importlib.import_module(f"examples.{name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--cases", type=int, default=30, help="kills of each command")
    parser.add_argument("--trainings", type=int, default=10, help="kills of each training")
    parser.add_argument(
        "--jobs",
        default=",".join([*COMMANDS, *TRAININGS]),
        help="commands and trainings, comma-separated (default: all)",
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    jobs = options.jobs.split(",")
    place = Path(tempfile.mkdtemp())
    os.environ.update(
        HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_DATASETS_CACHE=str(place / "cache")
    )
    warm(jobs)
    (place / "files").mkdir()
    os.chdir(place / "files")
    failed = 0
    try:
        prepare(jobs)
        for name in jobs:
            started = time.monotonic()
            (place / name).mkdir()
            rng = random.Random(f"{options.seed} {name}")
            attempt, cases = (try_command, options.cases) if name in COMMANDS else (try_training, options.trainings)
            killed, wrong = attempt(name, place / name, cases, rng)
            for line in wrong:
                print(line)
            failed += len(wrong)
            print(
                f"{name:24} {cases:3} kills, {killed:3} before the end, {len(wrong)} failures, "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
            shutil.rmtree(place / name)
    finally:
        os.chdir(ROOT)
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
