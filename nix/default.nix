# The flake's outputs for one system: pins -> paths -> base -> environment -> {serve, checks}.
{ self, nixpkgs, system }:
let
  platforms = import ./platforms.nix;
  fetch = import ./fetch.nix { pkgs = nixpkgs.legacyPackages.${system}; };
  build = platforms.${system};
  productFor = host: import ./product.nix { inherit fetch host build; };

  native = productFor build;
  inherit (native) host base python vllm package launcher;

  distinct = pins: builtins.attrValues (builtins.listToAttrs (map (pin: { name = pin.file; value = pin; }) pins));

  sbomTools = python.environment { name = "sbom-tools"; wheels = map python.unpackWheel (fetch.wheels "sbom" system); };
  sbomOf = product: import ./sbom { inherit product fetch; tools = sbomTools; };
  sbomTestEnvironment = python.environment {
    name = "sbom-test-environment";
    wheels = map python.unpackWheel (distinct (fetch.wheels "sbom" system ++ fetch.wheels "dev" system));
  };

  # The product's environment, with the test tools.
  testEnvironment = python.environment {
    name = "test-environment";
    wheels = map python.unpackWheel (distinct (vllm.pins ++ fetch.wheels "dev" host.system)) ++ [ package ];
    inherit (vllm) overlays;
  };

  # cuobjdump and nvdisasm, which lie where CUDA has them.
  sassTools = python.environment { name = "sass-tools"; wheels = map python.unpackWheel (fetch.wheels "sass" system); };

  umoci = base.programs "umoci" (fetch.debs "image" system);

  curl = base.programs "curl" (fetch.debs "curl" system);

  # Where the tests of the service have a service manager of their own.
  debianSystem = base.system "debian-12-system" (fetch.debs "system" system);

  # What nix and nixpkgs' tools show of a package. `nix flake show` has the name alone, so it is a reader's and not the
  # store's.
  named = name: description: package: package // {
    inherit name;
    meta = (package.meta or { }) // { inherit description; platforms = [ system ]; };
  };
  described = description:
    let
      parts = builtins.split "[^A-Za-z0-9+._=-]+" description;
      words = builtins.filter (part: builtins.isString part && part != "") parts;
    in
    named (builtins.concatStringsSep "-" words) description;

  packagesOf = product: {
    default = named product.launcher.name
      "The dgx-vllm command: serve, plan, doctor, profiles, download, install-service"
      (product.launcher // {
        meta = product.launcher.meta // {
          # docs/reference/licences.md has the rest.
          license = [ { spdxId = "Apache-2.0"; fullName = "Apache License 2.0"; free = true; } ]
            ++ (if product.host.system == "aarch64-linux" then [ product.cuda.meta.license ] else [ ]);
        };
      });
    environment = named "python-with-vllm-${product.vllm.version}"
      "Python 3.11 with vLLM ${product.vllm.version} and everything it needs"
      product.environment;
    base = named "base-of-debian-12"
      "Debian 12, run from the store: Python, GCC and the system libraries that wheels expect"
      product.base.sysroot;
    cc = named "base-gcc-12" "GCC 12 whose output runs on the base" product.base.cc;
    image = named "oci-image-${product.host.debian}"
      "An OCI image, as a layout directory: `nix run .#load-image` hands it to docker or podman"
      (import ./image {
        inherit product fetch;
        sbom = sbomOf product;
        inherit umoci;
        revision = self.rev or "dirty";
        created = self.lastModified or 1;
      });
    sbom = named "bill-of-materials-${product.host.debian}" "The bill of materials, CycloneDX 1.6" (sbomOf product);
    kernels = named "decode-kernels-for-${product.host.gpu}"
      "The decode kernels, for ${product.host.gpu}"
      product.kernels;
    cuda = named "cuda-toolkit-${product.cuda.version}"
      "CUDA ${product.cuda.version}'s compiler, headers and libraries, as CUDA_HOME looks"
      product.cuda;
  };

  # What a GB10 runs, assembled here: the same contents as its own packages.
  gb10Product = productFor platforms.aarch64-linux;
  gb10 = packagesOf gb10Product;
  assembled = if system == "aarch64-linux" then { } else builtins.listToAttrs (map
    (name: {
      name = "gb10-${name}";
      value = named "gb10-${gb10.${name}.name}"
        "For GB10, assembled on ${system}: ${gb10.${name}.meta.description}"
        gb10.${name};
    })
    (builtins.attrNames gb10));

  shown = builtins.mapAttrs (_: package: { inherit (package) name; inherit (package.meta) description; });
