"""One of two processes that pre-train together, started without a launcher: runs of the script, one after the other.

RANK=0 ... python -m tests.examples.one_of_two '[["--output_dir=a", ...], ["--output_dir=b", ...]]'
"""

import json
import sys

from examples import pretrain_mlm

if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        pretrain_mlm.main(arguments)
