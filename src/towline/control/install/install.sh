#!/bin/sh
# Installs the Towline agent on this host and joins it to its server. Needs sh and curl.
# The join token comes on standard input, so that it is in no process list. On a host that has joined, nothing on
# standard input means: install this release and keep the identity.
# As root the agent becomes a service of the host; as another user, one of that user.
set -eu

server=@SERVER@
pins=@PINS@
fingerprint=@FINGERPRINT@
version=@VERSION@

say() { printf 'towline: %s\n' "$*"; }
fail() { printf 'towline: %s\n' "$*" >&2; exit 1; }

fetch() { # URL-PATH FILE
    if [ -n "$pins" ]; then
        curl -fsS -k --pinnedpubkey "$pins" --retry 3 --max-time 600 -o "$2" "$server$1"
    else
        curl -fsS --retry 3 --max-time 600 -o "$2" "$server$1"
    fi
}

ask() { # URL-PATH FILE: prints the status, keeps the body of any answer
    if [ -n "$pins" ]; then
        curl -sS -k --pinnedpubkey "$pins" --max-time 60 -o "$2" -w '%{http_code}' "$server$1"
    else
        curl -sS --max-time 60 -o "$2" -w '%{http_code}' "$server$1"
    fi
}

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum "$1" | cut -d ' ' -f 1
    elif command -v shasum >/dev/null 2>&1; then shasum -a 256 "$1" | cut -d ' ' -f 1
    elif command -v openssl >/dev/null 2>&1; then openssl dgst -sha256 -r "$1" | cut -d ' ' -f 1
    else fail "one of sha256sum, shasum and openssl is needed to check what is downloaded"
    fi
}

read_token() {
    if [ -t 0 ]; then
        printf 'Join token: ' >&2
        stty -echo 2>/dev/null || true
        read -r token || token=
        stty echo 2>/dev/null || true
        printf '\n' >&2
    else
        token=$(cat)
    fi
    update=
    case $token in
        twj_*) ;;
        "") [ -f "$state/identity.json" ] || fail "a join token on standard input is needed; copy the whole line from the server's join dialog"
            update=yes ;;
        *) fail "a join token on standard input is needed; copy the whole line from the server's join dialog" ;;
    esac
}

find_python() { # sets python and python_version; newest first
    python=
    for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
        found=$(command -v "$name" 2>/dev/null) || continue
        python_version=$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        case $python_version in
            3.11|3.12|3.13|3.14)
                if "$found" -c 'import venv, ssl, sqlite3' 2>/dev/null; then python=$found; return 0; fi ;;
        esac
        seen="${seen:-}${seen:+, }$name is $python_version"
    done
    return 1
}

find_libc() {
    if ls /lib/ld-musl-* >/dev/null 2>&1; then libc=musl; else libc=glibc; fi
}

places() {
    if [ "$(id -u)" = 0 ]; then
        root=${TOWLINE_INSTALL_ROOT:-/opt/towline-agent}
        state=${TOWLINE_AGENT_STATE_FOLDER:-/var/lib/towline-agent}
        bin=${TOWLINE_INSTALL_BIN:-/usr/local/bin}
    else
        root=${TOWLINE_INSTALL_ROOT:-${XDG_DATA_HOME:-$HOME/.local/share}/towline-agent-program}
        state=${TOWLINE_AGENT_STATE_FOLDER:-${XDG_DATA_HOME:-$HOME/.local/share}/towline-agent}
        bin=${TOWLINE_INSTALL_BIN:-$HOME/.local/bin}
    fi
}

list_files() { # waits while the server packs; fills $work/files
    query="python=$python_version&machine=$(uname -m)&libc=$libc"
    tries=0
    while :; do
        status=$(ask "/install/files?$query" "$work/files") || fail "the server $server does not answer"
        case $status in
            200) return 0 ;;
            202) [ "$tries" -gt 0 ] || say "$(cat "$work/files")" ;;
            *) fail "$(cat "$work/files")" ;;
        esac
        tries=$((tries + 1))
        [ "$tries" -lt 180 ] || fail "the server is still packing; run the line again later"
        sleep 2
    done
}

install_wheels() {
    list_files
    mkdir -p "$work/wheels"
    while read -r sum path name; do
        fetch "$path" "$work/wheels/$name" || fail "$name cannot be downloaded"
        [ "$(sha256 "$work/wheels/$name")" = "$sum" ] || fail "$name is not what the server promised; nothing was installed"
    done < "$work/files"
    home=$root/$version-$(sha256 "$work/wheels/requirements.txt" | cut -c 1-12)
    if [ ! -x "$home/bin/towline" ]; then
        rm -rf "$home"
        mkdir -p "$root"
        "$python" -m venv --without-pip "$home" || fail "$python cannot make a virtual environment"
        pip=$(ls "$work"/wheels/pip-*.whl)
        "$home/bin/python" "$pip/pip" install --quiet --disable-pip-version-check --no-input --no-index \
            --find-links "$work/wheels" --require-hashes -r "$work/wheels/requirements.txt" \
            || { rm -rf "$home"; fail "the agent cannot be installed into $home"; }
    fi
    ln -sfn "$home" "$root/current"
    mkdir -p "$bin"
    ln -sfn "$root/current/bin/towline" "$bin/towline"
    program=$root/current/bin/towline
    say "installed $version with Python $python_version in $home"
}

