# What an image holds in addition to the store: the few files of a root that programs ask for by name, and the entry point.
{ runCommand, host, sysroot, launcher, environment, sbom, notices }:
runCommand "image-tree" { } ''
  mkdir -p "$out"/{etc,bin,usr/bin,cache,tmp,proc,sys,dev,run,nix/store} "$out/usr/lib/${host.triple}" "$out/etc/ssl/certs"
  echo 'root:x:0:0:root:/root:/bin/sh
  vllm:x:1000:1000:vLLM:/cache:/bin/sh' | sed 's/^ *//' > "$out/etc/passwd"
  echo 'root:x:0:
  vllm:x:1000:' | sed 's/^ *//' > "$out/etc/group"
  echo 'hosts: files dns' > "$out/etc/nsswitch.conf"
  ln -s ${sysroot}/etc/ssl/certs/ca-certificates.crt "$out/etc/ssl/certs/"
  ln -s ${sysroot}/usr/bin/{bash,sh} "$out/bin/"
  ln -s ${sysroot}/usr/bin/env "$out/usr/bin/"
  ln -s ${launcher}/bin/dgx-vllm "$out/bin/"
  cp ${sbom}/sbom.cdx.json "$out/"
  cp -r --no-preserve=mode ${notices}/usr/share "$out/usr/"
  { echo "#!${sysroot}/usr/bin/bash"; sed "s,@environment@,${environment}," ${./entrypoint.sh}; } > "$out/bin/entrypoint"
  chmod 755 "$out/bin/entrypoint"
''
