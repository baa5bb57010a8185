# Processes, PostgreSQL and Redis for ./dev.  Read by ./dev.
# shellcheck shell=sh

# Field 22 of /proc/PID/stat.  With the number it names a process for good, so that a stale file cannot make us kill a
# stranger.  Empty for a dead process that nobody has waited for yet (state Z).
started_at() { sed -n 's/^.*) \([^Z] \)/\1/p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# alive NAME: sets pid.
alive() {
    pid='' since=''
    read -r pid since 2>/dev/null <"$RUN/$1.pid" || return 1
    [ -n "$since" ] && [ "$(started_at "$pid")" = "$since" ]
}

# spawn NAME COMMAND…: in a session of its own, so that Ctrl-C reaches only this script, which stops things in order.
spawn() {
    name=$1
    shift
    if [ -e "$LOGS/$name.log" ]; then mv "$LOGS/$name.log" "$LOGS/$name.log.1"; fi
    setsid "$@" >"$LOGS/$name.log" 2>&1 </dev/null 9>&- &
    echo "$! $(started_at $!)" >"$RUN/$name.pid"
}

# stop NAME…: asks all, waits up to ten seconds for each, then insists.
stop() {
    for name; do if alive "$name"; then kill -TERM "$pid" || :; fi; done
    for name; do
        tries=0
        while alive "$name" && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
        if alive "$name"; then kill -KILL "-$pid" || :; fi
        rm -f "$RUN/$name.pid"
    done
}

# PostgreSQL refuses root, so root runs it as the user that Debian's package made.
if [ "$ME" = 0 ]; then DB_USER=postgres AS_DB='setpriv --reuid=postgres --regid=postgres --init-groups'
else DB_USER=$(id -un) AS_DB=''; fi

# From /, because the user postgres may not enter the folder we stand in.
as_database() { (cd / && exec $AS_DB "$@"); }

give_to_database() { if [ "$ME" = 0 ]; then chown postgres: "$1"; fi; }

# find_bin DATA: sets bin, the programs for a data folder that may not exist yet.
find_bin() {
    major=$(cat "$1/PG_VERSION" 2>/dev/null || find_postgres)
    bin=/usr/lib/postgresql/$major/bin
    [ -x "$bin/pg_ctl" ] || die "the database in $1 is of PostgreSQL $major: install postgresql-$major-postgis-3 or run ./dev reset"
}

# postmaster DATA: sets pid.  Every process of a cluster stands in its data folder; a stranger with its number does not.
postmaster() {
    pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null) && [ "$(readlink "/proc/$pid/cwd")" = "$(readlink -f "$1")" ]
}

# start_postgres DATA SOCKETS LOG OPTIONS [INITDB-OPTION]
start_postgres() {
    find_bin "$1"
    if [ ! -e "$1/PG_VERSION" ]; then
        # Made beside its place, so that an interrupted initdb leaves nothing half done.
        rm -rf "$1.new"
        as_database "$bin/initdb" -D "$1.new" -U postgres -A trust -E UTF8 --locale=C.UTF-8 ${5+"$5"} >/dev/null
        mv "$1.new" "$1"
    fi
    # After a crash a stranger may have got the old number, and PostgreSQL would take it for itself and not start.
    if ! readlink /proc/[0-9]*/cwd 2>/dev/null | grep -qxF "$(readlink -f "$1")"; then rm -f "$1/postmaster.pid"; fi
    as_database setsid -w "$bin/pg_ctl" start -w -D "$1" -l "$3" -o "-k $2 -p 5432 -c listen_addresses= -c timezone=UTC \
        -c shared_buffers=256MB -c max_connections=300 -c max_wal_size=2GB $4" >/dev/null 2>&1 9>&- || {
        tail -n 20 "$3" >&2
        die "PostgreSQL did not start; its log is $3"
    }
}

