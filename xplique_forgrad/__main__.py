"""
`python -m xplique_forgrad` runs the demonstration.
"""

import sys

from .demo._report import main

if __name__ == "__main__":
    sys.exit(main())
