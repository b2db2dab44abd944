# What stands for a Supabase project: an auth server, PostgREST and a gateway before both. To be sourced.
# shellcheck shell=bash

export LITE_TELEMETRY=0 DO_NOT_TRACK=1

# A key as Supabase makes them: a token that names a role.
api_key() { # ROLE
    SECRET=$JWT_SECRET "$NODE" "$HERE/api-key.mjs" "$1"
}

answers() { # URL
    "$NODE" -e '
        const headers = { apikey: process.argv[2], authorization: "Bearer " + process.argv[2] };
        fetch(process.argv[1], { headers }).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1));' \
        "$1" "$SERVICE_KEY" 9>&-
}

# Prepares a new database: what Supabase brings, then the tables of the auth server, then the caller's SQL.
prepare_database() { # SQL...
    [ ! -f "$DIR/pg/complete" ] || return 0
    run_sql "$HERE/prelude.sql"
    (cd "$DIR/lite" && "$NODE" "$LITE" migration up) >"$LOG/auth-migration.log" 2>&1 || {
        tail -n 20 "$LOG/auth-migration.log" >&2
        die "the auth server could not prepare the database; its log is above"
    }
    # Again: the auth.uid() that it installs reads only a setting that PostgREST no longer makes.
    run_sql "$HERE/prelude.sql"
    run_sql "$@"
}

configure_auth() {
    AUTH_PORT=$(free_port)
    mkdir -p "$DIR/lite/supabase"
    cat >"$DIR/lite/supabase/config.toml" <<CONF
[api]
port = $AUTH_PORT
schemas = ["public"]
max_rows = 1000
[db]
driver = "postgres"
url = "$DATABASE_URL"
[db.migrations]
schema_paths = []
[db.seed]
enabled = false
[auth]
enabled = true
jwt_secret = "$JWT_SECRET"
jwt_expiry = 3600
enable_signup = true
publishable_key = "$ANON_KEY"
secret_key = "$SERVICE_KEY"
[auth.email]
enable_confirmations = false
CONF
}

launch_postgrest() { # MAX-ROWS
    local port
    port=$(free_port)
    cat >"$DIR/rest-$1.conf" <<CONF
db-uri = "postgresql://authenticator:$PG_PASSWORD@127.0.0.1:$PG_PORT/postgres"
db-schemas = "public"
db-anon-role = "anon"
db-extra-search-path = "public, extensions"
db-max-rows = $1
jwt-secret = "$JWT_SECRET"
server-host = "127.0.0.1"
server-port = $port
CONF
    printf '%s' "$port" >"$DIR/rest-$1.port"
    launch "rest-$1" "$POSTGREST" "rest-$1.conf"
}

# One gateway a PostgREST: each is the URL of a project.
launch_gateway() { # MAX-ROWS
    rm -f "$DIR/gateway-$1.port"
    API_KEYS="$ANON_KEY $SERVICE_KEY" launch "gateway-$1" \
        "$NODE" "$HERE/gateway.mjs" "$(cat "$DIR/rest-$1.port")" "$AUTH_PORT" "gateway-$1.port"
}

gateway_url() { # MAX-ROWS
    printf 'http://127.0.0.1:%s' "$(cat "$DIR/gateway-$1.port")"
}

start_supabase() { # SQL...; needs MAX_ROWS
    local rows
    lock_cache
    find_npm_packages
    unlock_cache
    LITE=$MODULES/@supabase/lite/dist/cli/index.js
    JWT_SECRET=$(random_hex 32)
    ANON_KEY=$(api_key anon)
    SERVICE_KEY=$(api_key service_role)
    configure_auth
    prepare_database "$@"
    launch auth env --chdir="$DIR/lite" "$NODE" "$LITE" start --host 127.0.0.1 --no-admin
    for rows in "${MAX_ROWS[@]}"; do
        launch_postgrest "$rows"
        launch_gateway "$rows"
    done
    wait_for auth answers "http://127.0.0.1:$AUTH_PORT/auth/v1/health"
    # On its start the auth server puts its auth.uid() back.
    run_sql "$HERE/prelude.sql"
    for rows in "${MAX_ROWS[@]}"; do
        wait_for "gateway-$rows" test -s "$DIR/gateway-$rows.port"
        wait_for "rest-$rows" answers "$(gateway_url "$rows")/rest/v1/"
    done
    wait_for auth answers "$(gateway_url "${MAX_ROWS[0]}")/auth/v1/health"
}
