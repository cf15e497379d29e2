#!/usr/bin/env bash
# A file server and several hosts on one machine, to test programs that share a folder over a network.
#
#     tests/explorers/cluster.sh up DIR [HOSTS]        start the file server and HOSTS hosts (2); they see its files in DIR/hostK
#     tests/explorers/cluster.sh on DIR K COMMAND …    run a program on host K
#     tests/explorers/cluster.sh cut DIR K             pull host K's network cable out
#     tests/explorers/cluster.sh join DIR K            plug it in again
#     tests/explorers/cluster.sh stop DIR              shut the file server down
#     tests/explorers/cluster.sh start DIR             and start it again, with all files
#     tests/explorers/cluster.sh restart DIR           stop and start
#     tests/explorers/cluster.sh down DIR              end everything: programs, mounts, networks, files; safe to repeat
#     tests/explorers/cluster.sh check                 say what this machine lacks for all that (exit code 2), or nothing
#
# What `up DIR 2` makes:
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
# Everything is in DIR: the server's files in DIR/server (some megabytes), the namespaces as files. So clusters don't
# know of each other, though all use the same addresses, and this machine's own network is not touched.
#
# How stale a host's view may be: with MooseFS's defaults hardly at all, other hosts see a rename within milliseconds.
# CLUSTER_MOUNT has more options for mfsmount; with these, what a host knows of a file (size, time) and whether a name
# is there may be five seconds old, as it may on NFS. A listing is never old: it always comes from the server.
#
#     CLUSTER_MOUNT=mfsattrcacheto=5,mfsentrycacheto=5,mfsnegentrycacheto=5 tests/explorers/cluster.sh up DIR
#
# What programs see, as measured with MooseFS 3.0.117:
#   - While a host is cut off or the server is down, every call waits: not even kill -9 ends the program. After `join`
#     calls return within 1 to 5 seconds, as if nothing had happened, after a cut of 5 seconds and after one of 40.
#   - It is only after two to three minutes (mfsmount's 30 tries) that calls fail, with EIO; after `join` all is well.
#   - For ten seconds after `up` and `start` the server changes no contents that were there before: to append waits,
#     to rename does not.
#   - File times are whole seconds.
#
# To test a filesystem of your own, rewrite the functions of the next section; nothing else knows of MooseFS.

set -eu

PACKAGES="moosefs-master moosefs-chunkserver moosefs-client iproute2"
PROGRAMS="mfsmaster mfschunkserver mfsmount ip nsenter unshare"
SERVER=10.0.0.1 # any address but 127.…, which MooseFS refuses; nobody outside the namespaces sees it
PATH=$PATH:/usr/sbin:/sbin

# ------------------------------------------------- the filesystem: only here it is MooseFS

configure_server() {
    local data=$DIR/server
    mkdir -p "$data/chunks"
    printf 'MFSM NEW' >"$data/metadata.mfs" # an empty filesystem
    echo '* / rw,alldirs,maproot=0:0' >"$data/exports.cfg"
    echo "$data/chunks" >"$data/disks.cfg"
    # By default the servers become the user mfs, who can't enter DIR, and the most important processes of the machine.
    cat >"$data/server.cfg" <<END
DATA_PATH = $data
WORKING_USER = root
NICE_LEVEL = 0
DISABLE_OOM_KILLER = 0
EXPORTS_FILENAME = $data/exports.cfg
HDD_CONF_FILENAME = $data/disks.cfg
HDD_LEAVE_SPACE_DEFAULT = 64MiB
MASTER_HOST = $SERVER
MASTER_RECONNECTION_DELAY = 1
END
}

start_server() {
    mfs mfsmaster test || mfs mfsmaster start -a # -a: also after a crash
    mfs mfschunkserver test || mfs mfschunkserver start
}

stop_server() {
    mfs mfschunkserver stop
    mfs mfsmaster stop
}

mfs() {
    local daemon=$1
    shift
    on server "$daemon" -c "$DIR/server/server.cfg" "${@:2}" "$1"
}

mount_on() {
    on "$1" mfsmount "$DIR/$1" -H "$SERVER" -o "mfsnice=0,mfsallowoomkiller${CLUSTER_MOUNT:+,$CLUSTER_MOUNT}"
}

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
    on server ip address add "$SERVER/24" dev switch
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
    local k
    check
    [ ! -e "$DIR/server.net" ] || fail "$DIR: there is a cluster already; end it with: $0 down $DIR"
    mkdir -p "$DIR"
    trap down EXIT # if something fails on the way, what was made so far goes
    new_host server
    new_switch
    configure_server
    quietly start_server
    for k in $(seq "$1"); do
        mkdir -p "$DIR/host$k"
        new_host "host$k"
        plug_in "host$k" "10.0.0.$((10 + k))"
        quietly mount_on "host$k"
    done
    for k in $(seq "$1"); do
        wait_until_writable "$DIR/host$k"
    done
    trap - EXIT
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

# Programs are killed, mfsmount among them, before anything is unmounted: with its client gone the kernel answers every
# call that still waits for a server out of reach (ENOTCONN), and nothing can hang. The server's namespace goes last:
# where it is, there is still something to do.
down() {
    local file host
    [ -e "$DIR/server.net" ] || return 0
    for file in "$DIR"/host*.net "$DIR/server.net"; do
        [ -e "$file" ] || continue # no host: the pattern itself
        host=$(basename "$file" .net)
        kill_all_on "$host"
        umount -l "$DIR/$host" 2>/dev/null || true
        [ "$host" = server ] || rmdir "$DIR/$host"
        [ "$host" != server ] || rm -rf --one-file-system "$DIR/server"
        umount "$DIR/$host.uts" 2>/dev/null || true
        umount "$file" 2>/dev/null || true
        rm -f "$DIR/$host.uts" "$file"
    done
    rmdir --ignore-fail-on-non-empty "$DIR"
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
    for program in $PROGRAMS; do
        command -v "$program" >/dev/null || fail "needs $program: apt-get install --no-install-recommends $PACKAGES"
    done
    [ -c /dev/fuse ] || fail "needs /dev/fuse, to mount a filesystem: modprobe fuse"
    unshare --net --uts --mount ip link add switch type bridge 2>/dev/null ||
        fail "needs the rights of root, to make networks and mounts of its own"
}

# Daemons must not hold the output of who started this: it would wait for their end.
quietly() {
    "$@" >>"$DIR/server/log" 2>&1 </dev/null || {
        tail -n 20 "$DIR/server/log" >&2
        return 1
    }
}

fail() {
    echo "$0: $*" >&2
    exit 2
}

usage() {
    echo "usage:" >&2
    sed -n 's/^#\(     tests.cluster.sh \)/\1/p' "$0" >&2
    exit 2
}

command=${1-}
[ "$command" != check ] || { check; exit; }
[ $# -ge 2 ] || usage
DIR=$(realpath -m "$2")
shift 2
case $command:$# in
    up:0) up 2 ;;
    up:1) up "$1" ;;
    on:0 | on:1) usage ;;
    on:*) exec nsenter --net="$DIR/host$1.net" --uts="$DIR/host$1.uts" "${@:2}" ;; # the program is the process started
    cut:1 | join:1) "$command" "host$1" ;;
    stop:0 | start:0) quietly "${command}_server" ;;
    restart:0) quietly stop_server; quietly start_server ;;
    down:0) down ;;
    *) usage ;;
esac
