# Encloses a script: sourced at its beginning, it starts the script again as the first process of a pid namespace, with mounts and network
# of its own and an empty /run. When the script ends, however it ends, the kernel ends all that it started and takes its mounts and links
# away; the files and control groups of the run are removed here. Sets: here, folder.
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${ENCLOSED:-}" ]; then
    folder=$(mktemp -d -p /var/lib floor-XXXXXX) # an overlay needs a real file system below it
    remove() {
        trap '' EXIT INT TERM
        kill -KILL "$inside" 2>/dev/null && wait "$inside" 2>/dev/null || true
        for group in /sys/fs/cgroup/*/"$(basename "$folder")"; do
            # What was killed may need a moment to end.
            for _ in $(seq 100); do
                [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
            done
        done
        rm -rf "$folder"
    }
    inside=
    trap remove EXIT
    trap 'exit 1' INT TERM
    ENCLOSED=$folder unshare --net --mount --propagation slave --pid --fork --kill-child --mount-proc sh "$0" "$@" &
    inside=$!
    wait $inside && exit
    tail -n 5 "$folder"/*.log >&2
    exit 1
fi
folder=$ENCLOSED
mount -t tmpfs none /run
