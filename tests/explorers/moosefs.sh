# MooseFS for cluster.sh: one server, and DIR/hostK is its folder.
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

PACKAGES="moosefs-master moosefs-chunkserver moosefs-client"
PROGRAMS="mfsmaster mfschunkserver mfsmount"
FOLDERS=. # of a host
SERVER=10.0.0.1 # any address but 127.…, which MooseFS refuses; nobody outside the namespaces sees it

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

start_servers() {
    configure_server
    start_server
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
