# The base runs from the store and sees nothing of the machine.
{ base, host }:
base.runCommand "check-base" { } ''
  python=${base.sysroot}/usr/bin/python3.11
  $python -c 'import bz2, ctypes, hashlib, lzma, readline, sqlite3, ssl, zlib'

  # Only libraries of the store are mapped, and none of the host's is found by name.
  export LOCPATH=${base.sysroot}/usr/lib/locale LANG=C.UTF-8 GCONV_PATH=${base.sysroot}/usr/lib/${host.triple}/gconv
  $python - <<'EOF'
  import ctypes, socket
  socket.getaddrinfo("localhost", 80)
  ctypes.CDLL("libmlx5.so.1")
  mapped = {line.split(maxsplit=5)[5].strip() for line in open("/proc/self/maps") if "/" in line}
  foreign = {path for path in mapped if not path.startswith(("/nix/store/", "/dev/"))}
  assert not foreign, foreign
  EOF

  # No link leads out of it, and the interpreter's own modules have their bytecode.
  astray=$(find ${base.sysroot} -type l -lname '/*' ! -lname '${base.sysroot}/*')
  [ -z "$astray" ] || { echo "links that lead out of the base: $astray" >&2; exit 1; }
  $python - <<'EOF'
  import os, sitecustomize
  assert os.path.exists(sitecustomize.__cached__), sitecustomize
  EOF

  # The compiler's output runs by itself.
  printf '#include <iostream>\nint main() { std::cout << "compiled\\n"; }\n' > hello.cc
  g++ -O2 hello.cc -o hello
  [ "$(env -i ./hello)" = compiled ]

  # A header is precompiled, not linked.
  echo 'inline int one() { return 1; }' > one.h
  g++ -x c++-header one.h -o one.h.gch
  touch "$out"
''
