#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The first process of the image "postgres": behaves as the one of the image on Docker Hub does, where that is documented.
# POSTGRES_PASSWORD (or _FILE), POSTGRES_USER, POSTGRES_DB, PGDATA, /docker-entrypoint-initdb.d
set -euo pipefail

[ "${1:0:1}" != - ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"

run=/var/run/postgresql
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" "$run"
    chmod 0700 "$PGDATA"
    chmod 3775 "$run"
    find "$PGDATA" "$run" \! -user postgres -exec chown postgres {} +
    exec gosu postgres "$BASH_SOURCE" "$@"
fi

mkdir -p "$PGDATA"
chmod 0700 "$PGDATA" || true # of another user, when fsGroup gives the right to it
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
    password=${POSTGRES_PASSWORD:-}
    [ -z "${POSTGRES_PASSWORD_FILE:-}" ] || password=$(<"$POSTGRES_PASSWORD_FILE")
    if [ -z "$password" ]; then
        echo "Error: Database is uninitialized and superuser password is not specified." >&2
        exit 1
    fi
    initdb --username="$user" --pwfile=<(printf '%s\n' "$password") --no-instructions --no-sync
    printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
    export PGPASSWORD=$password
    pg_ctl --silent --wait -o "-c listen_addresses=''" start
    ask=(psql --quiet --no-psqlrc -v ON_ERROR_STOP=1 --username "$user")
    [ "$database" = postgres ] || "${ask[@]}" --dbname postgres -v name="$database" <<<'CREATE DATABASE :"name";'
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh) . "$file" ;;
            *.sql) "${ask[@]}" --dbname "$database" --file "$file" ;;
        esac
    done
    pg_ctl --silent --mode=fast --wait stop
    unset PGPASSWORD
    echo 'PostgreSQL init process complete; ready for start up.'
fi
exec "$@"
