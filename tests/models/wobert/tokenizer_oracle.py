"""The tokenizer once more, written as plainly as possible: what the fast one is held against.

Oracle: bert4keras 0.10.5's `Tokenizer`, put in few words; `tests/golden/tokenizer` has what the real one computes.
"""

import unicodedata

import jieba

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

# jieba itself, without its cache in the common temporary directory.
_jieba = jieba.Tokenizer()
_jieba.FREQ, _jieba.total = _jieba.gen_pfdict(_jieba.get_dict_file())
_jieba.initialized = True


def jieba_cut(text: str) -> list[str]:
    return _jieba.lcut(text, HMM=False)


def jieba_words(number: int) -> list[str]:
    """So many words of jieba's dictionary, spread over it."""
    words = [word for word, frequency in _jieba.FREQ.items() if frequency]
    return words[:: len(words) // number][:number]


def make_vocabulary() -> list[str]:
    """Specials, an empty line, words, characters, pieces: some hundred tokens, in the order of their ids."""
    words = [
        "今天",
        "天气",
        "中国",
        "北京",
        "大学",
        "我们",
        "喜欢",
        "科学",
        "空间",
        "人工智能",
        "的确",
        "hello",
        "c++",
        "100",
        "3d",
    ]
    characters = (
        "的一是不了在人有我他这中大来上国今天气真好学科空间北京苏剑林哈利波特。，！？、·…“”,.!?:;-+#%&_/'\"()[]①ａ"
    )
    latin = "abcdefghijklmnopqrstuvwxyz0123456789ςσßœжя한"
    pieces = ["##" + char for char in latin] + [
        "##ing",
        "##llo",
        "wor",
        "##ld",
        "##国",
        "ᄒ",
        "ᅡ",
        "ᆫ",
        "😀",
        "ー",
        "か",
    ]
    return list(dict.fromkeys([*SPECIAL, "", *words, *characters, *latin, *pieces]))


def load_vocab(path) -> dict[str, int]:
    """bert4keras' own, of 0.8 to 0.11."""
    vocabulary: dict[str, int] = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            vocabulary[fields[0] if fields else ""] = len(vocabulary)
    return vocabulary


def normalize(text: str) -> str:
    text = unicodedata.normalize("NFD", text.lower())
    return "".join(char for char in text if unicodedata.category(char) != "Mn")


def tokenize(text: str, vocabulary: dict[str, int], lower: bool = True) -> list[str]:
    """Tokens as strings, before the look-up: a word that cannot be spelt is still there."""
    tokens = []
    for word in jieba_cut(normalize(text) if lower else text):
        tokens += [word] if word in vocabulary else bert_tokenize(word, vocabulary, lower)
    return tokens


def encode(text: str, vocabulary: dict[str, int], lower: bool = True) -> list[int]:
    ids = [vocabulary.get(token, vocabulary["[UNK]"]) for token in tokenize(text, vocabulary, lower)]
    return [vocabulary["[CLS]"], *ids, vocabulary["[SEP]"]]


def bert_tokenize(text: str, vocabulary: dict[str, int], lower: bool) -> list[str]:
    spaced = ""
    for char in normalize(text) if lower else text:
        code, category = ord(char), unicodedata.category(char)
        ascii_punctuation = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
        if ascii_punctuation or category.startswith("P") or _is_cjk(code):
            spaced += " " + char + " "
        elif char in " \n\r\t" or category == "Zs":
            spaced += " "
        elif code in (0, 0xFFFD) or category in ("Cc", "Cf"):
            continue
        else:
            spaced += char
    return [piece for word in spaced.strip().split() for piece in _spell(word, vocabulary)]


def _spell(word: str, vocabulary: dict[str, int]) -> list[str]:
    if len(word) > 200:
        return [word]
    pieces = []
    start = 0
    while start < len(word):
        end = len(word)
        while end > start:
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
            end -= 1
        if end == start:
            return [word]
        pieces.append(piece)
        start = end
    return pieces


def _is_cjk(code: int) -> bool:
    ranges = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F)]
    ranges += [(0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]
    return any(first <= code <= last for first, last in ranges)


def truncate_pair(first: list[int], second: list[int], max_length: int) -> tuple[list[int], list[int]]:
    """bert4keras: pop from the longer one, from the first if they are equal, until they fit with [CLS] [SEP] [SEP]."""
    first, second = list(first), list(second)
    while len(first) + len(second) + 3 > max_length:
        (first if len(first) >= len(second) else second).pop()
    return first, second
