"""Names of a T-TA's tensors in the official code's checkpoints (github.com/joongbo/tta): WoBERT's.

`weight_map_wobert.py` explains each table. There are no segments, no next-sentence head, and no Keras files, because
bert4keras has no such network. The original's checkpoints contain the pooler of its graph, but the language
autoencoder does not use it, so it was never trained. The conversion drops it on purpose; the export writes zeros in
its place, because the original's `Saver` would not restore without it.
"""

from typing import Any

from kexue_hf.models.wobert import weight_map_wobert as bert

FAMILY = "tta"
MODEL_TYPE = "tta"
KERAS_MODEL = ""

TOKENIZERS: dict[str, str] = {"pieces": "tta/tokenization_tta.TtaTokenizer"}
TOKENIZER_FIELDS: dict[str, Any] = {"backend": "tokenizers", "strip_accents": None, "tokenize_chinese_chars": True}
SPECIAL_TOKENS: dict[str, tuple[str, bool]] = {
    "pad_token": ("[PAD]", True),
    "eos_token": ("[EOS]", True),
    "unk_token": ("[UNK]", True),
    "bos_token": ("[SOS]", True),
    "mask_token": ("[MASK]", False),
    "cls_token": ("[CLS]", False),
    "sep_token": ("[SEP]", False),
}
# "dummy" in modeling.py is 4 * input_mask, regardless of the vocabulary.
NETWORK_IDS: dict[str, int] = {"[MASK]": 4}
FIXED_VOCABULARIES = bert.FIXED_VOCABULARIES

_PARTS = ("encoder", "mlm", "classifier")
_SEGMENTS = "bert.embeddings.token_type_embeddings.weight"

PARAMETERS = {name: row for name, row in bert.PARAMETERS.items() if row[0] in _PARTS and name != _SEGMENTS}
TENSORFLOW = {theirs: row for theirs, row in bert.TENSORFLOW.items() if row[0] in PARAMETERS}
KERAS: dict[str, tuple[tuple[tuple[str, ...], str, bool], ...]] = {}
KERAS_HEAD: tuple[tuple[tuple[str, ...], str, bool], ...] = ()
KERAS_HEAD_LAYER = ""
KERAS_ORDER: tuple[tuple[frozenset[str], tuple[str, ...]], ...] = ()
KERAS_NUMBERED = bert.KERAS_NUMBERED

DROPPED_TENSORFLOW = (
    *bert.DROPPED_TENSORFLOW,
    (r"bert/pooler/dense/(kernel|bias)", "the language autoencoder neither uses nor trains the pooler"),
)
DROPPED_KERAS: tuple[tuple[str, str], ...] = ()

PARTS_NEED: dict[str, tuple[str, ...]] = {}
ARCHITECTURES: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"classifier"}), "TtaForSequenceClassification"),
    (frozenset({"mlm"}), "TtaForMaskedLM"),
    (frozenset(), "TtaModel"),
)
CLASSIFIERS: tuple[str, ...] = ("TtaForSequenceClassification", "TtaForTokenClassification")

DERIVED_SAVED: dict[str, str] = {}
DERIVED_KERAS: dict[str, str] = {}
DERIVED_TENSORFLOW: dict[str, str] = {
    "bert/pooler/dense/kernel": "zero_matrix",
    "bert/pooler/dense/bias": "zero_vector",
}

BASE_PREFIX = bert.BASE_PREFIX
TWINS = bert.TWINS
BUFFERS = bert.BUFFERS

CONFIG_DERIVED: tuple[str, ...] = ("auto_map", "classifier_pooling")
POOLINGS: tuple[str, ...] = ("mean", "cls")
# Fields for which the official code has no setting.
CONFIG_FIXED: dict[str, Any] = {
    "mask_diagonal": True,
    "mask_token_id": NETWORK_IDS["[MASK]"],
    "query_source": "mask_embedding",
    "type_vocab_size": 0,
}
CONFIG_REQUIRED = bert.CONFIG_REQUIRED
CONFIG_OPTIONAL: dict[str, float | int] = {
    key: value for key, value in bert.CONFIG_OPTIONAL.items() if key != "type_vocab_size"
}
CONFIG_ALIASES = bert.CONFIG_ALIASES
CONFIG_READ_OFF = bert.CONFIG_READ_OFF
ACTIVATIONS = bert.ACTIVATIONS
CONFIG_EQUAL = bert.CONFIG_EQUAL
CONFIG_OFF = (*bert.CONFIG_OFF, "type_vocab_size")
HEAD_SIZE_MULTIPLE = 1
CONFIG_TELLING: dict[str, Any] = {"vocab_file": "vocab.txt"}
CAVEAT: str = ""
ORIGINAL = "the official code of T-TA"
