#!/bin/bash
# lab.sh - run one command as root under a stock Debian kernel (with loadable
# modules) in QEMU, and return that command's output and exit status.
#
#   lab.sh 'COMMAND'          run COMMAND (by bash -c) inside the VM, in $PWD
#   lab.sh --setup            only install and cache what is needed
#   lab.sh --console 'CMD'    as the first, and print the kernel's console too
#   lab.sh --headers          as --setup, and print the directory that the kernel's
#                             modules are built in: make -C DIRECTORY M=$PWD CC=gcc
#
# In the VM: / is this machine's root file system (9p, read-only, cached) under a
# throw-away overlay, so its Python and tools are there and writes are dropped;
# $PWD is mounted a second time, read and write, and writes there are kept. Reads
# there are not cached, so run from a small directory and not from a checkout.
# /lib/modules/$(uname -r) holds the kernel's modules: modprobe works.
#
# Environment:
#   KSYMS_LAB_DIR      cache directory        (default ~/.cache/ksyms-lab)
#   KSYMS_LAB_KERNEL   Debian kernel package  (default linux-image-amd64; any
#                      linux-image-* that has 9p: not the -cloud- ones)
#   KSYMS_LAB_APPEND   more kernel arguments  (for example nokaslr)
#   KSYMS_LAB_MEM      guest memory, MiB      (default 1024)
#   KSYMS_LAB_CPUS     guest CPUs             (default 2)
#   KSYMS_LAB_RW       more directories to mount read and write, ':' between
#   KSYMS_LAB_TIMEOUT  seconds, then exit 124 (default 300)
#   KSYMS_LAB_ACCEL    qemu -accel            (default tcg,thread=multi)
#   KSYMS_LAB_QEMU     more qemu arguments, spaces between
#   KSYMS_LAB_KEEP     directory to copy the kernel's console to
# Exit status: COMMAND's; 124 timeout; 125 the VM ended without a status or the
# set-up failed (the console's end is then printed to stderr).
set -u
PATH=$PATH:/usr/sbin:/sbin
DIR=${KSYMS_LAB_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/ksyms-lab}
PKG=${KSYMS_LAB_KERNEL:-linux-image-amd64}
MEM=${KSYMS_LAB_MEM:-1024} CPUS=${KSYMS_LAB_CPUS:-2}
LIMIT=${KSYMS_LAB_TIMEOUT:-300} ACCEL=${KSYMS_LAB_ACCEL:-tcg,thread=multi}
# what the initramfs loads, in order, to reach the 9p shares, the overlay and
# the output ports (dependencies are resolved at set-up)
BOOTMODS="virtio_pci 9pnet_virtio 9p overlay virtio_console"
STAMP=5   # raise when the cache's layout or the initramfs changes

say() { echo "lab: $*" >&2; }
die() { say "$*"; exit 125; }
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

