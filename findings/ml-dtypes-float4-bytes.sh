#!/bin/sh
# ml-dtypes 0.6.0: a float4_e2m1fn element is a byte whose low four bits are the code. A byte with any higher bit set
# converts to a negative number, whatever the sign bit of the code says: packed bytes must be masked first.
# NaN becomes the code 8, which is -0; infinity becomes 7, which is 6.
#
# Seen: 0x02 is 1.0, 0x12 is -1.0; NaN -> 8, inf -> 7.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$place" ml-dtypes==0.6.0 numpy==2.3.5
PYTHONPATH=$place python3 - <<'PYTHON'
import ml_dtypes
import numpy as np

bytes_ = np.arange(256, dtype=np.uint8)
values = bytes_.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
low = values[:16]
assert not np.signbit(low[:8]).any() and np.signbit(low[8:]).all()
for start in range(16, 256, 16):
    block = values[start : start + 16]
    assert np.signbit(block).all(), f"bytes from {start:#x} are not all negative; the behaviour has changed"
    assert (np.abs(block) == np.abs(low)).all()
codes = np.array([np.nan, np.inf], np.float32).astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
assert codes.tolist() == [8, 7], codes
print(f"ml-dtypes 0.6.0: 0x02 is {values[2]}, 0x12 is {values[0x12]}; NaN -> 8, inf -> 7")
PYTHON
