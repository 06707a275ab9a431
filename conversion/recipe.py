"""What the recipes share: check that the unpacked folder is the right one, convert it, verify the result.

A recipe is the released checkpoint it is for, as data, and runs as a script:

    python conversion/wobert.py UNPACKED_FOLDER OUTPUT
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from kexue_hf.conversion.convert import ConversionReport, convert
from kexue_hf.conversion.families import load_weight_map
from kexue_hf.conversion.source import find_source, read_vocabulary
from kexue_hf.conversion.verify import verify
from kexue_hf.errors import ConversionError, KexueError


@dataclass(frozen=True)
class Recipe:
    """A released checkpoint.

    Args:
        name: what it unpacks to; the folder may be called otherwise.
        source: the page that offers it for download. license: as the Hub spells it.
        family: of its model. vocab_size: the number of lines of its vocabulary.
        language: of its text, as the Hub spells it. task_names: of a matcher.
    """

    name: str
    source: str
    license: str
    family: str
    vocab_size: int
    language: str = "zh"
    task_names: tuple[str, ...] | None = None

    def run(self, folder: str, output: str, *, overwrite: bool = False) -> ConversionReport:
        """Convert and verify.

        Raises:
            KexueError: the folder is another checkpoint, or anything that `convert` and `verify` raise.
        """
        vocabulary, table = find_source(folder).vocab, load_weight_map(self.family)
        read_vocabulary(vocabulary, self.vocab_size, f"{self.name} has", table)
        report = convert(
            folder,
            output,
            family=self.family,
            license=self.license,
            language=self.language,
            task_names=self.task_names,
            overwrite=overwrite,
            progress=True,
        )
        differences = verify(output, folder).differences
        if differences:
            raise ConversionError(f"{output} differs from {folder}: {'; '.join(differences[:3])}")
        return report

    def main(self) -> None:
        """Run as a script."""
        parser = argparse.ArgumentParser(description=f"Convert {self.name} ({self.source}, {self.license}).")
        parser.add_argument("folder", help=f"the unpacked {self.name}")
        parser.add_argument("output", help="the folder to make")
        parser.add_argument("--overwrite", action="store_true", help="replace a model folder that is there")
        arguments = parser.parse_args()
        try:
            report = self.run(arguments.folder, arguments.output, overwrite=arguments.overwrite)
        except KexueError as error:
            raise SystemExit(f"{Path(parser.prog).name}: error: {error}") from None
        print(f"{report.output}: {report.mapped} tensors, {report.parameters:,} parameters, equal to the source")
