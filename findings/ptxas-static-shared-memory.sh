#!/bin/sh
# ptxas 13.0.88 and 13.5.37: how large a static shared array may be depends on the suffix of the target, although
# all three targets run on the same chip. sm_121a takes 101376 bytes; sm_121f and sm_121 take 49152.
#
# Seen: sm_121a 101376, sm_121f 49152, sm_121 49152.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
write() { # bytes, target
  cat > "$place/shared.ptx" <<PTX
.version 9.0
.target $2
.address_size 64
.visible .entry shared(.param .u64 place)
{
  .shared .align 4 .b8 array[$1];
  .reg .b64 address;
  .reg .b32 value;
  ld.param.u64 address, [place];
  ld.global.b32 value, [address];
  st.shared.b32 [array], value;
  bar.sync 0;
  ld.shared.b32 value, [array];
  st.global.b32 [address], value;
  ret;
}
PTX
}
for release in 13.0.88 13.5.37; do
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$place/$release" --no-deps \
    nvidia-cuda-nvcc=="$release"
  ptxas=$(find "$place/$release" -name ptxas -path '*bin*' | head -n 1)
  chmod u+x "$ptxas"
  for each in sm_121a:101376 sm_121f:49152 sm_121:49152; do
    target=${each%:*} limit=${each#*:}
    write "$limit" "$target"
    "$ptxas" -arch="$target" "$place/shared.ptx" -o "$place/out"
    write $((limit + 4)) "$target"
    if "$ptxas" -arch="$target" "$place/shared.ptx" -o "$place/out" > /dev/null 2>&1; then
      echo "ptxas $release: $target takes more than $limit bytes; the behaviour has changed"
      exit 1
    fi
    echo "ptxas $release: $target takes $limit bytes of static shared memory, and no more"
  done
done
