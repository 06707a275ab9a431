"""The search of the site cuts a page and a query into the same pieces."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "docs" / "extensions" / "chinese_search.py"
QUERIES = ["词", "分词", "分词器", "WoBERT 分词器", "T-TA", "中文BERT模型", "naïve 2024"]


@pytest.fixture(scope="module")
def search():
    pytest.importorskip("sphinx")
    specification = importlib.util.spec_from_file_location("chinese_search", PATH)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_page_is_indexed_by_characters_and_pairs(search) -> None:
    assert search.pieces("用WoBERT分词器") == ["用", "WoBERT", "分", "词", "器", "分词", "词器"]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which runs the script of the browser")
def test_every_piece_of_a_query_is_in_the_index_of_its_text(search) -> None:
    script = (
        search.EnglishAndChinese.js_splitter_code
        + f"console.log(JSON.stringify({json.dumps(QUERIES)}.map(splitQuery)))"
    )
    found = json.loads(subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True).stdout)
    for query, pieces in zip(QUERIES, found, strict=True):
        assert pieces and set(pieces) <= set(search.pieces(f"前面{query}后面"))
