"""
`python -m xplique_forgrad` is the command line, `xplique-forgrad`.
"""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