join_host() {
    [ -z "$update" ] || return 0
    if [ -f "$state/identity.json" ]; then set -- --again; else set --; fi
    [ -z "$fingerprint" ] || set -- "$@" --fingerprint "$fingerprint"
    printf '%s' "$token" | "$program" agent join --server "$server" --state-folder "$state" --token-file - "$@" \
        || fail "this host did not join; the reason is above, and $program agent doctor tells more"
    token=
}

unit() { # writes a systemd unit; $1 is the wanted-by target
    cat <<EOF
[Unit]
Description=Towline agent
Documentation=$server
After=network-online.target docker.service
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=$program agent run --state-folder $state
Restart=always
RestartPreventExitStatus=78
RestartSec=2
WatchdogSec=90
KillMode=process
TimeoutStopSec=30
UMask=0077

[Install]
WantedBy=$1
EOF
}

start_service() {
    if [ "$(id -u)" = 0 ] && [ -d /run/systemd/system ]; then
        unit multi-user.target > /etc/systemd/system/towline-agent.service
        systemctl daemon-reload
        systemctl enable --quiet towline-agent.service
        systemctl restart towline-agent.service
        say "runs as the service towline-agent; its log: journalctl -u towline-agent"
    elif [ "$(id -u)" != 0 ] && [ -d /run/systemd/system ] && systemctl --user show-environment >/dev/null 2>&1; then
        units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
        mkdir -p "$units"
        unit default.target > "$units/towline-agent.service"
        systemctl --user daemon-reload
        systemctl --user enable --quiet towline-agent.service
        systemctl --user restart towline-agent.service
        say "runs as your service towline-agent; its log: journalctl --user -u towline-agent"
        say "so that it runs without you being signed in: loginctl enable-linger $(id -un)"
    else
        start_by_hand
    fi
}

start_by_hand() {
    mkdir -p "$state"
    if [ -s "$state/agent.pid" ] && kill -0 "$(cat "$state/agent.pid")" 2>/dev/null; then
        kill "$(cat "$state/agent.pid")"
        sleep 1
    fi
    nohup "$program" agent run --state-folder "$state" >> "$state/agent.log" 2>&1 < /dev/null &
    echo $! > "$state/agent.pid"
    say "there is no systemd here: the agent runs in the background as process $!, its log is $state/agent.log"
    say "start it at boot with your init system: $program agent run --state-folder $state"
}

confirm() {
    tries=0
    while ! "$program" agent status --state-folder "$state" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -ge 20 ]; then
            say "not connected yet; find out why: $program agent doctor --state-folder $state"
            return 0
        fi
        sleep 1
    done
    say "connected to $server"
}

install_image() {
    [ -z "$update" ] || fail "pull the new image and start the container towline-agent with it again"
    status=$(ask "/install/image?machine=$(uname -m)" "$work/image-name") || fail "the server $server does not answer"
    [ "$status" = 200 ] || return 1
    read -r sum path image < "$work/image-name"
    fetch "$path" "$work/image.tar" || fail "the image cannot be downloaded"
    [ "$(sha256 "$work/image.tar")" = "$sum" ] || fail "the image is not what the server promised"
    docker load --quiet --input "$work/image.tar" >/dev/null || fail "docker cannot load the image"
    mkdir -p "$state"
    again=
    [ ! -f "$state/identity.json" ] || again=--again
    pin=
    [ -z "$fingerprint" ] || pin="--fingerprint=$fingerprint"
    # shellcheck disable=SC2086 - empty words must vanish
    printf '%s' "$token" | docker run --rm -i --network host -v "$state:$state" "$image" \
        join --server "$server" --state-folder "$state" --token-file - $pin $again || fail "this host did not join"
    docker rm --force towline-agent >/dev/null 2>&1 || true
    docker run --detach --name towline-agent --restart always --network host \
        -v /var/run/docker.sock:/var/run/docker.sock -v "$state:$state" "$image" run --state-folder "$state" >/dev/null
    say "runs as the container towline-agent; its log: docker logs towline-agent"
}

main() {
    command -v curl >/dev/null 2>&1 || fail "curl is needed"
    places
    read_token
    find_libc
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    if find_python; then
        install_wheels
        join_host
        start_service
        confirm
    elif command -v docker >/dev/null 2>&1 && docker info >/dev/null 2>&1 && install_image; then
        :
    else
        say "Python 3.11 or newer (with its ssl, sqlite3 and venv modules) was not found${seen:+: $seen}" >&2
        say "and there is no Docker with an agent image from this server. One of them is needed:" >&2
        fail "Debian 12: apt-get install python3. Others: Python 3.11 from your distribution, then run the line again"
    fi
}

main
