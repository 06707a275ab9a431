"""Names of a Xiangqi GPT's tensors in TensorFlow checkpoints and in bert4keras' Keras files: WoBERT's.

`weight_map_wobert.py` explains each table. There is no pooler and no next-sentence head; a BERT's are left out when a
model is started from it.
"""

from typing import Any

from kexue_hf.models.wobert import weight_map_wobert as bert
from kexue_hf.models.xiangqi_gpt.vocabulary_xiangqi_gpt import VOCABULARIES

FAMILY = "xiangqi_gpt"
MODEL_TYPE = "xiangqi_gpt"
KERAS_MODEL = "bert"

TOKENIZERS: dict[str, str] = {"moves": "xiangqi_gpt/tokenization_xiangqi_gpt.XiangqiTokenizer"}
# The tokenizer knows its vocabulary by vocab.txt.
TOKENIZER_FIELDS: dict[str, Any] = {"backend": "custom"}
SPECIAL_TOKENS: dict[str, tuple[str, bool]] = {
    "pad_token": ("[PAD]", True),
    "bos_token": ("[PAD]", True),
    "eos_token": ("[PAD]", True),
}
NETWORK_IDS: dict[str, int] = {}
# Number of embeddings: their tokens, whatever the vocabulary beside the checkpoint, which is the BERT's.
FIXED_VOCABULARIES: dict[int, tuple[str, ...]] = {len(tokens): tokens for tokens in VOCABULARIES.values()}

_PARTS = ("encoder", "mlm", "classifier")

PARAMETERS = {name: row for name, row in bert.PARAMETERS.items() if row[0] in _PARTS}
TENSORFLOW = {theirs: row for theirs, row in bert.TENSORFLOW.items() if row[0] in PARAMETERS}
KERAS = {layer: row for layer, row in bert.KERAS.items() if all(name in PARAMETERS for _, name, _ in row)}
# A Keras file does not show what a classifier reads.
KERAS_HEAD: tuple[tuple[tuple[str, ...], str, bool], ...] = ()
KERAS_HEAD_LAYER = ""
KERAS_ORDER: tuple[tuple[frozenset[str], tuple[str, ...]], ...] = ()
KERAS_NUMBERED = bert.KERAS_NUMBERED

DROPPED_TENSORFLOW = (
    *bert.DROPPED_TENSORFLOW,
    (r"bert/pooler/dense/(kernel|bias)", "the language model has no pooler"),
    (r"cls/seq_relationship/output_(weights|bias)", "the language model has no next-sentence head"),
)
DROPPED_KERAS = bert.DROPPED_KERAS

PARTS_NEED: dict[str, tuple[str, ...]] = {}
ARCHITECTURES: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"classifier"}), "XiangqiGptForSequenceClassification"),
    (frozenset({"mlm"}), "XiangqiGptForCausalLM"),
    (frozenset(), "XiangqiGptModel"),
)
CLASSIFIERS: tuple[str, ...] = ()

DERIVED_SAVED: dict[str, str] = {}
DERIVED_KERAS: dict[str, str] = {}
DERIVED_TENSORFLOW: dict[str, str] = {}

BASE_PREFIX = bert.BASE_PREFIX
TWINS = bert.TWINS
BUFFERS = bert.BUFFERS

CONFIG_DERIVED: tuple[str, ...] = ("auto_map",)
CONFIG_FIXED: dict[str, Any] = {"is_decoder": True}
POOLINGS: tuple[str, ...] = ("last",)

CONFIG_REQUIRED = bert.CONFIG_REQUIRED
CONFIG_OPTIONAL = bert.CONFIG_OPTIONAL
CONFIG_ALIASES = bert.CONFIG_ALIASES
CONFIG_READ_OFF = bert.CONFIG_READ_OFF
ACTIVATIONS = bert.ACTIVATIONS
CONFIG_EQUAL = bert.CONFIG_EQUAL
CONFIG_OFF = bert.CONFIG_OFF
HEAD_SIZE_MULTIPLE = 1
CONFIG_TELLING: dict[str, Any] = {}
CAVEAT = (
    "the number of embeddings says that this is a Chinese-chess model, whose tokens are known; if it is another small "
    "BERT, use --family wobert"
)
ORIGINAL = bert.ORIGINAL
