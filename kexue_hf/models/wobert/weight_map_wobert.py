"""Names of a WoBERT's tensors in TensorFlow checkpoints, in bert4keras' Keras files, and in our model.

Data only. The conversion applies the tables in both directions; each model family has such a file. `{n}` stands for
the number of a layer. The TensorFlow names are those of Google's BERT (github.com/google-research/bert: modeling.py,
run_pretraining.py, run_classifier.py, run_squad.py), the Keras layers those of bert4keras.models.BERT.
"""

from typing import Any

FAMILY = "wobert"
MODEL_TYPE = "wobert"
# Name of the network in bert4keras' build_transformer_model.
KERAS_MODEL = "bert"

# Kind of vocabulary: the tokenizer of the folder. A slash marks one of ours (model folder / module.class); the others
# are transformers'.
TOKENIZERS: dict[str, str] = {
    "words": "wobert/tokenization_wobert.WoBertTokenizer",
    "characters": "wobert/tokenization_wobert.WoBertTokenizer",
}

# Fields of tokenizer_config.json beyond those common to all tokenizers, for our own tokenizers.
TOKENIZER_FIELDS: dict[str, Any] = {"backend": "custom", "user_words": []}
# Role of a special token: (its string, whether the vocabulary must contain it).
SPECIAL_TOKENS: dict[str, tuple[str, bool]] = {
    "pad_token": ("[PAD]", True),
    "unk_token": ("[UNK]", True),
    "cls_token": ("[CLS]", True),
    "sep_token": ("[SEP]", True),
    "mask_token": ("[MASK]", False),
}
# Ids that the original's network hard-codes, by their tokens.
NETWORK_IDS: dict[str, int] = {}
# Number of embeddings: their tokens, for families whose vocabularies are known.
FIXED_VOCABULARIES: dict[int, tuple[str, ...]] = {}

# name in the model: (part of the model, shape in terms of the configuration)
PARAMETERS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "bert.embeddings.word_embeddings.weight": ("encoder", ("vocab_size", "hidden_size")),
    "bert.embeddings.position_embeddings.weight": ("encoder", ("max_position_embeddings", "hidden_size")),
    "bert.embeddings.token_type_embeddings.weight": ("encoder", ("type_vocab_size", "hidden_size")),
    "bert.embeddings.LayerNorm.weight": ("encoder", ("hidden_size",)),
    "bert.embeddings.LayerNorm.bias": ("encoder", ("hidden_size",)),
    "bert.encoder.layer.{n}.attention.self.query.weight": ("encoder", ("hidden_size", "hidden_size")),
    "bert.encoder.layer.{n}.attention.self.query.bias": ("encoder", ("hidden_size",)),
    "bert.encoder.layer.{n}.attention.self.key.weight": ("encoder", ("hidden_size", "hidden_size")),
    "bert.encoder.layer.{n}.attention.self.key.bias": ("encoder", ("hidden_size",)),
    "bert.encoder.layer.{n}.attention.self.value.weight": ("encoder", ("hidden_size", "hidden_size")),
    "bert.encoder.layer.{n}.attention.self.value.bias": ("encoder", ("hidden_size",)),
    "bert.encoder.layer.{n}.attention.output.dense.weight": ("encoder", ("hidden_size", "hidden_size")),
    "bert.encoder.layer.{n}.attention.output.dense.bias": ("encoder", ("hidden_size",)),
    "bert.encoder.layer.{n}.attention.output.LayerNorm.weight": ("encoder", ("hidden_size",)),
    "bert.encoder.layer.{n}.attention.output.LayerNorm.bias": ("encoder", ("hidden_size",)),
    "bert.encoder.layer.{n}.intermediate.dense.weight": ("encoder", ("intermediate_size", "hidden_size")),
    "bert.encoder.layer.{n}.intermediate.dense.bias": ("encoder", ("intermediate_size",)),
    "bert.encoder.layer.{n}.output.dense.weight": ("encoder", ("hidden_size", "intermediate_size")),
    "bert.encoder.layer.{n}.output.dense.bias": ("encoder", ("hidden_size",)),
    "bert.encoder.layer.{n}.output.LayerNorm.weight": ("encoder", ("hidden_size",)),
    "bert.encoder.layer.{n}.output.LayerNorm.bias": ("encoder", ("hidden_size",)),
    "bert.pooler.dense.weight": ("pooler", ("hidden_size", "hidden_size")),
    "bert.pooler.dense.bias": ("pooler", ("hidden_size",)),
    "cls.predictions.transform.dense.weight": ("mlm", ("hidden_size", "hidden_size")),
    "cls.predictions.transform.dense.bias": ("mlm", ("hidden_size",)),
    "cls.predictions.transform.LayerNorm.weight": ("mlm", ("hidden_size",)),
    "cls.predictions.transform.LayerNorm.bias": ("mlm", ("hidden_size",)),
    "cls.predictions.bias": ("mlm", ("vocab_size",)),
    "cls.seq_relationship.weight": ("nsp", (2, "hidden_size")),
    "cls.seq_relationship.bias": ("nsp", (2,)),
    "classifier.weight": ("classifier", ("num_labels", "hidden_size")),
    "classifier.bias": ("classifier", ("num_labels",)),
    "qa_outputs.weight": ("spans", (2, "hidden_size")),
    "qa_outputs.bias": ("spans", (2,)),
}

