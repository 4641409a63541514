# One more layer on an OCI layout: the closure of `contents`, less what the layers below hold, and the files of `tree`.
# Gives `layout`, whose older blobs are links, and `paths`, the store paths of all layers up to here.
{ runCommand, umoci }:
{ name, contents, below ? null, tree ? null }:
runCommand "image-layer-${name}"
{
  inherit below tree;
  exportReferencesGraph = builtins.concatLists (builtins.genList
    (i: [ "closure-${toString i}" (builtins.elemAt contents i) ])
    (builtins.length contents));
} ''
  layout=$out/layout
  if [ -n "$below" ]; then
    mkdir -p "$layout/blobs/sha256"
    for blob in "$below"/layout/blobs/sha256/*; do ln -s "$(readlink -f "$blob")" "$layout/blobs/sha256/"; done
    cp --no-preserve=mode "$below"/layout/{oci-layout,index.json} "$layout/"
    cp "$below/paths" held
  else
    mkdir "$out"
    ${umoci}/usr/bin/umoci init --layout "$layout"
    ${umoci}/usr/bin/umoci new --image "$layout:latest"
    # A new image says when it was made, and a layer must not.
    ${umoci}/usr/bin/umoci config --image "$layout:latest" --no-history --created 1970-01-01T00:00:01Z
    ${umoci}/usr/bin/umoci gc --layout "$layout"
    touch held
  fi

  grep -hx '/nix/store/.*' closure-* | grep -v '\.drv$' | sort -u | comm -13 held - > added
  sort -u held added > "$out/paths"
  sed s,^/,, added > names
  files=()
  if [ -n "$tree" ]; then
    cp -r "$tree" tree
    # Any user may be asked for (docker run --user), so what is written to belongs to all. The store keeps no such modes.
    chmod 1777 tree/cache tree/tmp
    files=(--directory "$PWD/tree" $(ls -A "$tree"))
  fi
  tar --create --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner \
    --format=pax --pax-option=delete=atime,delete=ctime --directory / --files-from names "''${files[@]}" |
    ${umoci}/usr/bin/umoci raw add-layer --image "$layout:latest" \
      --history.created 1970-01-01T00:00:01Z --history.created_by "${name}" /dev/stdin
''
