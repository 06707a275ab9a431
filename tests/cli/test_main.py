"""The command line as a process: help, doctor, one-line errors, imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kexue_hf.cli.doctor import installed_versions
from kexue_hf.errors import InputError, KexueError
from kexue_hf.hub.saved_model import examine_folder
from kexue_hf.models.wobert.vocabulary_wobert import vocabulary_fingerprint

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "天"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kexue_hf.cli.main", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "arguments",
    [(), ("--help",), ("convert", "--help"), ("play", "--help"), ("push", "--help"), ("card", "--help"), ("doctor",)],
    ids=" ".join,
)
def test_help_and_doctor_import_no_heavy_library(arguments: tuple[str, ...]) -> None:
    code = f"""
import sys
from kexue_hf.cli import main as cli
try:
    cli.main({list(arguments)!r})
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {{"torch", "transformers", "datasets", "h5py", "tokenizers", "accelerate", "numpy"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("no-such-command",), "no-such-command"),
        (("convert",), "Missing argument"),
        (("convert", "no-such-folder", "x", "--no-such-option"), "no-such-option"),
        (("doctor", "no-such-folder"), "there is no such folder"),
    ],
    ids=["unknown_command", "missing_argument", "unknown_option", "missing_folder"],
)
def test_usage_errors_are_one_line_and_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and message in done.stderr
    assert "Traceback" not in done.stderr


def test_version() -> None:
    from kexue_hf import __version__

    assert run("--version").stdout.strip() == __version__


def test_ctrl_c_is_one_line_and_exit_code_2() -> None:
    code = """
import kexue_hf.cli.main, kexue_hf.hub.folder_report
def interrupted(folder, load): raise KeyboardInterrupt
kexue_hf.hub.folder_report.folder_report = interrupted
kexue_hf.cli.main.main(["doctor", "x"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.strip() == "kexue-hf: error: interrupted"


def test_our_errors_are_also_builtin_errors() -> None:
    from kexue_hf import errors

    for name, base in (("CheckpointError", ValueError), ("ConversionError", ValueError), ("OutputError", OSError)):
        assert issubclass(getattr(errors, name), KexueError)
        assert issubclass(getattr(errors, name), base)


def test_doctor_finds_installed_versions() -> None:
    versions = installed_versions()
    assert versions["torch"] and versions["kexue-hf"]
    assert f"torch            {versions['torch']}\n" in run("doctor").stdout


def test_an_option_is_alike_in_all_commands() -> None:
    """The same name takes a value, or none, in every command; short names belong to one long name."""
    from typer.main import get_command

    from kexue_hf.cli.main import app

    kinds: dict[str, set[object]] = {}
    for command in get_command(app).commands.values():
        for option in command.params:
            for name in (*option.opts, *option.secondary_opts):
                if name.startswith("--"):
                    shorts = tuple(short for short in option.opts if not short.startswith("--"))
                    kinds.setdefault(name, set()).add((bool(getattr(option, "is_flag", False)), shorts))
    assert {name: kind for name, kind in kinds.items() if len(kind) > 1} == {}
    # Other names for --output, --file and --picture.
    assert not {"--out", "--input", "--text", "--figure"} & set(kinds)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import torch

    from kexue_hf import WoBertConfig, WoBertModel, WoBertTokenizer

    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    torch.manual_seed(0)
    config = WoBertConfig(
        vocab_size=len(TOKENS),
        vocab_fingerprint=vocabulary_fingerprint(TOKENS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
    )
    saved = tmp_path / "saved"
    WoBertModel(config).save_pretrained(saved)
    WoBertTokenizer(vocab_file=str(tmp_path / "vocab.txt")).save_pretrained(saved)
    (saved / "README.md").write_text("---\nlicense: mit\n---\n# A model\n", encoding="utf-8")
    return saved


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def write_header(folder: Path, header: dict[str, object]) -> None:
    content = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(content).to_bytes(8, "little") + content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def test_doctor_finds_no_problem_in_a_saved_folder(folder: Path) -> None:
    assert examine_folder(folder) == []
    done = run("doctor", folder)
    assert done.returncode == 0 and "fit together" in done.stdout


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: edit_config(f, auto_map=None), "no complete auto_map"),
        (lambda f: (f / "modeling_wobert.py").unlink(), "missing: modeling_wobert.py"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: truncate(f / "model.safetensors"), "truncated"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 40), "truncated"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"[]"), "not a JSON object"),
        (
            lambda f: write_header(f, {"x.embeddings.word_embeddings.weight": {"data_offsets": [0, 0]}}),
            "should have dtype, shape and data_offsets",
        ),
        (
            lambda f: edit_config(f, vocab_fingerprint=None, vocab_size=9),
            "has 6 tokens, config.json says vocab_size 9",
        ),
        (lambda f: edit_config(f, vocab_size=7), "vocab_size 7, the embedding has 6 rows"),
        (lambda f: (f / "vocab.txt").unlink(), "no vocab.txt"),
        (lambda f: (f / "vocab.txt").write_text("a\nb\n"), "not the vocabulary"),
        (lambda f: (f / "vocab.txt").write_bytes(b"\xff\n"), "not UTF-8"),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_doctor_reports_problems(damage, message: str, folder: Path) -> None:
    damage(folder)
    assert any(message in problem for problem in examine_folder(folder))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "not a JSON file"),
        ("[]", "expected a JSON object"),
        ('{"model_type": "gpt2"}', "model_type is 'gpt2'"),
        ('{"model_type": ""}', "model_type is ''"),
        ('{"model_type": ["wobert"]}', "model_type should be a text"),
    ],
    ids=["broken", "list", "foreign", "empty", "no_name"],
)
def test_doctor_refuses_unknown_configurations(config: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=message):
        examine_folder(tmp_path)
