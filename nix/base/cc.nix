# The compiler as callers expect it: `cc`, `gcc`, `g++` on PATH, whose output runs against the sysroot by itself.
{ bootstrap, host, sysroot }:
let
  libraries = "${sysroot}/usr/lib/${host.triple}";
in
bootstrap.runCommand "gcc-wrapper" { } ''
  mkdir -p "$out/bin" "$out/libexec"
  script() {
    { echo "#!${sysroot}/usr/bin/bash"; cat; } > "$1"
    chmod +x "$1"
  }

  # What concerns linking is said to the linker: an option -Wl of the compiler would make it link where it was asked for
  # a precompiled header, as torch.compile does.
  script "$out/libexec/ld" <<'EOF'
  exec ${sysroot}/usr/bin/ld "$@" -rpath ${libraries} -dynamic-linker ${libraries}/${baseNameOf host.loader}
  EOF

  for program in gcc g++; do
    script "$out/bin/$program" <<EOF
  export PATH="${sysroot}/usr/bin\''${PATH:+:\$PATH}" # gcc finds as there
  exec ${sysroot}/usr/bin/$program-12 --sysroot=${sysroot} -B$out/libexec "\$@"
  EOF
  done
  ln -s gcc "$out/bin/cc"
  ln -s g++ "$out/bin/c++"
  ln -s ../libexec/ld "$out/bin/ld"
  for program in as ar nm objdump objcopy ranlib readelf strip make; do
    ln -s "${sysroot}/usr/bin/$program" "$out/bin/$program"
  done
''
