"""`python -m afina`, which is how torchrun starts it."""

from __future__ import annotations

import sys

from afina.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
