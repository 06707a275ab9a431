"""Runs code as in a fresh interpreter, without importing torch and transformers each time.

A server process imports these libraries once, but not this package, and runs each piece of code in a fork.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

# The package of this checkout is tested, even if another one is installed.
ROOT = Path(__file__).parents[1]


# Reads JSON lines (number, code, arguments, folder, environment) and writes JSON lines (number, exit status, output).
# The code's own output goes to a file, so that it does not mix with the answers.
SERVER = """
import faulthandler, json, os, sys, tempfile, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path.insert(1, os.getcwd())
exec(sys.argv[1])
if "tqdm" in sys.modules:
    # A semaphore, which would be reported as leaked if a fork, which ends at once, had made it.
    sys.modules["tqdm"].tqdm.get_lock()
for line in sys.stdin:
    number, code, arguments, folder, environment = json.loads(line)
    with tempfile.TemporaryFile() as printed:
        child = os.fork()
        if child == 0:
            for stream in (1, 2):
                os.dup2(printed.fileno(), stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            faulthandler.enable()
            faulthandler.dump_traceback_later(300, exit=True)
            status = 1
            try:
                os.chdir(folder)
                os.environ.clear()
                os.environ.update(environment)
                sys.argv = ["-c", *arguments]
                exec(compile(code, "<fresh process>", "exec"), {"__name__": "__main__"})
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
                if status:
                    print(end.code)
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        printed.seek(0)
        print(json.dumps([number, status, printed.read().decode(errors="replace")]), file=answers, flush=True)
"""

# Includes the other libraries that transformers imports, which take half of its import time.
TORCH = """
import jinja2.sandbox, tokenizers, torch._dynamo, torch.distributed.checkpoint, torch.distributed.tensor
"""
TRANSFORMERS = """
import torch, transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, BertModel, pipeline, PreTrainedTokenizer
"""
# transformers reads this variable when it is imported, so it must be set again in the fork.
OWN_MODULES = """
import os, transformers.dynamic_module_utils
transformers.dynamic_module_utils.HF_MODULES_CACHE = os.environ["HF_MODULES_CACHE"]
"""


class _Server:
    def __init__(self, imports: str) -> None:
        # The server ends with this process, which closes its stdin.
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.numbers = itertools.count()

    def ask(self, *request: object) -> tuple[int, str]:
        """Return the exit status and the output."""
        assert self.process.stdin is not None and self.process.stdout is not None
        number = next(self.numbers)
        self.process.stdin.write(json.dumps([number, *request]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the server died with exit status {self.process.wait()}; see stderr"
        answered, status, printed = json.loads(answer)
        assert answered == number
        return status, printed


_SERVERS: dict[str, _Server] = {}


def run_forked(imports: str, code: str, *arguments: object, cwd: Path = ROOT, **environment: str) -> str:
    """Run `code` in a process that has only run `imports`; return its output. A failure is an AssertionError.

    Exit handlers do not run, other threads are not awaited, and classes defined in `code` cannot be pickled.
    """
    server = _SERVERS.pop(imports, None) or _Server(imports)
    request = [code, [str(argument) for argument in arguments], str(cwd.absolute()), {**os.environ, **environment}]
    try:
        status, printed = server.ask(*request)
    except BaseException:
        # Otherwise the next request would read this answer.
        server.process.kill()
        raise
    _SERVERS[imports] = server
    assert status == 0, f"exit status {status}: {printed[-5000:]}"
    return printed


def run_elsewhere(code: str, cwd: Path, *arguments: object) -> str:
    """Run code in `cwd` with transformers but without this package, and with an empty cache of remote modules.

    Returns its output.
    """
    return run_forked(
        TRANSFORMERS, OWN_MODULES + code, *arguments, cwd=cwd, HF_MODULES_CACHE=str(cwd.absolute() / "modules")
    )


__all__ = ["TORCH", "TRANSFORMERS", "run_elsewhere", "run_forked"]
