"""The README.md of a folder that `convert` or `extend` made: the origin of the model and how to load it."""

import json
import re
from collections.abc import Sequence

from kexue_hf.conversion.families import load_weight_map
from kexue_hf.conversion.formats.weight_source import ElementType
from kexue_hf.conversion.weight_plan import Plan
from kexue_hf.errors import InputError
from kexue_hf.files.utf8_text import utf8_text

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|multilingual|code")
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")
# Strings that YAML reads as text without quotes.
_PLAIN = re.compile(r"(?!(y|n|yes|no|on|off|true|false|null)$)[A-Za-z][A-Za-z0-9.+_-]*", re.IGNORECASE)

_PIPELINES = {
    "ForPreTraining": "fill-mask",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}
_EXACT = "bit for bit"
_AUTO_CLASSES = {
    "ForNextSentencePrediction": "AutoModelForNextSentencePrediction",
    "ForMultipleChoice": "AutoModelForMultipleChoice",
    "Model": "AutoModel",
}


def check_license(license: str | None) -> None:
    """Raise InputError unless `license` is None or a licence identifier of the Hub."""
    if license is not None and not _LICENSE.fullmatch(license):
        raise InputError(f"--license {license!r:.60}: expected a licence identifier of the Hub, like apache-2.0")


def check_language(language: str | None) -> None:
    """Raise InputError unless `language` is None or a language code of the Hub."""
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise InputError(f"--language {language!r:.60}: expected a language code of the Hub, like en or zh")


def model_card(
    name: str,
    family: str,
    architecture: str,
    origin: str,
    license: str | None,
    vocabulary: str,
    language: str | None,
) -> str:
    """Return the text of the card.

    Args:
        name: name of the folder.
        architecture: the class that opens the folder.
        origin: the paragraph on how the model was made, from `conversion` or `extension`.
        license: a licence identifier of the Hub ("apache-2.0"); None leaves it out.
        vocabulary: kind of the tokens, "words", "characters" or "pieces".
        language: a language code of the Hub ("zh"); None leaves it out.
    """
    name, origin = utf8_text(name), utf8_text(origin)
    call = json.dumps(name, ensure_ascii=False)
    task = pipeline_tag(architecture)
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
    """Return the paragraph on the origin of a converted model.

    Args:
        source: file name of the checkpoint.
        dtype: the type that the tensors were cast to; None if they were not cast.
    """
    pooler = ", an unused pooler" if any("pooler" in name.lower() for name, _ in plan.dropped) else ""
    dropped = (
        f"; {len(plan.dropped)} tensors that are not part of the model (optimizer state, counters{pooler}) were left "
        "out"
        if plan.dropped
        else ""
    )
    return (
        f"A {family} model, converted with kexue_hf from the checkpoint `{source}`, {cast_of(plan, dtype) or _EXACT}: "
        f"{len(plan.moves)} tensors with {plan.parameters:,} parameters{dropped}."
    )


def _loading(family: str, vocabulary: str, auto: str, call: str) -> list[str]:
    """Return the section on loading. The folder carries our classes; transformers has its own."""
    weight_map = load_weight_map(family)
    own_model, own_tokenizer = "auto_map" in weight_map.CONFIG_DERIVED, "/" in weight_map.TOKENIZERS[vocabulary]
    cuts_words = weight_map.TOKENIZERS[vocabulary].endswith("WoBertTokenizer")
    lines = loading_code(auto, call, own_model=own_model, own_tokenizer=own_tokenizer, cuts_words=cuts_words)
    return [*lines, "", _UNITS[vocabulary]]


