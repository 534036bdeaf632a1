"""`python -m msprof_rs …` is `msprof-rs …`."""

import sys

from msprof_rs.cli import main

sys.argv[0] = "msprof-rs"
sys.exit(main())
