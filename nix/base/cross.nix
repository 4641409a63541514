# GCC of the build platform, whose output runs on the host platform: `TRIPLE-g++` as callers expect it.
{ bootstrap, patchelf, build, host, sysroot, debs }:
let
  programs = import ./programs.nix {
    inherit bootstrap patchelf sysroot;
    platform = build;
    where = "usr/bin/* usr/lib/gcc-cross/*/*/*";
  };
  gcc = programs "gcc-${host.triple}" debs;
in
bootstrap.runCommand "gcc-${host.triple}-wrapper" { } ''
  mkdir -p "$out/bin"
  {
    echo "#!${sysroot}/usr/bin/bash"
    # Debian's linker scripts name /usr/${host.triple}, which lies in the tree.
    echo 'exec ${gcc}/usr/bin/${host.triple}-g++-12 --sysroot=${gcc} "$@"'
  } > "$out/bin/${host.triple}-g++"
  chmod +x "$out/bin/${host.triple}-g++"
''
