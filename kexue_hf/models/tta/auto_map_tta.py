"""Table of the Auto classes and the T-TA classes that they load; `auto_map_wobert` lists its readers."""

AUTO_MAP: dict[str, str] = {
    "AutoConfig": "configuration_tta.TtaConfig",
    "AutoModel": "modeling_tta.TtaModel",
    "AutoModelForMaskedLM": "modeling_tta.TtaForMaskedLM",
    "AutoModelForSequenceClassification": "modeling_tta.TtaForSequenceClassification",
    "AutoModelForTokenClassification": "modeling_tta.TtaForTokenClassification",
}

TOKENIZER_AUTO_MAP: dict[str, list[str | None]] = {"AutoTokenizer": ["tokenization_tta.TtaTokenizer", None]}
