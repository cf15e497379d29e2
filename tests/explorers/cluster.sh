#!/usr/bin/env bash
# File servers and several hosts on one machine, to test programs that share a folder over a network.
#
#     tests/explorers/cluster.sh up DIR [HOSTS [PID]]  start the file servers and HOSTS hosts (2), which see their files in
#                                                      DIR/hostK; when process PID has ended, in whatever way, end everything
#     tests/explorers/cluster.sh on DIR K COMMAND …    run a program on host K
#     tests/explorers/cluster.sh cut DIR K             pull host K's network cable out
#     tests/explorers/cluster.sh join DIR K            plug it in again
#     tests/explorers/cluster.sh stop DIR [K]          shut a file server down
#     tests/explorers/cluster.sh start DIR [K]         and start it again, with all files
#     tests/explorers/cluster.sh restart DIR [K]       stop and start
#     tests/explorers/cluster.sh grow DIR              give the filesystem more space while it is in use (GlusterFS)
#     tests/explorers/cluster.sh down DIR              end everything: programs, mounts, networks, files; safe to repeat
#     tests/explorers/cluster.sh check                 say what this machine lacks for all that (exit code 2), or nothing
#
# The filesystem is MooseFS, or with CLUSTER=glusterfs in the environment GlusterFS; `moosefs.sh` and `glusterfs.sh` say
# what their hosts see. To test one of your own, write such a file; nothing else knows of either.
#
# What `up DIR 2` makes, with MooseFS:
#
#             host1                                 host2
#     ┌────────────────────┐                ┌────────────────────┐     A host is a network namespace: the programs in
#     │ programs  DIR/host1│                │ programs  DIR/host2│     it reach the file server by this one cable,
#     │              │     │                │              │     │     or not at all.
#     │           mfsmount │                │           mfsmount │     mfsmount, the filesystem's client, has caches
#     └─ eth0 10.0.0.11 ───┘                └─ eth0 10.0.0.12 ───┘     of its own on each.
#          │                                     │                     A cable is a veth: a pair of network cards,
#     ┌─ host1 ───────── switch 10.0.0.1 ────── host2 ───────────┐     what goes in at one comes out at the other.
#     │ mfsmaster (names)             mfschunkserver (contents)  │     The switch is a bridge; the far ends of the
#     └─ server ─────────────────────────────────────────────────┘     cables are plugged into it.
#
# The hosts share this machine's processes, clock and disks: DIR/host1 can be looked into from everywhere, so that a
# test can see the folder with the eyes of any host, and kill a program on any of them. Only the network and the
# host's name are a host's own.
#
# Everything is in DIR: the servers' files in DIR/server… (some megabytes), the namespaces as files. So clusters don't
# know of each other, though all use the same addresses, and this machine's own network is not touched.

set -eu

PATH=$PATH:/usr/sbin:/sbin

# ------------------------------------------------- hosts and cables

# Namespaces end with their last process, unless they are mounted onto a file.
new_host() {
    touch "$DIR/$1.net" "$DIR/$1.uts"
    unshare --net="$DIR/$1.net" --uts="$DIR/$1.uts" hostname "$1"
    on "$1" ip link set lo up
}

# Not `ip netns exec`: that gives the program its own view of the mounts, where it misses those that come later.
on() {
    local host=$1
    shift
    nsenter --net="$DIR/$host.net" --uts="$DIR/$host.uts" "$@"
}

new_switch() {
    on server ip link add switch type bridge
    on server ip address add 10.0.0.1/24 dev switch
    on server ip link set switch up
}

plug_in() {
    local host=$1 address=$2
    on server ip link add "$host" type veth peer name eth0 netns "$DIR/$host.net"
    on server ip link set "$host" master switch up
    on "$host" ip address add "$address/24" dev eth0
    on "$host" ip link set eth0 up
}

# ------------------------------------------------- what the commands do

up() {
    local k folder
    check
    [ ! -e "$DIR/server.net" ] || fail "$DIR: there is a cluster already; end it with: $0 down $DIR"
    mkdir -p "$DIR/server"
    echo "$CLUSTER" >"$DIR/server/filesystem"
    incomplete=yes
    new_host server
    new_switch
    quietly start_servers
    for k in $(seq "$1"); do
        new_host "host$k"
        plug_in "host$k" "10.0.0.$((10 + k))"
        for folder in $FOLDERS; do
            mkdir -p "$DIR/host$k/$folder"
            quietly mount_on "host$k" "$folder"
        done
    done
    for folder in $FOLDERS; do
        for k in $(seq "$1"); do
            wait_until_writable "$DIR/host$k/$folder"
        done
    done
    incomplete=
}

