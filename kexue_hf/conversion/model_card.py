"""The README.md of a converted folder: what it is, where it came from, how it is loaded.

What the card of a folder that `extend` made says of it: where its tokens are from and how their rows were made.
"""

import json
import re
from collections.abc import Sequence

from kexue_hf.conversion.families import load_weight_map
from kexue_hf.conversion.formats.weight_source import ElementType
from kexue_hf.conversion.weight_table import Plan
from kexue_hf.errors import InputError

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|multilingual|code")
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")
# What YAML reads as a text without quotes.
_PLAIN = re.compile(r"(?!(y|n|yes|no|on|off|true|false|null)$)[A-Za-z][A-Za-z0-9.+_-]*", re.IGNORECASE)

_PIPELINES = {
    "ForPreTraining": "fill-mask",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}
_EXACT = "bit for bit"
_AUTO_CLASSES = {"ForNextSentencePrediction": "AutoModelForNextSentencePrediction", "Model": "AutoModel"}


def check_license(license: str | None) -> None:
    """Raise InputError unless it is an identifier, as the Hub spells licences, or None."""
    if license is not None and not _LICENSE.fullmatch(license):
        raise InputError(f"--license {license!r:.60}: expected an identifier as the Hub spells it, like apache-2.0")


def check_language(language: str | None) -> None:
    """Raise InputError unless it is a code of a language, as the Hub spells them, or None."""
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise InputError(f"--language {language!r:.60}: expected a code as the Hub spells it, like en or zh")


def model_card(
    name: str,
    family: str,
    architecture: str,
    origin: str,
    license: str | None,
    vocabulary: str,
    language: str | None,
) -> str:
    """Render the card.

    Args:
        name: of the folder. architecture: the class that opens the folder.
        origin: what the model was made from and how, as text of the card.
        license: an identifier of the Hub ("apache-2.0"); left out where it is not known.
        vocabulary: what its tokens are, "words", "characters" or "pieces".
        language: of its text, a code of the Hub ("zh"); left out where it is not known.
    """
    # A folder's name may be bytes that are no text.
    name, origin = (text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for text in (name, origin))
    call = json.dumps(name, ensure_ascii=False)
    task = next((task for ending, task in _PIPELINES.items() if architecture.endswith(ending)), "feature-extraction")
    auto = auto_class(architecture)
    front = ["---", "library_name: transformers"]
    if language:
        front.append(f"language: {language if _PLAIN.fullmatch(language) else json.dumps(language)}")
    if license:
        front.append(f"license: {license if _PLAIN.fullmatch(license) else json.dumps(license)}")
    front += [f"pipeline_tag: {task}", "tags:", f"- {family}", "- kexue-hf", "---"]
    lines = [
        *front,
        f"# {name}",
        "",
        origin,
        "",
        "## Load it",
        "",
        *_loading(family, vocabulary, auto, call),
        *(_SCORES if architecture == "TtaForMaskedLM" else ()),
        *(_MATCHES if architecture == "ClnMatcherForSequenceClassification" else ()),
    ]
    return "\n".join(lines) + "\n"


def conversion(family: str, source: str, plan: Plan, dtype: ElementType | None) -> str:
    """What the card says of a conversion.

    Args:
        source: name of the checkpoint's file. dtype: what the tensors were cast to; None if they are as they were.
    """
    pooler = ", a pooler without a use" if any("pooler" in name.lower() for name, _ in plan.dropped) else ""
    return (
        f"A {family} model, converted with kexue_hf from the checkpoint `{source}`, {cast_of(plan, dtype) or _EXACT}: "
        f"{len(plan.moves)} tensors with {plan.parameters:,} parameters; {len(plan.dropped)} tensors that are no part "
        f"of the model (optimizer state, counters{pooler}) were left behind."
    )


def _loading(family: str, vocabulary: str, auto: str, call: str) -> list[str]:
    """How the folder is loaded, by whose classes they are: ours travel with it, transformers' are everywhere."""
    table = load_weight_map(family)
    own_model, own_tokenizer = "auto_map" in table.CONFIG_DERIVED, "/" in table.TOKENIZERS[vocabulary]
    if not own_model and not own_tokenizer:
        return [*_code(auto, call), "", _UNITS[vocabulary]]
    lines = _code(auto, call, "import kexue_hf  # pip install kexue-hf")
    cuts_words = table.TOKENIZERS[vocabulary].endswith("WoBertTokenizer")
    needs = " (needs `pip install jieba` or `rjieba`)" if cuts_words else ""
    lines += ["", f"Without the package, by the code that lies in this folder{needs}:", ""]
    lines += _code(auto, call, tokenizer=own_tokenizer, model=own_model)
    if not own_model:
        lines += [
            "",
            "The model is transformers' own and loads anyhow; its tokenizer does not: without the package and without "
            "`trust_remote_code=True` AutoTokenizer refuses.",
        ]
    return [*lines, "", _UNITS[vocabulary]]


