# The compiler as callers expect it: `cc`, `gcc`, `g++` on PATH, whose output runs against the sysroot by itself.
{ bootstrap, host, sysroot }:
bootstrap.runCommand "gcc-wrapper" { } ''
  mkdir -p "$out/bin"
  libs=${sysroot}/usr/lib/${host.triple}
  for program in gcc g++; do
    cat > "$out/bin/$program" <<EOF
  #!${sysroot}/usr/bin/bash
  export PATH="${sysroot}/usr/bin\''${PATH:+:\$PATH}" # gcc finds as and ld there
  exec ${sysroot}/usr/bin/$program-12 --sysroot=${sysroot} -Wl,-rpath,$libs -Wl,--dynamic-linker=$libs/${baseNameOf host.loader} "\$@"
  EOF
    sed -i 's/^  //' "$out/bin/$program"
    chmod +x "$out/bin/$program"
  done
  ln -s gcc "$out/bin/cc"
  ln -s g++ "$out/bin/c++"
  for program in as ld ar nm objdump objcopy ranlib readelf strip make; do
    ln -s "${sysroot}/usr/bin/$program" "$out/bin/$program"
  done
''
