#!/bin/sh
# Write the pinned requirement files: every version with its hashes, for every platform, without download addresses.
# `scripts/lock.sh --upgrade` moves to the newest versions; without it only what pyproject.toml asks for changes.
set -eu
cd "$(dirname "$0")/.."

compile() {
    .venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
        --no-header --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@"
}

compile "$@" pyproject.toml --extra server --extra agent --group dev --output-file requirements/dev.txt
# Constraints, so that what users install is what the tests ran with.
compile pyproject.toml --extra server --extra agent --constraint requirements/dev.txt --output-file requirements/server.txt
compile pyproject.toml --extra agent --constraint requirements/dev.txt --output-file requirements/agent.txt
for name in uv build go clients; do
    compile "$@" "requirements/$name.in" --constraint requirements/dev.txt --output-file "requirements/$name.txt"
done
