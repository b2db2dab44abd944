# PostgreSQL on a directory and a free port. To be sourced.
# shellcheck shell=bash

# The server refuses to run as root, so root hands it to the user "postgres" (else "nobody").
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && exec runuser -u "$PG_USER" -- "$@")
    else
        "$@"
    fi
}

give_to_postgres() { # PATH
    [ "$(id -u)" != 0 ] || chown -R "$PG_USER:" "$1"
}

# Makes DIR/pg: a copy of a cluster in the cache, which is made first where it is missing.
make_cluster() {
    local pg=$DIR/pg made
    made=$CACHE/postgres-$("$PGBIN/postgres" --version | tr -c '0-9.\n' _)-$(id -u)
    rm -rf "$pg"
    if [ -d "$made" ]; then
        cp -R "$made" "$pg"
        give_to_postgres "$pg"
        return
    fi
    mkdir "$pg"
    random_hex 16 >"$pg/password"
    give_to_postgres "$pg"
    as_postgres "$PGBIN/initdb" -D "$pg/data" -U postgres -A scram-sha-256 --pwfile="$pg/password" \
        -E UTF8 --locale=C.UTF-8 --no-sync >"$LOG/initdb.log" 2>&1 || {
        cat "$LOG/initdb.log" >&2
        die "initdb failed"
    }
    # On loopback only, and quick rather than durable. The tests connect in parallel.
    as_postgres tee -a "$pg/data/postgresql.conf" >/dev/null <<'CONF'
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
timezone = 'UTC'
max_connections = 400
wal_level = logical
fsync = off
synchronous_commit = off
full_page_writes = off
CONF
    rm -rf "$made.new"
    cp -R "$pg" "$made.new"
    mv "$made.new" "$made"
}

# Starts PostgreSQL on DIR/pg, on the port that it had before or on a free one.
# DURABLE: options for the server, empty or as set by up. Sets DATABASE_URL, PG_PORT and PG_PASSWORD.
start_postgres() {
    local i pg=$DIR/pg
    PG_USER=postgres
    id "$PG_USER" >/dev/null 2>&1 || PG_USER=nobody
    if [ "$(id -u)" = 0 ]; then
        chmod 711 "$DIR"
        as_postgres test -x "$DIR" ||
            die "user $PG_USER cannot enter $DIR: choose a directory below one that all may search, such as /tmp"
    fi
    lock_cache
    find_postgres
    [ -f "$pg/complete" ] || make_cluster
    unlock_cache
    PG_PASSWORD=$(cat "$pg/password")
    for ((i = 0; i < 5; i++)); do
        PG_PORT=$(cat "$pg/port" 2>/dev/null || free_port)
        if as_postgres "$PGBIN/pg_ctl" -D "$pg/data" -l "$pg/log" -w -t 60 -o "-p $PG_PORT${DURABLE:-}" start >/dev/null; then
            record_pid postgres "$(head -n 1 "$pg/data/postmaster.pid")"
            printf '%s' "$PG_PORT" >"$pg/port"
            DATABASE_URL=postgresql://postgres:$PG_PASSWORD@127.0.0.1:$PG_PORT/postgres
            return
        fi
        rm -f "$pg/port"
    done
    tail -n 20 "$pg/log" >&2
    die "PostgreSQL did not start; its log is above"
}

# Runs SQL files as the superuser, in one transaction; of a directory every *.sql in the order of the names.
run_sql() { # FILE-OR-DIRECTORY...
    local path file files=()
    for path in "$@"; do
        if [ -d "$path" ]; then
            for file in "$path"/*.sql; do files+=(-f "$file"); done
        else
            files+=(-f "$path")
        fi
    done
    [ ${#files[@]} -gt 0 ] || return 0
    PGOPTIONS='-c client_min_messages=warning' "$PGBIN/psql" "$DATABASE_URL" -X -q -1 -v ON_ERROR_STOP=1 \
        -v authenticator_password="$PG_PASSWORD" "${files[@]}" >/dev/null || die "the SQL failed; the reason is above"
}
