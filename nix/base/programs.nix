# Debian packages -> a tree of programs that run from the store, for what no server needs and so the sysroot does not
# have. `where`: globs of the programs.
{ bootstrap, patchelf, platform, sysroot, where ? "usr/bin/* usr/sbin/*" }:
name: debs: bootstrap.runCommand name { inherit debs; } ''
  mkdir "$out"
  cd "$out"
  for deb in $debs; do ar -p "$deb" data.tar.xz | xz -dc | tar -x; done
  rm -rf usr/share etc var
  libs=$out/usr/lib/${platform.triple}:$out/lib/${platform.triple}
  rm -f lib/${platform.triple}/libc.so.6 lib*/ld-linux* # the sysroot's own, which its loader belongs to
  for program in ${where}; do
    ${patchelf}/bin/patchelf --print-interpreter "$program" >/dev/null 2>&1 || continue # static, or a script
    chmod u+w "$program"
    ${patchelf}/bin/patchelf --set-interpreter ${sysroot}/usr/lib/${platform.triple}/${baseNameOf platform.loader} \
      --force-rpath --set-rpath "$libs:${sysroot}/usr/lib/${platform.triple}" "$program"
  done
''
