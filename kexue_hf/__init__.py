"""kexue_hf: the models and methods of kexue.fm (科学空间) as first-class citizens of HuggingFace.

`import kexue_hf` imports neither torch nor transformers. Its classes are registered with transformers' Auto classes
when transformers is imported, or immediately if it already is. The names below are imported on first use.
"""

import importlib
from typing import Any

from kexue_hf.integrations.hook_table import install as _install_hooks

__version__ = "0.1.0"

_LOCATIONS: dict[str, str] = {
    "WoBertConfig": "kexue_hf.models.wobert.configuration_wobert",
    "WoBertModel": "kexue_hf.models.wobert.modeling_wobert",
    "WoBertPreTrainedModel": "kexue_hf.models.wobert.modeling_wobert",
    "WoBertForPreTraining": "kexue_hf.models.wobert.modeling_wobert",
    "WoBertForMaskedLM": "kexue_hf.models.wobert.modeling_wobert",
    "WoBertForCausalLM": "kexue_hf.models.wobert.modeling_wobert",
    "WoBertForSequenceClassification": "kexue_hf.models.wobert.modeling_wobert",
    "WoBertForTokenClassification": "kexue_hf.models.wobert.modeling_wobert",
    "WoBertForQuestionAnswering": "kexue_hf.models.wobert.modeling_wobert",
    "WoBertForMultipleChoice": "kexue_hf.models.wobert.modeling_wobert",
    "WoBertForNextSentencePrediction": "kexue_hf.models.wobert.modeling_wobert",
    "WoBertTokenizer": "kexue_hf.models.wobert.tokenization_wobert",
    "NezhaConfig": "kexue_hf.models.nezha.configuration_nezha",
    "NezhaModel": "kexue_hf.models.nezha.modeling_nezha",
    "NezhaPreTrainedModel": "kexue_hf.models.nezha.modeling_nezha",
    "NezhaForPreTraining": "kexue_hf.models.nezha.modeling_nezha",
    "NezhaForMaskedLM": "kexue_hf.models.nezha.modeling_nezha",
    "NezhaForSequenceClassification": "kexue_hf.models.nezha.modeling_nezha",
    "NezhaForTokenClassification": "kexue_hf.models.nezha.modeling_nezha",
    "NezhaForQuestionAnswering": "kexue_hf.models.nezha.modeling_nezha",
    "NezhaForMultipleChoice": "kexue_hf.models.nezha.modeling_nezha",
    "NezhaForNextSentencePrediction": "kexue_hf.models.nezha.modeling_nezha",
    "TtaTokenizer": "kexue_hf.models.tta.tokenization_tta",
    "TtaConfig": "kexue_hf.models.tta.configuration_tta",
    "TtaModel": "kexue_hf.models.tta.modeling_tta",
    "TtaPreTrainedModel": "kexue_hf.models.tta.modeling_tta",
    "TtaForMaskedLM": "kexue_hf.models.tta.modeling_tta",
    "TtaForSequenceClassification": "kexue_hf.models.tta.modeling_tta",
    "TtaForTokenClassification": "kexue_hf.models.tta.modeling_tta",
    "PerformerBertConfig": "kexue_hf.models.performer_bert.configuration_performer_bert",
    "PerformerBertModel": "kexue_hf.models.performer_bert.modeling_performer_bert",
    "PerformerBertPreTrainedModel": "kexue_hf.models.performer_bert.modeling_performer_bert",
    "PerformerBertForMaskedLM": "kexue_hf.models.performer_bert.modeling_performer_bert",
    "PerformerBertForCausalLM": "kexue_hf.models.performer_bert.modeling_performer_bert",
    "PerformerBertForSequenceClassification": "kexue_hf.models.performer_bert.modeling_performer_bert",
    "PerformerBertForTokenClassification": "kexue_hf.models.performer_bert.modeling_performer_bert",
    "PerformerBertForQuestionAnswering": "kexue_hf.models.performer_bert.modeling_performer_bert",
    "ClnMatcherConfig": "kexue_hf.models.cln_matcher.configuration_cln_matcher",
    "ClnMatcherModel": "kexue_hf.models.cln_matcher.modeling_cln_matcher",
    "ClnMatcherPreTrainedModel": "kexue_hf.models.cln_matcher.modeling_cln_matcher",
    "ClnMatcherForSequenceClassification": "kexue_hf.models.cln_matcher.modeling_cln_matcher",
    "SimSiamConfig": "kexue_hf.models.simsiam.configuration_simsiam",
    "SimSiamModel": "kexue_hf.models.simsiam.modeling_simsiam",
    "SimSiamPreTrainedModel": "kexue_hf.models.simsiam.modeling_simsiam",
    "XiangqiGptConfig": "kexue_hf.models.xiangqi_gpt.configuration_xiangqi_gpt",
    "XiangqiGptModel": "kexue_hf.models.xiangqi_gpt.modeling_xiangqi_gpt",
    "XiangqiGptPreTrainedModel": "kexue_hf.models.xiangqi_gpt.modeling_xiangqi_gpt",
    "XiangqiGptForCausalLM": "kexue_hf.models.xiangqi_gpt.modeling_xiangqi_gpt",
    "XiangqiGptForSequenceClassification": "kexue_hf.models.xiangqi_gpt.modeling_xiangqi_gpt",
    "XiangqiTokenizer": "kexue_hf.models.xiangqi_gpt.tokenization_xiangqi_gpt",
    "use_performer": "kexue_hf.performer.swap",
    "calibrate_performer": "kexue_hf.performer.calibrate_model",
    "remove_performer": "kexue_hf.performer.swap",
    "count_performer_step": "kexue_hf.models.performer_bert.redraws_performer_bert",
    "CollapseMonitor": "kexue_hf.evaluation.collapse_monitor",
    "ModelCardCallback": "kexue_hf.hub.card_callback",
    "TargetAverageCallback": "kexue_hf.trainers.simsiam_training",
    "TextViewsCollator": "kexue_hf.trainers.text_views",
    "simsiam_optimizer": "kexue_hf.trainers.simsiam_training",
    "EmaCallback": "kexue_hf.trainers.averaged_weights",
    "PolicyGradientOptions": "kexue_hf.trainers.policy_gradient",
    "PolicyGradientTrainer": "kexue_hf.trainers.policy_gradient",
    "ZerothOrderOptions": "kexue_hf.trainers.zeroth_order",
    "ZerothOrderTrainer": "kexue_hf.trainers.zeroth_order",
    "MatcherEvaluator": "kexue_hf.evaluation.matcher_evaluator",
    "transfer_attention": "kexue_hf.performer.transfer",
    "distil_performer": "kexue_hf.performer.distillation",
    "performer_report": "kexue_hf.performer.report.report",
    "PerformerReport": "kexue_hf.performer.report.report",
    "check_pairing": "kexue_hf.vocabulary.tokenizer_check",
    "VocabularyMismatchWarning": "kexue_hf.models.wobert.vocabulary_wobert",
    "convert": "kexue_hf.conversion.convert",
    "export": "kexue_hf.conversion.export",
    "verify": "kexue_hf.conversion.verify",
    "extend": "kexue_hf.conversion.extend",
    "add_words": "kexue_hf.vocabulary.added_words",
    "sentence_vectors": "kexue_hf.pipelines.sentence_vectors",
    "match_texts": "kexue_hf.pipelines.text_matching",
    "Corrector": "kexue_hf.pipelines.text_correction",
    "calibrate_correction": "kexue_hf.evaluation.correction_calibration",
    "Confusion": "kexue_hf.pipelines.confusion",
    "CorrectionMetrics": "kexue_hf.evaluation.correction",
    "build_sentence_transformer": "kexue_hf.integrations.sentence_transformers",
    "CorrectTexts": "kexue_hf.batch.correct_texts",
    "EmbedTexts": "kexue_hf.batch.embed_texts",
    "MatchTexts": "kexue_hf.batch.match_texts",
    "ScoreTexts": "kexue_hf.batch.score_texts",
    "leave_one_out": "kexue_hf.pipelines.leave_one_out",
    "TextScore": "kexue_hf.pipelines.text_scoring",
    "score_texts": "kexue_hf.pipelines.text_scoring",
    "score_stream": "kexue_hf.pipelines.text_scoring",
    "LegalMoves": "kexue_hf.generation.legal_moves",
    "XiangqiPlayer": "kexue_hf.play.player",
    "rerank": "kexue_hf.generation.reranking",
    "rerank_lists": "kexue_hf.generation.reranking",
    "KexueError": "kexue_hf.errors",
    "CheckpointError": "kexue_hf.errors",
    "ConversionError": "kexue_hf.errors",
    "OutputError": "kexue_hf.errors",
    "InputError": "kexue_hf.errors",
}

__all__ = ["__version__", *_LOCATIONS]


def __getattr__(name: str) -> Any:
    location = _LOCATIONS.get(name)
    if location is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(location), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_install_hooks()
