"""`python -m its`, the same as `its`."""

import sys

from its.cli import main

sys.exit(main())
