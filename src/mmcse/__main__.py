"""`python -m mmcse` is `mmcse`; launchers like torchrun need it."""

import sys

from mmcse.cli import main

sys.exit(main())
