# nixpkgs' `runCommand`, out of the sysroot: bash with the usual programs, a compiler among them.
{ platform, sysroot, cc }:
name: env: script: derivation ({
  inherit name;
  inherit (platform) system;
  builder = "${sysroot}/usr/bin/bash";
  PATH = "${cc}/bin:${sysroot}/usr/bin:${sysroot}/usr/sbin";
  # The shell must be what ends last. It would replace itself by the last program, and those of coreutils close their
  # output before they exit, which Nix takes for the end of the build: it then kills them.
  args = [ "-euo" "pipefail" "-c" (script + "\nexit 0\n") ];
} // env)
