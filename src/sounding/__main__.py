"""`python -m sounding`: the command line."""

import sys

from sounding.cli import main

sys.exit(main())
