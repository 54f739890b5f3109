"""`python -m inpaintkit`: the command line."""

import sys

from inpaintkit.apps.cli import main

sys.exit(main())