stop_postgres() {
    if ! postmaster "$1"; then return; fi
    kill -INT "$pid" || :
    tries=0
    while postmaster "$1" && [ $tries -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
    if postmaster "$1"; then kill -QUIT "$pid" || :; fi
}

# start_redis SOCKETS: nothing in it is worth keeping (rate limits, short-lived tokens), so nothing is saved.
start_redis() {
    spawn redis $AS_DB redis-server --port 0 --unixsocket "$1/redis.sock" --unixsocketperm 700 --save '' --dir /
}

# ---- the development database

# Sets DATA.  Its place is chosen once: with the state, unless that is out of reach for the user postgres (below /root).
find_data() {
    if [ ! -e "$STATE/place" ]; then
        place=$STATE/db
        mkdir -p "$place"
        if ! as_database test -x "$place"; then
            rmdir "$place"
            mkdir -p /var/lib/bkapp-dev
            place=$(mktemp -d /var/lib/bkapp-dev/XXXXXX)
        fi
        chmod 700 "$place"
        give_to_database "$place"
        echo "$place" >"$STATE/place"
    fi
    DATA=$(cat "$STATE/place")/data
}

# Sets SOCKETS.  In /tmp, because a socket's path may have 107 bytes at most, and because of /root again.
find_sockets() {
    SOCKETS=$(cat "$STATE/sockets" 2>/dev/null) && [ -d "$SOCKETS" ] && return
    SOCKETS=$(mktemp -d /tmp/bkapp-XXXXXX)
    give_to_database "$SOCKETS"
    echo "$SOCKETS" >"$STATE/sockets"
}

# Sets DATABASE_URL unless it is given.
start_database() {
    if [ -n "${DATABASE_URL-}" ]; then return; fi
    forget_other_servers
    find_data
    find_sockets
    find_bin "$DATA"
    if ! [ -S "$SOCKETS/.s.PGSQL.5432" ] || ! postmaster "$DATA"; then
        stop_postgres "$DATA"
        start_postgres "$DATA" "$SOCKETS" "${DATA%/data}/postgres.log" ''
    fi
    # Only a superuser may create PostGIS, and the role of the app is none.
    "$bin/psql" -qX -v ON_ERROR_STOP=1 -h "$SOCKETS" -p 5432 -U postgres postgres >/dev/null <<'END'
set client_min_messages = warning;
select 'create role bkapp login' where not exists (select from pg_roles where rolname = 'bkapp') \gexec
select 'create role bkapp_app nologin' where not exists (select from pg_roles where rolname = 'bkapp_app') \gexec
grant bkapp_app to bkapp;
select 'create database bkapp owner bkapp' where not exists (select from pg_database where datname = 'bkapp') \gexec
\connect bkapp
set client_min_messages = warning;
create extension if not exists postgis;
create extension if not exists btree_gist;
create extension if not exists pg_trgm;
END
    export DATABASE_URL="postgresql://bkapp@/bkapp?host=$SOCKETS&port=5432" BKAPP_APP_ROLE="${BKAPP_APP_ROLE-bkapp_app}"
}

# What libpq takes from the environment is about some other server.
forget_other_servers() { unset PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGSERVICE PGOPTIONS; }

# with_database COMMAND…: stops the database afterwards unless an app is using it.
with_database() {
    open_state
    finally stop_all_unless_used
    start_database
    exec 9>&-
    "$@"
}

stop_all_unless_used() { alive api || stop_all; }

stop_all() {
    stop api worker practice redis
    if [ -e "$STATE/place" ]; then
        find_data
        stop_postgres "$DATA"
    fi
    case $(cat "$STATE/sockets" 2>/dev/null) in /tmp/bkapp-??????) rm -rf "$(cat "$STATE/sockets")" ;; esac
    rm -f "$STATE/sockets"
}

# ---- servers for one run of tests or benchmarks

# throwaway POSTGRES-OPTIONS: sets TEST_DATABASE_URL (a superuser's) and TEST_REDIS_URL unless they are given.
throwaway() {
    for old in /tmp/bkapp-test-*; do
        # What a killed run left; never a stranger's.
        RUN=$old
        if [ "$(stat -c %U "$old" 2>/dev/null)" = "$DB_USER" ] && ! alive owner; then remove_throwaway; fi
    done
    RUN=$(mktemp -d /tmp/bkapp-test-XXXXXX)
    LOGS=$RUN
    finally remove_throwaway
    echo "$$ $(started_at $$)" >"$RUN/owner.pid"
    give_to_database "$RUN"
    # Tests and benchmarks never touch the database that people work with.
    unset DATABASE_URL REDIS_URL BKAPP_PORT BKAPP_DEMO BKAPP_BASE_URL
    if [ -z "${TEST_DATABASE_URL-}" ]; then
        forget_other_servers
        start_postgres "$RUN/data" "$RUN" "$RUN/postgres.log" "$1" --no-sync
        export TEST_DATABASE_URL="postgresql://postgres@/postgres?host=$RUN&port=5432"
    fi
    if [ -z "${TEST_REDIS_URL+set}" ]; then
        start_redis "$RUN"
        export TEST_REDIS_URL="unix://$RUN/redis.sock"
    fi
}

remove_throwaway() {
    stop redis
    stop_postgres "$RUN/data"
    rm -rf "$RUN"
}
