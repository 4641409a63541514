# Programs of another platform, run by a build: qemu is registered as their interpreter in a user namespace of the
# build's own (Linux 6.7 or later has one binfmt_misc for each), so that nothing on the machine changes.
{ build, host, base, fetch }:
let
  qemu = base.programs "qemu-${host.qemu}" (fetch.debs "emulation" build.system);
in
{
  inherit qemu;

  # `runCommand` where programs of `host` run like any other. On a machine that cannot do it the output says so, and
  # that is all it holds: use it for what is to be shown, not for what is to be had.
  run = name: env: script: base.runCommand name
    ({
      inherit script;
      passAsFile = [ "script" ];
      QEMU = "${qemu}/usr/bin/qemu-${host.qemu}-static";
      MAGIC = host.header.magic;
      MASK = host.header.mask;
      CPUINFO = ./cpuinfo;
      BUSYBOX = "${fetch.seed build.system}/bin/busybox"; # the base has no mount
    } // env) ''
    mkdir "$TMPDIR/binfmt"
    own() { unshare --user --map-root-user --mount --pid --fork --mount-proc "$@"; }
    if own "$BUSYBOX" mount -t binfmt_misc none "$TMPDIR/binfmt"; then
      own bash -euo pipefail ${./register.sh} bash -euo pipefail "$scriptPath"
    else
      echo "NOT RUN: this machine does not let a build register qemu for ${host.system} (Linux 6.7 and user namespaces are needed)" | tee "$out"
    fi
  '';
}
