# Debian's copyright files of a product's base, which the base itself leaves out and every image has.
{ product, fetch }:
let
  inherit (product) host base;
in
base.runCommand "notices-${host.system}" { debs = fetch.debs "base" host.system; } ''
  mkdir "$out"
  cd "$out"
  for deb in $debs; do ar -p "$deb" data.tar.xz | tar --extract --xz --wildcards './usr/share/doc/*'; done
  find usr -type f ! -name copyright -delete
  find usr -type d -empty -delete
  [ -z "$(find -L usr/share/doc -maxdepth 1 -mindepth 1 -exec test ! -e '{}/copyright' ';' -print)" ] || {
    echo "a package has no copyright file" >&2
    exit 1
  }
''
