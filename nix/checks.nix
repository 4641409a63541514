# What `nix flake check` builds.
{ base, fetch, host, launcher, image, sboms, kernels, site, gb10, outputs, described
, testEnvironment, sbomTestEnvironment, sassTools, umoci, curl }:
let
  inherit (import ./source.nix) source;
  tests = source ../tests;
  sbomOf = system: "${system}=${sboms.${system}}/sbom.cdx.json";

  check = name: description: env: script: described description (base.runCommand "check-${name}" env ''
    export HOME=$TMPDIR LOCPATH=${base.sysroot}/usr/lib/locale LANG=C.UTF-8 GCONV_PATH=${base.sysroot}/usr/lib/${host.triple}/gconv
    export PATH=${testEnvironment}/bin:$PATH CC=${base.cc}/bin/gcc CXX=${base.cc}/bin/g++
    cp -r --no-preserve=mode ${tests} tests
    cp -r ${source ../patches} patches
    [ -z "''${DOCS-}" ] || cp -r "$DOCS" docs
    ${script}
    touch "$out"
  '');

  # Hypothesis's profile "ci" draws the same examples each time: a build must not depend on luck.
  pytest = name: description: env: arguments:
    check name description env "pytest -p no:cacheprovider --hypothesis-profile=ci ${arguments}";