def loading_code(
    auto: str, call: str, *, own_model: bool, own_tokenizer: bool, cuts_words: bool = False, has_code: bool = True
) -> list[str]:
    """Return the lines of a card on loading, with the package and without.

    Args:
        auto: the Auto class.
        call: the name of the model, quoted.
        own_model, own_tokenizer: whether the class is one of this package.
        cuts_words: whether the tokenizer needs a word segmenter.
        has_code: whether the folder has the code of these classes.
    """
    if not own_model and not own_tokenizer:
        return _code(auto, call)
    lines = _code(auto, call, "import kexue_hf  # pip install kexue-hf")
    if not has_code:
        return lines
    needs = " (needs `pip install rjieba` or `jieba`)" if cuts_words else ""
    lines += ["", f"Without the package, with the code in this folder, if you trust it{needs}:", ""]
    lines += _code(auto, call, tokenizer=own_tokenizer, model=own_model)
    if not own_model:
        lines += [
            "",
            "The model is a class of transformers and always loads. The tokenizer needs the package or "
            "`trust_remote_code=True`.",
        ]
    return lines


_UNITS = {
    "words": "Use the tokenizer of this folder: its unit is the word, and a character tokenizer would give the model "
    "ids of other tokens.",
    "characters": "Use the tokenizer of this folder: its unit is the character.",
    "moves": 'Use the tokenizer of this folder, on games as ICCS moves: `tokenizer("h2e2 h9g7")`. '
    "`kexue_hf.LegalMoves(tokenizer)` is a logits processor that lets `generate` write legal moves only.",
    "pieces": "Use the tokenizer of this folder: it makes word pieces, with [SOS] before a text and [EOS] after it.",
}

_SCORES = (
    "",
    "## Use it",
    "",
    "The model predicts every token from all others in one pass, without masking:",
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
    "Use the sum of the scores to rank sentences. The mean of `model(**encoded, output_hidden_states=True)"
    ".hidden_states[-1][0, 1:-1]` is a sentence embedding.",
)


_MATCHES = (
    "",
    "## Use it",
    "",
    "A task is a standard by which two texts match. Pass its name in `model.config.task_names` or its number:",
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
    "Each pair of a batch may have a different task (`task_ids=[0, 3, ...]`). `model.fold_task(task)` returns a plain "
    "classifier for one task.",
)


def _code(auto: str, call: str, first: str = "", tokenizer: bool = False, model: bool = False) -> list[str]:
    """Return the lines that load tokenizer and model; the flags say which of them needs the folder's code."""
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
    """Return a description of the cast; empty if no value changed its type."""
    if dtype is None or all(move.type == dtype for move in plan.moves):
        return ""
    others = sorted({move.type.name for move in plan.moves} - {dtype.name})
    return f"cast from {' and '.join(others)} to {dtype.name}"


def pipeline_tag(architecture: str) -> str:
    """Return the Hub's name of the task that a class is for."""
    return next((task for ending, task in _PIPELINES.items() if architecture.endswith(ending)), "feature-extraction")


def auto_class(architecture: str) -> str:
    """Return the name of the Auto class that opens a folder of the architecture."""
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
    """Return the two paragraphs on the origin of an extended model.

    Args:
        source: name of the source folder.
        kept: number of tokens that come from the source.
        words: the new words.
        counted: what the word frequencies were counted in.
        user_words: how many of `words`, at the end, come from the user dictionary.
        plan: plan of the extended weights.
        dtype: the type that the tensors were cast to; None if they were not cast.
    """
    chosen = len(words) - user_words
    shown = f" ({', '.join([*words[:_SHOWN], *(['...'] if words[_SHOWN:] else [])])})" if words else ""
    if not user_words:
        origin = f", chosen by their frequency in {counted}" if chosen else ""
    elif chosen:
        origin = f", {chosen:,} chosen by their frequency in {counted} and {user_words:,} from a user dictionary"
    else:
        origin = " from a user dictionary"
    made = (
        "The embedding and the output bias of each new word are the means over its word pieces"
        if "mlm" in plan.parts
        else "The embedding of each new word is the mean over its word pieces"
    )
    cast = cast_of(plan, dtype)
    return (
        f"A {family} model made from `{source}` with `kexue-hf extend`: {kept:,} of its tokens and {len(words):,} "
        f"words{shown}{origin}. {made}, as in [WoBERT](https://kexue.fm/archives/7758); no other weight was changed."
        f"{f' The weights were {cast}.' if cast else ''}\n\n"
        "The model has not been trained since. Continue masked language modelling on text of your domain before you "
        "evaluate it."
    )
