# In namespaces of its own: register $QEMU for programs that begin with $MAGIC, then run the arguments.
"$BUSYBOX" mount -t binfmt_misc none "$TMPDIR/binfmt"
# F: the interpreter is opened now, so that a program finds it whatever its root is. P: programs keep their argv[0], by
# which busybox chooses its applet.
echo ":qemu:M::$MAGIC:$MASK:$QEMU:FP" > "$TMPDIR/binfmt/register"
# qemu 7.2 shows programs the machine's own file, in which torch's cpuinfo finds no Arm core and gives up.
"$BUSYBOX" mount --bind "$CPUINFO" /proc/cpuinfo
exec "$@"
