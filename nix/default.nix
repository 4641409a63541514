# The flake's outputs for one system: pins -> paths -> base -> environment -> {serve, checks}.
{ nixpkgs, system }:
let
  platforms = import ./platforms.nix;
  build = platforms.${system};
  host = build;
  fetch = import ./fetch.nix { pkgs = nixpkgs.legacyPackages.${system}; };
  base = import ./base { inherit build host fetch; };
  python = import ./python { inherit build host base fetch; };
  vllm = import ./vllm.nix { inherit host python fetch; };
  package = import ./package.nix { inherit python; };

  environment = python.environment {
    name = "vllm-environment";
    wheels = vllm.wheels ++ [ package ];
    inherit (vllm) overlays;
  };
  launcher = import ./launcher.nix { inherit host base environment; inherit (package) version; };

  distinct = pins: builtins.attrValues (builtins.listToAttrs (map (pin: { name = pin.file; value = pin; }) pins));

  # The product's environment with the test tools beside it.
  testEnvironment = python.environment {
    name = "test-environment";
    wheels = map python.unpackWheel (distinct (vllm.pins ++ fetch.wheels "dev" host.system)) ++ [ package ];
    inherit (vllm) overlays;
  };

  # What nix and nixpkgs' tools read of a package.
  described = description: package: package // {
    meta = (package.meta or { }) // { inherit description; platforms = [ host.system ]; };
  };
in
rec {
  packages = {
    default = described "The dgx-vllm command: serve a model, list profiles" launcher;
    environment = described "Python 3.11 with vLLM ${vllm.version} and everything it needs" environment;
    base = described "Debian 12, run from the store: Python, GCC and the system libraries that wheels expect" base.sysroot;
    cc = described "GCC 12 whose output runs on the base" base.cc;
  };

  apps = import ./apps.nix {
    inherit base python fetch host launcher testEnvironment;
    tests = (import ./source.nix).source ../tests;
    packages = builtins.attrValues packages ++ [ testEnvironment ];
  };

  checks = import ./checks.nix { inherit base fetch host launcher described testEnvironment; };

  # vLLM, the test tools and the compiler; `pytest tests` finds python/ and nix/ of the checkout by itself.
  devShells.default = described "The environment that the tests run in, with the compiler" (base.runCommand "dgx-vllm-shell"
    { PATH = "${testEnvironment}/bin:${base.cc}/bin:${base.sysroot}/usr/bin"; } ''touch "$out"'');

  # No formatter of Nix is to be had from Debian 12 or PyPI; this is the one of the Python.
  formatter = described "ruff, with the settings that the check lint has" (base.runCommand "format" { } ''
    mkdir -p "$out/bin"
    cat > "$out/bin/format" <<'EOF'
    #!${base.sysroot}/usr/bin/bash
    exec ${testEnvironment}/bin/ruff format --config python/pyproject.toml "''${@:-.}"
    EOF
    sed -i 's/^ *//' "$out/bin/format"
    chmod +x "$out/bin/format"
  '');
}
