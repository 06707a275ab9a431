"""Base of the recipes: check that the unpacked folder is the expected checkpoint, convert it, verify the result.

A recipe describes a released checkpoint as data, and runs as a script:

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
        name: the folder that the download unpacks to; yours may have another name.
        source: the page that offers the download.
        license: the Hub's license id.
        family: family of the checkpoint, as in `kexue-hf convert --family`.
        vocab_size: number of lines of its vocabulary.
        language: the Hub's language code.
        task_names: task names of a matcher.
    """

    name: str
    source: str
    license: str
    family: str
    vocab_size: int
    language: str = "zh"
    task_names: tuple[str, ...] | None = None

    def run(self, folder: str, output: str, *, overwrite: bool = False) -> ConversionReport:
        """Convert the unpacked folder, verify the result and return the report.

        Raises:
            KexueError: the folder holds another checkpoint, or as for `convert` and `verify`.
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
        """Run the recipe as a script, with the arguments of the command line."""
        parser = argparse.ArgumentParser(description=f"Convert {self.name} ({self.source}, {self.license}).")
        parser.add_argument("folder", help=f"the unpacked {self.name}")
        parser.add_argument("output", help="folder to write")
        parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")
        arguments = parser.parse_args()
        try:
            report = self.run(arguments.folder, arguments.output, overwrite=arguments.overwrite)
        except KexueError as error:
            raise SystemExit(f"{Path(parser.prog).name}: error: {error}") from None
        print(f"{report.output}: {report.mapped} tensors, {report.parameters:,} parameters, equal to the source")
