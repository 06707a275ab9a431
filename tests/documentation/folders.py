"""What the pages speak of as the reader's: folders of models, files of texts, and names that a Python block uses."""

import gzip
import json
import shutil
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertTokenizer

import kexue_hf

ASSETS = Path(str(files("kexue_hf") / "assets"))
GOLDEN = Path(__file__).parents[1] / "golden"
TEXTS = ["今天天气不错", "实验结果表明该方法是有效的。", "本文提出了一种新的方法。", "研究了温度对产量的影响。"]
# As many as a calibration needs.
SAMPLES = (ASSETS / "samples" / "train.jsonl").read_text("utf-8").splitlines()
OPENINGS = [json.loads(line)["text"][:12] for line in SAMPLES[:110]]
PAIRS = [{"text_a": one, "text_b": other, "task": task, "label": int(one == other)}
         for task in ("loose", "strict") for one in TEXTS[:2] for other in TEXTS[:2]]  # fmt: skip


def packaged(folder: Path) -> None:
    kexue_hf.convert(ASSETS / "wobert_tiny", folder, dtype="float32")


def calibrated(folder: Path) -> None:
    """The packaged model, in place of a T-TA that is good enough for correction; its page takes any masked LM."""
    packaged(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["correction"]["threshold"] = 5.0
    (folder / "config.json").write_text(json.dumps(config), "utf-8")


def golden(name: str) -> Callable[[Path], None]:
    return lambda folder: kexue_hf.convert(GOLDEN / name, folder, dtype="float32") and None


def copied(source: Path) -> Callable[[Path], None]:
    return lambda folder: shutil.copytree(source, folder) and None


def characters(folder: Path) -> None:
    """A BERT of characters with random weights."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({c for text in TEXTS for c in text})]
    (folder / "vocab.txt").write_text("\n".join(lines), "utf-8")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=len(lines), **sizes)).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)


def matcher(folder: Path) -> None:
    torch.manual_seed(0)
    start = folder.with_name(f"start-of-{folder.name}")
    packaged(start)
    kexue_hf.ClnMatcherForSequenceClassification.from_pretrained(
        start, task_names=["loose", "strict"]
    ).save_pretrained(folder)
    AutoTokenizer.from_pretrained(start).save_pretrained(folder)


def classifier(folder: Path) -> None:
    start = folder.with_name(f"start-of-{folder.name}")
    packaged(start)
    kexue_hf.WoBertForSequenceClassification.from_pretrained(start, num_labels=2).save_pretrained(folder)
    AutoTokenizer.from_pretrained(start).save_pretrained(folder)


# Name in the pages -> what makes it.
FOLDERS: dict[str, Callable[[Path], None]] = {
    "wobert": packaged,
    "tta": calibrated,
    "titles": packaged,
    "vectors/encoder": packaged,
    "OUTPUT": packaged,
    "OUTPUT/encoder": packaged,
    "OUTPUT/tta_small": packaged,
    "my-bert": characters,
    "matcher": matcher,
    "my-model": classifier,
    "kexue-demo/wobert-tiny": packaged,
    "chinese_wobert": copied(ASSETS / "wobert_tiny"),
    "chinese_bert": copied(GOLDEN / "wobert_from_bert"),
    "classifier": copied(GOLDEN / "wobert_keras_h5"),
    "tta-layer-3-enwiki-lower-sub-32k": copied(GOLDEN / "tta_tf_ckpt"),
    "FOLDER": copied(GOLDEN / "wobert_tf_ckpt"),
}
FILES: dict[str, Iterable[object]] = {
    "corpus.txt": TEXTS,
    "texts.txt": OPENINGS,
    "questions.txt": OPENINGS,
    "lines.txt": TEXTS,
    "letters.txt": TEXTS,
    "sentences.txt": TEXTS,
    "names.txt": ["天气"],
    "a.txt": TEXTS,
    "b.txt": TEXTS[::-1],
    "corpus.jsonl": [{"text": text * 20} for text in TEXTS],
    "corpus.jsonl.gz": [{"text": text} for text in TEXTS],
    "hypotheses.jsonl": [{"candidates": TEXTS[:2], "scores": [-3.1, -2.9]}],
    "train.jsonl": [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(TEXTS * 2)],
    "held_out.jsonl": [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(TEXTS)],
    "短短匹配A类/valid.txt": [{"source": TEXTS[0], "target": TEXTS[1]}],
}


def make(page: str, text: str, folder: Path) -> None:
    """Make the folders and files that the page's text names; a page may have others of its own."""
    text += NAMES.get(page, "")
    for name, made in {**FOLDERS, **OWN_FOLDERS.get(page, {})}.items():
        if made is not None and name in text and not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            made(folder / name)
    for name, rows in {**FILES, **OWN_FILES.get(page, {})}.items():
        if name in text:
            lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            content = ("\n".join(lines) + "\n").encode()
            (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


# None: a block of the page makes it.
OWN_FOLDERS: dict[str, dict[str, Callable[[Path], None] | None]] = {
    "docs/checkpoints.md": {"wobert": None} | dict.fromkeys(("weights", "bert"), copied(GOLDEN / "wobert_keras_h5")),
    "docs/matcher.md": {"FOLDER": copied(GOLDEN / "sohu_matcher_keras_h5")},
    "docs/wobert.md": {"wobert": None},
    "docs/xiangqi.md": {"xiangqi-gpt": golden("cchess_lm_keras_h5")},
    "kexue_hf/assets/README.md": {"wobert-tiny": packaged},
    "model_cards/cln_matcher.md": {"OUTPUT": matcher},
    "model_cards/roformer.md": {"OUTPUT": golden("roformer_tf_ckpt")},
    "model_cards/tta.md": {"OUTPUT": golden("tta_tf_ckpt")},
    "model_cards/wonezha.md": {"OUTPUT": golden("wonezha_tf_ckpt")},
}
OWN_FILES: dict[str, dict[str, Iterable[object]]] = {
    "docs/matcher.md": {"pairs.jsonl": PAIRS, "dev.jsonl": PAIRS},
    "docs/tta.md": {"pairs.jsonl": [{"source": "实验结果表名该方法是有效的。", "target": TEXTS[1]}]},
}
# Python that runs before a page's first Python block: the names that its blocks take for granted.
NAMES = {
    "docs/deployment.md": """
        import kexue_hf
        from transformers import AutoModel, AutoTokenizer
        model, tokenizer = (kind.from_pretrained("wobert") for kind in (AutoModel, AutoTokenizer))""",
    "docs/matcher.md": """
        from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments
        tokenizer = AutoTokenizer.from_pretrained("wobert")
        collator = DataCollatorWithPadding(tokenizer)
        rows = [{**tokenizer("天气", "天气"), "task_ids": n % 2, "labels": n % 2} for n in range(4)]
        arguments = TrainingArguments("trained", max_steps=1, report_to="none", use_cpu=True)""",
    "docs/performer.md": f"""
        from transformers import AutoTokenizer
        texts, tokenizer = {TEXTS * 20!r}, AutoTokenizer.from_pretrained("my-bert")""",
    "docs/publishing.md": """
        from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments
        arguments = TrainingArguments("trained", max_steps=1, report_to="none", use_cpu=True)
        trainer = Trainer(AutoModelForSequenceClassification.from_pretrained("my-model"), arguments)""",
    "docs/sentence_vectors.md": f"""
        from transformers import AutoTokenizer, Trainer, TrainingArguments
        texts, tokenizer = {TEXTS!r}, AutoTokenizer.from_pretrained("wobert")
        rows = [dict(tokenizer(text)) for text in texts]
        arguments = TrainingArguments("trained", max_steps=1, report_to="none", use_cpu=True)""",
    "docs/tta.md": """
        import kexue_hf
        from transformers import AutoModelForMaskedLM, AutoTokenizer
        model, tokenizer = (kind.from_pretrained("tta") for kind in (AutoModelForMaskedLM, AutoTokenizer))""",
    "model_cards/performer_bert.md": f"""
        from transformers import AutoTokenizer
        texts, tokenizer = {TEXTS * 20!r}, AutoTokenizer.from_pretrained("wobert")""",
}
