"""
`python -m xplique_forgrad` runs the demonstration.
"""

import sys

from .demo.report import main

if __name__ == "__main__":
    sys.exit(main())
