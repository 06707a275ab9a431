"""Time `import kexue_hf` and the command's help, in whole processes.

    python benchmarks/startup.py

Writes benchmarks/results/startup.json.
"""

import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from measuring import interleave, machine, summary, write_result

COMMAND = str(Path(sysconfig.get_path("scripts")) / "kexue-hf")
PROCESSES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import kexue_hf": [sys.executable, "-c", "import kexue_hf"],
    "kexue-hf --help": [COMMAND, "--help"],
    "kexue-hf convert --help": [COMMAND, "convert", "--help"],
    "kexue-hf export --help": [COMMAND, "export", "--help"],
    "kexue-hf doctor": [COMMAND, "doctor"],
    "import torch": [sys.executable, "-c", "import torch"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return time.perf_counter() - start


def main() -> None:
    measured = interleave({name: lambda c=command: seconds(c) for name, command in PROCESSES.items()}, 15)
    result = {
        "unit": "seconds of a whole process, warm file cache",
        "machine": machine("kexue-hf", "typer", "torch"),
        "processes": {name: summary(values) for name, values in measured.items()},
    }
    print(write_result("startup", result))
    for name, values in result["processes"].items():
        print(f"{name:26} {values['median']:.3f} s")


if __name__ == "__main__":
    main()