# TensorFlow variable: (name in the model, whether one is the transpose of the other)
TENSORFLOW: dict[str, tuple[str, bool]] = {
    "bert/embeddings/word_embeddings": ("bert.embeddings.word_embeddings.weight", False),
    "bert/embeddings/position_embeddings": ("bert.embeddings.position_embeddings.weight", False),
    "bert/embeddings/token_type_embeddings": ("bert.embeddings.token_type_embeddings.weight", False),
    "bert/embeddings/LayerNorm/gamma": ("bert.embeddings.LayerNorm.weight", False),
    "bert/embeddings/LayerNorm/beta": ("bert.embeddings.LayerNorm.bias", False),
    "bert/encoder/layer_{n}/attention/self/query/kernel": ("bert.encoder.layer.{n}.attention.self.query.weight", True),
    "bert/encoder/layer_{n}/attention/self/query/bias": ("bert.encoder.layer.{n}.attention.self.query.bias", False),
    "bert/encoder/layer_{n}/attention/self/key/kernel": ("bert.encoder.layer.{n}.attention.self.key.weight", True),
    "bert/encoder/layer_{n}/attention/self/key/bias": ("bert.encoder.layer.{n}.attention.self.key.bias", False),
    "bert/encoder/layer_{n}/attention/self/value/kernel": ("bert.encoder.layer.{n}.attention.self.value.weight", True),
    "bert/encoder/layer_{n}/attention/self/value/bias": ("bert.encoder.layer.{n}.attention.self.value.bias", False),
    "bert/encoder/layer_{n}/attention/output/dense/kernel": (
        "bert.encoder.layer.{n}.attention.output.dense.weight",
        True,
    ),
    "bert/encoder/layer_{n}/attention/output/dense/bias": (
        "bert.encoder.layer.{n}.attention.output.dense.bias",
        False,
    ),
    "bert/encoder/layer_{n}/attention/output/LayerNorm/gamma": (
        "bert.encoder.layer.{n}.attention.output.LayerNorm.weight",
        False,
    ),
    "bert/encoder/layer_{n}/attention/output/LayerNorm/beta": (
        "bert.encoder.layer.{n}.attention.output.LayerNorm.bias",
        False,
    ),
    "bert/encoder/layer_{n}/intermediate/dense/kernel": ("bert.encoder.layer.{n}.intermediate.dense.weight", True),
    "bert/encoder/layer_{n}/intermediate/dense/bias": ("bert.encoder.layer.{n}.intermediate.dense.bias", False),
    "bert/encoder/layer_{n}/output/dense/kernel": ("bert.encoder.layer.{n}.output.dense.weight", True),
    "bert/encoder/layer_{n}/output/dense/bias": ("bert.encoder.layer.{n}.output.dense.bias", False),
    "bert/encoder/layer_{n}/output/LayerNorm/gamma": ("bert.encoder.layer.{n}.output.LayerNorm.weight", False),
    "bert/encoder/layer_{n}/output/LayerNorm/beta": ("bert.encoder.layer.{n}.output.LayerNorm.bias", False),
    "bert/pooler/dense/kernel": ("bert.pooler.dense.weight", True),
    "bert/pooler/dense/bias": ("bert.pooler.dense.bias", False),
    "cls/predictions/transform/dense/kernel": ("cls.predictions.transform.dense.weight", True),
    "cls/predictions/transform/dense/bias": ("cls.predictions.transform.dense.bias", False),
    "cls/predictions/transform/LayerNorm/gamma": ("cls.predictions.transform.LayerNorm.weight", False),
    "cls/predictions/transform/LayerNorm/beta": ("cls.predictions.transform.LayerNorm.bias", False),
    "cls/predictions/output_bias": ("cls.predictions.bias", False),
    # Heads that Google's scripts build by hand are stored as [out, in].
    "cls/seq_relationship/output_weights": ("cls.seq_relationship.weight", False),
    "cls/seq_relationship/output_bias": ("cls.seq_relationship.bias", False),
    "output_weights": ("classifier.weight", False),
    "output_bias": ("classifier.bias", False),
    "cls/squad/output_weights": ("qa_outputs.weight", False),
    "cls/squad/output_bias": ("qa_outputs.bias", False),
}

