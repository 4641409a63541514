# Boots a system of its own: its service manager is process 1 of its own namespaces, on a root that forgets what is written.
# Nothing of this machine is changed. To be run as root by `unshare --mount`; it ends with the system.
#
#   sh boot.sh SYSTEM DIRECTORY      SYSTEM holds the root (nix/base/system.nix), DIRECTORY is empty
set -eu
system=$1 directory=$2
mount() { "$BUSYBOX" mount "$@"; }

mount -t tmpfs tmpfs "$directory"
cd "$directory"
mkdir upper work root groups
mount -t overlay overlay -o "lowerdir=$system,upperdir=upper,workdir=work" root

cd root
mkdir -p old nix/store nix/var/nix/gcroots
mount --bind /nix/store nix/store
mount -o remount,bind,ro nix/store
mount -t tmpfs -o mode=755 tmpfs dev
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  IFS=: read -r name major minor <<DEVICE
$device
DEVICE
  "$BUSYBOX" mknod -m 666 "dev/$name" c "$major" "$minor"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run

echo root:x:0:0::/root:/bin/false > etc/passwd
echo root:x:0: > etc/group
echo 127.0.0.1 localhost > etc/hosts
: > etc/machine-id
# What is for a machine that boots, and would reach for this one's kernel.
mkdir -p etc/systemd/system
for unit in systemd-sysctl systemd-remount-fs systemd-binfmt systemd-modules-load systemd-udevd systemd-udev-trigger \
  systemd-logind systemd-networkd systemd-resolved systemd-timesyncd systemd-tmpfiles-setup-dev systemd-update-utmp; do
  ln -s /dev/null "etc/systemd/system/$unit.service"
done
for unit in dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
  sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount getty.target remote-fs.target systemd-udevd-control.socket \
  systemd-udevd-kernel.socket; do
  ln -s /dev/null "etc/systemd/system/$unit"
done
cd ..

# Its control groups are below one of its own, which is removed with it.
mount -t cgroup2 cgroup2 groups
group=groups/dgx-vllm-$$
mkdir "$group"
end() {
  echo $$ > groups/cgroup.procs
  for _ in 1 2 3 4 5 6 7 8 9 10; do # what is killed takes a moment to leave
    find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [ -d "$group" ] || return 0
    sleep 0.2
  done
}
trap end EXIT
trap 'kill -9 "$child"' TERM
(
  echo 0 > "$group/cgroup.procs"
  exec unshare --pid --mount --cgroup --ipc --uts --fork --kill-child sh -c '
    set -eu
    cd root
    "$BUSYBOX" mount -t proc proc proc
    "$BUSYBOX" mount -o bind proc/sys proc/sys
    "$BUSYBOX" mount -o remount,bind,ro proc/sys
    "$BUSYBOX" mount -t sysfs -o ro sysfs sys
    "$BUSYBOX" mount -t cgroup2 cgroup2 sys/fs/cgroup
    "$BUSYBOX" pivot_root . old
    cd /
    "$BUSYBOX" umount -l /old
    # systemd hands credentials to a service by a mount that propagates; in a container it leaves that to whoever made it.
    "$BUSYBOX" mount --make-rshared /
    exec "$BUSYBOX" env -i container=dgx-vllm PATH=/usr/sbin:/usr/bin /usr/lib/systemd/systemd --show-status=0 --log-target=journal
  '
) &
child=$!
wait "$child" || true
