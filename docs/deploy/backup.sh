#!/bin/sh
# backup.sh FOLDER: a consistent copy of LOOMLINE_HOME in FOLDER/<instant>.
# Waits for a run in progress; a run that begins meanwhile waits for the copy.
set -eu
umask 077
home=${LOOMLINE_HOME:?}
to=${1:?where to}/$(date -u +%Y%m%dT%H%M%SZ)
mkdir -p "$to/raw"

exec 9>>"$home/run.lock"
flock 9
echo "process $$ since $(date -u +%Y-%m-%dT%H:%M:%SZ) (backup)" >"$home/run.lock"

# Files that have not landed, before the manifest: landed twice counts once, never is lost.
cp -a "$home/inbox" "$to/"
# The manifest before the files it lists. No file is swept while run.lock is held.
cp -a "$home/raw/loads.ndjson" "$to/raw/"
for stream in "$home"/raw/*/; do
    # Hard links if source and target are on one file system: these files never change.
    cp -al "$stream" "$to/raw/" 2>/dev/null || cp -a "$stream" "$to/raw/"
done
cp -a "$home"/warehouse.duckdb* "$to/"
sqlite3 "$home/control.db" ".timeout 30000" ".backup '$to/control.db'"
flock -u 9

# Check every file against the manifest.
cd "$to/raw"
sed 's/.*"path":"\([^"]*\)".*"sha256":"\([0-9a-f]*\)".*/\2  \1/' loads.ndjson |
    sha256sum --check --quiet
sqlite3 "$to/control.db" "pragma integrity_check" | grep -qx ok
echo "$to"
