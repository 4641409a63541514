#!/bin/sh
# nvcc 13.0.88 and 13.5.37: `-arch=sm_121a` compiles a file twice, for sm_121a and as PTX for the base target
# compute_121. FP4 conversions do not exist on that one, so a file that uses them does not compile.
# `-gencode arch=compute_121a,code=sm_121a` compiles once and succeeds.
#
# Seen with 13.0.88:
#   -arch=sm_121a: status 255, Instruction 'cvt with .e2m1x2' not supported on .target 'sm_121'
#   -gencode: status 0
# Needs a host C++ compiler (g++) on PATH.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cat > "$place/convert.cu" <<'CUDA'
__global__ void convert(const float *from, unsigned short *to) {
  unsigned short code;
  asm("{ .reg .b8 b; cvt.rn.satfinite.e2m1x2.f32 b, %1, %2; cvt.u16.u8 %0, b; }"
      : "=h"(code) : "f"(from[0]), "f"(from[1]));
  *to = code;
}
CUDA
for release in "13.0.88 13.0.96" "13.5.37 13.5.37"; do
  set -- $release
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$place/$1" --no-deps \
    nvidia-cuda-nvcc=="$1" nvidia-nvvm=="$1" nvidia-cuda-crt=="$1" nvidia-cuda-runtime=="$2"
  home=$place/$1/nvidia/cu13
  chmod -R u+x "$home/bin" "$home/nvvm/bin" 2>/dev/null || true
  object() { "$home/bin/nvcc" "$@" -I"$home/include" -c "$place/convert.cu" -o "$place/out" 2>&1; }
  if said=$(object -arch=sm_121a); then echo "nvcc $1 -arch=sm_121a: compiled; the behaviour has changed"; exit 1; fi
  echo "$said" | grep -q "not supported on .target 'sm_121'" || { echo "$said"; exit 1; }
  object -gencode arch=compute_121a,code=sm_121a > /dev/null
  echo "nvcc $1: -arch=sm_121a fails on the base target sm_121; -gencode compiles"
done
