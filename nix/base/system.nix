# Debian packages -> the root directory of a system of its own, as its own loader and service manager expect it: nothing
# in it is pointed at the store, and nothing outside of it runs there but what is under /nix.
{ bootstrap }:
name: debs: bootstrap.runCommand name { inherit debs; } ''
  mkdir "$out"
  cd "$out"
  for deb in $debs; do ar -p "$deb" data.tar.xz | xz -dc | tar -x; done
  ${import ./usr-merge.nix}
  rm -rf usr/share/doc usr/share/man usr/share/locale
  mkdir -p dev nix proc root run sys tmp var/tmp
  find . -type f -perm /6000 -exec chmod a-s {} +
''
