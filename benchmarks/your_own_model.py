"""
What docs/your-own-model.md prints, and its figure:
python benchmarks/your_own_model.py --output docs/assets/your-own-model.jpg
"""

import argparse
import os
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import matplotlib

matplotlib.use("agg")

from xplique_forgrad.cli import main as command_line

PAGE = Path(__file__).parents[1] / "docs/your-own-model.md"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args().output.absolute()
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(python|bash)\n(.*?)^```", page, re.M | re.S)
    namespace = {}
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        for language, block in blocks:
            print("\n" + block)
            if language == "python":
                exec(compile(block, str(PAGE), "exec"), namespace)
            else:
                command_line(block.split()[1:])
        shutil.copy("maps.jpg", output)


if __name__ == "__main__":
    main()
