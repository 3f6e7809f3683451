"""
What must be known before TensorFlow is imported: whether this process is our command line.
"""

import os
import sys
from pathlib import Path


def _is_command() -> bool:
    if Path(sys.argv[0]).stem == "xplique-forgrad":
        return True
    # `python -m xplique_forgrad`: while the package is imported, the first argument is "-m"
    words = sys.orig_argv
    return sys.argv[0] == "-m" and words[words.index("-m") + 1 :][:1] == [__package__]


IS_COMMAND = _is_command()

if IS_COMMAND:
    # no lines on devices and ends of sequences; who wants them sets it to 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
