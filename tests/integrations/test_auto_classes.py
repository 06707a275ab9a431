"""Our classes are known to transformers' Auto classes whatever was imported first, and importing us costs nothing.

Each case runs in a process of its own. Run this file alone: pytest tests/integrations/test_auto_classes.py
"""

import importlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kexue_hf.integrations.auto_classes import MODEL_TYPES
from tests.fresh_process import TORCH, run_forked

CONFIG = "dict(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)"


def run_python(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter and return what it prints; fail with its traceback if it fails."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_neither_torch_nor_transformers() -> None:
    assert (
        run_python("""
        import sys, kexue_hf
        print(sorted({"torch", "transformers", "numpy", "jieba", "rjieba", "h5py"} & set(sys.modules)))
    """)
        == "[]"
    )


ORDERS = {
    "ours_first": "import kexue_hf; from transformers import AutoConfig, AutoModel",
    "transformers_first": "import transformers; from transformers import AutoModel, AutoConfig; import kexue_hf",
    "config_first": "from transformers import AutoConfig; import kexue_hf; from transformers import AutoModel",
    "tokenizer_first": "import kexue_hf; from transformers import AutoTokenizer, AutoConfig, AutoModel",
    "tokenizer_before": "from transformers import AutoTokenizer; import kexue_hf\n"
    "from transformers.models.auto import *",
    "model_class_first": "from kexue_hf import WoBertModel; from transformers import AutoConfig, AutoModel",
    "config_class_first": "from kexue_hf import WoBertConfig; from transformers import AutoConfig, AutoModel",
    "bert_first": "import kexue_hf; from transformers import BertModel, AutoConfig, AutoModel",
    "trainer_first": "import kexue_hf; from transformers import Trainer, pipeline, AutoConfig, AutoModel",
    "imported_twice": """
import sys, kexue_hf
for name in [name for name in sys.modules if name.startswith("kexue_hf")]: del sys.modules[name]
import kexue_hf; from transformers import AutoConfig, AutoModel""",
    "after_a_failed_import": """
import sys, types, kexue_hf, importlib.util
import transformers.models
folder = __import__("pathlib").Path(__import__("tempfile").mkdtemp())
(folder / "broken.py").write_text("from transformers import AutoModel; import no_such_module")
transformers.models.__path__.append(str(folder))
try:
    import transformers.models.broken
    raise SystemExit("imported")
except ModuleNotFoundError:
    pass
from transformers import AutoConfig, AutoModel""",
    "in_threads": """
import threading, kexue_hf
def load():
    from transformers import AutoModel, AutoTokenizer
threads = [threading.Thread(target=load) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
from transformers import AutoConfig, AutoModel""",
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_auto_classes_know_us_in_any_order_of_imports(order: str) -> None:
    printed = run_forked(
        TORCH,
        f"""{order}
config = AutoConfig.for_model("wobert", **{CONFIG})
print(type(AutoModel.from_config(config)).__name__, type(config).__name__)
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING
print(TOKENIZER_MAPPING[type(config)])
""",
    )
    first, second = printed.splitlines()[-2:]
    assert first == "WoBertModel WoBertConfig"
    assert "WoBertTokenizer" in second


PIPELINES = sorted(path.stem for path in (Path(__file__).parents[2] / "kexue_hf" / "pipelines").glob("*_pipeline.py"))


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipelines_module_may_be_the_first_import(name: str) -> None:
    run_forked(TORCH, f"import kexue_hf.pipelines.{name}")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_know_us(method: str, tmp_path) -> None:
    script = tmp_path / "workers.py"
    script.write_text(
        textwrap.dedent(f"""
        import multiprocessing, sys
        import kexue_hf

        def load(folder):
            from transformers import AutoModel
            return type(AutoModel.from_pretrained(folder)).__name__

        if __name__ == "__main__":
            folder = sys.argv[1]
            if not __import__("os").path.exists(folder):
                from kexue_hf import WoBertConfig, WoBertModel
                WoBertModel(WoBertConfig(**{CONFIG})).save_pretrained(folder)
            with multiprocessing.get_context("{method}").Pool(1) as pool:
                print(pool.map(load, [folder, folder]))
    """)
    )
    done = subprocess.run([sys.executable, script, tmp_path / "model"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['WoBertModel', 'WoBertModel']"


def test_the_ordinary_loader_stays_visible() -> None:
    assert (
        run_python("""
        import kexue_hf, inspect
        from transformers.models.auto import modeling_auto
        assert "AutoModel" in inspect.getsource(modeling_auto)
        print(type(modeling_auto.__loader__).__name__)
    """)
        == "SourceFileLoader"
    )


def test_public_names_are_what_the_package_says() -> None:
    import kexue_hf

    for name in kexue_hf.__all__:
        assert getattr(kexue_hf, name) is not None
        assert name in dir(kexue_hf)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = kexue_hf.no_such_name


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_exported_names_agree_with_the_auto_map(model_type: str) -> None:
    import kexue_hf

    module = importlib.import_module(f"kexue_hf.models.{model_type}.auto_map_{model_type}")
    own_tokenizer = getattr(module, "TOKENIZER_AUTO_MAP", {}).get("AutoTokenizer", [])
    for reference in (*module.AUTO_MAP.values(), *filter(None, own_tokenizer)):
        file, name = reference.split(".")
        assert kexue_hf._LOCATIONS[name] == f"kexue_hf.models.{model_type}.{file}"


def test_threads_that_import_at_once() -> None:
    # Modules of one circle. Without us both imports succeed.
    assert (
        run_forked(
            TORCH,
            textwrap.dedent("""
        import importlib, threading, kexue_hf
        names = ["transformers.models.auto.modeling_auto", "transformers.models.clip.modeling_clip"]
        together, failed = threading.Barrier(len(names)), []

        def load(name):
            together.wait()
            try:
                importlib.import_module(name)
            except ImportError as error:
                failed.append(str(error))

        threads = [threading.Thread(target=load, args=(name,)) for name in names]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        from transformers import AutoConfig
        print(failed, AutoConfig.for_model("wobert").model_type)
        """),
        ).strip()
        == "[] wobert"
    )
