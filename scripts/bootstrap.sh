#!/bin/sh
# Make or renew the virtual environment in .venv from the pinned requirement files: bootstrap.sh dev|server
# Nothing happens when the files are those of the last time. `PYTHON` chooses the interpreter (3.11 or newer).
set -eu
cd "$(dirname "$0")/.."
set_name=${1:-dev}
python=${PYTHON:-python3}
environment=.venv
# The system's own certificates, so that an inspecting proxy of a company works as it does for pip.
export UV_SYSTEM_CERTS=true UV_LINK_MODE=${UV_LINK_MODE:-copy}

say() { printf '%s\n' "$*" >&2; }

fingerprint() {
    cat pyproject.toml scripts/bootstrap.sh requirements/uv.txt requirements/build.txt "requirements/$1.txt" |
        sha256sum | cut -c1-16
}

is_current() { [ "$(cat "$environment/.installed-$1" 2>/dev/null)" = "$(fingerprint "$1")" ]; }

# What the tests need includes what the server needs.
if is_current "$set_name" || is_current dev; then
    exit 0
fi

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "Towline needs Python 3.11 or newer; '$python' is not. Name another one: make PYTHON=python3.12 …"
    exit 1
fi
if [ ! -x "$environment/bin/python" ] && ! "$python" -m venv "$environment"; then
    rm -rf "$environment"
    say "Python has no venv module that works; on Debian: apt-get install python3-venv"
    exit 1
fi
wanted_uv=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements/uv.txt)
if [ "$("$environment/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$wanted_uv" ]; then
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
fi
say "installing the pinned packages of requirements/$set_name.txt"
"$environment/bin/uv" pip install --quiet --compile-bytecode --python "$environment" --require-hashes \
    -r requirements/build.txt -r "requirements/$set_name.txt"
"$environment/bin/uv" pip install --quiet --python "$environment" --no-deps --no-build-isolation --editable .
fingerprint "$set_name" >"$environment/.installed-$set_name"
