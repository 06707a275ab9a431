"""Texts for the tokenizer's properties: ordinary, and as bad as they come."""

from hypothesis import strategies as st

ORDINARY = [
    "今天天气真好，我们去北京大学玩！",
    "科学空间是苏剑林的博客。",
    "Hello WORLD, 这是3.14%的C++代码 a_b-c",
    "中文English混排①２３ａ１００",
    "“引号”……省略号——破折号、顿号；分号",
    "他说：\r\n  换行\t制表\n\n 结束 ",
    "人工智能的确有3D效果，100分",
]

# One for each way in which characters can be special.
ODD = [
    *"ΣσςİıßẞÉéÅKΩﬁǅ",
    "ΑΣ",
    "e\u0301",
    "e\u0301\u0323",
    "\u0301",
    "한국어",
    "각",
    "がプー",
    "\u302e\u302f\u302a",
    "\U0001d15e\U0001d165",
    "\u302e\U0001d165",
    "a\U0001d16d\u302e\U00016ff0\u0301",
    "\ud800",
    "\udfff\ud83d",
    "\x00",
    "\ufffd",
    "\uffff",
    "\ufeff",
    "\u200b",
    "\u200d",
    "\u00ad",
    "\u2028",
    "\u2029",
    "\x0b\x0c\x1c\x1f\x85",
    "\xa0\u3000\u2003",
    "\r\n",
    "😀👍🏽",
    "㐀𠀀龦鿕鿖鿿",
    "豈\ufa0e\U0002f800",
    "##ing",
    "[MASK",
    "x" * 200,
    "x" * 201,
    "ab" * 130 + "的",
    "·",
    "γ射线",
]

WORDS = [
    "今天",
    "天气",
    "中国",
    "北京",
    "大学",
    "人工智能",
    "的",
    "hello",
    "world",
    "c++",
    "3.14",
    "100",
    " ",
    "，",
    "。",
]

texts = st.lists(
    st.sampled_from(WORDS) | st.sampled_from(ODD) | st.sampled_from(ORDINARY) | st.text(max_size=4), max_size=8
).map("".join) | st.text(st.characters(), max_size=20)
