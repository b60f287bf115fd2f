# What the bed's scripts share. Sourced, never run.
# shellcheck shell=bash

say() { echo "bed: $*" >&2; }
fail() { say "$*"; exit 1; }

# wait_for SECONDS COMMAND...: tries until the command succeeds; false when the time is over.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# only_child PID: the process that PID forked. unshare and nsenter stand between us and the program
# when they enter a process namespace, and a signal to them would not reach it.
only_child() {
    until pgrep -P "$1"; do
        ! gone "$1" || return 1
        sleep 0.02
    done
}

# end PID MARK [SIGNAL]: ends a process if it still is ours. Process ids are used again, so its command
# line must carry MARK, the folder of the bed that it belongs to.
end() {
    local pid=$1 mark=$2 signal=${3:-TERM}
    tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$mark" || return 0
    kill -s "$signal" "$pid" 2>/dev/null || return 0
    wait_for 5 gone "$pid" || kill -s KILL "$pid" 2>/dev/null || true
}

# A zombie counts as gone: its parent may be a caller that does not wait for it.
gone() { [[ -z $1 || ! -e /proc/$1 ]] || grep -q '^State:[[:space:]]*Z' "/proc/$1/status"; }

# show_log NAME and show_ended are for a failure: the reason often stands in the log of what ended.
show_log() {
    say "--- $2, end of its log:"
    tail -n 25 "$1/log/$2.log" >&2
}
show_ended() {
    local file
    for file in "$1"/pid/*; do
        [[ ! -e $file ]] || ! gone "$(cat "$file")" || show_log "$1" "$(basename "$file")"
    done
}

# cgroup_folders NAME: our group in each hierarchy; version 1, 2 or both may be mounted.
cgroup_folders() {
    local name=$1 hierarchy
    if [[ -e /sys/fs/cgroup/cgroup.procs ]]; then
        echo "/sys/fs/cgroup/$name"
        return
    fi
    for hierarchy in /sys/fs/cgroup/*/; do
        [[ -L ${hierarchy%/} || ! -e $hierarchy/cgroup.procs ]] || echo "$hierarchy$name"
    done
}

# remove_cgroup NAME: a group goes only when it is empty, and its children first. Ended processes
# leave theirs a moment later.
remove_cgroup() {
    local folder
    for folder in $(cgroup_folders "$1"); do
        [[ ! -d $folder ]] || wait_for 5 remove_cgroup_folder "$folder" || say "cannot remove $folder"
    done
}
remove_cgroup_folder() { find "$1" -depth -type d -exec rmdir {} +; [[ ! -e $1 ]]; }
