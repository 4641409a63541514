# nixpkgs' `runCommand`, out of the sysroot: bash with the usual programs, a compiler among them.
{ platform, sysroot, cc }:
name: env: script: derivation ({
  inherit name;
  inherit (platform) system;
  builder = "${sysroot}/usr/bin/bash";
  PATH = "${cc}/bin:${sysroot}/usr/bin:${sysroot}/usr/sbin";
  args = [ "-euo" "pipefail" "-c" script ];
} // env)
