#!/bin/sh
# `tl.dot_scaled` of two E2M1 operands with E8M0 scales, compiled for compute capability 12.1 without a GPU.
# Triton 3.7.1 widens both to BF16 and issues BF16 MMAs; Triton 3.9.0 issues the chip's block-scaled FP4 MMA.
#
# Seen: 3.7.1 mma.sync...bf16; 3.9.0 mma.sync...mxf4nvf4...e2m1.e2m1.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cat > "$place/compile.py" <<'PYTHON'
import re
import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def product(a, b, a_scale, b_scale, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n = tl.arange(0, M), tl.arange(0, N)
    packed, block = tl.arange(0, K // 2), tl.arange(0, K // 32)
    left = tl.load(a + m[:, None] * (K // 2) + packed[None, :])
    right = tl.load(b + packed[:, None] * N + n[None, :])
    left_scale = tl.load(a_scale + m[:, None] * (K // 32) + block[None, :])
    right_scale = tl.load(b_scale + n[:, None] * (K // 32) + block[None, :])
    done = tl.dot_scaled(left, left_scale, "e2m1", right, right_scale, "e2m1")
    tl.store(out + m[:, None] * N + n[None, :], done)


pointers = {name: "*u8" for name in ("a", "b", "a_scale", "b_scale")}
source = ASTSource(
    fn=product, signature={**pointers, "out": "*fp32", "M": "constexpr", "N": "constexpr", "K": "constexpr"},
    constexprs={"M": 128, "N": 128, "K": 128},
)
ptx = triton.compile(source, target=GPUTarget("cuda", 121, 32)).asm["ptx"]
kinds = sorted(set(re.findall(r"mma\.sync[\w.:]*", ptx)))
print(f"triton {triton.__version__}: {', '.join(kinds)}")
fp4 = any("mxf4" in kind for kind in kinds)
wide = any("bf16" in kind for kind in kinds)
sys.exit(0 if (fp4, wide) == ((True, False) if sys.argv[1] == "fp4" else (False, True)) else 1)
PYTHON
for each in 3.7.1:bf16 3.9.0:fp4; do
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$place/${each%:*}" triton=="${each%:*}"
  TRITON_CACHE_DIR=$place/cache PYTHONPATH=$place/${each%:*} python3 "$place/compile.py" "${each#*:}"
done