# After the end of that process, and of this one, which may be in the middle of `up`.
guard() {
    setsid sh -c 'tail -f /dev/null --pid="$1"; tail -f /dev/null --pid="$2"; exec "$3" down "$4"' \
        guard "$1" $$ "$0" "$DIR" >/dev/null 2>&1 </dev/null &
}

# The contents' server needs a moment to report to the names' server, and a client that writes too soon a long one to
# try again.
wait_until_writable() {
    local tries=0
    while [ "$(df --output=avail "$1" | tail -n 1)" -eq 0 ]; do
        [ $tries -lt 600 ] || fail "$1: no space after a minute (does the disk have 400 MB to spare?)"
        tries=$((tries + 1))
        sleep 0.1
    done
    echo "can be written to" | dd of="$1/.writable" conv=fsync status=none
    rm "$1/.writable"
}

# The cable is cut at the switch: the host's own card stays up, and what it sends vanishes without an error.
cut() {
    on server ip link set "$1" down
}

join() {
    on server ip link set "$1" up
}

# Programs are killed, the filesystem's clients among them, before anything is unmounted: with its client gone the kernel
# answers every call that still waits for a server out of reach (ENOTCONN), and nothing can hang. The switch's namespace
# goes last: where it is, there is still something to do.
down() {
    local file host
    [ -e "$DIR/server.net" ] || return 0
    for file in "$DIR"/host*.net "$DIR"/server?*.net "$DIR/server.net"; do
        [ -e "$file" ] || continue # no such host: the pattern itself
        host=$(basename "$file" .net)
        kill_all_on "$host"
        case $host in
            host*) unmount_on "$host" ;;
            *) rm -rf --one-file-system "${DIR:?}/$host" ;;
        esac
        umount "$DIR/$host.uts" 2>/dev/null || true
        umount "$file" 2>/dev/null || true
        rm -f "$DIR/$host.uts" "$file"
    done
    rmdir --ignore-fail-on-non-empty "$DIR"
}

unmount_on() {
    local folder
    for folder in $FOLDERS; do
        umount -l "$DIR/$1/$folder" 2>/dev/null || true
    done
    find "$DIR/$1" -xdev -depth -type d -delete
}

kill_all_on() {
    local process found=yes
    while [ $found = yes ]; do
        found=no
        for process in /proc/[0-9]*; do
            if [ "$process/ns/net" -ef "$DIR/$1.net" ]; then
                kill -9 "${process#/proc/}" 2>/dev/null || true
                found=yes
            fi
        done
        [ $found = no ] || sleep 0.05
    done
}

check() {
    local program
    for program in $PROGRAMS ip nsenter unshare; do
        command -v "$program" >/dev/null || fail "needs $program: apt-get install --no-install-recommends $PACKAGES iproute2"
    done
    [ -c /dev/fuse ] || fail "needs /dev/fuse, to mount a filesystem: modprobe fuse"
    unshare --net --uts --mount ip link add switch type bridge 2>/dev/null ||
        fail "needs the rights of root, to make networks and mounts of its own"
}

# Daemons must not hold the output of who started this: it would wait for their end.
quietly() {
    quiet=yes
    "$@" >>"$DIR/server/log" 2>&1 </dev/null
    quiet=
}

# If something fails on the way, the log says why, and what was made so far goes.
ended() {
    local status=$?
    [ $status -eq 0 ] || [ -z "$quiet" ] || tail -n 20 "$DIR/server/log" >&2
    [ -z "$incomplete" ] || down
}

fail() {
    echo "$0: $*" >&2
    exit 2
}

usage() {
    echo "usage:" >&2
    sed -n 's/^#\(     tests.explorers.cluster.sh \)/\1/p' "$0" >&2
    exit 2
}

command=${1-} quiet='' incomplete=''
[ "$command" = check ] || [ $# -ge 2 ] || usage
DIR=$(realpath -m "${2-.}")
[ ! -e "$DIR/server/filesystem" ] || CLUSTER=$(cat "$DIR/server/filesystem")
CLUSTER=${CLUSTER:-moosefs}
. "$(dirname "$0")/$CLUSTER.sh"
[ "$command" != check ] || { check; exit; }
shift 2
trap ended EXIT
case $command:$# in
    up:0) up 2 ;;
    up:1) up "$1" ;;
    up:2) guard "$2"; up "$1" ;;
    on:0 | on:1) usage ;;
    on:*) exec nsenter --net="$DIR/host$1.net" --uts="$DIR/host$1.uts" "${@:2}" ;; # the program is the process started
    cut:1 | join:1) "$command" "host$1" ;;
    stop:[01] | start:[01]) quietly "${command}_server" "$@" ;;
    restart:[01]) quietly stop_server "$@"; quietly start_server "$@" ;;
    grow:0) quietly grow ;;
    down:0) down ;;
    *) usage ;;
esac