setup() {
    local missing=() tool
    for tool in qemu-system-x86_64:qemu-system-x86 modprobe:kmod cpio:cpio \
                xz:xz-utils zstd:zstd setsid:util-linux; do
        command -v "${tool%%:*}" >/dev/null || missing+=("${tool#*:}")
    done
    busybox_static >/dev/null || missing+=(busybox-static)
    if [ ${#missing[@]} -gt 0 ] || [ ! -e "$DIR/$PKG/stamp.$STAMP" ]; then
        update
    fi
    if [ ${#missing[@]} -gt 0 ]; then
        say "installing ${missing[*]}"
        root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
            --no-install-recommends "${missing[@]}" >"$DIR/apt.log" 2>&1 ||
            { tail -5 "$DIR/apt.log" >&2; die "apt-get install failed"; }
    fi
    [ -e "$DIR/$PKG/stamp.$STAMP" ] || fetch "$DIR/$PKG.new.$$"
}

update() {
    say "apt-get update"
    root apt-get update -qq >&2 || say "apt-get update failed; going on"
}

busybox_static() {
    local busybox
    for busybox in /bin/busybox /usr/bin/busybox; do
        [ -x "$busybox" ] || continue
        LC_ALL=C ldd "$busybox" 2>/dev/null | grep -q '=>' || { echo "$busybox"; return; }
    done
    return 1
}

# download the kernel's package, and make $DIR/$PKG of it by way of $1
fetch() {
    local new=$1 real deb version module action file name
    # the meta package (linux-image-amd64) depends on the versioned one
    real=$(apt-cache depends "$PKG" 2>/dev/null |
        awk '/Depends: linux-image-[0-9]/{print $2; exit}')
    real=${real:-$PKG}
    say "downloading $real"
    rm -rf "$new"
    mkdir -p "$new/k" "$new/i/bin" "$new/i/m" || die "no directory $new"
    (cd "$new" && apt-get download -qq "$real" 2>/dev/null) || die "cannot download $real"
    deb=$(echo "$new"/*.deb)
    dpkg-deb -x "$deb" "$new/k" || die "cannot unpack $deb"
    rm -f "$deb"
    version=$(basename "$new"/k/boot/vmlinuz-*) && version=${version#vmlinuz-}
    [ -e "$new/k/boot/vmlinuz-$version" ] || die "no kernel in $real"
    # newer Debian packages have usr/lib/modules
    if [ ! -d "$new/k/lib/modules/$version" ]; then
        mkdir -p "$new/k/lib"
        ln -sfn ../usr/lib/modules "$new/k/lib/modules"
    fi
    depmod -b "$new/k" "$version" || die "depmod failed"
    echo "$version" >"$new/version"
    # the initramfs: a static busybox, the few modules, one script
    cp "$(busybox_static)" "$new/i/bin/busybox"
    : >"$new/i/m/order"
    for module in $BOOTMODS; do
        modprobe -C /dev/null -d "$new/k" -S "$version" --show-depends "$module" \
            2>/dev/null >"$new/deps" || die "$real has no module $module"
        while read -r action file _; do
            [ "$action" = insmod ] || continue          # builtin
            name=$(basename "$file") && name=${name%.xz} && name=${name%.zst}
            [ -e "$new/i/m/$name" ] && continue
            case $file in
                *.xz) xz -dc "$file" ;;
                *.zst) zstd -qdc "$file" ;;
                *) cat "$file" ;;
            esac >"$new/i/m/$name"
            echo "$name" >>"$new/i/m/order"
        done <"$new/deps"
    done
    initramfs >"$new/i/init"
    chmod 755 "$new/i/init"
    (cd "$new/i" && find . | cpio -o -H newc -R 0:0 2>/dev/null) >"$new/initrd" ||
        die "cpio failed"
    touch "$new/stamp.$STAMP"
    rm -rf "${DIR:?}/$PKG"
    mv "$new" "$DIR/$PKG" || die "cannot move $new"
    say "ready: kernel $version in $DIR/$PKG"
}

# the headers of the kernel in $DIR/$PKG, unpacked beside it; prints where modules are built
headers() {
    local at=$DIR/$PKG/h new=$DIR/$PKG/h.new.$$ version name deb
    version=$(cat "$DIR/$PKG/version")
    name=linux-headers-$version
    if [ ! -d "$at" ]; then
        update
        say "downloading $name"
        mkdir -p "$new" || die "no directory $new"
        # what it depends on is the part for all machines, and the programs that build
        (cd "$new" && apt-cache depends "$name" |
            awk '/Depends: linux-(headers|kbuild)-/{print $2}' |
            xargs apt-get download -qq "$name" 2>/dev/null) || die "cannot download $name"
        for deb in "$new"/*.deb; do
            dpkg-deb -x "$deb" "$new" || die "cannot unpack $deb"
            rm -f "$deb"
        done
        # the one path that is absolute and not a symbolic link for an installed kernel
        sed -i "s|^include /usr/|include $at/usr/|" "$new/usr/src/$name/Makefile"
        mv "$new" "$at" || die "cannot move $new"
    fi
    echo "$at/usr/src/$name"
}

# the initramfs' script: mount the root of the VM, and go on in it with stage2
initramfs() {
    cat <<'INIT'
#!/bin/busybox sh
B=/bin/busybox
$B mkdir -p /proc /dev /lower /rw /new
$B mount -t proc proc /proc
$B mount -t devtmpfs dev /dev
for m in $($B cat /m/order); do $B insmod /m/$m || echo "lab-init: insmod $m failed"; done
O=trans=virtio,version=9p2000.L,access=any,msize=512000
$B mount -t 9p -o ro,cache=loose,$O labroot /lower || echo "lab-init: no root share"
$B mount -t tmpfs -o mode=755 rw /rw
$B mkdir /rw/up /rw/wk
$B mount -t overlay -o lowerdir=/lower,upperdir=/rw/up,workdir=/rw/wk root /new || echo "lab-init: no overlay"
$B mkdir -p /new/run /new/proc /new/sys /new/dev
$B mount -t tmpfs -o mode=755 run /new/run
$B mkdir /new/run/lab
$B mount -t 9p -o $O labctl /new/run/lab || echo "lab-init: no control share"
$B umount /proc
$B mount --move /dev /new/dev
exec $B switch_root /new /bin/bash /run/lab/stage2
INIT
}

# the VM's first process: mount what is missing, run the command, stop the VM;
# $1 mounts the shared directories
stage2() {
    cat <<STAGE2
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -n -t proc -o nosuid,nodev,noexec proc /proc
mount -n -t sysfs -o nosuid,nodev,noexec sys /sys
mkdir -p /dev/pts /dev/shm
mount -n -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -n -t tmpfs -o mode=1777 shm /dev/shm
mount -n -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -n -t tracefs trace /sys/kernel/tracing 2>/dev/null
mount -n -t securityfs sec /sys/kernel/security 2>/dev/null
mount -n -t cgroup2 cg /sys/fs/cgroup 2>/dev/null
ln -sfn /proc/self/fd /dev/fd; ln -sfn fd/0 /dev/stdin; ln -sfn fd/1 /dev/stdout; ln -sfn fd/2 /dev/stderr
mkdir -p /lib/modules; rm -rf /lib/modules/$KVER
ln -s $(printf %q "$K")/k/lib/modules/$KVER /lib/modules/$KVER
hostname ksyms-lab; /run/lab/busybox ip link set lo up
$1
exec 3>/dev/vport0p1 4>/dev/vport0p2
export HOME=${HOME@Q} USER=root TERM=dumb LANG=${LANG:-C.UTF-8} KSYMS_LAB=1
export PATH=${PYBIN:+${PYBIN@Q}:}${PATH@Q}:\$PATH
cat /proc/uptime >/run/lab/start
# a child in its own session, so that PID 1 outlives whatever it does
setsid -w bash -c 'cd "\$0" || exit 125; exec 3>&- 4>&-; exec bash -c "\$1"' \
    ${WORK@Q} "\$(cat /run/lab/command)" </dev/null 1>&3 2>&4
echo \$? >/run/lab/rc
exec 3>&- 4>&-
sync
/run/lab/busybox reboot -f
STAGE2
}

SHOW=0 ONLY=0
case ${1-} in
    --setup | --headers) ONLY=1 ;;
    --console) SHOW=1; shift ;;
esac
if [ $ONLY = 0 ] && [ $# = 0 ]; then
    sed -n '2,/^set -u/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 125
fi
mkdir -p "$DIR" || die "no cache directory $DIR"
DIR=$(cd "$DIR" && pwd -P)
exec 9>"$DIR/lock" && flock 9      # one set-up at a time
setup
[ "${1-}" != --headers ] || headers
exec 9>&-
[ $ONLY = 1 ] && exit 0

K=$DIR/$PKG KVER=$(cat "$DIR/$PKG/version")
CTL=$(mktemp -d "${TMPDIR:-/tmp}/ksyms-lab.XXXXXX") || die "no temporary directory"
trap 'rm -rf "$CTL"' EXIT
WORK=$(pwd -P)
PYBIN=$(python3 -c 'import os,sys; print(os.path.dirname(sys.executable))' 2>/dev/null)
printf '%s' "$*" >"$CTL/command"
cp "$K/i/bin/busybox" "$CTL/busybox"
n=0 SHARES=() MOUNTS=
IFS=: read -ra RW <<<"$WORK${KSYMS_LAB_RW:+:$KSYMS_LAB_RW}"
for d in "${RW[@]}"; do
    d=$(cd "$d" && pwd -P) || die "no directory $d"
    [ "$d" = / ] && die "will not mount / read and write; run from another directory"
    SHARES+=(-fsdev "local,id=w$n,path=${d//,/,,},security_model=none,multidevs=remap"
             -device "virtio-9p-pci,fsdev=w$n,mount_tag=labrw$n")
    MOUNTS+="mount -n -t 9p -o trans=virtio,version=9p2000.L,access=any,cache=mmap,msize=512000"
    MOUNTS+=" labrw$n $(printf %q "$d") || echo 'lab: cannot mount $n' >/dev/console"$'\n'
    n=$((n + 1))
done
stage2 "$MOUNTS" >"$CTL/stage2"

mkfifo "$CTL/out" "$CTL/err"
cat <"$CTL/out" & CAT1=$!
cat <"$CTL/err" >&2 & CAT2=$!
FIRST=quiet
[ $SHOW = 1 ] && FIRST=loglevel=7
read -ra MORE <<<"${KSYMS_LAB_QEMU-}"
timeout --foreground -k 5 "$LIMIT" qemu-system-x86_64 -name ksyms-lab -nodefaults \
    -display none -machine q35 -accel "$ACCEL" -cpu max -smp "$CPUS" -m "$MEM" \
    -no-reboot -net none \
    -kernel "$K/k/boot/vmlinuz-$KVER" -initrd "$K/initrd" \
    -append "console=ttyS0 panic=-1 oops=panic rdinit=/init $FIRST ${KSYMS_LAB_APPEND-}" \
    -chardev "file,id=con,path=$CTL/console" -serial chardev:con \
    -device virtio-serial-pci \
    -chardev "file,id=out,path=$CTL/out" -device virtserialport,nr=1,chardev=out,name=out \
    -chardev "file,id=err,path=$CTL/err" -device virtserialport,nr=2,chardev=err,name=err \
    -device virtio-rng-pci \
    -fsdev "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap" \
    -device virtio-9p-pci,fsdev=root,mount_tag=labroot \
    -fsdev "local,id=ctl,path=$CTL,security_model=none" \
    -device virtio-9p-pci,fsdev=ctl,mount_tag=labctl \
    "${SHARES[@]}" ${MORE[@]+"${MORE[@]}"} </dev/null 2>"$CTL/qemu.err" &
QEMU=$!
trap 'kill $QEMU 2>/dev/null' INT TERM HUP
wait $QEMU; STATUS=$?
trap - INT TERM HUP
# if qemu never opened a fifo its reader is still waiting for a writer
: 3<>"$CTL/out" 3>&- 3<>"$CTL/err" 3>&-
wait $CAT1 $CAT2
[ $SHOW = 1 ] && cat "$CTL/console" >&2
[ -n "${KSYMS_LAB_KEEP-}" ] && cp "$CTL/console" "$CTL/start" "$KSYMS_LAB_KEEP/" 2>/dev/null
[ -s "$CTL/rc" ] && exit "$(cat "$CTL/rc")"
cat "$CTL/qemu.err" >&2
[ $SHOW = 1 ] || tail -25 "$CTL/console" >&2
[ $STATUS = 124 ] && { say "stopped after $LIMIT s"; exit 124; }
die "the VM ended without a status (qemu: $STATUS)"
