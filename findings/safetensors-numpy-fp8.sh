#!/bin/sh
# safetensors 0.8.0: `safetensors.numpy.save` writes an FP8 array of ml_dtypes, and `safetensors.numpy.load` of the same
# bytes ends in KeyError: 'F8_E4M3'. The file itself is valid: its header holds the type and the four bytes follow.
#
# Seen: saved 76 bytes; load: KeyError 'F8_E4M3'.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$place" \
  safetensors==0.8.0 ml-dtypes==0.6.0 numpy==2.3.5
PYTHONPATH=$place python3 - <<'PYTHON'
import json

import ml_dtypes
import numpy as np
from safetensors.numpy import load, save

values = np.array([1, 2, 3, 4], np.float32).astype(ml_dtypes.float8_e4m3fn)
written = save({"values": values})
size = int.from_bytes(written[:8], "little")
assert json.loads(written[8 : 8 + size])["values"]["dtype"] == "F8_E4M3"
assert written[8 + size :] == values.tobytes()
try:
    load(written)
except KeyError as error:
    print(f"safetensors 0.8.0: saved {len(written)} bytes; load: KeyError {error}")
else:
    raise SystemExit("load reads FP8; the behaviour has changed")
PYTHON
