# What `nix run .#NAME` starts.
{ base, python, fetch, host, launcher }:
let
  script = name: text: base.runCommand name { inherit text; } ''
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

  # The pinning tools ask the machine's own apt, and write to the checkout they are run in.
  pinning = module: ''
    export PYTHONPATH=${builtins.path { name = "pinning"; path = ./.; filter = path: type: builtins.match ".*/pinning(/[a-z_]+\\.py)?" path != null; }}
    export PATH=${maintenance}/bin:$PATH PYTHONNOUSERSITE=1
    exec ${maintenance}/bin/python -B -m pinning.${module} "$@"
  '';
in
rec {
  default = serve;
  serve = app "Serve a model (without one named, the built-in demo) over an OpenAI-compatible API" "serve"
    ''exec ${launcher}/bin/dgx-vllm serve "$@"'';
  update = app "Make nix/pins anew from Debian's and PyPI's indexes" "update" (pinning "update");
}
