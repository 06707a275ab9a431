"""Table of the Auto classes and the WoBERT classes that they load.

It has three readers: the registration with transformers, the `auto_map` of every saved configuration (so that a folder
loads with `trust_remote_code=True` without this package), and the conversion, which writes that configuration without
importing transformers.
"""

AUTO_MAP: dict[str, str] = {
    "AutoConfig": "configuration_wobert.WoBertConfig",
    "AutoModel": "modeling_wobert.WoBertModel",
    "AutoModelForPreTraining": "modeling_wobert.WoBertForPreTraining",
    "AutoModelForMaskedLM": "modeling_wobert.WoBertForMaskedLM",
    "AutoModelForCausalLM": "modeling_wobert.WoBertForCausalLM",
    "AutoModelForSequenceClassification": "modeling_wobert.WoBertForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_wobert.WoBertForTokenClassification",
    "AutoModelForQuestionAnswering": "modeling_wobert.WoBertForQuestionAnswering",
    "AutoModelForMultipleChoice": "modeling_wobert.WoBertForMultipleChoice",
    "AutoModelForNextSentencePrediction": "modeling_wobert.WoBertForNextSentencePrediction",
}

TOKENIZER_AUTO_MAP: dict[str, list[str | None]] = {"AutoTokenizer": ["tokenization_wobert.WoBertTokenizer", None]}
