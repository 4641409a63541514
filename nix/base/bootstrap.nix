# What runs before there is a sysroot: the seed's busybox as the builder and its applets as the only programs.
{ platform, fetch }:
let
  busybox = fetch.seed platform.system;
in
{
  inherit busybox;

  # A `runCommand` with nothing but busybox.
  runCommand = name: env: script: derivation ({
    inherit name;
    inherit (platform) system;
    builder = "${busybox}/bin/busybox"; # its applet is chosen by its first argument; it must be called busybox
    args = [ "ash" "-euc" ''
      mkdir "$TMPDIR/bin"
      ${busybox}/bin/busybox --install -s "$TMPDIR/bin"
      export PATH="$TMPDIR/bin"
      ${script}
      exit 0 # see run-command.nix
    '' ];
  } // env);
}
