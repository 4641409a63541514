#!/bin/sh
# ptxas 13.0.88 assembles `cvt.rn.satfinite.e2m1x2.f16x2` in PTX that says `.version 9.0`. ptxas 13.1.115 refuses the
# same file and asks for `.version 9.1`: PTX that one release wrote is not valid for the next.
#
# Seen: 13.0.88 status 0; 13.1.115 "Feature 'cvt.e2m1x2.f16x2' requires PTX ISA .version 9.1 or later".
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cat > "$place/convert.ptx" <<'PTX'
.version 9.0
.target sm_121a
.address_size 64
.visible .entry convert(.param .u64 place)
{
  .reg .b64 address;
  .reg .b32 halves;
  .reg .b16 wide;
  .reg .b8 code;
  ld.param.u64 address, [place];
  ld.global.b32 halves, [address];
  cvt.rn.satfinite.e2m1x2.f16x2 code, halves;
  cvt.u16.u8 wide, code;
  st.global.b16 [address], wide;
  ret;
}
PTX
sed 's/^.version 9.0/.version 9.1/' "$place/convert.ptx" > "$place/newer.ptx"
for release in 13.0.88 13.1.115; do
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$place/$release" --no-deps \
    nvidia-cuda-nvcc=="$release"
done
assemble() { "$(find "$place/$1" -name ptxas -path '*bin*' | head -n 1)" -arch=sm_121a "$place/$2" -o "$place/out" 2>&1; }
find "$place" -name ptxas -exec chmod u+x {} +
assemble 13.0.88 convert.ptx
if said=$(assemble 13.1.115 convert.ptx); then echo "13.1.115 takes version 9.0; the behaviour has changed"; exit 1; fi
echo "$said" | grep -q "requires PTX ISA .version 9.1 or later" || { echo "$said"; exit 1; }
assemble 13.1.115 newer.ptx
echo "ptxas 13.0.88 assembles the file; 13.1.115 refuses it until it says .version 9.1"