in
{
  base = described "The base runs from the store and maps nothing of the machine"
    (import ./checks/base.nix { inherit base host; });

  libraries = check "libraries" "Every library that the environment needs is in the closure, the driver's aside" { } ''
    python ${./checks/libraries.py} ${testEnvironment} ${base.sysroot}/usr/lib/${host.triple} ${./checks/libraries.toml}
  '';

  # Every pin's store path as this evaluation's fetchers have it, held against Nix's own rule for fixed outputs.
  pins = check "pins" "Every pin has the store path that Nix's rule gives it; the tests of nix/pinning"
    {
      fixedOutputs = builtins.unsafeDiscardStringContext (builtins.toJSON fetch.storePaths);
      passAsFile = [ "fixedOutputs" ];
    } ''
    mkdir nix
    cp -r ${source ./pinning} nix/pinning
    cp -r ${source ./pins} nix/pins
    cp ${./offline.sh} nix/offline.sh
    FIXED_OUTPUTS=$fixedOutputsPath pytest -p no:cacheprovider tests/pinning
  '';

  lint = check "lint" "ruff, mypy, the floors that packages stand on, and that the contributors' pages name what exists"
    { DOCS = source ../docs; } ''
    cp -r --no-preserve=mode ${source ../python} python
    cp -r --no-preserve=mode ${source ../nix} nix
    cp -r --no-preserve=mode ${source ../kernels} kernels
    cp -r ${source ../templates} templates
    cp -r ${../.ci} .ci
    cp ${../flake.nix} flake.nix
    cp ${../README.md} README.md
    cp ${../CONTRIBUTING.md} CONTRIBUTING.md
    pytest -p no:cacheprovider tests/contributing
    ruff check --no-cache --config python/pyproject.toml python tests nix kernels docs
    ruff format --check --no-cache --config python/pyproject.toml .
    (cd python && mypy --cache-dir=/dev/null)
    (cd python && lint-imports --no-cache)
    (cd nix && mypy --cache-dir=/dev/null --strict --package pinning)
    (cd nix && mypy --cache-dir=/dev/null --strict rebuild.py emulation/native.py image/docker.py python/environment.py)
    cd nix && ${sbomTestEnvironment}/bin/mypy --cache-dir=/dev/null --strict --ignore-missing-imports --package sbom
  '';

  sbom = check "sbom" "The bills of materials hold every pin once, each with a licence, and validate"
    { DOCS = source ../docs; } ''
    mkdir nix
    cp -r ${source ./sbom} nix/sbom
    cp -r ${source ./pins} nix/pins
    SBOM=${builtins.concatStringsSep ":" (map sbomOf (builtins.attrNames sboms))} \
      ${sbomTestEnvironment}/bin/pytest -p no:cacheprovider tests/sbom
  '';

  # Without those that have a check of their own.
  docs = check "docs" "The pages' commands, links and generated parts, and the templates" { DOCS = source ../docs; } ''
    mkdir kernels
    cp -r ${source ../kernels/results} kernels/results
    cp ${../kernels/README.md} kernels/README.md
    cp -r ${source ../templates} templates
    cp -r ${source ../findings} findings
    cp ${../README.md} README.md
    cp ${../CONTRIBUTING.md} CONTRIBUTING.md
    cp ${../LICENSE} LICENSE
    pytest -p no:cacheprovider tests/docs tests/templates
    python docs/generator/sentences.py
    [ -d ${site} ]
  '';

  unit = pytest "unit" "The tests that start no engine" { DOCS = source ../docs; }
    ("-m 'not engine and not container' --ignore tests/pinning --ignore tests/sbom --ignore tests/kernels "
      + "--ignore tests/flake --ignore tests/contributing --ignore tests/docs --ignore tests/templates tests");

  service = pytest "service" "The service's units in Nix and in Python, and what their assertions refuse"
    {
      DOCS = source ../docs;
      SERVICE_MATRIX = builtins.toFile "matrix.json" (builtins.toJSON (import ./service/matrix.nix));
      SERVICE_OPTIONS = builtins.toFile "options.json" (builtins.toJSON (import ./service/reference.nix));
    }
    "tests/service";

  outputs = pytest "outputs" "What the flake shows: every output has a name and a description that say what it is"
    { FLAKE_OUTPUTS = builtins.toFile "outputs.json" (builtins.toJSON outputs); } "tests/flake";

  kernels = pytest "kernels"
    "The kernels' logic, compiled for the CPU, against float64; the documents show what was measured"
    { DGX_VLLM_KERNELS = source ../kernels; DOCS = source ../docs; }
    "tests/kernels";

  sass = check "sass" "The compiled kernels hold the instructions that they must, and take what we call them with"
    { } ''
    export PATH=${sassTools}/lib/python3.11/site-packages/nvidia/cu13/bin:$PATH
    DGX_VLLM_KERNELS_COMPILED=${builtins.concatStringsSep ":" (map (each: "${each.gpu}=${each.library}") kernels)} \
      pytest -p no:cacheprovider tests/kernels/test_sass.py
    DGX_VLLM_KERNELS_LIBRARY=${(builtins.head kernels).library}/lib/python3.11/site-packages/dgx_vllm/kernels/libdgx_kernels.so \
      LD_LIBRARY_PATH=${(builtins.head kernels).library.runtime}/lib pytest -p no:cacheprovider tests/kernels/test_calls.py tests/kernels/test_kernel_refusals.py
  '';
}
# A build sees no GPU, and the CUDA build serves on nothing else.
// (if host.system == "aarch64-linux" then { } else {
  # umoci and crun want a cgroup tree to look at, and a build has no /sys: a root of our own has an empty one.
  image = check "image" "The image under crun: a chat, its health, its end" { } ''
    binds=()
    for place in /nix /proc /dev /etc /tmp /bin "$NIX_BUILD_TOP"; do
      [ ! -e "$place" ] || binds+=(--dev-bind "$place" "$place")
    done
    IMAGE=${image} UMOCI=${umoci}/usr/bin/umoci CRUN=${umoci}/usr/bin/crun \
      bwrap --unshare-user --uid 0 --gid 0 --cap-add ALL --tmpfs /sys --tmpfs /sys/fs/cgroup "''${binds[@]}" \
      pytest -p no:cacheprovider --durations=5 tests/image
  '';

  engine = pytest "engine" "Engines: the demo model for an OpenAI client and against the reference model, tiny models with drafts"
    { DGX_VLLM = "${launcher}/bin/dgx-vllm"; CURL = "${curl}/usr/bin/curl"; }
    "-m engine tests/bench_decode tests/engine_drafts tests/evaluation tests/gpu tests/prune tests/reference tests/serve tests/vllm_flags";
}) // (if gb10 == null then { } else import ./checks/gb10.nix {
  inherit check pytest testEnvironment described fetch;
  inherit (gb10) build product native emulation;
})
