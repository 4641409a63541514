"""What the flake is made of, as data, and how it is had from the machine's own package managers.

Entry points: `offline` (fetch pinned files into the store, then run nix), `update` (rebuild the pins) and
`audit` (what is newer than the pins). Only the standard library is imported here, except by the last two,
which run in an environment of ours.
"""

import signal
import sys

# runpy's mark while it looks for what `python -m` names: Ctrl-C during the imports that follow ends without
# a traceback; `failure.exit_with` has its own way afterwards.
if sys.argv[:1] == ["-m"]:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
