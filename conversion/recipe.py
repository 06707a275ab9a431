"""Run a recipe: check that a folder is the expected checkpoint, convert it, and verify the result.

A recipe describes a released checkpoint and runs as a script:

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
        name: name of the unpacked folder, for messages; the actual folder may have another name.
        source: page with the download.
        license: licence identifier of the Hub.
        family: family of the model.
        vocab_size: number of lines of its vocabulary.
        language: language code of the Hub.
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
        """Convert and verify.

        Raises:
            KexueError: the folder is another checkpoint, or `convert` or `verify` fails.
        """
        vocabulary, weight_map = find_source(folder).vocab, load_weight_map(self.family)
        read_vocabulary(vocabulary, self.vocab_size, f"{self.name} has", weight_map)
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
        parser.add_argument("output", help="the folder to write")
        parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")
        arguments = parser.parse_args()
        try:
            report = self.run(arguments.folder, arguments.output, overwrite=arguments.overwrite)
        except KexueError as error:
            raise SystemExit(f"{Path(parser.prog).name}: error: {error}") from None
        print(f"{report.output}: {report.mapped} tensors, {report.parameters:,} parameters, equal to the source")
