#!/bin/bash
# The first process of a guest (see guests.py): an NFS server or one of its clients. Its root is this machine's own /,
# read-only. The kernel's command line has set these variables: name, number, role, first and see.
#
# When all is set up it says `ready` on its serial line. Then each line from there is `ID COMMAND`: the command is run at
# once, beside the others, and at its end the answer is `ID EXIT-CODE OUTPUT`, in base64. /run/ID.pid holds its process,
# /run/ID.out its output so far.

set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
LINE=/dev/ttyS0
NETWORK=10.79.0

set_up() {
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    for place in /run /tmp /dev/shm; do
        [ -d "$place" ] || mkdir "$place"
        mount -t tmpfs tmpfs "$place"
    done
    for place in ${see//:/ }; do # of this machine: some may lie below /tmp
        mkdir -p "$place"
        mount -t hostfs none "$place" -o "$place"
    done
    stty -F $LINE raw -echo
    hostname "$name"
    ip link set lo up
    ip link set eth0 up
    ip address add $NETWORK.$number/24 dev eth0
    mkdir /run/lib /run/disk
    ln -s /usr/lib/uml/modules /run/lib/modules
    mount -t ext4 /dev/ubda /run/disk # what outlives the guest: the server's files, and who holds locks
    mkdir -p /run/disk/share /run/disk/nfs/{sm,sm.bak,v4recovery,rpc_pipefs}
    mount --bind /run/disk/nfs /var/lib/nfs
    load "$role"
    rpcbind
    rpc.statd # tells the others, too, that this guest has been away: they forget the locks that it had
}

load() {
    case $1 in
        server) modprobe -d /run -a nfsd lockd ;;
        client) modprobe -d /run -a nfs nfsv3 nfsv4 lockd ;;
    esac
}

# After a crash a server grants no new locks for a while, so that clients can claim theirs again.
serve() {
    local seconds=10
    [ "$first" = no ] || seconds=3
    touch /run/disk/nfs/etab /run/disk/nfs/rmtab
    mount -t nfsd nfsd /proc/fs/nfsd
    echo 10 | tee /proc/fs/nfsd/nfsv4leasetime >/proc/fs/nfsd/nfsv4gracetime
    echo $seconds | tee /proc/sys/fs/nfs/nlm_timeout >/proc/sys/fs/nfs/nlm_grace_period
    exportfs -i -o rw,no_root_squash,insecure,no_subtree_check,fsid=0,sync "$NETWORK.0/24:/run/disk/share"
    rpc.nfsd 4
    rpc.mountd
    [ "$first" = no ] || echo Y >/proc/fs/nfsd/v4_end_grace
}

answer() {
    local id=$1 code=0
    (
        echo "$BASHPID" >"/run/$id.pid"
        eval "exec $2"
    ) >"/run/$id.out" 2>&1 </dev/null || code=$?
    flock $LINE echo "$id $code $(base64 -w 0 "/run/$id.out")" >$LINE
}

set_up
[ "$role" != server ] || serve
exec 3<$LINE
echo ready >$LINE
while IFS= read -r command <&3; do
    answer "${command%% *}" "${command#* }" &
done
echo o >/proc/sysrq-trigger
