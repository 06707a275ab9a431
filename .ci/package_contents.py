"""Check what a wheel and an sdist hold: every file of the package, the licences, and nothing else; and their sizes.

python .ci/package_contents.py SOURCE FILE.whl FILE.tar.gz
"""

import sys
import tarfile
import zipfile
from pathlib import Path

LARGEST = 12_000_000
LICENCES = {"LICENSE", "LICENSE-UNICODE", "NOTICE"}


def main(source: Path, wheel: Path, sdist: Path) -> None:
    expected = {path.relative_to(source).as_posix() for path in (source / "kexue_hf").rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = {name for name in names if ".dist-info/" in name}
    compare("wheel", names - metadata, expected)
    compare("wheel's licences", {name.rpartition("/")[2] for name in metadata} & LICENCES, LICENCES)
    with tarfile.open(sdist) as archive:
        files = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    inside = {name for name in files if name.startswith("kexue_hf/")}
    compare("sdist", inside, expected)
    around = {*LICENCES, "README.md", "pyproject.toml", "MANIFEST.in", "PKG-INFO", "setup.cfg"}
    made = {name for name in files if name.startswith("kexue_hf.egg-info/")}
    compare("rest of the sdist", files - inside - made, around)
    for path in (wheel, sdist):
        size = path.stat().st_size
        print(f"{path.name}: {size / 1e6:.1f} MB")
        if size > LARGEST:
            raise SystemExit(f"{path.name} has {size:,} bytes, more than {LARGEST:,}")


def compare(what: str, found: set[str], expected: set[str]) -> None:
    if found != expected:
        raise SystemExit(f"{what}: missing {sorted(expected - found)}, unexpected {sorted(found - expected)}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
