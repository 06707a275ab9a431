"""What the card of a model type always says: what the model is, where it was described, what it cannot do."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Post:
    """A post of kexue.fm, as it is cited."""

    number: int
    title: str
    year: int

    @property
    def address(self) -> str:
        """The post's URL."""
        return f"https://kexue.fm/archives/{self.number}"

    def bibtex(self) -> str:
        """Return the BibTeX entry."""
        return (
            f"@misc{{kexuefm-{self.number},\n  title = {{{self.title}}},\n  author = {{苏剑林}},\n"
            f"  year = {{{self.year}}},\n  url = {{{self.address}}},\n}}"
        )


@dataclass(frozen=True)
class ModelFacts:
    """The facts of a model type.

    Attributes:
        summary: one sentence, after "A model of ...".
        post: where the model was described.
        language: the language that the model type is for; None if it can be any.
        limits: what users should know before they rely on it.
        tags: beyond the model type itself.
    """

    summary: str
    post: Post | None = None
    language: str | None = None
    limits: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


WOBERT = Post(7758, "提速不掉点：基于词颗粒度的中文WoBERT", 2020)
TTA = Post(7661, "修改Transformer结构，设计一个更快更好的MLM模型", 2020)
PERFORMER = Post(7921, "Performer：用随机投影将Attention的复杂度线性化", 2020)
MATCHER = Post(8337, "搜狐文本匹配：基于条件LayerNorm的多任务baseline", 2021)
SIMSIAM = Post(7980, "从动力学角度看优化算法（六）：为什么SimSiam不退化？", 2020)
XIANGQI = Post(7877, "当GPT遇上中国象棋：写过文章解过题，要不再来下盘棋？", 2020)
UNILM = Post(6933, "从语言模型到Seq2Seq：Transformer如戏，全靠Mask", 2019)
ROFORMER = Post(8265, "Transformer升级之路：2、博采众长的旋转式位置编码", 2021)

FACTS: dict[str, ModelFacts] = {
    "wobert": ModelFacts(
        "A Chinese BERT whose tokens are words.",
        WOBERT,
        "zh",
        (
            "Use its own tokenizer: the ids of a character tokenizer are valid, and mean other tokens.",
            "It repeats the biases of the text that it was trained on.",
        ),
    ),
    "nezha": ModelFacts(
        "A BERT with relative positions (NEZHA).",
        limits=("It repeats the biases of the text that it was trained on.",),
    ),
    "roformer": ModelFacts(
        "A BERT with rotary positions (RoFormer).",
        ROFORMER,
        limits=("It repeats the biases of the text that it was trained on.",),
    ),
    "tta": ModelFacts(
        "A T-TA: a model that predicts every token from all others in one pass.",
        TTA,
        limits=(
            "The state of a token has not seen the token itself, so a sentence vector represents each word only by "
            "the words around it.",
            "It repeats the biases of the text that it was trained on.",
        ),
    ),
    "performer_bert": ModelFacts(
        "A BERT with linear attention for long texts.",
        PERFORMER,
        limits=("Linear attention is an approximation: `kexue-hf performer-report` measures it on your texts.",),
        tags=("performer", "linear-attention"),
    ),
    "cln_matcher": ModelFacts(
        "A matcher of texts with conditional layer norms.",
        MATCHER,
        limits=(
            "One half is not the threshold with the best F1, especially if matches are rare: choose a threshold for "
            "each task on pairs that were not trained on.",
            "Each pair takes one forward pass: to search many texts, use sentence vectors first.",
        ),
        tags=("text-matching",),
    ),
    "simsiam": ModelFacts(
        "An encoder of sentence vectors, trained on unlabelled text (SimSiam, BYOL or SimCSE).",
        SIMSIAM,
        limits=("The vectors are similar for similar wording, which is not always similar meaning.",),
        tags=("sentence-similarity",),
    ),
    "xiangqi_gpt": ModelFacts(
        "A language model of Chinese chess that reads and writes moves.",
        XIANGQI,
        limits=(
            "It may write illegal moves: `kexue_hf.LegalMoves(tokenizer)` is a logits processor that forbids them.",
            "It imitates the games that it was trained on and does not look ahead.",
        ),
        tags=("xiangqi", "chess"),
    ),
}


def facts_of(model_type: str) -> ModelFacts:
    """Return the facts of a model type; of an unknown one, only its name."""
    return FACTS.get(model_type, ModelFacts(f"A model of type {model_type}."))


__all__ = ["FACTS", "PERFORMER", "SIMSIAM", "UNILM", "ModelFacts", "Post", "facts_of"]
