"""Links to a folder of the repository lead somewhere on GitHub, but not on the site: there only the text remains."""

from pathlib import Path

from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


class FolderLinks(SphinxPostTransform):
    default_priority = 8  # before MyST, which would report these links

    def run(self) -> None:
        page = Path(self.env.doc2path(self.env.docname))
        for link in list(self.document.findall(pending_xref)):
            if link["reftype"] == "myst" and (page.parent / link["reftarget"]).is_dir():
                link.replace_self(link.children)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(FolderLinks)
    return {"parallel_read_safe": True}
