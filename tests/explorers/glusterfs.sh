# GlusterFS for cluster.sh: three servers, each a host of its own, and two volumes that every host mounts.
#
#     DIR/hostK/spread    bricks on servers 1 and 2: each file is on one of them, and away when that server is
#     DIR/hostK/copied    bricks on all three: two copies of each file, and an arbiter that holds names alone
#
# Here `stop DIR K` kills server K with its bricks, as a crash does; `start DIR K` starts it again; and there is one command more:
#
#     tests/explorers/cluster.sh grow DIR     add a brick on server 3 to `spread`, and move files there (rebalance)
#
# All of a server's files are in DIR/serverK: the brick of each volume, and what Debian keeps in /var/lib/glusterd,
# /var/log/glusterfs and /run, which each server sees as its own.
#
# The caches are GlusterFS's defaults: what a client knows of a file (size, time, whether a name is there) may be a
# second old and more, and so may a listing.

PACKAGES="glusterfs-server glusterfs-client"
PROGRAMS="glusterd gluster mount.glusterfs"
FOLDERS="spread copied" # of a host: one for each volume
SERVERS="server1 server2 server3"

start_servers() {
    local server
    printf '#!/bin/sh\necho gsyncd 0.0.1\n' >"$DIR/server/gsyncd"
    chmod +x "$DIR/server/gsyncd"
    for server in $SERVERS; do
        new_host "$server"
        plug_in "$server" "$(address_of "$server")"
        mkdir -p "$DIR/$server/lib" "$DIR/$server/log" "$DIR/$server/run"
        start_daemon "$server"
    done
    for server in $SERVERS; do
        retry answers "$server"
    done
    gluster_says peer probe "$(address_of server2)"
    gluster_says peer probe "$(address_of server3)"
    for server in $SERVERS; do
        retry knows_all "$server"
    done
    gluster_says volume create spread $(bricks spread server1 server2) force
    gluster_says volume create copied replica 3 arbiter 1 $(bricks copied $SERVERS) force
    gluster_says volume set spread cluster.min-free-disk 0%
    gluster_says volume start spread
    gluster_says volume start copied
}

start_server() {
    answers "server$1" || start_daemon "server$1"
    retry answers "server$1"
}

# In the background: with -N it stays the process that was started, which holds the server's view of the mounts.
# gsyncd is for copies on other continents. glusterd starts it 25 times to set it up, a Python each: here, a shell.
start_daemon() {
    on "$1" unshare --mount sh -euc "
        echo \$\$ >$DIR/$1/pid
        mount --bind $DIR/$1/lib /var/lib/glusterd
        mount --bind $DIR/$1/log /var/log/glusterfs
        mount --bind $DIR/$1/run /run
        mkdir -p /run/gluster
        mount --bind $DIR/server/gsyncd $(echo /usr/lib/*/glusterfs/gsyncd)
        exec glusterd -N -L WARNING >/dev/null" &
}

answers() {
    on_server "$1" gluster pool list
}

knows_all() {
    [ "$(on_server "$1" gluster peer status | grep -c "Peer in Cluster (Connected)")" -eq 2 ]
}

stop_server() {
    kill_all_on "server$1"
}

mount_on() {
    on "$1" mount -t glusterfs -o "log-file=$DIR/server/$1-$2.log" "$(address_of server1):/$2" "$DIR/$1/$2"
}

grow() {
    gluster_says volume add-brick spread $(bricks spread server3) force
    gluster_says volume rebalance spread start & # to answer takes it ten seconds
}

address_of() {
    echo "10.0.0.2${1#server}"
}

bricks() {
    local volume=$1 server
    shift
    for server in "$@"; do
        echo "$(address_of "$server"):$DIR/$server/$volume"
    done
}

on_server() {
    local server=$1
    shift
    nsenter --target "$(cat "$DIR/$server/pid")" --mount --net --uts "$@"
}

gluster_says() {
    on_server server1 gluster --mode=script "$@"
}

# Servers answer some time after their start, and know of each other some time after they were told.
retry() {
    local tries=0
    until "$@"; do
        [ $tries -lt 100 ] || return 1
        tries=$((tries + 1))
        sleep 0.2
    done
}
