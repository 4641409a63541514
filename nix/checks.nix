# What `nix flake check` builds.
{ build, base, python, fetch, host, vllm, package, launcher }:
let
  tests = builtins.path {
    name = "tests";
    path = ../tests;
    filter = path: type: builtins.match ".*/(__pycache__|\\.[^/]*_cache)" path == null;
  };
  source = directory: builtins.path { name = baseNameOf directory; path = directory; };

  distinct = pins: builtins.attrValues (builtins.listToAttrs (map (pin: { name = pin.file; value = pin; }) pins));

  # The product's environment with the test tools beside it.
  environment = python.environment {
    name = "test-environment";
    wheels = map python.unpackWheel (distinct (vllm.pins ++ fetch.wheels "dev" host.system)) ++ [ package ];
    inherit (vllm) overlays;
  };

  check = name: env: script: base.runCommand "check-${name}" env ''
    export HOME=$TMPDIR LOCPATH=${base.sysroot}/usr/lib/locale LANG=C.UTF-8 GCONV_PATH=${base.sysroot}/usr/lib/${host.triple}/gconv
    export PATH=${environment}/bin:$PATH CC=${base.cc}/bin/gcc CXX=${base.cc}/bin/g++
    cp -r --no-preserve=mode ${tests} tests
    ${script}
    touch "$out"
  '';

  pytest = name: arguments: check name { } "pytest -p no:cacheprovider ${arguments}";
in
{
  base = import ./checks/base.nix { inherit base host; };

  # Every pin's store path as this evaluation's fetchers have it, held against Nix's own rule for fixed outputs.
  pins = check "pins"
    {
      PYTHONPATH = ./.;
      fixedOutputs = builtins.unsafeDiscardStringContext (builtins.toJSON (fetch.storePaths));
      passAsFile = [ "fixedOutputs" ];
    } ''
    FIXED_OUTPUTS=$fixedOutputsPath PINS=${./pins} pytest -p no:cacheprovider tests/pinning
  '';

  lint = check "lint" { } ''
    cp -r --no-preserve=mode ${source ../python} python
    cp -r --no-preserve=mode ${./pinning} pinning
    ruff check --no-cache --config python/pyproject.toml python tests pinning
    cd python && mypy --cache-dir=/dev/null
  '';

  unit = pytest "unit" "-m 'not engine' --ignore tests/pinning tests";
  engine = pytest "engine" "-m engine tests";
}
