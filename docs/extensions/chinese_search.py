"""Search for English words and for Chinese strings of any length.

Sphinx's own Chinese search indexes the words of a segmenter, but the browser has none, so a query finds only what
happens to be one word (and in Sphinx 9.0.4 its script stops with an error). Here both sides cut Chinese into pairs of
neighbouring characters, and the index also has the single ones. Sphinx's script finds the pages that have all pieces
of a Chinese query; of a query with English words, it also finds those that have some of the pieces, further down.
"""

import re

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

CHINESE = "\u4e00-\u9fff"
RUNS = re.compile(rf"[{CHINESE}]+|[^\W{CHINESE}]+")


def pieces(text: str) -> list[str]:
    found = []
    for run in RUNS.findall(text):
        if re.match(f"[{CHINESE}]", run):
            found += [*run, *(run[at : at + 2] for at in range(len(run) - 1))]
        else:
            found.append(run)
    return found


class EnglishAndChinese(SearchEnglish):
    lang = "en-zh"
    js_splitter_code = r"""
var splitQuery = (query) => (query.match(/[\u4e00-\u9fff]+|(?:(?![\u4e00-\u9fff])[\p{L}\p{N}_])+/gu) || []).flatMap(
  (run) => run.length > 1 && /^[\u4e00-\u9fff]/.test(run) ? [...run.slice(1)].map((_, at) => run.substr(at, 2)) : [run]
);
"""

    def split(self, input: str) -> list[str]:
        return pieces(input)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_search_language(EnglishAndChinese)
    return {"parallel_read_safe": True}