# Keras layer: its weights in order, each (name endings across bert4keras versions, name in the model, transposed).
# Dense layers inside a layer have running numbers, so place and ending identify a weight, not its name.
KERAS: dict[str, tuple[tuple[tuple[str, ...], str, bool], ...]] = {
    "Embedding-Token": ((("embeddings",), "bert.embeddings.word_embeddings.weight", False),),
    "Embedding-Segment": ((("embeddings",), "bert.embeddings.token_type_embeddings.weight", False),),
    "Embedding-Position": ((("embeddings",), "bert.embeddings.position_embeddings.weight", False),),
    "Embedding-Norm": (
        (("beta",), "bert.embeddings.LayerNorm.bias", False),
        (("gamma",), "bert.embeddings.LayerNorm.weight", False),
    ),
    "Transformer-{n}-MultiHeadSelfAttention": (
        (("kernel",), "bert.encoder.layer.{n}.attention.self.query.weight", True),
        (("bias",), "bert.encoder.layer.{n}.attention.self.query.bias", False),
        (("kernel",), "bert.encoder.layer.{n}.attention.self.key.weight", True),
        (("bias",), "bert.encoder.layer.{n}.attention.self.key.bias", False),
        (("kernel",), "bert.encoder.layer.{n}.attention.self.value.weight", True),
        (("bias",), "bert.encoder.layer.{n}.attention.self.value.bias", False),
        (("kernel",), "bert.encoder.layer.{n}.attention.output.dense.weight", True),
        (("bias",), "bert.encoder.layer.{n}.attention.output.dense.bias", False),
    ),
    "Transformer-{n}-MultiHeadSelfAttention-Norm": (
        (("beta",), "bert.encoder.layer.{n}.attention.output.LayerNorm.bias", False),
        (("gamma",), "bert.encoder.layer.{n}.attention.output.LayerNorm.weight", False),
    ),
    "Transformer-{n}-FeedForward": (
        (("kernel",), "bert.encoder.layer.{n}.intermediate.dense.weight", True),
        (("bias",), "bert.encoder.layer.{n}.intermediate.dense.bias", False),
        (("kernel",), "bert.encoder.layer.{n}.output.dense.weight", True),
        (("bias",), "bert.encoder.layer.{n}.output.dense.bias", False),
    ),
    "Transformer-{n}-FeedForward-Norm": (
        (("beta",), "bert.encoder.layer.{n}.output.LayerNorm.bias", False),
        (("gamma",), "bert.encoder.layer.{n}.output.LayerNorm.weight", False),
    ),
    "MLM-Dense": (
        (("kernel",), "cls.predictions.transform.dense.weight", True),
        (("bias",), "cls.predictions.transform.dense.bias", False),
    ),
    "MLM-Norm": (
        (("beta",), "cls.predictions.transform.LayerNorm.bias", False),
        (("gamma",), "cls.predictions.transform.LayerNorm.weight", False),
    ),
    # A BiasAdd up to bert4keras 0.10.8, a ScaleOffset without scale from 0.11 on.
    "MLM-Bias": ((("bias", "beta"), "cls.predictions.bias", False),),
    "Pooler-Dense": (
        (("kernel",), "bert.pooler.dense.weight", True),
        (("bias",), "bert.pooler.dense.bias", False),
    ),
    "NSP-Proba": (
        (("kernel",), "cls.seq_relationship.weight", True),
        (("bias",), "cls.seq_relationship.bias", False),
    ),
}

# Keras or the author named the layers that a fine-tuning script adds. A single such layer with these weights is the
# classifier; several are a custom architecture.
KERAS_HEAD: tuple[tuple[tuple[str, ...], str, bool], ...] = (
    (("kernel",), "classifier.weight", True),
    (("bias",), "classifier.bias", False),
)
KERAS_HEAD_LAYER = "dense_1"

# Keras reads layers by place and lists them by their distance from the outputs: (parts, order of these layers) where
# it differs from the order of the table.
KERAS_ORDER: tuple[tuple[frozenset[str], tuple[str, ...]], ...] = (
    (frozenset({"pooler", "nsp", "mlm"}), ("MLM-Dense", "MLM-Norm", "Pooler-Dense", "MLM-Bias", "NSP-Proba")),
)

