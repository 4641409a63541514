#!/bin/sh
# nvcc 13.0.88 compiles one kernel for sm_120, sm_120a and sm_120f. cuobjdump 13.2.86 lists the last one as sm_120, like
# the first: only `a` shows. Both suffixes are in the fatbin: in an entry's flags (a uint64 at byte 40) bit 20 means
# `a` and bit 21 means `f`. Code for sm_120f may use FP4 conversions, code for sm_120 may not.
#
# Seen: sm_120 0x1000011, sm_120a 0x1100011, sm_120f 0x1200011; cuobjdump: sm_120, sm_120a, sm_120.
# Needs a host C++ compiler (g++) on PATH.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$place" --no-deps \
  nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$place/list" --no-deps \
  nvidia-cuda-cuobjdump==13.2.86
home=$place/nvidia/cu13
chmod -R u+x "$home/bin" "$home/nvvm/bin" 2>/dev/null || true
list=$(find "$place/list" -name cuobjdump -type f | head -n 1)
chmod u+x "$list"
echo '__global__ void one(int *to) { *to = 1; }' > "$place/one.cu"
for each in 120:0:sm_120 120a:1:sm_120a 120f:2:sm_120; do
  target=${each%%:*} rest=${each#*:}
  "$home/bin/nvcc" -gencode arch="compute_$target,code=sm_$target" -I"$home/include" -fatbin "$place/one.cu" -o "$place/out.fatbin"
  listed=$("$list" --list-elf "$place/out.fatbin" | grep -oE 'sm_[0-9]+[af]?' | tail -n 1)
  python3 - "$place/out.fatbin" "$target" "$listed" "${rest%:*}" "${rest#*:}" <<'PYTHON'
import struct
import sys

file, target, listed, suffix, expected = sys.argv[1:]
entry = open(file, "rb").read()[16:]  # behind the block's header
(flags,) = struct.unpack_from("<Q", entry, 40)
print(f"sm_{target}: flags {flags:#x}, cuobjdump lists {listed}")
assert flags >> 20 & 3 == int(suffix) and listed == expected, "the behaviour has changed"
PYTHON
done
