# Processes that outlive the script that starts them, and end by the pid that was noted down. To be sourced.
# DIR/run/NAME.pid holds "PID START", START being the start time in /proc: a pid that was given to another process
# meanwhile is never taken for ours.
# shellcheck shell=bash

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# Sets DIR, RUN and LOG. The directory must be new, empty or made by these scripts.
use_dir() { # DIR
    mkdir -p "$1"
    DIR=$(cd "$1" && pwd -P)
    RUN=$DIR/run
    LOG=$DIR/log
    if [ ! -f "$DIR/.testbed" ]; then
        [ -z "$(ls -A "$DIR")" ] || die "not empty, and not made by these scripts: $DIR"
        touch "$DIR/.testbed"
    fi
    mkdir -p "$RUN" "$LOG"
}

# The start time, in clock ticks, of a process that lives and is not a zombie.
start_time() { # PID
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    read -r -a fields <<<"${stat##*) }"
    [ "${fields[0]}" != Z ] || return 1
    printf '%s\n' "${fields[19]}"
}

record_pid() { # NAME PID
    local started
    started=$(start_time "$2") || return 1
    printf '%s %s\n' "$2" "$started" >"$RUN/$1.pid"
}

is_up() { # NAME
    local pid started
    [ -f "$RUN/$1.pid" ] || return 1
    read -r pid started <"$RUN/$1.pid" || return 1
    [ "$(start_time "$pid")" = "$started" ]
}

# Runs a command in the background, in a session of its own (a Ctrl-C is not for it), in DIR.
launch() { # NAME COMMAND...
    local name=$1
    shift
    (cd "$DIR" && exec setsid "$@") </dev/null >"$LOG/$name.log" 2>&1 &
    record_pid "$name" $! || {
        tail -n 20 "$LOG/$name.log" >&2
        die "$name ended at once"
    }
}

# Waits up to a minute for a command to succeed while the named process lives.
wait_for() { # NAME COMMAND...
    local name=$1 end=$((SECONDS + 60))
    shift
    while is_up "$name" && [ "$SECONDS" -lt "$end" ]; do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.05
    done
    tail -n 20 "$LOG/$name.log" >&2
    die "$name did not become ready; its log is above"
}

# Ends a process with each signal in turn, ten seconds apart, and then with KILL.
stop_one() { # NAME SIGNAL...
    local name=$1 pid signal i
    shift
    for signal in "$@" KILL; do
        is_up "$name" || break
        read -r pid _ <"$RUN/$name.pid"
        kill -s "$signal" "$pid" 2>/dev/null || true
        for ((i = 0; i < 200; i++)); do
            is_up "$name" || break
            sleep 0.05
        done
    done
    if is_up "$name"; then
        say "$name did not end"
        return 1
    fi
    rm -f "$RUN/$name.pid"
}

# Ends everything that was started in DIR, the database last.
stop_all() { # POSTGRES-SIGNAL: INT lets it write a checkpoint, QUIT is quick and loses nothing but that
    local file name rc=0
    for file in "$RUN"/*.pid; do
        name=${file##*/}
        name=${name%.pid}
        case $name in '*' | postgres) ;; *) stop_one "$name" TERM || rc=1 ;; esac
    done
    stop_one postgres "$1" QUIT || rc=1
    rm -f "$DIR/env"
    return "$rc"
}

# From here on, any way out but success ends what was started.
end_all_unless_done() {
    trap 'rc=$?; if [ -z "${DONE:-}" ]; then say "failed; ending what was started"; stop_all INT || true; fi; exit "$rc"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# A port of 127.0.0.1 that nobody listens on, below those that the kernel hands out by itself.
free_port() {
    local i port
    for ((i = 0; i < 100; i++)); do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || {
            printf '%s\n' "$port"
            return
        }
    done
    die "no free port found"
}

random_hex() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; } # BYTES
