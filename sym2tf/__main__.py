"""`python -m sym2tf` is the command line."""

from __future__ import annotations

import sys

from sym2tf.cli import main

if __name__ == "__main__":
    sys.exit(main())
