# `dgx-vllm` as a user calls it: the environment's command, sealed off from the caller's Python and loader settings. Its
# share/ has the completion for bash, zsh and fish.
{ host, base, environment, cuda, version }:
let
  inherit (base) sysroot cc;
  hasCuda = host.system == "aarch64-linux";
  cudaHome =
    if ! hasCuda then ""
    else "export CUDA_HOME=${cuda} # FlashInfer compiles kernels; a toolkit of the machine may be another release";
  cudaPath = if hasCuda then "${cuda}/bin:" else "";
in
base.runCommand "dgx-vllm-${version}" { pname = "dgx-vllm"; inherit version; } ''
  mkdir -p "$out/bin"
  cat > "$out/bin/dgx-vllm" <<'EOF'
  #!${sysroot}/usr/bin/bash
  unset PYTHONPATH PYTHONHOME PYTHONSTARTUP LD_PRELOAD LD_LIBRARY_PATH VIRTUAL_ENV
  # They go before LANG, and the host's locales are not here.
  unset LC_ALL LC_CTYPE LC_COLLATE LC_MESSAGES LC_NUMERIC LC_TIME LC_MONETARY LANGUAGE
  export PYTHONNOUSERSITE=1
  export DGX_VLLM_COMMAND=@out@/bin/dgx-vllm # what a unit file names
  # Data that the C library would read from the host: its locale and its character sets.
  export LOCPATH=${sysroot}/usr/lib/locale LANG=C.UTF-8
  export GCONV_PATH=${sysroot}/usr/lib/${host.triple}/gconv
  # torch.compile and Triton compile at run time.
  export CC=${cc}/bin/gcc CXX=${cc}/bin/g++
  ${cudaHome}
  export PATH=${environment}/bin:${cudaPath}${cc}/bin:${sysroot}/usr/bin''${PATH:+:$PATH}
  exec ${environment}/bin/dgx-vllm "$@"
  EOF
  sed -i "s/^  //; s,@out@,$out," "$out/bin/dgx-vllm"
  chmod +x "$out/bin/dgx-vllm"
  python3 -B ${environment}/lib/python3.11/site-packages/dgx_vllm/commands/completion_scripts.py "$out/share"
'' // { meta.mainProgram = "dgx-vllm"; }
