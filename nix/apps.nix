# What `nix run .#NAME` starts.
{ base, python, fetch, host, launcher, testEnvironment, debianSystem, tests, packages, image }:
let
  # nix/offline.sh reads what nix says on stderr; a program has the stderr of whoever called.
  own = ''
    if [ -n "''${DGX_VLLM_OFFLINE_STDERR-}" ]; then
      exec 2>&"$DGX_VLLM_OFFLINE_STDERR" {DGX_VLLM_OFFLINE_STDERR}>&-
      unset DGX_VLLM_OFFLINE_STDERR
    fi
  '';
  script = name: text: base.runCommand name { text = own + text; } ''
    mkdir -p "$out/bin"
    { echo "#!${base.sysroot}/usr/bin/bash"; echo "$text"; } > "$out/bin/${name}"
    chmod +x "$out/bin/${name}"
  '';

  app = description: name: text: {
    type = "app";
    program = "${script name text}/bin/${name}";
    meta = { inherit description; };
  };

  maintenance = python.environment {
    name = "maintenance-environment";
    wheels = map python.unpackWheel (fetch.wheels "dev" host.system);
  };

  # The pinning tools are the checkout's, which they write to, and ask the machine's own apt.
  pinning = module: ''
    export PYTHONPATH=$PWD/nix PATH=${maintenance}/bin:$PATH PYTHONNOUSERSITE=1
    [ -d nix/pinning ] || { echo "error: there is no nix/pinning here: run this at the top of a checkout" >&2; exit 1; }
    exec ${maintenance}/bin/python -B -m pinning.${module} "$@"
  '';
in
{
  default = app "The dgx-vllm command: serve, plan, doctor, profiles, download, install-service" "dgx-vllm"
    ''exec ${launcher}/bin/dgx-vllm "$@"'';
  serve = app "Serve a model (without one named, the built-in demo) over an OpenAI-compatible API" "serve"
    ''exec ${launcher}/bin/dgx-vllm serve "$@"'';
  plan = app "Show how much of a GB10's memory a model takes, what else fits, and how fast it may decode" "plan"
    ''exec ${launcher}/bin/dgx-vllm plan "$@"'';
  doctor = app "Check whether this machine can serve, how well, and what to fix" "doctor"
    ''exec ${launcher}/bin/dgx-vllm doctor "$@"'';
  profiles = app "List the models that this project is tuned for, and say whether each fits this machine" "profiles"
    ''exec ${launcher}/bin/dgx-vllm profiles "$@"'';
  download = app "Download a model, resume what was interrupted, check every hash" "download"
    ''exec ${launcher}/bin/dgx-vllm download "$@"'';
  install-service = app "Keep a server running with systemd on a machine without NixOS; --remove undoes it"
    "install-service" ''exec ${launcher}/bin/dgx-vllm install-service "$@"'';
  update = app "Rebuild nix/pins from Debian's and PyPI's indexes" "update" (pinning "update");
  audit = app "List what Debian's security archive and PyPI have newer than the pins" "audit" (pinning "audit");
  integration = app "Tests that need this machine itself: what a server maps of its host, and the service under systemd"
    "integration" ''
    export DGX_VLLM=${launcher}/bin/dgx-vllm LOCPATH=${base.sysroot}/usr/lib/locale LANG=C.UTF-8
    export PATH=${base.sysroot}/usr/bin:${base.sysroot}/usr/sbin:$PATH
    export DGX_VLLM_SYSTEM=${debianSystem} BUSYBOX=${fetch.seed host.system}/bin/busybox DGX_VLLM_VM_TEST=${./service/vm-test.py}
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cp -r --no-preserve=mode ${tests} "$work/tests"
    ${testEnvironment}/bin/pytest -p no:cacheprovider "$work/tests/serve/test_maps.py" "$work/tests/service/test_systemd.py" "$@"
  '';
  load-image = app "Hand the image to docker or podman" "load-image"
    (builtins.replaceStrings [ "@image@" ] [ "${image}" ] (builtins.readFile ./image/load.sh));
  # The derivations' names carry all that they are built from, so the first build is nix's own (and its files are
  # fetched).
  rebuild = app "Build every derivation twice and compare" "rebuild" ''
    export NIX_CONFIG="sandbox = true
    sandbox-fallback = false
    substitute = false
    sandbox-paths = /bin/sh=${fetch.seed host.system}/bin/busybox"
    exec ${maintenance}/bin/python -B ${./rebuild.py} ${toString (map (package: package.drvPath) packages)}
  '';
}
