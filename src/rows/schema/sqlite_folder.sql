-- device_test: one row a folder that holds pictures or a stats.json, written once all files that
-- it names are at the remote. Times are RFC 3339 in UTC, so that date() and strftime() take them.
CREATE TABLE IF NOT EXISTS "device_test" (
    mount_id            TEXT NOT NULL,     -- which backing directory, over all machines
    folder              TEXT NOT NULL,     -- path below the mount; '.' for the mount itself
    name                TEXT NOT NULL,     -- last component of folder
    host                TEXT NOT NULL,     -- name of the machine
    test_status         TEXT               -- NULL: no stats.json
                        CHECK (test_status IN ('pass', 'fail', 'unknown')),
    stats               TEXT,              -- stats.json as JSON; NULL: none, or not valid
    stats_error         TEXT,              -- what is wrong with stats.json, one sentence
    pictures            TEXT NOT NULL,     -- JSON array by name, of objects with name, url,
                                           -- thumbnail_url, thumbnail_error, bytes, width,
                                           -- height, hash, delivered_at, and, where the remote
                                           -- tells them, object_id, object_version, etag
    picture_count       INTEGER NOT NULL,
    files               INTEGER NOT NULL,  -- delivered files, those of folders below not counted
    bytes               INTEGER NOT NULL,  -- their size
    hash                TEXT NOT NULL,     -- BLAKE3 over the files' names and hashes
    version             INTEGER NOT NULL,  -- raised by each change in the folder
    first_delivered_at  TEXT NOT NULL,
    last_delivered_at   TEXT NOT NULL,
    outboxfs_version    TEXT NOT NULL,     -- which program wrote the row
    PRIMARY KEY (mount_id, folder)
);
