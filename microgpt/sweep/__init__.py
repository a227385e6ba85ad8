"""Many runs: what they are, who trains them, how they are doing."""

import sys
from pathlib import Path

# Hydra takes plugins from the package `hydra_plugins` alone, which lies in this folder.
PLUGINS = str(Path(__file__).parent)
if PLUGINS not in sys.path:
    sys.path.append(PLUGINS)
