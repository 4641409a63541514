# kernels/ -> their library for the platform's GPU, and one that only reads their bytes, for benchmarks; laid out as a
# wheel: an environment puts them into dgx_vllm/kernels.
#
# `cuda`: the toolkit of the build platform, which compiles; `base.compiler` is the host's. `runtime`, of the result:
# where an environment without CUDA finds what the library needs.
{ host, base, python, fetch, cuda }:
let
  wheel = name: "${python.unpackWheel (fetch.wheel "cuda" host.system name)}/lib/python3.11/site-packages";
  ffi = "${wheel "apache-tvm-ffi"}/tvm_ffi";
  runtime = "${wheel "nvidia-cuda-runtime"}/nvidia/cu13";

  source = builtins.path {
    name = "kernels";
    path = ../kernels;
    filter = path: type: builtins.match ".*/(emulation|results|README.md|bench/[^/]*\\.py|__pycache__)" path == null;
  };
in
base.runCommand "dgx-kernels-${host.gpu}" { } ''
  cp -r --no-preserve=mode ${source} kernels
  cd kernels
  directory=$out/lib/python3.11/site-packages/dgx_vllm/kernels
  mkdir -p "$directory"
  compile() { # NAME SOURCE...
    local library=$directory/libdgx_$1.so steps=../steps/$1
    mkdir -p "$steps"
    # Steps that are kept have names of their own; others are called by their process.
    ${cuda}/bin/nvcc -std=c++17 -O3 --generate-code arch=${builtins.replaceStrings [ "sm" ] [ "compute" ] host.gpu},code=${host.gpu} \
      --compiler-bindir ${base.compiler} --compiler-options -fPIC --keep --keep-dir "$steps" \
      -I. -I${ffi}/include -I${runtime}/include \
      --shared --cudart none "''${@:2}" --output-file "$library" \
      -L${ffi}/lib -ltvm_ffi -L${runtime}/lib -l:libcudart.so.13
    ${base.patchelf}/bin/patchelf --force-rpath --set-rpath '$ORIGIN/../../tvm_ffi/lib:$ORIGIN/../../nvidia/cu13/lib' "$library"
  }
  compile kernels *.cu
  compile bounds bench/bounds.cu
'' // { inherit runtime; }