_UNITS = {
    "words": "The tokenizer belongs to the weights: its unit is the word, and a character tokenizer would feed the "
    "model ids that mean something else.",
    "characters": "The tokenizer belongs to the weights: its unit is the character.",
    "pieces": "The tokenizer belongs to the weights: it cuts word pieces, [SOS] before a text and [EOS] after it.",
}

_SCORES = (
    "",
    "## Use it",
    "",
    "Every token is predicted from all others in one pass; nothing has to be masked:",
    "",
    "```python",
    "import torch",
    "",
    'encoded = tokenizer("a sentence", return_tensors="pt")',
    "with torch.no_grad():",
    "    log_probs = model(**encoded).logits.log_softmax(-1)",
    'scores = log_probs.gather(-1, encoded["input_ids"][..., None])[..., 0]  # log p(token | all other tokens)',
    "```",
    "",
    "The sum of a text's scores ranks sentences; the mean of `model(**encoded, output_hidden_states=True)"
    ".hidden_states[-1][0, 1:-1]` is a vector of the sentence.",
)


_MATCHES = (
    "",
    "## Use it",
    "",
    "A task is a standard by which two texts match, given by its name in `model.config.task_names` or by its number:",
    "",
    "```python",
    "import torch",
    "",
    'encoded = tokenizer("one text", "another text", truncation="longest_first", return_tensors="pt")',
    "with torch.no_grad():",
    "    logits = {task: model(**encoded, task_ids=task).logits for task in model.config.task_names}",
    "probabilities = {task: scores.softmax(-1)[0, 1].item() for task, scores in logits.items()}",
    "```",
    "",
    "In a batch each pair may have a task of its own (`task_ids=[0, 3, ...]`). `model.fold_task(task)` is a plain "
    "classifier by one of them.",
)


def _code(auto: str, call: str, first: str = "", tokenizer: bool = False, model: bool = False) -> list[str]:
    """The lines that load both; `tokenizer` and `model` say which of them trusts the folder's code."""
    trust = {False: "", True: ", trust_remote_code=True"}
    return [
        "```python",
        *([first] if first else []),
        f"from transformers import AutoTokenizer, {auto}",
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({call}{trust[tokenizer]})",
        f"model = {auto}.from_pretrained({call}{trust[model]})",
        "```",
    ]


def cast_of(plan: Plan, dtype: ElementType | None) -> str:
    """How the values were cast; empty if all are as they were: none was, or each had the type already."""
    if dtype is None or all(move.type == dtype for move in plan.moves):
        return ""
    others = sorted({move.type.name for move in plan.moves} - {dtype.name})
    return f"cast from {' and '.join(others)} to {dtype.name}"


def auto_class(architecture: str) -> str:
    """The Auto class that opens a folder of the architecture."""
    for ending in (*_PIPELINES, *_AUTO_CLASSES):
        if architecture.endswith(ending):
            return _AUTO_CLASSES.get(ending, f"AutoModel{ending}")
    return "AutoModel"


_SHOWN = 5


def extension(
    family: str,
    source: str,
    kept: int,
    words: Sequence[str],
    counted: str,
    user_words: int,
    plan: Plan,
    dtype: ElementType | None,
) -> str:
    """The text, two paragraphs.

    Args:
        source: name of the source's folder. kept: tokens that come from it. words: the new ones.
        counted: what decided on the words. user_words: how many of them, the last ones, are the user's own.
        plan: of the extended weights. dtype: what the tensors were cast to; None if they are as they were.
    """
    chosen = len(words) - user_words
    shown = f" ({', '.join([*words[:_SHOWN], *(['...'] if words[_SHOWN:] else [])])})" if words else ""
    if not user_words:
        whence = f", chosen by their frequency in {counted}" if chosen else ""
    elif chosen:
        whence = f", {chosen:,} chosen by their frequency in {counted} and {user_words:,} of its maker's own"
    else:
        whence = " of its maker's own"
    made = (
        "The embedding and the output bias of each new word are the means of its pieces'"
        if "mlm" in plan.parts
        else "The embedding of each new word is the mean of its pieces'"
    )
    cast = cast_of(plan, dtype)
    return (
        f"A {family} model made from `{source}` with `kexue-hf extend`: {kept:,} of its tokens and {len(words):,} "
        f"words{shown}{whence}. {made}, as in [WoBERT](https://kexue.fm/archives/7758); no other weight was changed."
        f"{f' The weights were {cast}.' if cast else ''}\n\n"
        "It has not been trained since: continue masked language modelling on text of your field before you judge it."
    )
