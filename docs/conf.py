"""Settings of Sphinx. `.ci/docs` builds the site.

The source folder is the repository, so that a link between any two of its Markdown files works here and there.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "kexue_hf"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "chinese_search",
    "folder_links",
    "notebook_pages",
    "public_names",
    "navigation",
]
include_patterns = [
    "README.md",
    "README.zh.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/**.md",
    "docs/**.ipynb",
    "model_cards/*.md",
    "conversion/README.md",
    "kexue_hf/assets/README.md",
    "examples/space/README.md",
]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
root_doc = "docs/index"

# Markdown.
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 4

# Docstrings: plain text with `code` in single backticks.
default_role = "code"
smartquotes = False
autodoc_default_options = {"members": True, "member-order": "bysource", "exclude-members": "config_class"}
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False

# Pages need no network: furo takes the fonts of the system.
html_theme = "furo"
html_title = "kexue_hf"
html_extra_path = ["start"]
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_search_language = "en-zh"