in
rec {
  packages = packagesOf native // assembled // {
    docs = named "documents" "The documents as a site, with their links checked"
      (import ./docs { inherit base python fetch system; });
  };

  apps = import ./apps.nix {
    inherit base python fetch host launcher testEnvironment debianSystem;
    tests = (import ./source.nix).source ../tests;
    inherit (packages) image;
    packages = builtins.attrValues (packagesOf native) ++ [ testEnvironment ];
  };

  checks = import ./checks.nix {
    outputs = {
      packages = shown packages;
      checks = shown checks;
      modules = builtins.attrNames self.nixosModules;
      templates = builtins.mapAttrs
        (_: template: {
          inherit (template) description;
          files = builtins.attrNames (builtins.readDir template.path);
          # What a template that is a flake asks of nixpkgs.
          machines = if !builtins.pathExists (template.path + "/flake.nix") then { } else
            ((import (template.path + "/flake.nix")).outputs {
              nixpkgs.lib.nixosSystem = asked: { inherit (asked) system; modules = builtins.length asked.modules; };
              dgx-vllm = self;
            }).nixosConfigurations;
        })
        self.templates;
    };
    site = packages.docs;
    inherit base fetch host launcher umoci curl described testEnvironment sbomTestEnvironment sassTools;
    inherit (packages) image;
    sboms = builtins.listToAttrs
      (map (product: { name = product.host.system; value = sbomOf product; }) [ native gb10Product ]);
    kernels = map (product: { inherit (product.host) gpu; library = product.kernels; })
      ([ native ] ++ (if system == "aarch64-linux" then [ ] else [ gb10Product ]));
    gb10 = if system == "aarch64-linux" then null else {
      inherit build;
      product = gb10Product;
      native = import ./product.nix { inherit fetch; inherit (gb10Product) host; build = gb10Product.host; };
      emulation = import ./emulation { inherit build fetch base; inherit (gb10Product) host; };
    };
  }
  // (if ! nixpkgs ? lib then { /* the stand-in */ } else import ./service/checks.nix {
    inherit nixpkgs system described;
    module = self.nixosModules.default;
  });

  # vLLM, the test tools and the compiler; `pytest tests` finds python/ and nix/ of the checkout by itself.
  devShells.default = described "The environment that the tests run in, with the compiler"
    (base.runCommand "dgx-vllm-shell"
    {
      PATH = "${testEnvironment}/bin:${base.cc}/bin:${base.sysroot}/usr/bin";
      outputs = [ "out" ]; # `nix develop` writes the environment to the outputs that the variable names
    } ''touch "$out"'');

  # No formatter of Nix is to be had from Debian 12 or PyPI; this is the one of the Python.
  formatter = described "ruff, with the settings that the check lint has" (base.runCommand "format" { } ''
    mkdir -p "$out/bin"
    cat > "$out/bin/format" <<'EOF'
    #!${base.sysroot}/usr/bin/bash
    exec ${testEnvironment}/bin/ruff format --config python/pyproject.toml "''${@:-.}"
    EOF
    sed -i 's/^ *//' "$out/bin/format"
    chmod +x "$out/bin/format"
  '' // { meta.mainProgram = "format"; });
}
