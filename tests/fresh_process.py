"""Code run as if in a fresh interpreter, without the seconds that it takes to import torch and transformers.

A server imports what takes longest and knows nothing of this package, once; each piece of code runs in a fork of it.
"""

import functools
import json
import subprocess
import sys
from pathlib import Path

# Takes lines of JSON: code, arguments, folder to run in, environment. Answers with the exit status and what was
# printed.
SERVER = """
import faulthandler, json, os, sys, tempfile, traceback
exec(sys.argv[1])
for line in sys.stdin:
    code, arguments, folder, environment = json.loads(line)
    with tempfile.TemporaryFile() as printed:
        child = os.fork()
        if child == 0:
            for stream in (1, 2):
                os.dup2(printed.fileno(), stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            faulthandler.dump_traceback_later(300, exit=True)
            status = 1
            try:
                os.chdir(folder)
                os.environ.update(environment)
                sys.argv = ["-c", *arguments]
                exec(compile(code, "<fresh process>", "exec"), {"__name__": "__main__"})
                status = 0
            except SystemExit as end:
                status = end.code or 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status if isinstance(status, int) else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        printed.seek(0)
        print(json.dumps([status, printed.read().decode()]), flush=True)
"""

# And what transformers imports of others, which takes half of its time.
TORCH = """
import jinja2.sandbox, tokenizers, torch._dynamo, torch.distributed.checkpoint, torch.distributed.tensor
"""
TRANSFORMERS = """
import torch, transformers
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, BertModel, pipeline, PreTrainedTokenizer
"""
# Where transformers keeps the code of folders, which it looks up when it is imported.
OWN_MODULES = """
import os, transformers.dynamic_module_utils
transformers.dynamic_module_utils.HF_MODULES_CACHE = os.environ["HF_MODULES_CACHE"]
"""


@functools.cache
def _server(imports: str) -> subprocess.Popen[str]:
    # It ends with this process, whose end closes its input.
    return subprocess.Popen(
        [sys.executable, "-c", SERVER, imports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def run_forked(imports: str, code: str, *arguments: object, cwd: Path = Path(), **environment: str) -> str:
    """What `code` prints in a process that has imported no more than `imports`; it must not fail."""
    server = _server(imports)
    assert server.stdin is not None and server.stdout is not None
    request = [code, [str(argument) for argument in arguments], str(cwd.absolute()), environment]
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    status, printed = json.loads(server.stdout.readline())
    assert status == 0, printed[-5000:]
    return str(printed)


def run_elsewhere(code: str, cwd: Path, *arguments: object) -> str:
    """Run code in `cwd`, where transformers is imported but nothing of this package, with a cache of remote modules of
    its own; what it prints."""
    return run_forked(
        TRANSFORMERS, OWN_MODULES + code, *arguments, cwd=cwd, HF_MODULES_CACHE=str(cwd.absolute() / "modules")
    )


__all__ = ["TORCH", "TRANSFORMERS", "run_elsewhere", "run_forked"]
