# What `nix flake check` builds.
{ base, fetch, host, environment, launcher }:
let
  inherit (import ./source.nix) source;
  tests = source ../tests;

  check = name: env: script: base.runCommand "check-${name}" env ''
    export HOME=$TMPDIR LOCPATH=${base.sysroot}/usr/lib/locale LANG=C.UTF-8 GCONV_PATH=${base.sysroot}/usr/lib/${host.triple}/gconv
    export PATH=${environment}/bin:$PATH CC=${base.cc}/bin/gcc CXX=${base.cc}/bin/g++
    cp -r --no-preserve=mode ${tests} tests
    cp -r ${source ../patches} patches
    ${script}
    touch "$out"
  '';

  # Hypothesis's profile "ci" draws the same examples each time: a build must not depend on luck.
  pytest = name: env: arguments:
    check name env "pytest -p no:cacheprovider --hypothesis-profile=ci --ignore tests/pinning ${arguments} tests";
in
{
  base = import ./checks/base.nix { inherit base host; };

  # Every pin's store path as this evaluation's fetchers have it, held against Nix's own rule for fixed outputs.
  pins = check "pins"
    {
      fixedOutputs = builtins.unsafeDiscardStringContext (builtins.toJSON fetch.storePaths);
      passAsFile = [ "fixedOutputs" ];
    } ''
    mkdir nix
    cp -r ${source ./pinning} nix/pinning
    cp -r ${source ./pins} nix/pins
    FIXED_OUTPUTS=$fixedOutputsPath pytest -p no:cacheprovider tests/pinning
  '';

  lint = check "lint" { } ''
    cp -r --no-preserve=mode ${source ../python} python
    cp -r --no-preserve=mode ${./pinning} pinning
    ruff check --no-cache --config python/pyproject.toml python tests pinning
    cd python && mypy --cache-dir=/dev/null
  '';

  unit = pytest "unit" { } "-m 'not engine'";
  engine = pytest "engine" { DGX_VLLM = "${launcher}/bin/dgx-vllm"; } "-m engine";
}
