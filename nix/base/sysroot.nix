# Debian packages -> a tree that runs from the store: usr-merged, every executable and library pointed at the tree's own
# loader and libraries, and a loader that looks nowhere else.
{ name, host, bootstrap, patchelf, debs, python ? null }:
bootstrap.runCommand name { inherit debs; } ''
  mkdir "$out"
  cd "$out"
  for deb in $debs; do ar -p "$deb" data.tar.xz | xz -dc | tar -x; done

  ${import ./usr-merge.nix}
  libs=$out/usr/lib/${host.triple}
  loader=$libs/${baseNameOf host.loader}
  ln -sfn $loader usr/${host.loader}

  rm -rf usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/bug var run tmp boot home media mnt opt proc root srv sys dev
  find . -type f -perm /6000 -exec chmod a-s {} +

  # What maintainer scripts would have made.
  cat usr/share/ca-certificates/mozilla/*.crt > etc/ssl/certs/ca-certificates.crt
  ln -s gcc-12 usr/bin/gcc
  ln -s g++-12 usr/bin/g++
  ln -s python3.11 usr/bin/python3
  ln -s gawk usr/bin/awk
  ln -s bash usr/bin/sh

  # Packages link to where they are installed, and that would be the machine's: its site customization for Python, its
  # libraries for a linker. What the tree does not hold is left out.
  find . -type l | while read -r link; do
    target=$(readlink "$link")
    case $target in "$out"/*) continue ;; /*) ;; *) continue ;; esac
    up=$(dirname "''${link#./}" | sed 's,[^/][^/]*,..,g')
    if [ -e ".$target" ]; then ln -sfn "$up$target" "$link"; else rm "$link"; fi
  done

  # The host's library cache and directories must not be looked into: its C library may be a newer one, and what a
  # server loads must not depend on what else is installed. Same length, so the strings are overwritten in place.
  overwrite() {
    strings -n 4 -t d "$loader" | while read -r offset text; do
      [ "$text" != "$1" ] || printf %s "$2" | dd of="$loader" bs=1 seek="$offset" conv=notrunc status=none
    done
    ! strings -n 4 "$loader" | grep -qx "$1" || { echo "$loader still names $1" >&2; exit 1; }
  }
  chmod u+w "$loader"
  overwrite /etc/ld.so.cache /nix/no.so.cache
  overwrite /lib/${host.triple}/ /nix/${host.triple}/
  overwrite /usr/lib/${host.triple}/ /nix/lib/${host.triple}/
  overwrite /usr/lib/ /nix/lib/
  overwrite /lib/ /nix/

  find usr -type f ! -name '*.o' ! -name '*.a' > "$TMPDIR/files"
  while read -r file; do
    [ "$(dd if="$file" bs=4 count=1 status=none | od -An -tx1 | tr -d ' \n')" = 7f454c46 ] || continue
    case $file in */${baseNameOf host.loader} | */libc.so.6) continue ;; esac
    chmod u+w "$file"
    interpreter=
    ! ${patchelf}/bin/patchelf --print-interpreter "$file" >/dev/null 2>&1 || interpreter="--set-interpreter $loader"
    # RPATH, not RUNPATH: it holds for what a library of a wheel loads, too. Static programs take neither.
    ${patchelf}/bin/patchelf $interpreter --force-rpath --set-rpath "$libs" "$file" 2>/dev/null || true
  done < "$TMPDIR/files"

  # A wheel's module may have a RUNPATH, and then the interpreter's RPATH does not hold for it. What wheels expect of
  # the system is therefore loaded with the interpreter; the check libraries holds this list against them.
  for library in libstdc++.so.6 libgcc_s.so.1 libgomp.so.1 libdl.so.2 libpthread.so.0 librt.so.1 libutil.so.1 libm.so.6 libnuma.so.1; do
    ${patchelf}/bin/patchelf --add-needed $library usr/bin/python3.11
  done

  # Bytecode is the same for every architecture: the build platform's Python makes it.
  ${if python == null then "usr" else "${python}/usr"}/bin/python3.11 -B -m compileall -q -s "$out" --invalidation-mode unchecked-hash usr/lib/python3.11
''
