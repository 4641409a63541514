# What a GB10 will run, assembled here: read, and run under qemu.
{ check, pytest, testEnvironment, described, product, native, emulation, fetch, build }:
let
  rebuilt = import ../emulation/native.nix {
    inherit emulation fetch build testEnvironment native;
    assembled = product;
  };
  wheel = name: product: product.python.unpackWheel (fetch.wheel "cuda" product.host.system name);
  inherit (product) environment cuda base host launcher;
  sealed = ''
    export HOME=$TMPDIR LOCPATH=${base.sysroot}/usr/lib/locale LANG=C.UTF-8 GCONV_PATH=${base.sysroot}/usr/lib/${host.triple}/gconv
    timed() {
      local name=$1 start=$SECONDS
      shift
      "$@"
      echo "$name: $((SECONDS - start)) s" | tee -a "$TMPDIR/times"
    }
  '';
in
{
  gb10-libraries = check "gb10-libraries"
    "Every library that the GB10 environment needs is in the closure, the driver's aside"
    { } ''
    python ${./libraries.py} ${environment} ${base.sysroot}/usr/lib/${host.triple} ${./libraries.toml}
  '';

  gb10-environment = pytest "gb10-environment"
    "CUDA builds for Arm, each file as its wheel records it; the published patches' faults are gone"
    { GB10_ENVIRONMENT = environment; }
    # What the patches open for a plugin is tested with the plugin.
    ("tests/gb10/test_environment.py tests/patches tests/plugin/moe/test_dgx_backend.py "
      + "tests/plugin/moe/test_shared_slot.py tests/plugin/dense/test_dgx_linear.py");

  gb10-base = check "gb10-base" "The base's files are those of Debian's packages, ELF headers aside"
    { GB10_BASE = base.sysroot; debs = fetch.debs "base" host.system; passAsFile = [ "debs" ]; } ''
    GB10_DEBS=$debsPath pytest -p no:cacheprovider tests/gb10/test_base.py
  '';

  gb10-imports = described "torch, vLLM, FlashInfer, CuPy, Triton, the plugin and the kernels load under qemu"
    (emulation.run "check-gb10-imports" { } ''
    ${sealed}
    for module in torch vllm flashinfer cupy triton dgx_vllm.plugin.register; do
      timed "$module" ${environment}/bin/python -c "import $module; print('$module', getattr($module, '__version__', '''), 'imports')"
    done
    timed "kernels" ${environment}/bin/python -c "from dgx_vllm import kernels; assert kernels.load().moe_decode_workspace(16, 10, 512, 512)"
    cp "$TMPDIR/times" "$out"
  '');

  gb10-commands = described "doctor, plan, serve --dry-run and Ray answer under qemu"
    (emulation.run "check-gb10-commands" { } ''
    ${sealed}
    # A CUDA build without a GPU cannot serve, and says so.
    doctor() {
      if ${launcher}/bin/dgx-vllm doctor --json > doctor.json; then
        echo "doctor says that a machine without a GPU can serve" >&2
        return 1
      fi
      ${testEnvironment}/bin/python -c 'import json; assert json.load(open("doctor.json"))["schema"] == 1'
    }
    timed "doctor --json" doctor
    timed "plan" ${launcher}/bin/dgx-vllm plan ${environment}/lib/python3.11/site-packages/dgx_vllm/demo/checkpoint
    timed "serve --dry-run" ${launcher}/bin/dgx-vllm serve nvidia/Qwen3-Next-80B-A3B-Instruct-NVFP4 --dry-run | tee dry-run
    grep -q -e '--moe-backend' dry-run
    timed "exec ray --version" ${launcher}/bin/dgx-vllm exec ray --version
    cp "$TMPDIR/times" "$out"
  '');

  gb10-driver = described "The driver is found and loads where NixOS and DGX OS have it, under qemu"
    (emulation.run "check-gb10-driver" { } ''
    ${sealed}
    export PATH=${base.cc}/bin:$PATH
    echo 'int cuInit(unsigned flags) { return flags; }' > cuda.c
    gcc -shared -Wl,-soname,libcuda.so.1 -o libcuda.so.580.95.05 cuda.c
    # A build's root cannot be written: one of our own, with the driver where each system has it.
    for directory in /run/opengl-driver/lib /usr/lib/${host.triple}; do
      timed "driver in $directory" bwrap --dev-bind /nix /nix --dev-bind /proc /proc --dev-bind /dev /dev --bind "$PWD" "$PWD" \
        --dir "$directory" --bind libcuda.so.580.95.05 "$directory/libcuda.so.580.95.05" \
        --symlink libcuda.so.580.95.05 "$directory/libcuda.so.1" \
        ${environment}/bin/python -B ${./driver.py} "$directory"
    done
    cp "$TMPDIR/times" "$out"
  '');

  gb10-nvcc = described "nvcc compiles a kernel for sm_121a under qemu" (emulation.run "check-gb10-nvcc" { } ''
    ${sealed}
    export PATH=${base.cc}/bin:$PATH
    cat > convert.cu <<'EOF'
    #include <cuda_fp4.h>
    __global__ void convert(const float2* x, __nv_fp4x2_storage_t* y) {
      y[threadIdx.x] = __nv_cvt_float2_to_fp4x2(x[threadIdx.x], __NV_E2M1, cudaRoundNearest);
    }
    EOF
    timed nvcc ${cuda}/bin/nvcc -std=c++17 -gencode arch=compute_121a,code=sm_121a --keep -c convert.cu -o convert.o
    # The hardware conversion, which only the "a" and "f" targets of this family have.
    grep -q cvt.rn.satfinite.e2m1x2.f32 convert.ptx
    cp "$TMPDIR/times" "$out"
  '');

  gb10-native = described "Derivations built by Arm programs, under qemu, are those assembled here"
    (base.runCommand "check-gb10-native"
    {
      reports = [
        (rebuilt "base" (product: product.base.sysroot))
        (rebuilt "cc" (product: product.base.cc))
        (rebuilt "ninja" (wheel "ninja"))
        (rebuilt "tvm-ffi" (wheel "apache-tvm-ffi"))
        (rebuilt "vllm-patched" (product: builtins.head product.vllm.overlays))
        (rebuilt "environment" (product: product.environment))
        (rebuilt "cuda" (product: product.cuda))
        (rebuilt "launcher" (product: product.launcher))
      ];
    } ''cat $reports | tee "$out"'');
}
