"""Table of the Auto classes and the Xiangqi GPT classes that they load; `auto_map_wobert` lists its readers."""

AUTO_MAP: dict[str, str] = {
    "AutoConfig": "configuration_xiangqi_gpt.XiangqiGptConfig",
    "AutoModel": "modeling_xiangqi_gpt.XiangqiGptModel",
    "AutoModelForCausalLM": "modeling_xiangqi_gpt.XiangqiGptForCausalLM",
    "AutoModelForSequenceClassification": "modeling_xiangqi_gpt.XiangqiGptForSequenceClassification",
}

TOKENIZER_AUTO_MAP: dict[str, list[str | None]] = {
    "AutoTokenizer": ["tokenization_xiangqi_gpt.XiangqiTokenizer", None]
}
