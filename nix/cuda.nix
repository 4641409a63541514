# The CUDA toolkit of a platform, out of NVIDIA's wheels: one tree, as CUDA_HOME is expected to look. `compiler` is as
# much of it as kernels are compiled with.
{ host, base, python, fetch }:
let
  # The compiler finds its parts from where it really lies, so these are copies and not links.
  compiler = [ "nvidia-cuda-nvcc" "nvidia-nvvm" "nvidia-cuda-crt" ];
  headers = [ "nvidia-cuda-cccl" "nvidia-cuda-runtime" ];
  # Headers and libraries that extensions are compiled against at run time (FlashInfer, torch, CuPy).
  libraries = [
    "nvidia-cuda-cccl"
    "nvidia-cuda-runtime"
    "nvidia-cuda-nvrtc"
    "nvidia-cuda-cupti"
    "nvidia-cublas"
    "nvidia-cufft"
    "nvidia-curand"
    "nvidia-cusolver"
    "nvidia-cusparse"
    "nvidia-nvjitlink"
    "nvidia-nvtx"
  ];
  pinOf = fetch.wheel "cuda" host.system;
  unpacked = map (name: python.unpackWheel (pinOf name));
  inherit (pinOf "nvidia-cuda-nvcc") version;

  tree = pname: libraries: base.runCommand "${pname}-${version}"
    {
      inherit pname version;
      copied = unpacked compiler;
      linked = unpacked libraries;
    } ''
    mkdir "$out"
    for wheel in $copied; do cp -r --no-preserve=ownership "$wheel"/lib/python3.11/site-packages/nvidia/cu13/. "$out/"; chmod -R u+w "$out"; done
    for wheel in $linked; do cp -rs --no-clobber "$wheel"/lib/python3.11/site-packages/nvidia/cu13/. "$out/"; chmod -R u+w "$out"; done
    find "$out" -name __pycache__ -prune -exec rm -r {} +
    ln -s lib "$out/lib64"
    # Wheels carry libNAME.so.VERSION alone; a linker asks for libNAME.so.
    for library in "$out"/lib/lib*.so.*; do
      plain=''${library%%.so.*}.so
      [ -e "$plain" ] || ln -s "''${library##*/}" "$plain"
    done
  '' // { meta.license = (import ./sbom/licences.nix).nvidia-cuda-nvcc; };
in
{
  toolkit = tree "cuda" libraries;
  compiler = tree "cuda-compiler" headers;
}