# Layers of the table named by a running number: any other layer with their weights matches.
KERAS_NUMBERED: tuple[str, ...] = ()

# (pattern of whole names, reason for dropping them)
DROPPED_TENSORFLOW: tuple[tuple[str, str], ...] = (
    (r".+/adam_[mv]", "slot of Google's AdamWeightDecayOptimizer"),
    (r".+/(AdamWeightDecay|LAMB|Adam)\w*(_\d+)?", "optimizer slot"),
    (r"(training|.*Adam\w*|.*Optimizer\w*)/.*", "optimizer state"),
    (r"(beta[12]_power|bad_steps|good_steps|(current_)?loss_scale)(_\d+)?", "optimizer state"),
    (r"(.*/)?global_step", "number of training steps"),
    (r"(_CHECKPOINTABLE_OBJECT_GRAPH|save_counter/\.ATTRIBUTES/VARIABLE_VALUE)", "TensorFlow's book-keeping"),
)
DROPPED_KERAS: tuple[tuple[str, str], ...] = ((r"(optimizer_weights|top_level_model_weights)/.*", "optimizer state"),)

# Part: the parts that it requires.
PARTS_NEED: dict[str, tuple[str, ...]] = {"nsp": ("pooler",)}

# (parts present, class that opens the folder); the first match wins
ARCHITECTURES: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"classifier"}), "WoBertForSequenceClassification"),
    (frozenset({"spans"}), "WoBertForQuestionAnswering"),
    (frozenset({"pooler", "nsp", "mlm"}), "WoBertForPreTraining"),
    (frozenset({"mlm"}), "WoBertForMaskedLM"),
    (frozenset({"nsp"}), "WoBertForNextSentencePrediction"),
    (frozenset(), "WoBertModel"),
)

# Architectures whose head is called `classifier`: the tensors alone do not distinguish them.
CLASSIFIERS: tuple[str, ...] = (
    "WoBertForSequenceClassification",
    "WoBertForTokenClassification",
    "WoBertForMultipleChoice",
)

# Tensors that depend on the configuration only, by the function's name (conversion/derived_weights.py): those in our
# file that the original lacks, and the Keras layers and TensorFlow variables that our file lacks.
DERIVED_SAVED: dict[str, str] = {}
DERIVED_KERAS: dict[str, str] = {}
DERIVED_TENSORFLOW: dict[str, str] = {}

# Prefix that a base model's file lacks, and names of tensors that duplicate another (safetensors stores one of them).
BASE_PREFIX = "bert."
TWINS: dict[str, str] = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
BUFFERS: tuple[str, ...] = (r"(bert\.)?embeddings\.(position_ids|token_type_ids)",)

# Fields of config.json beyond the sizes: those derived from the checkpoint that this configuration has, and those that
# are equal in every model of the family.
CONFIG_DERIVED: tuple[str, ...] = ("add_pooling_layer", "auto_map", "classifier_pooling")
CONFIG_FIXED: dict[str, Any] = {}
# Poolings for a classifier; the first is the default if there is no pooler.
POOLINGS: tuple[str, ...] = ("cls", "mean", "pooler")

# Keys of bert_config.json. Required ones have no default.
CONFIG_REQUIRED: tuple[str, ...] = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
)
CONFIG_OPTIONAL: dict[str, float | int] = {
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
}
# bert4keras' spellings
CONFIG_ALIASES: dict[str, str] = {
    "max_position": "max_position_embeddings",
    "segment_vocab_size": "type_vocab_size",
    "dropout_rate": "hidden_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
}
# Sizes that bert_config.json may lack, read off a tensor: (parameter, axis).
CONFIG_READ_OFF: dict[str, tuple[str, int]] = {}
# "gelu" in bert4keras and Google's BERT is the exact one (erf).
ACTIVATIONS: dict[str, str] = {
    "gelu": "gelu",
    "gelu_erf": "gelu",
    "gelu_new": "gelu_new",
    "gelu_tanh": "gelu_new",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
# Settings that would change the network: a key that must equal another, and keys that must be off.
CONFIG_EQUAL: dict[str, str] = {"embedding_size": "hidden_size"}
CONFIG_OFF: tuple[str, ...] = (
    "use_relative_position",
    "hierarchical_position",
    "shared_segment_embeddings",
    "residual_attention_scores",
)
# Required divisor of the head size: 2 for sine and cosine pairs.
HEAD_SIZE_MULTIPLE = 1
# Settings that identify the family, with their values in bert_config.json.
CONFIG_TELLING: dict[str, Any] = {}
# Warning for users who did not name the family.
CAVEAT: str = ""
# Name of the software that reads the original format.
ORIGINAL = "bert4keras"
